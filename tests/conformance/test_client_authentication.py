"""Modules 44 and 45 of the table in docs/conformance.md: the first one again, with other clients."""

from typing import Any

import pytest

from tests.conformance.conftest import KEYS, TOKEN, USERINFO, Suite

CODE = {"grant_type", "code", "redirect_uri", "code_verifier"}


@pytest.mark.parametrize("kind", ["plain", "awkward"])
def test_oidcc_client_test_client_secret_post(suite: Suite, settings: Any, kind: str) -> None:
    """The secret is in the body, and in no header beside it."""
    settings.SPATIO_CLIENT_AUTH_METHOD = "client_secret_post"
    if kind == "awkward":
        suite.name_clients(client_id="a site: 1+1 = 100%", client_secret="p:w+d &%/ ~")
    suite.register_again()

    suite.accepts(TOKEN, KEYS, USERINFO)

    (sent,) = suite.observer.requests(TOKEN)
    assert sent.authorization == ""
    assert set(sent.form) == CODE | {"client_id", "client_secret"}


def test_oidcc_client_test_none(suite: Suite) -> None:
    """A public client says who it is, proves with PKCE that it began the sign-in, and sends no secret."""
    suite.register_again("--public")

    suite.accepts(TOKEN, KEYS, USERINFO)

    (sent,) = suite.observer.requests(TOKEN)
    assert sent.authorization == ""
    assert set(sent.form) == CODE | {"client_id"}
