"""spatio_django.oidc.id_token: Core §3.1.3.7, rule by rule."""

import base64
import hashlib
from typing import Any

import pytest

from spatio_django.exceptions import InvalidToken
from spatio_django.oidc.id_token import (
    MAX_TIME,
    check_id_token,
    check_refreshed_id_token,
    check_subject,
)
from spatio_django.oidc.secret import Secret
from tests.oidc.support import CLAIMS, CLIENT_ID, ISSUER, NOW

ACCESS_TOKEN = Secret("tok_0123456789")
AT_HASH = base64.urlsafe_b64encode(hashlib.sha256(b"tok_0123456789").digest()[:16]).decode().rstrip("=")
ABSENT = object()


def check(changes: dict[str, Any] | None = None, **options: Any) -> None:
    """Check the usual claims, with some changed, for the usual login."""
    claims = {name: value for name, value in (CLAIMS | (changes or {})).items() if value is not ABSENT}
    usual: dict[str, Any] = {
        "issuer": ISSUER,
        "client_id": CLIENT_ID,
        "nonce": Secret("a nonce"),
        "access_token": ACCESS_TOKEN,
        "max_age": None,
        "now": NOW,
    }
    check_id_token(claims, **(usual | options))


@pytest.mark.parametrize(
    ("changes", "options"),
    [
        pytest.param({}, {}, id="plain"),
        pytest.param({}, {"nonce": "a nonce"}, id="nonce-as-text"),
        pytest.param({"aud": [CLIENT_ID]}, {}, id="aud-as-array"),
        pytest.param({"aud": [CLIENT_ID], "azp": CLIENT_ID}, {}, id="azp-ours"),
        pytest.param({"exp": NOW - 59.5}, {}, id="expired-within-leeway"),
        pytest.param({"iat": NOW + 60}, {}, id="clock-ahead-within-leeway"),
        pytest.param({"iat": NOW - 7 * 86400}, {}, id="iat-a-week-ago"),
        pytest.param({"iat": NOW - 10.25, "exp": NOW + 0.5}, {}, id="fractions"),
        pytest.param({"nbf": NOW + 60}, {}, id="nbf-within-leeway"),
        pytest.param({"at_hash": AT_HASH}, {}, id="at-hash"),
        pytest.param({"auth_time": NOW - 9999}, {}, id="auth-time-not-asked-for"),
        pytest.param({"auth_time": NOW - 360}, {"max_age": 300}, id="auth-time-within-leeway"),
        pytest.param({"auth_time": NOW}, {"max_age": 0}, id="max-age-zero"),
        pytest.param({"auth_time": NOW + 60}, {"max_age": 0}, id="auth-time-ahead-within-leeway"),
        pytest.param({"iat": 0, "exp": MAX_TIME}, {}, id="the-ends-of-time"),
        pytest.param({"sub": "a"}, {}, id="sub-short"),
        pytest.param({"sub": "x" * 255}, {}, id="sub-long"),
        pytest.param({"sub": "雪|Zoë 🐈"}, {}, id="sub-in-any-alphabet"),
        pytest.param({"email": None, "amr": ["pwd"], "acr": 1}, {}, id="other-claims-of-any-type"),
    ],
)
def test_an_honest_id_token_passes(changes: dict[str, Any], options: dict[str, Any]) -> None:
    """Every reading that the standard allows, and a clock that is a minute wrong."""
    check(changes, **options)


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        pytest.param({"iss": ABSENT}, "iss", id="iss-missing"),
        pytest.param({"iss": ISSUER + "1"}, "iss", id="invalid-iss"),
        pytest.param({"iss": ISSUER + "/"}, "iss", id="issuer-with-trailing-slash"),
        pytest.param({"iss": ISSUER.upper()}, "iss", id="issuer-in-upper-case"),
        pytest.param({"iss": [ISSUER]}, "iss", id="iss-as-array"),
        pytest.param({"aud": ABSENT}, "aud", id="missing-aud"),
        pytest.param({"aud": None}, "aud", id="aud-null"),
        pytest.param({"aud": "stranger"}, "aud", id="invalid-aud"),
        pytest.param({"aud": CLIENT_ID + "1"}, "aud", id="aud-prefix"),
        pytest.param({"aud": []}, "aud", id="aud-empty"),
        pytest.param({"aud": ["stranger"]}, "aud", id="aud-array-of-strangers"),
        pytest.param({"aud": [CLIENT_ID, "stranger"]}, "aud", id="invalid-secondary-aud"),
        pytest.param({"aud": [CLIENT_ID, "stranger"], "azp": CLIENT_ID}, "aud", id="secondary-aud-with-azp"),
        pytest.param({"aud": [CLIENT_ID, 7]}, "aud", id="aud-not-a-string"),
        pytest.param({"aud": {CLIENT_ID: 1}}, "aud", id="aud-object"),
        pytest.param({"azp": "stranger"}, "azp", id="azp-of-another"),
        pytest.param({"azp": None}, "azp", id="azp-null"),
        pytest.param({"azp": [CLIENT_ID]}, "azp", id="azp-array"),
        pytest.param({"exp": ABSENT}, "exp", id="missing-exp"),
        pytest.param({"exp": None}, "exp", id="exp-null"),
        pytest.param({"exp": NOW - 60}, "exp", id="expired"),
        pytest.param({"exp": "9999999999"}, "exp", id="exp-as-string"),
        pytest.param({"exp": True}, "exp", id="exp-true"),
        pytest.param({"exp": MAX_TIME + 1}, "exp", id="exp-after-the-year-9999"),
        pytest.param({"exp": 1e300}, "exp", id="exp-huge"),
        pytest.param({"exp": 10**30}, "exp", id="exp-huge-integer"),
        pytest.param({"exp": float("inf")}, "exp", id="exp-infinite"),
        pytest.param({"exp": float("nan")}, "exp", id="exp-nan"),
        pytest.param({"exp": -1}, "exp", id="exp-negative"),
        pytest.param({"iat": ABSENT}, "iat", id="missing-iat"),
        pytest.param({"iat": NOW + 61}, "iat", id="issued-in-the-future"),
        pytest.param({"iat": "1"}, "iat", id="iat-as-string"),
        pytest.param({"iat": False}, "iat", id="iat-false"),
        pytest.param({"nbf": NOW + 61}, "nbf", id="not-yet"),
        pytest.param({"nbf": None}, "nbf", id="nbf-null"),
        pytest.param({"nonce": ABSENT}, "nonce", id="missing-nonce"),
        pytest.param({"nonce": None}, "nonce", id="nonce-null"),
        pytest.param({"nonce": ""}, "nonce", id="nonce-empty"),
        pytest.param({"nonce": "a nonce1"}, "nonce", id="invalid-nonce"),
        pytest.param({"nonce": ["a nonce"]}, "nonce", id="nonce-array"),
        pytest.param({"nonce": "a noncë"}, "nonce", id="nonce-not-ascii"),
        pytest.param({"sub": ABSENT}, "sub", id="missing-sub"),
        pytest.param({"sub": ""}, "sub", id="sub-empty"),
        pytest.param({"sub": 7}, "sub", id="sub-number"),
        pytest.param({"sub": "x" * 256}, "sub", id="sub-too-long"),
        pytest.param({"sub": "a\nb"}, "sub", id="sub-with-line-break"),
        pytest.param({"sub": "a\x85b"}, "sub", id="sub-with-c1-control"),
        pytest.param({"sub": "a\ud800"}, "sub", id="sub-with-lone-surrogate"),
        pytest.param({"auth_time": "1"}, "auth_time", id="auth-time-as-string"),
        pytest.param({"auth_time": None}, "auth_time", id="auth-time-null"),
        pytest.param({"auth_time": NOW + 61}, "auth_time", id="auth-time-in-the-future"),
        pytest.param({"at_hash": AT_HASH[:-1]}, "at_hash", id="at-hash-short"),
        pytest.param({"at_hash": ""}, "at_hash", id="at-hash-empty"),
        pytest.param({"at_hash": None}, "at_hash", id="at-hash-null"),
        pytest.param({"at_hash": AT_HASH + "=="}, "at_hash", id="at-hash-padded"),
    ],
)
def test_id_token_is_rejected(changes: dict[str, Any], code: str) -> None:
    """Each claim that Core §3.1.3.7 constrains is enforced; the error names it and not its value."""
    check()

    with pytest.raises(InvalidToken) as caught:
        check(changes)

    assert caught.value.code == code
    assert caught.value.context == {}


@pytest.mark.parametrize(
    ("changes", "max_age"),
    [
        pytest.param({}, 300, id="missing"),
        pytest.param({"auth_time": NOW - 361}, 300, id="too-long-ago"),
        pytest.param({"auth_time": NOW - 61}, 0, id="not-now"),
    ],
)
def test_a_requested_max_age_needs_a_recent_auth_time(changes: dict[str, Any], max_age: int) -> None:
    """A provider that ignores ``max_age`` must not pass for one that asked the person again."""
    check({"auth_time": NOW}, max_age=max_age)

    with pytest.raises(InvalidToken) as caught:
        check(changes, max_age=max_age)

    assert caught.value.code == "auth_time"


def test_at_hash_ties_the_access_token_to_the_sign_in() -> None:
    """Another access token, or none to compare with, does not pass for the one that was issued along."""
    check({"at_hash": AT_HASH})

    for access_token in (Secret("tok_other"), None):
        with pytest.raises(InvalidToken) as caught:
            check({"at_hash": AT_HASH}, access_token=access_token)
        assert caught.value.code == "at_hash"


@pytest.mark.parametrize("nonce", [Secret(""), "", Secret("another")])
def test_a_login_without_a_nonce_accepts_none(nonce: Secret | str) -> None:
    """Two empty nonces are not equal: they are two missing ones."""
    check()

    for claimed in ("", "a nonce"):
        with pytest.raises(InvalidToken) as caught:
            check({"nonce": claimed}, nonce=nonce)
        assert caught.value.code == "nonce"


def test_check_subject_returns_the_subject() -> None:
    """For callers that have one from elsewhere."""
    assert check_subject("person") == "person"


# --- of a refresh -----------------------------------------------------------------------------------------

ORIGINAL = {"iss": ISSUER, "sub": "person", "aud": CLIENT_ID, "auth_time": int(NOW) - 60}


@pytest.mark.parametrize(
    ("changes", "original"),
    [
        ({}, {}),
        ({"aud": [CLIENT_ID]}, {}),
        ({"aud": CLIENT_ID}, {"aud": [CLIENT_ID]}),
        ({"aud": [CLIENT_ID, CLIENT_ID]}, {}),
        ({"aud": ["b", CLIENT_ID], "azp": CLIENT_ID}, {"aud": [CLIENT_ID, "b"], "azp": CLIENT_ID}),
        ({"azp": CLIENT_ID}, {}),
        ({"azp": None}, {}),
        ({}, {"azp": CLIENT_ID}),
        ({"azp": CLIENT_ID}, {"azp": CLIENT_ID}),
        # Nothing is taken from it, so it may say what it likes about the rest.
        ({"exp": 0, "iat": "never", "nbf": 10**30, "auth_time": [], "nonce": "another", "at_hash": 7}, {}),
    ],
)
def test_a_refreshed_id_token_about_the_same_person_passes(
    changes: dict[str, Any], original: dict[str, Any]
) -> None:
    """Same issuer, same person, same audience; Core §12.2."""
    check_refreshed_id_token(ORIGINAL | changes, original=ORIGINAL | original)


STRANGERS: dict[str, tuple[Any, ...]] = {
    "iss": (ISSUER + "/", ISSUER.upper(), "", None, [ISSUER], 7, {}),
    "sub": ("other", "Person", "person ", "", None, ["person"], 7, True),
    "aud": (
        *("other", "", None, [], {}, 7, True, CLIENT_ID.upper()),
        *([CLIENT_ID, "other"], [CLIENT_ID, 7], [[CLIENT_ID]], [None]),
    ),
    "azp": ("other", "", 7, True, {}, [], [CLIENT_ID], {"a": CLIENT_ID}),
}


@pytest.mark.parametrize(
    ("changes", "code"),
    [({name: value}, name) for name, values in STRANGERS.items() for value in values],
    ids=repr,
)
def test_a_refreshed_id_token_about_anybody_else_is_refused(changes: dict[str, Any], code: str) -> None:
    """By the claim's name; also what is no name at all, and what Python can't look up in a set."""
    check_refreshed_id_token(ORIGINAL, original=ORIGINAL)

    with pytest.raises(InvalidToken) as caught:
        check_refreshed_id_token(ORIGINAL | changes, original=ORIGINAL)

    assert caught.value.code == code


@pytest.mark.parametrize("name", ["iss", "sub", "aud"])
def test_a_refreshed_id_token_says_whom_it_is_about(name: str) -> None:
    """What it leaves out is not taken from the first one."""
    with pytest.raises(InvalidToken) as caught:
        check_refreshed_id_token({k: v for k, v in ORIGINAL.items() if k != name}, original=ORIGINAL)

    assert caught.value.code == name
