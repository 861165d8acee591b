"""Refresh tokens: modules 25 to 27, 41, 47 and 48 of the table in docs/conformance.md."""

from typing import Any

import pytest

from spatio_django.models import SpatioToken
from tests.conformance import op as at
from tests.conformance.conftest import KEYS, TOKEN, USERINFO, Suite


@pytest.mark.parametrize("method", ["client_secret_basic", "client_secret_post", "none"])
def test_oidcc_client_test_refresh_token(suite: Suite, settings: Any, method: str) -> None:
    """
    A refresh brings a new access token, refresh token and ID token: the new access token goes to userinfo.

    The request asks for no scope, so for none that was not granted; who asks is proved as at the sign-in.
    """
    if method == "client_secret_post":
        settings.SPATIO_CLIENT_AUTH_METHOD = method
    suite.register_again(*(["--public"] if method == "none" else []))
    suite.observer.calls()
    grant = suite.accepts(TOKEN, KEYS, USERINFO)
    assert suite.ask_userinfo(grant) == 200
    assert suite.observer.calls() == [USERINFO]
    suite.expire(grant)

    assert suite.ask_userinfo(grant) == 200

    assert suite.observer.calls() == [TOKEN, USERINFO]
    first, second = suite.observer.requests(TOKEN)
    assert second.form["grant_type"] == "refresh_token"
    assert second.form["refresh_token"] == first.document["refresh_token"]
    assert "scope" not in second.form
    assert "id_token" in second.document
    asked = [call.authorization for call in suite.observer.requests(USERINFO)]
    tokens = [f"Bearer {call.document['access_token']}" for call in (first, second)]
    assert asked == [tokens[0], tokens[0], tokens[1]]
    refreshed = SpatioToken.objects.get(pk=grant.pk)
    assert refreshed.refresh_token is not None
    assert refreshed.refresh_token.reveal() == second.document["refresh_token"]
    assert refreshed.id_token_claims == grant.id_token_claims


def test_oidcc_client_test_refresh_token_invalid_issuer(
    suite: Suite, caplog: pytest.LogCaptureFixture
) -> None:
    """The ID token of a refresh has another ``iss``: the session ends, and userinfo is not called."""
    suite.lie_about_claims(iss=lambda iss: iss + "1")

    suite.refuses_to_go_on("other_identity", "iss", caplog)


def test_oidcc_client_test_refresh_token_invalid_sub(suite: Suite, caplog: pytest.LogCaptureFixture) -> None:
    """The ID token of a refresh has another ``sub``: the session ends, and userinfo is not called."""
    suite.lie_about_claims(sub=lambda sub: sub + "1")

    suite.refuses_to_go_on("other_identity", "sub", caplog)


@pytest.mark.parametrize("beside", [False, True])
def test_oidcc_client_test_refresh_token_invalid_aud(
    suite: Suite, caplog: pytest.LogCaptureFixture, beside: bool
) -> None:
    """The ID token of a refresh has another ``aud``, instead of us or beside us: the session ends."""
    suite.lie_about_claims(aud=lambda aud: [aud, "a-stranger"] if beside else aud + "1")

    suite.refuses_to_go_on("other_identity", "aud", caplog)


def test_oidcc_client_test_refresh_token_invalid_azp(suite: Suite, caplog: pytest.LogCaptureFixture) -> None:
    """The ID token of a refresh has an ``azp`` that the first had not, and that is not us: it ends."""
    suite.lie_about_claims(azp="a-stranger")

    suite.refuses_to_go_on("other_identity", "azp", caplog)


def test_fapi2_security_profile_final_client_refresh_token_test(suite: Suite) -> None:
    """
    The resource answers 401, twice: each time there is one refresh, with the newest refresh token.

    The request is sent once more, with the new access token; a 401 again is the caller's.
    """
    grant = suite.accepts(TOKEN, KEYS, USERINFO)
    suite.op.before[at.TOKEN] = suite.op.lies.clear
    for _ in range(2):
        suite.op.answer(at.USERINFO, "401 Unauthorized", b"")

        assert suite.ask_userinfo(grant) == 200

        assert suite.observer.calls() == [USERINFO, TOKEN, USERINFO]
    given = [call.document for call in suite.observer.requests(TOKEN)]
    sent = [call.form.get("refresh_token") for call in suite.observer.requests(TOKEN)]
    assert sent == [None, given[0]["refresh_token"], given[1]["refresh_token"]]
    asked = [call.authorization.split()[1] for call in suite.observer.requests(USERINFO)[1:]]
    assert asked == [given[number]["access_token"] for number in (0, 1, 1, 2)]

    suite.op.before.clear()
    suite.op.answer(at.USERINFO, "401 Unauthorized", b"")
    assert suite.ask_userinfo(grant) == 401
    assert suite.observer.calls() == [USERINFO, TOKEN, USERINFO]
