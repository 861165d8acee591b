"""
Where our own calls go: nowhere that a redirect, a document or a URL with two readings would take them.

A trap listens beside the provider, at another origin of the same machine. What reaches it was led astray.
"""

import itertools
import json
from collections.abc import Callable, Iterator
from io import StringIO
from typing import Any

import ada_url
import pytest
import requests
from django.contrib.auth import get_user_model
from django.core.cache import cache
from django.core.management import CommandError, call_command
from hypothesis import given
from hypothesis import strategies as st
from urllib3.util import parse_url

from spatio_django import provider
from spatio_django.exceptions import ProtocolViolation
from spatio_django.models import SpatioClient, SpatioToken
from spatio_django.oidc.urls import is_loopback, origin, require_safe_url
from tests.conftest import Site
from tests.misbehaving import Misbehaviour
from tests.oidc.wire import Wire

pytestmark = pytest.mark.provider

User = get_user_model()

METADATA, OAUTH_METADATA = "/.well-known/openid-configuration", "/.well-known/oauth-authorization-server"
KEYS, TOKEN, USERINFO, REGISTER = (
    "/.well-known/jwks.json",
    "/oauth2/token",
    "/oauth2/userinfo",
    "/oauth2/register",
)


@pytest.fixture
def trap() -> Iterator[Wire]:
    """Listen where nothing of ours should ever come."""
    with Wire() as wire:
        yield wire


def new_process() -> None:
    """Forget metadata, keys and connections."""
    cache.clear()
    provider.close()


def sign_in(site: Site) -> str | None:
    """Sign in, in a new process; give the code of the error, or ``None``."""
    new_process()
    browser = site.browser()
    begun = browser.get("/spatio/login/")
    if begun.status_code != 302:
        return str(begun.context["code"])
    response = browser.get(site.authorize(begun["Location"]))
    if response.status_code == 302:
        return None
    assert browser.get("/state/").json()["user"] == ""
    return str(response.context["code"])


def register(*options: str) -> str | None:
    """Run the command, in a new process; give what it said was wrong, or ``None``."""
    new_process()
    try:
        call_command("spatio_register", *options, stdout=StringIO(), stderr=StringIO())
    except CommandError as error:
        return str(error)
    return None


BASE = ("--base-url", Site.origin)
numbers = itertools.count()


def change() -> str | None:
    """Change what is registered: the name, to one that it never had."""
    return register(*BASE, "--client-name", f"Name {next(numbers)}", "--update")


def outcome_of(site: Site, endpoint: str) -> str | None:
    """Make the calls that *endpoint* is one of."""
    if endpoint == "manage":
        return change()
    return register(*BASE, "--force") if endpoint == REGISTER else sign_in(site)


def path_of(endpoint: str) -> str:
    """Give the path of *endpoint*; that of the registration in force, for "manage"."""
    return f"{REGISTER}/{newest().client_id}" if endpoint == "manage" else endpoint


def newest() -> SpatioClient:
    """Give the registration in force."""
    return SpatioClient.objects.latest("pk")


STATUSES = [
    "301 Moved",
    "302 Found",
    "303 See Other",
    "307 Temporary Redirect",
    "308 Permanent Redirect",
    "300 Choices",
]
ENDPOINTS = [METADATA, OAUTH_METADATA, KEYS, TOKEN, USERINFO, REGISTER, "manage"]


@pytest.mark.parametrize("status", STATUSES)
@pytest.mark.parametrize("endpoint", ENDPOINTS)
def test_no_redirect_is_followed(
    site: Site, misbehaviour: Misbehaviour, trap: Wire, endpoint: str, status: str
) -> None:
    """At none of the endpoints, to no place: a 307 would hand code, secret or token to whoever is there."""
    if endpoint == OAUTH_METADATA:
        misbehaviour.answer(METADATA, "404 Not Found")
    else:
        assert outcome_of(site, endpoint) is None
    path = path_of(endpoint)
    before = newest()
    trap_path = "/trap-at-the-same-origin"
    targets = [trap.url, f"//127.0.0.1:{trap.port}/x", trap_path, path]
    User.objects.all().delete()
    site.spatio.registration_limit = None
    for target in targets:
        headers = {"Location": target, "Refresh": f"0;url={target}", "Content-Location": target}
        misbehaviour.lies[path] = lambda *_, told=headers: (status, told, b"{}")
        site.spatio.requests.clear()

        refused = outcome_of(site, endpoint)

        assert "redirect" in (refused or "")
        assert len([call for call in site.spatio.requests if call.path == path]) == 1
        assert not site.spatio.calls(trap_path)

    assert trap.connections == 0
    assert (User.objects.count(), SpatioToken.objects.count()) == (0, 0)
    after = newest()
    assert (after.client_id, after.client_secret) == (before.client_id, before.client_secret)


def test_the_trap_would_notice(site: Site, misbehaviour: Misbehaviour, trap: Wire) -> None:
    """An issuer on this machine may name another port of it: then the trap is called, and so can be."""
    misbehaviour.json(METADATA, token_endpoint=trap.url)

    assert sign_in(site) == "token_type"

    assert trap.connections == 1
    assert b"code_verifier" in trap.requests[0]


#: Places that are not what they look like, with the trap's port where {port} is.
ODD = [
    *(
        "http://127.1:{port}/",
        "http://2130706433:{port}/",
        "http://0x7f000001:{port}/",
        "http://0177.0.0.1:{port}/",
    ),
    *("http://0.0.0.0:{port}/", "http://0:{port}/", "http://127.0.0.2:{port}/", "http://127.0.0.1.:{port}/"),
    *("http://localhost.:{port}/", "http://[::ffff:127.0.0.1]:{port}/", "http://[0:0:0:0:0:0:0:1]:{port}/"),
    *("http://[::]:{port}/", "http://\u2460\u2461\u2466.0.0.1:{port}/", "http://127\u30020.0.1:{port}/"),
    *(
        "https://127.1:{port}/",
        "https://2130706433:{port}/",
        "https://0x7f.1:{port}/",
        "https://127.0.0.1:0/",
    ),
    *("http://user@127.0.0.1:{port}/", "http://user:pass@127.0.0.1:{port}/", "http://@127.0.0.1:{port}/"),
    *(
        "http://127.0.0.1:{port}@evil.example/",
        "https://api.spatio.app@127.0.0.1:{port}/",
        "https://a:b@evil.example",
    ),
    *(
        "http://evil.example\\@127.0.0.1:{port}/",
        "http://127.0.0.1:{port}\\evil.example",
        "http:\\\\127.0.0.1:{port}",
    ),
    *("http://127.0.0.1:{port}/#x", "http://127.0.0.1:{port}#@evil.example", "http://127.0.0.1\t:{port}/"),
    *(
        "http://127.0.0.1:{port}/\r\nX: y",
        " http://127.0.0.1:{port}/",
        "http://127.0.0.1:{port}/ x",
        "http://127.0.0.1%00:{port}/",
    ),
    *(
        "//127.0.0.1:{port}/",
        "/token",
        "127.0.0.1:{port}",
        "http:/127.0.0.1:{port}/",
        "http:127.0.0.1:{port}/",
    ),
    *(
        "http://evil.example/",
        "http://169.254.169.254/latest/",
        "http://[fd00:ec2::254]/",
        "http://10.0.0.1/",
    ),
    *(
        "ftp://127.0.0.1:{port}/",
        "file:///etc/passwd",
        "gopher://127.0.0.1:{port}/_x",
        "dict://127.0.0.1:{port}/",
    ),
    *(
        "unix:///run/x.sock",
        "http+unix://%2Frun%2Fx.sock/",
        "data:application/json,{{}}",
        "javascript:alert(1)",
        "",
        "x",
    ),
]
MEMBERS = [
    "authorization_endpoint",
    "token_endpoint",
    "jwks_uri",
    "userinfo_endpoint",
    "registration_endpoint",
]


@pytest.mark.parametrize("member", MEMBERS)
def test_no_document_leads_a_call_or_a_browser_to_an_odd_place(
    site: Site, misbehaviour: Misbehaviour, trap: Wire, member: str
) -> None:
    """Plain http elsewhere, addresses in disguise, credentials, other schemes: refused beforehand."""
    assert sign_in(site) is None
    SpatioToken.objects.all().delete()
    for url in ODD if member == "token_endpoint" else ODD[::3]:
        misbehaviour.json(METADATA, **{member: url.format(port=trap.port)})
        site.spatio.requests.clear()

        outcome = register(*BASE, "--force") if member == "registration_endpoint" else sign_in(site)
        assert "insecure_url" in (outcome or ""), url

        assert {call.path for call in site.spatio.requests} == {METADATA}

    assert trap.connections == 0
    assert SpatioToken.objects.count() == 0


@pytest.mark.parametrize(
    "member", ["token_endpoint", "jwks_uri", "userinfo_endpoint", "authorization_endpoint"]
)
def test_an_endpoint_at_another_host_gets_nothing_over_plain_http(
    site: Site, misbehaviour: Misbehaviour, member: str
) -> None:
    """The document may name another host, over https, which then has to prove its name; never over http."""
    misbehaviour.json(METADATA, **{member: "https://provider.invalid/x"})
    if member == "authorization_endpoint":
        new_process()
        begun = site.browser().get("/spatio/login/")
        assert begun["Location"].startswith("https://provider.invalid/x?")
    else:
        assert sign_in(site) in {"unreachable", "timeout"}  # as the machine's resolver has it

    misbehaviour.json(METADATA, **{member: "http://provider.invalid/x"})
    assert sign_in(site) == "insecure_url"


ISSUERS: dict[str, Callable[[str], Any]] = {
    "another": lambda _: "https://evil.example",
    "a slash more": lambda own: own + "/",
    "upper case": lambda own: own.upper(),
    "another spelling": lambda own: own.replace("127.0.0.1", "localhost"),
    "prefix": lambda own: own[:-1],
    "longer": lambda own: own + ".evil.example",
    "with credentials": lambda own: own.replace("//", "//a@"),
    "a list": lambda own: [own],
    "space": lambda own: own + " ",
    "none": lambda _: None,
    "Spatio's": lambda _: "https://api.spatio.app",
}


@pytest.mark.parametrize("issuer", ISSUERS)
@pytest.mark.parametrize("document", [METADATA, OAUTH_METADATA])
def test_a_document_that_is_another_issuers_leads_nowhere(
    site: Site, misbehaviour: Misbehaviour, trap: Wire, issuer: str, document: str
) -> None:
    """In either place that it may be; with endpoints that would take code and secret."""
    endpoints = dict.fromkeys(MEMBERS, trap.url)
    honest = json.dumps({**endpoints, "issuer": site.spatio.issuer})
    forged = json.dumps({**endpoints, "issuer": ISSUERS[issuer](site.spatio.issuer)})
    misbehaviour.answer(METADATA, "404 Not Found")
    misbehaviour.answer(document, "200 OK", honest.encode())
    new_process()
    assert site.browser().get("/spatio/login/").status_code == 302
    misbehaviour.answer(document, "200 OK", forged.encode())

    assert sign_in(site) == "issuer_mismatch"
    assert "issuer_mismatch" in (register(*BASE, "--force") or "")

    assert trap.connections == 0


def test_a_foreign_registration_client_uri_never_gets_the_token(
    site: Site, misbehaviour: Misbehaviour, trap: Wire
) -> None:
    """Whoever gets the registration access token changes where codes go (RFC 7592 §5)."""
    assert change() is None
    port = site.spatio.port
    site.spatio.registration_limit = None
    foreign = [
        *(
            trap.url,
            f"http://localhost:{port}/x",
            f"https://127.0.0.1:{port}/x",
            "https://provider.invalid/x",
        ),
        *(f"http://[::1]:{port}/x", f"https://127.0.0.1:{trap.port}/", "http://127.0.0.1/x"),
    ]
    for uri in foreign:
        misbehaviour.json(REGISTER, registration_client_uri=uri)
        assert register(*BASE, "--force") is None, uri
        assert newest().registration_client_uri == uri
        misbehaviour.sent.clear()

        assert "registration_client_uri" in (change() or ""), uri

        assert not [sent for sent in misbehaviour.sent if sent[0] == "PUT"]
    for uri in (each.format(port=trap.port) for each in ODD):
        if uri:
            misbehaviour.json(REGISTER, registration_client_uri=uri)
            assert "insecure_url" in (register(*BASE, "--force") or ""), uri

    assert trap.connections == 0


@pytest.mark.parametrize(
    "uris",
    [
        ["https://evil.example/spatio/callback/"],
        ["http://testserver/spatio/callback/", "https://evil.example/"],
        ["http://testserver/spatio/callback/?x"],
        ["http://testserver.evil.example/spatio/callback/"],
        ["http://testserver/spatio/callback"],
        ["HTTP://TESTSERVER/spatio/callback/"],
        [],
        "http://testserver/spatio/callback/",
    ],
)
def test_a_registration_that_leads_codes_elsewhere_is_not_kept(
    site: Site, misbehaviour: Misbehaviour, uris: Any
) -> None:
    """Redirect URIs that nobody asked for, in the answer to a registration or to a change of it."""
    steps: list[Callable[[], str | None]] = [lambda: register(*BASE, "--force"), change]
    for step in steps:
        assert step() is None
        before = newest()
        path = f"{REGISTER}/{before.client_id}" if step is change else REGISTER
        misbehaviour.json(path, redirect_uris=uris)

        assert "redirect_uris" in (step() or "")

        assert newest().client_id == before.client_id
        assert newest().redirect_uris == ["http://testserver/spatio/callback/"]
        misbehaviour.lies.clear()
    assert sign_in(site) is None


NUMBERS = [
    "127.0.0.1",
    "127.1",
    "0x7f.1",
    "2130706433",
    "0177.0.0.1",
    "1.2.3.4.",
    "256.1.1.1",
    "0",
    "0x",
    "1.0x1",
]
NAMES = [
    "localhost",
    "localhost.",
    "LOCALHOST",
    "127.0.0.1.evil.example",
    "evil.example",
    "a.1",
    "1a",
    "xn--a",
    "a..b",
]
HOSTS = st.one_of(
    st.sampled_from([*NUMBERS, *NAMES, "[::1]", "[::ffff:127.0.0.1]", "[::]", "[1.2.3.4]"]),
    st.from_regex(r"[a-z0-9.\[\]:_@\\%-]{1,12}", fullmatch=True),
)
URLS = st.builds(
    "{}{}{}{}".format,
    st.sampled_from(["https://", "http://", "HTTPS://", "https:/", "https:\\\\", "https://a@"]),
    HOSTS,
    st.sampled_from(["", "", ":0", ":00443", ":443", ":80", ":8443", ":65536"]),
    st.from_regex(r"([/?#\\@][a-z@:/?.%&=\[\]\\#-]{0,10})?", fullmatch=True),
)


@given(st.lists(URLS, max_size=40))
def test_what_may_be_called_is_the_same_place_to_every_parser(urls: list[str]) -> None:
    """The WHATWG's, urllib3's, and Python's, by which we judge and connect: one host, one port."""
    for url in urls:
        try:
            require_safe_url(url, member="url")
        except ProtocolViolation:
            continue
        try:
            browsers = ada_url.URL(url)
        except ValueError:
            continue  # a name that is no name, such as xn--a: nobody goes there
        ours = parse_url(requests.Request("GET", url).prepare().url or "")
        host, port = (
            browsers.hostname.strip("[]"),
            browsers.port or {"https:": 443, "http:": 80}[browsers.protocol],
        )
        assert (browsers.username, browsers.password, browsers.hash, ours.auth) == ("", "", "", None)
        assert int(port) == (ours.port or {"https": 443, "http": 80}[ours.scheme or ""]) == origin(url)[2]
        assert (ours.host or "").strip("[]") == origin(url)[1]
        if ":" not in host:  # IPv6 has several spellings for one address
            assert host == ours.host
        assert browsers.protocol == "https:" or is_loopback(url)
