"""spatio_django.oidc.responses: what the token and userinfo endpoints answer."""

from typing import Any

import pytest

from spatio_django.exceptions import ProtocolViolation, ProviderRefused, ProviderUnavailable, SpatioError
from spatio_django.oidc.answer import Answer
from spatio_django.oidc.responses import TokenResponse, userinfo_claims
from tests.oidc.support import json_answer

TOKENS = {
    "access_token": "tok_abc",
    "token_type": "Bearer",
    "expires_in": 3600,
    "refresh_token": "ref",
    "id_token": "a.b.c",
    "scope": "openid email",
}


def read(status: int = 200, **changes: Any) -> TokenResponse:
    """Read the usual answer, with some members changed."""
    return TokenResponse.from_answer(json_answer(TOKENS | changes, status=status))


def test_granted_tokens_become_secrets() -> None:
    """From the moment they are read."""
    tokens = read()

    assert tokens.access_token.reveal() == "tok_abc"
    assert tokens.refresh_token is not None
    assert tokens.refresh_token.reveal() == "ref"
    assert tokens.id_token is not None
    assert tokens.id_token.reveal() == "a.b.c"
    assert (tokens.expires_in, tokens.scope) == (3600, ("openid", "email"))
    assert "tok_abc" not in repr(tokens)


@pytest.mark.parametrize(
    ("changes", "name", "value"),
    [
        pytest.param({"token_type": "bEARER"}, "expires_in", 3600, id="token-type-case-insensitivity"),
        pytest.param({"expires_in": None}, "expires_in", None, id="without-expires_in"),
        pytest.param({"expires_in": "3600"}, "expires_in", 3600, id="expires-in-as-digits"),
        pytest.param({"expires_in": 3600.0}, "expires_in", 3600, id="expires-in-as-float"),
        pytest.param({"expires_in": 0}, "expires_in", 0, id="expired-at-once"),
        pytest.param({"expires_in": 2**31 - 1}, "expires_in", 2**31 - 1, id="expires-never"),
        pytest.param({"refresh_token": None}, "refresh_token", None, id="no-refresh-token"),
        pytest.param({"id_token": None}, "id_token", None, id="no-id-token"),
        pytest.param({"scope": None}, "scope", None, id="no-scope-in-token-endpoint-response"),
        pytest.param({"scope": ""}, "scope", (), id="empty-scope"),
        pytest.param({"custom": {"a": []}, "error": ""}, "expires_in", 3600, id="unknown-members"),
    ],
)
def test_honest_variants_are_accepted(changes: dict[str, Any], name: str, value: object) -> None:
    """What providers in the field do, and RFC 6749 §5.1 allows or at least survives."""
    assert getattr(read(**changes), name) == value


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        pytest.param({"access_token": None}, "access_token", id="no-access-token"),
        pytest.param({"access_token": ""}, "access_token", id="empty-access-token"),
        pytest.param({"access_token": 7}, "access_token", id="access-token-number"),
        pytest.param({"access_token": "a b"}, "access_token", id="access-token-with-space"),
        pytest.param({"access_token": "a\r\nX: y"}, "access_token", id="access-token-with-line-break"),
        pytest.param({"access_token": "é"}, "access_token", id="access-token-not-ascii"),
        pytest.param({"access_token": "x" * 8193}, "access_token", id="access-token-too-long"),
        pytest.param({"token_type": None}, "token_type", id="no-token-type"),
        pytest.param({"token_type": "DPoP"}, "token_type", id="another-token-type"),
        pytest.param({"token_type": ["Bearer"]}, "token_type", id="token-type-array"),
        pytest.param({"expires_in": "soon"}, "expires_in", id="expires-in-word"),
        pytest.param({"expires_in": "-1"}, "expires_in", id="expires-in-negative-text"),
        pytest.param({"expires_in": -1}, "expires_in", id="expires-in-negative"),
        pytest.param({"expires_in": True}, "expires_in", id="expires-in-true"),
        pytest.param({"expires_in": 1.5}, "expires_in", id="expires-in-fraction"),
        pytest.param({"expires_in": 10**12}, "expires_in", id="expires-in-huge"),
        pytest.param({"expires_in": 1e300}, "expires_in", id="expires-in-huge-float"),
        pytest.param({"expires_in": [3600]}, "expires_in", id="expires-in-array"),
        pytest.param({"refresh_token": ""}, "refresh_token", id="empty-refresh-token"),
        pytest.param({"refresh_token": 7}, "refresh_token", id="refresh-token-number"),
        pytest.param({"refresh_token": "a\nb"}, "refresh_token", id="refresh-token-with-line-break"),
        pytest.param({"id_token": {}}, "id_token", id="id-token-object"),
        pytest.param({"scope": ["openid"]}, "scope", id="scope-array"),
    ],
)
def test_a_grant_is_rejected(changes: dict[str, Any], code: str) -> None:
    """The error names the member and never tells its value."""
    read()

    with pytest.raises(ProtocolViolation) as caught:
        read(**changes)

    assert caught.value.code == code
    assert caught.value.context == {}


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        pytest.param(
            json_answer({"error": "invalid_grant"}, status=400),
            (ProviderRefused, "invalid_grant"),
            id="invalid-grant",
        ),
        pytest.param(
            json_answer({"error": "invalid_client"}, status=401),
            (ProviderRefused, "invalid_client"),
            id="client",
        ),
        pytest.param(
            json_answer({"error": "x\ny"}, status=403), (ProviderRefused, "unknown_error"), id="unknown-error"
        ),
        pytest.param(
            json_answer({"error": "invalid_grant"}),
            (ProviderRefused, "invalid_grant"),
            id="invalid-grant-under-200",
        ),
        pytest.param(
            json_answer(TOKENS | {"error": {}}), (ProviderRefused, "unknown_error"), id="error-beside-tokens"
        ),
        pytest.param(
            json_answer({"error": 7}, status=400), (ProtocolViolation, "bad_status"), id="error-number"
        ),
        pytest.param(json_answer([], status=400), (ProtocolViolation, "bad_status"), id="400-array"),
        pytest.param(Answer(status=404, body=b"<html>"), (ProtocolViolation, "bad_status"), id="404-html"),
        pytest.param(Answer(status=204), (ProtocolViolation, "bad_status"), id="204"),
        pytest.param(json_answer(TOKENS, status=201), (ProtocolViolation, "bad_status"), id="201"),
        pytest.param(Answer(status=200, body=b""), (ProtocolViolation, "not_json"), id="empty"),
        pytest.param(Answer(status=200, body=b"access_token=x"), (ProtocolViolation, "not_json"), id="form"),
        pytest.param(Answer(status=429), (ProviderUnavailable, "rate_limited"), id="429"),
        pytest.param(
            json_answer({"error": "invalid_grant"}, status=500), (ProviderUnavailable, "bad_status"), id="500"
        ),
    ],
)
def test_every_other_answer_has_its_error(answer: Answer, expected: tuple[type[SpatioError], str]) -> None:
    """An ``invalid_grant`` counts only in a 4xx: a broken gateway must not sign anybody out."""
    with pytest.raises(expected[0]) as caught:
        TokenResponse.from_answer(answer)

    assert caught.value.code == expected[1]


@pytest.mark.parametrize(
    ("told", "kept"),
    [
        ("The code was used before.", "The code was used before."),
        ("invalid_redirect_uri: not registered", "invalid_redirect_uri: not registered"),
        (
            "redirect_uri is not https://www.example.com/spatio/callback/ here",
            "redirect_uri is not https://www.example.com/spatio/callback/ here",
        ),
        ("no client Zk3v9QpX7mB2nT5w", "no client …"),
        ("code=Zk3v9QpX7mB2nT5w", "…"),
        ("verifier 'Zk3v9QpX7mB2nT5wZk3v9QpX7mB2nT5wZk3v9QpX7mB' is wrong", "verifier '…' is wrong"),
        ("https://example.com/cb?code=Zk3v9QpX7mB2nT5w", "https://example.com/cb…"),
        ("https://example.com/Zk3v9QpX7mB2nT5wZk3v9QpX7mB", "https://example.com…"),
        ("https://ada:secret@example.com/", "…"),
        ("eyJhbGciOiJSUzI1NiJ9.e30.c2ln", "…"),
    ],
)
def test_a_description_keeps_no_word_that_may_be_a_secret(told: str, kept: str) -> None:
    """Providers quote what they were sent; terms and addresses are what an operator needs."""
    answer = json_answer({"error": "invalid_grant", "error_description": told}, status=400)

    with pytest.raises(ProviderRefused) as caught:
        TokenResponse.from_answer(answer)

    assert caught.value.context["description"] == kept


def test_a_refusal_keeps_a_clean_description() -> None:
    """For the log; the provider's own text is not in the message."""
    answer = json_answer({"error": "invalid_grant", "error_description": "used\x00\ntwice"}, status=400)

    with pytest.raises(ProviderRefused) as caught:
        TokenResponse.from_answer(Answer(status=400, body=answer.body.replace(b"\\u0000", b"")))

    assert caught.value.context == {"description": "usedtwice", "status": 400}


def test_userinfo_about_the_same_person_is_returned() -> None:
    """Claims are the caller's to interpret."""
    claims = {"sub": "person", "email": "a@b.example", "email_verified": True}

    assert userinfo_claims(json_answer(claims), subject="person") == claims
    answer = json_answer(claims, content_type="Application/JSON; charset=utf-8")
    assert userinfo_claims(answer, subject="person") == claims


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        pytest.param(
            json_answer({"sub": "other"}), (ProtocolViolation, "userinfo_sub"), id="userinfo-invalid-sub"
        ),
        pytest.param(
            json_answer({"sub": "Person"}), (ProtocolViolation, "userinfo_sub"), id="sub-other-case"
        ),
        pytest.param(json_answer({"sub": ["person"]}), (ProtocolViolation, "userinfo_sub"), id="sub-array"),
        pytest.param(json_answer({}), (ProtocolViolation, "userinfo_sub"), id="no-sub"),
        pytest.param(
            json_answer({"sub": "person"}, content_type="application/jwt"),
            (ProtocolViolation, "userinfo_type"),
            id="jwt",
        ),
        pytest.param(
            Answer(status=200, body=b'{"sub": "person"}'), (ProtocolViolation, "userinfo_type"), id="no-type"
        ),
        pytest.param(json_answer([]), (ProtocolViolation, "not_json"), id="array"),
        pytest.param(Answer(status=401), (ProviderRefused, "invalid_token"), id="401"),
        pytest.param(Answer(status=403), (ProviderRefused, "invalid_token"), id="403"),
        pytest.param(Answer(status=404), (ProtocolViolation, "bad_status"), id="404"),
        pytest.param(Answer(status=503), (ProviderUnavailable, "bad_status"), id="503"),
    ],
)
def test_userinfo_is_rejected(answer: Answer, expected: tuple[type[SpatioError], str]) -> None:
    """Claims about somebody else, or of unknown form, are not used (Core §5.3.2)."""
    with pytest.raises(expected[0]) as caught:
        userinfo_claims(answer, subject="person")

    assert caught.value.code == expected[1]
