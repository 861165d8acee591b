"""
A provider, a wire and a database that fail on command, and the site that has to keep its sessions.

Nothing of the site is patched. Some tests shorten the deadline of a refresh, so that they take no ten
seconds; those under ``long/`` don't.
"""

import logging
import os
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import parse_qsl, unquote

import pytest
from django.core.cache import cache
from django.core.management import call_command
from django.db import connections
from django.db.models import F
from django.test import Client

from spatio_django import memo, provider, refreshing, registration, threads, tokens
from spatio_django.models import PendingRevocation, SpatioToken
from spatio_django.oidc import client as oidc_client
from spatio_django.testing import FakeSpatio
from spatio_django.testing.personas import PERSONAS, Persona
from tests.conftest import Site
from tests.faults import databases
from tests.faults.line import Line
from tests.hostile.conftest import OF_THE_PROVIDER, Records
from tests.misbehaving import Misbehaviour

TOKEN, REVOKE, USERINFO = "/oauth2/token", "/oauth2/revoke", "/oauth2/userinfo"
DISCOVERY, KEYS = "/.well-known/openid-configuration", "/.well-known/jwks.json"

#: Seconds that a refresh may take where :func:`hurried` is used.
HURRY = 1.5


class Rig(Site):
    """
    The site, behind a line that fails on command.

    Attributes:
        line: What is between the site and the provider.
        lies: What changes the provider's answers.
    """

    def __init__(self, spatio: FakeSpatio, line: Line, lies: Misbehaviour) -> None:
        super().__init__(spatio)
        self.line = line
        self.lies = lies

    # People

    def person(self, persona: str = "ada") -> tuple[Client, SpatioToken]:
        """Sign somebody in; give the browser and the grant."""
        browser = self.browser()
        browser.raise_request_exception = False
        response = self.sign_in(browser, persona=persona)
        assert response.status_code == 302, response.content.decode()
        return browser, self.row(browser.session[tokens.SESSION_KEY])

    def row(self, grant: SpatioToken | str) -> SpatioToken:
        """Read a grant anew."""
        rows = SpatioToken.objects.with_clock().select_related("account__user")
        return rows.get(handle=grant if isinstance(grant, str) else grant.handle)

    def twin(self, browser: Client) -> Client:
        """Give another browser with the same cookies, for another thread."""
        twin = self.browser()
        twin.raise_request_exception = False
        for name, morsel in browser.cookies.items():
            twin.cookies[name] = morsel.value
        return twin

    # Time

    def expire(self, grant: SpatioToken, *, left: float = -1.0) -> None:
        """Let time pass until *left* seconds are left of the access token."""
        now = self.row(grant).now
        SpatioToken.objects.filter(pk=grant.pk).update(expires_ms=int(1000 * (now + left)))
        memo.memo.clear()

    def pass_time(self, seconds: float) -> None:
        """Let time pass here: for the rows, the breakers, and what the process has noted of sessions."""
        ms = int(seconds * 1000)
        SpatioToken.objects.update(
            expires_ms=F("expires_ms") - ms,
            retry_at_ms=F("retry_at_ms") - ms,
            lease_until_ms=F("lease_until_ms") - ms,
        )
        PendingRevocation.objects.update(retry_at_ms=F("retry_at_ms") - ms)
        for breaker in refreshing._breakers.values():
            breaker._until -= seconds
        for digest in memo.memo._until:
            memo.memo._until[digest] -= seconds
        for client, _ in provider._clients.values():
            for slot in client._documents._slots.values():
                slot.failed_at -= seconds

    def put_off(self) -> None:
        """Let the next try be a minute later than it is, so that a slow machine does not come to it."""
        SpatioToken.objects.update(retry_at_ms=F("retry_at_ms") + 60_000)

    # What is to be seen

    @property
    def refreshes(self) -> list[str]:
        """The refresh tokens that left the site, in order."""
        forms = [dict(parse_qsl(call.partition(b"\r\n\r\n")[2].decode())) for call in self.calls(TOKEN)]
        return [form["refresh_token"] for form in forms if form.get("grant_type") == "refresh_token"]

    @property
    def revoked(self) -> list[str]:
        """The tokens that the provider was asked to revoke, in order."""
        forms = [dict(parse_qsl(call.partition(b"\r\n\r\n")[2].decode())) for call in self.calls(REVOKE)]
        return [form["token"] for form in forms]

    def calls(self, path: str) -> list[bytes]:
        """Give the requests that came over the line."""
        return self.line.calls.get(path, [])

    def is_good(self, grant: SpatioToken) -> bool:
        """Tell whether the refresh token that is stored is one that the provider still takes."""
        stored = self.row(grant).refresh_token
        known = self.spatio._provider.store.tables.refresh_tokens.get(stored.reveal() if stored else "")
        return known is not None and known.spent_at is None

    def knows(self, token: str) -> bool:
        """Tell whether the provider still takes *token*."""
        tables = self.spatio._provider.store.tables
        refresh_token = tables.refresh_tokens.get(token)
        return token in tables.access_tokens or (refresh_token is not None and refresh_token.spent_at is None)

    def is_signed_in(self, browser: Client) -> bool:
        """Tell whether the session goes on; and that the page comes in any case."""
        response = browser.get("/ping/")
        assert response.status_code == 200, response.content.decode()
        return bool(response.content)

    def works(self, browser: Client, grant: SpatioToken) -> None:
        """See the session go on, and its grant be refreshed with what is stored."""
        before = self.row(grant).generation
        self.expire(grant)
        assert self.is_signed_in(browser)
        assert self.row(grant).generation == before + 1
        assert self.is_good(grant)

    def secrets(self) -> set[str]:
        """Give everything secret that went over the line."""
        found: set[str] = set()
        for request in [*self.calls(TOKEN), *self.calls(REVOKE)]:
            head, _, body = request.partition(b"\r\n\r\n")
            form = dict(parse_qsl(body.decode()))
            found |= {form.get(name, "") for name in ("code", "code_verifier", "refresh_token", "token")}
            found |= {match[1].decode() for match in re.finditer(rb"(?i)\r\nauthorization: \S+ (\S+)", head)}
        for answer in self.line.answers.get(TOKEN, ()):
            for match in re.finditer(rb'"(?:access_token|refresh_token|id_token)": *"([^"]{12,})"', answer):
                found.add(match[1].decode("utf-8", "replace"))
        return {secret for secret in found if len(secret) >= 12}

    def see_no_secret(self, text: str) -> None:
        """See that nothing of what was exchanged can be read in *text*."""
        for secret in self.secrets():
            assert secret not in text, "a secret can be read"
            assert secret not in unquote(text), "a secret can be read"


def people(count: int) -> list[Persona]:
    """Give that many people, and those that are always there."""
    return [*PERSONAS, *(Persona(key=f"p{number}", sub=f"acc_person_{number:04}") for number in range(count))]


@pytest.fixture(autouse=True)
def fresh_process() -> Iterator[None]:
    """Let each test begin like a new process, and wait for what it left to do."""
    cache.clear()
    memo.memo.clear()
    registration.forget()
    refreshing.reset()
    yield
    settle()
    provider.close()


def settle(seconds: float = 30.0) -> None:
    """Wait until nothing is being done beside the test any more."""
    ends_at = time.monotonic() + seconds
    while refreshing._flights and time.monotonic() < ends_at:
        time.sleep(0.01)
    assert not refreshing._flights, "a refresh does not end"
    # Who refreshes in the crew tells of it after landing. That crew goes home; a new one comes if needed.
    crew = threads._crews.pop(os.getpid(), None)
    if crew is not None:
        crew.shutdown(wait=False)
    for thread in [*(crew._threads if crew else ()), *databases.threads_beside()]:
        thread.join(seconds)
        assert not thread.is_alive(), "something does not end"


@pytest.fixture
def spatio(misbehaviour: Misbehaviour) -> Iterator[FakeSpatio]:
    """Serve a fresh provider, with people enough for a crowd."""
    with FakeSpatio(wrap=misbehaviour.wrap, personas=people(60)) as provider:
        yield provider


@pytest.fixture
def line(spatio: FakeSpatio) -> Iterator[Line]:
    """Serve the line in front of it; the provider is known by the line's address."""
    with Line() as line:
        line.backend = spatio.issuer
        spatio.issuer = line.origin
        yield line


@pytest.fixture
def rig(
    transactional_db: None, spatio: FakeSpatio, line: Line, misbehaviour: Misbehaviour, settings: Any
) -> Rig:
    """Register the site at the provider; other threads and processes see what it writes."""
    settings.SPATIO_ISSUER = spatio.issuer
    settings.ROOT_URLCONF = "tests.faults.urls"
    call_command("spatio_register", "--base-url", Site.origin, verbosity=0)
    return Rig(spatio, line, misbehaviour)


@contextmanager
def hurried() -> Iterator[None]:
    """Give a refresh that will fail less time than it has in earnest; one that works may take all of it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(oidc_client, "REFRESH_TIMEOUT", HURRY)
        yield


@pytest.fixture
def atomic_requests() -> Iterator[None]:
    """Have each view in a transaction."""
    connections.settings["default"]["ATOMIC_REQUESTS"] = True
    yield
    connections.settings["default"]["ATOMIC_REQUESTS"] = False


@pytest.fixture
def records() -> Iterator[Records]:
    """Collect what is logged."""
    with Records() as records:
        yield records


def complaints(records: Records) -> list[str]:
    """Give what was logged of the site's own at ``WARNING`` and above."""
    return [
        f"{record.levelname} {record.getMessage()}"
        for record in records.found
        if record.name.startswith("spatio_django")
        and not record.name.startswith(OF_THE_PROVIDER)
        and record.levelno >= logging.WARNING
    ]


def times(name: str, quick: int) -> int:
    """Give how often something is done: in the long run as often as the environment says."""
    return int(os.environ.get(name, quick))
