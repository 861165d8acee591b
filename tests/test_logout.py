"""Signing out: this session, this grant, and nothing else."""

from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from django.contrib.auth import get_user_model
from django.db import OperationalError, connection
from django.test import Client

from spatio_django.links import login_url
from spatio_django.models import SpatioToken
from tests.conftest import Site

User = get_user_model()


def test_signing_out_ends_this_session_and_leaves_the_others(site: Site) -> None:
    """The laptop is signed out, the phone is not."""
    laptop, phone = site.browser(), site.browser()
    site.sign_in(laptop)
    site.sign_in(phone)

    response = laptop.post("/spatio/logout/")

    assert (response.status_code, response["Location"]) == (302, "/")
    assert laptop.get("/state/").json()["user"] == ""
    assert phone.get("/state/").json()["user"] == "ada"
    assert SpatioToken.objects.count() == 1


def test_signing_out_takes_a_post_with_the_csrf_token(site: Site) -> None:
    """A picture on another site signs nobody out."""
    browser = Client(enforce_csrf_checks=True, headers={"Sec-Fetch-Mode": "navigate"})
    site.sign_in(browser)

    assert browser.get("/spatio/logout/").status_code == 405
    assert browser.post("/spatio/logout/").status_code == 403
    assert browser.get("/state/").json()["user"] == "ada"
    token = browser.get("/me/").context["csrf_token"]
    assert browser.post("/spatio/logout/", {"csrfmiddlewaretoken": str(token)}).status_code == 302
    assert browser.get("/state/").json()["user"] == ""


def test_after_signing_out_spatio_asks_who_it_is(site: Site) -> None:
    """Spatio still knows the person; the next click in this browser must not bring them straight back."""
    browser = site.browser()
    site.sign_in(browser)
    browser.post("/spatio/logout/")

    url = site.begin(browser)

    assert parse_qs(urlsplit(url).query)["prompt"] == ["login"]
    browser.get(site.authorize(url))
    assert "prompt" not in parse_qs(urlsplit(site.begin(browser)).query)


def test_the_form_says_where_signing_out_leads(site: Site) -> None:
    """A page of this site; anything else is ignored."""
    browser = site.browser()

    assert browser.post("/spatio/logout/", {"next": "/plain/"})["Location"] == "/plain/"
    assert browser.post("/spatio/logout/", {"next": "//evil.example"})["Location"] == "/"


def test_signing_out_in_the_admin_makes_spatio_ask_too(site: Site) -> None:
    """Whichever view it was; and a silent sign-in does not get past it."""
    browser = site.browser()
    site.sign_in(browser)
    User.objects.update(is_staff=True)
    browser.post("/admin/logout/")

    for url in ("/spatio/login/", login_url("/other/", prompt="none")):
        sent = browser.get(url)["Location"]
        assert parse_qs(urlsplit(sent).query)["prompt"] == ["login"]


def test_a_grant_that_is_gone_does_not_make_spatio_ask(site: Site) -> None:
    """Nobody signed out: the person comes back with one redirect."""
    browser = site.browser()
    site.sign_in(browser)
    SpatioToken.objects.all().delete()
    assert browser.get("/me/").status_code == 302

    assert "prompt" not in parse_qs(urlsplit(site.begin(browser)).query)


def test_signing_out_works_when_the_grants_can_not_be_reached(
    site: Site, caplog: pytest.LogCaptureFixture
) -> None:
    """Better that a row stays than that the person does."""

    def locked(execute: Any, sql: str, *rest: Any) -> Any:
        if "spatiotoken" in sql:
            raise OperationalError("the table is locked")
        return execute(sql, *rest)

    browser = site.browser()
    site.sign_in(browser)

    with connection.execute_wrapper(locked):
        assert browser.post("/spatio/logout/").status_code == 302

    assert browser.get("/state/").json()["user"] == ""
    assert "could not be looked at" in caplog.text
    assert "could not be ended" in caplog.text


def test_signing_out_a_password_session_asks_nothing_of_spatio(site: Site) -> None:
    """Only who signed in with Spatio is asked again there."""
    browser = site.browser()
    browser.force_login(User.objects.create_user("eve"), "django.contrib.auth.backends.ModelBackend")

    browser.post("/spatio/logout/")

    assert "prompt" not in parse_qs(urlsplit(site.begin(browser)).query)


def test_signing_out_elsewhere_drops_the_grant_too(site: Site) -> None:
    """The admin's sign-out, or any call of ``auth.logout``."""
    browser = site.browser()
    site.sign_in(browser)
    User.objects.update(is_staff=True)

    browser.post("/admin/logout/")

    assert SpatioToken.objects.count() == 0


def test_logging_out_without_a_request_is_survived(db: None) -> None:
    """Other packages send ``user_logged_out`` their own way."""
    from django.contrib.auth.signals import user_logged_out
    from django.http import HttpRequest

    user_logged_out.send(sender=User, request=None, user=None)
    user_logged_out.send(sender=User, request=HttpRequest(), user=None)
