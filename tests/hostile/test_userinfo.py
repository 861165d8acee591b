"""Userinfo: about whom it is, and claims of other types than they should have."""

import json
import unicodedata
from typing import Any

import pytest
from django.contrib.auth import get_user_model

from tests.hostile.conftest import TOKEN, USERINFO, Hostile
from tests.hostile.values import ABSENT, VALUES

User = get_user_model()

TEXTS = ("name", "given_name", "family_name", "preferred_username", "email", "picture")
#: Claims that mean nothing here, and would mean a lot elsewhere.
UNUSED = (
    "iss",
    "aud",
    "exp",
    "nonce",
    "at_hash",
    "is_staff",
    "is_superuser",
    "groups",
    "roles",
    "permissions",
    "user",
    "pk",
    "id",
    "password",
    "is_active",
    "_claim_names",
    "_claim_sources",
    "address",
    "x_unknown",
)


@pytest.mark.parametrize("name", VALUES)
def test_userinfo_about_anybody_else_is_refused(hostile: Hostile, name: str) -> None:
    """Whatever stands where the same ``sub`` has to stand (Core §5.3.2)."""
    hostile.accepts()
    hostile.change_members(USERINFO, sub=VALUES[name])

    hostile.refuses("userinfo_sub")


def test_a_subject_that_looks_the_same_is_another(hostile: Hostile, subtests: pytest.Subtests) -> None:
    """Case, white space, what can't be seen, and what Unicode calls equivalent."""
    composed = "Zoë"
    changes: dict[str, tuple[Any, Any]] = {
        "case": ("acc", "ACC"),
        "space": ("acc", "acc "),
        "line break": ("acc", "acc\n"),
        "zero width": ("acc", "acc\u200b"),
        "prefix": ("acc", "ac"),
        "list": ("acc", ["acc"]),
        "number": ("7", 7),
        "decomposed": (composed, unicodedata.normalize("NFD", composed)),
        "full width": ("acc", "\uff41\uff43\uff43"),
        "homograph": ("acc", "\u0430cc"),
        "long s": ("ses", "\u017fes"),
    }
    for name, (claimed, told) in changes.items():
        with subtests.test(name):
            hostile.change_claims(sub=claimed)
            hostile.change_members(USERINFO, sub=claimed)
            hostile.accepts(sub=claimed)
            hostile.change_members(USERINFO, sub=told)
            hostile.refuses("userinfo_sub")


def kept(value: Any) -> Any:
    """Give what is kept of a text claim: text, without control characters, to a length; else nothing."""
    if not isinstance(value, str):
        return None
    return value.replace("\n", "").strip()[:2048] or None


@pytest.mark.parametrize("claim", TEXTS)
def test_a_claim_that_is_no_text_counts_as_absent(
    hostile: Hostile, claim: str, subtests: pytest.Subtests
) -> None:
    """People sign in by their ``sub``; a name of the wrong type costs the name."""
    hostile.accepts()
    for name, value in VALUES.items():
        with subtests.test(name):
            hostile.change_members(USERINFO, **{claim: value})
            expected = {claim: kept(value)}
            if claim == "email" and value is ABSENT:
                expected["email_verified"] = None  # of which address?
            hostile.accepts(**expected)


@pytest.mark.parametrize("name", VALUES)
def test_flags_and_times_have_their_type_or_count_as_absent(hostile: Hostile, name: str) -> None:
    """``"false"`` is not true, and neither is ``"true"``."""
    value = VALUES[name]
    hostile.change_members(USERINFO, email_verified=value, updated_at=value)

    grant = hostile.accepts(
        email_verified=value if isinstance(value, bool) else None,
        updated_at=value if type(value) is int and abs(value) < 2**53 else None,
    )

    assert grant.account.email_verified is (value is True)


@pytest.mark.parametrize("name", VALUES)
def test_claims_that_are_not_used_may_be_anything(hostile: Hostile, name: str) -> None:
    """They make nobody staff, and nobody somebody else; and are not kept."""
    value = VALUES[name][:1000] if isinstance(VALUES[name], str) else VALUES[name]
    hostile.change_members(USERINFO, **dict.fromkeys(UNUSED, value))

    grant = hostile.accepts()

    assert not set(grant.account.claims) & set(UNUSED)
    assert grant.account.issuer == hostile.spatio.issuer


def user_after(hostile: Hostile, **claims: Any) -> Any:
    """Sign in with these claims; give the user."""
    hostile.forget_people()
    hostile.change_members(USERINFO, **claims)
    response = hostile.walk(hostile.browser())
    assert response.status_code == 302, response.content
    return User.objects.get()


def test_the_user_gets_what_the_fields_can_hold(hostile: Hostile, subtests: pytest.Subtests) -> None:
    """Too long, in control characters or markup: a user is made whom every page can show."""
    for name, text in {
        "long": "x" * 10_000,
        "controls": "A\x1b[2J\u0085\x7fda",
        "line breaks": "A\r\nda",
        "markup": "<script>alert(1)</script>",
        "sql": "'; DROP TABLE auth_user; --",
        "right to left": "\u202eadA",
        "zero width": "\u200b" * 50,
        "combining": "a" + "\u0301" * 500,
        "emoji": "🐈" * 200,
        "private use": "\ue000\uf8ff",
        "only spaces": "   ",
        "template": "{{ 7|add:7 }}{% now %}",
        "dots": "../../etc/passwd",
        "@": "admin@example.com",
    }.items():
        with subtests.test(name):
            user = user_after(
                hostile, **dict.fromkeys(("name", "given_name", "family_name", "preferred_username"), text)
            )
            assert len(user.first_name) <= 150
            assert len(user.last_name) <= 150
            assert 1 <= len(user.username) <= 150
            user.full_clean(exclude=["password"])
            assert not any(ord(char) < 32 for char in user.first_name + user.last_name + user.username)


@pytest.mark.parametrize(
    ("email", "expected"),
    [
        ("ada@example.com", "ada@example.com"),
        ("Ada@EXAMPLE.com", "Ada@example.com"),
        ("x" * 250 + "@example.com", ""),
        (["ada@example.com"], ""),
        (7, ""),
        ("", ""),
        (ABSENT, ""),
    ],
    ids=["plain", "capitals", "long", "list", "number", "empty", "absent"],
)
def test_the_user_gets_an_address_or_none(hostile: Hostile, email: Any, expected: str) -> None:
    """An address that is cut would be somebody else's."""
    assert user_after(hostile, email=email).email == expected


def test_userinfo_tells_what_the_id_token_does_not(hostile: Hostile) -> None:
    """And where both speak, it is userinfo's word, with the address's own verification."""
    hostile.change_claims(name="Old", email_verified=True, email=ABSENT)
    hostile.change_members(USERINFO, email="new@example.com", email_verified=ABSENT, name="New")

    hostile.accepts(name="New", email="new@example.com", email_verified=None)


@pytest.mark.parametrize("body", [b"", b'{"error": "invalid_token"}', b"<h1>no</h1>", b"\xff"])
@pytest.mark.parametrize("status", ["401 Unauthorized", "403 Forbidden"])
def test_a_token_that_userinfo_does_not_take_is_named(hostile: Hostile, status: str, body: bytes) -> None:
    """With and without a body, and a challenge of whatever shape."""
    hostile.accepts()
    challenge = 'Bearer error="invalid_token", error_description="\x1b[2J"'
    hostile.answer_status(USERINFO, status, body, {"WWW-Authenticate": challenge})

    hostile.refuses("invalid_token", 403)


def test_an_answer_that_is_a_jwt_is_not_read(hostile: Hostile) -> None:
    """Signed claims were not asked for; under the type of plain ones they are no JSON."""
    hostile.accepts()
    token = hostile.signer.sign({"sub": "acc_2Yh7QmVxK0aDaLovelace", "iss": hostile.spatio.issuer}).encode()
    hostile.answer_status(USERINFO, "200 OK", token, {"Content-Type": "application/jwt"})
    hostile.refuses("userinfo_type")
    hostile.answer_status(USERINFO, "200 OK", token, {"Content-Type": "application/json"})
    hostile.refuses("not_json")
    quoted = json.dumps(token.decode()).encode()
    hostile.answer_status(USERINFO, "200 OK", quoted, {"Content-Type": "application/json"})
    hostile.refuses("not_json")


def test_userinfo_gets_the_token_in_its_header_only(hostile: Hostile) -> None:
    """Whatever the endpoint is called."""
    hostile.change_members(TOKEN)
    hostile.accepts()

    (request,) = hostile.front.calls[USERINFO]
    line, _, rest = request.partition(b"\r\n")
    assert line == b"GET /oauth2/userinfo HTTP/1.1"
    assert rest.lower().count(b"authorization: bearer ") == 1
