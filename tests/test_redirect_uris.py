"""
The right redirect URI, whatever stands in front of the site: over real HTTP, with a browser's cookie jar.

The provider compares it character by character, so each walk that ends signed in had the right one.
"""

from collections.abc import Iterator
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
import requests
from django.core.management import call_command
from pytest_django.live_server_helper import LiveServer

from spatio_django.testing import FakeSpatio
from tests.frontend import proxy

pytestmark = pytest.mark.django_db(transaction=True)


class Browser:
    """A cookie jar that opens pages like somebody who types addresses."""

    def __init__(self, spatio: FakeSpatio, *, verify: str | bool = True, **headers: str) -> None:
        self.spatio = spatio
        self.redirect_uri = ""
        self.session = requests.Session()
        self.session.trust_env = False
        self.session.verify = verify
        self.session.headers.update({"Accept": "text/html", "Sec-Fetch-Mode": "navigate", **headers})

    def open(self, url: str) -> requests.Response:
        """Go there, through the provider if it leads there, and on to where it ends."""
        for _ in range(9):
            if url.startswith(f"{self.spatio.issuer}/oauth2/authorize"):
                self.redirect_uri = parse_qs(urlsplit(url).query)["redirect_uri"][0]
                url = self.spatio.sign_in(url)
            response = self.session.get(url, allow_redirects=False, timeout=20)
            if not response.is_redirect:
                return response
            url = requests.compat.urljoin(url, response.headers["Location"])
        raise AssertionError(f"It goes round and round, at {url}.")


@pytest.fixture
def server(transactional_db: None, spatio: FakeSpatio, settings: Any) -> Iterator[LiveServer]:
    """Serve the site, pointed to a provider and not registered yet."""
    settings.SPATIO_ISSUER = spatio.issuer
    live = LiveServer("127.0.0.1")
    yield live
    live.stop()


def register(*base_urls: str, **options: Any) -> None:
    """Register the site."""
    call_command("spatio_register", base_urls=base_urls, verbosity=0, **options)


def port(server: LiveServer) -> int:
    """Give the port of the site."""
    found = urlsplit(server.url).port
    assert found is not None
    return found


def test_where_it_is_registered_it_signs_in(server: LiveServer, spatio: FakeSpatio) -> None:
    """The plain case, which each of the others differs from in one thing."""
    register(server.url)
    browser = Browser(spatio)

    page = browser.open(f"{server.url}/other/")

    assert page.text.startswith("other page of ada")
    assert browser.redirect_uri == f"{server.url}/spatio/callback/"


def test_a_tls_proxy_that_tells_nothing_keeps_https(
    server: LiveServer, spatio: FakeSpatio, settings: Any
) -> None:
    """Without ``SECURE_PROXY_SSL_HEADER`` Django believes in http. The cookie is locked all the same."""
    settings.SECURE_PROXY_SSL_HEADER = None
    with proxy(urlsplit(server.url).netloc) as (origin, authority):
        register(origin)
        browser = Browser(spatio, verify=authority)

        page = browser.open(f"{origin}/other/")

        assert page.text.startswith("other page of ada")
        assert page.url == f"{origin}/other/"
        assert browser.redirect_uri == f"{origin}/spatio/callback/"
        (flow_cookie,) = (cookie for cookie in browser.session.cookies if "spatio_flow" in cookie.name)
        assert flow_cookie.name.startswith("__Host-")
        assert flow_cookie.secure


def test_a_proxy_that_hides_the_host_is_no_loop(server: LiveServer, spatio: FakeSpatio) -> None:
    """The site sees an inner name only: sent to the registered host once, and not again from there."""
    with proxy(urlsplit(server.url).netloc, host="inner.example") as (origin, authority):
        register(origin)
        browser = Browser(spatio, verify=authority)

        page = browser.open(f"{origin}/other/")

        assert page.text.startswith("other page of ada")
        assert page.url == f"{origin}/other/"
        assert browser.redirect_uri == f"{origin}/spatio/callback/"


def test_a_client_from_the_environment_is_as_right_behind_a_proxy(
    server: LiveServer, spatio: FakeSpatio, settings: Any, tmp_path: Any
) -> None:
    """``SPATIO_REDIRECT_URIS`` says what the database would."""
    with proxy(urlsplit(server.url).netloc) as (origin, authority):
        register(origin, "https://www.example.com", env_file=tmp_path / ".env")
        for line in (tmp_path / ".env").read_text().splitlines()[1:]:
            name, _, value = line.partition("=")
            setattr(settings, name, value)
        browser = Browser(spatio, verify=authority)

        assert browser.open(f"{origin}/other/").text.startswith("other page of ada")
        assert browser.redirect_uri == f"{origin}/spatio/callback/"


def test_opened_at_127_0_0_1_it_moves_to_localhost(server: LiveServer, spatio: FakeSpatio) -> None:
    """Before a cookie is set, so that the callback finds it; and the page that was wanted is kept."""
    local = f"http://localhost:{port(server)}"
    register(local)
    browser = Browser(spatio)

    page = browser.open(f"http://127.0.0.1:{port(server)}/other/?a=1")

    assert page.text == "other page of ada a=1"
    assert page.url == f"{local}/other/?a=1"
    assert browser.redirect_uri == f"{local}/spatio/callback/"
    assert not browser.session.cookies.list_domains().count("127.0.0.1")


def test_each_of_several_domains_is_its_own(server: LiveServer, spatio: FakeSpatio) -> None:
    """Nobody who came to one ends at the other."""
    origins = [f"http://{host}:{port(server)}" for host in ("localhost", "127.0.0.1")]
    register("https://www.example.com", *origins)
    for origin in origins:
        browser = Browser(spatio)

        assert browser.open(f"{origin}/other/").text.startswith("other page of ada")
        assert browser.redirect_uri == f"{origin}/spatio/callback/"
        assert {cookie.domain.removesuffix(".local") for cookie in browser.session.cookies} == {
            urlsplit(origin).hostname
        }


@pytest.mark.parametrize("hosts", [["*"], ["127.0.0.1"]])
def test_a_forged_host_chooses_nothing(
    server: LiveServer, spatio: FakeSpatio, settings: Any, hosts: list[str]
) -> None:
    """Whether Django refuses it or not: no code is ever sent there."""
    register(server.url)
    settings.ALLOWED_HOSTS = hosts
    assert Browser(spatio).open(f"{server.url}/other/").text.startswith("other page of ada")

    forged = Browser(spatio, Host="evil.example").session.get(
        f"{server.url}/spatio/login/", allow_redirects=False, timeout=20
    )

    if hosts == ["*"]:
        assert forged.headers["Location"] == f"{server.url}/spatio/login/?moved=1"
        assert "Set-Cookie" not in forged.headers
        insisting = Browser(spatio, Host="evil.example").session.get(
            f"{server.url}/spatio/login/?moved=1", allow_redirects=False, timeout=20
        )
        sent_to = parse_qs(urlsplit(insisting.headers["Location"]).query)
        assert sent_to["redirect_uri"] == [f"{server.url}/spatio/callback/"]
    else:
        assert forged.status_code == 400


def test_a_prefix_that_a_proxy_takes_off_is_in_the_redirect_uri(
    server: LiveServer, spatio: FakeSpatio, settings: Any
) -> None:
    """``FORCE_SCRIPT_NAME``: the command knows it too, and every address on the way has it."""
    settings.FORCE_SCRIPT_NAME = "/app"
    settings.LOGIN_REDIRECT_URL = "me"
    with proxy(urlsplit(server.url).netloc, strip="/app") as (origin, authority):
        register(origin)
        browser = Browser(spatio, verify=authority)

        page = browser.open(f"{origin}/app/spatio/login/")

        assert page.url == f"{origin}/app/me/"
        assert "ada" in page.text
        assert browser.redirect_uri == f"{origin}/app/spatio/callback/"
        call_command("spatio_register", "--check", verbosity=0)
