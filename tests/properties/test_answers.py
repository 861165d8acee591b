"""Any answer of a provider: metadata, tokens, claims, a registration, a refusal; or an error of ours."""

import json
import re
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from urllib3.util import parse_url

from spatio_django.exceptions import ProtocolViolation, ProviderRefused, ProviderUnavailable, SpatioError
from spatio_django.models import SpatioClient
from spatio_django.oidc.answer import MAX_RETRY_AFTER, Answer
from spatio_django.oidc.discovery import ProviderMetadata
from spatio_django.oidc.refusal import KNOWN_ERRORS, MAX_DESCRIPTION, printable, refusal
from spatio_django.oidc.registration import (
    AUTH_METHODS,
    ClientInformation,
    ClientMetadata,
    Management,
)
from spatio_django.oidc.responses import (
    MAX_EXPIRES_IN,
    RefreshResponse,
    TokenResponse,
    judge_revocation,
    userinfo_claims,
)
from spatio_django.oidc.secret import Secret
from spatio_django.registrar import fill
from tests.oidc.support import ISSUER, METADATA, NOW
from tests.properties.support import (
    RAW_TEXT,
    TEXT,
    always,
    as_bytes,
    changed,
    each,
    json_values,
    judged,
    mutated,
)

STATUSES = st.sampled_from([200, 200, 201, 400, 401, 403, 429, 500, 503]) | st.integers(100, 999)
HEADERS = st.fixed_dictionaries(
    {},
    optional={
        "content-type": st.sampled_from(["application/json", "Application/JSON; charset=x", "text/html"])
        | TEXT,
        "retry-after": st.sampled_from(["30", "Fri, 31 Dec 9999 23:59:59 GMT"]) | TEXT,
    },
)


def answers(document: dict[str, Any], wrong: dict[str, Sequence[Any]]) -> st.SearchStrategy[Answer]:
    """Give answers near the one that has *document*, every other with the status that goes with it."""
    near = changed(document, wrong=wrong, names=("error", "error_description")).map(as_bytes)
    bodies = near | near | mutated(as_bytes(document)) | json_values().map(as_bytes)
    statuses = st.just(201 if "client_id" in document else 200) | STATUSES
    headers = st.just({"content-type": "application/json"}) | HEADERS
    return st.builds(lambda **parts: Answer(**parts), status=statuses, headers=headers, body=bodies)


def each_answer(document: dict[str, Any], wrong: dict[str, Sequence[Any]]) -> list[Answer]:
    """Give the answer that has *document*, and those with one member that is off."""
    status = 201 if "client_id" in document else 200
    headers = {"content-type": "application/json"}
    return [Answer(status=status, headers=headers, body=as_bytes(near)) for near in each(document, wrong)]


def is_refused(result: object) -> bool:
    """Tell whether *result* is one of the errors that the answer to a call may be."""
    if isinstance(result, ProviderUnavailable):
        assert result.retry_after is None or 0 <= result.retry_after <= MAX_RETRY_AFTER
    return isinstance(result, ProviderUnavailable | ProviderRefused | ProtocolViolation)


def is_safe(url: str) -> bool:
    """Tell whether *url* is https, or plain http on this machine, by another parser's reading."""
    parts = parse_url(url)
    on_this_machine = parts.host in {"localhost", "127.0.0.1", "[::1]"}
    return parts.auth is None and bool(parts.host) and (parts.scheme == "https" or on_this_machine)


# Metadata

URLS = (
    *(
        "http://localhost/x",
        "http://[::1]:1/",
        "http://evil.example",
        "https://a@evil.example",
        "https://x.example:0",
    ),
    *(
        "https://\u017fpatio.example",
        "//x.example",
        "https://x.example/#",
        "https://[::ffff:1:2:3:4:5:6:7]",
        "",
    ),
)
ENDPOINTS = (
    *("authorization_endpoint", "token_endpoint", "jwks_uri", "userinfo_endpoint"),
    *("registration_endpoint", "introspection_endpoint", "revocation_endpoint"),
)
ARRAYS = (
    *("scopes_supported", "token_endpoint_auth_methods_supported", "code_challenge_methods_supported"),
    *("id_token_signing_alg_values_supported", "prompt_values_supported"),
)


WRONG_METADATA: dict[str, Sequence[Any]] = {
    "issuer": (ISSUER + "/", ISSUER.upper(), "http://localhost:8000", None, 5),
    **dict.fromkeys(ENDPOINTS, (*URLS, None, 5, [])),
    **dict.fromkeys(ARRAYS, (["S256", "RS256"], ["plain"], ["S256", 5], [], "S256", None)),
    "authorization_response_iss_parameter_supported": (True, "true", 1, None),
}


@given(
    changed(METADATA, wrong=WRONG_METADATA) | st.dictionaries(TEXT, json_values(), max_size=3),
    st.sampled_from([ISSUER, ISSUER, "http://localhost:8000"]),
    st.booleans(),
)
@always((document, ISSUER, False) for document in each(METADATA, WRONG_METADATA))
def test_any_document_gives_metadata_or_a_violation(
    document: dict[str, Any], issuer: str, is_ours: bool
) -> None:
    """What is accepted has this issuer, safe addresses, arrays of texts, and what sign-in needs."""
    if is_ours:
        document["issuer"] = issuer
    result = judged(lambda: ProviderMetadata.from_document(document, issuer=issuer))

    if not isinstance(result, ProviderMetadata):
        assert document != METADATA | {"issuer": issuer}
        assert isinstance(result, ProtocolViolation)
        return
    assert result.issuer == document["issuer"] == issuer
    for name in ENDPOINTS:
        url = getattr(result, name)
        assert url == document.get(name)
        assert url is None or is_safe(url)
        assert url is None or parse_url(url).scheme == "https" or issuer.startswith("http://localhost")
    for name in ARRAYS:
        assert list(getattr(result, name)) == (document.get(name) or [])
        assert all(isinstance(value, str) for value in getattr(result, name))
    assert "S256" in (document.get("code_challenge_methods_supported") or ["S256"])


# Tokens and claims

TOKENS = {
    "access_token": "tok_abc",
    "token_type": "Bearer",
    "expires_in": 3600,
    "refresh_token": "ref",
    "id_token": "a.b.c",
    "scope": "openid email",
}


WRONG_TOKENS: dict[str, Sequence[Any]] = {
    "access_token": ("", "a b", "a\n", "x" * 8192, "x" * 8193, "é", None, 5),
    "token_type": ("bEARER", "mac", "Bearer ", "", None, 5, ["Bearer"]),
    "expires_in": (
        "3600",
        "-1",
        "1e3",
        "\u0661",
        3600.0,
        3600.5,
        -1,
        0,
        True,
        2**32 - 1,
        2**32,
        None,
        [],
    ),
    **dict.fromkeys(("refresh_token", "id_token"), ("", "a b", "a\n", "x" * 16_384, "x" * 16_385, None, 5)),
    "scope": ("", " ", "openid\u2003x", "\n", None, 5, ["openid"]),
    "error": ("invalid_grant", "odd", None),
}


@given(answers(TOKENS, WRONG_TOKENS))
@always((answer,) for answer in each_answer(TOKENS, WRONG_TOKENS))
def test_any_token_answer_gives_tokens_or_an_error(answer: Answer) -> None:
    """What is accepted fits into a header, a column and a clock."""
    result = judged(lambda: TokenResponse.from_answer(answer))

    if not isinstance(result, TokenResponse):
        assert answer not in HONEST
        assert is_refused(result)
        return
    document = answer.json_object()
    assert answer.status == 200
    assert document["token_type"].lower() == "bearer"
    assert re.fullmatch(r"[!-~]{1,8192}", result.access_token.reveal())
    assert result.access_token.reveal() == document["access_token"]
    for token, name in ((result.refresh_token, "refresh_token"), (result.id_token, "id_token")):
        assert (token and token.reveal()) == document.get(name)
        assert token is None or re.fullmatch(r"[ -~]{1,16384}", token.reveal())
    assert result.expires_in is None or 0 <= result.expires_in <= MAX_EXPIRES_IN
    assert type(result.expires_in) in {int, type(None)}
    assert result.scope is None or all(name and not name.isspace() for name in result.scope)


WRONG_REFRESHES: dict[str, Sequence[Any]] = {
    **WRONG_TOKENS,
    "expires_in": (*WRONG_TOKENS["expires_in"], float("nan"), float("inf"), "9" * 5000, {}, -0.0),
    "refresh_token": (*WRONG_TOKENS["refresh_token"], "é", "\0", "\ud800", [], {}),
    "scope": (*WRONG_TOKENS["scope"], "openid \0", "\ud800", {}, "é"),
    "error": (*WRONG_TOKENS["error"], "", 5, {}, "\ud800"),
    "custom": (float("nan"), float("-inf"), "\0", "\udfff", [[[[]]]], 10**4000),
}


@given(answers(TOKENS, WRONG_REFRESHES))
@always((answer,) for answer in each_answer(TOKENS, WRONG_REFRESHES))
def test_any_answer_to_a_refresh_gives_tokens_or_an_error(answer: Answer) -> None:
    """With an access token in a JSON object, always tokens: the old ones may be used up."""
    result = judged(lambda: RefreshResponse.from_answer(answer))

    document: Any = None
    with suppress(ValueError, RecursionError):
        # What follows the object, and what is no character, is not looked at.
        text = answer.body.decode(json.detect_encoding(answer.body), "surrogateescape")
        document, _ = json.JSONDecoder(strict=False).raw_decode(text.lstrip())
    access_token = document.get("access_token") if isinstance(document, dict) else None
    is_usable = isinstance(access_token, str) and re.fullmatch(r"[!-~]+", access_token)
    assert isinstance(result, RefreshResponse) == bool(is_usable and 200 <= answer.status < 300)
    if not isinstance(result, RefreshResponse):
        assert is_refused(result)
        return
    assert result.access_token.reveal() == access_token
    for token, name in ((result.refresh_token, "refresh_token"), (result.id_token, "id_token")):
        assert token is None or token.reveal() == document[name] != ""
        assert token is None or token.reveal().encode()
    assert result.expires_in is None or 1 <= result.expires_in <= MAX_EXPIRES_IN
    assert type(result.expires_in) in {int, type(None)}
    stored = " ".join(result.scope or ("openid",))
    assert re.fullmatch(r"[ !#-\[\]-~]+", stored)
    assert stored.split() == [*(result.scope or ("openid",))]


@given(answers(TOKENS, WRONG_REFRESHES))
@always((answer,) for answer in each_answer({"error": "unsupported_token_type"}, {"error": ("x", 5, None)}))
def test_any_answer_to_a_revocation_is_done_or_an_error(answer: Answer) -> None:
    """Done is what has a status of success, whatever it says, or what will never be done."""
    result = judged(lambda: judge_revocation(answer))

    if result is not None:
        assert is_refused(result)
    elif not 200 <= answer.status < 300:
        assert answer.json_object()["error"] == "unsupported_token_type"
        assert 400 <= answer.status < 500


PERSON = {"sub": "person", "name": "Ada"}
WRONG_SUBJECTS: dict[str, Sequence[Any]] = {"sub": ("Person", "person ", "other", "", ["person"], None, 5)}


@given(answers(PERSON, WRONG_SUBJECTS), st.just("person") | TEXT)
@always((answer, "person") for answer in each_answer(PERSON, WRONG_SUBJECTS))
def test_any_userinfo_answer_gives_this_persons_claims_or_an_error(answer: Answer, subject: str) -> None:
    """Claims of anybody else are nobody's."""
    result = judged(lambda: userinfo_claims(answer, subject=subject))

    if isinstance(result, SpatioError):
        assert answer not in HONEST or subject != "person"
        assert is_refused(result)
    else:
        assert result == answer.json_object()
        assert result["sub"] == subject
        assert (answer.status, answer.media_type) == (200, "application/json")


# Registration

REQUEST = ClientMetadata(
    redirect_uris=("https://site.example/spatio/callback/", "https://www.site.example/spatio/callback/"),
    client_name="Site",
    scope=("openid", "email"),
)
REGISTERED = {
    "client_id": "abc",
    "client_secret": "hunter2",
    "client_id_issued_at": int(NOW),
    "client_secret_expires_at": 0,
    "client_name": "Site",
    "redirect_uris": ["https://site.example/spatio/callback/"],
    "scope": "openid email",
    "token_endpoint_auth_method": "client_secret_basic",
    "grant_types": ["authorization_code"],
    "response_types": ["code"],
    "registration_access_token": "reg",
    "registration_client_uri": "https://provider.example/oauth2/register/abc",
}
CURRENT = Management(
    client_id="abc",
    client_secret=Secret("old"),
    client_secret_expires_at=int(NOW) + 5,
    uri="https://provider.example/oauth2/register/abc",
    access_token=Secret("old"),
)
WRONG_REGISTRATION: dict[str, Sequence[Any]] = {
    "client_id": ("", "x" * 255, "x" * 256, "\n", "other", None, 5),
    "client_secret": ("", "old", "x" * 4096, "x" * 4097, "\n", None, 5),
    **dict.fromkeys(
        ("client_id_issued_at", "client_secret_expires_at"),
        (0, -1, True, 1.5, "1", int(NOW), int(NOW) + 1, 253_402_300_799, 253_402_300_800, 10**30, None),
    ),
    "client_name": ("", "\n", "x" * 300, "\u202e", None, 5),
    "redirect_uris": (
        [*REQUEST.redirect_uris],
        [REQUEST.redirect_uris[0]] * 2,
        [REQUEST.redirect_uris[0], "https://evil.example"],
        *(["https://evil.example"], [[]], [], REQUEST.redirect_uris[0], None),
    ),
    "scope": ("openid", "email", "openid a\\b", "openid openid", "", None, 5, ["openid"]),
    "token_endpoint_auth_method": (*AUTH_METHODS, "private_key_jwt", None, 5, []),
    "grant_types": (["authorization_code", 1], ["refresh_token"], [], "authorization_code", None),
    "response_types": (["code", None], ["token"], [], "code", None),
    "registration_access_token": ("", "a b", "x" * 8193, None, 5),
    "registration_client_uri": (*URLS, None, 5),
}
REGISTRATIONS = answers(REGISTERED, WRONG_REGISTRATION)
#: Answers that are good, as far as they are of the kind that is read.
HONEST = [each_answer(document, {})[0] for document in (TOKENS, PERSON, REGISTERED)]
METHODS = st.sampled_from(AUTH_METHODS)


@given(REGISTRATIONS, METHODS, st.none() | st.just(CURRENT))
@always((answer, "client_secret_post", None) for answer in each_answer(REGISTERED, WRONG_REGISTRATION))
@always((answer, "none", CURRENT) for answer in each_answer(REGISTERED, WRONG_REGISTRATION))
def test_any_registration_answer_gives_a_client_or_an_error(
    answer: Answer, method: Any, current: Management | None
) -> None:
    """What is accepted can sign people in, is no more than was asked for, and fits into the table."""
    request = replace(REQUEST, token_endpoint_auth_method=method)
    result = judged(
        lambda: ClientInformation.from_answer(
            answer, request=request, issuer=ISSUER, now=NOW, current=current
        )
    )

    if not isinstance(result, ClientInformation):
        assert answer not in HONEST or method == "none"
        assert is_refused(result)
        return
    assert {*result.redirect_uris} <= {*request.redirect_uris}
    assert len({*result.redirect_uris}) == len(result.redirect_uris) > 0
    assert "openid" in result.scope
    assert "authorization_code" in result.grant_types
    assert all(isinstance(each, str) for each in (*result.grant_types, *result.scope))
    assert result.token_endpoint_auth_method in AUTH_METHODS
    assert (result.token_endpoint_auth_method == "none") <= (method == "none")
    assert (result.client_secret is None) == (result.token_endpoint_auth_method == "none")
    assert result.client_secret_expires_at is None or result.client_secret is not None
    assert result.registration_client_uri is None or is_safe(result.registration_client_uri)
    assert all(line.isprintable() for line in result.surprises(request))

    row = SpatioClient(issuer=ISSUER, client_id=result.client_id)
    fill(row, request, result)
    for field in row._meta.fields:
        assert field.max_length is None or len(field.value_from_object(row)) <= field.max_length
    assert row.client_secret == result.client_secret


@given(REGISTRATIONS)
@always((replace(answer, status=200),) for answer in each_answer(REGISTERED, WRONG_REGISTRATION))
def test_any_answer_renews_the_secrets_of_this_client_or_none(answer: Answer) -> None:
    """Whatever else it holds; and nothing but the two secrets."""
    renewed = CURRENT.renewed_by(answer)

    assert replace(renewed, client_secret=CURRENT.client_secret, access_token=CURRENT.access_token) == CURRENT
    if renewed != CURRENT:
        assert answer.status == 200
        assert answer.json_object()["client_id"] == CURRENT.client_id


# Refusals


@given(json_values(*sorted(KNOWN_ERRORS)), json_values("no", "x" * 500) | RAW_TEXT)
def test_any_refusal_has_a_known_code_and_a_line_of_text(error: object, description: object) -> None:
    """Both come from outside, even from the address bar: a log record and a page have to hold them."""
    result = judged(lambda: _raise(refusal(error, description)))

    assert isinstance(result, ProviderRefused)
    assert result.code in KNOWN_ERRORS | {"unknown_error"}
    assert result.code == error or error not in list(KNOWN_ERRORS)
    text = result.context.get("description", "")
    assert isinstance(text, str)
    assert text.isprintable()
    assert len(text) <= MAX_DESCRIPTION
    assert text.encode().decode() == text


def _raise(error: SpatioError) -> None:
    raise error


@given(RAW_TEXT, st.integers(0, 50))
def test_what_is_printable_stays_as_it_is(text: str, limit: int) -> None:
    """Twice is once."""
    once = printable(text, limit=limit)

    assert printable(once, limit=limit) == once
    assert once.isprintable()
    assert len(once) <= limit
    assert not text.isprintable() or once == text[:limit]
