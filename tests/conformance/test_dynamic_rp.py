"""Of the plan "Dynamic RP" what isn't in the plans before: module 20 of the table in docs/conformance.md."""

import json

import pytest

from tests.conformance.conftest import KEYS, METADATA, REGISTER, TOKEN, USERINFO, Suite


@pytest.mark.parametrize("kind", ["as-asked", "otherwise"])
def test_oidcc_client_test_dynamic_registration(suite: Suite, kind: str) -> None:
    """
    The site registers at the endpoint of the metadata, and is what the answer says.

    Which may be otherwise than it asked: here it is given another way to authenticate than HTTP Basic.
    """
    suite.observer.calls()
    suite.new_process()
    if kind == "otherwise":
        suite.rewrite_registrations(token_endpoint_auth_method="client_secret_post")
    suite.register_again("--client-name", "A site")

    assert suite.observer.calls() == [METADATA, REGISTER]
    asked = json.loads(suite.observer.requests(REGISTER)[-1].body)
    assert asked == {
        "client_name": "A site",
        "redirect_uris": ["http://testserver/spatio/callback/"],
        "grant_types": ["authorization_code", "refresh_token"],
        "response_types": ["code"],
        "scope": "openid profile email",
        "token_endpoint_auth_method": "client_secret_basic",
    }
    suite.accepts(TOKEN, KEYS, USERINFO)
    (sent,) = suite.observer.requests(TOKEN)
    assert bool(sent.authorization) == (kind == "as-asked")
    assert ("client_secret" in sent.form) == (kind == "otherwise")
