"""A person with a browser, in a few lines: what ``FakeSpatio.sign_in`` does over real HTTP."""

import urllib.request
from collections.abc import Mapping
from html.parser import HTMLParser
from http.cookiejar import CookieJar
from urllib.parse import urlencode, urljoin


def open_browser(jar: CookieJar) -> urllib.request.OpenerDirector:
    """
    A client that keeps cookies in *jar* and hands back every answer, redirects and errors included.

    Put together by hand: ``build_opener`` would add proxies from the environment, and load the system's
    certificates for https, which takes longer than all of a sign-in.
    """
    opener = urllib.request.OpenerDirector()
    opener.add_handler(urllib.request.HTTPHandler())
    opener.add_handler(urllib.request.HTTPCookieProcessor(jar))
    return opener


class Page(HTMLParser):
    """The form, the links and the text of a page; void of style, as a screen reader has it."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.action = ""
        self.hidden: dict[str, str] = {}
        self.choices: list[str] = []
        self.links: list[str] = []
        self.text = ""
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note what matters about the element."""
        have = {name: value or "" for name, value in attrs}
        if tag == "form":
            self.action = have.get("action", "")
        elif tag == "a":
            self.links.append(have.get("href", ""))
        elif tag == "input" and have.get("type") == "hidden":
            self.hidden[have["name"]] = have["value"]
        elif tag == "input" and have.get("name") == "persona":
            self.choices.append(have["value"])

    def handle_data(self, data: str) -> None:
        """Collect the text, with its white space folded."""
        self.text = " ".join(f"{self.text} {data}".split())


class Person:
    """Follows redirects within the provider, chooses a persona and presses a button."""

    def __init__(self, issuer: str, jar: CookieJar) -> None:
        self.issuer = issuer
        self._opener = open_browser(jar)

    def open(self, url: str, form: Mapping[str, str] | None = None) -> tuple[str | None, str]:
        """The Location of the answer, or ``None``, and its text; an error page fails the test."""
        data = None if form is None else urlencode(form).encode()
        with self._opener.open(urllib.request.Request(url, data), timeout=30) as answer:  # noqa: S310
            location, text = answer.headers["Location"], answer.read().decode()
        if location is None and answer.status >= 400:
            raise AssertionError(f"The provider answered {answer.status}: {Page(text).text}")
        return (None if location is None else urljoin(url, location)), text

    def arrive(self, url: str) -> tuple[str, Page | None]:
        """Open *url* and follow redirects until they leave the provider or end at a page."""
        while True:
            location, text = self.open(url)
            if location is None:
                return url, Page(text)
            if not location.startswith(f"{self.issuer}/"):
                return location, None
            url = location

    def sign_in(self, url: str, persona: str, *, allow: bool) -> str:
        """Where the site's browser is sent in the end."""
        url, page = self.arrive(url)
        if page is None:
            return url
        if not page.choices and page.hidden.get("signed_in_as") != persona:
            # Somebody else is signed in: "use another account".
            url, page = self.arrive(next(urljoin(url, link) for link in page.links if "switch=" in link))
            assert page is not None  # noqa: S101 - the same page with other contents
        form = page.hidden | {"decision": "allow" if allow else "deny"}
        if page.choices:
            if allow and persona not in page.choices:
                raise AssertionError(f"There is no persona {persona!r} among {page.choices}.")
            form["persona"] = persona
        location, text = self.open(urljoin(url, page.action), form)
        if location is None:
            raise AssertionError(f"The provider asks again: {Page(text).text}")
        return location
