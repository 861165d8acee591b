"""spatio_django.oidc.responses: what the token and userinfo endpoints answer."""

import json
from typing import Any

import pytest

from spatio_django.exceptions import ProtocolViolation, ProviderRefused, ProviderUnavailable, SpatioError
from spatio_django.oidc.answer import Answer
from spatio_django.oidc.responses import (
    MAX_EXPIRES_IN,
    RefreshResponse,
    TokenResponse,
    judge_revocation,
    userinfo_claims,
)
from tests.oidc.support import json_answer, outcome

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


# --- refreshes --------------------------------------------------------------------------------------------


def renew(status: int = 200, **changes: Any) -> RefreshResponse:
    """Read the usual answer to a refresh, with some members changed."""
    return RefreshResponse.from_answer(json_answer(TOKENS | changes, status=status))


def written(text: str, *, status: int = 200) -> Answer:
    """An answer with this very body."""
    return Answer(status=status, headers={"content-type": "application/json"}, body=text.encode())


def test_a_refresh_gives_secrets() -> None:
    """From the moment they are read."""
    tokens = renew()

    assert tokens.access_token.reveal() == "tok_abc"
    assert tokens.refresh_token is not None
    assert tokens.refresh_token.reveal() == "ref"
    assert tokens.id_token is not None
    assert tokens.id_token.reveal() == "a.b.c"
    assert (tokens.expires_in, tokens.scope) == (3600, ("openid", "email"))
    assert not any(secret in repr(tokens) for secret in ("tok_abc", "'ref'", "a.b.c"))


@pytest.mark.parametrize(
    ("told", "kept"),
    [
        ("3600", 3600),
        (3600.0, 3600),
        (1, 1),
        (MAX_EXPIRES_IN, MAX_EXPIRES_IN),
        *(
            (value, None)
            for value in (0, "0", 0.0, -0.0, -1, "-1", 1.5, "soon", "", "1e3", " 3600", "\u0663")
        ),
        *((value, None) for value in (MAX_EXPIRES_IN + 1, 10**30, 1e300, "9" * 11, "9" * 10)),
        *((value, None) for value in (float("nan"), float("inf"), float("-inf"))),
        *((value, None) for value in ([3600], {"seconds": 3600}, True, False, None)),
    ],
    ids=repr,
)
def test_a_life_that_makes_no_sense_is_none(told: object, kept: int | None) -> None:
    """The successor is worth more than the knowledge when it ends; at once would be a refresh per request."""
    assert renew(expires_in=told).expires_in == kept


@pytest.mark.parametrize(
    ("told", "kept"),
    [
        ("é\u3000雪\n\0", "é\u3000雪\n\0"),
        (" ", " "),
        pytest.param("x" * 16_385, "x" * 16_385, id="long"),
        pytest.param("x" * 900_000, "x" * 900_000, id="as-long-as-the-answer"),
        *((value, None) for value in ("", "\ud800", 7, 7.5, True, ["ref"], {"a": "ref"}, None)),
    ],
    ids=lambda value: ascii(value)[:20],
)
def test_a_refresh_token_is_any_text_that_can_be_sent(told: object, kept: str | None) -> None:
    """Of whatever alphabet: what the provider gave, it takes. Without one, the old one goes on."""
    found = renew(refresh_token=told).refresh_token

    assert (found and found.reveal()) == kept


@pytest.mark.parametrize(
    ("told", "kept"),
    [
        ("openid", ("openid",)),
        (" email  openid ", ("email", "openid")),
        ("!#[]~ read:*", ("!#[]~", "read:*")),
        *((value, None) for value in ("", " ", ["openid"], {"openid": True}, 7, True, None)),
        # Not every database takes those, and a scope must not cost the tokens beside it.
        *((value, None) for value in ("openid \0", "openid \ud800", "openid \U0001f511", "openid 雪")),
        # RFC 6749 §3.3 has none of those.
        *((value, None) for value in ("openid é", "openid\temail", "openid\n", 'a"b', "a\\b", "openid \x7f")),
    ],
    ids=ascii,
)
def test_a_scope_that_makes_no_sense_is_as_before(told: object, kept: tuple[str, ...] | None) -> None:
    """Nothing that is no text of names, and nothing that could not be stored."""
    assert renew(scope=told).scope == kept


@pytest.mark.parametrize("told", ["", "é", "x" * 16_385, 7, {}, ["a.b.c"], None], ids=lambda v: repr(v)[:9])
def test_an_id_token_of_a_refresh_that_is_none_counts_as_absent(told: object) -> None:
    """It may be absent (Core §12.2)."""
    assert renew(id_token=told).id_token is None


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"token_type": None}, id="no-token-type"),
        pytest.param({"token_type": "DPoP"}, id="another-token-type"),
        pytest.param({"token_type": 5}, id="token-type-number"),
        pytest.param({"error": "invalid_grant", "error_description": "\ud800"}, id="error-beside-tokens"),
        pytest.param({"error": {}}, id="error-object"),
        pytest.param({"error": ""}, id="error-empty"),
        pytest.param({"custom": float("nan")}, id="nan-elsewhere"),
        pytest.param({"custom": "\0\ud800"}, id="unstorable-elsewhere"),
        pytest.param({"custom": [[[[{}]]]] * 50}, id="nested"),
        pytest.param(dict.fromkeys(("expires_in", "refresh_token", "id_token", "scope")), id="nulls"),
    ],
)
def test_nothing_beside_the_access_token_spoils_a_refresh(changes: dict[str, Any]) -> None:
    """The old refresh token may be used up by now."""
    assert renew(**changes).access_token.reveal() == "tok_abc"


@pytest.mark.parametrize(
    "text",
    [
        pytest.param('{"access_token": "old", "access_token": "tok_abc", "a": 1, "a": 2}', id="given-twice"),
        pytest.param('\ufeff{"access_token": "tok_abc"}', id="byte-order-mark"),
        pytest.param('{"access_token": "tok_abc", "expires_in": ' + "9" * 5000 + "}", id="endless-number"),
        pytest.param('{"access_token": "tok_abc", "expires_in": 1e999}', id="number-that-overflows"),
        pytest.param('{"access_token": "tok_abc", "expires_in": -Infinity}', id="infinity"),
        pytest.param(' \n{"access_token": "tok_abc"}\t', id="white-space"),
    ],
)
def test_a_document_with_more_than_one_reading_is_read_all_the_same(text: str) -> None:
    """Elsewhere such a document is refused; here that would end a session for nothing."""
    tokens = RefreshResponse.from_answer(written(text))

    assert (tokens.access_token.reveal(), tokens.expires_in) == ("tok_abc", None)


#: What every sign-in and every refresh takes.
PLAIN = b'{"access_token": "tok_abc", "token_type": "Bearer", "a": "b"}'


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(PLAIN.replace(b'"b"', b'"\t\n\r\x01\x1f\0"'), id="raw-control-characters"),
        pytest.param(PLAIN.replace(b'"b"', b'"caf\xe9"'), id="latin-1"),
        pytest.param(PLAIN.replace(b'"b"', b'"\xed\xa0\x80"'), id="half-a-character"),
        pytest.param(PLAIN.replace(b'"a"', b'"\xff"'), id="name-of-no-encoding"),
        pytest.param(PLAIN.decode().encode("utf-16"), id="utf-16"),
        pytest.param(PLAIN + b"\n<!-- a proxy -->", id="text-behind"),
        pytest.param(PLAIN + b"}", id="brace-behind"),
        pytest.param(PLAIN + b'{"access_token": "tok_other"}', id="another-behind"),
        pytest.param(PLAIN + b"\xff\0", id="bytes-behind"),
    ],
)
def test_what_is_not_quite_json_is_an_answer_to_a_refresh_only(body: bytes) -> None:
    """What concerns no token costs none. At a sign-in it costs another click, which strictness is worth."""
    assert TokenResponse.from_answer(Answer(status=200, body=PLAIN)).access_token.reveal() == "tok_abc"
    answer = Answer(status=200, body=body)

    assert RefreshResponse.from_answer(answer).access_token.reveal() == "tok_abc"
    with pytest.raises(ProtocolViolation) as caught:
        TokenResponse.from_answer(answer)
    assert caught.value.code == "not_json"


@pytest.mark.parametrize("member", ["access_token", "refresh_token", "id_token", "scope"])
def test_a_byte_of_no_encoding_spoils_the_member_that_it_is_in(member: str) -> None:
    """A token with something else in the place of a byte would be another token."""
    whole = json.dumps(TOKENS)
    told = json.dumps(TOKENS[member])
    spoilt = whole.replace(told, told[:-1] + 'BAD"').encode().replace(b"BAD", b"\xff")
    assert RefreshResponse.from_answer(written(whole)) == renew()
    result = outcome(lambda: RefreshResponse.from_answer(Answer(status=200, body=spoilt)))

    if member == "access_token":
        assert isinstance(result, ProtocolViolation)
        assert result.code == "access_token"
    else:
        assert isinstance(result, RefreshResponse)
        assert result.access_token.reveal() == "tok_abc"
        assert getattr(result, member) is None


@pytest.mark.parametrize("size", [8192, 8193, 900_000])
def test_an_access_token_of_a_refresh_is_as_long_as_it_is(size: int) -> None:
    """Whether an API takes it is for the API to say; the refresh token beside it is good."""
    assert renew(access_token="x" * size).access_token.reveal() == "x" * size


@pytest.mark.parametrize("status", [200, 201, 202, 203, 206, 226, 299])
@pytest.mark.parametrize("content_type", ["application/json", "text/html", ""])
def test_a_refresh_with_any_status_of_success_is_one(status: int, content_type: str) -> None:
    """Whatever the provider, or what stands before it, calls it."""
    answer = json_answer(TOKENS, status=status, content_type=content_type)

    assert RefreshResponse.from_answer(answer).access_token.reveal() == "tok_abc"


@pytest.mark.parametrize("status", [100, 101, 199, 300, 304, 399, 400, 401, 403, 404, 418, 499])
def test_tokens_under_another_status_are_none(status: int) -> None:
    """Whoever says that it failed has not renewed anything."""
    renew()

    with pytest.raises(ProtocolViolation) as caught:
        renew(status)

    assert caught.value.code == "bad_status"


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504, 599])
def test_a_provider_that_is_down_has_refused_nothing(status: int) -> None:
    """An ``invalid_grant`` of a broken gateway must not end a session."""
    for document in (TOKENS, {"error": "invalid_grant"}):
        with pytest.raises(ProviderUnavailable) as caught:
            RefreshResponse.from_answer(json_answer(document, status=status, retry_after="7"))

        assert caught.value.code == ("rate_limited" if status == 429 else "bad_status")
        assert caught.value.retry_after == 7


@pytest.mark.parametrize("status", [200, 201, 400, 401, 403])
def test_a_refusal_of_a_refresh_is_told_with_its_status(status: int) -> None:
    """Who decides whether a grant is over needs to know it."""
    with pytest.raises(ProviderRefused) as caught:
        RefreshResponse.from_answer(json_answer({"error": "invalid_grant"}, status=status))

    assert (caught.value.code, caught.value.context["status"]) == ("invalid_grant", status)


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        *(
            pytest.param(json_answer(TOKENS | {"access_token": value}), "access_token", id=f"token-{name}")
            for name, value in {
                "null": None,
                "empty": "",
                "number": 7,
                "list": ["tok_abc"],
                "space": "a b",
                "line-break": "a\r\nX: y",
                "not-ascii": "é",
                "surrogate": "\ud800",
            }.items()
        ),
        pytest.param(json_answer({}), "access_token", id="empty-object"),
        pytest.param(json_answer({"error": ""}), "access_token", id="empty-error"),
        pytest.param(json_answer({"error": None}), "access_token", id="null-error"),
        pytest.param(json_answer([TOKENS]), "not_json", id="array"),
        pytest.param(json_answer("tok_abc"), "not_json", id="text"),
        pytest.param(json_answer(None), "not_json", id="null"),
        pytest.param(written(""), "not_json", id="nothing"),
        pytest.param(written("", status=204), "not_json", id="204"),
        pytest.param(written("<html>"), "not_json", id="html"),
        pytest.param(written("access_token=tok_abc"), "not_json", id="form"),
        pytest.param(written('{"access_token": "tok_abc"'), "not_json", id="cut-off"),
        pytest.param(written('<p>{"access_token": "tok_abc"}'), "not_json", id="text-before"),
        pytest.param(written('[{"access_token": "tok_abc"}]'), "not_json", id="in-an-array"),
        pytest.param(written('{"access_token": ' + "[" * 30_000), "not_json", id="deep"),
        pytest.param(Answer(status=200, body=b'{"access_token": "\xff"}'), "access_token", id="no-utf-8"),
    ],
)
def test_without_an_access_token_there_is_nothing_to_keep(answer: Answer, expected: str) -> None:
    """No error tells a value."""
    renew()

    with pytest.raises(ProtocolViolation) as caught:
        RefreshResponse.from_answer(answer)

    assert caught.value.code == expected
    assert "tok_abc" not in repr(caught.value) + repr(caught.value.context)


# --- revocations ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(Answer(status=200), id="200"),
        pytest.param(Answer(status=204), id="204"),
        pytest.param(json_answer({}), id="a-document"),
        pytest.param(Answer(status=200, body=b"<html>"), id="a-page"),
        pytest.param(json_answer({"error": "unsupported_token_type"}, status=400), id="not-its-kind"),
        pytest.param(json_answer({"error": "unsupported_token_type"}, status=403), id="nor-with-403"),
    ],
)
def test_a_revocation_is_done(answer: Answer) -> None:
    """The status is all that counts (RFC 7009 §2.2); what is never revoked need not be asked for again."""
    judge_revocation(answer)


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        pytest.param(Answer(status=503), (ProviderUnavailable, "bad_status"), id="503"),
        pytest.param(Answer(status=429), (ProviderUnavailable, "rate_limited"), id="429"),
        pytest.param(
            json_answer({"error": "unsupported_token_type"}, status=503),
            (ProviderUnavailable, "bad_status"),
            id="503-whatever-it-says",
        ),
        pytest.param(
            json_answer({"error": "invalid_client"}, status=401),
            (ProviderRefused, "invalid_client"),
            id="client",
        ),
        pytest.param(
            json_answer({"error": "invalid_request"}, status=400),
            (ProviderRefused, "invalid_request"),
            id="request",
        ),
        pytest.param(Answer(status=404, body=b"<html>"), (ProtocolViolation, "bad_status"), id="404"),
        pytest.param(Answer(status=304), (ProtocolViolation, "bad_status"), id="304"),
        pytest.param(Answer(status=101), (ProtocolViolation, "bad_status"), id="101"),
    ],
)
def test_a_revocation_is_still_to_be_done(answer: Answer, expected: tuple[type[SpatioError], str]) -> None:
    """The token lives on until the provider has said otherwise (RFC 7009 §2.2.1)."""
    with pytest.raises(expected[0]) as caught:
        judge_revocation(answer)

    assert caught.value.code == expected[1]


# --- userinfo ---------------------------------------------------------------------------------------------


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
