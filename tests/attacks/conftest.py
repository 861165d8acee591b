"""A site on a real server, for what Django's test client can't send or can't show."""

import http.client
import socket
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import pytest
from django.core.management import call_command
from pytest_django.live_server_helper import LiveServer

from spatio_django.testing import FakeSpatio
from tests.test_redirect_uris import Browser


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """An answer as it came: each header line, in order."""

    status: int
    headers: list[tuple[str, str]]
    body: bytes

    def all(self, name: str) -> list[str]:
        """Give each value of a header."""
        return [value for key, value in self.headers if key.lower() == name]

    def __getitem__(self, name: str) -> str:
        """Give the value of a header that is there once."""
        (value,) = self.all(name)
        return value


class Live:
    """The site, registered at a provider and served over HTTP."""

    def __init__(self, server: LiveServer, spatio: FakeSpatio) -> None:
        self.spatio = spatio
        self.url = server.url
        self.netloc = urlsplit(server.url).netloc

    def browser(self) -> Browser:
        """Open a browser that has never been here."""
        return Browser(self.spatio)

    def begin(self, browser: Browser, query: str = "") -> str:
        """Click the button; give the address at the provider that the browser is sent to."""
        response = browser.session.get(f"{self.url}/spatio/login/{query}", allow_redirects=False, timeout=20)
        assert response.headers["Location"].startswith(self.spatio.issuer)
        return response.headers["Location"]

    def callback(self, browser: Browser, **options: Any) -> str:
        """Click the button and sign in at the provider; give where it leads back to, without the origin."""
        return self.spatio.sign_in(self.begin(browser), **options).removeprefix(self.url)

    def ask(
        self,
        target: str | bytes,
        *headers: tuple[str, str],
        method: str = "GET",
        body: bytes = b"",
        browser: Browser | None = None,
        host: str | None = None,
        mode: str = "navigate",
    ) -> Reply:
        """
        Send these very bytes, and give the answer as it came.

        Args:
            target: As it stands in the request line.
            headers: Beside those that browsers send; a name may come twice.
            browser: Whose cookies go along.
            host: Instead of the site's.
            mode: What the browser says of its request (``Sec-Fetch-Mode``).
        """
        lines: list[tuple[str, str]] = [("Host", self.netloc if host is None else host)]
        lines += [("Accept", "text/html"), ("Sec-Fetch-Mode", mode), ("Connection", "close")]
        if browser is not None:
            lines.append(("Cookie", cookies(browser)))
        if body:
            lines.append(("Content-Length", str(len(body))))
        wire = target if isinstance(target, bytes) else target.encode()
        head = method.encode() + b" " + wire + b" HTTP/1.1\r\n"
        head += b"".join(f"{name}: {value}\r\n".encode("latin-1") for name, value in (*lines, *headers))
        address = urlsplit(self.url)
        with socket.create_connection((address.hostname or "", address.port or 0), timeout=20) as connection:
            connection.sendall(head + b"\r\n" + body)
            response = http.client.HTTPResponse(connection, method=method)
            response.begin()
            return Reply(status=response.status, headers=response.getheaders(), body=response.read())

    def user(self, browser: Browser) -> str:
        """Name who is signed in; empty for nobody."""
        response = browser.session.get(f"{self.url}/state/", timeout=20)
        return str(response.json()["user"])


def cookies(browser: Browser, *first: str) -> str:
    """Give the Cookie header that *browser* would send, with others before."""
    own: Iterable[str] = (f"{cookie.name}={cookie.value}" for cookie in browser.session.cookies)
    return "; ".join((*first, *own))


@pytest.fixture
def live(transactional_db: None, spatio: FakeSpatio, settings: Any) -> Iterator[Live]:
    """Serve the site, registered at a fresh provider."""
    settings.SPATIO_ISSUER = spatio.issuer
    server = LiveServer("127.0.0.1")
    try:
        call_command("spatio_register", "--base-url", server.url, verbosity=0)
        yield Live(server, spatio)
    finally:
        server.stop()
