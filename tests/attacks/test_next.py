"""
Open redirects: whatever ``next`` says, a browser stays on this site, by the WHATWG's rules for URLs.

Each way in which an address comes in meets each way in which one goes out: the redirect after a real
sign-in and after a sign-out, the links and forms of our pages, ``Refresh``, ``HX-Redirect``, and what
scripts are told.
"""

from collections.abc import Callable, Iterable
from http.cookiejar import CookieJar
from typing import Any
from urllib.parse import parse_qs, quote, urlsplit

import pytest
from django.http import HttpRequest
from django.test import Client, RequestFactory
from django.utils.encoding import iri_to_uri
from hypothesis import given
from hypothesis import strategies as st

from spatio_django import links
from tests.attacks.judge import Addresses, complaint
from tests.attacks.payloads import AUTHORITIES, HONEST, HOSTILE, LEADS
from tests.conftest import Site

LOGIN = "http://testserver/spatio/login/"
CALLBACK = "http://testserver/spatio/callback/?code=a&state=b"
LOGOUT = "http://testserver/spatio/logout/"

#: A walk for each would take minutes: every fortieth, which meets every class.
TAKEN = tuple(value for value in HOSTILE if complaint(value, page=CALLBACK) is None)
WALKED = (*HOSTILE[::40], *TAKEN[::40], *HONEST)

Safe = Callable[[HttpRequest, str | None], str | None]


def here() -> HttpRequest:
    """Make a request to this site."""
    return RequestFactory().get("/spatio/login/")


def complaints(safe_next: Safe, values: Iterable[str]) -> list[str]:
    """Say what is wrong with what *safe_next* lets through of *values*."""
    kept = [value for value in values if safe_next(here(), value) is not None]
    return [found for value in kept if (found := complaint(value, page=CALLBACK))]


# The judge


def test_the_corpus_is_large_and_really_hostile() -> None:
    """Thousands of different addresses, of which a browser would take most for another site's."""
    assert len(HOSTILE) == len(set(HOSTILE)) > 8000
    assert len(HOSTILE) - len(TAKEN) > 4500
    assert {lead for lead in LEADS if any(value.startswith(lead) for value in WALKED)} > set(LEADS[:20])


def anything(request: HttpRequest, value: str | None) -> str | None:
    """Let everything through."""
    return value


def no_scheme(request: HttpRequest, value: str | None) -> str | None:
    """Let through whatever Python takes for a path."""
    parts = urlsplit(value or "")
    return None if parts.scheme or parts.netloc else value


def one_slash(request: HttpRequest, value: str | None) -> str | None:
    """Let through whatever begins with one slash."""
    return value if value and value[0] == "/" and value[1:2] != "/" else None


def not_decoded(request: HttpRequest, value: str | None) -> str | None:
    """Let through what is safe as long as nobody decodes it: Django's own rule, for a path."""
    from django.utils.http import url_has_allowed_host_and_scheme

    return value if value and value[0] == "/" and url_has_allowed_host_and_scheme(value, None) else None


@pytest.mark.parametrize("unsafe", [anything, no_scheme, one_slash, not_decoded])
def test_the_judge_finds_what_a_weaker_rule_lets_through(unsafe: Safe) -> None:
    """A judge that can't find anything proves nothing: each rule that was once thought enough fails here."""
    assert complaints(links.safe_next, HOSTILE) == []

    assert len(complaints(unsafe, HOSTILE)) > 100


@pytest.mark.parametrize(
    "address",
    [
        *("//evil.example", "/\\evil.example", "/\t/evil.example", "/%2Fevil.example", "/%09%5Cevil.example"),
        *(
            "https:evil.example",
            "http:\\\\evil.example",
            " //evil.example",
            "javascript:alert(1)",
            "data:text/html,x",
        ),
        *(
            "https://testserver/",
            "http://testserver:81/",
            "http://a@testserver/",
            "/.//evil.example",
            "http://[",
        ),
        *("/spatio/login/", "/spatio/logout", "/spatio/x/%2e%2e/callback/?code=a", "/spatio/%256Cogin/"),
    ],
)
def test_the_judge_knows_what_is_wrong(address: str) -> None:
    """Another site, scheme, port or credentials, a path that is another site's address, or our own pages."""
    assert complaint("/plain/?next=//evil.example#//evil.example", page=CALLBACK) is None

    assert complaint(address, page=CALLBACK)


def test_the_judge_finds_a_view_that_follows_next(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the rule taken out of the site, the walks below fail: they look where it counts."""
    browser = site.browser()
    assert_stays(browser.post("/spatio/logout/", {"next": "//evil.example"}), page=LOGOUT)

    monkeypatch.setattr(links, "safe_next", anything)

    with pytest.raises(AssertionError, match=r"evil\.example"):
        assert_stays(site.sign_in(browser, next="//evil.example"), page=CALLBACK)
    with pytest.raises(AssertionError, match=r"evil\.example"):
        assert_stays(browser.post("/spatio/logout/", {"next": "/%5Cevil.example"}), page=LOGOUT)
    assert browser.get("/spatio/account/", {"next": "//evil.example"}).status_code == 200


# The rule


def test_nothing_listed_gets_past_the_rule() -> None:
    """``safe_next`` over the whole corpus."""
    assert complaints(links.safe_next, HOSTILE) == []


@pytest.mark.parametrize("value", HONEST)
def test_an_honest_page_is_gone_back_to(value: str) -> None:
    """Queries, fragments, encoded alphabets and long filters are what people really come from."""
    assert complaint(value, page=CALLBACK) is None

    assert links.safe_next(here(), value) == value


#: What the addresses of attackers are made of, to be put together anew.
PIECES = st.one_of(
    st.sampled_from([*LEADS, *AUTHORITIES]),
    st.sampled_from(
        [*"/\\.:@;?#%&=,\t\r\n \x00\x7f", "%2f", "%5c", "%09", "%0a", "%2e", "%25", "..", "spatio", "login/"]
    ),
    st.text(max_size=4),
    st.integers(0, 0x2FF).map(lambda number: f"%{number:02x}"[:3]),
)
GENERATED = st.lists(PIECES, min_size=1, max_size=7).map("".join)


@given(
    st.lists(
        st.one_of(GENERATED, GENERATED.map("/{}".format), GENERATED.map("/spatio/{}".format)), max_size=60
    )
)
def test_nothing_generated_gets_past_the_rule(values: list[str]) -> None:
    """Any text: it is refused, or it is a page of this site that is not our own."""
    assert complaints(links.safe_next, values) == []


@given(
    st.text(st.characters(min_codepoint=0x21, max_codepoint=0x10FFFF, exclude_categories=["Cs"]), max_size=60)
)
def test_any_page_of_the_site_is_gone_back_to_in_its_encoded_form(name: str) -> None:
    """Whatever a page is called: what browsers send as its address is taken, if it is none of the above."""
    value = f"/pages/{quote(name)}?q={quote(name, safe='')}"
    if complaint(value, page=CALLBACK) is None:
        assert links.safe_next(here(), value) == value


# What the site answers


def assert_stays(response: Any, *, page: str) -> None:
    """See that the answer to *page* leads nowhere but to this site, by header, link, form or script."""
    found = []
    if "Location" in response:
        found.append(response["Location"])
    if "Refresh" in response:
        seconds, _, url = response["Refresh"].partition(";url=")
        assert seconds == "0"
        found.append(url)
    if "HX-Redirect" in response:
        found.append(response["HX-Redirect"])
    if response["Content-Type"].startswith("application/json"):
        found.append(response.json().get("login_url", "/"))
    for address in found:
        assert begins_again(address) or complaint(address, page=page) is None, address
    if response["Content-Type"].startswith("text/html"):
        html = Addresses(response.content.decode())
        for address in (*html.links, *(value for name, value in html.hidden.items() if name == "next")):
            # The sign-out button is one, and so is "try again": they act, when somebody means it.
            assert (
                begins_again(address) or address == "/spatio/logout/" or complaint(address, page=page) is None
            ), address


def begins_again(address: str) -> bool:
    """Tell whether *address* begins a sign-in that leads to a page of this site or to none."""
    parts = urlsplit(address)
    nexts = parse_qs(parts.query).get("next", [])
    return (
        parts[:3] == ("", "", "/spatio/login/")
        and len(nexts) <= 1
        and all(complaint(value, page=LOGIN) is None for value in nexts)
    )


def test_after_a_real_sign_in(site: Site) -> None:
    """``next`` in the login address: from the click through Spatio to the page."""
    landed = []
    jar = CookieJar()
    for value in WALKED:
        browser = site.browser()
        url = browser.get("/spatio/login/", {"next": value, "explicit": "1"})["Location"]
        response = browser.get(site.authorize(url, session=jar))
        assert_stays(response, page=CALLBACK)
        landed.append(response["Location"])

    assert landed[-len(HONEST) :] == list(map(iri_to_uri, HONEST))
    assert "/me/" in landed


def test_after_a_real_sign_in_with_a_strict_cookie(site: Site, settings: Any) -> None:
    """There a page of ours moves on: its ``Refresh`` and its link lead to the same place."""
    settings.SESSION_COOKIE_SAMESITE = "Strict"
    jar, refreshed = CookieJar(), []
    for value in (*WALKED[::3], *HONEST):
        browser = site.browser()
        url = browser.get("/spatio/login/", {"next": value, "explicit": "1"})["Location"]
        response = browser.get(site.authorize(url, session=jar))
        assert_stays(response, page=CALLBACK)
        refreshed.append(response["Refresh"])

    assert refreshed[-len(HONEST) :] == [f"0;url={value}" for value in HONEST]


def test_after_signing_out(site: Site) -> None:
    """``next`` in the form, by POST, with and without the page between."""
    browser = site.browser()
    for value in HOSTILE[::4]:
        assert_stays(browser.post("/spatio/logout/", {"next": value}), page=LOGOUT)
    for value in (*WALKED, *HONEST):
        assert_stays(browser.post("/spatio/logout/", {"next": value, "page_between": "1"}), page=LOGOUT)
    for value in HONEST:
        assert browser.post("/spatio/logout/", {"next": value})["Location"] == iri_to_uri(value)
    assert browser.post("/spatio/logout/?next=/plain/")["Location"] == "/"


def test_from_the_page_that_explains_a_failure(site: Site) -> None:
    """Its link begins the same sign-in anew."""
    for value in HOSTILE[::20]:
        browser = site.browser()
        url = browser.get("/spatio/login/", {"next": value})["Location"]
        state = parse_qs(urlsplit(url).query)["state"][0]
        response = browser.get("/spatio/callback/", {"error": "access_denied", "state": state})
        assert response.context["code"] == "access_denied"
        assert_stays(response, page=CALLBACK)

    url = browser.get("/spatio/login/", {"next": "/other/?a=1"})["Location"]
    state = parse_qs(urlsplit(url).query)["state"][0]
    response = browser.get("/spatio/callback/", {"error": "server_error", "state": state})
    assert "next=%2Fother%2F%3Fa%3D1" in response.context["retry_url"]


def test_from_a_silent_sign_in_that_needs_a_page(site: Site) -> None:
    """It goes on by itself, as an ordinary sign-in to the same page."""
    for value in (*HOSTILE[::40], *HONEST):
        browser = site.browser()
        url = browser.get(links.login_url(value, prompt="none"))["Location"]
        state = parse_qs(urlsplit(url).query)["state"][0]
        response = browser.get("/spatio/callback/", {"error": "login_required", "state": state})
        assert response.status_code == 302
        assert_stays(response, page=CALLBACK)


@pytest.fixture
def ada(site: Site) -> Client:
    """Give the browser of somebody who is signed in."""
    browser = site.browser()
    site.sign_in(browser)
    return browser


@pytest.mark.provider
def test_from_the_page_for_people_who_may_not(ada: Client) -> None:
    """Its links, and the form that uses another account."""
    refused = 0
    for value in (*HOSTILE[::20], *HONEST):
        response = ada.get("/spatio/login/", {"next": value})
        if response.status_code == 403:
            refused += 1
            assert_stays(response, page=LOGIN)
        else:
            assert value not in HONEST

    assert refused > len(HONEST)


@pytest.mark.provider
def test_from_the_account_page(ada: Client) -> None:
    """Its way back, and the fields of its forms."""
    for value in (*HOSTILE[::40], *HONEST):
        assert_stays(
            ada.get("/spatio/account/", {"next": value}), page="http://testserver/spatio/account/?next=x"
        )


def test_moving_to_the_registered_host(site: Site) -> None:
    """Opened under another name, the browser goes to ours; ``next`` is judged there."""
    browser = site.browser()
    for value in (*HOSTILE[::20], *HONEST):
        response = browser.get("/spatio/login/", {"next": value}, headers={"Host": "other.example"})
        location = response["Location"]
        assert location.startswith("http://testserver/spatio/login/?next=")
        assert parse_qs(urlsplit(location).query, keep_blank_values=True) == {"next": [value], "moved": ["1"]}
        assert not response.cookies


def test_what_scripts_are_told(site: Site) -> None:
    """By htmx's header and by JSON: from the address that a script says it runs on, and from ``next``."""
    htmx = Client(headers={"HX-Request": "true", "Sec-Fetch-Mode": "cors"})
    script = Client(headers={"Sec-Fetch-Mode": "cors"})
    kept = 0
    for value in (*HOSTILE[::20], *HONEST):
        address = value.encode().decode("latin-1")  # as a header comes
        for page in (address, f"http://testserver{address}", f"//testserver{address}"):
            if not {"\r", "\n", "\0"}.isdisjoint(page):
                continue  # no server lets that in
            told = htmx.get("/spatio/login/", {"next": value}, headers={"HX-Current-URL": page})
            assert_stays(told, page=LOGIN)
            assert begins_again(told["HX-Redirect"])
            told = script.get("/spatio/login/", {"next": value}, headers={"Referer": page})
            assert (told.status_code, begins_again(told.json()["login_url"])) == (401, True)
            kept += "next=" in told.json()["login_url"]

    assert kept > len(HONEST)


@pytest.mark.parametrize("host", ["evil.example", "evil.example:80", "testserver.evil.example"])
def test_a_forged_host_makes_no_address_ours(site: Site, host: str) -> None:
    """``next`` with the very host that the request claims: absolute addresses are never taken."""
    browser = site.browser()
    for value in (f"http://{host}/", f"https://{host}/", f"//{host}/", f"/%2F{host}/"):
        url = browser.get("/spatio/login/", {"next": value, "moved": "1"}, headers={"Host": host})["Location"]
        assert parse_qs(urlsplit(url).query)["redirect_uri"] == ["http://testserver/spatio/callback/"]
        assert browser.get(site.authorize(url))["Location"] == "/me/"
        assert browser.post("/spatio/logout/", {"next": value}, headers={"Host": host})["Location"] == "/"


@pytest.mark.parametrize("name", ["login", "callback", "logout", "account/connect", "account/disconnect"])
def test_no_sign_in_leads_to_what_acts(site: Site, name: str) -> None:
    """A sign-in that leads to a sign-in goes in circles; one to a callback brings another's code."""
    browser = site.browser()
    for value in (f"/spatio/{name}/", f"/spatio/{name}/?next=/&code=a&state=b", f"/spatio/x/..%2F{name}/"):
        assert site.sign_in(browser, next=value)["Location"] == "/me/"
