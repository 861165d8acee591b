"""Any address, and what the browser brings back: what is accepted, all parsers read alike."""

import base64
from typing import Any
from urllib.parse import parse_qs, parse_qsl, unquote_plus, urlsplit

import requests
from hypothesis import example, given
from hypothesis import strategies as st
from urllib3.util import parse_url

from spatio_django import registration
from spatio_django.exceptions import LoginNotFound, ProtocolViolation, ProviderRefused
from spatio_django.oidc import message
from spatio_django.oidc.authorization import (
    RESERVED,
    authorization_url,
    callback_state,
    code_challenge,
    read_callback,
)
from spatio_django.oidc.discovery import ProviderMetadata, require_endpoint, well_known_urls
from spatio_django.oidc.secret import Secret
from spatio_django.oidc.urls import MAX_URL, is_loopback, origin, require_safe_url
from tests.oidc.support import ISSUER, METADATA
from tests.properties.support import RAW_TEXT, TEXT, always, each, json_values, judged

SCHEMES = (
    *(
        "https://",
        "http://",
        "HTTPS://",
        "http\u017f://",
        "https:/",
        "https:",
        "//",
        "ftp://",
        "javascript:",
        "",
    ),
    *(" https://", "\thttps://", "https:\\\\"),
)
USERS = ("", "user@", "a:b@", "site.example@", "localhost:80@", "@", "\\@", "%40")
HOSTS = (
    *(
        "site.example",
        "SITE.example",
        "site.example.",
        "a..b",
        ".a",
        "-a.example",
        "a-.example",
        "a_b",
        "*.a",
        "",
    ),
    *(
        "localhost",
        "LOCALHOST",
        "localho\u017ft",
        "lo\u212alhost",
        "localhost.",
        "localhost.example",
        "xn--a",
    ),
    *(
        "127.0.0.1",
        "127.1",
        "0x7f.1",
        "2130706433",
        "[::1]",
        "[::ffff:127.0.0.1]",
        "[::1",
        "[v1.x]",
        "[1.2.3]",
    ),
    *(
        "::1",
        "b\xfccher.example",
        "stra\xdfe.example",
        "xn--bcher-kva.example",
        "雪.example",
        "a%62",
        "a b",
        "a\\b",
    ),
)
PORTS = (
    "",
    ":",
    ":443",
    ":80",
    ":0",
    ":8000",
    ":65535",
    ":65536",
    ":099",
    ":-1",
    ":+1",
    ":x",
    ":\u0663",
    ":80:80",
)
TAILS = (
    *(
        "",
        "/",
        "/a/b",
        "/a?b=c",
        "?",
        "#",
        "/?",
        "/#",
        "/#x",
        "/a b",
        "/\\x",
        "/%2e",
        "/[",
        "/\n",
        "\n",
        " ",
        "\0",
    ),
    *("/x\u212a", "//", "/.", "/;a", "/@", "/:80"),
)
PARTS = (SCHEMES, USERS, HOSTS, PORTS, TAILS)
#: Addresses that differ from a good one in one part, for each scheme that secrets may be sent by.
NEAR = [
    "".join([*good[:index], other, *good[index + 1 :]])
    for good in (
        ("https://", "", "site.example", "", "/a/"),
        ("https://", "", "site.example", "", ""),
        ("http://", "", "localhost", ":8000", "/a/"),
    )
    for index, others in enumerate(PARTS)
    for other in others
]
ISSUERS = (ISSUER, "http://localhost:8000")
URLS = (
    st.builds("".join, st.tuples(*map(st.sampled_from, PARTS)))
    | st.builds("".join, st.tuples(*map(st.sampled_from, PARTS[:2]), TEXT, *map(st.sampled_from, PARTS[3:])))
    | RAW_TEXT
)
SAFE_URLS = st.builds(
    "".join,
    st.tuples(
        st.just("https://"),
        st.from_regex(r"[a-zA-Z]([a-z0-9-]{0,8}[a-z0-9])?(\.[a-z]{2,5}){0,2}", fullmatch=True),
        st.sampled_from(["", ":443", ":8443"]),
        st.from_regex(r"(/[a-zA-Z0-9._~!$&'()*+,;=:@%-]{0,8}){0,3}", fullmatch=True),
    ),
)


# Where secrets are sent


@given(URLS | SAFE_URLS | json_values(), st.sampled_from(ISSUERS))
@always((url, issuer) for url in NEAR for issuer in ISSUERS)
def test_an_address_for_secrets_is_read_alike_by_all_parsers(url: Any, issuer: str) -> None:
    """By ours, by the one that connects, and by the one that prepares the request; and it is https."""
    result = judged(lambda: require_endpoint(url, member="url", issuer=issuer))

    if not isinstance(result, str):
        assert isinstance(result, ProtocolViolation)
        assert result.code == "insecure_url"
        assert str(url) not in str(result) or len(str(url)) < 5
        return
    ours, theirs = urlsplit(result), parse_url(result)
    prepared = requests.Request("GET", result).prepare().url
    assert result == url
    assert url.isascii()
    assert len(url) <= MAX_URL
    assert prepared is not None
    assert ours.hostname == (theirs.host or "").strip("[]")
    assert (ours.scheme, ours.port) == (theirs.scheme, theirs.port)
    assert origin(url) == origin(prepared)
    assert theirs.auth is None
    assert theirs.fragment is None
    assert theirs.scheme == "https" or (is_loopback(url) and is_loopback(issuer) and is_loopback(prepared))
    assert "@" not in ours.netloc


@given(SAFE_URLS)
def test_an_honest_address_is_taken_as_it_is(url: str) -> None:
    """With letters of either case, a port, a path with anything that RFC 3986 has."""
    assert require_safe_url(url, member="url") == url


@given(SAFE_URLS)
def test_metadata_are_looked_for_at_the_issuers_own_host(issuer: str) -> None:
    """Whatever its path is; and below that."""
    for url in well_known_urls(issuer):
        assert origin(require_safe_url(url, member="url")) == origin(issuer)
        assert urlsplit(issuer).path.rstrip("/") in url


# Where this site is


@given(URLS | SAFE_URLS)
@always((url,) for url in NEAR)
def test_an_origin_is_what_a_browser_makes_of_it(url: str) -> None:
    """ASCII, in lower case, without a default port; the same once more; and no other host."""
    result = registration.as_origin(url)

    if result is None:
        return
    parts = urlsplit(result)
    assert registration.as_origin(result) == result
    assert result.isascii()
    assert result == result.lower() == f"{parts.scheme}://{parts.netloc}"
    assert parts.scheme in {"http", "https"}
    assert parts.hostname
    assert parts.port != {"http": 80, "https": 443}[parts.scheme]
    theirs = parse_url(result)
    assert (theirs.host or "").strip("[]") == parts.hostname
    assert {"@", "\\", "?", "#", "%"}.isdisjoint(url)
    typed = urlsplit(url).hostname or ""
    assert typed == (parts.hostname if typed.isascii() else parts.hostname.encode().decode("idna"))


@given(URLS | SAFE_URLS)
@always((url,) for url in NEAR)
def test_a_redirect_uri_is_an_origin_and_a_path(uri: str) -> None:
    """And no more than that, so that it is the same to the provider, which compares texts."""
    if registration.is_redirect_uri(uri):
        parts = urlsplit(uri)
        assert registration.as_origin(f"{parts.scheme}://{parts.netloc}")
        assert parts.path.startswith("/")
        assert "@" not in parts.netloc
        assert uri == f"{uri[: len(parts.scheme)]}://{parts.netloc}{parts.path}"
        assert uri.isprintable()


# The request, and the callback


@given(
    st.sampled_from(
        [*"?&", "", "?&", "??", "?a=1", "?a=1&", "?a=%3F&b", "?state=x", "?%73tate=x", "?a=1&&b=2"]
    )
    | st.from_regex(r"\?[a-z=&%+0-9]{0,12}", fullmatch=True),
    st.dictionaries(TEXT.filter(lambda name: name not in RESERVED), TEXT, max_size=3),
    st.none() | st.sampled_from(["none", "login"]),
    st.none() | st.integers(0, 10**9),
)
@example("?&", {}, None, None)
def test_a_request_says_to_the_provider_what_was_meant(
    query: str, extra: dict[str, str], prompt: str | None, max_age: int | None
) -> None:
    """Whatever the endpoint's own query is, each parameter is there once, and none but ours and its own."""
    endpoint = f"{ISSUER}/authorize{query}"
    metadata = judged(
        lambda: ProviderMetadata.from_document(METADATA | {"authorization_endpoint": endpoint}, issuer=ISSUER)
    )
    if not isinstance(metadata, ProviderMetadata):
        return
    state, nonce, verifier = Secret("s"), Secret("n"), Secret("v")
    url = judged(
        lambda: authorization_url(
            metadata,
            client_id="a client",
            redirect_uri="https://site.example/callback/",
            scopes=["openid", "read:*"],
            state=state,
            nonce=nonce,
            code_verifier=verifier,
            prompt=prompt,
            max_age=max_age,
            extra=extra,
        )
    )
    if not isinstance(url, str):
        assert url.code == "reserved_parameter"
        assert "state" in parse_qs(urlsplit(endpoint).query, keep_blank_values=True)
        return
    ours = {
        **extra,
        "response_type": "code",
        "client_id": "a client",
        "redirect_uri": "https://site.example/callback/",
        "scope": "openid read:*",
        "state": "s",
        "nonce": "n",
        "code_challenge": code_challenge(verifier),
        "code_challenge_method": "S256",
        **({} if prompt is None else {"prompt": prompt}),
        **({} if max_age is None else {"max_age": str(max_age)}),
    }
    before, after = urlsplit(endpoint), urlsplit(url)
    assert after[:3] == before[:3]
    sent = parse_qsl(after.query, keep_blank_values=True)
    assert sorted(sent) == sorted([*parse_qsl(before.query, keep_blank_values=True), *ours.items()])


CALLBACK = {"state": ["the-state"], "code": ["the code"], "iss": [ISSUER]}
WRONG_CALLBACK = {
    "state": (
        [],
        [""],
        ["other"],
        ["the-state"] * 2,
        ["the-state", "other"],
        ["other", "the-state"],
        ["the-stat"],
    ),
    "code": ([], [""], ["a"] * 2, ["x" * 4096], ["x" * 4097], ["\n"], ["é"]),
    "iss": (
        [],
        [""],
        ["https://evil.example"],
        [ISSUER] * 2,
        [ISSUER, "https://evil.example"],
        [ISSUER + "/"],
    ),
    "error": ([], [""], ["access_denied"], ["odd"], ["access_denied"] * 2),
}
PARAMETERS = st.dictionaries(
    st.sampled_from(["state", "iss", "error", "error_description", "code", "x"]),
    st.lists(
        st.sampled_from(["the-state", "the code", ISSUER, "access_denied", "x" * 5000, ""]) | RAW_TEXT,
        max_size=3,
    ),
)


@given(PARAMETERS, st.booleans())
@always((params, is_required) for params in each(CALLBACK, WRONG_CALLBACK) for is_required in (False, True))
def test_any_callback_gives_its_one_code_or_an_error(
    params: dict[str, list[str]], iss_required: bool
) -> None:
    """A code only with this state, once, and from this issuer; an error only of this login."""
    result = judged(
        lambda: read_callback(params, state=Secret("the-state"), issuer=ISSUER, iss_required=iss_required)
    )

    if params == CALLBACK or (not iss_required and params == {**CALLBACK, "iss": []}):
        assert result == Secret("the code")
    if isinstance(result, LoginNotFound):
        assert params.get("state") != ["the-state"]
        return
    assert params["state"] == ["the-state"]
    if isinstance(result, Secret):
        assert params["code"] == [result.reveal()]
        assert result.reveal().isascii()
        assert not any(params.get("error", ()))
        assert params.get("iss", []) in ([[ISSUER]] if iss_required else [[], [ISSUER]])
    else:
        assert isinstance(result, ProviderRefused | ProtocolViolation)


@given(st.dictionaries(st.sampled_from(["state", "State", "state[]"]), st.lists(RAW_TEXT, max_size=2)))
def test_a_callbacks_state_is_its_one_state(params: dict[str, list[str]]) -> None:
    """Of two, neither counts."""
    result = judged(lambda: callback_state(params))
    states = params.get("state", [])

    if len(states) == 1 and states[0]:
        assert result == states[0]
    else:
        assert isinstance(result, LoginNotFound)


# What is sent


@given(st.dictionaries(TEXT, TEXT, max_size=4))
def test_a_form_is_read_as_it_was_meant(fields: dict[str, str]) -> None:
    """In any alphabet."""
    body = message.form({name: Secret(value) for name, value in fields.items()}).reveal()

    assert dict(parse_qsl(body, keep_blank_values=True)) == fields
    assert body.isascii()


@given(RAW_TEXT, RAW_TEXT)
def test_credentials_fit_into_a_header_and_can_be_told_apart(client_id: str, secret: str) -> None:
    """Form-encoded first, so that a colon in the one is not the one between them (RFC 6749 §2.3.1)."""
    header = message.basic(client_id, Secret(secret)).reveal()
    scheme, _, value = header.partition(" ")
    user, _, password = base64.b64decode(value).decode("ascii").partition(":")

    assert scheme == "Basic"
    assert header.isascii()
    assert unquote_plus(user) == client_id.encode("utf-8", "replace").decode()
    assert unquote_plus(password) == secret.encode("utf-8", "replace").decode()


@given(RAW_TEXT)
def test_a_token_that_does_not_fit_into_a_header_is_not_sent(token: str) -> None:
    """A line break in it would begin another header."""
    result = judged(lambda: message.bearer(Secret(token)))

    if isinstance(result, Secret):
        assert result.reveal() == f"Bearer {token}"
        assert token.isascii()
        assert token.isprintable()
        assert token.split() == [token]
    else:
        assert result.code == "access_token"
