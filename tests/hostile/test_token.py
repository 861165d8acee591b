"""The members of the token answer, each with everything that it can be instead."""

from typing import Any

import pytest

from tests.hostile.conftest import TOKEN, Hostile
from tests.hostile.values import ABSENT, VALUES, is_nothing

MEMBERS = ("access_token", "token_type", "expires_in", "refresh_token", "scope", "id_token")
REQUIRED = ("access_token", "token_type", "id_token")
UNUSED = ("x_unknown", "error_description", "error_uri", "state", "client_id", "issued_token_type", "iss")


def judged(member: str, value: Any) -> str | None:
    """Give the code that *value* is refused with, or ``None`` if the sign-in goes on."""
    if is_nothing(value):
        return member if member in REQUIRED else None
    if member == "expires_in":
        return None if not isinstance(value, bool) and value in (0, 1, 3600, "3600") else member
    if not isinstance(value, str):
        return member
    if member == "scope":
        return None
    if member == "access_token":
        # Odd, but it could be a token: only that the ID token's at_hash is of another.
        return "at_hash" if value in {"x", "3600"} else member
    if member == "refresh_token":
        return None if value in {"x", "3600", " "} else member
    if member == "id_token":
        return "malformed" if value in {"x", "3600", " "} else member
    return member


@pytest.mark.parametrize("member", MEMBERS)
def test_a_member_is_what_it_should_be_or_is_named(
    hostile: Hostile, member: str, subtests: pytest.Subtests
) -> None:
    """What is optional may be absent; what is there has its type and its characters."""
    hostile.accepts()
    for name, value in VALUES.items():
        with subtests.test(name):
            hostile.change_members(TOKEN, **{member: value})
            code = judged(member, value)
            if code is not None:
                hostile.refuses(code)
            else:
                grant_is(hostile, member, value)


def grant_is(hostile: Hostile, member: str, value: Any) -> None:
    """See somebody signed in, and a grant that says what was said."""
    text = value if isinstance(value, str) else None
    if member == "scope" and text is not None and "email" not in text:
        # Granted is what was said, so that userinfo is not even asked.
        grant = hostile.accepts(name=None, email=None, email_verified=None)
        assert grant.scopes == set(text.split())
        return
    grant = hostile.accepts()
    if member == "expires_in":
        expected = None if is_nothing(value) else float(value)
        assert (grant.seconds_left is None) == (expected is None)
        assert expected is None or abs((grant.seconds_left or 0) - expected) < 30
    if member == "refresh_token":
        assert (grant.refresh_token and grant.refresh_token.reveal()) == text
    if member == "scope":
        assert grant.scopes == {"openid", "profile", "email"}


@pytest.mark.parametrize("name", [name for name, value in VALUES.items() if value is not ABSENT])
def test_members_that_are_not_used_may_be_anything(hostile: Hostile, name: str) -> None:
    """RFC 6749 §5.1: unrecognised members are ignored."""
    value = VALUES[name][:1000] if isinstance(VALUES[name], str) else VALUES[name]
    hostile.change_members(TOKEN, **dict.fromkeys(UNUSED, value))

    hostile.accepts()


@pytest.mark.parametrize("kind", ["Bearer", "bearer", "BEARER", "bEARER"])
def test_the_type_of_a_token_may_be_written_in_any_case(hostile: Hostile, kind: str) -> None:
    """RFC 6749 §5.1."""
    hostile.change_members(TOKEN, token_type=kind)

    hostile.accepts()


@pytest.mark.parametrize(
    "kind",
    [
        "DPoP",
        "mac",
        "N_A",
        "Bearer ",
        " Bearer",
        "Bearer DPoP",
        "bear",
        "b\u0435arer",
        "BEA\u0280ER",
        "JWT",
        "pop",
    ],
)
def test_a_token_of_another_type_can_not_be_used(hostile: Hostile, kind: str) -> None:
    """RFC 6749 §7.1: a client must not use a token whose type it does not know."""
    hostile.accepts()
    hostile.change_members(TOKEN, token_type=kind)

    hostile.refuses("token_type")


@pytest.mark.parametrize(
    "value",
    [
        *(-1, -3600, 1e300, 10**12, 2**32, 0.5, True, False, [3600], {"seconds": 3600}),
        *("-1", "3600.0", "1e3", "0x10", " 3600", "3600 ", "", "soon", "١٢٣", "9" * 11, "1h", "NaN"),
    ],
    ids=repr,
)
def test_a_lifetime_that_is_none_is_refused(hostile: Hostile, value: Any) -> None:
    """It would overflow somewhere, or it is no number of seconds."""
    hostile.accepts()
    hostile.change_members(TOKEN, expires_in=value)

    hostile.refuses("expires_in")


@pytest.mark.parametrize(
    "value", [0, 1, 60, 3600, 3600.0, "3600", "0", 2_592_000, 2**31 - 1, 2**32 - 1], ids=repr
)
def test_a_lifetime_in_seconds_is_kept(hostile: Hostile, value: Any) -> None:
    """As a number, or as a text of digits; a token that is over at once signs in all the same."""
    hostile.change_members(TOKEN, expires_in=value)

    left = hostile.accepts().seconds_left

    assert left is not None
    assert abs(left - float(value)) < 30


@pytest.mark.parametrize("member", ["access_token", "refresh_token", "id_token"])
@pytest.mark.parametrize(
    "value",
    [
        "a b",
        "a\tb",
        "a\nb",
        "a\r\nX-Injected: 1",
        "a\r",
        "\x7f",
        "\x1b[2J",
        "é",
        "雪",
        "a\u2028b",
        "",
        "\u00a0",
    ],
    ids=repr,
)
def test_a_token_with_characters_that_no_token_has_is_refused(
    hostile: Hostile, member: str, value: str
) -> None:
    """A line break in it would be another header."""
    hostile.accepts()
    hostile.change_members(TOKEN, **{member: value})
    if value == "a b" and member == "refresh_token":  # RFC 6749 §A.17 has the space
        hostile.accepts()
    elif value == "a b" and member == "id_token":
        hostile.refuses("malformed")
    else:
        hostile.refuses(member)


def test_a_token_has_a_largest_size(hostile: Hostile) -> None:
    """8 KiB for what goes into a header, 16 for what is kept."""
    for member, most in (("access_token", 8192), ("refresh_token", 16_384)):
        changes: dict[str, Any] = {member: "x" * most}
        hostile.change_members(TOKEN, **changes)
        if member == "access_token":
            hostile.refuses("at_hash")  # it went as far as that
        else:
            hostile.accepts()
        hostile.change_members(TOKEN, **{member: "x" * (most + 1)})
        hostile.refuses(member)


# --- errors under 200 -------------------------------------------------------------------------------------

ERRORS: dict[str, tuple[Any, str]] = {
    "known": ("invalid_grant", "invalid_grant"),
    "a choice": ("access_denied", "access_denied"),
    "unknown": ("bad_verification_code", "unknown_error"),
    "markup": ("<script>alert(1)</script>", "unknown_error"),
    "number": (7, "unknown_error"),
    "true": (True, "unknown_error"),
    "list": (["invalid_grant"], "unknown_error"),
    "object": ({"code": 400, "message": "no"}, "unknown_error"),
}


@pytest.mark.parametrize("beside", ["tokens", "nothing"])
@pytest.mark.parametrize("name", ERRORS)
def test_an_error_under_200_is_an_error(hostile: Hostile, name: str, beside: str) -> None:
    """Some providers answer so, GitHub for one; and tokens beside an error are not taken."""
    hostile.accepts()
    error, code = ERRORS[name]
    hostile.answer_document(
        TOKEN, lambda document: {**(document if beside == "tokens" else {}), "error": error}
    )

    response = hostile.refuses(code, 403)

    assert "alert(1)" not in response.content.decode()


@pytest.mark.parametrize("error", [None, ""], ids=["null", "empty"])
def test_an_error_that_says_nothing_is_none(hostile: Hostile, error: Any) -> None:
    """As serializers leave it that write every member they know."""
    hostile.change_members(TOKEN, error=error, error_description=error, error_uri=error)

    hostile.accepts()


def test_a_scope_that_is_another_is_what_was_granted(hostile: Hostile) -> None:
    """Less, more, in another order, with other white space between: as said."""
    for scope, granted in {
        "email openid profile": {"openid", "email", "profile"},
        "openid profile email read:* admin": {"openid", "email", "profile", "read:*", "admin"},
        "openid  profile\temail\n": {"openid", "email", "profile"},
        "openid profile email openid": {"openid", "email", "profile"},
    }.items():
        hostile.change_members(TOKEN, scope=scope)
        assert hostile.accepts().scopes == granted
