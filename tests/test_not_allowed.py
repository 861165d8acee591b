"""Signed in, but not allowed: each way that Django sends people away ends in a page, none in circles."""

import ast
import re
from pathlib import Path
from typing import Any

import pytest
from django.contrib import admin
from django.contrib.auth import get_user_model
from django.contrib.auth.models import Permission
from django.test import Client

from spatio_django.links import login_url
from tests.conftest import Site

#: All of them; some ask for a fixture that does by its name, which the marker's own rule can't see.
pytestmark = pytest.mark.provider

User = get_user_model()
PAGES = ("/editors/", "/staff/", "/checked/")


@pytest.fixture
def ada(site: Site) -> Client:
    """Give the browser of somebody who signed in with Spatio and has no rights here."""
    browser = site.browser()
    site.sign_in(browser)
    return browser


@pytest.fixture
def grace(site: Site) -> Client:
    """Give the browser of somebody who signed in with a password and has no rights here either."""
    browser = site.browser()
    browser.force_login(User.objects.create_user("grace", password="x"), backend=MODEL_BACKEND)
    return browser


MODEL_BACKEND = "django.contrib.auth.backends.ModelBackend"


def allow(username: str) -> None:
    """Give them the rights that all the pages ask for."""
    user = User.objects.get(username=username)
    user.is_staff = True
    user.save()
    user.user_permissions.add(Permission.objects.get(codename="add_user"))


@pytest.mark.parametrize("who", ["ada", "grace"])
@pytest.mark.parametrize("page", PAGES)
def test_a_page_that_is_not_for_them_says_so(request: pytest.FixtureRequest, page: str, who: str) -> None:
    """``permission_required``, ``user_passes_test`` and ``staff_member_required``: one redirect, then 403."""
    browser: Client = request.getfixturevalue(who)

    response = browser.get(f"{page}?a=1&b=2", follow=True)

    assert response.status_code == 403
    assert [url for url, _ in response.redirect_chain] == [f"/spatio/login/?next={page}%3Fa%3D1%26b%3D2"]
    assert response.templates[0].name == "spatio_django/not_allowed.html"
    assert response.context["next_url"] == f"{page}?a=1&b=2"
    allow(who)
    assert browser.get(page).status_code == 200


@pytest.mark.parametrize("page", PAGES)
def test_signing_in_again_ends_there_too(site: Site, ada: Client, page: str) -> None:
    """The page's own link leads through Spatio and back to the same explanation."""
    again = ada.get(page, follow=True).context["retry_url"]

    landed = ada.get(site.authorize(ada.get(again)["Location"]))

    assert landed["Location"] == page
    assert ada.get(page, follow=True).status_code == 403


def test_another_account_may_be_used_instead(site: Site, ada: Client) -> None:
    """Signing out there leads to the page again, and so to Spatio, which asks who it is."""
    user = User.objects.create_user("boss", is_superuser=True)
    user.spatio_accounts.create(issuer=site.spatio.issuer, sub=site.spatio.personas[1].sub)
    denied = ada.get("/editors/", follow=True)

    form = {"next": denied.context["next_url"], "page_between": "1"}
    assert all(f'name="{name}" value="{value}"' in denied.content.decode() for name, value in form.items())
    gone = ada.post("/spatio/logout/", form)
    # A page, and no redirect: under "form-action 'self'" browsers follow none that ends at Spatio.
    assert (gone.status_code, gone["Refresh"]) == (200, "0;url=/editors/")
    login = ada.get("/editors/")["Location"]
    callback = site.authorize(ada.get(login)["Location"], persona=site.spatio.personas[1].key)

    assert ada.get(callback)["Location"] == "/editors/"
    assert ada.get("/editors/").content == b"for editors"


def test_a_guest_is_sent_to_spatio_and_told_afterwards(site: Site) -> None:
    """Whether the page is for them shows only once it is known who they are."""
    browser = site.browser()
    login = browser.get("/editors/")["Location"]
    landed = browser.get(site.authorize(browser.get(login)["Location"]))

    assert landed["Location"] == "/editors/"
    assert browser.get("/editors/", follow=True).status_code == 403


FETCH = {"Sec-Fetch-Mode": "cors"}
HTMX = {**FETCH, "HX-Request": "true", "HX-Current-URL": "http://testserver/me/"}
OLD_BROWSER = {"X-Requested-With": "XMLHttpRequest", "Sec-Fetch-Mode": ""}


@pytest.mark.parametrize(
    ("headers", "content_type"),
    [(FETCH, "application/json"), (OLD_BROWSER, "application/json"), (HTMX, "text/html")],
)
def test_a_script_is_not_sent_in_circles(
    site: Site, ada: Client, headers: dict[str, str], content_type: str
) -> None:
    """
    Signing in again changes nothing, so a script isn't told to.

    One that runs when its page loads would come by here each time that Spatio leads back to the page.
    """
    guest = site.browser().get("/editors/", headers=headers, follow=True)
    assert guest.status_code == (200 if content_type == "text/html" else 401)

    response = ada.get("/editors/", headers=headers, follow=True)

    assert response.status_code == 403
    assert response["Content-Type"].startswith(content_type)
    assert "HX-Redirect" not in response
    if content_type == "application/json":
        assert response.json() == {"error": "not_allowed"}


def test_a_script_that_asks_for_more_still_signs_in(site: Site, ada: Client) -> None:
    """``spatio_login_required(max_age=…)`` means a sign-in that helps."""
    response = ada.get(login_url("/recent/", max_age=0), headers={"Sec-Fetch-Mode": "cors"})

    assert response.status_code == 401


# The admin


@pytest.fixture
def documented_line(monkeypatch: pytest.MonkeyPatch) -> None:
    """Do to ``urls.py`` what docs/connecting.md says."""
    text = (Path(__file__).parent.parent / "docs" / "connecting.md").read_text()
    (block,) = re.findall(r"```python\n(from django.contrib import admin\n.*?)```", text, re.DOTALL)
    (assignment,) = (node for node in ast.parse(block).body if isinstance(node, ast.Assign))
    assert ast.unparse(assignment.targets[0]) == "admin.site.login_template"
    monkeypatch.setattr(admin.site, "login_template", ast.literal_eval(assignment.value))


@pytest.mark.usefixtures("documented_line")
def test_staff_come_in_through_the_admins_own_page(site: Site) -> None:
    """Button, Spatio, and the page of the admin that was wanted."""
    user = User.objects.create_superuser("boss")
    user.spatio_accounts.create(issuer=site.spatio.issuer, sub=site.spatio.personas[0].sub)
    browser = site.browser()
    page = browser.get("/admin/auth/user/?q=a%20b", follow=True)
    (button,) = re.findall(r'class="spatio-button" href="([^"]*)"', page.content.decode())

    landed = browser.get(site.authorize(browser.get(button.replace("&amp;", "&"))["Location"]))

    assert landed["Location"] == "/admin/auth/user/?q=a%20b"
    assert browser.get(landed["Location"]).status_code == 200


@pytest.mark.usefixtures("documented_line")
@pytest.mark.parametrize("who", ["ada", "grace"])
@pytest.mark.parametrize("page", ["/admin/", "/admin/auth/user/", "/admin/login/?next=/admin/", "/member/"])
def test_whoever_is_not_staff_reads_so_on_the_admins_page(
    request: pytest.FixtureRequest, page: str, who: str
) -> None:
    """No circle, no button that would lead to one; the form is there for a user who is staff."""
    browser: Client = request.getfixturevalue(who)

    response = browser.get(page, follow=True)

    assert response.status_code == 200
    assert len(response.redirect_chain) == (0 if page.startswith("/admin/login") else 1)
    html = " ".join(response.content.decode().split())
    assert f"You are authenticated as {who}, but are not authorized" in html
    assert "spatio-button" not in html
    assert 'name="password"' in html
    allow(who)
    assert browser.get(page, follow=True).resolver_match.func.__name__ != "login"


@pytest.mark.usefixtures("documented_line")
@pytest.mark.parametrize("address", ["//evil.example/", "https://evil.example/", "/spatio/logout/"])
def test_the_admins_button_leads_nowhere_else(site: Site, address: str) -> None:
    """A hostile ``next`` doesn't get through."""
    html = site.browser().get("/admin/login/", {"next": address}).content.decode()
    (button,) = re.findall(r'class="spatio-button" href="([^"]*)"', html)

    # Since Django 6.1 the admin's front page takes the place of an address that isn't safe.
    assert button in {"/spatio/login/", "/spatio/login/?next=%2Fadmin%2F&amp;explicit=1"}


@pytest.mark.usefixtures("documented_line")
def test_the_admin_still_takes_passwords(site: Site) -> None:
    """The form is Django's own, with its errors."""
    User.objects.create_superuser("boss", password="correct horse")
    browser = site.browser()
    form: dict[str, Any] = {"username": "boss", "next": "/admin/"}

    wrong = browser.post("/admin/login/", {**form, "password": "wrong"})
    right = browser.post("/admin/login/", {**form, "password": "correct horse"})

    assert "spatio-button" in wrong.content.decode()
    assert "Please enter the correct" in wrong.content.decode()
    assert right["Location"] == "/admin/"
