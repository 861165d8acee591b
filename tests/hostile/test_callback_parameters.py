"""What the authorization endpoint can send the browser back with."""

import time
from typing import Any
from urllib.parse import quote

import pytest

from spatio_django.oidc.authorization import MAX_CODE
from spatio_django.oidc.refusal import KNOWN_ERRORS
from tests.hostile.conftest import DISCOVERY, KEYS, TOKEN, USERINFO, Hostile, with_parameters

#: Raw values that no form encoder makes.
RAW = {
    "not utf-8": "%FF%FE",
    "overlong": "%C0%AE",
    "surrogate": "%ED%A0%80",
    "NUL": "a%00b",
    "line break": "a%0D%0AX-Injected:%201",
    "escape": "%1B[2J",
    "delete": "a%7F",
    "umlaut": "%C3%BC",
    "right to left": "%E2%80%AE",
}


def arrive(hostile: Hostile, **parameters: Any) -> None:
    """Have the browser come back with other parameters; ``None`` takes one away."""
    hostile.callback = lambda callback: with_parameters(callback, **parameters)


def arrive_raw(hostile: Hostile, name: str, text: str) -> None:
    """Have it come back with a parameter spelled as it is."""
    hostile.callback = lambda callback: f"{with_parameters(callback, **{name: None})}&{name}={text}"


def asked_nobody(hostile: Hostile) -> None:
    """See that no code, right or wrong, went anywhere."""
    assert TOKEN not in hostile.front.calls


# --- code -------------------------------------------------------------------------------------------------


def test_a_callback_has_one_usable_code(hostile: Hostile, subtests: pytest.Subtests) -> None:
    """Anything else is not sent to the token endpoint."""
    hostile.accepts()
    for name, code in {
        "absent": None,
        "empty": "",
        "twice": ["a", "b"],
        "the same twice": ["a", "a"],
        "one empty": ["", "a"],
        "long": "x" * (MAX_CODE + 1),
        "umlaut": "ü",
        "tab": "a\tb",
    }.items():
        with subtests.test(name):
            arrive(hostile, code=code)
            hostile.refuses("code")
            asked_nobody(hostile)
    for name, text in RAW.items():
        with subtests.test(name):
            arrive_raw(hostile, "code", text)
            hostile.refuses("code")
            asked_nobody(hostile)


@pytest.mark.parametrize(
    "code", ["x", "x" * MAX_CODE, "a b", "'\"<>&=%+", " ", "code%00", "../", "😀"[:0] or "~"]
)
def test_a_code_that_the_provider_does_not_know_is_refused_by_it(hostile: Hostile, code: str) -> None:
    """It is sent as it is, form-encoded, and the provider's own word is what the page says."""
    hostile.accepts()
    arrive(hostile, code=code)

    hostile.refuses("invalid_grant", 403)


def test_a_code_of_another_sign_in_is_not_redeemed_here(hostile: Hostile) -> None:
    """The verifier is this browser's, and the code another's (RFC 7636 §4.6)."""
    hostile.accepts()
    other = hostile.browser()
    stolen = (
        hostile.authorize(hostile.begin(other), session=hostile.jar).partition("code=")[2].partition("&")[0]
    )
    arrive(hostile, code=stolen)

    hostile.refuses("invalid_grant", 403)


# --- state ------------------------------------------------------------------------------------------------


def test_a_callback_has_the_state_of_this_browser(hostile: Hostile, subtests: pytest.Subtests) -> None:
    """Nothing is asked of the provider, whatever else the callback brings."""
    hostile.accepts()
    for name, state, code in (
        ("absent", None, "state_missing"),
        ("empty", "", "state_missing"),
        ("twice", ["a", "b"], "state_repeated"),
        ("unknown", "x" * 43, "state"),
        ("long", "x" * 20_000, "state"),
        ("umlaut", "ü", "state"),
        ("space", " ", "state"),
    ):
        for extra in ({}, {"error": "access_denied"}, {"iss": "https://evil.example"}):
            with subtests.test(name, **extra):
                arrive(hostile, state=state, **extra)
                hostile.refuses(code, 400)
                asked_nobody(hostile)
    for name, text in RAW.items():
        with subtests.test(name):
            arrive_raw(hostile, "state", text)
            hostile.refuses("state", 400)
    with subtests.test("the right one, twice"):
        hostile.callback = lambda callback: callback + "&" + callback.partition("?")[2]
        hostile.refuses("state_repeated", 400)
    with subtests.test("the right one, in capitals"):
        hostile.callback = lambda callback: with_parameters(
            callback, state=callback.partition("state=")[2].partition("&")[0].swapcase()
        )
        hostile.refuses("state", 400)


# --- iss --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("promised", [False, True])
def test_an_issuer_that_is_named_is_the_right_one(
    hostile: Hostile, promised: bool, subtests: pytest.Subtests
) -> None:
    """RFC 9207: before code and error; and missing only where it was not promised."""
    issuer = hostile.spatio.issuer
    hostile.change_members(DISCOVERY, authorization_response_iss_parameter_supported=promised)
    arrive(hostile, iss=issuer)
    hostile.accepts()
    for name, iss in {
        "another": "https://evil.example",
        "slash": issuer + "/",
        "capitals": issuer.upper(),
        "empty": "",
        "twice": [issuer, issuer],
        "the right one and another": [issuer, "https://evil.example"],
        "name": issuer.replace("127.0.0.1", "localhost"),
        "space": issuer + " ",
    }.items():
        for extra in ({}, {"error": "server_error", "code": None}):
            with subtests.test(name, **extra):
                arrive(hostile, iss=iss, **extra)
                hostile.refuses("iss")
                asked_nobody(hostile)
    arrive(hostile, iss=None)
    if promised:
        hostile.refuses("iss")
    else:
        hostile.accepts()


# --- error ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("beside", ["alone", "code"])
def test_an_error_is_named_by_its_own_code(hostile: Hostile, beside: str, subtests: pytest.Subtests) -> None:
    """Registered ones as they are, others as unknown; and a code beside an error is not redeemed."""
    hostile.accepts()
    others = {
        "unknown": "no_such_error",
        "ours": "site_error",
        "capitals": "ACCESS_DENIED",
        "space": "access_denied ",
        "markup": "<script>alert(1)</script>",
        "lines": "a\r\nSet-Cookie: a=b",
        "huge": "x" * 10_000,
        "umlaut": "ü",
        "twice": ["server_error", "access_denied"],
    }
    code = {} if beside == "code" else {"code": None}
    for error in sorted(KNOWN_ERRORS - {"access_denied"}):
        with subtests.test(error):
            arrive(hostile, error=error, **code)
            hostile.refuses(error, 403)
            asked_nobody(hostile)
    for name, value in others.items():
        with subtests.test(name):
            arrive(hostile, error=value, **code)
            response = hostile.refuses("unknown_error", 403)
            assert "alert(1)" not in response.content.decode()
            assert "Set-Cookie" not in response.content.decode()
            asked_nobody(hostile)
    for name, text in RAW.items():
        with subtests.test(name):
            arrive_raw(hostile, "error", text)
            hostile.refuses("unknown_error", 403)


def test_a_description_is_for_the_log_and_stays_a_line(hostile: Hostile, subtests: pytest.Subtests) -> None:
    """Neither description nor URI is on the page: whoever makes a link would write there."""
    hostile.accepts()
    for name, text in {
        "plain": "The moon is full.",
        "markup": "<img src=x onerror=alert(1)>",
        "lines": "one\r\nERROR spatio_django: forged",
        "escape": "\x1b[2J\x1b]0;title\x07",
        "huge": "y" * 20_000,
        "link": "javascript:alert(1)",
    }.items():
        with subtests.test(name):
            arrive(hostile, error="server_error", error_description=text, error_uri=text, code=None)
            page = hostile.refuses("server_error", 403).content.decode()
            assert text[:12] not in page
            assert quote(text[:12]) not in page


def test_an_error_that_says_nothing_is_none(hostile: Hostile) -> None:
    """An empty parameter is an absent one (RFC 6749 §3.1)."""
    arrive(hostile, error="", error_description="")

    hostile.accepts()


# --- the rest ---------------------------------------------------------------------------------------------


def test_other_parameters_do_not_matter(hostile: Hostile, subtests: pytest.Subtests) -> None:
    """RFC 6749 §4.1.2: unrecognised ones are ignored; least of all are they believed."""
    for name, value in {
        "session_state": "x",
        "scope": "openid admin",
        "token_type": "bearer",
        "access_token": "tok_of_somebody_else",
        "id_token": "e30.e30.e30",
        "expires_in": "x",
        "next": "https://evil.example",
        "redirect_uri": "https://evil.example",
        "response": "e30.e30.e30",
        "client_id": "x",
        "nonce": "x",
        "user": '{"is_superuser": true}',
        "": "x",
        "x": ["y"] * 50,
        "once_more": "1",
    }.items():
        with subtests.test(name):
            arrive(hostile, **{name: value})
            hostile.accepts()


@pytest.mark.parametrize(
    "junk", ["&&&", "&=&=", "&x", "&%", "&%zz=%", "&x[]=1&x[a]=2", "&;", "#fragment", "&a=1;b=2"]
)
def test_junk_beside_the_parameters_does_not_matter(hostile: Hostile, junk: str) -> None:
    """What is no parameter is none."""
    hostile.callback = lambda callback: callback + junk

    hostile.accepts()


def test_an_answer_that_is_no_code_at_all_is_refused(hostile: Hostile) -> None:
    """JARM, implicit and hybrid answers bring none, or in another place."""
    hostile.accepts()
    for parameters in (
        {"response": "e30.e30.e30"},
        {"id_token": "e30.e30.e30"},
        {"access_token": "tok_x", "token_type": "bearer"},
        {"vp_token": "x"},
    ):
        arrive(hostile, code=None, **parameters)
        hostile.refuses("code")


def test_an_address_of_a_mebibyte_is_answered(hostile: Hostile) -> None:
    """Servers cut addresses before; whatever comes through is judged in no time."""
    hostile.accepts()
    began = time.monotonic()
    arrive(hostile, code="x" * 1_000_000)
    hostile.refuses("code")
    arrive(hostile, error="x" * 1_000_000)
    hostile.refuses("unknown_error", 403)
    assert time.monotonic() - began < 4


def test_a_callback_works_once(hostile: Hostile) -> None:
    """Whatever the first one ended with, the second asks nobody."""
    hostile.accepts()
    hostile.answer_status(TOKEN, "500 Oops")
    browser = hostile.browser()
    callback = hostile.authorize(hostile.begin(browser), session=hostile.jar)
    assert browser.get(callback).context["code"] == "bad_status"
    hostile.be_honest()

    response = browser.get(callback)

    assert (response.status_code, response.context["code"]) == (400, "state_used")
    assert not {TOKEN, KEYS, USERINFO} & set(hostile.front.calls)
