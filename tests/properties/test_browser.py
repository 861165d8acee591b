"""Any request of any browser: a page of ours with a code, and nobody is signed in who should not be."""

from typing import Any
from urllib.parse import parse_qsl, urljoin, urlsplit

import pytest
from django.contrib.auth import get_user_model
from django.test import Client, RequestFactory
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from spatio_django.models import ConsumedState, SpatioAccount, SpatioToken
from spatio_django.pending import PendingLogin, flow_cookies
from tests.conftest import Site
from tests.properties.support import DOCUMENTED, RAW_TEXT, TEXT, mutated, part

User = get_user_model()

#: One site, one database and one provider serve all examples, which leave nothing behind.
shared = settings(part(0.5), suppress_health_check=[HealthCheck.function_scoped_fixture])

#: Encodings that a request may name for its own query, in some of which are texts that others lack. Not those
#: that Django itself answers with a 500, before it asks any view.
CHARSETS = st.sampled_from(["", "", "utf-8", "utf-7", "latin-1", "ascii", "utf-16", "raw_unicode_escape"])
QUERY_PIECES = (
    *(
        b"state=",
        b"code=",
        b"error=",
        b"iss=",
        b"&",
        b";",
        b"=",
        b"%",
        b"%00",
        b"%ED%A0%80",
        b"+2AA-",
        b"\\ud800",
    ),
    *(b"error=access_denied", b"once_more=1", b"state=a&state=b", b"\xff", b"%0d%0a", b"a=1&" * 1001),
)
QUERIES = mutated(b"state=abc&code=def&iss=https%3A%2F%2Fprovider.example", *QUERY_PIECES) | st.binary(
    max_size=60
)
COOKIES = mutated(
    b"__Host-spatio_flow_0123456789abcdef=AbCdEf; spatio_flow_0123456789abcdef=x; sessionid=y", b"; ", b"="
) | st.binary(max_size=60)


def latin(data: bytes) -> str:
    """Give bytes as WSGI does."""
    return data.decode("latin-1")


def assert_explained(response: Any, *statuses: int) -> None:
    """See a page of ours, with a code that the documentation explains."""
    assert response.status_code in statuses
    assert response.context["code"] in DOCUMENTED
    assert response.context["code"] in response.content.decode()
    assert "no-store" in response["Cache-Control"]
    assert response["Referrer-Policy"] == "same-origin"


def nobody() -> bool:
    """Tell whether nothing is left of any sign-in."""
    return not any(model.objects.exists() for model in (User, SpatioAccount, SpatioToken, ConsumedState))


@pytest.mark.django_db
@shared
@given(QUERIES, COOKIES, CHARSETS, st.sampled_from(["navigate", "cors", ""]))
@example(b"state=\\ud800", b"", "unicode_escape", "navigate")
@example(b"a=1&" * 1001, b"", "", "navigate")
@example(b"a=1&" * 1000, b"", "utf-8", "navigate")
def test_any_callback_without_a_login_is_explained(
    query: bytes, cookies: bytes, charset: str, mode: str
) -> None:
    """Whatever its bytes are, whatever cookies come along: it matches no pending login."""
    if query.count(b"&") >= 1000:
        charset = ""  # Django, too
    browser = Client(headers={"Sec-Fetch-Mode": mode})
    response = browser.get(
        "/spatio/callback/",
        QUERY_STRING=latin(query),
        HTTP_COOKIE=latin(cookies),
        CONTENT_TYPE=f"text/plain; charset={charset}",
    )

    assert_explained(response, 400)
    assert response.context["code"] in {"state", "state_missing", "state_repeated"}
    assert not any(cookie.value for cookie in browser.cookies.values())
    assert nobody()


@pytest.mark.django_db
@shared
@given(st.data())
def test_any_callback_of_a_login_is_this_one_or_explained(site: Site, data: st.DataObject) -> None:
    """From the genuine address, changed: who is signed in came with this state, code and issuer."""
    browser = site.browser()
    genuine = urlsplit(site.authorize(site.begin(browser))).query
    query = data.draw(mutated(genuine.encode(), *QUERY_PIECES[:-1]), label="query")
    response = browser.get("/spatio/callback/", QUERY_STRING=latin(query))

    def meant(text: str) -> dict[str, list[str]]:
        found: dict[str, list[str]] = {}
        for name, value in parse_qsl(text, keep_blank_values=True):
            found.setdefault(name, []).append(value)
        return {name: found.get(name, []) for name in ("state", "code", "iss")} | {
            "error": [value for value in found.get("error", []) if value]
        }

    if response.status_code == 302:
        assert response["Location"] == "/me/"
        told, wanted = meant(query.decode("utf-8", "replace")), meant(genuine)
        assert {**told, "iss": told["iss"] or wanted["iss"]} == wanted
        SpatioAccount.objects.get().user.delete()
    else:
        assert_explained(response, 200, 400, 403, 502)
    assert not SpatioAccount.objects.exists()
    assert not User.objects.exists()


NEXTS = (
    st.builds(
        "".join,
        st.lists(
            st.sampled_from(
                [
                    "/",
                    "\\",
                    "//",
                    "@",
                    ":",
                    "evil.example",
                    "http:",
                    "https:",
                    ".",
                    "..",
                    "%2f",
                    "%5c",
                    "%09",
                    "\t",
                    "\n",
                    "?",
                    "#",
                    ";",
                    "a",
                    "spatio/login/",
                    "testserver",
                    "\u2028",
                    "\uff0f",
                    " ",
                ]
            ),
            max_size=7,
        ),
    )
    | TEXT
    | RAW_TEXT.map(lambda text: text.encode("utf-8", "replace").decode())
)


def is_here(url: str) -> bool:
    """Tell whether *url*, on a page of this site, stays on it; by a browser's reading of backslashes, too."""
    readings = (url, url.replace("\\", "/"), "".join(char for char in url if char not in "\t\r\n"))
    return all(
        urlsplit(urljoin("http://testserver/a/b", reading))[:2] == ("http", "testserver")
        for reading in readings
    )


@pytest.mark.django_db
@shared
@given(
    NEXTS,
    NEXTS,
    RAW_TEXT.map(lambda text: text.encode("utf-8", "replace").decode()),
    CHARSETS,
    st.sampled_from(["page", "script", "htmx"]),
)
@example("//evil.example", "/\\evil.example", "", "", "page")
@example("/other/", "/other/", "a:\\ud800", "unicode_escape", "page")
def test_any_click_leads_to_the_provider_and_back_here(
    site: Site, next_url: str, page: str, ask: str, charset: str, caller: str
) -> None:
    """Wherever the person comes from, and whatever stands in the address bar."""
    headers = {
        "page": {"Sec-Fetch-Mode": "navigate"},
        "script": {"Sec-Fetch-Mode": "cors", "Referer": "http://testserver" + page},
        "htmx": {"HX-Request": "true", "HX-Current-URL": page},
    }[caller]
    browser = Client()
    response = browser.get(
        "/spatio/login/",
        {"next": next_url, "ask": ask},
        headers=headers,
        CONTENT_TYPE=f"text/plain; charset={charset}",
    )

    if caller == "page":
        assert response.status_code == 302
        assert response["Location"].startswith(site.spatio.issuer)
        ((name, cookie),) = browser.cookies.items()
        pending = PendingLogin.opened(name, cookie.value)
        assert pending is not None
        assert pending.next_url is None or is_here(pending.next_url)
        assert not pending.ask.scopes
        return
    url = response.json()["login_url"] if caller == "script" else response["HX-Redirect"]
    parts = urlsplit(url)
    assert parts[:3] == ("", "", "/spatio/login/")
    assert all(is_here(value) for name, value in parse_qsl(parts.query) if name == "next")


@pytest.mark.django_db
@shared
@given(NEXTS)
@example("//evil.example")
def test_any_way_out_leads_to_a_page_of_this_site(next_url: str) -> None:
    """The form's ``next`` is no more trusted than the address bar's."""
    response = Client().post("/spatio/logout/", {"next": next_url})

    assert response.status_code == 302
    assert is_here(response["Location"])


@given(COOKIES.map(latin) | RAW_TEXT)
@example("\xa0__Host-spatio_flow_0123456789abcdef=planted")
def test_a_cookie_counts_under_the_name_that_the_browser_knows(header: str) -> None:
    """Its prefix is a promise of the browser's, which holds for that very name only."""
    found = flow_cookies(RequestFactory().get("/", HTTP_COOKIE=header))

    sent = [each.strip(" \t").partition("=")[::2] for each in header.split(";")]
    for name, value in found.items():
        assert name.isascii()
        assert (name, value) in sent
