"""Any claims: a user that the database takes, or a refusal with a code; the same person next time."""

import unicodedata
from collections.abc import Iterator
from typing import Any

import pytest
from django.contrib.auth import get_user_model
from django.db import transaction
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from spatio_django.backends import KEPT_CLAIMS, MAX_CLAIM, SpatioBackend, clean_claims, clean_text
from spatio_django.exceptions import LoginRefused
from spatio_django.flow import CompletedLogin, merged
from spatio_django.models import SpatioAccount
from spatio_django.oidc.responses import TokenResponse
from spatio_django.oidc.secret import Secret
from tests.properties.support import ODDITIES, RAW_TEXT, always, changed, is_plain, json_values, judged, part

User = get_user_model()
in_database = settings(part(0.5), suppress_health_check=[HealthCheck.function_scoped_fixture])

ADA = {
    "sub": "person",
    "name": "Ada Lovelace",
    "given_name": "Ada",
    "family_name": "Lovelace",
    "preferred_username": "ada",
    "email": "ada@example.com",
    "email_verified": True,
    "picture": "https://provider.example/ada.svg",
    "updated_at": 1_800_000_000,
}
LONG = (
    "ﷺ" * 500,
    "a" * 3000,
    "x" * 149 + " y",
    "@" * 200,
    "e\u0301" * 200,
    "\u202eada",
    "ada\u200d",
    "ADA",
    "Spatio",
)
NAMES = (
    RAW_TEXT
    | st.sampled_from(LONG)
    | st.builds(lambda text, times: text * times, RAW_TEXT, st.integers(1, 60))
)
#: As the protocol lets them through: no NUL, no surrogate, no number that is none. Or not even that.
CLAIMS = changed(ADA, *LONG, True, 2**53, "true") | st.dictionaries(
    st.sampled_from([*ADA]), NAMES, max_size=5
)
PLAIN_CLAIMS = CLAIMS.filter(is_plain)


def is_storable(text: str) -> bool:
    """Tell whether every database and page takes *text*."""
    return not any(unicodedata.category(char) in {"Cc", "Cs"} for char in text)


@given(NAMES | json_values(), st.sampled_from([1, 2, 150, MAX_CLAIM]))
@always((f"a{odd}b", 150) for odd in (*ODDITIES, "\ud800"))
@always((text, most) for text in LONG for most in (1, 3, 150))
@example("ab cd", 3)
def test_any_claim_becomes_a_text_that_can_be_kept(value: object, most: int) -> None:
    """Without control characters and lone surrogates, and short enough; cleaned twice is cleaned once."""
    text = clean_text(value, most=most)

    assert is_storable(text)
    assert len(text) <= most
    assert text == text.strip()
    assert clean_text(text, most=most) == text
    if isinstance(value, str) and is_storable(value) and len(value) <= most:
        assert text == value.strip()


@given(CLAIMS)
def test_any_claims_are_kept_as_the_types_that_they_should_have(claims: dict[str, Any]) -> None:
    """What is of another type is left out; what is kept can be kept again."""
    kept = clean_claims(claims)

    assert {*kept} <= {*KEPT_CLAIMS}
    assert is_plain(kept)
    assert clean_claims(kept) == kept
    for name, value in kept.items():
        kind = {"email_verified": bool, "updated_at": int}.get(name, str)
        assert type(value) is kind
        assert value == claims[name] if kind is not str else value


@given(CLAIMS, CLAIMS)
def test_an_address_is_verified_only_by_who_gave_it(token: dict[str, Any], userinfo: dict[str, Any]) -> None:
    """The ID token's word about its own address is not userinfo's about another one."""
    claims = merged(token, userinfo)
    speaker = userinfo if "email" in userinfo else token

    assert claims.get("email") == speaker.get("email")
    assert claims.get("email_verified") == speaker.get("email_verified")
    assert {*claims} - {"email_verified"} == ({*token} | {*userinfo}) - {"email_verified"}


# Users


@pytest.fixture
def backend(db: None) -> Iterator[SpatioBackend]:
    """Give a backend, on a site that has an Ada already."""
    User.objects.create_user("ada", "ada@example.com")
    User.objects.create_user("spatio")
    User.objects.create_user("a" * 150)
    return SpatioBackend()


def complete(claims: dict[str, Any], subject: str) -> CompletedLogin:
    """Give a sign-in of *subject* that held."""
    return CompletedLogin(
        issuer="https://provider.example",
        subject=subject,
        client_id="client",
        claims=claims,
        id_token_claims={"sub": subject},
        tokens=TokenResponse(access_token=Secret("tok")),
        scopes=("openid",),
        next_url=None,
    )


@in_database
@given(PLAIN_CLAIMS)
@always(({**ADA, "preferred_username": name},) for name in LONG)
def test_any_claims_give_a_username_that_the_site_takes(
    backend: SpatioBackend, claims: dict[str, Any]
) -> None:
    """It fits the field, its validators like it, and nobody has it."""
    username = backend.get_username(claims)

    User._meta.get_field("username").clean(username, None)
    assert not User.objects.filter(username__iexact=username).exists()
    assert "@" not in username
    assert is_storable(username)


@in_database
@given(
    PLAIN_CLAIMS,
    PLAIN_CLAIMS,
    st.text(st.characters(exclude_categories=["Cc", "Cs"]), min_size=1, max_size=255),
)
def test_anybody_signs_in_and_is_the_same_person_next_time(
    backend: SpatioBackend, first: dict[str, Any], second: dict[str, Any], subject: str
) -> None:
    """With any claims, in any alphabet; others later make no second user. It is read as it was kept."""
    with transaction.atomic():
        before = User.objects.count()
        account = judged(lambda: backend.get_account(complete(first, subject)))
        assert isinstance(account, SpatioAccount)
        again = judged(lambda: backend.get_account(complete(second, subject)))
        assert isinstance(again, SpatioAccount)
        stored = SpatioAccount.objects.select_related("user").get(pk=account.pk)

        assert again.pk == account.pk
        assert User.objects.count() == before + 1
        assert (stored.sub, stored.claims) == (subject, clean_claims(second))
        user = stored.user
        assert (user.username, user.first_name, user.last_name, user.email) == (
            account.user.username,
            account.user.first_name,
            account.user.last_name,
            account.user.email,
        )
        assert not user.has_usable_password()
        assert (user.is_staff, user.is_superuser) == (False, False)
        transaction.set_rollback(True)


@in_database
@given(
    st.text(
        st.sampled_from([*"aAbBsS019 ._-", "ß", "\u017f", "\u212a", "é", "\u0301", "İ"]),
        min_size=1,
        max_size=4,
    ),
    st.data(),
)
def test_another_subject_is_another_person(backend: SpatioBackend, subject: str, data: st.DataObject) -> None:
    """Even if it differs in case, in an accent or in a space at its end, which some databases pass over."""
    variants = {
        subject.upper(),
        subject.lower(),
        subject + " ",
        unicodedata.normalize("NFD", subject),
        subject + "x",
    }
    other = data.draw(st.sampled_from(sorted(variants - {subject})))
    with transaction.atomic():
        one = backend.get_account(complete({"sub": subject}, subject))
        two = backend.get_account(complete({"sub": other}, other))

        assert one.user_id != two.user_id
        transaction.set_rollback(True)


@in_database
@given(PLAIN_CLAIMS, st.booleans())
def test_an_existing_user_is_joined_by_a_verified_address_only(
    backend: SpatioBackend, settings: Any, claims: dict[str, Any], is_on: bool
) -> None:
    """The very address that was verified; and only on a site that says so."""
    settings.SPATIO_LINK_VERIFIED_EMAIL = is_on
    found = list(backend.filter_users_by_claims(claims))

    if found:
        assert is_on
        assert claims["email_verified"] is True
        assert claims["email"].lower() == "ada@example.com"
        assert [user.username for user in found] == ["ada"]
    else:
        assert not (
            is_on and claims.get("email") == "ada@example.com" and claims.get("email_verified") is True
        )


@in_database
@given(PLAIN_CLAIMS)
def test_a_site_that_creates_nobody_refuses_whoever_it_does_not_know(
    backend: SpatioBackend, settings: Any, claims: dict[str, Any]
) -> None:
    """With a code, and without a trace."""
    settings.SPATIO_CREATE_USERS = False
    result = judged(lambda: backend.get_account(complete(claims, "person")))

    assert isinstance(result, LoginRefused)
    assert result.code == "no_account"
    assert not SpatioAccount.objects.exists()
