"""Connecting a Spatio account to somebody who is signed in already, and taking it off again."""

import logging
import re
from concurrent.futures import ThreadPoolExecutor
from html import unescape
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import pytest
from django.contrib import auth
from django.contrib.auth import get_user_model
from django.contrib.auth.models import AnonymousUser, Permission
from django.contrib.messages import get_messages
from django.contrib.sessions.backends.db import SessionStore
from django.core.exceptions import PermissionDenied
from django.core.management import call_command
from django.db import OperationalError, connection, transaction
from django.template import engines
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import include, path

from spatio_django import backends
from spatio_django.conf import conf
from spatio_django.encryption import key_ring
from spatio_django.exceptions import LoginRefused
from spatio_django.links import login_url
from spatio_django.models import SpatioAccount, SpatioToken
from spatio_django.oidc.secret import Secret
from spatio_django.testing import FakeSpatio
from spatio_django.urls import urlpatterns as spatio_urlpatterns
from tests.conftest import Site
from tests.misbehaving import Misbehaviour
from tests.test_backends import completed

User = get_user_model()


@pytest.fixture
def grace(db: None) -> Any:
    """Give the superuser of a fresh site, who has a password."""
    return User.objects.create_superuser("grace", "grace@example.com", "correct horse")


def password_login(site: Site, user: Any, **defaults: Any) -> Client:
    """Open a browser in which *user* signed in with a password."""
    browser = site.browser(**defaults)
    browser.force_login(user, backend="django.contrib.auth.backends.ModelBackend")
    return browser


def begin(site: Site, browser: Client, **form: str) -> str:
    """Press "Connect Spatio"; give the address at the provider that the browser is sent to."""
    response = browser.post("/spatio/account/connect/", form)
    assert response.status_code == 200, response.content.decode()
    url = str(response["Refresh"]).removeprefix("0;url=")
    assert url.startswith(site.spatio.issuer)
    return url


def connect(site: Site, browser: Client, *, persona: str = "ada", **form: str) -> Any:
    """Connect that persona; give the answer to the callback."""
    return browser.get(site.authorize(begin(site, browser, **form), persona=persona))


def disconnect(browser: Client, account: SpatioAccount, **form: str) -> Any:
    """Press "Disconnect"."""
    return browser.post("/spatio/account/disconnect/", {"account": account.pk, **form})


def state(browser: Client) -> Any:
    """Tell who is signed in, and with which Spatio account."""
    return browser.get("/state/").json()


def assert_refused(response: Any, code: str, status: int) -> None:
    """See the page that explains, with its stable code and a way back to the account page."""
    assert (response.status_code, response.context["code"]) == (status, code)
    assert "did not work" in str(response.context["heading"])
    assert "/spatio/account/" in response.context["retry_url"]


# Connecting


def test_the_superuser_of_a_fresh_site_connects(site: Site, grace: Any) -> None:
    """No user is made, the session goes on under a new key, and Spatio signs in the same user from now on."""
    browser = password_login(site, grace)
    key = browser.session.session_key

    response = connect(site, browser)

    assert (response.status_code, response["Location"]) == (302, "/spatio/account/")
    assert SpatioAccount.objects.get().user == grace
    assert User.objects.count() == 1
    assert browser.session.session_key != key
    assert state(browser)["user"] == "grace"
    assert state(browser)["account"] == SpatioAccount.objects.get().sub
    again = site.browser()
    site.sign_in(again)
    assert state(again)["user"] == "grace"


def test_the_account_page_shows_it_and_says_so(site: Site, grace: Any) -> None:
    """Before: a button that connects. After: whose account it is, and a button that takes it off."""
    browser = password_login(site, grace)
    before = browser.get("/spatio/account/").content.decode()
    connect(site, browser)

    after = browser.get("/spatio/account/")

    assert 'action="/spatio/account/connect/"' in before
    assert 'action="/spatio/account/disconnect/"' not in before
    html = after.content.decode()
    assert "Ada Lovelace" in html
    assert 'action="/spatio/account/disconnect/"' in html
    assert 'action="/spatio/account/connect/"' not in html
    said = get_messages(after.wsgi_request)
    assert [str(message) for message in said] == ["Your Spatio account is connected."]


def test_connecting_leads_back_to_the_page_it_began_at(site: Site, grace: Any) -> None:
    """A settings page of the site; but no other site."""
    browser = password_login(site, grace)

    assert connect(site, browser, next="/other/?a=1")["Location"] == "/other/?a=1"
    assert connect(site, browser, next="https://evil.example/")["Location"] == "/spatio/account/"


def test_the_person_sees_at_spatio_whose_account_they_connect(site: Site, grace: Any) -> None:
    """Somebody else may still be signed in at Spatio on a shared computer."""
    site.sign_in(site.browser())

    url = begin(site, password_login(site, grace))

    assert parse_qs(urlsplit(url).query)["prompt"] == ["consent"]


def test_connecting_takes_a_post_with_the_csrf_token(site: Site, grace: Any) -> None:
    """A link on another site connects nothing (login CSRF)."""
    browser = Client(enforce_csrf_checks=True, headers={"Sec-Fetch-Mode": "navigate"})
    browser.force_login(grace)

    assert browser.get("/spatio/account/connect/").status_code == 405
    assert browser.post("/spatio/account/connect/").status_code == 403
    token = browser.get("/spatio/account/").context["csrf_token"]
    assert browser.post("/spatio/account/connect/", {"csrfmiddlewaretoken": str(token)}).status_code == 200


def test_connecting_the_same_account_again_gives_the_session_its_grant(site: Site, grace: Any) -> None:
    """A password session of somebody who is connected gets tokens that way, and no second account."""
    connect(site, password_login(site, grace))
    browser = password_login(site, grace)
    assert state(browser)["account"] is None

    connect(site, browser)
    connect(site, browser)

    assert state(browser)["account"]
    assert SpatioAccount.objects.count() == 1
    assert SpatioToken.objects.count() == 2


# Who may connect what


def test_an_account_of_another_user_stays_theirs(site: Site, grace: Any) -> None:
    """The person reads what happened and stays signed in; nothing changes hands."""
    connect(site, password_login(site, grace))
    mallory = password_login(site, User.objects.create_user("mallory", password="x"))

    response = connect(site, mallory)

    assert_refused(response, "account_taken", 403)
    assert (response.context["retry_label"], response.context["sign_out"]) == ("Your Spatio account", True)
    assert SpatioAccount.objects.get().user == grace
    assert state(mallory) == {"user": "mallory", "account": None, "scopes": []}


def test_a_user_has_one_spatio_account(site: Site, grace: Any) -> None:
    """Whose name and tokens would a page be about?"""
    browser = password_login(site, grace)
    connect(site, browser)

    assert_refused(connect(site, browser, persona="bo"), "already_connected", 403)
    assert SpatioAccount.objects.get().name == "Ada Lovelace"


def test_who_is_signed_in_must_be_who_began(site: Site, grace: Any) -> None:
    """On a shared computer the next person must not get the account of the one before, nor give theirs."""
    browser = password_login(site, grace)
    callback = site.authorize(begin(site, browser))
    browser.force_login(User.objects.create_user("next"), backend="django.contrib.auth.backends.ModelBackend")

    assert_refused(browser.get(callback), "connect_user", 403)
    assert not SpatioAccount.objects.exists()
    assert state(browser)["user"] == "next"
    assert site.spatio.calls("/oauth2/token") == []


def test_a_callback_after_signing_out_connects_nothing(site: Site, grace: Any) -> None:
    """Nor does it sign anybody in."""
    browser = password_login(site, grace)
    callback = site.authorize(begin(site, browser))
    browser.post("/spatio/logout/")

    assert_refused(browser.get(callback), "connect_user", 403)
    assert not SpatioAccount.objects.exists()
    assert state(browser)["user"] == ""


def test_a_sign_in_never_connects(site: Site, grace: Any) -> None:
    """Whoever signs in with Spatio while signed in otherwise becomes that person, and joins nobody."""
    browser = password_login(site, grace)

    site.sign_in(browser, next="/other/", explicit="1")

    assert SpatioAccount.objects.get().user != grace
    assert state(browser)["user"] == "ada"


def test_a_callback_used_twice_leads_to_its_page(site: Site, grace: Any) -> None:
    """A reload or the Back button is no error."""
    browser = password_login(site, grace)
    callback = site.authorize(begin(site, browser))
    browser.get(callback)

    assert browser.get(callback)["Location"] == "/spatio/account/"


def test_declining_connects_nothing(site: Site, grace: Any, caplog: pytest.LogCaptureFixture) -> None:
    """A choice and no error; the way back is the account page, with its ``next``."""
    caplog.set_level(logging.INFO)
    browser = password_login(site, grace)

    response = browser.get(site.authorize(begin(site, browser, next="/other/"), allow=False))

    assert response.status_code == 200
    assert str(response.context["heading"]) == "Nothing was connected"
    assert response.context["retry_url"] == "/spatio/account/?next=%2Fother%2F"
    assert {record.levelname for record in caplog.records if record.name == "spatio_django"} == {"INFO"}
    assert state(browser)["user"] == "grace"


def test_a_lying_provider_connects_nothing(site: Site, grace: Any, misbehaviour: Misbehaviour) -> None:
    """Every check of a sign-in holds here too; nobody is signed out, and no login failure is announced."""
    browser = password_login(site, grace)
    callback = site.authorize(begin(site, browser))
    misbehaviour.json("/oauth2/token", id_token="a.b.c")

    response = browser.get(callback)

    assert response.status_code == 502
    assert "did not work" in str(response.context["heading"])
    assert not SpatioAccount.objects.exists()
    assert state(browser)["user"] == "grace"
    misbehaviour.lies.clear()
    connect(site, browser)
    assert SpatioAccount.objects.exists()


class Refusing(backends.SpatioBackend):
    """Knows nobody by these claims."""

    def verify_claims(self, claims: dict[str, Any]) -> bool:
        """Refuse Ada."""
        return claims.get("name") != "Ada Lovelace"


class Forbidding(backends.SpatioBackend):
    """Says no in Django's words."""

    def update_user(self, user: Any, claims: dict[str, Any]) -> Any:
        """Refuse."""
        raise PermissionDenied


@pytest.mark.parametrize(("backend", "code"), [("Refusing", "claims_refused"), ("Forbidding", "refused")])
def test_the_hooks_decide_here_too(site: Site, grace: Any, settings: Any, backend: str, code: str) -> None:
    """Who may not sign in may not connect, and nothing is left of the attempt."""
    others = ["django.contrib.auth.backends.ModelBackend"]
    settings.AUTHENTICATION_BACKENDS = [f"tests.test_connect.{backend}", *others]

    response = connect(site, password_login(site, grace))

    assert_refused(response, code, 403)
    assert not SpatioAccount.objects.exists()
    settings.AUTHENTICATION_BACKENDS = ["spatio_django.backends.SpatioBackend", *others]
    connect(site, password_login(site, grace))
    assert SpatioAccount.objects.get().user == grace


def test_a_site_that_is_not_registered_says_so(site: Site, grace: Any, settings: Any) -> None:
    """Explained, like everything else that can go wrong."""
    browser = password_login(site, grace)
    begin(site, browser)
    settings.SPATIO_ISSUER = "http://127.0.0.1:9"

    assert_refused(browser.post("/spatio/account/connect/"), "not_registered", 503)


@pytest.mark.parametrize(
    ("origin", "host"),
    [
        ("http://127.0.0.1", "127.0.0.1"),
        ("http://elsewhere.example", "testserver"),
        (None, "elsewhere.example"),
    ],
)
def test_connecting_at_a_host_that_is_not_registered_is_explained(
    site: Site, grace: Any, origin: str | None, host: str
) -> None:
    """The session stays behind on its host, so the person is told where to go instead of being sent."""
    begin(site, password_login(site, grace))
    browser = password_login(site, grace)

    headers = {"Host": host} | ({"Origin": origin} if origin else {})
    response = browser.post("/spatio/account/connect/", {"next": "/me/"}, headers=headers)

    assert_refused(response, "other_host", 403)
    assert response.context["retry_url"] == "http://testserver/spatio/account/?next=%2Fme%2F"
    assert "Go to testserver</a>" in response.content.decode()


def test_connecting_works_behind_a_proxy_that_hides_the_host(site: Site, grace: Any) -> None:
    """The browser says where it is."""
    browser = password_login(site, grace)

    headers = {"Host": "backend:8000", "Origin": "http://testserver"}
    response = browser.post("/spatio/account/connect/", headers=headers)

    assert site.spatio.issuer in response["Refresh"]


def test_a_strict_session_cookie_is_waited_for(site: Site, grace: Any, settings: Any) -> None:
    """The browser keeps it back when Spatio leads here; our own page comes again and gets it."""
    settings.SESSION_COOKIE_SAMESITE = "Strict"
    browser = password_login(site, grace)
    callback = site.authorize(begin(site, browser))
    session = browser.cookies.pop("sessionid")

    page = browser.get(callback)

    assert page.status_code == 200
    once_more = page["Refresh"].removeprefix("0;url=")
    assert once_more.startswith(callback)
    assert site.spatio.calls("/oauth2/token") == []
    browser.cookies["sessionid"] = session.value
    assert browser.get(once_more)["Refresh"] == "0;url=/spatio/account/"
    assert SpatioAccount.objects.get().user == grace


def test_a_strict_session_that_is_over_is_not_waited_for_twice(site: Site, grace: Any, settings: Any) -> None:
    """Once, or the browser would go in circles."""
    settings.SESSION_COOKIE_SAMESITE = "Strict"
    browser = password_login(site, grace)
    callback = site.authorize(begin(site, browser))
    del browser.cookies["sessionid"]
    once_more = browser.get(callback)["Refresh"].removeprefix("0;url=")

    assert_refused(browser.get(once_more), "connect_user", 403)


@pytest.mark.django_db(transaction=True)
def test_two_accounts_at_once_become_one(site: Site, grace: Any) -> None:
    """The user's row is held while it is looked whether there is one already."""
    browsers = [password_login(site, grace) for _ in range(2)]
    callbacks = [
        site.authorize(begin(site, browser), persona=persona)
        for browser, persona in zip(browsers, ("ada", "bo"), strict=True)
    ]

    with ThreadPoolExecutor(2) as pool:
        done = list(pool.map(visit, browsers, callbacks))

    assert sorted(done) == [302, 403]
    assert SpatioAccount.objects.count() == 1


def visit(browser: Client, url: str) -> int:
    """Open *url* in a thread of its own, and close the database connection that it used."""
    try:
        return browser.get(url).status_code
    finally:
        connection.close()


@pytest.mark.django_db(transaction=True)
def test_one_account_for_two_users_at_once_goes_to_one(site: Site, grace: Any) -> None:
    """The unique identity decides; the other reads that it is taken."""
    browsers = [password_login(site, user) for user in (grace, User.objects.create_user("mallory"))]
    callbacks = [site.authorize(begin(site, browser)) for browser in browsers]

    with ThreadPoolExecutor(2) as pool:
        done = list(pool.map(visit, browsers, callbacks))

    assert sorted(done) == [302, 403]
    assert SpatioAccount.objects.count() == 1


# Disconnecting


def test_disconnecting_takes_the_account_off_and_leaves_the_session(site: Site, grace: Any) -> None:
    """Its grants go, sessions that came through it end, and the person stays signed in here."""
    browser, phone = password_login(site, grace), site.browser()
    connect(site, browser)
    site.sign_in(phone)
    account = SpatioAccount.objects.get()

    response = disconnect(browser, account)

    assert (response.status_code, response["Location"]) == (302, "/spatio/account/")
    assert state(browser) == {"user": "grace", "account": None, "scopes": []}
    assert state(phone)["user"] == ""
    assert not SpatioAccount.objects.exists()
    assert not SpatioToken.objects.exists()


def test_another_password_session_outlives_the_grant_it_was_given(site: Site, grace: Any) -> None:
    """It was signed in by a password, so only the access to Spatio ends."""
    laptop, phone = password_login(site, grace), password_login(site, grace)
    connect(site, laptop)
    connect(site, phone)

    disconnect(phone, SpatioAccount.objects.get())

    assert state(laptop) == {"user": "grace", "account": None, "scopes": []}


def test_a_session_whose_backend_is_gone_counts_as_ours(site: Site) -> None:
    """Nobody can tell any more who signed it in: better that it ends than that it outlives its grant."""
    browser = site.browser()
    site.sign_in(browser)
    session = browser.session
    session[auth.BACKEND_SESSION_KEY] = "nowhere.Backend"
    session.save()
    browser.get("/plain/")
    assert auth.SESSION_KEY in browser.session
    SpatioToken.objects.all().delete()

    browser.get("/plain/")

    assert auth.SESSION_KEY not in browser.session


def test_the_button_alone_connects_and_leads_on(site: Site, grace: Any, rf: Any) -> None:
    """For a page of the site that shows the rest in its own way."""
    request = rf.get("/settings/")
    source = '{% load spatio %}{% spatio_connect_button next="/other/?a=1&b=2" label="Bring Spatio" %}'

    html = engines["django"].from_string(source).render({}, request)

    assert 'action="/spatio/account/connect/"' in html
    assert "Bring Spatio</button>" in html
    assert html.count("csrfmiddlewaretoken") == 1
    (next_url,) = re.findall(r'name="next" value="([^"]*)"', html)
    assert (
        connect(site, password_login(site, grace), next=unescape(next_url))["Location"] == "/other/?a=1&b=2"
    )


def test_the_session_that_came_through_it_goes_on_too(site: Site, grace: Any) -> None:
    """Who has a password can disconnect in a session that Spatio signed in."""
    connect(site, password_login(site, grace))
    browser = site.browser()
    site.sign_in(browser)

    response = disconnect(browser, SpatioAccount.objects.get(), next="/other/")

    assert response["Location"] == "/other/"
    assert state(browser)["user"] == "grace"


def test_the_last_way_in_stays(site: Site) -> None:
    """Not until there is a password: neither the page offers it, nor does a forged form do it."""
    browser = site.browser()
    site.sign_in(browser)
    account = SpatioAccount.objects.get()

    assert "Set a password first" in browser.get("/spatio/account/").content.decode()
    assert_refused(disconnect(browser, account), "last_way_in", 403)
    account.user.password = ""
    account.user.save()
    site.sign_in(browser)
    assert_refused(disconnect(browser, account), "last_way_in", 403)
    assert SpatioAccount.objects.exists()


def test_with_another_spatio_account_it_is_not_the_last(site: Site) -> None:
    """Sites may join several through the backend."""
    browser = site.browser()
    site.sign_in(browser)
    account = SpatioAccount.objects.get()
    other = SpatioAccount.objects.create(user=account.user, issuer=site.spatio.issuer, sub="other")

    assert disconnect(browser, other).status_code == 302
    assert SpatioAccount.objects.get() == account
    assert state(browser)["user"] == "ada"


def test_nobody_disconnects_for_another(site: Site, grace: Any) -> None:
    """The form's number is looked for among one's own."""
    connect(site, password_login(site, grace))
    account = SpatioAccount.objects.get()
    mallory = password_login(site, User.objects.create_user("mallory", password="x"))

    for browser in (mallory, site.browser()):
        assert disconnect(browser, account)["Location"] == "/spatio/account/"
    for number in ("", "x", "9" * 40, "-1", "²"):
        assert mallory.post("/spatio/account/disconnect/", {"account": number}).status_code == 302
    assert SpatioAccount.objects.exists()


def test_disconnecting_takes_a_post_with_the_csrf_token(site: Site, grace: Any) -> None:
    """A link on another site disconnects nothing."""
    connect(site, password_login(site, grace))
    account = SpatioAccount.objects.get()
    browser = Client(enforce_csrf_checks=True, headers={"Sec-Fetch-Mode": "navigate"})
    browser.force_login(grace)

    assert browser.get("/spatio/account/disconnect/").status_code == 405
    assert disconnect(browser, account).status_code == 403
    token = str(browser.get("/spatio/account/").context["csrf_token"])
    assert disconnect(browser, account, csrfmiddlewaretoken=token).status_code == 302
    assert not SpatioAccount.objects.exists()


# Guests, collisions, the admin


def test_a_guest_is_told_to_sign_in_as_always(db: None, client: Client) -> None:
    """Where ``LOGIN_URL`` leads to Spatio, sending them there would make a second user of them."""
    response = client.get("/spatio/account/?next=/me/")

    assert response.status_code == 200
    assert "the way you always do" in response.content.decode()
    assert response.context["login_url"] == login_url("/spatio/account/?next=/me/")


def test_a_guest_goes_to_the_login_page_of_a_site_that_has_one(
    db: None, client: Client, settings: Any
) -> None:
    """As with ``login_required``."""
    settings.LOGIN_URL = "/admin/login/"

    assert client.get("/spatio/account/")["Location"] == "/admin/login/?next=/spatio/account/"
    assert client.post("/spatio/account/connect/")["Location"] == "/spatio/account/"


def test_a_taken_address_leads_to_signing_in_and_connecting(site: Site, settings: Any) -> None:
    """The error page of a first sign-in points to where the existing user connects."""
    settings.AUTHENTICATION_BACKENDS = ["tests.test_connect.Taken"]

    response = site.sign_in(site.browser())

    assert response.context["code"] == "email_taken"
    assert 'href="/spatio/account/"' in response.content.decode()
    assert "then connect" in str(response.context["explanation"])


def test_a_site_without_the_account_page_explains_without_the_link(site: Site, settings: Any) -> None:
    """It named fewer addresses than there are. What would have led there leads to the page wanted."""
    settings.AUTHENTICATION_BACKENDS = ["tests.test_connect.Taken"]
    assert site.sign_in(site.browser()).context["account_url"] == "/spatio/account/"
    few = [page for page in spatio_urlpatterns if page.name != "account"]
    settings.ROOT_URLCONF = (path("spatio/", include((few, "spatio"))),)

    response = site.sign_in(site.browser())

    assert (response.context["code"], response.context["account_url"]) == ("email_taken", None)
    guest = site.browser()
    assert guest.post("/spatio/account/connect/")["Location"] == "/"
    assert guest.post("/spatio/account/connect/", {"next": "/settings/"})["Location"] == "/settings/"


class Taken(backends.SpatioBackend):
    """Finds every address taken."""

    def create_user(self, claims: dict[str, Any]) -> Any:
        """Refuse as for a model with unique addresses."""
        raise LoginRefused("Taken.", code="email_taken")


def test_the_page_explains_a_missing_backend(site: Site, grace: Any, settings: Any) -> None:
    """Never a 500."""
    browser = password_login(site, grace)
    assert browser.get("/spatio/account/").status_code == 200
    settings.AUTHENTICATION_BACKENDS = ["django.contrib.auth.backends.ModelBackend"]

    assert browser.get("/spatio/account/").context["code"] == "backend_missing"


def test_the_admin_login_page_has_the_button(
    site: Site, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the documented line; a person whom the admin does not let in reads so, and goes in no circles."""
    from django.contrib import admin

    browser = site.browser()
    assert "spatio" not in browser.get("/admin/login/?next=/admin/auth/").content.decode()
    monkeypatch.setattr(admin.site, "login_template", "spatio_django/admin_login.html")

    html = browser.get("/admin/login/?next=/admin/auth/").content.decode()

    assert "/spatio/login/?next=%2Fadmin%2Fauth%2F&amp;explicit=1" in html
    landed = site.sign_in(browser, next="/admin/auth/")
    assert landed["Location"] == "/admin/auth/"
    denied = browser.get("/admin/auth/", follow=True)
    assert denied.redirect_chain == [("/admin/login/?next=/admin/auth/", 302)]
    assert "not authorized" in " ".join(denied.content.decode().split())


def test_registering_is_all_that_connecting_needs(spatio: FakeSpatio, grace: Any, settings: Any) -> None:
    """The same client, the same callback: nothing more is registered."""
    settings.SPATIO_ISSUER = spatio.issuer
    call_command("spatio_register", "--base-url", Site.origin, verbosity=0)
    site = Site(spatio)

    connect(site, password_login(site, grace))

    assert len(spatio.calls("/oauth2/register")) == 1


# Attacks and accidents


def test_a_callback_and_cookies_that_somebody_planted_connect_nothing(site: Site, grace: Any) -> None:
    """Mallory began, and has Grace's browser finish, so that her user would get his Spatio account."""
    mallory = password_login(site, User.objects.create_user("mallory", password="x"))
    callback = site.authorize(begin(site, mallory))
    victim = password_login(site, grace)

    assert_refused_with(victim.get(callback), "state", 400)
    for name, cookie in mallory.cookies.items():
        if "spatio_flow" in name:
            victim.cookies[name] = cookie.value
    assert_refused(victim.get(callback), "connect_user", 403)

    assert not SpatioAccount.objects.exists()
    assert state(victim) == {"user": "grace", "account": None, "scopes": []}
    assert site.spatio.calls("/oauth2/token") == []


def assert_refused_with(response: Any, code: str, status: int) -> None:
    """See the page that explains."""
    assert (response.status_code, response.context["code"]) == (status, code)


def test_the_cookie_says_what_the_callback_is_for(site: Site, grace: Any) -> None:
    """The code of one flow with the state of another: neither signs in nor connects."""
    browser = password_login(site, grace)
    to_connect = site.authorize(begin(site, browser))
    to_sign_in = site.authorize(site.begin(browser, next="/me/", explicit="1"), persona="bo")
    codes = [parse_qs(urlsplit(url).query)["code"][0] for url in (to_connect, to_sign_in)]

    for url in (to_connect.replace(codes[0], codes[1]), to_sign_in.replace(codes[1], codes[0])):
        assert browser.get(url).status_code in {403, 502}  # PKCE: Spatio refuses the code

    assert not SpatioAccount.objects.exists()
    assert state(browser)["user"] == "grace"


def test_two_tabs_each_land_on_their_page(site: Site, grace: Any) -> None:
    """Begun twice, finished twice, connected once."""
    browser = password_login(site, grace)
    callbacks = [site.authorize(begin(site, browser, next=f"/other/?{tab}")) for tab in (1, 2)]

    assert [browser.get(callback)["Location"] for callback in callbacks] == ["/other/?1", "/other/?2"]
    assert SpatioAccount.objects.count() == 1
    assert SpatioToken.objects.count() == 1


def test_signing_out_while_spatio_answers_is_not_undone(
    site: Site, grace: Any, misbehaviour: Misbehaviour, settings: Any
) -> None:
    """In another tab: a new key for the session that is gone would have brought it back."""
    settings.SESSION_ENGINE = "django.contrib.sessions.backends.cache"
    browser = password_login(site, grace)
    session = browser.session
    callback = site.authorize(begin(site, browser))

    def sign_out(status: str, headers: dict[str, str], body: bytes) -> tuple[str, dict[str, str], bytes]:
        session.flush()
        return status, headers, body

    misbehaviour.lies["/oauth2/token"] = sign_out

    assert_refused(browser.get(callback), "connect_user", 403)

    assert state(browser)["user"] == ""
    assert not SpatioAccount.objects.exists()
    misbehaviour.lies.clear()
    connect(site, password_login(site, grace))
    assert SpatioAccount.objects.get().user == grace


def test_a_failure_to_connect_is_always_explained(site: Site, grace: Any, settings: Any) -> None:
    """``LOGIN_REDIRECT_URL_FAILURE`` is a page about signing in, for people who aren't."""
    settings.LOGIN_REDIRECT_URL_FAILURE = "/plain/"
    browser = password_login(site, grace)
    connect(site, browser)

    assert_refused(connect(site, browser, persona="bo"), "already_connected", 403)
    denied = site.authorize(site.begin(site.browser()), allow=False)
    assert site.browser().get(denied)["Location"] == "/plain/"


def test_a_user_who_is_gone_meanwhile_is_no_error(site: Site, grace: Any) -> None:
    """Deleted while Spatio answered, or while the form was open."""
    account = connected(grace)
    backend = backends.SpatioBackend()
    other = User.objects.create_user("other")
    key = other.pk
    other.delete()
    other.pk = key

    with pytest.raises(LoginRefused, match="gone") as caught:
        backend.connect(other, completed("acc_other"))
    assert caught.value.code == "connect_user"
    stale = SpatioAccount.objects.get()
    grace.delete()
    backend.disconnect(stale)

    assert not SpatioAccount.objects.exists()
    assert account.pk


def connected(user: Any, sub: str = "acc_1") -> SpatioAccount:
    """Have *user* connected."""
    return SpatioAccount.objects.create(user=user, issuer=conf.SPATIO_ISSUER, sub=sub)


def test_a_password_that_was_taken_away_a_moment_ago_is_no_way_in(grace: Any) -> None:
    """The row decides that is there now, not the one that the page was made from."""
    account = connected(grace)
    account = SpatioAccount.objects.select_related("user").get()
    assert backends.SpatioBackend().may_disconnect(account)
    grace.set_unusable_password()
    grace.save()

    with pytest.raises(LoginRefused) as caught:
        backends.SpatioBackend().disconnect(account)

    assert caught.value.code == "last_way_in"
    assert SpatioAccount.objects.exists()


def test_a_password_that_no_backend_takes_is_no_way_in(site: Site, grace: Any, settings: Any) -> None:
    """On a site where Spatio is the only way to sign in, whatever ``createsuperuser`` stored."""
    browser = password_login(site, grace)
    connect(site, browser)
    account = SpatioAccount.objects.get()
    assert backends.SpatioBackend().may_disconnect(account)
    settings.AUTHENTICATION_BACKENDS = ["tests.test_connect.Refusing"]

    assert not backends.SpatioBackend().may_disconnect(account)
    spatio_only = site.browser()
    spatio_only.force_login(grace, backend="tests.test_connect.Refusing")
    assert_refused(disconnect(spatio_only, account), "last_way_in", 403)
    settings.AUTHENTICATION_BACKENDS += ["django.contrib.auth.backends.ModelBackend"]
    assert backends.SpatioBackend().may_disconnect(account)


def test_whoever_sets_a_password_can_disconnect(site: Site) -> None:
    """With the view that docs/connecting.md shows, in the same session; and then sign in with it."""
    browser = site.browser()
    site.sign_in(browser)
    account = SpatioAccount.objects.get()
    assert_refused(disconnect(browser, account), "last_way_in", 403)
    page = browser.get("/password/").content.decode()
    assert "old_password" not in page

    password = "correct horse battery"
    changed = browser.post("/password/", {"new_password1": password, "new_password2": password})

    assert changed["Location"] == "/spatio/account/"
    assert 'action="/spatio/account/disconnect/"' in browser.get("/spatio/account/").content.decode()
    assert disconnect(browser, account)["Location"] == "/spatio/account/"
    assert state(browser) == {"user": "ada", "account": None, "scopes": []}
    assert site.browser().login(username="ada", password=password)
    assert "old_password" in browser.get("/password/").content.decode()


def test_a_database_that_ends_one_of_two_at_once_is_asked_again(grace: Any) -> None:
    """MariaDB resolves a deadlock that way, and SQLite a busy file."""
    backend = backends.SpatioBackend()
    with connection.execute_wrapper(refuse_inserts(2)):
        assert backend.connect(grace, completed("acc_1")).user == grace
    assert SpatioAccount.objects.count() == 1
    SpatioAccount.objects.all().delete()

    with connection.execute_wrapper(refuse_inserts(9)), pytest.raises(OperationalError):
        backend.connect(grace, completed("acc_1"))
    assert not SpatioAccount.objects.exists()


def test_only_the_users_row_is_locked(db: None) -> None:
    """Whatever their manager joins: PostgreSQL refuses to lock what an outer join may lack."""
    joining = Permission.objects.select_related("content_type")
    assert "JOIN" in str(joining.query)

    class Joining(backends.SpatioBackend):
        """As if the user model's manager did that."""

        def users(self) -> Any:
            """Give users that bring others along."""
            return joining

    with CaptureQueriesContext(connection) as queries, transaction.atomic():
        assert Joining().locked(0) is None

    (sql,) = (query["sql"] for query in queries if "auth_permission" in query["sql"])
    assert "JOIN" not in sql


def refuse_inserts(times: int) -> Any:
    """Give a database that refuses a number of accounts."""
    left = iter(range(times))

    def wrapper(execute: Any, sql: str, *rest: Any) -> Any:
        if sql.startswith("INSERT") and "spatioaccount" in sql and next(left, None) is not None:
            raise OperationalError("deadlock found")
        return execute(sql, *rest)

    return wrapper


@pytest.mark.django_db(transaction=True)
def test_connecting_and_signing_in_at_once_end_with_one_account(site: Site, grace: Any) -> None:
    """Whoever is first: the account is Grace's or a new user's, and neither gets half of it."""
    connecting, arriving = password_login(site, grace), site.browser()
    callbacks = [site.authorize(begin(site, connecting)), site.authorize(site.begin(arriving))]

    with ThreadPoolExecutor(2) as pool:
        done = list(pool.map(visit, (connecting, arriving), callbacks))

    owner = SpatioAccount.objects.get().user
    assert done == [302 if owner == grace else 403, 302]
    assert state(arriving)["user"] == owner.username
    assert User.objects.count() == (1 if owner == grace else 2)


class ReadsElsewhere:
    """A router that reads what it is told from a replica, which the tests may not open."""

    def db_for_read(self, model: Any, **hints: Any) -> str | None:
        """Send our rows to the replica; Django's own session and user middleware stay here."""
        return "other" if model._meta.app_label == "spatio_django" else None


class ReadsUsersElsewhere:
    """Likewise for users, for what only the backend asks."""

    def db_for_read(self, model: Any, **hints: Any) -> str:
        """Send everything there."""
        return "other"


def test_nothing_is_decided_by_a_replica(site: Site, grace: Any, settings: Any) -> None:
    """It may not have heard of the account yet, or not of its end."""
    settings.DATABASE_ROUTERS = ["tests.test_connect.ReadsElsewhere"]
    with pytest.raises(AssertionError, match="not allowed"):
        SpatioAccount.objects.exists()
    browser = password_login(site, grace)

    connect(site, browser)
    assert "Ada Lovelace" in browser.get("/spatio/account/").content.decode()
    account = SpatioAccount.objects.using("default").get()
    assert disconnect(browser, account)["Location"] == "/spatio/account/"

    assert not SpatioAccount.objects.using("default").exists()
    assert state(browser) == {"user": "grace", "account": None, "scopes": []}


def test_who_is_joined_by_address_is_not_asked_of_a_replica(grace: Any, settings: Any) -> None:
    """There somebody may not be staff yet, or not have the address any more."""
    settings.SPATIO_LINK_VERIFIED_EMAIL = True
    settings.DATABASE_ROUTERS = ["tests.test_connect.ReadsUsersElsewhere"]
    with pytest.raises(AssertionError, match="not allowed"):
        User.objects.exists()
    ada = User.objects.create_user("ada", "ada@example.com")
    claims: dict[str, Any] = {"email": "ada@example.com", "email_verified": True}

    assert backends.SpatioBackend().authenticate(None, spatio_login=completed("acc_1", **claims)) == ada
    claims["email"] = "grace@example.com"
    assert backends.SpatioBackend().authenticate(None, spatio_login=completed("acc_2", **claims)) != grace


def test_without_djangos_messages_nothing_is_missing(site: Site, grace: Any, settings: Any) -> None:
    """The page itself shows what is."""
    settings.MIDDLEWARE = [path for path in settings.MIDDLEWARE if "messages" not in path]
    browser = password_login(site, grace)

    assert connect(site, browser)["Location"] == "/spatio/account/"
    assert disconnect(browser, SpatioAccount.objects.get())["Location"] == "/spatio/account/"


def test_a_session_store_that_fails_connects_nobody_half(site: Site, grace: Any, settings: Any) -> None:
    """A page of ours; the account is connected or not, and the session is what it was."""
    browser = password_login(site, grace)
    callback = site.authorize(begin(site, browser))
    settings.SESSION_ENGINE = "tests.failingsessions"
    broken = site.browser()
    broken.cookies.load(browser.cookies)

    assert_refused(broken.get(callback), "site_error", 503)

    assert state(browser) == {"user": "grace", "account": None, "scopes": []}
    settings.SESSION_ENGINE = "django.contrib.sessions.backends.db"
    assert connect(site, browser)["Location"] == "/spatio/account/"
    assert state(browser)["account"]


def test_a_store_that_fails_behind_the_new_key_does_not_matter(
    site: Site, grace: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The session was written whole, so nothing is left to write when the answer leaves."""
    browser = password_login(site, grace)
    callback = site.authorize(begin(site, browser))
    save = SessionStore.save

    def once(self: SessionStore, must_create: bool = False) -> None:
        if not must_create:
            raise RuntimeError("the session store is down")
        save(self, must_create)

    monkeypatch.setattr(SessionStore, "save", once)
    assert browser.get(callback).status_code == 302
    monkeypatch.undo()

    assert state(browser)["account"]


def test_a_session_that_gets_no_new_key_gets_no_grant(
    site: Site, grace: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A page of ours; the session goes on as it was, and no grant is left that nobody's session holds."""
    browser = password_login(site, grace)
    callback = site.authorize(begin(site, browser))

    def fail(self: SessionStore, must_create: bool = False) -> None:
        raise RuntimeError("the session store is down")

    monkeypatch.setattr(SessionStore, "save", fail)
    assert_refused(browser.get(callback), "site_error", 503)
    monkeypatch.undo()

    assert state(browser)["user"] == "grace"
    assert not SpatioToken.objects.exists()


@pytest.mark.parametrize("engine", ["cache", "cached_db", "file", "signed_cookies"])
def test_any_session_engine_connects(
    site: Site, grace: Any, settings: Any, engine: str, tmp_path: Path
) -> None:
    """Nothing is asked of the session that one of Django's own can't tell."""
    settings.SESSION_ENGINE = f"django.contrib.sessions.backends.{engine}"
    settings.SESSION_FILE_PATH = str(tmp_path)
    browser = password_login(site, grace)

    assert connect(site, browser)["Location"] == "/spatio/account/"
    assert state(browser)["account"]
    disconnect(browser, SpatioAccount.objects.get())
    assert state(browser) == {"user": "grace", "account": None, "scopes": []}


def test_htmx_is_told_where_to_go(site: Site, grace: Any) -> None:
    """``hx-boost`` takes forms over, and follows its own header only."""
    browser = password_login(site, grace)
    headers = {"HX-Request": "true", "HX-Boosted": "true", "Sec-Fetch-Mode": "cors"}

    response = browser.post("/spatio/account/connect/", {"next": "/other/"}, headers=headers)

    callback = site.authorize(response["HX-Redirect"])
    assert browser.get(callback)["Location"] == "/other/"


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("head", "/spatio/account/", 200),
        ("options", "/spatio/account/", 405),
        ("post", "/spatio/account/", 405),
        ("head", "/spatio/account/connect/", 405),
        ("options", "/spatio/account/connect/", 405),
        ("put", "/spatio/account/disconnect/", 405),
        ("get", "/spatio/account/disconnect/?account=1", 405),
    ],
)
def test_other_methods_change_nothing(site: Site, grace: Any, method: str, path: str, status: int) -> None:
    """A link checker may look at the page; nothing but a form does anything."""
    account = connected(grace)
    browser = password_login(site, grace)

    response = getattr(browser, method)(path)

    assert response.status_code == status
    assert SpatioAccount.objects.get() == account
    assert site.spatio.calls("/oauth2/authorize") == []


@pytest.mark.parametrize(
    "number",
    ["", "x", "9" * 40, "9" * 18, "-1", "²", "\u0661", "1\0", " 1", "1 ", "1_0", "0x1", "1.0", "\ud800"],
)
def test_a_number_that_is_none_is_nobodys(site: Site, grace: Any, number: str) -> None:
    """No error from the database, whatever a form holds."""
    account = connected(grace)
    browser = password_login(site, grace)

    body = urlencode({"account": number.encode("utf-8", "surrogatepass")})
    response = browser.post(
        "/spatio/account/disconnect/", body, content_type="application/x-www-form-urlencoded"
    )

    assert response["Location"] == "/spatio/account/"
    assert SpatioAccount.objects.exists()
    assert disconnect(browser, account).status_code == 302
    assert not SpatioAccount.objects.exists()


@pytest.mark.parametrize(
    "address", ["//evil.example/", "/\\evil.example", "https://evil.example/", "/spatio/logout/", "/ü", "/\0"]
)
def test_a_hostile_next_is_dropped_everywhere(site: Site, grace: Any, address: str) -> None:
    """The page doesn't show it, and no form follows it."""
    browser = password_login(site, grace)

    shown = browser.get("/spatio/account/", {"next": address})
    assert shown.context["next_url"] is None
    assert connect(site, browser, next=address)["Location"] == "/spatio/account/"
    assert disconnect(browser, SpatioAccount.objects.get(), next=address)["Location"] == "/spatio/account/"
    assert browser.get("/spatio/account/?next=/other/").context["next_url"] == "/other/"


def test_an_older_releases_cookie_is_no_error(site: Site, grace: Any) -> None:
    """What it had sealed had another layout; on the day of the upgrade people have such cookies."""
    browser = password_login(site, grace)
    callback = site.authorize(begin(site, browser))
    (name,) = (name for name in browser.cookies if "spatio_flow" in name)
    sealed = key_ring().seal(Secret("[1,2,3,4,5,6,7,[[],null,null],false]"), context="flow.1:" + name)
    honest = browser.cookies[name].value
    browser.cookies[name] = sealed

    assert_refused_with(browser.get(callback), "state", 400)
    assert browser.get("/spatio/login/").status_code == 302
    browser.cookies[name] = honest
    assert browser.get(callback)["Location"] == "/spatio/account/"


def test_the_tag_is_about_who_is_signed_in(site: Site, grace: Any, rf: Any) -> None:
    """Not about the ``user`` whose profile a page shows (Django's ``DetailView`` calls them that)."""
    account = connected(grace)
    account.claims = {"name": "Grace Hopper"}
    account.save()
    template = engines["django"].from_string("{% load spatio %}{% spatio_account %}")

    def shown_to(viewer: Any) -> str:
        request = rf.get("/profile/")
        request.user = viewer
        return str(template.render({"user": grace}, request))

    assert "Grace Hopper" in shown_to(grace)
    html = shown_to(User.objects.create_user("visitor"))
    assert "Grace Hopper" not in html
    assert "/spatio/account/connect/" in html
    assert shown_to(AnonymousUser()).strip() == ""


def test_what_happened_is_said_at_once_on_our_own_base(site: Site, grace: Any) -> None:
    """Not days later, on the first page of the site that shows messages."""
    browser = password_login(site, grace)
    connect(site, browser)

    html = browser.get("/spatio/account/").content.decode()

    assert '<p class="spatio-message" role="status">Your Spatio account is connected.</p>' in html
    assert "is connected.</p>" not in browser.get("/spatio/account/").content.decode()
