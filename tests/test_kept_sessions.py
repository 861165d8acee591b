"""What a person meets when the grant of their session is refreshed, can't be, or has ended."""

import threading
from collections.abc import Callable
from http.cookiejar import CookieJar
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from asgiref.sync import async_to_sync
from django.contrib.auth import get_user_model
from django.contrib.auth.decorators import login_required
from django.contrib.auth.signals import user_logged_out
from django.db import InterfaceError, OperationalError, connection
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import render
from django.template import engines
from django.template.response import TemplateResponse
from django.test import AsyncClient, Client
from django.urls import path
from django.utils import timezone

from spatio_django import memo, tokens
from spatio_django.exceptions import SessionEnded
from spatio_django.links import AGAIN_COOKIE, INTERRUPTED_COOKIE, SIGNED_OUT_COOKIE
from spatio_django.middleware import SpatioMiddleware
from spatio_django.models import PendingRevocation, SpatioAccount, SpatioToken
from spatio_django.tokens import SpatioRequest
from tests.conftest import Site, run_async
from tests.misbehaving import Misbehaviour
from tests.urls import urlpatterns as site_urlpatterns

User = get_user_model()

MODEL_BACKEND = "django.contrib.auth.backends.ModelBackend"
SCRIPT = {"Sec-Fetch-Mode": "cors", "Accept": "application/json"}
HTMX = {"Sec-Fetch-Mode": "cors", "Accept": "*/*", "HX-Request": "true"}


# The site


@login_required
def form(request: HttpRequest) -> HttpResponse:
    """Take a form of people who are signed in."""
    if request.method == "POST":
        return HttpResponse(f"saved {request.POST['text']}")
    return render(request, "me.html")


def guestbook(request: HttpRequest) -> HttpResponse:
    """Take a form of anybody, and go on to another page."""
    return HttpResponseRedirect("/plain/")


def token(request: SpatioRequest) -> HttpResponse:
    """Need the access token."""
    return HttpResponse(f"{len(request.spatio.access_token)} characters")


async def atoken(request: SpatioRequest) -> HttpResponse:
    """Need it in an async view."""
    return HttpResponse(f"{len(await request.spatio.aget_token())} characters")


def in_template(request: SpatioRequest) -> HttpResponse:
    """Need it while the page is rendered, after the view."""
    template: Any = engines["django"].from_string("{{ later }}")
    return TemplateResponse(request, template, {"later": Later(request)})


class Later:
    """A value that a template finds out late."""

    def __init__(self, request: SpatioRequest) -> None:
        self.request = request

    def __str__(self) -> str:
        return self.request.spatio.access_token


def of_another(request: SpatioRequest) -> HttpResponse:
    """Act for somebody else, as a page of a team may."""
    return HttpResponse(tokens.for_user(User.objects.get(username="cleo")).access_token[:4])


class OfAnother:
    """What a view keeps of somebody else's access."""

    access: tokens.UserAccess


def of_another_kept(request: SpatioRequest) -> HttpResponse:
    """Act for somebody else with what was fetched earlier."""
    return HttpResponse(OfAnother.access.access_token[:4])


def caught(request: SpatioRequest) -> HttpResponse:
    """Know better than the middleware."""
    try:
        return HttpResponse(request.spatio.access_token[:4])
    except SessionEnded as error:
        return HttpResponse(f"without: {error.code}")


def raised_late(request: SpatioRequest) -> HttpResponse:
    """Ask twice, and raise what the first time was."""
    errors = []
    for _ in range(2):
        try:
            HttpResponse(request.spatio.access_token)
        except SessionEnded as error:
            errors.append(error)
    raise errors[0]


def nowhere(request: HttpRequest) -> HttpResponse:
    """Lead to no address."""
    return HttpResponse(status=302)


def odd(request: HttpRequest) -> HttpResponse:
    """Lead to what is no address."""
    return HttpResponse(status=302, headers={"Location": "http://[oops/"})


def broken(request: HttpRequest) -> HttpResponse:
    """Have a fault of its own."""
    raise ZeroDivisionError


urlpatterns = [
    path("broken/", broken),
    path("form/", form),
    path("guestbook/", guestbook),
    path("nowhere/", nowhere),
    path("odd/", odd),
    path("raised-late/", raised_late),
    path("token/", token),
    path("atoken/", atoken),
    path("in-template/", in_template),
    path("of-another/", of_another),
    path("of-another-kept/", of_another_kept),
    path("caught/", caught),
    *site_urlpatterns,
]


@pytest.fixture(autouse=True)
def pages(settings: Any) -> None:
    """Serve the pages above."""
    settings.ROOT_URLCONF = __name__


# Steps


def expire(*, ago: float = 1.0) -> None:
    """Let the access tokens be expired since *ago* seconds, and every session be due for a look."""
    for grant in SpatioToken.objects.with_clock():
        SpatioToken.objects.filter(pk=grant.pk).update(expires_ms=int(1000 * (grant.now - ago)))
    memo.memo.clear()


def ended_at_spatio(site: Site) -> Client:
    """Sign Ada in, and let Spatio end what she granted; her next request finds out."""
    browser = site.browser(enforce_csrf_checks=True)
    site.sign_in(browser)
    assert browser.get("/form/").status_code == 200
    site.spatio.revoke_grants()
    expire()
    return browser


def csrf_token(browser: Client, page: str = "/form/") -> str:
    """Open a page with a form, as the person did before it all; give the token in it."""
    return str(browser.get(page).context["csrf_token"])


def to_spatio(browser: Client, url: str = "/spatio/login/?next=/me/") -> dict[str, str]:
    """Begin to sign in; give the parameters that Spatio is sent."""
    response = browser.get(url)
    assert response.status_code == 302, response.content.decode()
    return {name: values[0] for name, values in parse_qs(urlsplit(response["Location"]).query).items()}


def calls(site: Site) -> list[Any]:
    """Give what the token endpoint was asked."""
    return site.spatio.calls("/oauth2/token")


# Refreshed without a trace


def test_a_refresh_leaves_no_trace_on_a_page_that_uses_no_session(
    site: Site, django_assert_num_queries: Any
) -> None:
    """Refreshed on the way: no ``Vary: Cookie``, no cookie, and afterwards no query again."""
    browser = site.browser()
    site.sign_in(browser)
    expire()
    before = len(calls(site))

    response = browser.get("/plain/")

    assert len(calls(site)) == before + 1
    assert "Cookie" not in response.get("Vary", "")
    assert response.cookies == {}
    with django_assert_num_queries(0):
        assert "Cookie" not in browser.get("/plain/").get("Vary", "")
    assert len(calls(site)) == before + 1


@pytest.mark.django_db(transaction=True)
def test_an_async_page_is_refreshed_too(site: Site) -> None:
    """Under ASGI, by the same rules."""
    browser = site.browser()
    site.sign_in(browser)
    before = SpatioToken.objects.get().access_token
    expire()

    async def visit() -> tuple[int, bytes]:
        client = AsyncClient()
        client.cookies.load(browser.cookies)
        return (await client.get("/aplain/")).status_code, (await client.get("/atoken/")).content

    assert run_async(visit()) == (200, b"47 characters")
    assert SpatioToken.objects.get().access_token != before


def test_nothing_due_costs_an_async_request_no_thread(site: Site) -> None:
    """The middleware stays in the event loop; only a look that is due is worth a thread."""
    browser, guest = site.browser(), site.browser()
    site.sign_in(browser)
    seen: list[threading.Thread] = []

    async def view(request: HttpRequest) -> HttpResponse:
        seen.append(threading.current_thread())
        return HttpResponse("async")

    for each in (browser, guest):
        answer: Any = SpatioMiddleware(view)(each.get("/plain/").wsgi_request)
        with pytest.raises(StopIteration) as done:
            answer.send(None)  # would give what it waits for, if it waited for anything
        assert done.value.value.content == b"async"
    assert seen == [threading.current_thread()] * 2


# Ended at Spatio


def test_a_grant_that_spatio_ended_costs_one_redirect(site: Site) -> None:
    """Still signed in at Spatio: anonymous, sign-in without a page, and back where they wanted to be."""
    jar = CookieJar()
    browser = site.browser()
    browser.get(site.authorize(site.begin(browser), session=jar))
    site.spatio.revoke_grants()
    expire()

    challenge = browser.get("/me/")

    assert (challenge.status_code, challenge["Location"]) == (302, "/spatio/login/?next=/me/")
    assert "_auth_user_id" not in browser.session
    url = browser.get(challenge["Location"])["Location"]
    assert parse_qs(urlsplit(url).query)["prompt"] == ["none"]
    assert browser.get(site.authorize(url, session=jar))["Location"] == "/me/"
    assert browser.get("/me/").status_code == 200


def test_a_silent_sign_in_that_needs_a_page_becomes_an_ordinary_one(site: Site) -> None:
    """``prompt=none`` is tried once: then Spatio may ask, and the page that was wanted is kept."""
    browser = ended_at_spatio(site)
    challenge = browser.get("/me/")["Location"]
    url = browser.get(challenge)["Location"]
    assert "prompt=none" in url

    refused = browser.get(site.authorize(url))  # a browser that Spatio does not know

    again = browser.get(refused["Location"])["Location"]
    assert "prompt" not in parse_qs(urlsplit(again).query)
    assert browser.get(site.authorize(again))["Location"] == "/me/"
    assert browser.get("/me/").status_code == 200
    assert AGAIN_COOKIE not in {name for name, cookie in browser.cookies.items() if cookie.value}


def test_a_session_that_ends_elsewhere_leaves_this_one(site: Site) -> None:
    """Each browser has a grant of its own."""
    laptop, phone = site.browser(), site.browser()
    site.sign_in(laptop)
    site.spatio.revoke_grants()
    site.sign_in(phone)
    expire()

    assert laptop.get("/me/").status_code == 302
    assert phone.get("/me/").status_code == 200


def test_a_script_gets_401_and_where_to_sign_in(site: Site) -> None:
    """``fetch`` follows the redirect of ``login_required`` to JSON; its page then signs in silently."""
    browser = ended_at_spatio(site)

    told = browser.get("/me/", headers={**SCRIPT, "Referer": "http://testserver/other/"}, follow=True)

    assert (told.status_code, told.json()["error"]) == (401, "login_required")
    assert to_spatio(browser, told.json()["login_url"])["prompt"] == "none"


def test_a_session_of_a_password_that_is_only_connected_goes_on(site: Site) -> None:
    """It has no access to Spatio any more; who is signed in does not change, and no note is left."""
    browser = ended_at_spatio(site)
    browser.cookies.clear()
    user = User.objects.get()
    browser.force_login(user, MODEL_BACKEND)
    session = browser.session
    session[tokens.SESSION_KEY] = SpatioToken.objects.get().handle
    session.save()
    assert SpatioToken.objects.get().state == "active"

    response = browser.get("/me/")

    assert response.status_code == 200
    assert tokens.SESSION_KEY not in browser.session
    assert {AGAIN_COOKIE, INTERRUPTED_COOKIE, SIGNED_OUT_COOKIE}.isdisjoint(response.cookies)
    assert browser.get("/state/").json() == {"user": "ada", "account": None, "scopes": []}


def test_a_session_of_a_backend_that_is_gone_ends_with_its_grant(site: Site) -> None:
    """Renamed since the sign-in: nobody can tell any more, and it was ours to end."""
    browser = ended_at_spatio(site)
    session = browser.session
    session["_auth_user_backend"] = "gone.Backend"
    session.save()

    assert browser.get("/plain/").cookies["sessionid"].value == ""


def test_a_day_of_use_is_noted(site: Site) -> None:
    """Once a day, so that what nobody comes back to can be cleared away."""
    browser = site.browser()
    site.sign_in(browser)
    before = SpatioToken.objects.get().seen_ms
    browser.get("/plain/")
    assert SpatioToken.objects.get().seen_ms == before
    SpatioToken.objects.update(seen_ms=before - 25 * 3600 * 1000)
    memo.memo.clear()

    browser.get("/plain/")

    assert SpatioToken.objects.get().seen_ms >= before


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("kind", ["sync", "async"])
def test_signing_out_answers_when_the_tokens_are_revoked(site: Site, kind: str) -> None:
    """The person waits for Spatio a moment, so that what the page says is true."""
    browser = site.browser()
    site.sign_in(browser)

    async def post() -> Any:
        client = AsyncClient()
        client.cookies.load(browser.cookies)
        return await client.post("/spatio/logout/")

    response = browser.post("/spatio/logout/") if kind == "sync" else run_async(post())

    assert response.status_code == 302
    assert len(site.spatio.calls("/oauth2/revoke")) == 2
    assert not PendingRevocation.objects.exists()


# Nobody is trusted by a cookie at Spatio after a sign-out everywhere


@pytest.fixture(params=["signed out everywhere", "deactivated", "deactivated by a statement"])
def distrust(request: pytest.FixtureRequest) -> Callable[[], None]:
    """End all of Ada's sessions, one way or another; she may come back."""

    def act() -> None:
        user = User.objects.get(username="ada")
        if request.param == "signed out everywhere":
            assert tokens.sign_out_everywhere(user) >= 1
        elif request.param == "deactivated":
            user.is_active = False
            user.save()
        else:
            User.objects.filter(pk=user.pk).update(is_active=False)
            memo.memo.clear()

    return act


def test_after_all_sessions_were_ended_the_next_sign_in_proves_who_it_is(
    site: Site, distrust: Callable[[], None]
) -> None:
    """``max_age=0``, never ``prompt=none``; and ``auth_time`` is checked."""
    jar = CookieJar()
    browser = site.browser()
    browser.get(site.authorize(site.begin(browser), session=jar))
    distrust()

    challenge = browser.get("/me/")["Location"]

    assert challenge == "/spatio/login/?next=/me/"
    User.objects.update(is_active=True)
    url = browser.get(challenge)["Location"]
    asked = parse_qs(urlsplit(url).query)
    assert asked["max_age"] == ["0"]
    assert "prompt" not in asked
    assert browser.get(site.authorize(url, session=jar))["Location"] == "/me/"
    assert browser.get("/me/").status_code == 200
    assert AGAIN_COOKIE not in {name for name, cookie in browser.cookies.items() if cookie.value}


def test_an_old_proof_does_not_pass_for_a_new_one(
    site: Site, distrust: Callable[[], None], misbehaviour: Misbehaviour
) -> None:
    """A provider that ignores ``max_age=0`` lets nobody in."""
    browser = site.browser()
    site.sign_in(browser)
    distrust()
    challenge = browser.get("/me/")["Location"]
    User.objects.update(is_active=True)
    url = browser.get(challenge)["Location"]
    misbehaviour.id_token(site.spatio.sign, auth_time=1_700_000_000)

    page = browser.get(site.authorize(url))

    assert page.context["code"] == "auth_time"
    assert "_auth_user_id" not in browser.session


def test_another_browser_that_is_signed_in_at_spatio_is_sent_back_once(
    site: Site, distrust: Callable[[], None], misbehaviour: Misbehaviour
) -> None:
    """It has no note of ours; the account has. What was discarded is revoked, and there is no circle."""
    thief, jar = site.browser(), CookieJar()
    thief.get(site.authorize(site.begin(thief), session=jar))
    browser = site.browser()
    site.sign_in(browser)
    distrust()
    if not User.objects.get().is_active:  # by a statement that told nobody: the next request finds out
        browser.get("/me/")
    User.objects.update(is_active=True)
    thief.cookies.clear()
    site.spatio.requests.clear()
    ago = int(SpatioAccount.objects.get().reauth_after.timestamp()) - 60  # type: ignore[union-attr]
    misbehaviour.id_token(site.spatio.sign, auth_time=ago)

    back = thief.get(site.authorize(site.begin(thief, next="/other/"), session=jar))

    assert back.status_code == 302
    assert "_auth_user_id" not in thief.session
    assert len(site.spatio.calls("/oauth2/revoke")) >= 1
    assert not PendingRevocation.objects.filter(reason="discarded").exists()
    misbehaviour.lies.clear()
    url = thief.get(back["Location"])["Location"]
    assert parse_qs(urlsplit(url).query)["max_age"] == ["0"]
    assert thief.get(site.authorize(url, session=jar))["Location"] == "/other/"
    assert thief.get("/other/").status_code == 200
    assert SpatioToken.objects.active().count() == 1


# A form that did not arrive


@pytest.mark.parametrize("in_session", [False, True], ids=["cookie", "session"])
def test_a_form_that_met_the_end_is_not_lost_without_a_word(
    site: Site, settings: Any, *, in_session: bool
) -> None:
    """The page says so once, wherever the CSRF token is kept; then the sign-in goes on."""
    settings.CSRF_USE_SESSIONS = in_session
    browser = site.browser(enforce_csrf_checks=True)
    site.sign_in(browser)
    sent = {"text": "a long letter", "csrfmiddlewaretoken": csrf_token(browser)}
    assert browser.post("/form/", sent).content == b"saved a long letter"
    site.spatio.revoke_grants()
    expire()

    challenge = browser.post("/form/", sent)

    assert (challenge.status_code, challenge["Location"]) == (302, "/spatio/login/?next=/form/")
    page = browser.get(challenge["Location"])
    assert "spatio_django/interrupted.html" in {template.name for template in page.templates}
    assert "was not saved" in page.content.decode()
    assert to_spatio(browser, page.context["continue_url"])["prompt"] == "none"


def test_a_form_sent_by_htmx_or_a_script_is_told_of_too(site: Site) -> None:
    """By its header htmx is sent to the sign-in, a script by JSON; the page comes before Spatio."""
    for headers in (HTMX, SCRIPT):
        browser = site.browser(enforce_csrf_checks=True)
        site.sign_in(browser)
        token = csrf_token(browser)
        site.spatio.revoke_grants()
        expire()

        told = browser.post(
            "/form/", {"text": "a letter", "csrfmiddlewaretoken": token}, headers=headers, follow=True
        )

        login_url = told["HX-Redirect"] if headers is HTMX else told.json()["login_url"]
        assert told.status_code == (200 if headers is HTMX else 401)
        assert "was not saved" in browser.get(login_url).content.decode()
        assert to_spatio(browser, login_url)["prompt"] == "none"


def test_a_view_that_refuses_by_itself_counts_as_a_form_that_did_not_arrive(site: Site) -> None:
    """403 of a view's own is as good as ``login_required``."""
    browser = ended_at_spatio(site)

    assert browser.post("/form/", {"text": "without a CSRF token"}).status_code == 403

    assert "was not saved" in browser.get("/spatio/login/").content.decode()


def test_a_form_for_anybody_did_arrive(site: Site) -> None:
    """Nobody is told that something was not saved which was."""
    browser = site.browser()
    site.sign_in(browser)
    site.spatio.revoke_grants()
    expire()

    response = browser.post("/guestbook/")

    assert (response.status_code, response["Location"]) == (302, "/plain/")
    assert AGAIN_COOKIE in response.cookies
    assert INTERRUPTED_COOKIE not in response.cookies
    assert to_spatio(browser)["prompt"] == "none"


def test_a_form_whose_session_a_script_ended_is_told_of_too(site: Site) -> None:
    """The commonest case: a page asks for something in the background while its form is filled in."""
    browser = site.browser(enforce_csrf_checks=True)
    site.sign_in(browser)
    sent = {"text": "a letter", "csrfmiddlewaretoken": csrf_token(browser)}
    site.spatio.revoke_grants()
    expire()
    assert browser.get("/me/", headers=SCRIPT).cookies[AGAIN_COOKIE].value == "silent"

    challenge = browser.post("/form/", sent)

    assert challenge.status_code == 302
    assert "was not saved" in browser.get(challenge["Location"]).content.decode()


@pytest.mark.parametrize("why", ["no grant", "no refresh token"])
def test_a_form_that_needs_a_token_and_gets_none_is_told_of_too(site: Site, why: str) -> None:
    """The middleware itself sends the person away, whatever the reason."""
    browser = site.browser()
    site.sign_in(browser)
    assert browser.post("/token/").content == b"47 characters"
    SpatioToken.objects.update(refresh_ciphertext="", expires_ms=1)
    if why == "no grant":
        browser.cookies.clear()
        browser.force_login(User.objects.get(), MODEL_BACKEND)

    challenge = browser.post("/token/")

    assert challenge.status_code == 302
    assert challenge.cookies[INTERRUPTED_COOKIE].value == "1"
    assert INTERRUPTED_COOKIE not in browser.get("/token/").cookies


@pytest.mark.parametrize("page", ["/nowhere/", "/odd/"])
def test_an_answer_that_leads_nowhere_is_the_views_own(site: Site, page: str) -> None:
    """It is no refusal, and no fault of ours."""
    browser = site.browser()
    site.sign_in(browser)
    assert browser.post(page).status_code == 302
    site.spatio.revoke_grants()
    expire()

    response = browser.post(page)

    assert response.status_code == 302
    assert AGAIN_COOKIE in response.cookies
    assert INTERRUPTED_COOKIE not in response.cookies


def test_a_session_that_we_end_is_nobodys_sign_out(site: Site) -> None:
    """Also where a note of an earlier end is still in the browser: the next sign-in stays silent."""
    browser = ended_at_spatio(site)
    browser.cookies[AGAIN_COOKIE] = "silent"

    assert SIGNED_OUT_COOKIE not in browser.get("/me/").cookies

    assert to_spatio(browser)["prompt"] == "none"


def test_reading_a_page_loses_nothing(site: Site) -> None:
    """Only what was sent can have been lost."""
    browser = ended_at_spatio(site)

    assert INTERRUPTED_COOKIE not in browser.get("/form/").cookies


def test_whoever_signs_in_later_is_not_told_of_it(site: Site) -> None:
    """Signed in by another tab meanwhile, the note is gone; and it lives two minutes anyway."""
    browser = site.browser(enforce_csrf_checks=True)
    site.sign_in(browser)
    token = csrf_token(browser)
    other_tab = site.begin(browser)
    site.spatio.revoke_grants()
    expire()
    note = browser.post("/form/", {"text": "x", "csrfmiddlewaretoken": token}).cookies[INTERRUPTED_COOKIE]
    assert (note.value, note["max-age"], note["httponly"], note["samesite"]) == ("1", 120, True, "Lax")

    browser.get(site.authorize(other_tab))

    browser.cookies.pop("sessionid")
    assert browser.get("/spatio/login/?next=/me/").status_code == 302


def test_signing_out_of_a_session_that_has_just_ended_is_a_sign_out(site: Site) -> None:
    """Whoever pressed "Sign out" is not signed in again by one click, nor told that a form was lost."""
    browser = site.browser(enforce_csrf_checks=True)
    site.sign_in(browser)
    token = csrf_token(browser)
    site.spatio.revoke_grants()
    expire()

    browser.post("/spatio/logout/", {"csrfmiddlewaretoken": token})

    assert to_spatio(browser)["prompt"] == "login"


def test_signing_out_of_a_session_that_a_script_ended_is_a_sign_out(site: Site) -> None:
    """A background request found out before the person pressed the button; the button still counts."""
    browser = site.browser(enforce_csrf_checks=True)
    site.sign_in(browser)
    token = csrf_token(browser)
    site.spatio.revoke_grants()
    expire()
    assert browser.get("/me/", headers=SCRIPT).status_code == 302

    browser.post("/spatio/logout/", {"csrfmiddlewaretoken": token})

    assert to_spatio(browser)["prompt"] == "login"


# Views that need the token


def test_a_view_whose_token_is_over_leads_through_the_sign_in(site: Site) -> None:
    """Found out inside the view: the session ends, and the person comes back to the same address."""
    browser = site.browser()
    site.sign_in(browser)
    assert browser.get("/token/").content == b"47 characters"
    site.spatio.revoke_grants()
    browser.get("/plain/")
    for grant in SpatioToken.objects.with_clock():  # after the middleware looked
        SpatioToken.objects.filter(pk=grant.pk).update(expires_ms=1)

    challenge = browser.get("/token/?page=2")

    assert challenge.status_code == 302
    assert parse_qs(urlsplit(challenge["Location"]).query)["next"] == ["/token/?page=2"]
    assert "_auth_user_id" not in browser.session
    url = browser.get(challenge["Location"])["Location"]
    assert "prompt=none" in url
    again = browser.get(browser.get(site.authorize(url))["Location"])["Location"]
    assert browser.get(site.authorize(again))["Location"] == "/token/?page=2"


@pytest.mark.parametrize("url", ["/token/", "/atoken/"])
def test_a_view_that_needs_a_token_sends_a_guest_to_sign_in(site: Site, url: str) -> None:
    """A person by redirect, a script by 401, from sync and async views."""
    browser = site.browser()

    assert browser.get(url)["Location"].startswith("/spatio/login/?next=")
    assert browser.get(url, headers=SCRIPT, follow=True).status_code == 401


def test_a_token_needed_while_rendering_counts_as_the_views(site: Site) -> None:
    """A template response is rendered after the view, and answered for all the same."""
    assert site.browser().get("/in-template/")["Location"].startswith("/spatio/login/?next=")


def test_a_view_may_raise_any_of_its_failures(site: Site) -> None:
    """Not only the last one is this session's."""
    assert site.browser().get("/raised-late/")["Location"].startswith("/spatio/login/?next=")


def test_a_view_may_know_better(site: Site) -> None:
    """What a view catches, nobody else acts on."""
    browser = site.browser()
    response = browser.get("/caught/")

    assert response.content == b"without: no_grant"
    assert response.cookies == {}


def test_a_fault_of_the_sites_stays_the_sites(site: Site) -> None:
    """Only what says that there is no token is answered for."""
    browser = site.browser(raise_request_exception=False)
    site.sign_in(browser)

    assert browser.get("/broken/").status_code == 500
    assert browser.get("/me/").status_code == 200


def test_somebody_elses_end_signs_nobody_out(site: Site) -> None:
    """``for_user(other)`` says nothing about the visitor: a page of ours, and the session goes on."""
    browser, others = site.browser(), site.browser()
    site.sign_in(browser)
    site.sign_in(others, persona="cleo")
    assert browser.get("/of-another/").content == b"tok_"
    site.spatio.revoke_grants("cleo")
    expire()
    OfAnother.access = tokens.for_user(User.objects.get(username="cleo"))

    for url, code in (("/of-another-kept/", "invalid_grant"), ("/of-another/", "no_grant")):
        page = browser.get(url)

        assert (page.status_code, page.context["code"]) == (503, code)
        assert browser.get(url, headers=SCRIPT).status_code == 503
        assert AGAIN_COOKIE not in page.cookies
        assert browser.get("/me/").status_code == 200


# Spatio is down


@pytest.fixture
def down(site: Site) -> Client:
    """Sign Ada in, then let Spatio be gone."""
    browser = site.browser()
    site.sign_in(browser)
    assert browser.get("/me/").status_code == 200
    site.spatio.stop()
    return browser


def test_while_spatio_is_down_the_session_goes_on(down: Client) -> None:
    """Pages that don't need Spatio are served; one that does says so, to a script as JSON."""
    expire()

    assert down.get("/me/").status_code == 200
    page = down.get("/token/")
    assert page.status_code == 503
    assert "This page needs Spatio" in page.content.decode()
    assert "no-store" in page["Cache-Control"]
    assert page.context["retry_url"] == "/token/"
    told = down.get("/token/", headers=SCRIPT)
    assert (told.status_code, told.json()) == (503, {"error": "unavailable"})
    assert down.get("/me/").status_code == 200


@pytest.mark.django_db(transaction=True)
def test_an_async_page_is_served_while_spatio_is_down(down: Client) -> None:
    """The same under ASGI: 200 for what needs no token, 503 for what does."""
    expire()

    async def visit() -> tuple[int, int]:
        client = AsyncClient()
        client.cookies.load(down.cookies)
        return (await client.get("/aplain/")).status_code, (await client.get("/atoken/")).status_code

    assert run_async(visit()) == (200, 503)


def test_when_spatio_is_back_everything_goes_on(site: Site, down: Client) -> None:
    """After the pause that the failure asked for, nobody needs to sign in."""
    expire()
    assert down.get("/token/").status_code == 503
    site.spatio.start()
    SpatioToken.objects.update(retry_at_ms=0)
    memo.memo.clear()

    assert down.get("/token/").content == b"47 characters"


@pytest.mark.parametrize(
    ("max_stale", "ago", "status"),
    [(0, 1, 302), (60, 1, 200), (60, 61, 302), (28_800, 28_000, 200), (28_800, 28_801, 302)],
)
def test_an_outage_is_outlived_as_long_as_the_site_says(
    site: Site, down: Client, settings: Any, max_stale: float, ago: float, status: int
) -> None:
    """``SPATIO_MAX_STALE``: after that nobody is signed in until Spatio is back, and then as before."""
    settings.SPATIO_MAX_STALE = max_stale
    expire(ago=ago)

    response = down.get("/me/")

    assert response.status_code == status
    assert AGAIN_COOKIE not in response.cookies
    site.spatio.start()
    SpatioToken.objects.update(retry_at_ms=0)
    memo.memo.clear()
    assert down.get("/me/").status_code == 200


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("url", ["/token/", "/atoken/"])
def test_a_page_that_needs_a_token_outlives_a_long_outage_too(site: Site, down: Client, url: str) -> None:
    """The request is nobody's, and says that Spatio does not answer; the session is not ended for that."""
    expire(ago=9 * 3600)

    page = down.get(url)

    assert page.status_code == 503
    assert "This page needs Spatio" in page.content.decode()
    assert AGAIN_COOKIE not in page.cookies
    assert SpatioToken.objects.get().state == "active"
    site.spatio.start()
    SpatioToken.objects.update(retry_at_ms=0)
    memo.memo.clear()
    assert down.get(url).content == b"47 characters"


def test_a_password_is_enough_while_spatio_is_down(site: Site, down: Client) -> None:
    """A session that was only connected stands on the password, however old the token is."""
    browser = site.browser()
    browser.force_login(User.objects.get(), MODEL_BACKEND)
    session = browser.session
    session[tokens.SESSION_KEY] = SpatioToken.objects.get().handle
    session.save()
    expire(ago=9 * 3600)
    assert down.get("/me/").status_code == 302
    memo.memo.clear()

    assert browser.get("/me/").status_code == 200


def test_a_form_sent_in_a_long_outage_is_not_lost_without_a_word(down: Client) -> None:
    """It did not arrive, because nobody knows whether the person may still be here."""
    assert down.post("/form/", {"text": "a letter"}).content == b"saved a letter"
    expire(ago=9 * 3600)

    challenge = down.post("/form/", {"text": "a letter"})

    assert challenge.status_code == 302
    assert challenge.cookies[INTERRUPTED_COOKIE].value == "1"


def test_a_page_shown_to_nobody_in_a_long_outage_is_in_no_shared_cache(down: Client) -> None:
    """It would be shown to the others, who are signed in."""
    expire()
    assert "Cookie" not in down.get("/plain/").get("Vary", "")
    expire(ago=9 * 3600)

    assert "Cookie" in down.get("/plain/")["Vary"]


def test_an_outage_is_not_logged_as_so_many_sign_ins(down: Client, caplog: pytest.LogCaptureFixture) -> None:
    """Why there are no tokens is a warning, once; who met it is found by the reference on the page."""
    caplog.set_level("INFO", "spatio_django")
    expire()

    references = [down.get("/token/").context["reference"] for _ in range(3)]

    warnings = [record for record in caplog.records if record.levelname not in {"INFO", "DEBUG"}]
    assert [vars(record)["spatio"]["event"] for record in warnings] == ["refresh_failed"]
    assert "Sign-in ended" not in caplog.text
    for reference in references:
        assert caplog.text.count(reference) == 1


def test_a_cookie_of_no_session_is_left_alone(site: Site) -> None:
    """Where a page uses no session, Django takes it away neither, and a cache may share the page."""
    browser = site.browser()
    browser.cookies["sessionid"] = "abcdefghijklmnopqrstuvwxyz012345"

    page = browser.get("/plain/")

    assert not page.cookies
    assert "Cookie" not in page.get("Vary", "")
    site.sign_in(browser, next="/me/")
    assert browser.get("/me/").status_code == 200


def test_a_sign_in_that_overlaps_the_end_of_all_sessions_is_over_as_well(site: Site) -> None:
    """It was judged before that, and stored after: its first look ends it."""
    browser = site.browser()
    site.sign_in(browser)
    assert browser.get("/me/").status_code == 200
    memo.memo.clear()

    SpatioAccount.objects.update(reauth_after=timezone.now())

    assert browser.get("/me/").status_code == 302
    grant = SpatioToken.objects.get()
    assert (grant.state, grant.ended) == ("revoked", "signed_out_everywhere")
    site.sign_in(browser, next="/me/")
    assert browser.get("/me/").status_code == 200


def test_a_session_that_can_not_be_ended_is_nobodys_for_now(
    site: Site, caplog: pytest.LogCaptureFixture
) -> None:
    """A receiver of the site's fails: the request is anonymous all the same, and the next one tries again."""
    browser = site.browser()
    site.sign_in(browser)
    assert browser.get("/me/").status_code == 200
    SpatioToken.objects.all().delete()

    def fail(**kwargs: Any) -> None:
        raise ValueError("a fault of the site's")

    user_logged_out.connect(fail, dispatch_uid="test")
    try:
        assert browser.get("/me/").status_code == 302
    finally:
        user_logged_out.disconnect(dispatch_uid="test")

    assert "could not be ended" in caplog.text
    assert tokens.SESSION_KEY in browser.session
    assert browser.get("/me/").status_code == 302
    assert tokens.SESSION_KEY not in browser.session


def test_an_async_request_works_inside_a_test_case(site: Site) -> None:
    """Only the thread of the test sees its rows."""
    site.sign_in(site.browser())
    access = tokens.for_user(User.objects.get())

    answer = async_to_sync(access.arequest)("GET", site.spatio.issuer + "/oauth2/userinfo")

    assert answer.status_code == 200


def test_a_page_is_not_held_up_by_a_row_that_can_not_be_read(
    site: Site, caplog: pytest.LogCaptureFixture
) -> None:
    """It is looked at with the next request."""
    browser = site.browser()
    site.sign_in(browser)
    memo.memo.clear()

    def locked(execute: Any, sql: str, *rest: Any) -> Any:
        if "spatiotoken" in sql:
            raise InterfaceError("connection already closed")
        return execute(sql, *rest)

    with connection.execute_wrapper(locked):
        assert browser.get("/plain/").status_code == 200

    assert "could not be looked at" in caplog.text
    assert browser.get("/me/").status_code == 200


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("what", ["seen", "end"])
def test_what_can_not_be_written_holds_nothing_up(
    site: Site, caplog: pytest.LogCaptureFixture, what: str
) -> None:
    """When somebody was seen is not that important; a grant that is over is over unwritten."""
    browser = site.browser()
    site.sign_in(browser)
    assert browser.get("/me/").status_code == 200
    SpatioToken.objects.update(seen_ms=0)
    if what == "end":
        SpatioAccount.objects.update(reauth_after=timezone.now())
    memo.memo.clear()

    def locked(execute: Any, sql: str, *rest: Any) -> Any:
        if sql.startswith("UPDATE") and "spatiotoken" in sql:
            raise OperationalError("the table is locked")
        return execute(sql, *rest)

    with connection.execute_wrapper(locked):
        status = browser.get("/me/").status_code

    assert status == {"seen": 200, "end": 302}[what]
    assert {"seen": "could not be noted", "end": "could not be ended"}[what] in caplog.text
