"""Fixtures: a provider, a site registered at it, and browsers. Nothing is patched; the wire is real."""

import asyncio
import os
from collections.abc import Coroutine, Iterator
from typing import Any, TypeVar

import pytest
from asgiref.sync import sync_to_async
from django.core.cache import cache
from django.core.management import call_command
from django.test import Client
from hypothesis import HealthCheck
from hypothesis import settings as hypothesis_settings

from spatio_django import memo, provider, refreshing, registration
from spatio_django.testing import FakeSpatio
from spatio_django.threads import close_connections
from tests.misbehaving import Misbehaviour

T = TypeVar("T")

# Properties try the same inputs in every run: a change goes red for its own faults only, and what is red on
# one machine is red on all. New inputs are for the long run, which remembers what it found. No deadlines, and
# no complaint about slow inputs: a busy machine is no fault.
EXAMPLES = os.environ.get("SPATIO_TESTS_EXAMPLES")
BUSY = hypothesis_settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
hypothesis_settings.register_profile("bounded", BUSY, max_examples=100, derandomize=True, database=None)
if EXAMPLES:
    hypothesis_settings.register_profile("long", BUSY, max_examples=int(EXAMPLES), print_blob=True)
hypothesis_settings.load_profile("long" if EXAMPLES else "bounded")


@pytest.fixture(autouse=True)
def fresh_process() -> Iterator[None]:
    """Let each test begin like a new process: no client, no cached documents, nothing remembered."""
    cache.clear()
    memo.memo.clear()
    registration.forget()
    refreshing.reset()
    yield
    provider.close()


@pytest.fixture
def misbehaviour() -> Misbehaviour:
    """Give what makes the provider lie, when a test says so."""
    return Misbehaviour()


@pytest.fixture
def spatio(misbehaviour: Misbehaviour) -> Iterator[FakeSpatio]:
    """Serve a fresh provider that can be made to lie."""
    with FakeSpatio(wrap=misbehaviour.wrap) as provider:
        yield provider


def run_async(work: Coroutine[Any, Any, T]) -> T:
    """Run *work* in an event loop, and close the database connection of the thread that served it."""

    async def run() -> T:
        try:
            return await work
        finally:
            await sync_to_async(close_connections)()

    return asyncio.run(run())


class Site:
    """The site of the tests, registered at a provider, with what a browser does to it."""

    origin = "http://testserver"

    def __init__(self, spatio: FakeSpatio) -> None:
        self.spatio = spatio

    def browser(self, **defaults: Any) -> Client:
        """Open a browser that has never been here."""
        return Client(headers={"Sec-Fetch-Mode": "navigate", "Accept": "text/html"}, **defaults)

    def begin(self, browser: Client, **query: str) -> str:
        """Click the button; give the address at the provider that the browser is sent to."""
        response = browser.get("/spatio/login/", query)
        assert response.status_code == 302, response.content.decode()
        assert response["Location"].startswith(self.spatio.issuer)
        return str(response["Location"])

    def authorize(self, url: str, **options: Any) -> str:
        """Sign in and consent at the provider; give the callback, without its origin."""
        return self.spatio.sign_in(url, **options).removeprefix(self.origin)

    def sign_in(self, browser: Client, *, persona: str = "ada", **query: str) -> Any:
        """Do the whole walk; give the answer to the callback."""
        return browser.get(self.authorize(self.begin(browser, **query), persona=persona))


@pytest.fixture
def site(db: None, spatio: FakeSpatio, settings: Any) -> Site:
    """Register the site at a fresh provider."""
    settings.SPATIO_ISSUER = spatio.issuer
    call_command("spatio_register", "--base-url", Site.origin, verbosity=0)
    return Site(spatio)
