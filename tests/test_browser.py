"""
The whole walk in real Chromium, over real HTTP, under a strict content security policy.

The site is on ``localhost`` and the provider on ``127.0.0.1``: two sites to a browser, as in production.
Every test fails if a page breaks the policy, throws in a script, or scrolls sideways.
"""

import os
import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from django.conf import settings as site_settings
from django.contrib import admin
from django.contrib.auth import get_user_model
from django.core.management import call_command
from django.http import HttpRequest, HttpResponse
from pytest_django.live_server_helper import LiveServer

from spatio_django.conf import conf
from spatio_django.models import SpatioToken
from spatio_django.testing import FakeSpatio

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]

#: Milliseconds for a page to come; a busy machine needs some of them.
PATIENCE = 20_000
ARGUMENTS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking"]
PHONE = {"width": 360, "height": 740}


def strict_policy(
    get_response: Callable[[HttpRequest], HttpResponse],
) -> Callable[[HttpRequest], HttpResponse]:
    """
    Middleware: allow what the site serves, and nothing inline.

    Under ``NARROW_FORMS`` no form may lead to Spatio either, not even by the redirects after it.
    """

    def add_policy(request: HttpRequest) -> HttpResponse:
        response = get_response(request)
        forms = "'self'" if getattr(site_settings, "NARROW_FORMS", False) else f"'self' {conf.SPATIO_ISSUER}"
        response["Content-Security-Policy"] = f"default-src 'self'; base-uri 'none'; form-action {forms}"
        return response

    return add_policy


def find_chromium() -> str:
    """Give the path of Chromium, or skip."""
    names = ("chromium", "chromium-browser", "google-chrome")
    path = os.environ.get("SPATIO_TESTS_CHROMIUM") or next(filter(None, map(shutil.which, names)), None)
    if path is None:
        pytest.skip("There is no Chromium; say where one is with SPATIO_TESTS_CHROMIUM.")
    return path


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    """Run Chromium for the tests of this module."""
    # Not at the top: where Playwright is absent, this module is read all the same.
    sync_api = pytest.importorskip("playwright.sync_api")
    path = find_chromium()
    with pytest.MonkeyPatch.context() as patch, sync_api.sync_playwright() as playwright:
        # Playwright keeps an event loop in this thread, but nothing of Django runs inside it.
        patch.setenv("DJANGO_ALLOW_ASYNC_UNSAFE", "1")
        browser = playwright.chromium.launch(executable_path=path, args=ARGUMENTS)
        yield browser
        browser.close()


@pytest.fixture
def origin(chromium: Any, transactional_db: None, spatio: FakeSpatio, settings: Any) -> Iterator[str]:
    """Serve the site, registered at a fresh provider."""
    settings.SPATIO_ISSUER = spatio.issuer
    settings.MIDDLEWARE = [f"{__name__}.strict_policy", *settings.MIDDLEWARE]
    server = LiveServer("localhost")
    call_command("spatio_register", "--base-url", server.url, "--client-name", "The library", verbosity=0)
    yield server.url
    server.stop()


@dataclass
class Visitor:
    """Somebody with a browser, on their way through the site."""

    context: Any
    page: Any
    origin: str

    def open(self, path: str) -> None:
        """Go to a page of the site."""
        self.page.goto(self.origin + path)

    def press(self, name: str) -> None:
        """Click the button or link of that name."""
        button = self.page.get_by_role("button", name=name, exact=True)
        button.or_(self.page.get_by_role("link", name=name, exact=True)).click()

    def arrives_at(self, path: str) -> None:
        """Wait for a page of the site."""
        self.page.wait_for_url(self.origin + path)

    def reads(self, heading: str) -> None:
        """Wait for a page with that heading."""
        self.page.get_by_role("heading", level=1, name=heading, exact=True).wait_for()

    def sees(self, text: str) -> None:
        """Wait for that text somewhere on the page."""
        self.page.get_by_text(text).wait_for()

    def signs_in(self, path: str = "/me/") -> None:
        """Open a page for members, and allow what it asks for."""
        self.open(path)
        self.press("Allow")
        self.arrives_at(path)


@pytest.fixture
def visit(chromium: Any, origin: str) -> Iterator[Callable[..., Visitor]]:
    """Give what opens new browsers; afterwards, nobody may have met a fault."""
    contexts, faults = [], []

    def open_browser(**options: Any) -> Visitor:
        context = chromium.new_context(locale="en-GB", **options)
        contexts.append(context)
        context.set_default_timeout(PATIENCE)
        context.on("console", lambda message: faults.append(message.text))
        context.on("weberror", lambda error: faults.append(str(error.error)))
        return Visitor(context, context.new_page(), origin)

    yield open_browser
    for context in contexts:
        for page in context.pages:
            assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), (
                f"{page.url} is too wide"
            )
        context.close()
    # Chromium notes answers such as 403 and a missing favicon here too; they are what the test expects.
    assert [fault for fault in faults if "the server responded with a status of" not in fault] == []


@pytest.fixture
def visitor(visit: Callable[..., Visitor]) -> Visitor:
    """Open a browser that has never been here."""
    return visit()


# The walk


def test_a_guest_clicks_the_button_allows_and_is_signed_in(visitor: Visitor) -> None:
    """Guest page, button, consent page, signed in: with the name that Spatio gave."""
    visitor.open("/")
    visitor.press("Sign in with Spatio")
    visitor.reads("The library wants to sign you in")
    visitor.press("Allow")

    visitor.arrives_at("/me/")
    visitor.reads("ada")
    visitor.sees("Ada Lovelace")


def test_a_guest_lands_on_the_page_that_was_wanted(visitor: Visitor) -> None:
    """``login_required`` leads to Spatio and back to the very address, query included."""
    visitor.signs_in("/other/?page=2&name=a%20b")

    assert "page=2&name=a%20b" in visitor.page.content().replace("&amp;", "&")


def test_who_denies_reads_a_friendly_page_and_may_think_again(visitor: Visitor) -> None:
    """Denying is a choice: a page says that nothing was shared, and "Try again" keeps the page wanted."""
    visitor.open("/other/?page=2")
    visitor.press("Deny")
    visitor.reads("Sign-in cancelled")
    visitor.sees("Nothing was shared with this site.")

    visitor.press("Try again")
    visitor.press("Allow")

    visitor.arrives_at("/other/?page=2")


def test_two_tabs_at_once_land_each_on_its_own_page(visitor: Visitor) -> None:
    """Sign-ins that overlap in one browser do not disturb each other."""
    first = visitor
    second = Visitor(visitor.context, visitor.context.new_page(), visitor.origin)
    first.open("/other/?tab=1")
    second.open("/other/?tab=2")
    first.reads("The library wants to sign you in")
    second.reads("The library wants to sign you in")

    second.press("Allow")
    second.arrives_at("/other/?tab=2")
    first.press("Allow")
    first.arrives_at("/other/?tab=1")


def test_signing_out_ends_the_session_and_the_next_sign_in_asks_who_it_is(visitor: Visitor) -> None:
    """The button signs out; on a shared computer one click does not bring the person back."""
    visitor.signs_in()
    visitor.press("Sign out")
    visitor.arrives_at("/")
    assert not SpatioToken.objects.exists()

    visitor.press("Sign in with Spatio")
    visitor.page.get_by_role("radio", name=re.compile("Cleo")).check()
    visitor.press("Allow")

    visitor.arrives_at("/me/")
    visitor.reads("cleo")


def test_reload_and_back_do_no_harm(visitor: Visitor) -> None:
    """Going back through a finished sign-in and forward again leaves the person signed in."""
    visitor.open("/")
    visitor.press("Sign in with Spatio")
    visitor.press("Allow")
    visitor.arrives_at("/me/")

    visitor.page.go_back()
    visitor.page.go_back()
    visitor.page.reload()
    visitor.open("/me/")

    visitor.reads("ada")


def test_keyboard_alone_is_enough(visitor: Visitor) -> None:
    """Tab and Enter sign in, and what has the focus shows it."""
    visitor.open("/")
    tab_to(visitor, "Sign in with Spatio")
    visitor.page.keyboard.press("Enter")
    visitor.reads("The library wants to sign you in")
    tab_to(visitor, "Allow")
    visitor.page.keyboard.press("Enter")
    visitor.arrives_at("/me/")
    tab_to(visitor, "Sign out")
    visitor.page.keyboard.press("Enter")

    visitor.arrives_at("/")


def tab_to(visitor: Visitor, name: str) -> None:
    """Press Tab until the element with that text has the focus, visibly."""
    reached = []
    for _ in range(10):
        visitor.page.keyboard.press("Tab")
        text, outline = visitor.page.evaluate(
            "[document.activeElement.innerText, getComputedStyle(document.activeElement).outlineStyle]"
        )
        reached.append(text.strip())
        if reached[-1] == name:
            assert outline != "none"
            return
    raise AssertionError(f"{name!r} is not among {reached}")


# Connecting


def test_the_superuser_connects_and_disconnects_by_keyboard(phone: Visitor, settings: Any) -> None:
    """Password, account page, consent, connected; under a policy that lets forms lead to this site only."""
    settings.NARROW_FORMS = True
    get_user_model().objects.create_superuser("grace", password="correct horse")
    phone.open("/admin/login/?next=/spatio/account/")
    phone.page.get_by_label("Username").fill("grace")
    phone.page.get_by_label("Password").fill("correct horse")
    phone.page.keyboard.press("Enter")
    phone.reads("Spatio account")
    check_look(phone)

    tab_to(phone, "Connect Spatio")
    phone.page.keyboard.press("Enter")
    phone.reads("The library wants to sign you in")
    phone.press("Allow")
    phone.arrives_at("/spatio/account/")
    phone.sees("Ada Lovelace")
    check_look(phone)

    tab_to(phone, "Disconnect")
    phone.page.keyboard.press("Enter")
    phone.page.get_by_role("button", name="Connect Spatio").wait_for()
    phone.sees("You are signed in as grace")


def test_the_button_is_readable_on_the_admins_login_page(
    phone: Visitor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The admin gives links a colour of its own; ours keeps its white, and its distance from the form."""
    monkeypatch.setattr(admin.site, "login_template", "spatio_django/admin_login.html")
    phone.open("/admin/login/?next=/admin/")
    check_button(phone)
    tab_to(phone, "Sign in with Spatio")
    check_button(phone)
    above = phone.page.locator(".submit-row input").bounding_box()
    box = phone.page.locator(".spatio-button").bounding_box()
    assert box["y"] - above["y"] - above["height"] >= 8
    assert box["height"] >= 44

    phone.page.keyboard.press("Enter")
    phone.press("Allow")

    phone.arrives_at("/admin/login/?next=/admin/")
    phone.sees("You are authenticated as ada")
    assert phone.page.locator(".spatio-button").count() == 0


def check_button(visitor: Visitor) -> None:
    """Measure the contrast of our button alone; the rest of the page is Django's."""
    ((foreground, background, _),) = visitor.page.locator(".spatio-button").evaluate_all(
        f"elements => elements.map({LUMINANCE})"
    )
    assert (foreground + 0.05) / (background + 0.05) >= 4.5


def test_another_account_is_used_where_forms_lead_to_this_site_only(
    visit: Callable[..., Visitor], settings: Any
) -> None:
    """Signed in, not allowed, signed out, and on to Spatio: no redirect after a form is held against it."""
    settings.NARROW_FORMS = True
    visitor = visit()
    visitor.signs_in()
    visitor.open("/editors/")
    visitor.reads("This page is not for you")

    visitor.press("Use another account")

    visitor.reads("The library wants to sign you in")


# Settings of the site


@pytest.mark.parametrize("base_template", ["spatio_django/base.html", "foreign.html"])
def test_a_session_cookie_that_is_samesite_strict_works(
    visitor: Visitor, settings: Any, base_template: str
) -> None:
    """The last step is a page that moves on by itself, whatever base it extends, so the cookie is sent."""
    settings.SESSION_COOKIE_SAMESITE = "Strict"
    settings.SPATIO_BASE_TEMPLATE = base_template
    templates = {"foreign.html": "<!doctype html><title>T</title><body>{% block content %}{% endblock %}"}
    use_templates(settings, templates)

    visitor.signs_in("/other/?strict")

    cookies = {cookie["name"]: cookie for cookie in visitor.context.cookies()}
    assert cookies["sessionid"]["sameSite"] == "Strict"
    assert "other page of ada" in visitor.page.content()


def use_templates(settings: Any, templates: dict[str, str]) -> None:
    """Let the site have these templates too, before all others."""
    (engine,) = settings.TEMPLATES
    loaders = [
        ("django.template.loaders.locmem.Loader", templates),
        "django.template.loaders.filesystem.Loader",
        "django.template.loaders.app_directories.Loader",
    ]
    options = engine["OPTIONS"] | {"loaders": loaders}
    settings.TEMPLATES = [engine | {"APP_DIRS": False, "OPTIONS": options}]


# How it looks


@pytest.fixture(params=["light", "dark"])
def phone(request: pytest.FixtureRequest, visit: Callable[..., Visitor]) -> Visitor:
    """Open a browser on a narrow screen, by day and by night."""
    return visit(viewport=PHONE, color_scheme=request.param)


def test_every_page_fits_a_phone_and_is_readable_by_day_and_by_night(phone: Visitor) -> None:
    """At 360 pixels nothing scrolls sideways, and text meets WCAG AA (4.5:1) in both colour schemes."""
    phone.open("/spatio/callback/?state=unknown&code=none")
    phone.reads("Signing in did not work")
    check_look(phone)
    phone.open("/")
    check_look(phone)
    phone.press("Sign in with Spatio")
    check_look(phone)
    phone.press("Deny")
    phone.reads("Sign-in cancelled")
    check_look(phone)
    phone.press("Try again")
    phone.press("Allow")
    phone.arrives_at("/me/")
    check_look(phone)
    phone.open("/editors/")
    phone.reads("This page is not for you")
    check_look(phone)


def test_the_page_of_a_lost_form_fits_a_phone_and_leads_on_by_keyboard(phone: Visitor) -> None:
    """Told once, in words that can be read; then the sign-in goes on."""
    phone.context.add_cookies([{"name": "spatio_interrupted", "value": "1", "url": phone.origin}])
    phone.open("/me/")
    phone.reads("Your session has ended")
    check_look(phone)

    tab_to(phone, "Sign in again")
    phone.page.keyboard.press("Enter")

    phone.press("Allow")
    phone.arrives_at("/me/")


def test_dark_is_dark(visit: Callable[..., Visitor]) -> None:
    """Our own base follows the scheme that the visitor prefers."""
    shades = {}
    for scheme in ("light", "dark"):
        visitor = visit(color_scheme=scheme)
        visitor.open("/spatio/callback/")
        (background,) = visitor.page.locator("body").evaluate_all(f"elements => elements.map({LUMINANCE})")
        shades[scheme] = background[1]

    assert shades["light"] > 0.8
    assert shades["dark"] < 0.05


def check_look(visitor: Visitor) -> None:
    """Measure the page: its width, and the contrast of each text."""
    wide = visitor.page.evaluate("document.documentElement.scrollWidth")
    assert wide <= PHONE["width"], visitor.page.url
    texts = visitor.page.locator("h1, p, a, button, code, legend, label span, li")
    assert texts.count() > 0
    for foreground, background, text in texts.evaluate_all(f"elements => elements.map({LUMINANCE})"):
        high, low = sorted((foreground, background), reverse=True)
        assert (high + 0.05) / (low + 0.05) >= 4.5, (text, visitor.page.url)


#: Relative luminance (WCAG 2.2) of an element's text and of what is behind it. The canvas does the mixing.
LUMINANCE = """element => {
  const context = document.createElement('canvas').getContext('2d', {willReadFrequently: true});
  const paint = colour => { context.fillStyle = colour; context.fillRect(0, 0, 1, 1); };
  const measure = () => {
    const [red, green, blue] = [...context.getImageData(0, 0, 1, 1).data].map(
      part => part / 255 <= 0.04045 ? part / 255 / 12.92 : ((part / 255 + 0.055) / 1.055) ** 2.4);
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue;
  };
  const behind = [];
  for (let each = element; each; each = each.parentElement) behind.unshift(each);
  paint('white');
  behind.forEach(each => paint(getComputedStyle(each).backgroundColor));
  const background = measure();
  paint(getComputedStyle(element).color);
  return [measure(), background, element.innerText];
}"""


def test_forced_colours_and_reduced_motion_are_respected(visit: Callable[..., Visitor]) -> None:
    """In high contrast the button keeps an edge; nothing moves for people who don't want that."""
    visitor = visit(forced_colors="active", reduced_motion="reduce")
    visitor.open("/")
    button = visitor.page.locator(".spatio-button")
    style = button.evaluate(
        """element => { const {borderTopColor, borderTopWidth, backgroundColor, transitionDuration} =
             getComputedStyle(element); return [borderTopColor, borderTopWidth, backgroundColor,
             transitionDuration]; }"""
    )

    edge, width, background, motion = style
    assert edge != background
    assert width == "1px"
    assert motion == "0s"


# Who may not


def test_somebody_without_the_permission_may_use_another_account(visitor: Visitor) -> None:
    """The page says who is signed in; its button signs out, and the other account lands on the page."""
    visitor.signs_in()
    visitor.open("/editors/")
    visitor.reads("This page is not for you")
    visitor.sees("You are signed in as Ada Lovelace")

    visitor.press("Use another account")

    visitor.reads("The library wants to sign you in")
    visitor.page.get_by_role("radio", name=re.compile("Cleo")).check()
    visitor.press("Allow")
    visitor.reads("This page is not for you")
    visitor.sees("You are signed in as Cleo Marchetti")
