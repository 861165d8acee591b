"""The other half: whatever honest providers do, people are signed in, with the right data."""

import json
import socket
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from spatio_django.conf import conf
from tests.hostile.conftest import (
    DISCOVERY,
    ENDPOINTS,
    KEYS,
    PERSON,
    SECOND_DISCOVERY,
    TOKEN,
    USERINFO,
    Hostile,
    changed,
    claims_of,
    endpoints,
)
from tests.hostile.front import body_of
from tests.hostile.test_wire import JSON, chunk, closing, head
from tests.hostile.values import ABSENT
from tests.oidc.wire import reply

EMPTY = {"name": None, "email": None, "email_verified": None}

# --- clocks -----------------------------------------------------------------------------------------------


def moved(seconds: float) -> Callable[[Any], Any]:
    """Move a point of time."""
    return lambda moment: moment + seconds


@pytest.mark.parametrize("skew", [-50, -20, -1, 1, 20, 50])
def test_clocks_may_differ(hostile: Hostile, skew: int) -> None:
    """20 seconds and more, either way: all times of the token are by the provider's clock."""
    hostile.change_claims(
        iat=moved(skew), exp=moved(skew), auth_time=moved(skew), nbf=lambda _: int(time.time()) + skew
    )

    hostile.accepts()


@pytest.mark.parametrize("life", [-20, -1, 0, 1, 20, 10**9])
def test_a_token_may_live_short_or_long(hostile: Hostile, life: int) -> None:
    """Over for 20 seconds by our clock, which may be ahead; or good for thirty years."""
    hostile.change_claims(exp=lambda _: int(time.time()) + life)

    hostile.accepts()


@pytest.mark.parametrize("shape", [float, moved(0.25)], ids=["point", "fraction"])
def test_a_time_may_have_a_fraction(hostile: Hostile, shape: Callable[[Any], Any]) -> None:
    """RFC 7519 §2: a NumericDate is a number, with or without a point."""
    hostile.change_claims(iat=shape, exp=shape, auth_time=shape, nbf=lambda _: shape(int(time.time())))

    hostile.accepts()


def test_a_token_may_be_old(hostile: Hostile) -> None:
    """Issued a week ago and still good; the nonce says that it is this sign-in's."""
    hostile.change_claims(iat=moved(-604_800), auth_time=moved(-31_536_000))

    hostile.accepts()


# --- people -----------------------------------------------------------------------------------------------

SUBJECTS = [
    "1",
    "0",
    "-1",
    "null",
    "undefined",
    "true",
    "None",
    "NaN",
    "a" * 255,
    "雪" * 255,
    "🐈" * 255,
    "Zoë Ångström",
    "Иван",
    "علي",
    "יעל",
    "李小龙",
    "ก็",
    "ẞßſ",
    "İı",
    "e\u0301",
    "\u00e9",
    "user@example.com",
    "auth0|5f7c8ec7c33c6c004bbafe82",
    "CN=Ada,O=Example",
    "a/b/../c",
    "a b",
    " a ",
    " ",
    "\u00a0",
    "\u200b",
    "\u202e",
    "a\\b",
    "'; DROP TABLE x; --",
    '"quoted"',
    "<b>&amp;",
    "%00",
    "{{ x }}",
    "a+b=c&d",
    "~!@#$%^&*()_+`-=[]{}|;:,.?",
    "00000000-0000-0000-0000-000000000000",
    "https://example.com/people/1#me",
    "2" * 40,
    "1e400",
]


@pytest.mark.parametrize("sub", SUBJECTS, ids=range(len(SUBJECTS)))
def test_a_subject_may_be_any_text(hostile: Hostile, sub: str) -> None:
    """It is compared, not read: the same person comes back to the same account, and nobody else does."""
    hostile.change_claims(sub=sub)
    hostile.change_members(USERINFO, sub=sub)

    grant = hostile.accepts(sub=sub)

    assert grant.account.sub == sub


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("ada", "Ada"),
        ("ada", "ada "),
        ("e\u0301", "\u00e9"),
        ("\u017f", "s"),
        ("1", "01"),
        ("ß", "ss"),
        ("a", "a\u200b"),
    ],
)
def test_subjects_that_look_alike_are_two_people(hostile: Hostile, one: str, other: str) -> None:
    """Whatever the database's collation thinks of it."""
    users = []
    for sub in (one, other, one, other):
        hostile.change_claims(sub=sub)
        hostile.change_members(USERINFO, sub=sub)
        browser = hostile.browser()
        assert hostile.walk(browser).status_code == 302
        users.append(browser.get("/state/").json()["user"])

    assert users[:2] == users[2:]
    assert users[0] != users[1]


@pytest.mark.parametrize("persona", ["ada", "bo", "cleo", "zoe", "dee"])
def test_everybody_at_the_provider_can_sign_in(hostile: Hostile, persona: str) -> None:
    """With no name, with an unverified address, beyond ASCII, and in another's letters."""
    hostile.jar.clear()
    browser = hostile.browser()
    response = browser.get(hostile.authorize(hostile.begin(browser), persona=persona))

    assert response.status_code == 302
    (person,) = (person for person in hostile.spatio.personas if person.key == persona)
    assert browser.get("/state/").json()["account"] == person.sub


def test_a_person_may_have_neither_name_nor_address(hostile: Hostile) -> None:
    """``sub`` is all that userinfo has to tell."""
    hostile.answer_document(USERINFO, lambda document: {"sub": document["sub"]})
    hostile.accepts(**EMPTY)
    hostile.answer_document(USERINFO, lambda document: dict.fromkeys(document) | {"sub": document["sub"]})
    hostile.accepts(**EMPTY)


def test_claims_may_come_in_the_id_token(hostile: Hostile) -> None:
    """All of them, so that userinfo is not called; and its sub beside them is what counts."""
    hostile.change_claims(name="Ada Lovelace", email="ada@example.com", email_verified=True)

    hostile.accepts()

    assert USERINFO not in hostile.front.calls


def test_a_provider_may_have_no_userinfo(hostile: Hostile) -> None:
    """The endpoint is optional (Discovery §3)."""
    hostile.change_members(DISCOVERY, userinfo_endpoint=ABSENT)

    hostile.accepts(**EMPTY)


# --- what may be left out, and what may be there ----------------------------------------------------------


def test_only_what_is_required_is_required(hostile: Hostile) -> None:
    """The smallest answers that the specifications and Spatio's contract allow, all at once."""

    def only(*names: str) -> Callable[[dict[str, Any]], dict[str, Any]]:
        return lambda document: {name: document[name] for name in names}

    hostile.answer_document(
        DISCOVERY,
        only("issuer", "authorization_endpoint", "token_endpoint", "jwks_uri", "scopes_supported"),
    )
    hostile.answer_document(
        KEYS, lambda document: {"keys": [only("kty", "n", "e", "kid")(document["keys"][0])]}
    )
    hostile.answer_document(
        TOKEN,
        lambda document: (
            only("access_token", "token_type")(document)
            | {"id_token": hostile.signer.sign(smallest(document["id_token"]), {"typ": None})}
        ),
    )

    grant = hostile.accepts(**EMPTY)

    assert (grant.seconds_left, grant.refresh_token) == (None, None)
    assert grant.scopes == {"openid", "profile", "email"}


def smallest(token: str) -> dict[str, Any]:
    """Give the required claims only (Core §2, and the nonce)."""
    claims = claims_of(token)
    return {name: claims[name] for name in ("iss", "sub", "aud", "exp", "iat", "nonce")}


def test_more_may_be_there_everywhere(hostile: Hostile) -> None:
    """Unknown members, flat and nested, in each document, key, header and set of claims."""
    more = {
        "x_text": "Zoë 雪 🐈",
        "x_null": None,
        "x_list": [1, [2, [3, {}]]],
        "x_object": {"a": {"b": {"c": [True, None, -1.5e-7]}}},
        "": "",
        "__proto__": {"admin": True},
        "constructor": {},
        "__class__": "x",
    }
    hostile.answer_document(
        DISCOVERY, lambda document: more | document | {f"x_{number}": "y" * 100 for number in range(800)}
    )
    hostile.answer_document(KEYS, lambda document: more | {"keys": [more | key for key in document["keys"]]})
    hostile.answer_document(
        TOKEN,
        lambda document: (
            more
            | document
            | {
                "id_token": hostile.signer.sign(
                    more | claims_of(document["id_token"]), {"x_header": more, "x5t": "AAAA"}
                )
            }
        ),
    )
    hostile.answer_document(USERINFO, lambda document: more | document)

    hostile.accepts()


@pytest.mark.parametrize(
    "aud", [lambda aud: [aud], lambda aud: [aud, aud], lambda aud: aud], ids=["list", "twice", "text"]
)
def test_the_audience_may_be_a_list_of_one(hostile: Hostile, aud: Any) -> None:
    """RFC 7519 §4.1.3, with and without ``azp``."""
    hostile.change_claims(aud=aud)
    hostile.accepts()
    hostile.change_claims(aud=aud, azp=conf.SPATIO_CLIENT_ID)
    hostile.accepts()


def test_an_access_token_may_have_any_legal_characters(hostile: Hostile) -> None:
    """RFC 6750 §2.1 and beyond: what fits into a header is sent as it is; nobody takes it apart."""

    def with_token(document: dict[str, Any], token: str) -> dict[str, Any]:
        claims = changed(claims_of(document["id_token"]), at_hash=ABSENT)
        return document | {"access_token": token, "id_token": hostile.signer.sign(claims)}

    for token in (
        "a",
        "0",
        "-._~+/=",
        "a.b.c",
        "==",
        "tok_" + "x" * 4000,
        "!#$%&'()*,:;<>?@[]^`{|}\"\\",
        "e30.e30.",
    ):
        hostile.answer_document(TOKEN, partial(with_token, token=token))
        # The provider never made that token.
        hostile.answer_status(
            USERINFO, "200 OK", json.dumps(PERSON).encode(), {"Content-Type": "application/json"}
        )
        grant = hostile.accepts()
        assert grant.access_token is not None
        assert grant.access_token.reveal() == token
        assert f"Bearer {token}\r\n".encode() in hostile.front.calls[USERINFO][-1]


# --- http -------------------------------------------------------------------------------------------------

FRAMINGS: dict[str, Callable[[bytes], bytes]] = {
    "with a length": lambda body: reply(body, JSON),
    "in one chunk": lambda body: head("Transfer-Encoding: chunked") + chunk(body) + chunk(b""),
    "in chunks of a byte": lambda body: (
        head("Transfer-Encoding: chunked")
        + b"".join(chunk(body[place : place + 1]) for place in range(len(body)))
        + chunk(b"")
    ),
    "in chunks with extensions": lambda body: (
        head("Transfer-Encoding: chunked") + chunk(body, b';a="b";c') + b"0;d\r\n\r\n"
    ),
    "in chunks with trailers": lambda body: (
        head("Transfer-Encoding: chunked", "Trailer: X-Sum") + chunk(body) + b"0\r\nX-Sum: 1\r\nY: 2\r\n\r\n"
    ),
    "in chunks, with a size in capitals and zeros": lambda body: (
        head("Transfer-Encoding: Chunked") + b"%08X\r\n%s\r\n0\r\n\r\n" % (len(body), body)
    ),
    "up to the end": lambda body: head() + body,
    "http/1.0": lambda body: reply(body, JSON).replace(b"HTTP/1.1", b"HTTP/1.0"),
    "http/1.0 up to the end": lambda body: head().replace(b"HTTP/1.1", b"HTTP/1.0") + body,
    "headers in capitals": lambda body: reply(
        body, "CONTENT-TYPE: APPLICATION/JSON", "CACHE-CONTROL: NO-STORE"
    ),
    "headers in small letters": lambda body: (
        b"HTTP/1.1 200 OK\r\ncontent-length:%d\r\ncontent-type:application/json\r\n\r\n%s" % (len(body), body)
    ),
    "no reason": lambda body: reply(body, JSON, status="200"),
    "another reason": lambda body: reply(body, JSON, status="200 Très bien"),
    "white space around values": lambda body: reply(body, "Content-Type: \t application/json \t "),
    "line feeds only": lambda body: (
        reply(b"", JSON).replace(b"\r\n", b"\n").replace(b"Length: 0", b"Length: %d" % len(body)) + body
    ),
    "many headers": lambda body: reply(body, JSON, *(f"X-{number}: {'y' * 200}" for number in range(80))),
    "a long header": lambda body: reply(body, JSON, "Content-Security-Policy: " + "x" * 20_000),
    "cookies": lambda body: reply(body, JSON, *(f"Set-Cookie: c{number}=v; Path=/" for number in range(20))),
    "folded header": lambda body: reply(body, JSON, "X-Folded: a\r\n b\r\n\tc"),
    "latin-1 header": lambda body: reply(body, JSON, "X-Name: Zo\xeb"),
    "identity": lambda body: reply(body, JSON, "Content-Encoding: identity"),
    "keep-alive": lambda body: reply(body, JSON, "Connection: keep-alive", "Keep-Alive: timeout=5, max=1"),
    "upgrade offered": lambda body: reply(body, JSON, "Upgrade: h2c", 'Alt-Svc: h3=":443"'),
    "the same length twice": lambda body: reply(body, JSON, f"Content-Length: {len(body)}"),
    "an interim answer": lambda body: b"HTTP/1.1 100 Continue\r\n\r\n" + reply(body, JSON),
    "early hints": lambda body: (
        b"HTTP/1.1 103 Early Hints\r\nLink: </x>; rel=preload\r\n\r\n" * 2 + reply(body, JSON)
    ),
    "processing": lambda body: b"HTTP/1.1 102 Processing\r\n\r\n" + reply(body, JSON),
}


@endpoints
@pytest.mark.parametrize("name", FRAMINGS)
def test_an_answer_may_be_framed_in_any_legal_way(hostile: Hostile, endpoint: str, name: str) -> None:
    """And the connection is closed behind it or not, told or not."""
    framing = FRAMINGS[name]
    hostile.do(endpoint, closing(lambda answer: framing(body_of(answer))))
    hostile.accepts()
    hostile.new_process()
    hostile.do(
        endpoint,
        closing(lambda answer: framing(body_of(answer)))
        if "up to the end" in name
        else lambda connection, answer: connection.sendall(framing(body_of(answer))),
    )

    hostile.accepts()


@pytest.mark.parametrize("told", [True, False])
def test_connections_may_be_closed_between_calls(hostile: Hostile, told: bool) -> None:
    """With ``Connection: close`` or without a word: the next call opens another, and nothing is lost."""

    def deed(connection: socket.socket, answer: bytes) -> None:
        lines = [JSON, "Connection: close"] if told else [JSON]
        connection.sendall(reply(body_of(answer), *lines))
        connection.shutdown(socket.SHUT_RDWR)

    for endpoint in (*ENDPOINTS, SECOND_DISCOVERY):
        hostile.do(endpoint, deed)
    for _ in range(3):
        hostile.accepts()


def test_an_answer_in_many_packets_is_one(hostile: Hostile) -> None:
    """Slowly, but within the time."""

    def deed(connection: socket.socket, answer: bytes) -> None:
        for place in range(0, len(answer), 100):
            connection.sendall(answer[place : place + 100])
            time.sleep(0.002)

    for endpoint in ENDPOINTS:
        hostile.do(endpoint, deed)

    hostile.accepts()


def test_large_but_fair_documents_are_read(hostile: Hostile) -> None:
    """A discovery document and a key set of 100 KiB, a userinfo of 60."""
    hostile.change_members(DISCOVERY, claims_supported=[f"claim_{number}" for number in range(6000)])
    hostile.answer_document(
        KEYS,
        lambda document: {
            "keys": [{"kty": "EC", "kid": str(number), "x": "A" * 43} for number in range(1500)]
            + document["keys"]
        },
    )
    hostile.change_members(USERINFO, x_groups=[f"group {number}" for number in range(3500)])

    hostile.accepts()
