"""Calling Spatio's API for somebody: ``request.spatio.http``, the official SDK, and jobs."""

import re
import traceback
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from asgiref.sync import sync_to_async
from django.contrib.auth import get_user_model
from django.db.models import F
from django.http import HttpResponse
from django.test import AsyncClient
from django.urls import path

from spatio_django import tokens
from spatio_django.exceptions import ConfigurationError, SessionEnded
from spatio_django.models import SpatioToken
from spatio_django.threads import close_connections
from spatio_django.tokens import SpatioAccess, SpatioRequest
from tests.conftest import Site, run_async
from tests.oidc.notes import Notes

if TYPE_CHECKING:  # where the SDK is absent, this module is read all the same
    from spatio import Configuration
    from spatio.api.workspaces_api import WorkspacesApi

User = get_user_model()


async def acall(request: SpatioRequest) -> HttpResponse:
    """Call the API in an async view."""
    account, scopes = await request.spatio.aaccount(), await request.spatio.ascopes()
    answer = await request.spatio.arequest("GET", request.GET["url"], timeout=5)
    assert account is not None
    job = await tokens.afor_user(account.user)
    same = await job.aget_token() == await request.spatio.aget_token()
    return HttpResponse(f"{answer.status_code} {account} {len(scopes)} {same}")


async def ajob(request: SpatioRequest) -> HttpResponse:
    """Look at the account again after a job of this process has had the grant refreshed."""
    account = await request.spatio.aaccount()
    assert account is not None
    await sync_to_async(pass_time)(request.spatio, seconds=3600)
    token = await (await tokens.afor_user(account.user)).aget_token()
    same = await request.spatio.aget_token() == token
    after = request.spatio.account
    return HttpResponse(f"{after} {after == account} {same}")


urlpatterns = [path("acall/", acall), path("ajob/", ajob)]


def newest(site: Site) -> set[str]:
    """Give the access tokens that the provider would take now: its API has the same ones."""
    return set(site.spatio._provider.store.tables.access_tokens)


@pytest.fixture
def notes(site: Site, settings: Any) -> Iterator[Notes]:
    """Serve an API that takes the provider's tokens."""
    with Notes(lambda token: token in newest(site)) as server:
        settings.SPATIO_API_ORIGINS = [server.origin]
        yield server


@pytest.fixture
def access(site: Site) -> SpatioAccess:
    """Give what Ada has at Spatio, as a job gets it."""
    site.sign_in(site.browser())
    site.spatio.requests.clear()
    return tokens.for_user(User.objects.get())


def reject(site: Site) -> None:
    """Take back every access token before its time, as Spatio may; the grants live."""
    with site.spatio._provider.store.change() as tables:
        tables.access_tokens.clear()


def pass_time(access: SpatioAccess, *, seconds: int) -> None:
    """Let time pass for who holds *access*, and for the row behind it."""
    assert access.grant is not None
    access.grant.read_at -= seconds
    SpatioToken.objects.update(expires_ms=F("expires_ms") - 1000 * seconds)


def refreshes(site: Site) -> int:
    """Count them."""
    return len(site.spatio.calls("/oauth2/token"))


# request.spatio.http


def test_http_sends_the_token_to_the_origins_of_the_setting(access: SpatioAccess, notes: Notes) -> None:
    """One session per access; what it sends is the token of the moment."""
    assert access.http.get(f"{notes.origin}/notes").status_code == 200

    assert notes.sent == [f"Bearer {access.access_token}"]
    assert access.http is access.http


def test_by_default_the_api_is_at_the_issuer(site: Site, access: SpatioAccess) -> None:
    """No setting is needed for Spatio's own."""
    answer = access.http.get(f"{site.spatio.issuer}/oauth2/userinfo")

    assert answer.json()["name"] == "Ada Lovelace"


def test_a_wrong_origin_is_told(access: SpatioAccess, settings: Any) -> None:
    """When the session is made, not with the first token that went astray."""
    settings.SPATIO_API_ORIGINS = ["http://api.example"]

    with pytest.raises(ConfigurationError):
        _ = access.http
    with pytest.raises(ConfigurationError):
        access.sdk_configuration()


def test_a_token_that_the_api_rejects_is_refreshed_once(
    site: Site, access: SpatioAccess, notes: Notes
) -> None:
    """Whatever its expiry says; the request is sent once more, and later ones have the new token."""
    reject(site)

    assert access.http.post(f"{notes.origin}/notes", json={"a": "note"}).status_code == 200
    assert access.http.get(f"{notes.origin}/notes").status_code == 200

    assert refreshes(site) == 1
    assert len(notes.calls) == 3
    assert notes.sent[1] == notes.sent[2] == f"Bearer {access.access_token}"


def test_an_api_that_takes_nothing_makes_no_loop(site: Site, access: SpatioAccess, notes: Notes) -> None:
    """One refresh and one more attempt per request."""
    notes.accepts = lambda _: False

    assert access.http.get(f"{notes.origin}/notes").status_code == 401

    assert (refreshes(site), len(notes.calls)) == (1, 2)


def test_a_grant_that_is_over_is_told_by_the_call(site: Site, access: SpatioAccess, notes: Notes) -> None:
    """Not by a 401 that nobody understands."""
    site.spatio.revoke_grants()

    with pytest.raises(SessionEnded) as caught:
        access.http.get(f"{notes.origin}/notes")
    assert caught.value.code == "invalid_grant"


@pytest.mark.django_db(transaction=True)
def test_fifty_rejections_of_one_token_are_one_refresh(
    site: Site, access: SpatioAccess, notes: Notes
) -> None:
    """Threads that meet the same 401 share what the first of them brings."""
    assert access.http.get(f"{notes.origin}/notes").status_code == 200
    reject(site)
    jobs = [tokens.for_user(User.objects.get()) for _ in range(50)]

    def call(job: SpatioAccess) -> int:
        try:
            return job.http.get(f"{notes.origin}/notes").status_code
        finally:
            close_connections()

    with ThreadPoolExecutor(50) as pool:
        assert list(pool.map(call, jobs)) == [200] * 50
    assert refreshes(site) == 1
    assert SpatioToken.objects.get().generation == 1


@pytest.mark.django_db(transaction=True)
def test_everything_can_be_awaited(site: Site, notes: Notes, settings: Any) -> None:
    """Account, scopes, token, call, and another's access, from an async view, refreshed on the way."""
    browser = site.browser()
    site.sign_in(browser)
    settings.ROOT_URLCONF = __name__
    reject(site)

    async def visit() -> bytes:
        client = AsyncClient()
        client.cookies.load(browser.cookies)
        return bytes((await client.get("/acall/", {"url": f"{notes.origin}/notes"})).content)

    assert run_async(visit()) == b"200 Ada Lovelace 3 True"


@pytest.mark.django_db(transaction=True)
def test_async_code_knows_whose_a_token_is_that_a_job_has_refreshed(site: Site, settings: Any) -> None:
    """Without a query, which it could not make there: a job needs less of the account."""
    browser = site.browser()
    site.sign_in(browser)
    site.spatio.requests.clear()
    settings.ROOT_URLCONF = __name__

    async def visit() -> bytes:
        client = AsyncClient()
        client.cookies.load(browser.cookies)
        return bytes((await client.get("/ajob/")).content)

    assert run_async(visit()) == b"Ada Lovelace True True"
    assert refreshes(site) == 1


# Jobs


def test_a_job_goes_on_with_fresh_tokens_for_as_long_as_it_takes(site: Site, access: SpatioAccess) -> None:
    """What ``for_user`` gave may be kept: it notices that a token is at its end."""
    first = access.access_token
    assert access.access_token == first

    pass_time(access, seconds=3600)

    assert access.access_token != first
    assert refreshes(site) == 1


def test_long_work_asks_for_a_token_that_lasts(site: Site, access: SpatioAccess) -> None:
    """``min_ttl``: refreshed before its time if need be."""
    first = access.get_token(min_ttl=1800)
    pass_time(access, seconds=2400)  # twenty minutes are left

    assert access.get_token() == first
    assert access.get_token(min_ttl=900) == first
    assert access.get_token(min_ttl=1800) != first
    assert refreshes(site) == 1
    _ = access.get_token(min_ttl=3500)  # no token lives that long: not one refresh per call
    assert refreshes(site) == 1


# The official SDK


@contextmanager
def workspaces(configuration: "Configuration") -> "Iterator[WorkspacesApi]":
    """Give an API of the SDK, and close its connections."""
    from spatio import ApiClient
    from spatio.api.workspaces_api import WorkspacesApi

    with ApiClient(configuration) as client:
        yield WorkspacesApi(client)
        client.rest_client.pool_manager.clear()


def test_the_two_lines_of_the_documentation_work(access: SpatioAccess) -> None:
    """At the issuer, with nothing else to say."""
    page = (Path(__file__).parent.parent / "docs" / "tokens.md").read_text()
    (block,) = (text for text in re.findall(r"```python\n(.*?)```", page, re.DOTALL) if "ApiClient" in text)
    example: dict[str, Any] = {}
    exec(block, example)  # noqa: S102 - the page's own lines

    assert example["names"](SimpleNamespace(spatio=access)) == ["Ada Lovelace's notes", "Analytical Engines"]


def test_one_client_of_the_sdk_stays_fresh_in_a_long_job(
    site: Site, access: SpatioAccess, notes: Notes
) -> None:
    """The token is asked for with each call, so a configuration that is kept does not grow old."""
    with workspaces(access.sdk_configuration()) as api:
        api.list_my_workspaces()
        pass_time(access, seconds=3600)
        api.list_my_workspaces()
        api.list_my_workspaces()

    first, second, third = notes.sent
    assert first != second == third == f"Bearer {access.access_token}"
    assert refreshes(site) == 1


def test_the_sdk_tells_that_a_grant_is_over(site: Site, access: SpatioAccess, notes: Notes) -> None:
    """With our error, so that the middleware knows what to do."""
    with workspaces(access.sdk_configuration()) as api:
        api.list_my_workspaces()
        site.spatio.revoke_grants()
        pass_time(access, seconds=3600)

        with pytest.raises(SessionEnded):
            api.list_my_workspaces()
    assert len(notes.calls) == 1


def test_the_sdk_gets_no_token_for_another_host(access: SpatioAccess, settings: Any) -> None:
    """What may have it is in ``SPATIO_API_ORIGINS``, whoever calls."""
    with pytest.raises(ConfigurationError) as caught:
        access.sdk_configuration(host="https://api.example")
    assert caught.value.code == "api_origins"

    settings.SPATIO_API_ORIGINS = ["https://api.example/", "http://127.0.0.1:1"]
    settings.SPATIO_HTTP_PROXY = "http://proxy.example:3128"
    assert access.sdk_configuration().host == "https://api.example"
    assert access.sdk_configuration().proxy == "http://proxy.example:3128"
    assert access.sdk_configuration(host="http://127.0.0.1:1/v2", retries=3).proxy is None


def test_what_is_set_on_the_sdks_configuration_does_not_stick(access: SpatioAccess) -> None:
    """A token that somebody assigns would grow old."""
    configuration = access.sdk_configuration()

    configuration.access_token = "another"

    assert configuration.access_token == access.access_token


def test_the_documented_way_to_catch_the_sdks_errors_leaves_the_token_out(
    access: SpatioAccess, notes: Notes
) -> None:
    """The SDK's own error does show it, to whoever reports local variables."""
    page = (Path(__file__).parent.parent / "docs" / "tokens.md").read_text()
    (block,) = (text for text in re.findall(r"```python\n(.*?)```", page, re.DOTALL) if "HTTPError" in text)
    example: dict[str, Any] = {"__name__": "example"}
    exec(block, example)  # noqa: S102 - the page's own lines
    notes.accepts = lambda _: False
    token = access.access_token

    def report(error: BaseException) -> str:
        """Give the local variables of all frames but this module's."""
        found: list[str] = []
        left: list[BaseException | None] = [error]
        while left:
            each = left.pop()
            if each is not None:
                left += [each.__cause__, each.__context__]
                frames = [frame for frame, _ in traceback.walk_tb(each.__traceback__)]
                found += [repr(f.f_locals) for f in frames if f.f_globals["__name__"] != __name__]
        return "".join(found)

    with workspaces(access.sdk_configuration()) as api:
        with pytest.raises(Exception, match="Unauthorized") as plain:
            api.list_my_workspaces()
        with pytest.raises(example["SpatioFailed"], match="UnauthorizedException 401") as caught:
            example["titles"](api)

    assert f"Bearer {token}" in report(plain.value)
    assert token not in report(caught.value)
