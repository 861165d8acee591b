"""The callback: every outcome is a redirect or a page of ours."""

import hashlib
import json
import logging
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import pytest
from django.conf import global_settings
from django.contrib.auth import get_user_model
from django.contrib.auth.signals import user_login_failed
from django.core.cache import cache
from django.core.management import call_command
from django.db import OperationalError, connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import include, path

from spatio_django import flow, provider, registration
from spatio_django.models import ConsumedState, SpatioAccount, SpatioClient, SpatioToken
from spatio_django.oidc.secret import Secret
from spatio_django.pending import LIFETIME
from spatio_django.testing import FakeSpatio
from tests.conftest import Site
from tests.misbehaving import Misbehaviour

User = get_user_model()


def signed_in(browser: Client) -> bool:
    """Tell whether the site knows who that is."""
    return bool(browser.get("/state/").json()["user"])


def changed(callback: str, **changes: str | list[str] | None) -> str:
    """Give *callback* with other parameters; ``None`` takes one away."""
    query = {**parse_qs(urlsplit(callback).query, keep_blank_values=True), **changes}
    return "/spatio/callback/?" + urlencode({k: v for k, v in query.items() if v is not None}, doseq=True)


def assert_refused(response: Any, code: str, status: int) -> None:
    """See the page that explains, with its stable code."""
    assert (response.status_code, response.context["code"]) == (status, code)
    assert code in response.content.decode()
    assert response.context["reference"] in response.content.decode()
    assert response["Cache-Control"].count("no-store") == 1
    assert response["Referrer-Policy"] == "same-origin"


def test_a_visitor_signs_in_and_lands_on_the_page_they_wanted(site: Site) -> None:
    """The walk of the quickstart ends on ``next``, signed in, with an account and a grant."""
    browser = site.browser()

    response = site.sign_in(browser, next="/other/?a=1")

    assert (response.status_code, response["Location"]) == (302, "/other/?a=1")
    assert b"other page of ada a=1" in browser.get("/other/?a=1").content
    account = SpatioAccount.objects.get()
    assert account.claims["name"] == "Ada Lovelace"
    assert not account.user.has_usable_password()
    assert account.tokens.get().scopes == {"openid", "profile", "email"}


def test_without_next_the_visitor_lands_where_the_site_says(site: Site) -> None:
    """``LOGIN_REDIRECT_URL`` is the default."""
    assert site.sign_in(site.browser())["Location"] == "/me/"


def test_on_a_site_that_says_nothing_the_visitor_lands_on_a_page_that_is_there(
    site: Site, settings: Any
) -> None:
    """The README's lines on a fresh site: no /accounts/profile/, no front page, and no first 404."""
    settings.LOGIN_REDIRECT_URL = global_settings.LOGIN_REDIRECT_URL
    assert site.sign_in(site.browser())["Location"] == "/"
    settings.ROOT_URLCONF = (path("spatio/", include("spatio_django.urls")),)
    browser = site.browser()

    response = site.sign_in(browser)

    assert response["Location"] == "/spatio/account/"
    assert b"You are signed in as <strong>Ada Lovelace</strong>" in browser.get("/spatio/account/").content


def test_a_second_sign_in_makes_no_second_user_and_two_calls(site: Site) -> None:
    """Warm, a sign-in costs the token and the userinfo call, on a connection that is kept."""
    site.sign_in(site.browser())
    browser = site.browser()
    callback = site.authorize(site.begin(browser))
    site.spatio.requests.clear()
    connections = site.spatio.connections

    browser.get(callback)

    assert [request.path for request in site.spatio.requests] == ["/oauth2/token", "/oauth2/userinfo"]
    assert site.spatio.connections == connections
    assert (User.objects.count(), SpatioAccount.objects.count(), SpatioToken.objects.count()) == (1, 1, 2)


def test_userinfo_is_not_called_when_the_id_token_tells_enough(site: Site) -> None:
    """An ID token with ``email`` and a name makes the token call the only one."""
    site.spatio.id_token_has_profile = True
    site.sign_in(site.browser())
    browser = site.browser()
    callback = site.authorize(site.begin(browser))
    site.spatio.requests.clear()

    browser.get(callback)

    assert [request.path for request in site.spatio.requests] == ["/oauth2/token"]
    assert SpatioAccount.objects.get().email


def test_discovery_is_asked_once(site: Site) -> None:
    """Registration, login and callback share one discovery and one key set."""
    for _ in range(3):
        site.sign_in(site.browser())

    assert len(site.spatio.calls("/.well-known/openid-configuration")) == 1
    assert len(site.spatio.calls("/.well-known/jwks.json")) == 1


def test_declining_is_a_choice_and_not_an_error(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    """The page for ``access_denied`` offers to try again on the same page, and nobody's alarm goes off."""
    browser = site.browser()
    caplog.set_level(logging.INFO)

    response = browser.get(site.authorize(site.begin(browser, next="/other/"), allow=False))

    assert_refused(response, "access_denied", 200)
    assert "next=%2Fother%2F" in response.context["retry_url"]
    assert [record.levelname for record in caplog.records if record.name == "spatio_django"] == ["INFO"]
    assert not signed_in(browser)


def test_trying_again_from_the_error_page_works(site: Site) -> None:
    """The link on the page begins the same sign-in anew."""
    browser = site.browser()
    page = browser.get(site.authorize(site.begin(browser, next="/other/"), allow=False))

    url = browser.get(page.context["retry_url"])["Location"]

    assert browser.get(site.authorize(url))["Location"] == "/other/"


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        pytest.param({"state": None}, "state_missing", id="absent"),
        pytest.param({"state": ""}, "state_missing", id="empty"),
        pytest.param({"state": "x" * 43}, "state", id="unknown"),
        pytest.param({"state": "ü\ud800"}, "state", id="not-even-text"),
        pytest.param({"state": ["a", "b"]}, "state_repeated", id="twice"),
        pytest.param(
            {"state": None, "code": None, "error": "access_denied"}, "state_missing", id="error-only"
        ),
    ],
)
def test_a_callback_without_its_state_changes_nothing(site: Site, changes: dict[str, Any], code: str) -> None:
    """Neither a forged code nor a forged error ends a session or a pending login (login and logout CSRF)."""
    browser = site.browser()
    site.sign_in(browser)
    callback = site.authorize(site.begin(browser))
    if changes.get("state") == "ü\ud800":
        forged = "/spatio/callback/?code=x&state=%ED%A0%80%FF"
    else:
        forged = changed(callback, **changes)

    assert_refused(browser.get(forged), code, 400)

    assert signed_in(browser)
    assert browser.get(callback).status_code == 302


def test_another_browsers_callback_signs_nobody_in(site: Site) -> None:
    """An attacker's code and state in the victim's browser are worth nothing (login CSRF)."""
    attacker = site.browser()
    callback = site.authorize(site.begin(attacker))
    victim = site.browser()

    assert_refused(victim.get(callback), "state", 400)

    assert not signed_in(victim)
    assert attacker.get(callback).status_code == 302


def test_a_replayed_callback_leads_a_signed_in_person_to_their_page(site: Site) -> None:
    """Reload and Back are not errors, and redeem no code twice."""
    browser = site.browser()
    callback = site.authorize(site.begin(browser, next="/other/"))
    browser.get(callback)
    site.spatio.requests.clear()

    response = browser.get(callback)

    assert (response.status_code, response["Location"]) == (302, "/other/")
    assert site.spatio.requests == []


def test_a_replayed_callback_after_signing_out_signs_nobody_in(site: Site) -> None:
    """The Back button of a shared computer brings no session back."""
    browser = site.browser()
    callback = site.authorize(site.begin(browser))
    browser.get(callback)
    browser.post("/spatio/logout/")

    assert_refused(browser.get(callback), "state_used", 400)

    assert not signed_in(browser)


@pytest.mark.django_db(transaction=True)
def test_ten_callbacks_at_once_make_one_token_call(site: Site) -> None:
    """The state is used up by one, whichever process or thread that is."""
    browser = site.browser()
    callback = site.authorize(site.begin(browser))
    cookies = browser.cookies

    def call(_: int) -> int:
        copy = site.browser()
        copy.cookies.load(cookies)
        try:
            return copy.get(callback).status_code
        finally:
            connection.close()

    with ThreadPoolExecutor(10) as threads:
        statuses = sorted(threads.map(call, range(10)))

    assert len(site.spatio.calls("/oauth2/token")) == 1
    assert statuses == [302] + [400] * 9


@pytest.mark.django_db(transaction=True)
def test_a_warm_sign_in_asks_little_of_the_database(site: Site) -> None:
    """
    Nothing for the click; for the callback the state, the account with its user, and the grant.

    The rest is Django's: it writes the session, and notes the login.
    """
    site.sign_in(site.browser())
    browser = site.browser()

    with CaptureQueriesContext(connection) as click:
        url = site.begin(browser)
    callback = site.authorize(url)
    with CaptureQueriesContext(connection) as back:
        assert browser.get(callback).status_code == 302

    assert statements(click) == []
    cleared = hashlib.sha256(parse_qs(urlsplit(url).query)["state"][0].encode()).hexdigest()[0] == "0"
    assert len(statements(back)) == 5 + cleared, "\n".join(statements(back))
    assert sum("spatio_django" in statement for statement in statements(back)) == 3 + cleared


def statements(queries: CaptureQueriesContext) -> list[str]:
    """Give the statements but those that begin and end transactions."""
    return [query["sql"] for query in queries if not query["sql"].startswith(("BEGIN", "COMMIT"))]


@pytest.mark.django_db(transaction=True)
def test_a_secret_that_another_host_renewed_stops_nobody(site: Site) -> None:
    """A process that knows the old one reads the row again, and redeems the code with the new one."""
    row = SpatioClient.objects.get()
    renewed, row.client_secret = row.secret_ciphertext, Secret("old")
    row.save()
    browser = site.browser()

    refused = browser.get(site.authorize(site.begin(browser)))
    assert_refused(refused, "invalid_client", 403)
    assert len(site.spatio.calls("/oauth2/token")) == 1  # there was nothing newer to try

    callback = site.authorize(site.begin(browser))
    SpatioClient.objects.update(secret_ciphertext=renewed)
    assert browser.get(callback).status_code == 302
    assert len(site.spatio.calls("/oauth2/token")) == 3
    assert site.sign_in(site.browser()).status_code == 302
    assert len(site.spatio.calls("/oauth2/token")) == 4


@pytest.mark.django_db(transaction=True)
def test_another_refusal_redeems_no_code_again(site: Site, misbehaviour: Misbehaviour) -> None:
    """Whatever changed meanwhile: a code that is used twice revokes what the first use gave."""
    browser = site.browser()
    callback = site.authorize(site.begin(browser))
    SpatioClient.objects.update(auth_method="client_secret_post")
    misbehaviour.answer("/oauth2/token", "400 Bad Request", b'{"error": "invalid_grant"}')

    assert_refused(browser.get(callback), "invalid_grant", 403)
    assert len(site.spatio.calls("/oauth2/token")) == 1


@pytest.mark.django_db(transaction=True)
def test_an_address_that_another_host_registered_ends_here(site: Site) -> None:
    """Begun at the new address by a process that knows of it, and ended by one that does not yet."""
    stale = (time.monotonic(), registration.current())
    new = "http://localhost"
    call_command("spatio_register", "--base-url", Site.origin, "--base-url", new, "--update", verbosity=0)
    browser = site.browser(HTTP_HOST="localhost")
    url = site.begin(browser)
    assert "redirect_uri=http%3A%2F%2Flocalhost" in url
    callback = site.spatio.sign_in(url).removeprefix(new)
    registration._known[site.spatio.issuer] = stale

    assert browser.get(callback).status_code == 302


def test_a_token_that_does_not_hold_is_no_reason_to_doubt_the_metadata(
    site: Site, misbehaviour: Misbehaviour, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are asked again for what was not there, and not for what somebody forged."""
    monkeypatch.setattr("spatio_django.oidc.cache.RETRY_STALE", 0)
    site.sign_in(site.browser())
    asked = len(site.spatio.calls("/.well-known/openid-configuration"))
    misbehaviour.id_token(site.spatio.sign, aud="somebody else")
    assert_refused(site.sign_in(site.browser()), "aud", 502)
    misbehaviour.lies.clear()

    assert site.sign_in(site.browser()).status_code == 302
    assert len(site.spatio.calls("/.well-known/openid-configuration")) == asked


def test_a_site_that_registers_anew_meanwhile_completes_what_it_began(site: Site) -> None:
    """The code was given to the old client, so the old client redeems it."""
    browser = site.browser()
    before = SpatioClient.objects.get()
    callback = site.authorize(site.begin(browser))
    call_command("spatio_register", "--base-url", Site.origin, "--force", verbosity=0)

    assert browser.get(callback).status_code == 302
    assert SpatioToken.objects.get().client_id == before.client_id
    assert site.sign_in(site.browser()).status_code == 302
    assert SpatioToken.objects.exclude(client_id=before.client_id).count() == 1

    callback = site.authorize(site.begin(browser))
    SpatioClient.objects.exclude(pk=before.pk).delete()
    assert_refused(browser.get(callback), "state", 400)


@pytest.mark.django_db(transaction=True)
def test_logins_begun_at_once_are_both_kept(site: Site) -> None:
    """Two clicks that start from the same cookies: the browser gets two cookies, and neither is lost."""
    browser = site.browser()
    twins = [site.browser(), site.browser()]
    urls = [site.begin(twin, next=f"/other/?{number}") for number, twin in enumerate(twins)]
    for twin in twins:
        browser.cookies.update(twin.cookies)

    assert [browser.get(site.authorize(url))["Location"] for url in urls] == ["/other/?0", "/other/?1"]


def test_a_cookie_with_a_space_before_its_name_is_none(site: Site) -> None:
    """Django trims Unicode white space off names; browsers let anybody set such a ``__Host-`` cookie."""
    call_command("spatio_register", "--base-url", "https://testserver", "--force", verbosity=0)
    attacker = site.browser()
    url = attacker.get("/spatio/login/", secure=True)["Location"]
    callback = site.authorize(url).removeprefix("https://testserver")
    ((name, morsel),) = ((name, morsel) for name, morsel in attacker.cookies.items() if "flow" in name)

    def arrive(prefix: str) -> Any:
        header = f"{prefix}{name}={morsel.value}".encode().decode("latin1")
        return site.browser().get(callback, secure=True, HTTP_COOKIE=header)

    assert_refused(arrive("\u2000"), "state", 400)
    assert arrive("").status_code == 302


def test_a_login_begun_at_another_address_does_not_end_here(site: Site, settings: Any) -> None:
    """A flow without the cookie prefix of https is worth nothing at the https site."""
    browser = site.browser()
    callback = site.authorize(site.begin(browser))
    settings.SPATIO_BASE_URL = "https://testserver"

    assert_refused(browser.get(callback, secure=True), "state", 400)
    settings.SPATIO_BASE_URL = ""
    assert browser.get(callback).status_code == 302


def test_a_login_begun_at_another_provider_does_not_end_at_this_one(site: Site, settings: Any) -> None:
    """Its code goes to no other token endpoint (mix-up)."""
    browser = site.browser()
    callback = site.authorize(site.begin(browser))
    issuer = settings.SPATIO_ISSUER
    settings.SPATIO_ISSUER = "https://api.spatio.app"

    assert_refused(browser.get(callback), "state", 400)
    settings.SPATIO_ISSUER = issuer
    assert browser.get(callback).status_code == 302


def test_a_login_from_the_future_is_none(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """A clock that was put back must not make a pending login live for ever."""
    import time

    browser = site.browser()
    callback = site.authorize(site.begin(browser))
    early = time.time() - 600
    with monkeypatch.context() as patch:
        patch.setattr("spatio_django.pending.time.time", lambda: early)
        assert_refused(browser.get(callback), "state", 400)
    assert browser.get(callback).status_code == 302


def test_a_thousand_parameters_change_nothing(site: Site) -> None:
    """A page of ours, and whoever is signed in stays so."""
    browser = site.browser()
    site.sign_in(browser)
    query = "&".join(f"a{number}=1" for number in range(1001))

    assert_refused(browser.get(f"/spatio/callback/?{query}"), "state_missing", 400)

    assert signed_in(browser)


def test_a_failure_before_the_sign_in_leaves_the_session_alone(site: Site, settings: Any) -> None:
    """A hook that crashes while somebody signs in again does not sign them out."""
    browser = site.browser()
    site.sign_in(browser)
    callback = site.authorize(site.begin(browser))
    settings.AUTHENTICATION_BACKENDS = ["tests.test_backends.Crashing", *settings.AUTHENTICATION_BACKENDS]

    assert_refused(browser.get(callback), "site_error", 503)

    assert signed_in(browser)


def test_housekeeping_that_fails_stops_nobody(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """Old states can be cleared away another time."""

    def fail() -> None:
        raise OperationalError("locked")

    monkeypatch.setattr(ConsumedState, "forget_expired", fail)
    monkeypatch.setattr(flow, "CLEARING", "")  # each callback's turn

    assert site.sign_in(site.browser()).status_code == 302


@pytest.mark.parametrize("how", ["receiver", "template"])
def test_even_a_page_of_ours_that_fails_raises_nothing(
    site: Site, settings: Any, how: str, caplog: pytest.LogCaptureFixture
) -> None:
    """The last resort needs no template, user or session; an error report would show the address."""

    def crash(**kwargs: Any) -> None:
        raise RuntimeError("the receiver's own bug")

    if how == "template":
        settings.SPATIO_BASE_TEMPLATE = "no-such-template.html"
    else:
        user_login_failed.connect(crash)
    try:
        response = site.browser().get("/spatio/callback/?state=x&code=secret-code")
    finally:
        user_login_failed.disconnect(crash)

    assert (response.status_code, response["Content-Type"]) == (503, "text/plain; charset=utf-8")
    assert "secret-code" not in caplog.text
    assert "site_error" in caplog.text


def test_a_refusal_of_the_token_endpoint_is_not_the_persons_choice(
    site: Site, misbehaviour: Misbehaviour
) -> None:
    """``access_denied`` is a choice only in the callback."""
    misbehaviour.answer("/oauth2/token", "400 Bad", b'{"error": "access_denied"}')

    assert_refused(site.sign_in(site.browser()), "access_denied", 403)


def test_declining_is_no_failed_login(site: Site) -> None:
    """Packages that lock addresses out count ``user_login_failed``."""
    heard: list[Any] = []

    def hear(**kwargs: Any) -> None:
        heard.append(kwargs)

    user_login_failed.connect(hear)
    try:
        browser = site.browser()
        browser.get(site.authorize(site.begin(browser), allow=False))
        assert heard == []
        browser.get("/spatio/callback/?state=x")
    finally:
        user_login_failed.disconnect(hear)

    assert len(heard) == 1


def test_other_methods_are_refused_without_a_record_of_the_address(
    site: Site, caplog: pytest.LogCaptureFixture
) -> None:
    """Django logs a 405 together with its request, and the code in it is still good."""
    browser = site.browser()
    callback = site.authorize(site.begin(browser))

    assert browser.head(callback).status_code == 405

    assert not any(hasattr(record, "request") for record in caplog.records)


def test_tabs_do_not_disturb_each_other(site: Site) -> None:
    """Two logins begun in one browser both finish, each on its own page, in either order."""
    browser = site.browser()
    first = site.begin(browser, next="/other/?tab=1")
    second = site.begin(browser, next="/other/?tab=2")

    assert browser.get(site.authorize(second))["Location"] == "/other/?tab=2"
    assert browser.get(site.authorize(first))["Location"] == "/other/?tab=1"


def test_a_pending_login_dies_of_age(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten minutes, by our clock: the browser's idea of a cookie's age is not trusted."""
    import time

    browser = site.browser()
    callback = site.authorize(site.begin(browser))
    late = time.time() + LIFETIME
    monkeypatch.setattr("spatio_django.pending.time.time", lambda: late)

    assert_refused(browser.get(callback), "state", 400)


def test_used_states_are_forgotten_when_their_time_is_over(site: Site) -> None:
    """One callback in sixteen clears them away, so the table stays small without a job."""
    old = [ConsumedState(digest=f"{number:064x}", expires_ms=1) for number in range(15)]
    ConsumedState.objects.bulk_create(old)
    by_turn: dict[bool, tuple[Client, str]] = {}
    while len(by_turn) < 2:
        browser = site.browser()
        url = site.begin(browser)
        state = parse_qs(urlsplit(url).query)["state"][0]
        by_turn[hashlib.sha256(state.encode()).hexdigest()[0] == "0"] = (browser, url)

    for its_turn, left in ((False, 16), (True, 2)):
        browser, url = by_turn[its_turn]
        assert browser.get(site.authorize(url)).status_code == 302
        assert ConsumedState.objects.count() == left


def test_iss_of_another_issuer_is_refused_before_anything_else(site: Site) -> None:
    """RFC 9207: the answer of a mixed-up provider is not acted upon, nor is its error shown."""
    site.spatio.send_iss = True
    browser = site.browser()
    assert site.sign_in(browser).status_code == 302
    callback = site.authorize(site.begin(browser))

    response = browser.get(changed(callback, iss="https://evil.example", error="access_denied"))

    assert_refused(response, "iss", 502)


def test_iss_that_was_promised_is_required(site: Site, misbehaviour: Misbehaviour) -> None:
    """RFC 9207 §2.4: a provider that says it sends ``iss`` and doesn't is not itself."""
    misbehaviour.json(
        "/.well-known/openid-configuration", authorization_response_iss_parameter_supported=True
    )
    from django.core.cache import cache

    from spatio_django import provider

    cache.clear()
    provider.close()

    assert_refused(site.sign_in(site.browser()), "iss", 502)


@pytest.mark.parametrize("code", ["", None, ["a", "b"]])
def test_a_callback_without_one_code_is_refused(site: Site, code: Any) -> None:
    """Missing, empty and doubled codes end on our page."""
    browser = site.browser()
    callback = site.authorize(site.begin(browser))

    assert_refused(browser.get(changed(callback, code=code)), "code", 502)


def test_only_get_is_answered(site: Site) -> None:
    """A code is redeemed by a navigation, nothing else."""
    browser = site.browser()
    callback = site.authorize(site.begin(browser))

    assert browser.post(callback).status_code == 405
    assert browser.head(callback).status_code == 405
    assert browser.get(callback).status_code == 302


LIES = [
    pytest.param({"iss": "https://evil.example"}, "iss", id="1-issuer"),
    pytest.param({"iss": None}, "iss", id="1-no-issuer"),
    pytest.param({"aud": "somebody-else"}, "aud", id="2-audience"),
    pytest.param({"azp": "somebody-else"}, "azp", id="3-authorized-party"),
    pytest.param({"exp": None}, "exp", id="4-no-expiry"),
    pytest.param({"exp": 1}, "exp", id="4-expired"),
    pytest.param({"iat": 2**40}, "iat", id="5-issued-in-the-future"),
    pytest.param({"nbf": 2**40}, "nbf", id="5-not-yet-valid"),
    pytest.param({"sub": None}, "sub", id="6-no-subject"),
    pytest.param({"sub": 7}, "sub", id="6-number-as-subject"),
    pytest.param({"at_hash": "AAAAAAAAAAAAAAAAAAAAAA"}, "at_hash", id="7-token-hash"),
    pytest.param({"nonce": None}, "nonce", id="8-no-nonce"),
    pytest.param({"nonce": "another"}, "nonce", id="8-nonce"),
]


@pytest.mark.parametrize(("claims", "code"), LIES)
def test_an_id_token_that_lies_signs_nobody_in(
    site: Site, misbehaviour: Misbehaviour, claims: dict[str, Any], code: str
) -> None:
    """Each rule of OpenID Connect Core §3.1.3.7 ends on our page with its own code, and leaves nothing."""
    browser = site.browser()
    misbehaviour.id_token(site.spatio.sign)
    assert site.sign_in(site.browser()).status_code == 302
    SpatioToken.objects.all().delete()
    User.objects.all().delete()
    misbehaviour.id_token(site.spatio.sign, **claims)

    response = site.sign_in(browser)

    assert_refused(response, code, 502)
    assert not signed_in(browser)
    assert (User.objects.count(), SpatioAccount.objects.count(), SpatioToken.objects.count()) == (0, 0, 0)


@pytest.mark.parametrize(
    ("lie", "code", "status"),
    [
        pytest.param({"sub": "somebody-else"}, "userinfo_sub", 502, id="14-somebody-else"),
        pytest.param({"sub": None}, "userinfo_sub", 502, id="14-nobody"),
    ],
)
def test_userinfo_about_somebody_else_signs_nobody_in(
    site: Site, misbehaviour: Misbehaviour, lie: dict[str, Any], code: str, status: int
) -> None:
    """OpenID Connect Core §5.3.2: ``sub`` must be the ID token's."""
    misbehaviour.json("/oauth2/userinfo")
    assert site.sign_in(site.browser()).status_code == 302
    misbehaviour.json("/oauth2/userinfo", **lie)
    browser = site.browser()

    assert_refused(site.sign_in(browser, persona="bo"), code, status)

    assert not signed_in(browser)
    assert User.objects.count() == 1


@pytest.mark.parametrize(
    ("path", "status", "body", "code", "page"),
    [
        ("/oauth2/token", "500 Oops", b"<h1>no</h1>", "bad_status", 503),
        ("/oauth2/token", "400 Bad", b'{"error": "invalid_grant"}', "invalid_grant", 403),
        ("/oauth2/token", "401 No", b'{"error": "invalid_client"}', "invalid_client", 403),
        ("/oauth2/token", "200 OK", b"[]", "not_json", 502),
        ("/oauth2/token", "200 OK", b'{"access_token": "a", "token_type": "bearer"}', "id_token", 502),
        ("/oauth2/token", "302 Found", b"", "redirect", 502),
        ("/oauth2/userinfo", "500 Oops", b"", "bad_status", 503),
        ("/oauth2/userinfo", "401 No", b"", "invalid_token", 403),
        ("/oauth2/userinfo", "200 OK", b"{", "not_json", 502),
        ("/oauth2/userinfo", "200 OK", b"e30.e30.", "userinfo_type", 502),
        ("/.well-known/jwks.json", "503 Down", b"", "bad_status", 503),
        ("/.well-known/jwks.json", "200 OK", b'{"keys": []}', None, 502),
    ],
)
def test_a_provider_that_fails_gets_a_page_of_ours(
    site: Site,
    misbehaviour: Misbehaviour,
    path: str,
    status: str,
    body: bytes,
    code: str | None,
    page: int,
) -> None:
    """Whatever the provider answers, nobody is signed in and nothing is raised."""
    misbehaviour.answer(
        path, status, body, "application/jwt" if code == "userinfo_type" else "application/json"
    )
    browser = site.browser()

    response = site.sign_in(browser)

    assert_refused(response, code or response.context["code"], page)
    assert not signed_in(browser)
    assert User.objects.count() == 0


def test_a_provider_that_is_gone_gets_a_page_of_ours(site: Site) -> None:
    """A connection refused at the token call is "try again later"."""
    browser = site.browser()
    callback = site.authorize(site.begin(browser))
    site.sign_in(site.browser())
    site.spatio.stop()

    assert_refused(browser.get(callback), "unreachable", 503)


def test_a_provider_that_named_a_wrong_endpoint_is_asked_again(
    site: Site, misbehaviour: Misbehaviour, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its metadata count for an hour, but for a minute only if what they led to was not there."""
    monkeypatch.setattr("spatio_django.oidc.cache.RETRY_STALE", 0)  # the minute
    discovery = "/.well-known/openid-configuration"
    cache.clear()  # registering has asked, too
    provider.close()
    misbehaviour.json(discovery, token_endpoint=f"{site.spatio.issuer}/oauth2/nowhere")
    asked = len(site.spatio.calls(discovery))
    assert_refused(site.sign_in(site.browser()), "bad_status", 502)
    misbehaviour.lies.clear()

    browser = site.browser()
    url = site.begin(browser)
    deadline = time.monotonic() + 30
    while not provider.get_client().metadata().token_endpoint.endswith("/token"):
        assert time.monotonic() < deadline
        time.sleep(0.02)  # it is fetched behind the visitor

    assert browser.get(site.authorize(url)).status_code == 302
    assert len(site.spatio.calls(discovery)) == asked + 2


def test_an_answer_without_scope_grants_what_was_asked(site: Site, misbehaviour: Misbehaviour) -> None:
    """RFC 6749 §5.1; and without ``expires_in`` nothing is assumed."""
    misbehaviour.json("/oauth2/token", scope=None, expires_in=None, refresh_token=None, token_type="bEARER")
    browser = site.browser()
    site.sign_in(browser)

    grant = SpatioToken.objects.with_clock().get()
    assert grant.scopes == {"openid", "profile", "email"}
    assert grant.seconds_left is None
    assert grant.refresh_token is None


def test_signing_in_rotates_the_session_and_the_csrf_token(site: Site) -> None:
    """A session or token planted before the sign-in is worth nothing after it (fixation)."""
    browser = site.browser()
    session = browser.session
    session["cart"] = "full"
    session.save()
    before = session.session_key
    browser.get("/me/")

    site.sign_in(browser)

    assert browser.session.session_key != before
    assert browser.session["cart"] == "full"


def test_signing_in_over_a_password_session_of_the_same_user_rotates_it(site: Site) -> None:
    """The session's backend becomes ours, its key new, and the sign-in is announced."""
    site.sign_in(site.browser())
    user = User.objects.get()
    browser = site.browser()
    browser.force_login(user, "django.contrib.auth.backends.ModelBackend")
    before = browser.session.session_key

    site.sign_in(browser)

    assert browser.session.session_key != before
    assert browser.session["_auth_user_backend"] == "spatio_django.backends.SpatioBackend"


def test_another_person_signing_in_gets_nothing_of_the_first(site: Site) -> None:
    """The session is emptied, the new grant is in it, and the old one is gone."""
    browser = site.browser()
    site.sign_in(browser)
    session = browser.session
    session["private"] = "ada's"
    session.save()
    site.spatio.forget_browsers()

    site.sign_in(browser, persona="bo")

    assert "private" not in browser.session
    assert browser.get("/state/").json()["account"] == SpatioToken.objects.get().account.sub


def test_a_sign_in_without_a_backend_says_what_to_do(
    site: Site, settings: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """The log names the setting; the visitor gets a sentence."""
    settings.AUTHENTICATION_BACKENDS = ["django.contrib.auth.backends.ModelBackend"]

    assert_refused(site.sign_in(site.browser()), "backend_missing", 503)
    assert "AUTHENTICATION_BACKENDS" in caplog.text


def test_a_backend_that_cannot_be_imported_is_named(
    site: Site, settings: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """A typing mistake before our backend is the site's to mend, and no failure of it."""
    settings.AUTHENTICATION_BACKENDS = ["spatio_django.backends.SpatioBackend", "mysite.NoSuchBackend"]
    assert site.sign_in(site.browser()).status_code == 302
    settings.AUTHENTICATION_BACKENDS = ["mysite.NoSuchBackend", "spatio_django.backends.SpatioBackend"]

    assert_refused(site.sign_in(site.browser()), "backend_missing", 503)
    assert "mysite.NoSuchBackend in AUTHENTICATION_BACKENDS can't be imported" in caplog.text


def test_the_failure_signal_carries_no_secret(site: Site, misbehaviour: Misbehaviour) -> None:
    """Receivers log what ``user_login_failed`` brings, so it brings nothing."""
    heard: list[Any] = []

    def hear(credentials: Any, **kwargs: Any) -> None:
        heard.append(credentials)

    user_login_failed.connect(hear)
    try:
        misbehaviour.id_token(site.spatio.sign, nonce="x")
        site.sign_in(site.browser())
    finally:
        user_login_failed.disconnect(hear)

    assert heard == [{}]


def test_a_site_can_send_failures_to_a_page_of_its_own(
    site: Site, settings: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """``LOGIN_REDIRECT_URL_FAILURE`` means what it does in mozilla-django-oidc; the log says why."""
    settings.LOGIN_REDIRECT_URL_FAILURE = "front"

    response = site.browser().get("/spatio/callback/?state=x")

    assert (response.status_code, response["Location"]) == (302, "/")
    assert "Sign-in ended: state " in caplog.text


@pytest.mark.parametrize("strict", ["Strict", "strict"])
def test_a_strict_session_cookie_works(site: Site, settings: Any, strict: str) -> None:
    """The last step is a page, so that the browser sends the new cookie with the next request."""
    assert site.sign_in(site.browser(), next="/other/").status_code == 302
    settings.SESSION_COOKIE_SAMESITE = strict
    browser = site.browser()

    response = site.sign_in(browser, next="/other/")

    assert response.status_code == 200
    assert response["Refresh"] == "0;url=/other/"
    assert signed_in(browser)


@pytest.mark.parametrize("engine", ["cache", "cached_db", "file", "signed_cookies"])
def test_every_session_engine_works(site: Site, settings: Any, engine: str, tmp_path: Any) -> None:
    """The flow needs nothing of the session; the session only holds a handle."""
    settings.SESSION_ENGINE = f"django.contrib.sessions.backends.{engine}"
    settings.SESSION_FILE_PATH = str(tmp_path)
    browser = site.browser()

    site.sign_in(browser)

    assert signed_in(browser)


def test_a_silent_sign_in_that_needs_a_page_shows_it(site: Site) -> None:
    """``prompt=none`` refused with ``login_required`` goes on as an ordinary sign-in, not as an error."""
    from spatio_django.links import login_url

    browser = site.browser()
    url = browser.get(login_url("/other/", prompt="none"))["Location"]
    assert parse_qs(urlsplit(url).query)["prompt"] == ["none"]
    state = parse_qs(urlsplit(url).query)["state"][0]

    response = browser.get(f"/spatio/callback/?error=login_required&state={state}")

    assert response.status_code == 302
    retry = browser.get(response["Location"])["Location"]
    assert "prompt" not in parse_qs(urlsplit(retry).query)
    assert browser.get(site.authorize(retry))["Location"] == "/other/"


def test_a_requested_max_age_is_checked(site: Site, misbehaviour: Misbehaviour) -> None:
    """``auth_time`` is required and must be recent when ``max_age`` was sent."""
    from spatio_django.links import login_url

    def walk() -> Any:
        browser = site.browser()
        site.spatio.forget_browsers()
        url = browser.get(login_url("/recent/", max_age=60))["Location"]
        assert parse_qs(urlsplit(url).query)["max_age"] == ["60"]
        return browser.get(site.authorize(url))

    assert walk().status_code == 302
    misbehaviour.id_token(site.spatio.sign, auth_time=None)
    assert_refused(walk(), "auth_time", 502)
    misbehaviour.id_token(site.spatio.sign, auth_time=1)
    assert_refused(walk(), "auth_time", 502)


def test_a_scope_that_a_page_needs_and_spatio_withholds_is_said(
    site: Site, misbehaviour: Misbehaviour
) -> None:
    """Otherwise the page would ask for it again and again."""
    from spatio_django.links import login_url

    def walk() -> Any:
        browser = site.browser()
        url = browser.get(login_url("/other/", scopes=["profile"]))["Location"]
        return browser.get(site.authorize(url))

    assert walk().status_code == 302
    misbehaviour.json("/oauth2/token", scope="openid email")
    assert_refused(walk(), "scope_not_granted", 403)


def test_the_session_and_the_database_hold_no_token(site: Site, misbehaviour: Misbehaviour) -> None:
    """The session has a handle; the row has ciphertext that opens to the tokens."""
    answers: list[dict[str, Any]] = []

    def listen(status: str, headers: dict[str, str], body: bytes) -> tuple[str, dict[str, str], bytes]:
        answers.append(json.loads(body))
        return status, headers, body

    misbehaviour.lies["/oauth2/token"] = listen
    browser = site.browser()
    site.sign_in(browser)

    grant = SpatioToken.objects.get()
    assert browser.session["_spatio_grant"] == grant.handle
    assert grant.access_token == Secret(answers[0]["access_token"])
    assert grant.refresh_token == Secret(answers[0]["refresh_token"])
    for secret in (answers[0]["access_token"], answers[0]["refresh_token"]):
        assert secret not in repr(dict(browser.session)) + repr(list(SpatioToken.objects.values()))


def test_a_session_store_that_fails_gets_a_page_of_ours(site: Site, settings: Any) -> None:
    """Nothing is raised even then, and nobody is half signed in."""
    browser = site.browser()
    callback = site.authorize(site.begin(browser))
    settings.SESSION_ENGINE = "tests.failingsessions"
    broken = site.browser()
    broken.cookies.load(browser.cookies)

    assert_refused(broken.get(callback), "site_error", 503)

    assert not signed_in(broken)


@pytest.mark.parametrize("method", ["client_secret_basic", "client_secret_post", "none"])
def test_each_way_to_authenticate_as_a_client_works(site: Site, settings: Any, method: str) -> None:
    """Exactly the registered one is used; a public client has no secret (defects 39 and 40)."""
    client = site.spatio.register([f"{site.origin}/spatio/callback/"], token_endpoint_auth_method=method)
    settings.SPATIO_CLIENT_ID = client["client_id"]
    settings.SPATIO_CLIENT_SECRET = client.get("client_secret", "")
    settings.SPATIO_CLIENT_AUTH_METHOD = method

    assert site.sign_in(site.browser()).status_code == 302

    (call,) = site.spatio.calls("/oauth2/token")
    assert ("client_secret" in call.form) == (method == "client_secret_post")
    assert (call.authorization == "Basic") == (method == "client_secret_basic")


def test_another_provider_beside_us_sees_nothing_of_a_sign_in(site: Site, settings: Any) -> None:
    """Defect 31: with two OpenID Connect backends the first got the other's code and verifier."""
    with FakeSpatio() as other:
        settings.OIDC_OP_TOKEN_ENDPOINT = f"{other.issuer}/oauth2/token"
        settings.OIDC_OP_USER_ENDPOINT = f"{other.issuer}/oauth2/userinfo"
        settings.OIDC_OP_JWKS_ENDPOINT = f"{other.issuer}/.well-known/jwks.json"
        settings.OIDC_RP_CLIENT_ID = settings.OIDC_RP_CLIENT_SECRET = "other"
        settings.OIDC_RP_SIGN_ALGO = "RS256"
        settings.AUTHENTICATION_BACKENDS = [
            "mozilla_django_oidc.auth.OIDCAuthenticationBackend",
            *settings.AUTHENTICATION_BACKENDS,
        ]
        browser = site.browser()

        assert site.sign_in(browser).status_code == 302

        assert signed_in(browser)
        assert other.requests == []
