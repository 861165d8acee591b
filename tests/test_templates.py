"""Our templates: whole without script, in any base, in any language, and changed block by block."""

import gettext
import re
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import AnonymousUser, User
from django.contrib.staticfiles import finders
from django.template.loader import render_to_string
from django.test import Client, RequestFactory
from django.utils import translation
from django.utils.translation import gettext_lazy, trans_real

import spatio_django
from spatio_django.exceptions import LoginRefused
from spatio_django.explanations import explanation
from spatio_django.models import SpatioAccount

FOLDER = Path(spatio_django.__file__).parent / "templates"
BASE = "spatio_django/base.html"
PAGES = ("login_error", "not_allowed", "continue", "account")
BUTTONS = ("login_button", "logout_button", "connect_button", "account_panel")
VOID = {"meta", "link", "input", "br", "hr", "img"}

#: What the views and tags give; each value that people see is in digits, which need no translation.
CONTEXT: dict[str, Any] = {
    "base_template": BASE,
    "code": "11",
    "heading": gettext_lazy("Signing in did not work"),
    "account_url": "/spatio/account/",
    "connected": [
        (SpatioAccount(pk=1234, sub="55", claims={"email": "66"}), True),
        (SpatioAccount(pk=77, sub="88"), False),
    ],
    "reference": "22",
    "choice": False,
    "retry_label": gettext_lazy("Try again"),
    "sign_out": False,
    "retry_url": "/spatio/login/?next=%2Fme%2F&explicit=1",
    "home_url": "/home/",
    "next_url": "/me/?page=2&sort=1",
    "login_url": "/spatio/login/?next=%2Fme%2F&explicit=1",
    "label": "44",
    "stylesheet": True,
    "csrf_token": "c" * 64,
}


def rendered(name: str, user: User | AnonymousUser | None = None, **context: Any) -> str:
    """Render a template as a signed-in person gets it, or as *user* does."""
    request = RequestFactory().get("/")
    request.user = user or User(username="33")
    refused = explanation(LoginRefused("", code="inactive"))
    return render_to_string(
        f"spatio_django/{name}.html", {"explanation": refused, **CONTEXT, **context}, request
    )


class Page(HTMLParser):
    """A page as a browser reads it; an element that is not closed, or not open, fails the test."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.texts: dict[str, str] = {}
        self._open: list[str] = []
        self.feed(html)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note the element."""
        self.elements.append((tag, {name: value or "" for name, value in attrs}))
        if tag not in VOID:
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        """Check that it is the one to close."""
        assert tag == self._open.pop()

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note the element; SVG is written so."""
        self.elements.append((tag, {name: value or "" for name, value in attrs}))

    def handle_data(self, data: str) -> None:
        """Collect the text of each kind of element."""
        for tag in self._open:
            self.texts[tag] = " ".join(f"{self.texts.get(tag, '')} {data}".split())

    def all(self, tag: str) -> list[dict[str, str]]:
        """Give the attributes of all elements of one kind."""
        return [attributes for name, attributes in self.elements if name == tag]


VARIANTS = [
    *(pytest.param(name, {}, id=name) for name in (*PAGES, *BUTTONS)),
    pytest.param("login_error", {"choice": True}, id="denied"),
    pytest.param("logout_button", {"next_url": "", "stylesheet": False}, id="logout_button-bare"),
    pytest.param("account_panel", {"connected": []}, id="account_panel-empty"),
    pytest.param("continue", {"base_template": "foreign.html"}, id="continue-foreign"),
]


@pytest.fixture(autouse=True)
def site_templates(settings: Any) -> dict[str, str]:
    """Let the site of the tests have templates of its own, before all others: what a test puts in here."""
    templates = {"foreign.html": "<h2>The site</h2>{% block content %}{% endblock %}"}
    (engine,) = settings.TEMPLATES
    loaders = [
        ("django.template.loaders.locmem.Loader", templates),
        "django.template.loaders.filesystem.Loader",
        "django.template.loaders.app_directories.Loader",
    ]
    options = engine["OPTIONS"] | {"loaders": loaders}
    settings.TEMPLATES = [engine | {"APP_DIRS": False, "OPTIONS": options}]
    return templates


@pytest.fixture(autouse=True)
def english() -> Iterator[None]:
    """Speak English, whatever language the test before left behind."""
    with translation.override("en"):
        yield


# As HTML


@pytest.mark.parametrize(
    ("claims", "shown"),
    [
        ({"name": "Ada", "email": "ada@example.com"}, ["Ada", "ada@example.com"]),
        ({"email": "ada@example.com"}, ["ada@example.com"]),
        ({"name": "ada@example.com", "email": "ada@example.com"}, ["ada@example.com"]),
    ],
)
def test_an_address_is_shown_once(claims: dict[str, str], shown: list[str]) -> None:
    """Beside the name; who has none is called by the address."""
    html = rendered("account_panel", connected=[(SpatioAccount(pk=1, sub="s", claims=claims), True)])

    assert re.findall(r"Ada|ada@example\.com", html) == shown


@pytest.mark.parametrize("choice", [True, False])
@pytest.mark.parametrize("name", PAGES)
def test_a_page_is_whole_and_accessible(name: str, choice: bool) -> None:
    """Language, title, viewport, one main, one heading of the first level, which the title repeats."""
    html = rendered(name, choice=choice)
    page = Page(html)

    assert html.startswith("<!doctype html>")
    assert page.all("html") == [{"lang": "en"}]
    assert {"name": "viewport", "content": "width=device-width, initial-scale=1"} in page.all("meta")
    assert len(page.all("main")) == len(page.all("h1")) == 1
    assert page.texts["title"] == page.texts["h1"]


@pytest.mark.parametrize(("name", "context"), VARIANTS)
def test_nothing_needs_a_policy_that_allows_inline(name: str, context: dict[str, Any]) -> None:
    """No script, no style, no handler: ``default-src 'self'`` is enough."""
    for tag, attributes in Page(rendered(name, **context)).elements:
        assert tag not in {"script", "style", "iframe", "object", "base"}
        assert "style" not in attributes
        assert not [attribute for attribute in attributes if attribute.startswith("on")]
        assert not attributes.get("href", "").startswith(("http", "//", "javascript:", "data:"))


@pytest.mark.parametrize(("name", "context"), VARIANTS)
def test_what_comes_from_outside_is_escaped(name: str, context: dict[str, Any]) -> None:
    """No value, wherever it is shown, becomes markup."""
    evil = "\"'><b x=1>"
    values = {
        key: evil for key, value in CONTEXT.items() if isinstance(value, str) and key != "base_template"
    }

    html = rendered(name, **(values | context), explanation=evil)

    assert "<b x=1>" not in html
    Page(html)


def test_a_right_to_left_language_is_laid_out_as_one() -> None:
    """``lang`` and ``dir`` follow the active language."""
    with translation.override("ar"):
        assert Page(rendered("continue")).all("html") == [{"lang": "ar", "dir": "rtl"}]


# What the pages say


def test_an_error_says_what_to_tell_those_who_help() -> None:
    """Explanation, code, reference, who is still signed in, and the two ways on."""
    html = rendered("login_error")
    page = Page(html)

    assert "is switched off" in page.texts["p"]
    assert "<p>You are still signed in as <strong>33</strong>.</p>" in html
    assert page.texts["code"] == "11 22"
    assert [link["href"] for link in page.all("a")] == [
        CONTEXT["retry_url"],
        "/spatio/account/",
        "/home/",
    ]


def test_whoever_has_to_sign_out_first_can_do_it_there() -> None:
    """And only somebody who is signed in has to."""
    assert Page(rendered("login_error")).all("form") == []
    assert Page(rendered("login_error", AnonymousUser(), sign_out=True)).all("form") == []

    (form,) = Page(rendered("login_error", sign_out=True)).all("form")

    assert form["action"] == "/spatio/logout/"


def test_a_choice_is_no_error() -> None:
    """Who denied reads no word of failure."""
    page = Page(rendered("login_error", choice=True, heading="Sign-in cancelled"))

    assert page.texts["h1"] == page.texts["title"] == "Sign-in cancelled"
    assert not [text for text in page.texts.values() if "did not work" in text]


@pytest.mark.parametrize("choice", [True, False])
def test_a_guest_is_not_told_to_be_signed_in(choice: bool) -> None:
    """The line about the session is for those who have one."""
    assert "still signed in" in rendered("login_error", choice=choice)
    assert "still signed in" not in rendered("login_error", AnonymousUser(), choice=choice)


def test_a_person_is_called_by_their_name_if_there_is_one() -> None:
    """Full name, or else the username; escaped once."""
    html = rendered("not_allowed", User(username="ada", first_name="Ada", last_name="O'Neill & Co"))

    assert "<strong>Ada O&#x27;Neill &amp; Co</strong>" in html


@pytest.mark.parametrize("name", ["not_allowed", "logout_button"])
def test_signing_out_is_a_post_with_the_csrf_token(name: str) -> None:
    """The form goes to our sign-out and says where to land."""
    page = Page(rendered(name))

    assert {"class": "spatio-form", "method": "post", "action": "/spatio/logout/"} in page.all("form")
    fields = {field["name"]: field["value"] for field in page.all("input")}
    assert set(fields) - {"page_between"} == {"csrfmiddlewaretoken", "next"}
    assert fields["next"] == "/me/?page=2&sort=1"


@pytest.mark.parametrize("base_template", [BASE, "foreign.html"])
def test_the_page_between_has_a_link(base_template: str) -> None:
    """For whoever stays: the header that moves the browser on is the view's."""
    page = Page(rendered("continue", base_template=base_template))

    assert [link["href"] for link in page.all("a")] == ["/me/?page=2&sort=1"]


# In a site's own design


@pytest.mark.parametrize("name", PAGES)
def test_a_base_that_promises_only_content_gets_everything(name: str) -> None:
    """Heading, text, links, forms and stylesheet are all inside the one block that every base has."""
    ours, theirs = Page(rendered(name)), Page(rendered(name, base_template="foreign.html"))

    assert theirs.texts["h2"] == "The site"
    assert theirs.all("link") == [{"rel": "stylesheet", "href": "/static/spatio_django/spatio.css"}]
    for tag in ("h1", "p", "a", "button"):
        assert theirs.texts.get(tag) == ours.texts.get(tag)
        assert theirs.all(tag) == ours.all(tag)


def test_the_setting_names_the_base_of_our_pages(client: Client, settings: Any) -> None:
    """``SPATIO_BASE_TEMPLATE`` is honoured by the views."""
    settings.SPATIO_BASE_TEMPLATE = "foreign.html"

    response = client.get("/spatio/callback/")

    assert response.status_code == 400
    assert response.content.decode().startswith("<h2>The site</h2>")


BLOCKS = [
    (name, block)
    for name in PAGES
    for source in ("base", "page", name)
    for block in re.findall(r"{% block (\w+) %}", (FOLDER / f"spatio_django/{source}.html").read_text())
]


@pytest.mark.parametrize(("name", "block"), sorted(set(BLOCKS)))
def test_a_site_can_replace_any_one_block(site_templates: dict[str, str], name: str, block: str) -> None:
    """A template of the same name that extends ours changes that block, and keeps the rest."""
    before = rendered(name)
    site_templates[f"spatio_django/{name}.html"] = (
        f'{{% extends "spatio_django/{name}.html" %}}{{% block {block} %}}<!-- theirs -->{{% endblock %}}'
    )

    after = rendered(name)

    assert after.count("<!-- theirs -->") == 1
    assert after != before
    Page(after)


def test_the_blocks_that_the_documentation_promises_are_there() -> None:
    """Every page has heading, message, actions and details of its own."""
    for name in PAGES:
        blocks = {block for page, block in BLOCKS if page == name}
        assert {"title", "content", "spatio_heading", "spatio_message", "spatio_actions"} <= blocks
        assert {"head", "spatio_stylesheet", "spatio_details"} <= blocks


# In every language


class Brackets(gettext.NullTranslations):
    """A language in which every text is itself, in brackets."""

    def gettext(self, message: str) -> str:
        """Translate."""
        return f"⟦{message}⟧"

    def to_language(self) -> str:
        """Give the code of the language."""
        return "x-brackets"


@pytest.fixture
def brackets(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Speak in brackets."""
    monkeypatch.setitem(vars(trans_real)["_translations"], "x-brackets", Brackets())
    with translation.override("x-brackets"):
        yield


@pytest.mark.parametrize(("name", "context"), VARIANTS)
def test_every_word_is_translated(brackets: None, name: str, context: dict[str, Any]) -> None:
    """Nothing that people read or hear is fixed in English."""
    html = rendered(name, **context).replace("<h2>The site</h2>", "")
    translated = re.findall("⟦([^⟦⟧]*)⟧", html)
    page = Page(re.sub("⟦[^⟦⟧]*⟧", "", html))

    for text in page.texts.values():
        assert not re.search(r"[^\W\d_]", text), text
    for tag, attributes in page.elements:
        for spoken in {"title", "alt", "placeholder", "aria-label"} & set(attributes):
            assert not attributes[spoken], (tag, spoken)
    assert name in BUTTONS or len(translated) >= 3


# The stylesheet


def stylesheet() -> str:
    """Read it as staticfiles finds it, without comments."""
    path = finders.find("spatio_django/spatio.css")
    assert path
    return re.sub(r"/\*.*?\*/", "", Path(path).read_text(), flags=re.DOTALL)


def test_the_stylesheet_touches_nothing_of_the_site() -> None:
    """Every rule begins at a class of ours, and every variable has our prefix."""
    css = stylesheet()
    selectors = [
        selector.strip()
        for group in re.findall(r"([^{}]+){", css)
        if not group.strip().startswith("@")
        for selector in group.split(",")
    ]

    assert len(selectors) > 10
    assert [each for each in selectors if not each.startswith((".spatio-", ":where(:root)"))] == []
    assert [name for name in re.findall(r"--[\w-]+", css) if not name.startswith("--spatio-")] == []


def test_the_stylesheet_loads_nothing() -> None:
    """No font, picture or further sheet: nothing that a policy or a network could refuse."""
    assert "url(" not in stylesheet()
    assert "@import" not in stylesheet()


def test_the_variables_are_weaker_than_those_of_the_site() -> None:
    """A colour set on ``:root`` by the site wins, in whichever order the sheets are loaded."""
    css = stylesheet()

    assert set(re.findall(r"([^\s{}][^{}]*){\s*--spatio-", css)) == {":where(:root) "}


def test_every_class_in_the_templates_has_a_rule() -> None:
    """No class is a leftover; ``spatio-panel`` and its like are all in the stylesheet."""
    used = {
        name
        for path in FOLDER.rglob("*.*")
        for names in re.findall(r'class="([^"]+)"', path.read_text())
        for name in names.split()
    }

    assert used == {name for name in used if f".{name}" in stylesheet()}
