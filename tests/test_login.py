"""The login view: what it asks Spatio for, what it keeps, and how it answers each caller."""

import base64
import hashlib
import time
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from django.conf import global_settings
from django.conf.urls.i18n import i18n_patterns
from django.contrib.auth import get_user_model
from django.core.management import call_command
from django.http import HttpRequest
from django.test import Client, RequestFactory
from django.test.utils import override_script_prefix
from django.urls import include, path

from spatio_django import flow, links
from spatio_django.links import login_url
from spatio_django.models import SpatioClient
from spatio_django.pending import MAX_COOKIE_BYTES, MAX_FLOWS, PendingLogin
from spatio_django.urls import urlpatterns as spatio_urlpatterns
from spatio_django.views import LoginView
from tests.conftest import Site
from tests.misbehaving import Misbehaviour
from tests.urls import plain

User = get_user_model()


def asked(url: str) -> dict[str, str]:
    """Give the parameters of an authorization request, each of which must be there once."""
    query = parse_qs(urlsplit(url).query, keep_blank_values=True)
    assert all(len(values) == 1 for values in query.values())
    return {name: values[0] for name, values in query.items()}


def flow_cookies(browser: Client) -> dict[str, Any]:
    """Give the cookies of pending logins that *browser* holds."""
    return {
        name: cookie for name, cookie in browser.cookies.items() if "spatio_flow" in name and cookie.value
    }


def test_the_request_has_state_nonce_and_pkce(site: Site) -> None:
    """256 bits each, fresh each time, never the same value twice; S256; scopes by name."""
    client = SpatioClient.objects.get()
    seen: set[str] = set()
    for _ in range(3):
        request = asked(site.begin(site.browser()))
        assert request.pop("response_type") == "code"
        assert request.pop("client_id") == client.client_id
        assert request.pop("redirect_uri") == "http://testserver/spatio/callback/"
        assert request.pop("scope") == "openid profile email"
        assert request.pop("code_challenge_method") == "S256"
        fresh = {request.pop("state"), request.pop("nonce"), request.pop("code_challenge")}
        assert request == {}
        assert all(len(value) == 43 for value in fresh)
        assert len(fresh) == 3
        assert seen.isdisjoint(fresh)
        seen |= fresh


def test_the_challenge_is_the_hash_of_a_verifier_that_never_leaves(site: Site) -> None:
    """RFC 7636 §4.2: the verifier waits encrypted in the cookie and goes to the token endpoint only."""
    browser = site.browser()
    challenge = asked(site.begin(browser))["code_challenge"]
    ((name, cookie),) = flow_cookies(browser).items()
    pending = PendingLogin.opened(name, cookie.value)
    assert pending is not None
    digest = hashlib.sha256(pending.code_verifier.reveal().encode()).digest()
    assert base64.urlsafe_b64encode(digest).rstrip(b"=").decode() == challenge


def test_an_anonymous_click_writes_nothing(site: Site, django_assert_num_queries: Any) -> None:
    """One read of the registration; no session, no row."""
    browser = site.browser()
    site.begin(browser)

    with django_assert_num_queries(1):
        site.begin(browser)

    assert "sessionid" not in browser.cookies


def test_the_login_page_is_neither_cached_nor_leaked(site: Site) -> None:
    """``no-store``, and a referrer policy that tells other sites nothing."""
    response = site.browser().get("/spatio/login/")

    assert "no-store" in response["Cache-Control"]
    assert response["Referrer-Policy"] == "same-origin"


def test_the_cookie_is_locked_to_the_host_on_https(site: Site, settings: Any) -> None:
    """``__Host-``, Secure, HttpOnly, Lax, ten minutes; a sibling subdomain can't plant one."""
    settings.SPATIO_BASE_URL = "https://testserver"
    browser = site.browser()
    browser.get("/spatio/login/", secure=True)

    ((name, cookie),) = flow_cookies(browser).items()
    assert name.startswith("__Host-spatio_flow_")
    assert (cookie["secure"], cookie["httponly"], cookie["samesite"]) == (True, True, "Lax")
    assert (cookie["path"], cookie["domain"], cookie["max-age"]) == ("/", "", 600)


def test_a_proxy_that_speaks_http_to_us_changes_nothing(spatio: Any, db: None, settings: Any) -> None:
    """The registered redirect URI knows the scheme, even without ``SECURE_PROXY_SSL_HEADER``."""
    settings.SPATIO_ISSUER = spatio.issuer
    call_command("spatio_register", "--base-url", "https://testserver", verbosity=0)
    browser = Client(headers={"Sec-Fetch-Mode": "navigate"})

    location = browser.get("/spatio/login/")["Location"]

    assert asked(location)["redirect_uri"] == "https://testserver/spatio/callback/"
    assert all(name.startswith("__Host-") for name in flow_cookies(browser))


def test_only_eight_logins_wait_and_the_oldest_goes(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """Abandoned clicks don't pile up in the request headers."""
    browser = site.browser()
    now = time.time()
    first = ""
    for number in range(10):
        monkeypatch.setattr("spatio_django.pending.time.time", lambda moment=now + number: moment)
        callback = site.authorize(site.begin(browser))
        first = first or callback

    assert len(flow_cookies(browser)) == MAX_FLOWS
    assert browser.get(first).context["code"] == "state"
    assert browser.get(callback).status_code == 302


def test_pending_logins_stay_within_four_kilobytes(site: Site) -> None:
    """Long pages push older logins out, never the one just begun."""
    browser = site.browser()
    for number in range(4):
        url = site.begin(browser, next=f"/other/?{number}=" + "a" * 1900)

    cookies = flow_cookies(browser)
    assert sum(len(name) + len(cookie.value) for name, cookie in cookies.items()) <= MAX_COOKIE_BYTES
    assert browser.get(site.authorize(url)).status_code == 302


def test_cookies_that_are_not_ours_are_swept_out(site: Site) -> None:
    """A planted or damaged cookie of our name is deleted with the next login."""
    browser = site.browser()
    browser.cookies["spatio_flow_0123456789abcdef"] = "planted"

    site.begin(browser)

    assert browser.cookies["spatio_flow_0123456789abcdef"].value == ""


def test_many_planted_cookies_are_swept_out_by_and_by(site: Site) -> None:
    """Not all in one answer, whose headers would outgrow a proxy's buffer."""
    browser = site.browser()
    for number in range(100):
        browser.cookies[f"spatio_flow_{number:016x}"] = "planted"

    response = browser.get("/spatio/login/")

    assert len(response.cookies) == 1 + MAX_FLOWS


@pytest.mark.parametrize(
    ("value", "kept"),
    [
        ("/other/?a=1&b=%2F%2Fx#part", True),
        ("/", True),
        (None, False),
        ("", False),
        ("//evil.example/", False),
        ("/\\evil.example/", False),
        ("/a\\b", False),
        ("https://evil.example/", False),
        ("https://testserver/", False),
        ("javascript:alert(1)", False),
        ("other/", False),
        (" /other/", False),
        ("/\t/evil.example/", False),
        ("/other/\n", False),
        ("/\u2215evil.example", False),
        ("/ü/", False),
        ("/" + "a" * 2048, False),
        ("/spatio/login/?next=/", False),
        ("/spatio/callback/?x", False),
        ("/spatio/logout/", False),
        ("/spatio/%6Cogin/", False),
        ("/spatio/x/../logout/", False),
        ("//spatio/login", False),
        ("/%2Fevil.example/", False),
        ("/%5cevil.example/", False),
        ("/%09/evil.example/", False),
        ("/.//evil.example/", False),
        ("/spatio/%256Cogin/", False),
        ("/spatio%5Clogin/", False),
        ("/a%2Fb%5Cc//%C3%BC/?q=%0A%2F", True),
        ("/a/../b/", True),
    ],
)
def test_only_a_page_of_this_site_is_gone_on_to(rf: RequestFactory, value: str | None, *, kept: bool) -> None:
    """Open redirects: nothing but a plain path from the root that is not our own."""
    assert links.safe_next(rf.get("/"), value) == (value if kept else None)


PAGES = list(spatio_urlpatterns)


def only(*names: str) -> tuple[Any, ...]:
    """Give a URLconf with these addresses of ours, written out as sites do."""
    return (path("spatio/", include(([page for page in PAGES if page.name in names], "spatio"))),)


def test_a_site_that_leaves_the_account_pages_out_signs_in(site: Site, settings: Any) -> None:
    """It named what signing in needs: ``next`` is judged as ever."""
    everything = only("login", "callback", "logout", "account", "connect", "disconnect")
    few = only("login", "callback", "logout")
    for urls in (everything, few):
        settings.ROOT_URLCONF = urls
        assert site.sign_in(site.browser(), next="/other/")["Location"] == "/other/"
        assert site.sign_in(site.browser(), next="/spatio/login/")["Location"] == "/me/"


@pytest.mark.parametrize(
    ("urlconf", "setting", "page"),
    [
        ((path("", plain), *only("account")), None, "/"),
        ((path("accounts/profile/", plain), *only("account")), None, "/accounts/profile/"),
        (only("account"), "/there/", "/there/"),
        (only("account"), None, "/spatio/account/"),
        (only("login"), None, "/"),
        ((*i18n_patterns(path("", plain)), *only("account")), None, "/"),
        ((*i18n_patterns(path("here/", plain)), *only("account")), None, "/spatio/account/"),
        ((path("<slug:who>/", plain), *only("account")), None, "/spatio/account/"),
    ],
)
def test_who_began_on_no_page_lands_on_one_that_is_there(
    settings: Any, urlconf: Any, setting: str | None, page: str
) -> None:
    """What the site says; else a front page, of whatever language; else ours."""
    settings.LOGIN_REDIRECT_URL = setting or global_settings.LOGIN_REDIRECT_URL
    settings.ROOT_URLCONF = urlconf

    assert links.landing_page() == page


def test_next_that_points_elsewhere_is_dropped(site: Site) -> None:
    """The walk still works, and ends on this site."""
    assert site.sign_in(site.browser(), next="https://evil.example/")["Location"] == "/me/"


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Sec-Fetch-Mode": "navigate"}, 302),
        ({"Sec-Fetch-Mode": "navigate", "Accept": "application/json"}, 302),
        ({"Accept": "text/html,*/*"}, 302),
        ({}, 302),
        ({"Sec-Fetch-Mode": "cors"}, 401),
        ({"Sec-Fetch-Mode": "same-origin"}, 401),
        ({"X-Requested-With": "XMLHttpRequest", "Accept": "text/html"}, 401),
        ({"Accept": "application/json"}, 401),
    ],
)
def test_a_page_is_redirected_and_a_script_is_told(site: Site, headers: dict[str, str], status: int) -> None:
    """A script can't follow a redirect to another site, so it gets 401 and the address to open."""
    response = Client(headers=headers).get("/spatio/login/?next=/api/")

    assert response.status_code == status
    if status == 401:
        assert response.json() == {"error": "login_required", "login_url": "/spatio/login/"}
        assert response.cookies == {}


def test_a_script_is_told_to_come_back_to_its_page(site: Site) -> None:
    """The page that the script runs on, not the fragment it asked for; never another site's."""

    def answer(referer: str) -> str:
        headers = {"Sec-Fetch-Mode": "cors", "Referer": referer}
        return str(Client(headers=headers).get("/spatio/login/?next=/api/").json()["login_url"])

    assert answer("http://testserver/other/?a=1") == login_url("/other/?a=1")
    assert answer("http://evil.example/other/") == "/spatio/login/"


def test_htmx_is_told_by_its_header(site: Site) -> None:
    """``HX-Redirect`` makes the whole page go, and come back to where it was."""
    headers = {"HX-Request": "true", "HX-Current-URL": "http://testserver/other/", "Sec-Fetch-Mode": "cors"}

    response = Client(headers=headers).get("/spatio/login/?next=/fragment/")

    assert (response.status_code, response["HX-Redirect"]) == (200, login_url("/other/"))


def test_a_page_behind_login_required_leads_through_spatio_and_back(site: Site) -> None:
    """``LOGIN_URL = "spatio:login"`` is all that Django's own decorator needs."""
    browser = site.browser()

    redirected = browser.get("/other/?a=1", follow=False)
    url = browser.get(redirected["Location"])["Location"]

    assert browser.get(site.authorize(url))["Location"] == "/other/?a=1"


def test_a_missing_permission_ends_in_a_page_and_not_in_a_loop(site: Site) -> None:
    """Signed in but not allowed: it says so, and who you are."""
    browser = site.browser()
    site.sign_in(browser)

    response = browser.get("/editors/", follow=True)

    assert response.status_code == 403
    assert response.templates[0].name == "spatio_django/not_allowed.html"
    assert "Ada Lovelace" in response.content.decode()
    user = User.objects.get()
    user.is_superuser = True
    user.save()
    assert browser.get("/editors/").content == b"for editors"


def test_a_click_on_the_button_always_signs_in(site: Site) -> None:
    """A second tab whose button was there before the first signed in still lands on its page."""
    browser = site.browser()
    site.sign_in(browser)

    url = browser.get(login_url("/other/"))["Location"]

    assert browser.get(site.authorize(url))["Location"] == "/other/"


def test_what_a_sign_in_asks_for_can_not_be_added_in_the_address_bar(site: Site) -> None:
    """``prompt``, ``max_age`` and scopes come from the site's code, signed."""
    query = {"prompt": "consent", "max_age": "0", "scope": "read:*", "ask": "WyJyZWFkOioiXQ:x:y"}

    request = asked(site.begin(site.browser(), **query))

    assert request["scope"] == "openid profile email"
    assert "prompt" not in request
    assert "max_age" not in request


@pytest.mark.parametrize(
    ("charset", "query"),
    [
        ("utf-7", "ask=a:+2AA-"),
        ("unicode_escape", "ask=a:\\ud800"),
        ("ascii", "next=%2Fother%2F&ask=%C3%A9"),
    ],
)
@pytest.mark.parametrize("host", ["testserver", "127.0.0.1"])
def test_a_query_in_an_encoding_of_its_own_is_answered(
    site: Site, host: str, charset: str, query: str
) -> None:
    """Whoever asks may name one in which texts come out that UTF-8 doesn't have."""
    browser = site.browser()
    plain = browser.get("/spatio/login/?next=%2Fother%2F", headers={"Host": host})
    assert plain.status_code == 302

    response = browser.get(
        "/spatio/login/",
        headers={"Host": host},
        CONTENT_TYPE=f"text/plain; charset={charset}",
        QUERY_STRING=query,
    )

    assert response.status_code == 302
    expected = f"http://testserver/spatio/login/?{query}&moved=1".replace("\\", "%5C")
    assert response["Location"].startswith(site.spatio.issuer) or response["Location"] == expected


def test_the_site_can_ask_for_more(site: Site) -> None:
    """``login_url()`` carries scopes, prompt and max_age to the request."""
    url = login_url("/other/", scopes=["files"], prompt="consent", max_age=0)

    request = asked(site.browser().get(url)["Location"])

    assert request["scope"] == "openid profile email files"
    assert (request["prompt"], request["max_age"]) == ("consent", "0")


class Asking(LoginView):
    """A site's own login view."""

    def get_extra_params(self, request: HttpRequest) -> dict[str, str]:
        """Add parameters, two of which we check the answer for."""
        return {"ui_locales": "de", "prompt": "consent", "max_age": "60"}


class Meddling(LoginView):
    """A site's login view that overrides what must not be overridden."""

    def get_extra_params(self, request: HttpRequest) -> dict[str, str]:
        """Switch PKCE off."""
        return {"code_challenge_method": "plain"}


def test_a_subclass_adds_parameters(site: Site, rf: RequestFactory) -> None:
    """mozilla-django-oidc's ``get_extra_params`` hook lives."""
    request = rf.get("/", headers={"Sec-Fetch-Mode": "navigate"})
    request.user = User()

    sent = asked(Asking.as_view()(request).headers["Location"])
    assert (sent["ui_locales"], sent["prompt"], sent["max_age"]) == ("de", "consent", "60")


def test_no_subclass_switches_a_defence_off(site: Site, rf: RequestFactory) -> None:
    """State, nonce and PKCE are not parameters that a hook may set."""
    request = rf.get("/", headers={"Sec-Fetch-Mode": "navigate"})
    request.user = User()

    response: Any = Meddling.as_view()(request)
    assert b"reserved_parameter" in response.content


def test_a_page_too_long_for_a_cookie_is_let_go(site: Site) -> None:
    """Browsers keep 4,096 bytes; the sign-in still works, and lands on the usual page."""
    browser = site.browser()

    assert site.sign_in(browser, next="/" + '"' * 2047)["Location"] == "/me/"


def test_a_base_url_with_a_path_is_told(site: Site, settings: Any) -> None:
    """The URLconf adds the path; twice would be wrong."""
    settings.SPATIO_BASE_URL = "https://example.com/app"

    assert site.browser().get("/spatio/login/").context["code"] == "base_url"


def test_opened_under_another_host_the_browser_is_sent_to_the_registered_one(site: Site) -> None:
    """Registered as testserver, opened as 127.0.0.1: moved before a cookie is set, and only once."""
    browser = site.browser()

    response = browser.get("/spatio/login/?next=/other/", headers={"Host": "127.0.0.1"})

    assert response["Location"] == "http://testserver/spatio/login/?next=/other/&moved=1"
    assert flow_cookies(browser) == {}
    moved = browser.get(response["Location"].removeprefix("http://testserver"), headers={"Host": "127.0.0.1"})
    assert moved["Location"].startswith(site.spatio.issuer)


@pytest.mark.parametrize(
    ("uris", "host", "secure", "chosen"),
    [
        (["https://a.example/c/", "https://b.example/c/"], "b.example", False, "https://b.example/c/"),
        (["https://a.example/c/"], "A.example:443", True, "https://a.example/c/"),
        (["http://a.example/c/", "https://a.example/c/"], "a.example", True, "https://a.example/c/"),
        (["http://localhost:8000/c/"], "127.0.0.1:8000", False, "http://localhost:8000/c/"),
        (["https://a.example/c/"], "evil.example", False, "https://a.example/c/"),
        ([], "c.example", True, "https://c.example/spatio/callback/"),
    ],
)
def test_the_redirect_uri_is_a_registered_one(
    rf: RequestFactory, uris: list[str], host: str, *, secure: bool, chosen: str
) -> None:
    """By the request's host among the registered; a forged host chooses nothing new."""
    from spatio_django.registration import Registration

    registered = Registration(
        client_id="x", client_secret=None, auth_method="none", redirect_uris=tuple(uris)
    )

    assert flow.redirect_uri_for(rf.get("/", secure=secure, headers={"Host": host}), registered) == chosen


@pytest.mark.parametrize(
    "uris", ["nonsense", "https://[x/c/", "https://a.example/c/#x", "ftp://a.example/c/"]
)
def test_redirect_uris_in_the_settings_that_are_none_get_a_page(site: Site, settings: Any, uris: str) -> None:
    """A mistake of the operator's, so it is told like one."""
    settings.SPATIO_CLIENT_ID = "x"
    settings.SPATIO_REDIRECT_URIS = "http://testserver/spatio/callback/"
    assert site.begin(site.browser())
    settings.SPATIO_REDIRECT_URIS = uris

    response = site.browser().get("/spatio/login/")

    assert (response.status_code, response.context["code"]) == (503, "redirect_uris")


def test_a_site_that_is_not_registered_says_so(db: None, client: Client) -> None:
    """A page with a stable code, not a 500; the log names the command."""
    response = client.get("/spatio/login/?next=/other/")

    assert (response.status_code, response.context["code"]) == (503, "not_registered")
    assert response.context["retry_url"] == "/spatio/login/?next=/other/"


def test_a_provider_that_is_down_gets_a_page(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    """Nothing cached and nobody there: try again later. Logged once; a mail for each click would not help."""
    from django.core.cache import cache

    from spatio_django import provider

    cache.clear()
    provider.close()
    site.spatio.stop()

    response = site.browser().get("/spatio/login/")

    assert (response.status_code, response.context["code"]) == (503, "unreachable")
    loggers = [record.name for record in caplog.records if record.levelname in {"WARNING", "ERROR"}]
    assert loggers == ["spatio_django"]


def test_a_document_of_another_issuer_is_not_used(site: Site, misbehaviour: Misbehaviour) -> None:
    """OpenID Connect Discovery §4.3."""
    from django.core.cache import cache

    from spatio_django import provider

    assert site.begin(site.browser())
    cache.clear()
    provider.close()
    misbehaviour.json("/.well-known/openid-configuration", issuer="https://evil.example")

    response = site.browser().get("/spatio/login/")

    assert (response.status_code, response.context["code"]) == (502, "issuer_mismatch")


def test_login_pages_are_open_when_the_whole_site_is_not(site: Site, settings: Any) -> None:
    """``LoginRequiredMiddleware`` must not send the login page to itself."""
    settings.MIDDLEWARE = [*settings.MIDDLEWARE, "django.contrib.auth.middleware.LoginRequiredMiddleware"]
    browser = site.browser()

    assert browser.get("/plain/").status_code == 302
    assert site.sign_in(browser, next="/other/")["Location"] == "/other/"


def test_our_views_stay_out_of_the_sites_transactions() -> None:
    """``ATOMIC_REQUESTS`` would hold a transaction open while Spatio answers, and unuse a used state."""
    from django.urls import resolve

    for name in ("login", "callback", "logout"):
        view: Any = resolve(f"/spatio/{name}/").func
        assert {"default", "other"} <= view._non_atomic_requests


def test_our_own_pages_are_known_wherever_they_are(settings: Any) -> None:
    """By the prefix that the site has now: what is remembered is that of one place."""
    request = RequestFactory().get("/")
    for prefix, other in (("/", "/app/"), ("/app/", "/")):
        with override_script_prefix(prefix):
            assert links.safe_next(request, f"{prefix}spatio/logout/") is None
            assert links.safe_next(request, f"{other}spatio/logout/") == f"{other}spatio/logout/"
