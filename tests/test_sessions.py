"""The session of a sign-in is written once, in the view, and cookies are as Django's middleware sets them."""

from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.sessions.middleware import SessionMiddleware
from django.contrib.sessions.models import Session
from django.db import connection
from django.http import HttpRequest, HttpResponse
from django.test.utils import CaptureQueriesContext

from tests.conftest import Site

DJANGOS = "django.contrib.sessions.middleware.SessionMiddleware"


class OtherCookie(SessionMiddleware):
    """A site's own: its cookie has another name on top."""

    def process_response(self, request: HttpRequest, response: HttpResponse) -> HttpResponse:
        """Copy the cookie."""
        response = super().process_response(request, response)
        if "sessionid" in response.cookies:
            response.set_cookie("copied", response.cookies["sessionid"].value)
        return response


def counting(get_response: Callable[[HttpRequest], HttpResponse]) -> Callable[[HttpRequest], HttpResponse]:
    """Middleware that notes in the session what was answered."""

    def answer(request: HttpRequest) -> HttpResponse:
        response = get_response(request)
        if request.path == "/spatio/callback/":
            request.session["answered"] = response.status_code
        return response

    return answer


def writes(site: Site) -> tuple[Any, int]:
    """Sign in; give the browser, and how often the session was written."""
    browser = site.browser()
    with CaptureQueriesContext(connection) as queries:
        assert site.sign_in(browser).status_code == 302
    verbs = ("INSERT", "UPDATE", "REPLACE")
    statements = [query["sql"] for query in queries if query["sql"].startswith(verbs)]
    return browser, sum("django_session" in statement for statement in statements)


def test_a_new_session_is_written_once(site: Site) -> None:
    """With all that it holds, under a key that the browser then has."""
    browser, written = writes(site)

    assert written == 1
    assert Session.objects.get().session_key == browser.cookies["sessionid"].value
    assert browser.get("/state/").json()["user"]
    assert "sessionid" not in browser.get("/me/").cookies


def test_the_answer_is_not_for_shared_caches(site: Site) -> None:
    """Django's middleware says that it depends on the cookie, and still does."""
    browser = site.browser()

    assert "Cookie" in site.sign_in(browser)["Vary"]


@pytest.mark.parametrize("every_request", [True, False])
@pytest.mark.parametrize("at_close", [True, False])
def test_the_settings_of_the_cookie_hold(
    site: Site, settings: Any, every_request: bool, at_close: bool
) -> None:
    """``SESSION_COOKIE_...`` mean what they mean elsewhere."""
    settings.SESSION_SAVE_EVERY_REQUEST = every_request
    settings.SESSION_EXPIRE_AT_BROWSER_CLOSE = at_close
    settings.SESSION_COOKIE_PATH = "/"
    settings.SESSION_COOKIE_SAMESITE = "Lax"
    browser = site.browser()

    cookie = site.sign_in(browser).cookies["sessionid"]

    assert (cookie["max-age"] == "") is at_close
    assert (cookie["path"], cookie["samesite"], cookie["httponly"]) == ("/", "Lax", True)
    assert browser.get("/state/").json()["user"]


def test_what_changes_the_session_later_is_kept(site: Site, settings: Any) -> None:
    """The middleware writes it again, under the same key."""
    settings.MIDDLEWARE = [*settings.MIDDLEWARE, f"{__name__}.counting"]

    browser, written = writes(site)

    assert written == 2
    assert browser.session["answered"] == 302
    assert browser.get("/state/").json()["user"]


def test_a_session_middleware_of_the_sites_own_keeps_its_ways(site: Site, settings: Any) -> None:
    """Nothing is taken out of its hands."""
    own = f"{__name__}.OtherCookie"
    settings.MIDDLEWARE = [own if name == DJANGOS else name for name in settings.MIDDLEWARE]

    browser, written = writes(site)

    assert written == 1
    assert browser.cookies["copied"].value == browser.cookies["sessionid"].value
    assert browser.get("/state/").json()["user"]
