"""What somebody planted before a sign-in, keeps after it, or finds in a cache, a referrer or a page."""

from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from django.contrib.sessions.models import Session
from django.test import Client

from tests.attacks.conftest import Live
from tests.attacks.judge import Addresses
from tests.conftest import Site
from tests.misbehaving import Misbehaviour
from tests.test_callback import changed

# Fixation


@pytest.mark.parametrize(
    "planted", ["a session of the site's", "a made up key", "an empty key", "a long key"]
)
def test_a_planted_session_key_opens_nothing_after_the_sign_in(live: Live, planted: str) -> None:
    """Whoever gave the victim the cookie, with a real session or none, is not signed in along with them."""
    victim, attacker = live.browser(), live.browser()
    keys = {"a made up key": "a" * 32, "an empty key": "", "a long key": "a" * 3000}
    if planted in keys:
        key = keys[planted]
    else:
        from django.contrib.sessions.backends.db import SessionStore

        store = SessionStore()
        store["cart"] = "full"
        store.save()
        key = store.session_key or ""
    for browser in (victim, attacker):
        browser.session.cookies.set("sessionid", key, domain="127.0.0.1", path="/")
    callback = live.callback(victim)

    victim.session.get(f"{live.url}{callback}", allow_redirects=False, timeout=20)

    assert live.user(victim) == "ada"
    assert live.user(attacker) == ""
    assert victim.session.cookies["sessionid"] != key
    assert Session.objects.count() == 1


def test_a_planted_csrf_token_is_worth_nothing_after_the_sign_in(site: Site) -> None:
    """The attacker knows the cookie that they planted; it must not let them post as the victim afterwards."""
    victim = Client(enforce_csrf_checks=True, headers={"Sec-Fetch-Mode": "navigate", "Accept": "text/html"})
    victim.cookies["csrftoken"] = planted = "a" * 32
    before = victim.post("/spatio/logout/", {"csrfmiddlewaretoken": planted})
    assert before.status_code == 302  # as a guest it would do
    site.sign_in(victim)

    assert victim.cookies["csrftoken"].value != planted
    assert victim.post("/spatio/logout/", {"csrfmiddlewaretoken": planted}).status_code == 403

    assert victim.get("/state/").json()["user"] == "ada"
    token = str(victim.get("/me/").context["csrf_token"])
    assert victim.post("/spatio/logout/", {"csrfmiddlewaretoken": token}).status_code == 302


def test_a_session_that_was_copied_is_over_when_its_person_signs_out(live: Live) -> None:
    """The session ends at the site, not only in the browser that left."""
    ada, thief = live.browser(), live.browser()
    ada.session.get(f"{live.url}{live.callback(ada)}", allow_redirects=False, timeout=20)
    thief.session.cookies.update(ada.session.cookies)
    assert live.user(thief) == "ada"

    page = ada.session.get(f"{live.url}/me/", timeout=20).text
    form = {"csrfmiddlewaretoken": Addresses(page).hidden["csrfmiddlewaretoken"]}
    left = ada.session.post(f"{live.url}/spatio/logout/", form, allow_redirects=False, timeout=20)

    assert left.status_code == 302
    assert (live.user(ada), live.user(thief)) == ("", "")


# No setting turns a defence off


OFF: dict[str, Any] = {
    "OIDC_USE_PKCE": False,
    "OIDC_PKCE_CODE_CHALLENGE_METHOD": "plain",
    "OIDC_PKCE_CODE_VERIFIER_SIZE": 1,
    "OIDC_USE_NONCE": False,
    "OIDC_NONCE_SIZE": 0,
    "OIDC_STATE_SIZE": 0,
    "OIDC_VERIFY_JWT": False,
    "OIDC_VERIFY_KID": False,
    "OIDC_ALLOW_UNSECURED_JWT": True,
    "OIDC_VERIFY_SSL": False,
    "OIDC_RP_SIGN_ALGO": "none",
    "OIDC_MAX_STATES": 0,
    "OIDC_AUTH_REQUEST_EXTRA_PARAMS": {
        "code_challenge_method": "plain",
        "nonce": "",
        "response_mode": "query",
    },
    "OIDC_REDIRECT_ALLOWED_HOSTS": ["evil.example"],
    "OIDC_REDIRECT_REQUIRE_HTTPS": False,
    "OIDC_REDIRECT_FIELD_NAME": "to",
}


def test_no_setting_turns_state_nonce_or_pkce_off(
    site: Site, misbehaviour: Misbehaviour, settings: Any
) -> None:
    """What mozilla-django-oidc can be told to leave out is asked for, sent and checked all the same."""
    for name, value in OFF.items():
        setattr(settings, name, value)
    browser = site.browser()

    sent = parse_qs(urlsplit(site.begin(browser, to="https://evil.example/")).query)

    assert sent["code_challenge_method"] == ["S256"]
    assert all(len(sent[name][0]) == 43 for name in ("state", "nonce", "code_challenge"))
    assert "response_mode" not in sent
    assert site.sign_in(browser, to="https://evil.example/", next="//evil.example")["Location"] == "/me/"
    misbehaviour.id_token(site.spatio.sign, nonce=None)
    assert site.sign_in(site.browser()).context["code"] == "nonce"
    misbehaviour.id_token(lambda claims: site.spatio.sign(claims).rpartition(".")[0] + ".AAAA")
    assert site.sign_in(site.browser()).context["code"] == "signature"


# Caches and referrers


def answers(live: Live) -> dict[str, Any]:
    """Give one answer of each kind that our addresses have."""
    browser, guest = live.browser(), live.browser()
    callback = live.callback(browser)
    found = {
        "a sign-in begins": live.ask("/spatio/login/", browser=guest),
        "a script is told": live.ask("/spatio/login/?next=/a/", mode="cors"),
        "a callback nobody began": live.ask(callback, browser=guest),
        "a callback with a wrong state": live.ask(changed(callback, state="x"), browser=browser),
        "a code by POST": live.ask(callback, method="POST", browser=browser),
        "a code by HEAD": live.ask(callback, method="HEAD", browser=browser),
        "signing out by GET": live.ask("/spatio/logout/", browser=guest),
        "somebody signs in": live.ask(callback, browser=browser),
        "a callback used again": live.ask(callback, browser=browser),
        "the account page": live.ask("/spatio/account/", browser=guest),
        "connecting by GET": live.ask("/spatio/account/connect/", browser=guest),
        "disconnecting by GET": live.ask("/spatio/account/disconnect/", browser=guest),
    }
    member = live.browser()
    member.session.get(f"{live.url}{live.callback(member)}", allow_redirects=False, timeout=20)
    found["a page not for them"] = live.ask("/spatio/login/?next=/editors/", browser=member)
    form = Addresses(member.session.get(f"{live.url}/me/", timeout=20).text).hidden["csrfmiddlewaretoken"]
    header = ("Content-Type", "application/x-www-form-urlencoded")
    body = f"csrfmiddlewaretoken={form}&next=/plain/&page_between=1".encode()
    found["signing out"] = live.ask("/spatio/logout/", header, method="POST", body=body, browser=member)
    return found


def test_nothing_of_ours_is_kept_in_a_cache_or_told_to_another_site(live: Live) -> None:
    """Every kind of answer: ``no-store``, ``private``, one referrer policy; each header once."""
    found = answers(live)
    statuses = {name: reply.status for name, reply in found.items()}
    assert statuses == {
        "a sign-in begins": 302,
        "a script is told": 401,
        "a callback nobody began": 400,
        "a callback with a wrong state": 400,
        "a code by POST": 403,
        "a code by HEAD": 405,
        "signing out by GET": 405,
        "somebody signs in": 302,
        "a callback used again": 400,
        "the account page": 200,
        "connecting by GET": 405,
        "disconnecting by GET": 405,
        "a page not for them": 403,
        "signing out": 200,
    }

    for name, reply in found.items():
        if name == "a code by POST":
            continue  # Django's CSRF page, before any view of ours
        directives = {part.strip() for part in reply["cache-control"].split(",")}
        assert {"no-store", "private", "no-cache"} <= directives, name
        assert reply["referrer-policy"] == "same-origin", name


@pytest.mark.parametrize(
    "kind", ["nobody began it", "other state", "no code", "spoiled", "denied", "down", "lied"]
)
def test_a_page_about_a_failure_holds_no_code_and_loads_nothing(
    live: Live, misbehaviour: Misbehaviour, kind: str
) -> None:
    """A code that was not used yet, above all: not in a link, a field, a comment or a header."""
    browser = live.browser()
    callback = live.callback(browser, allow=kind != "denied")
    values = {name: value[0] for name, value in parse_qs(urlsplit(callback).query).items()}
    if kind == "other state":
        callback = changed(callback, state="another-state")
    elif kind == "no code":
        callback = changed(callback, code=["", values["code"]])
    elif kind == "spoiled":
        callback = changed(callback, iss="https://evil.example")
    elif kind == "down":
        misbehaviour.answer("/oauth2/token", "503 Down", b"")
    elif kind == "lied":
        misbehaviour.id_token(live.spatio.sign, aud="another")
    reply = live.ask(callback, browser=None if kind == "nobody began it" else browser)

    assert reply.status in {200, 400, 502, 503}
    told = reply.body.decode() + repr(reply.headers)
    for name in ("code", "state"):
        assert values.get(name, "nothing") not in told
    # Everything it leads to or loads is this site's: nobody else gets a referrer.
    links = Addresses(reply.body.decode()).links
    assert len(links) > 2
    assert all(link.startswith("/") and not link.startswith("//") for link in links)
    assert "<script" not in told


# Signing out


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE", "OPTIONS"])
def test_nobody_is_signed_out_by_a_link_or_a_picture(live: Live, method: str) -> None:
    """Only by a form with the token; neither by another method nor by another site's form."""
    browser = live.browser()
    browser.session.get(f"{live.url}{live.callback(browser)}", allow_redirects=False, timeout=20)
    header = ("Content-Type", "application/x-www-form-urlencoded")

    assert live.ask("/spatio/logout/", method=method, browser=browser).status in {403, 405}
    forged = [
        live.ask("/spatio/logout/", header, method="POST", body=b"next=/", browser=browser),
        live.ask(
            "/spatio/logout/",
            header,
            ("Origin", "https://evil.example"),
            method="POST",
            body=f"csrfmiddlewaretoken={'a' * 32}".encode(),
            browser=browser,
        ),
        live.ask("/spatio/logout/?csrfmiddlewaretoken=" + "a" * 32, header, method="POST", browser=browser),
    ]

    assert [reply.status for reply in forged] == [403, 403, 403]
    assert live.user(browser) == "ada"


def test_signing_out_does_not_wait_for_a_provider_that_is_down(site: Site) -> None:
    """The session ends here, and what there is to revoke is kept."""
    import time

    browser = site.browser()
    site.sign_in(browser)
    site.spatio.stop()
    began = time.monotonic()

    assert browser.post("/spatio/logout/").status_code == 302

    assert time.monotonic() - began < 3
    assert browser.get("/state/").json()["user"] == ""
