"""Any secret is not shown; what is sealed opens in its own place only; what is signed is what was signed."""

import copy
import json
import pickle
import time
from collections.abc import Callable
from dataclasses import replace
from urllib.parse import parse_qs, urlsplit

import pytest
from django.test import RequestFactory
from hypothesis import example, given
from hypothesis import strategies as st

from spatio_django.encryption import KeyRing
from spatio_django.exceptions import SpatioError, Undecryptable
from spatio_django.links import Ask, asked, login_url
from spatio_django.models import SpatioClient, SpatioToken
from spatio_django.oidc.secret import Secret
from spatio_django.oidc.strict_json import parse_object
from spatio_django.pending import LIFETIME, PendingLogin, used_up
from spatio_django.provider import seal, unseal
from tests.properties.support import RAW_TEXT, TEXT, judged, mutated

RING = KeyRing(("first", "second"))
#: Long enough not to be in a placeholder by chance.
HIDDEN = st.text(st.characters(), min_size=12, max_size=40)


# Secret


SHOWN: tuple[Callable[[Secret], str], ...] = (
    repr,
    str,
    ascii,
    "{}".format,
    "{!r:>40}".format,
    lambda secret: f"{secret:.3}",
    lambda secret: "%s %r %a" % (secret, secret, secret),  # noqa: UP031 - as logging does it
    lambda secret: str({"a": [secret]}),
    lambda secret: str(Exception(secret)),
    lambda secret: str(dir(secret)),
)
KEPT_BY: tuple[Callable[[Secret], object], ...] = (
    *(lambda secret, protocol=number: pickle.dumps(secret, protocol) for number in range(6)),
    copy.copy,
    copy.deepcopy,
    json.dumps,
    vars,
)


@given(HIDDEN)
def test_a_secret_is_not_in_any_text_that_shows_it(text: str) -> None:
    """Nor in part, nor its length: all secrets look alike."""
    for show in SHOWN:
        assert show(Secret(text)) == show(Secret("another, that is by far longer than the one before"))
        assert text not in show(Secret(text))


@given(HIDDEN)
def test_a_secret_is_not_kept_by_accident(text: str) -> None:
    """A cache or a session would hold it in clear; what refuses doesn't tell it either."""
    for keep in KEPT_BY:
        with pytest.raises(TypeError) as caught:
            keep(Secret(text))
        assert text not in str(caught.value)


@given(RAW_TEXT, RAW_TEXT)
def test_secrets_are_equal_as_their_texts_are(one: str, other: str) -> None:
    """Any text, even with what no encoder takes; and never equal to the text itself."""
    assert (Secret(one) == Secret(other)) == (one == other)
    assert Secret(one) == Secret(one)
    assert Secret(one) != one
    assert hash(Secret(one)) == hash(Secret(one))
    assert bool(Secret(one)) == bool(one)
    assert Secret(one).reveal() == one


# Sealed


@given(TEXT, RAW_TEXT.filter(lambda text: text.isascii()) | TEXT, TEXT)
def test_what_is_sealed_opens_again_in_its_place_only(text: str, place: str, other: str) -> None:
    """Any text, any place; moved elsewhere, or under another key, it does not open."""
    sealed = RING.seal(Secret(text), context=place)

    assert sealed.isascii()
    assert RING.open(sealed, context=place) == Secret(text)
    assert KeyRing(("new", "first")).open(sealed, context=place) == Secret(text)
    if other != place:
        assert isinstance(judged(lambda: RING.open(sealed, context=other)), Undecryptable)
    assert isinstance(judged(lambda: KeyRing(("second", "new")).open(sealed, context=place)), Undecryptable)


SEALED = RING.seal(Secret("the token"), context="place")


def opened(text: str) -> Secret | SpatioError:
    """Open *text* as if it were what was sealed."""
    return judged(lambda: RING.open(text, context="place"))


@given(mutated(SEALED.encode()).map(lambda data: data.decode("latin-1")) | RAW_TEXT)
@example("")
@example(SEALED + "=")
def test_any_other_text_than_what_was_sealed_does_not_open(text: str) -> None:
    """Not even a second spelling of the same bytes."""
    if text == SEALED:
        assert opened(text) == Secret("the token")
    else:
        assert isinstance(opened(text), Undecryptable)


def test_any_character_of_what_is_sealed_counts() -> None:
    """Each one, replaced by its neighbours in the alphabet and by what lenient decoders skip or map."""
    assert opened(SEALED) == Secret("the token")

    for position, old in enumerate(SEALED):
        for new in {chr(ord(old) ^ 1), "A", "+", "/", "=", "\n", ""} - {old}:
            assert isinstance(opened(SEALED[:position] + new + SEALED[position + 1 :]), Undecryptable)


# Columns

IDS = st.text("abcXYZ019 :._/-", min_size=1, max_size=12)


def client(issuer: str, client_id: str) -> SpatioClient:
    """Make a registration with both its secrets."""
    row = SpatioClient(issuer=issuer, client_id=client_id)
    row.client_secret, row.registration_access_token = Secret("secret"), Secret("access")
    return row


def grant(handle: str) -> SpatioToken:
    """Make a grant with both its tokens."""
    row = SpatioToken(handle=handle)
    row.access_token, row.refresh_token = Secret("access"), Secret("refresh")
    return row


COLUMNS = {
    SpatioClient: {"secret_ciphertext": "client_secret", "access_ciphertext": "registration_access_token"},
    SpatioToken: {"access_ciphertext": "access_token", "refresh_ciphertext": "refresh_token"},
}


@given(
    st.lists(
        st.builds(lambda host, name: client(f"https://{host}.example", name), st.sampled_from("ab"), IDS)
        | st.builds(grant, IDS),
        min_size=2,
        max_size=2,
    )
)
def test_ciphertext_opens_in_its_own_row_and_column_only(rows: list[SpatioClient | SpatioToken]) -> None:
    """Whoever can write to the database can't show one person another's token, or a client's secret."""
    source, target = rows
    for column, name in COLUMNS[type(source)].items():
        assert getattr(source, name) is not None
        for other_column, other_name in COLUMNS[type(target)].items():
            before = getattr(target, other_column)
            setattr(target, other_column, getattr(source, column))
            result = judged(lambda: getattr(target, other_name))  # noqa: B023 - called at once
            setattr(target, other_column, before)
            same_row = type(source) is type(target) and identity(source) == identity(target)
            assert isinstance(result, Secret) == (same_row and column == other_column)


def identity(row: SpatioClient | SpatioToken) -> tuple[str, ...]:
    """Tell what makes a row that row."""
    return (row.issuer, row.client_id) if isinstance(row, SpatioClient) else (row.handle,)


# Pending logins

PENDING = PendingLogin(
    issuer="https://provider.example",
    client_id="abc",
    state=Secret("the-state"),
    nonce=Secret("the-nonce"),
    code_verifier=Secret("the-verifier"),
    redirect_uri="https://site.example/spatio/callback/",
    next_url="/private/",
    created=0,
)
ASKS = st.builds(
    Ask,
    scopes=st.lists(TEXT, max_size=3).map(tuple),
    prompt=st.none() | st.sampled_from(["none", "login", "consent"]) | TEXT.filter(bool),
    max_age=st.none() | st.integers(0, 10**9),
)


@given(
    TEXT, TEXT, st.sampled_from(["http:", "https:"]), st.none() | TEXT, ASKS, st.none() | TEXT, st.booleans()
)
def test_a_pending_login_comes_back_as_it_was(
    issuer: str, state: str, scheme: str, next_url: str | None, ask: Ask, user: str | None, done: bool
) -> None:
    """From its own cookie, and from no other, while it is young."""
    now = int(time.time())
    pending = replace(
        PENDING,
        issuer=issuer,
        state=Secret(state),
        redirect_uri=f"{scheme}//site.example/",
        next_url=next_url,
        created=now,
        ask=ask,
        connect_to=user,
        done=done,
    )
    sealed, name = pending.sealed(), pending.cookie

    assert PendingLogin.opened(name, sealed) == pending
    assert PendingLogin.opened(name.removeprefix("__Host-"), sealed) == (
        None if scheme == "https:" else pending
    )
    assert PendingLogin.opened(replace(pending, state=Secret(state + "x")).cookie, sealed) is None
    for created in (now - LIFETIME, now + 120):
        other = replace(pending, created=created)
        assert PendingLogin.opened(name, other.sealed()) is None
    left = PendingLogin.opened(name, used_up(pending).sealed())
    assert left is not None
    assert (left.done, left.nonce, left.code_verifier) == (True, Secret(""), Secret(""))


@given(
    RAW_TEXT.filter(lambda text: "\ud800" not in text and text.isprintable()) | st.just(PENDING.cookie),
    mutated(PENDING.sealed().encode()),
)
def test_any_cookie_gives_no_pending_login(name: str, value: bytes) -> None:
    """Of a login that is too old, of another one, of anybody's making."""
    assert PendingLogin.opened(name, value.decode("latin-1")) is None


# Signed

REQUESTS = RequestFactory()


@given(ASKS, st.none() | TEXT)
def test_what_a_sign_in_asks_for_comes_back_as_the_site_said_it(ask: Ask, next_url: str | None) -> None:
    """By way of the address bar."""
    url = ask.login_url(next_url)
    read = asked(REQUESTS.get(url))

    explicit = bool(next_url or ask.scopes or ask.prompt or ask.max_age is not None)
    assert read == replace(ask, scopes=tuple(sorted(ask.scopes)), explicit=explicit)
    assert parse_qs(urlsplit(url).query, keep_blank_values=True).get("next", [None]) == [next_url or None]


SIGNED = parse_qs(urlsplit(login_url(scopes=["read:all"], max_age=60)).query)["ask"][0]


@given(mutated(SIGNED.encode(), b":", b".", b"+2AA-").map(lambda data: data.decode("latin-1")) | TEXT)
@example(SIGNED)
def test_what_nobody_signed_asks_for_nothing(text: str) -> None:
    """Somebody else's scopes are not asked for, whatever stands in the address bar."""
    read = asked(REQUESTS.get("/", {"ask": text}))

    assert read == (Ask(scopes=("read:all",), max_age=60, explicit=True) if text == SIGNED else Ask())


DOCUMENT = {"issuer": "https://provider.example", "keys": [1, 2.5, None]}
KEPT = seal(json.dumps(DOCUMENT).encode())


@given(mutated(KEPT.encode(), b":").map(lambda data: data.decode("latin-1")) | TEXT)
@example(KEPT)
def test_what_somebody_else_put_into_the_cache_is_not_read(text: str) -> None:
    """Keys planted there would let their author sign in as anybody."""
    data = unseal(text)

    assert (None if data is None else parse_object(data)) == (DOCUMENT if text == KEPT else None)
