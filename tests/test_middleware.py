"""The middleware: cheap, lazy, and the end of sessions that are over."""

from typing import Any

import pytest
from django.contrib.auth import get_user_model, logout
from django.core.exceptions import ImproperlyConfigured
from django.http import HttpRequest, HttpResponse
from django.test import AsyncClient, Client, RequestFactory

from spatio_django import memo, tending, tokens
from spatio_django.exceptions import SessionEnded, TokenUnavailable
from spatio_django.links import login_url
from spatio_django.middleware import SpatioMiddleware
from spatio_django.models import SpatioToken
from tests.conftest import Site, run_async

User = get_user_model()


def test_an_anonymous_page_costs_no_query_and_no_vary(
    db: None, client: Client, django_assert_num_queries: Any
) -> None:
    """Caches may share it; so do proxies."""
    with django_assert_num_queries(0):
        response = client.get("/plain/")

    assert "Cookie" not in response.get("Vary", "")
    assert response.cookies == {}


def test_a_page_that_uses_no_session_costs_nothing_once_looked_at(
    site: Site, django_assert_num_queries: Any
) -> None:
    """One look a minute and process; even that one is not a use of the session."""
    browser = site.browser()
    site.sign_in(browser)

    first = browser.get("/plain/")
    with django_assert_num_queries(0):
        second = browser.get("/plain/")

    for response in (first, second):
        assert "Cookie" not in response.get("Vary", "")


def test_no_request_calls_the_provider(site: Site) -> None:
    """Signed in, nothing due: the provider hears nothing."""
    browser = site.browser()
    site.sign_in(browser)
    site.spatio.requests.clear()

    browser.get("/me/")
    browser.get("/state/")

    assert site.spatio.requests == []


def test_a_session_whose_grant_is_gone_is_over(site: Site) -> None:
    """The request goes on as anonymous; the view's own rules decide. Other sessions live."""
    browser, phone = site.browser(), site.browser()
    site.sign_in(browser)
    site.sign_in(phone)
    assert browser.get("/me/").status_code == 200
    handle = browser.session[tokens.SESSION_KEY]

    SpatioToken.objects.get(handle=handle).delete()

    response = browser.get("/me/")
    assert (response.status_code, response["Location"]) == (302, "/spatio/login/?next=/me/")
    assert browser.get("/state/").json() == {"user": "", "account": None, "scopes": []}
    assert phone.get("/me/").status_code == 200


def test_a_deactivated_user_is_out_at_the_next_request(site: Site) -> None:
    """mozilla-django-oidc's defect 28: there, sessions live on."""
    browser = site.browser()
    site.sign_in(browser)
    assert browser.get("/me/").status_code == 200

    User.objects.update(is_active=False)

    assert browser.get("/me/").status_code == 302
    memo.memo.clear()
    assert browser.get("/plain/").cookies["sessionid"].value == ""


def test_a_deleted_user_is_out_at_the_next_request(site: Site) -> None:
    """Account and grant go with the user, and the session with them."""
    browser = site.browser()
    site.sign_in(browser)

    User.objects.all().delete()

    assert browser.get("/me/").status_code == 302
    assert SpatioToken.objects.count() == 0


def test_a_session_that_holds_somebody_elses_grant_is_over(site: Site) -> None:
    """A handle that got into another user's session opens nothing."""
    browser = site.browser()
    site.sign_in(browser)
    session = browser.session
    session["_auth_user_id"] = str(User.objects.create_user("eve").pk)
    session.save()
    memo.memo.clear()

    assert browser.get("/state/").json()["user"] == ""


def test_a_password_session_is_left_alone(db: None, client: Client) -> None:
    """No grant, nothing to end."""
    client.force_login(User.objects.create_user("eve"), "django.contrib.auth.backends.ModelBackend")

    assert client.get("/state/").json() == {"user": "eve", "account": None, "scopes": []}


def request_of(browser: Client) -> Any:
    """Give a request of that browser, as a view gets it."""
    seen: list[Any] = []

    def view(request: HttpRequest) -> HttpResponse:
        seen.append(request)
        return HttpResponse()

    SpatioMiddleware(view)(browser.get("/plain/").wsgi_request)
    return seen[0]


def test_request_spatio_gives_the_account_the_scopes_and_the_token(site: Site) -> None:
    """With one query, and only when asked."""
    browser = site.browser()
    site.sign_in(browser)

    request = request_of(browser)

    assert request.spatio.account.email == "ada@example.com"
    assert request.spatio.account.email_verified
    assert str(request.spatio.account) == "Ada Lovelace"
    assert request.spatio.scopes == {"openid", "profile", "email"}
    assert request.spatio.access_token.startswith("tok_")
    assert request.spatio.access_token not in repr(request.spatio) + repr(vars(request.spatio))


def test_an_anonymous_request_has_nothing_to_give(db: None, client: Client) -> None:
    """``request.spatio`` is there all the same."""
    spatio = request_of(client).spatio

    assert (spatio.account, spatio.scopes) == (None, frozenset())
    with pytest.raises(SessionEnded) as caught:
        _ = spatio.access_token
    assert caught.value.code == "no_grant"


def test_an_expired_token_is_not_handed_out(site: Site) -> None:
    """By the database's clock, where there is no refresh token."""
    browser = site.browser()
    site.sign_in(browser)
    assert request_of(browser).spatio.access_token
    SpatioToken.objects.update(expires_ms=1, refresh_ciphertext="")

    with pytest.raises(TokenUnavailable) as caught:
        _ = request_of(browser).spatio.access_token
    assert caught.value.code == "expired"


def test_a_token_of_a_copied_database_is_not_handed_out(site: Site, settings: Any) -> None:
    """Without the key it can't be opened, and Spatio is not called: production's tokens stay whole."""
    settings.SPATIO_ENCRYPTION_KEYS = ["production's"]
    browser = site.browser()
    site.sign_in(browser)
    assert request_of(browser).spatio.access_token
    site.spatio.requests.clear()
    settings.SPATIO_ENCRYPTION_KEYS = ["the staging host's"]
    request = request_of(browser)

    with pytest.raises(SessionEnded) as caught:
        _ = request.spatio.access_token
    assert caught.value.code == "undecryptable"
    assert site.spatio.requests == []


@pytest.mark.django_db(transaction=True)
def test_an_async_view_is_served_asynchronously(site: Site) -> None:
    """Under ASGI the middleware stays async, and ends sessions all the same."""
    browser = site.browser()
    site.sign_in(browser)

    async def visit() -> tuple[bytes, bytes, bytes]:
        client = AsyncClient()
        anonymous = (await client.get("/aplain/")).content
        client.cookies.load(browser.cookies)
        signed_in = (await client.get("/aplain/")).content
        await SpatioToken.objects.all().adelete()
        return anonymous, signed_in, (await client.get("/aplain/")).content

    assert run_async(visit()) == (b"async ", b"async ada", b"async ")


def test_the_middleware_before_authentication_says_where_it_belongs(rf: RequestFactory) -> None:
    """A wrong order is told at the first request, with the line to move."""
    with pytest.raises(ImproperlyConfigured, match="after"):
        SpatioMiddleware(lambda _: HttpResponse())(rf.get("/"))


def test_the_memo_is_bounded_and_holds_no_cookie() -> None:
    """Many visitors cost bounded memory, and a memory dump shows no session key."""
    notes = memo.Memo(seconds=60, most=10)
    for number in range(25):
        notes.looked(f"cookie-{number}", f"handle-{number}")

    assert len(notes._until) <= 10
    assert "cookie-24" not in repr(vars(notes))
    assert not notes.due("cookie-24")
    notes.forget("handle-24")
    notes.forget("handle-24")
    assert notes.due("cookie-24")
    notes.looked("cookie", None)
    assert not notes.due("cookie")


def test_the_memo_knows_every_cookie_of_a_session() -> None:
    """Where the cookie is the session, each answer may bring another."""
    notes = memo.Memo(seconds=60, most=10)
    for cookie in ("first", "second"):
        notes.looked(cookie, "a handle")
    notes.looked("another", "another handle")
    assert not notes.due("first")
    assert not notes.due("second")

    notes.forget("a handle")

    assert notes.due("first")
    assert notes.due("second")
    assert not notes.due("another")


def test_the_memo_forgets_in_time() -> None:
    """A sign-out made on another host is seen when the look is due again."""
    notes = memo.Memo(seconds=0, most=10)
    notes.looked("cookie", None)

    assert notes.due("cookie")


def test_recent_sign_ins_pass_and_old_ones_are_asked_again(site: Site, settings: Any) -> None:
    """``spatio_login_required(max_age=…)`` compares the verified ``auth_time``."""
    browser = site.browser()
    assert browser.get("/recent/").status_code == 302
    site.sign_in(browser)
    assert browser.get("/recent/").content == b"recent"
    grant = SpatioToken.objects.get()
    grant.id_token_claims["auth_time"] -= 300 + 61
    grant.save()

    challenge = browser.get("/recent/")

    assert challenge["Location"].startswith("/spatio/login/?next=%2Frecent%2F")
    url = browser.get(challenge["Location"])["Location"]
    assert "max_age=300" in url
    assert browser.get(site.authorize(url))["Location"] == "/recent/"
    assert browser.get("/recent/").content == b"recent"


def test_a_sign_in_just_now_is_recent_enough_for_anybody(site: Site, rf: RequestFactory) -> None:
    """``max_age=0`` is met by the sign-in it asked for, and a clock that differs makes no endless circle."""
    browser = site.browser()
    site.sign_in(browser)
    request = request_of(browser)

    assert tokens.satisfies(request, scopes=(), max_age=0)
    assert not tokens.satisfies(request, scopes=("files",), max_age=0)


def test_a_script_on_a_demanding_page_is_told_the_demand(site: Site) -> None:
    """The address that a ``fetch`` gets asks for what the page needs."""
    browser = site.browser()
    challenge = browser.get("/recent/", headers={"Sec-Fetch-Mode": "cors"})["Location"]
    headers = {"Sec-Fetch-Mode": "cors", "Referer": "http://testserver/other/"}

    told = browser.get(challenge, headers=headers).json()["login_url"]

    url = browser.get(told)["Location"]
    assert "max_age=300" in url
    assert browser.get(site.authorize(url))["Location"] == "/other/"


def test_a_demanding_page_without_the_middleware_says_what_is_missing(rf: RequestFactory) -> None:
    """With the line to add."""
    with pytest.raises(ImproperlyConfigured, match="MIDDLEWARE"):
        tokens.access(rf.get("/"))


def test_what_ends_a_session_for_django_ends_the_access_to_spatio(site: Site) -> None:
    """A changed password signs all sessions out, and their tokens are handed out no more."""
    browser = site.browser()
    site.sign_in(browser)
    assert browser.get("/only/").status_code == 200
    user = User.objects.get()
    user.set_password("new")
    user.save()

    assert browser.get("/only/").status_code == 302
    assert request_of(browser).spatio.account is None


def test_request_spatio_follows_the_session_within_a_request(site: Site) -> None:
    """Signed out in a view, the request has nothing any more."""
    browser = site.browser()
    site.sign_in(browser)
    request = request_of(browser)
    assert request.spatio.account

    logout(request)

    assert request.spatio.account is None


def test_a_user_that_async_code_looked_up_before_us_is_gone_too(site: Site) -> None:
    """Django 5.2's ``logout`` leaves what ``request.auser()`` remembered."""
    browser = site.browser()
    site.sign_in(browser)
    request = request_of(browser)
    request._acached_user = request.user
    SpatioToken.objects.all().delete()

    tending.tend(request, "cookie")

    assert run_async(request.auser()).is_anonymous


def test_a_page_for_spatio_people_lets_no_password_session_in(site: Site) -> None:
    """The decorator without arguments."""
    browser = site.browser()
    browser.force_login(User.objects.create_user("eve"), "django.contrib.auth.backends.ModelBackend")
    assert browser.get("/only/")["Location"] == login_url("/only/")

    site.sign_in(browser)

    assert browser.get("/only/").content == b"only Spatio"


def test_a_page_that_needs_a_scope_asks_for_it(site: Site) -> None:
    """On an async view too; a person without the scope is sent to grant it."""
    browser = site.browser()
    site.sign_in(browser)

    url = browser.get(browser.get("/files/")["Location"])["Location"]

    assert "scope=openid%20profile%20email%20files" in url
    SpatioToken.objects.update(scope="openid files")
    assert browser.get("/files/").content == b"files"


def test_spatio_access_of_a_request_without_a_grant_is_lazy(rf: RequestFactory) -> None:
    """Making it does nothing: no session, no query."""
    request: HttpRequest = rf.get("/")

    assert repr(tokens.RequestAccess(request)) == "<RequestAccess>"
