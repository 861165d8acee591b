"""The consent page as a person meets it: its words, its controls, and that it is well-formed and safe."""

import re
from html.parser import HTMLParser
from http.cookiejar import CookieJar

import pytest

from spatio_django.testing import PERSONAS, FakeSpatio
from tests.testing.relying_party import CALLBACK, Answer, RelyingParty, fetch


def consent_page(rp: RelyingParty, jar: CookieJar | None = None, **changes: str | None) -> Answer:
    """Open the page."""
    jar = CookieJar() if jar is None else jar
    location = fetch(rp.authorization_url(**changes), jar=jar).headers["Location"] or ""
    answer = fetch(location, jar=jar)
    assert answer.status == 200
    return answer


class Elements(HTMLParser):
    """All start tags of a page, in order."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Collect."""
        self.found.append((tag, dict(attrs)))

    def all(self, tag: str) -> list[dict[str, str | None]]:
        """The attributes of each element of this name."""
        return [attributes for name, attributes in self.found if name == tag]


def test_it_says_who_asks_for_what(spatio: FakeSpatio) -> None:
    """The site's name, the host it returns to, and every scope in words."""
    rp = RelyingParty(spatio, client_name="Bücher & Co <i>", scope="openid profile email read:*")
    text = consent_page(rp, scope=None).text

    assert "Bücher &amp; Co &lt;i&gt;" in text
    assert "<strong>site.example</strong>" in text
    assert "development provider: no real accounts" in text.lower()
    for words in ("who you are", "your profile", "your e-mail address", "Read everything"):
        assert words in text
    assert "your e-mail address" not in consent_page(rp, scope="openid").text


def test_it_names_the_scheme_of_an_app(spatio: FakeSpatio) -> None:
    """An app's redirect URI has no host."""
    rp = RelyingParty(spatio)
    rp.client_id = spatio.register(["com.example.app:/cb"])["client_id"]

    assert "<strong>com.example.app:/cb</strong>" in consent_page(rp, redirect_uri="com.example.app:/cb").text


def test_it_has_the_promised_controls(rp: RelyingParty) -> None:
    """A radio button for each persona, one of them chosen, and two buttons: the hooks of browser tests."""
    page = Elements(consent_page(rp).text)
    radios = [element for element in page.all("input") if element.get("type") == "radio"]

    assert [radio["value"] for radio in radios] == [persona.key for persona in PERSONAS]
    assert {radio["name"] for radio in radios} == {"persona"}
    assert [radio["value"] for radio in radios if "checked" in radio] == ["ada"]
    assert [(button["name"], button["value"]) for button in page.all("button")] == [
        ("decision", "allow"),
        ("decision", "deny"),
    ]
    (form,) = page.all("form")
    assert (form["method"], form["action"]) == ("post", "/oauth2/authorize/confirm")


def test_it_says_who_is_signed_in(rp: RelyingParty) -> None:
    """No radio buttons then, but a way to them."""
    jar = CookieJar()
    rp.authorize(jar=jar, persona="zoe")
    text = consent_page(rp, jar, prompt="consent").text
    page = Elements(text)

    assert "signed in as <strong>Zoë Ångström-李</strong>" in text
    assert not [element for element in page.all("input") if element.get("type") == "radio"]
    (link,) = page.all("a")
    again = Elements(fetch(rp.url(link["href"] or ""), jar=jar).text)
    assert [radio["value"] for radio in again.all("input") if "checked" in radio] == ["zoe"]


def test_it_links_what_the_client_registered(rp: RelyingParty) -> None:
    """About, privacy and terms, when there are any."""
    assert not Elements(consent_page(rp).text).all("a")
    body = {
        "client_name": "Linked",
        "redirect_uris": [CALLBACK],
        "client_uri": "https://site.example/about",
        "policy_uri": "https://site.example/privacy",
        "tos_uri": "https://site.example/terms",
    }
    rp.client_id = fetch(rp.url("/oauth2/register"), body=body).json["client_id"]
    links = Elements(consent_page(rp, scope=None).text).all("a")

    assert [link["href"] for link in links] == [body["client_uri"], body["policy_uri"], body["tos_uri"]]


def test_it_is_accessible(rp: RelyingParty) -> None:
    """A language, a title, a viewport, one heading of the first level, a label for each control."""
    text = consent_page(rp).text
    page = Elements(text)

    assert page.all("html") == [{"lang": "en"}]
    assert len(page.all("title")) == len(page.all("h1")) == len(page.all("main")) == 1
    assert "width=device-width" in text
    assert len(page.all("label")) == len(PERSONAS)
    assert len(page.all("legend")) == len(page.all("fieldset")) == 1


def test_nothing_runs_in_it_and_nothing_frames_it(rp: RelyingParty) -> None:
    """No script, no inline style, a strict policy, nothing kept by caches."""
    answer = consent_page(rp)
    page = Elements(answer.text)

    assert not page.all("script")
    assert not page.all("style")
    assert not [
        attributes for _, attributes in page.found if {"style", "onclick", "onload"} & set(attributes)
    ]
    policy = answer.headers["Content-Security-Policy"] or ""
    assert "default-src 'none'" in policy
    assert "frame-ancestors 'none'" in policy
    assert answer.headers["Cache-Control"] == "no-store"
    assert answer.headers["Referrer-Policy"] == "same-origin"


def test_its_stylesheet_is_served(rp: RelyingParty) -> None:
    """And the icon; both from this provider."""
    for link in Elements(consent_page(rp).text).all("link"):
        answer = fetch(rp.url(link["href"] or ""))
        assert answer.status == 200
        assert answer.headers.get_content_type() in ("text/css", "image/svg+xml")


def luminance(colour: str) -> float:
    """Relative luminance of a colour (WCAG 2.2)."""
    digits = colour.lstrip("#")
    digits = "".join(digit * 2 for digit in digits) if len(digits) == 3 else digits
    channels = [int(digits[start : start + 2], 16) / 255 for start in (0, 2, 4)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("scheme", [0, 1], ids=["light", "dark"])
def test_its_colours_can_be_read(spatio: FakeSpatio, scheme: int) -> None:
    """Text on its background reaches 4.5:1 in both colour schemes (WCAG 2.2, 1.4.3)."""
    css = fetch(spatio.issuer + "/static/provider.css").text
    block = re.findall(r":root \{(.*?)\}", css, re.DOTALL)[scheme]
    colours = dict(re.findall(r"--([a-z-]+): (#[0-9a-f]+);", block))
    pairs = [
        ("text", "card"),
        ("quiet", "card"),
        ("accent", "card"),
        ("on-accent", "accent"),
        ("on-warning", "warning"),
    ]
    for text, background in pairs:
        darker, lighter = sorted([luminance(colours[text]), luminance(colours[background])])
        assert (lighter + 0.05) / (darker + 0.05) >= 4.5, (text, background)


def test_the_front_page_says_how_to_use_it(spatio: FakeSpatio) -> None:
    """Whoever opens the issuer in a browser finds the setting and the personas."""
    text = fetch(spatio.issuer + "/").text

    assert f'SPATIO_ISSUER = "{spatio.issuer}"' in text
    assert all(persona.label in text for persona in PERSONAS)
