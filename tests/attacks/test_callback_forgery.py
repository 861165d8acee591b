"""
Callbacks that nobody began here: state, replay, age, forged errors, codes, and other people's sign-ins.

Over real HTTP, byte by byte where the test client would tidy a request up.
"""

from typing import Any
from urllib.parse import parse_qs, quote, urlsplit

import pytest
from django.contrib.auth import get_user_model

from spatio_django.models import SpatioAccount
from tests.attacks.conftest import Live, cookies
from tests.conftest import Site
from tests.misbehaving import Misbehaviour
from tests.test_callback import assert_refused, changed, signed_in
from tests.test_login import flow_cookies

User = get_user_model()
TOKEN = "/oauth2/token"


def parameters(callback: str) -> dict[str, str]:
    """Give the parameters of *callback*, encoded as they are."""
    return {name: quote(values[0]) for name, values in parse_qs(urlsplit(callback).query).items()}


# State

TAMPERED = {
    "twice-right-first": "code={code}&state={state}&state=x",
    "twice-right-last": "code={code}&state=x&state={state}",
    "twice-the-same": "code={code}&state={state}&state={state}",
    "twice-one-empty": "code={code}&state=&state={state}",
    "array-syntax": "code={code}&state[]={state}",
    "other-case": "code={code}&STATE={state}",
    "semicolon-for-ampersand": "code={code};state={state}",
    "as-fragment": "code={code}#state={state}",
    "space-after": "code={code}&state={state}%20",
    "space-before": "code={code}&state=+{state}",
    "nul-after": "code={code}&state={state}%00",
    "line-break-after": "code={code}&state={state}%0d%0a",
    "encoded-twice": "code={code}&state=%2525{state}",
    "shortened": "code={code}&state={short}",
    "case-swapped": "code={code}&state={swapped}",
    "raw-byte-after": "code={code}&state={state}\u00ff",
    "not-utf-8": "code={code}&state={state}%ff",
    "overlong": "code={code}&state={state}" + "a" * 4000,
    "state-only-of-another-name": "code={code}&xstate={state}&states={state}",
}


@pytest.mark.parametrize("tampered", TAMPERED.values(), ids=TAMPERED)
def test_a_state_that_is_not_quite_the_one_that_was_sent_is_none(live: Live, tampered: str) -> None:
    """Whatever two parsers may read differently is refused, redeems nothing and uses nothing up."""
    browser = live.browser()
    callback = live.callback(browser)
    values = parameters(callback)
    values |= {"short": values["state"][:-1], "swapped": values["state"].swapcase()}
    live.spatio.requests.clear()

    query = tampered.format(**values).encode("latin-1")
    forged = live.ask(b"/spatio/callback/?" + query, browser=browser)

    assert forged.status == 400
    assert any(code in forged.body for code in (b"state_missing", b"state_repeated", b"<code>state</code>"))
    assert live.spatio.requests == []
    assert live.user(browser) == ""
    assert live.ask(callback, browser=browser)["location"] == "/me/"


def test_a_state_in_a_header_cookie_or_body_is_none(live: Live) -> None:
    """Only the query counts, as Spatio sends it."""
    browser = live.browser()
    callback = live.callback(browser)
    values = parameters(callback)
    target = f"/spatio/callback/?code={values['code']}"

    header = live.ask(target, ("State", values["state"]), ("X-State", values["state"]), browser=browser)
    cookie = live.ask(target, ("Cookie", cookies(browser, f"state={values['state']}")))
    body = live.ask(target, body=f"state={values['state']}".encode(), browser=browser)

    assert [answer.status for answer in (header, cookie, body)] == [400, 400, 400]
    assert live.ask(callback, browser=browser).status == 302


def test_another_browsers_flow_is_not_opened_by_renaming_its_cookie(site: Site) -> None:
    """A flow is sealed for its cookie's name: put under another's, it is none."""
    mine, theirs = site.browser(), site.browser()
    callback, other = site.authorize(site.begin(mine)), site.authorize(site.begin(theirs))
    ((name, cookie),), ((foreign, _),) = flow_cookies(mine).items(), flow_cookies(theirs).items()
    thief = site.browser()
    thief.cookies[foreign] = cookie.value

    assert_refused(thief.get(other), "state", 400)
    assert_refused(thief.get(callback), "state", 400)

    thief.cookies[name] = cookie.value
    assert thief.get(callback).status_code == 302


@pytest.mark.parametrize("place", [0, 1, 12, -1])
def test_a_flow_that_was_tampered_with_is_none(site: Site, place: int) -> None:
    """One letter of the sealed cookie changed, in the text or in the seal; or some cut off."""
    browser = site.browser()
    callback = site.authorize(site.begin(browser))
    ((name, cookie),) = flow_cookies(browser).items()
    honest = cookie.value
    letters = list(honest)
    letters[place] = "A" if letters[place] != "A" else "B"
    for planted in ("".join(letters), honest[: -place or -1], honest + "A", "", "{}", "null", "A" * 4000):
        if planted == honest:
            continue
        browser.cookies[name] = planted
        assert_refused(browser.get(callback), "state", 400)

    browser.cookies[name] = honest
    assert browser.get(callback).status_code == 302


def test_a_cookie_planted_before_ours_stops_one_sign_in_and_signs_nobody_in(live: Live) -> None:
    """A sibling host can add a cookie of the same name; it opens nothing, and the person may begin again."""
    browser, attacker = live.browser(), live.browser()
    callback, foreign = live.callback(browser), live.callback(attacker)
    (name,) = (cookie.name for cookie in browser.session.cookies)
    (stolen,) = (cookie.value for cookie in attacker.session.cookies)

    tossed = ("Cookie", cookies(browser, f"{name}={stolen}"))
    assert live.ask(callback, tossed).status == 400
    assert live.ask(foreign, tossed).status == 400

    assert live.ask(callback, browser=browser).status == 302


# Replay, and age


def test_a_used_callback_is_used_for_every_browser_and_every_code(live: Live) -> None:
    """Cookies copied before it was used, or another code with its state: the code goes out once."""
    browser, thief = live.browser(), live.browser()
    callback = live.callback(browser)
    thief.session.cookies.update(browser.session.cookies)
    stolen = cookies(browser)
    assert live.ask(callback, browser=browser).status == 302
    live.spatio.requests.clear()

    for target in (
        callback,
        callback + "&x=1",
        changed(callback, code="another"),
        changed(callback, iss="x"),
    ):
        again = live.ask(target, ("Cookie", stolen))
        assert (again.status, b"state_used" in again.body) == (400, True)
        assert not [value for value in again.all("set-cookie") if value.startswith("sessionid=")]

    assert live.spatio.requests == []
    assert live.user(thief) == ""


def test_the_back_button_does_not_turn_one_person_into_another(site: Site) -> None:
    """Ada's callback, called again while Bo is signed in in the same browser: Bo stays Bo."""
    browser = site.browser()
    adas = site.authorize(site.begin(browser, next="/other/"))
    browser.get(adas)
    browser.post("/spatio/logout/")
    site.sign_in(browser, persona="bo")
    user = browser.get("/state/").json()["user"]
    assert user not in {"", "ada"}

    response = browser.get(adas)

    assert (response.status_code, response["Location"]) == (302, "/other/")
    assert browser.get("/state/").json()["user"] == user


def test_a_flow_past_the_cap_pushes_out_the_oldest_and_no_other(site: Site, monkeypatch: Any) -> None:
    """The ninth click: the first is gone, and each of the other eight still ends where it should."""
    import time

    now = time.time()
    browser, callbacks = site.browser(), []
    for number in range(9):
        monkeypatch.setattr("spatio_django.pending.time.time", lambda moment=now + number: moment)
        callbacks.append(site.authorize(site.begin(browser, next=f"/other/?{number}")))

    assert_refused(browser.get(callbacks[0]), "state", 400)
    for number in range(1, 9):
        assert browser.get(callbacks[number])["Location"] == f"/other/?{number}"


# Errors that somebody made up


@pytest.mark.parametrize(
    "error", ["access_denied", "login_required", "server_error", "x", "%3Cscript%3E", ""]
)
def test_a_made_up_error_ends_nobodys_session_and_nobodys_sign_in(site: Site, error: str) -> None:
    """Without a state, or with another browser's: the person stays signed in, and their other tab goes on."""
    browser, attacker = site.browser(), site.browser()
    site.sign_in(browser)
    pending = site.authorize(site.begin(browser))
    foreign = parse_qs(urlsplit(site.begin(attacker)).query)["state"][0]

    for query, code in (("", "state_missing"), (f"&state={foreign}", "state"), ("&state=x", "state")):
        assert_refused(browser.get(f"/spatio/callback/?error={error}{query}"), code, 400)

    assert signed_in(browser)
    assert browser.get(pending).status_code == 302


@pytest.mark.parametrize(
    "query",
    ["error=access_denied&code={code}", "code={code}&error=x", "code={code}&error=&error=server_error"],
)
def test_an_error_beside_a_code_redeems_no_code(site: Site, query: str) -> None:
    """Which of the two is meant nobody can know."""
    browser = site.browser()
    values = parameters(site.authorize(site.begin(browser)))
    site.spatio.requests.clear()

    response = browser.get(f"/spatio/callback/?{query.format(**values)}&state={values['state']}")

    assert response.context["code"] in {"access_denied", "unknown_error", "server_error"}
    assert site.spatio.requests == []
    assert not signed_in(browser)
    empty = parameters(site.authorize(site.begin(browser)))
    honest = f"/spatio/callback/?error=&code={empty['code']}&state={empty['state']}"
    assert browser.get(honest).status_code == 302


def test_what_an_error_says_is_not_on_our_page(site: Site) -> None:
    """Nobody's words, links or markup: a page of ours is no billboard, and no place for a script."""
    browser = site.browser()
    told = {
        "error_description": "<b>Call 555-0100</b>",
        "error_uri": "https://evil.example/",
        "error": "<i>bad",
    }
    with_state = {**told, "state": parse_qs(urlsplit(site.begin(browser)).query)["state"][0]}
    for query in (told, with_state):
        html = browser.get("/spatio/callback/", query).content.decode()
        assert "Signing in did not work" in html
        for word in ("555-0100", "evil.example", "bad", "<b>", "<i>"):
            assert word not in html


# Codes


@pytest.mark.parametrize("method", ["POST", "PUT", "HEAD", "OPTIONS", "DELETE", "PATCH", "TRACE", "QUERY"])
def test_a_code_is_redeemed_by_a_navigation_only(live: Live, method: str) -> None:
    """Other methods, also in disguise, are refused, and use nothing up."""
    browser = live.browser()
    callback = live.callback(browser)
    live.spatio.requests.clear()
    disguise = (("X-HTTP-Method-Override", "GET"), ("X-HTTP-Method", "GET"), ("X-Method-Override", "GET"))

    answer = live.ask(callback, *disguise, method=method, browser=browser)
    form = live.ask(
        "/spatio/callback/",
        ("Content-Type", "application/x-www-form-urlencoded"),
        *disguise,
        method="POST",
        body=callback.partition("?")[2].encode(),
        browser=browser,
    )

    assert answer.status in {400, 403, 405}
    assert form.status in {403, 405}
    assert live.spatio.requests == []
    assert live.ask(callback, browser=browser).status == 302


CODES = ["%00", "a%0d%0ab", "%ff", "\u00fc", "a" * 4097, "%F0%9F%90%88", "a\x7f"]


@pytest.mark.parametrize("code", CODES, ids=["nul", "lines", "not-utf-8", "raw", "long", "emoji", "delete"])
def test_a_code_that_is_none_is_never_sent(live: Live, code: str) -> None:
    """Nothing of it reaches the token endpoint, and nothing is raised."""
    honest, browser = live.browser(), live.browser()
    assert live.ask(live.callback(honest), browser=honest).status == 302
    values = parameters(live.callback(browser))
    live.spatio.requests.clear()

    target = f"/spatio/callback/?code={code}&state={values['state']}"
    answer = live.ask(target.encode("latin-1"), browser=browser)

    assert (answer.status, b"<code>code</code>" in answer.body) == (502, True)
    assert not live.spatio.calls(TOKEN)
    assert live.user(browser) == ""


def test_a_stolen_code_is_worth_nothing_in_another_sign_in(site: Site) -> None:
    """Code injection: the thief puts Ada's code into a sign-in of their own, and the verifier doesn't fit."""
    assert site.sign_in(site.browser(), persona="bo").status_code == 302
    User.objects.all().delete()
    ada, thief = site.browser(), site.browser()
    stolen = parse_qs(urlsplit(site.authorize(site.begin(ada))).query)["code"][0]
    own = site.authorize(site.begin(thief), persona="bo")

    assert_refused(thief.get(changed(own, code=stolen)), "invalid_grant", 403)

    assert not signed_in(thief)
    assert User.objects.count() == 0


def test_a_stolen_code_is_worth_nothing_where_pkce_is_not_looked_at(
    site: Site, misbehaviour: Misbehaviour
) -> None:
    """The provider answers with Ada's tokens all the same: their nonce is another sign-in's."""
    answers: list[bytes] = []

    def keep(status: str, headers: dict[str, str], body: bytes) -> tuple[str, dict[str, str], bytes]:
        answers.append(body)
        return status, headers, body

    misbehaviour.lies[TOKEN] = keep
    assert site.sign_in(site.browser()).status_code == 302
    User.objects.all().delete()
    misbehaviour.answer(TOKEN, "200 OK", answers[0])
    thief = site.browser()

    assert_refused(site.sign_in(thief, persona="bo"), "nonce", 502)

    assert not signed_in(thief)
    assert (User.objects.count(), SpatioAccount.objects.count()) == (0, 0)


# Login CSRF, and mix-up


def test_an_attackers_callback_changes_nothing_for_who_is_signed_in(site: Site) -> None:
    """Mallory's code and state, opened by Ada: she stays herself, and her other sign-in goes on."""
    mallory, ada = site.browser(), site.browser()
    site.sign_in(ada)
    key = ada.session.session_key
    pending = site.authorize(site.begin(ada, next="/other/", explicit="1"))
    planted = site.authorize(site.begin(mallory), persona="bo")

    assert_refused(ada.get(planted), "state", 400)
    assert_refused(ada.get(planted, headers={"Referer": site.spatio.issuer, "Origin": "null"}), "state", 400)

    assert ada.get("/state/").json()["user"] == "ada"
    assert ada.session.session_key == key
    assert User.objects.count() == 1
    assert ada.get(pending)["Location"] == "/other/"


@pytest.mark.parametrize(
    "iss",
    [
        "iss={issuer}/",
        "iss={upper}",
        "iss={issuer}&iss={issuer}",
        "iss=https://evil.example",
        "iss=",
        "iss={issuer}%20",
    ],
)
@pytest.mark.parametrize("outcome", ["code=x", "error=access_denied", "error=server_error"])
def test_an_answer_of_another_issuer_is_not_listened_to(site: Site, iss: str, outcome: str) -> None:
    """RFC 9207, with a code or an error, announced or not: refused before anything else is read."""
    for site.spatio.send_iss in (False, True):
        browser = site.browser()
        values = parameters(site.authorize(site.begin(browser)))
        site.spatio.requests.clear()
        issuer = iss.format(issuer=site.spatio.issuer, upper=site.spatio.issuer.upper())

        response = browser.get(f"/spatio/callback/?{outcome}&state={values['state']}&{issuer}")

        assert_refused(response, "iss", 502)
        assert not site.spatio.calls(TOKEN)
    honest = site.browser()
    assert site.sign_in(honest).status_code == 302
