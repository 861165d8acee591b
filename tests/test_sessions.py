"""The session of a sign-in is written once, in the view, and cookies are as Django's middleware sets them."""

from collections.abc import Callable
from typing import Any, NoReturn

import pytest
from django.contrib.auth import user_logged_in
from django.contrib.auth.models import update_last_login
from django.contrib.sessions.backends.db import SessionStore
from django.contrib.sessions.middleware import SessionMiddleware
from django.contrib.sessions.models import Session
from django.contrib.sessions.serializers import JSONSerializer
from django.db import connection
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.test.utils import CaptureQueriesContext
from django.urls import include, path

from spatio_django import links, sessions
from spatio_django.models import SpatioToken
from spatio_django.urls import urlpatterns as spatio
from spatio_django.views import CallbackView
from tests.conftest import Site
from tests.urls import state

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


@pytest.mark.django_db
def test_a_session_that_is_new_is_written_without_a_look_for_its_key() -> None:
    """The insert would fail if the key were taken; and the session is Django's again afterwards."""
    new = SessionStore()
    new["a"] = 1
    with CaptureQueriesContext(connection) as queries:
        sessions.write(new)
    assert new.session_key is not None
    assert not any(query["sql"].startswith("SELECT") for query in queries)
    assert new.exists(new.session_key)
    assert not new.exists("another")

    old = SessionStore(new.session_key)
    old["a"] = 2
    sessions.write(old)

    assert old.session_key == new.session_key
    assert SessionStore(new.session_key)["a"] == 2


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


class Welcoming(CallbackView):
    """As the documentation of the hook says: call ``super()``, and answer in your own way."""

    def login_success(self) -> HttpResponse:
        """Lead elsewhere."""
        super().login_success()
        return HttpResponseRedirect("/welcome/")


urlpatterns = [
    path("spatio/", include(([path("callback/", Welcoming.as_view(), name="callback"), *spatio], "spatio"))),
    path("state/", state),
]


def test_a_sign_in_survives_an_answer_of_the_sites_own(site: Site, settings: Any) -> None:
    """The hook's answer, and not ours, is what gets the session's cookie."""
    settings.ROOT_URLCONF = __name__
    browser = site.browser()

    assert site.sign_in(browser)["Location"] == "/welcome/"
    assert browser.get("/state/").json()["user"]


def elsewhere(get_response: Callable[[HttpRequest], HttpResponse]) -> Callable[[HttpRequest], HttpResponse]:
    """Middleware that answers in the view's stead, as one that asks for a second factor does."""

    def answer(request: HttpRequest) -> HttpResponse:
        response = get_response(request)
        return HttpResponseRedirect("/second/") if request.path == "/spatio/callback/" else response

    return answer


def test_a_sign_in_survives_a_middleware_that_answers_otherwise(site: Site, settings: Any) -> None:
    """Whatever answer leaves has the cookie."""
    settings.MIDDLEWARE = [*settings.MIDDLEWARE, f"{__name__}.elsewhere"]
    browser = site.browser()

    assert site.sign_in(browser)["Location"] == "/second/"
    assert browser.get("/state/").json()["user"]


@pytest.mark.parametrize("djangos", [True, False])
def test_a_receiver_finds_the_key_of_the_new_session(site: Site, djangos: bool) -> None:
    """Sites note it to know a person's devices, with Django's receiver beside theirs or without."""
    keys: list[str | None] = []

    def note(request: Any, **kwargs: Any) -> None:
        keys.append(request.session.session_key)

    browser = site.browser()
    user_logged_in.connect(note)
    if not djangos:
        assert user_logged_in.disconnect(dispatch_uid="update_last_login")
    try:
        site.sign_in(browser)
    finally:
        user_logged_in.disconnect(note)
        user_logged_in.connect(update_last_login, dispatch_uid="update_last_login")

    assert keys == [browser.cookies["sessionid"].value]
    assert browser.get("/state/").json()["user"]


def test_a_sign_in_that_could_not_be_written_is_no_sign_out(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next one need not ask who it is, and nothing of this one is left."""
    browser = site.browser()
    callback = site.authorize(site.begin(browser))
    monkeypatch.setattr(SessionStore, "save", down)

    response = browser.get(callback)

    assert (response.status_code, response.context["code"]) == (503, "site_error")
    assert links.SIGNED_OUT_COOKIE not in browser.cookies
    assert not SpatioToken.objects.exists()
    monkeypatch.undo()
    assert site.sign_in(browser).status_code == 302


def down(self: SessionStore, must_create: bool = False) -> None:
    """Fail."""
    raise RuntimeError("the session store is down")


def test_what_can_not_be_compared_is_written_twice(site: Site, settings: Any) -> None:
    """A site may keep anything in a session that its serializer takes."""
    settings.MIDDLEWARE = [*settings.MIDDLEWARE, f"{__name__}.odd"]
    settings.SESSION_SERIALIZER = f"{__name__}.Anything"

    browser, written = writes(site)

    assert written == 2
    assert browser.get("/state/").json()["user"]


class Odd:
    """It can be written, and not be copied."""

    def __deepcopy__(self, memo: Any) -> NoReturn:
        raise RuntimeError


class Anything(JSONSerializer):
    """Writes what is odd as nothing."""

    def dumps(self, obj: Any) -> bytes:
        """Write *obj*."""
        plain = {name: None if isinstance(value, Odd) else value for name, value in obj.items()}
        return super().dumps(plain)


def odd(get_response: Callable[[HttpRequest], HttpResponse]) -> Callable[[HttpRequest], HttpResponse]:
    """Middleware that puts something odd into each session."""

    def answer(request: HttpRequest) -> HttpResponse:
        if request.path == "/spatio/callback/":
            request.session["odd"] = Odd()
        return get_response(request)

    return answer
