"""A person with a browser, in a few lines: pages, forms, cookies and redirects over real HTTP."""

from dataclasses import dataclass
from html.parser import HTMLParser
from urllib.parse import urljoin

import requests

#: Redirects in a row; a sign-in needs five.
MOST_REDIRECTS = 20


class Form(HTMLParser):
    """The form of a page: where it goes, and the fields it has filled itself."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.action = ""
        self.hidden: dict[str, str] = {}
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note what matters about the element."""
        have = {name: value or "" for name, value in attrs}
        if tag == "form":
            self.action = have.get("action", "")
        elif tag == "input" and have.get("type") == "hidden":
            self.hidden[have["name"]] = have.get("value", "")


@dataclass(frozen=True)
class Page:
    """Where a person has arrived."""

    url: str
    status: int
    text: str


class Person:
    """Opens pages, fills in forms and follows redirects, up to :attr:`halt` if that is set."""

    #: Prefix of an address that is not to be opened but given back, such as the callback's.
    halt: str | None = None

    def __init__(self) -> None:
        self.session = requests.Session()
        self.session.trust_env = False
        # Without this the site takes the request for a script's, and sends no redirect to the provider.
        self.session.headers.update({"Sec-Fetch-Mode": "navigate", "Accept": "text/html"})

    def open(self, url: str, form: dict[str, str] | None = None) -> Page:
        """Go to *url*, or send it a form, and on to where that leads."""
        for _ in range(MOST_REDIRECTS):
            if self.halt is not None and url.startswith(self.halt):
                return Page(url=url, status=0, text="")
            with self.session.request(
                "GET" if form is None else "POST", url, data=form, allow_redirects=False, timeout=30
            ) as answer:
                if not answer.is_redirect:
                    return Page(url=url, status=answer.status_code, text=answer.text)
                url, form = urljoin(url, answer.headers["Location"]), None
        raise AssertionError(f"More than {MOST_REDIRECTS} redirects, the last to {url}.")

    def submit(self, page: Page, **fields: str) -> Page:
        """Fill in the form of *page* and send it."""
        assert "<form" in page.text, f"{page.url} answered {page.status} and has no form: {page.text}"
        form = Form(page.text)
        return self.open(urljoin(page.url, form.action), form.hidden | fields)
