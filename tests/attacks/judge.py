"""
Where an address leads a browser: by the WHATWG's rules for URLs (ada-url), and by nothing of this package.

Python's own parser reads addresses by other rules than browsers do, and an open redirect lives in the gap.
"""

from collections.abc import Iterator
from functools import lru_cache
from html.parser import HTMLParser
from urllib.parse import unquote

import ada_url
from django.urls import Resolver404, resolve

#: Those that act, so that nobody may be led there.
OWN_VIEWS = frozenset({"spatio:login", "spatio:callback", "spatio:logout"})


@lru_cache(maxsize=65536)  # pages have the same links again and again
def complaint(location: str, *, page: str) -> str | None:
    """
    Say what is wrong with sending a browser to *location*, or ``None``.

    It must stay at the origin of *page*, and must not be one of our own pages; also if somebody on the way
    (a proxy, a script, the next view) decodes it once more, in UTF-8 or byte by byte.

    Args:
        page: Where the browser is.
    """
    here = ada_url.URL(page).origin
    for reading in readings(location):
        try:
            url = ada_url.URL(reading, base=page)
        except ValueError:
            return f"{reading!r} is no address"
        if url.origin != here:
            return f"{reading!r} leads to {url.href!r}"
        if url.username or url.password:
            return f"{reading!r} carries credentials"
        if url.pathname.startswith("//"):
            return f"{reading!r} has the path {url.pathname!r}, which is another site's address by itself"
        for path in (unquote(url.pathname), unquote(url.pathname) + "/"):  # Django adds the slash by itself
            if view_at(path) in OWN_VIEWS:
                return f"{reading!r} is our own page {path}"
    return None


def readings(location: str) -> Iterator[str]:
    """Give *location* as it is, and decoded once more."""
    yield from dict.fromkeys((location, unquote(location), unquote(location, encoding="latin-1")))


def view_at(path: str) -> str | None:
    """Name the site's view at *path*."""
    try:
        return resolve(path).view_name
    except Resolver404:
        return None


class Addresses(HTMLParser):
    """
    Collects what a page leads to.

    Attributes:
        links: Where its links and forms go, and what it loads.
        hidden: Its hidden fields, by name.
    """

    def __init__(self, html: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.hidden: dict[str, str] = {}
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note the tag's addresses."""
        values = {name: value or "" for name, value in attrs}
        self.links.extend(values[name] for name in ("href", "src", "action", "formaction") if name in values)
        if tag == "input" and values.get("type") == "hidden":
            self.hidden[values.get("name", "")] = values.get("value", "")
