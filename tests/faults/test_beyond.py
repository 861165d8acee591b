"""What lasts longer than anybody waits: locks, interrupted threads, lines, and clocks that were ahead."""

import asyncio
import gc
import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from django.db import transaction

from spatio_django import refreshing, threads, tokens
from spatio_django.exceptions import TokenUnavailable
from spatio_django.models import PendingRevocation, SpatioToken, from_now
from tests.conftest import run_async
from tests.faults.conftest import REVOKE, TOKEN, Rig, complaints, settle
from tests.faults.databases import patience, row_locked, stranger
from tests.faults.test_table import after
from tests.hostile.conftest import Records

# --- The successor ----------------------------------------------------------------------------------------


class Holder:
    """Somebody who takes the lock of a grant's row in another transaction, and keeps it."""

    def __init__(self, grant: SpatioToken, *, ending: bool) -> None:
        self._grant, self._ending = grant, ending
        self._holds, self._lets_go = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._hold, daemon=True)

    def take(self) -> None:
        """Take it now."""
        self._thread.start()
        assert self._holds.wait(20)

    def let_go(self) -> None:
        """Give it back, and wait until that is so."""
        self._lets_go.set()
        self._thread.join(20)

    def _hold(self) -> None:
        with stranger() as other, other.cursor() as cursor:
            cursor.execute("BEGIN IMMEDIATE" if other.vendor == "sqlite" else "BEGIN")
            state = "revoked" if self._ending else "active"
            cursor.execute(
                "UPDATE spatio_django_spatiotoken SET state = %s, ended = %s WHERE id = %s",
                [state, "signed_out" if self._ending else "", self._grant.pk],
            )
            self._holds.set()
            self._lets_go.wait(60)
            cursor.execute("COMMIT")


@contextmanager
def locked_at_the_answer(
    rig: Rig, grant: SpatioToken, monkeypatch: pytest.MonkeyPatch, *, ending: bool = False
) -> Iterator[Holder]:
    """Have somebody take the lock when the provider has answered; nobody waits for it for long."""
    monkeypatch.setattr(refreshing, "PATIENCE", 1)
    monkeypatch.setattr(refreshing, "LONG_PATIENCE", 1)
    monkeypatch.setattr(refreshing, "STORE_WITHIN", 0.0)
    holder = Holder(grant, ending=ending)
    with patience(0.2):
        rig.expire(grant)
        rig.lies.lies[TOKEN] = after(holder.take)
        yield holder
        rig.lies.lies.clear()
        holder.let_go()
        settle()


def test_a_successor_is_stored_when_the_lock_is_gone_however_late(
    rig: Rig, records: Records, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The caller is let go, nobody of this process sends the used token again, and in the end it is there."""
    browser, grant = rig.person()
    rig.works(browser, grant)
    with locked_at_the_answer(rig, grant, monkeypatch):
        with pytest.raises(TokenUnavailable) as caught:
            refreshing.fresh(rig.row(grant), refreshing.Need())
        assert caught.value.code == "database"
        with pytest.raises(TokenUnavailable) as caught:
            refreshing.fresh(rig.row(grant), refreshing.Need())
        assert caught.value.code == "busy"
        assert len(rig.refreshes) == 2

    assert not [line for line in complaints(records) if line.startswith("CRITICAL")]
    assert rig.row(grant).generation == 2
    assert rig.is_good(grant)
    rig.works(browser, grant)


def test_a_successor_that_comes_late_to_a_grant_that_is_over_is_revoked(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever held the lock has ended the grant."""
    browser, grant = rig.person()
    rig.works(browser, grant)
    with locked_at_the_answer(rig, grant, monkeypatch, ending=True):
        with pytest.raises(TokenUnavailable):
            refreshing.fresh(rig.row(grant), refreshing.Need())
        assert not rig.revoked

    assert len(rig.revoked) == 2
    assert not any(map(rig.knows, rig.revoked))
    assert not PendingRevocation.objects.exists()
    assert not rig.is_signed_in(browser)


@pytest.mark.parametrize("why", ["time", "thread"])
def test_a_successor_that_can_not_be_stored_at_all_is_a_critical_record(
    rig: Rig, records: Records, monkeypatch: pytest.MonkeyPatch, why: str
) -> None:
    """After the last attempt, or without a thread to try in; and the next one who asks finds out."""
    browser, grant = rig.person()
    rig.works(browser, grant)

    def insist(*args: Any, **kwargs: Any) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(refreshing, "STORE_LATE", 0.0)
    if why == "thread":
        monkeypatch.setattr(refreshing, "insist", insist)
    with locked_at_the_answer(rig, grant, monkeypatch):
        with pytest.raises(TokenUnavailable):
            refreshing.fresh(rig.row(grant), refreshing.Need())
        settle()

    assert [line for line in complaints(records) if line.startswith("CRITICAL A refresh token was lost")]
    assert not refreshing._late


# --- Signing out ------------------------------------------------------------------------------------------


def test_a_sign_out_that_meets_a_lock_is_done_when_it_is_gone(rig: Rig, settings: Any) -> None:
    """The person is out at once; the grant ends, and its tokens are revoked, when the row can be had."""
    settings.SESSION_ENGINE = "django.contrib.sessions.backends.signed_cookies"
    browser, grant = rig.person()
    rig.works(browser, grant)
    with patience(0.2):
        with row_locked(grant):
            assert browser.post("/spatio/logout/").status_code == 302
            assert not rig.is_signed_in(browser)
            assert not rig.revoked
        settle()

    assert not SpatioToken.objects.exists()
    assert not PendingRevocation.objects.exists()
    assert len(rig.revoked) == 2
    assert not any(map(rig.knows, rig.revoked))


def test_a_sign_out_that_meets_a_lock_and_finds_no_thread_is_a_sign_out(
    rig: Rig, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The person is out, though nobody can try again."""
    settings.SESSION_ENGINE = "django.contrib.sessions.backends.signed_cookies"
    browser, grant = rig.person()
    rig.works(browser, grant)

    def insist(*args: Any, **kwargs: Any) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(tokens, "insist", insist)
    with patience(0.2), row_locked(grant):
        assert browser.post("/spatio/logout/").status_code == 302
        assert not rig.is_signed_in(browser)


@pytest.mark.parametrize("error", ["invalid_token", "invalid_grant", "access_denied"])
def test_an_access_token_is_revoked_though_the_refresh_token_is_refused(rig: Rig, error: str) -> None:
    """Whether Spatio takes refresh tokens there is not said. What is left is tried again."""
    browser, grant = rig.person()
    stored = rig.row(grant)
    assert stored.access_token is not None
    assert rig.knows(stored.access_token.reveal())

    def refuse(status: str, headers: dict[str, str], body: bytes) -> tuple[str, dict[str, str], bytes]:
        if len(rig.revoked) > 1:
            return status, headers, body
        body = b'{"error": "%s"}' % error.encode()
        return "400 Bad Request", {"Content-Type": "application/json"}, body

    rig.lies.lies[REVOKE] = refuse
    browser.post("/spatio/logout/")
    settle()

    assert not rig.knows(stored.access_token.reveal())
    assert PendingRevocation.objects.get().access_ciphertext == ""


def test_what_another_process_saw_before_a_sign_out_was_committed_holds_no_minute(rig: Rig) -> None:
    """A request in between finds the row as it was; the one after the commit finds out."""
    browser, grant = rig.person()
    assert rig.is_signed_in(browser)
    twin = rig.twin(browser)
    seen: list[bool] = []

    def visit() -> None:
        seen.append(rig.is_signed_in(twin))
        threads.close_connections()

    with transaction.atomic():
        tokens.sign_out_everywhere(grant.account.user)
        thread = threading.Thread(target=visit)
        thread.start()
        thread.join(20)

    assert seen == [True]
    assert not rig.is_signed_in(browser)


# --- Signals ----------------------------------------------------------------------------------------------


class TimeLimit(Exception):
    """What a job's time limit raises wherever its code is."""


@pytest.fixture
def time_limit() -> Iterator[None]:
    """Raise in the main thread on SIGUSR1, as Celery does."""

    def handle(number: int, frame: Any) -> None:
        raise TimeLimit

    before = signal.signal(signal.SIGUSR1, handle)
    yield
    signal.signal(signal.SIGUSR1, before)


def test_a_job_that_is_interrupted_while_the_provider_answers_loses_nothing(
    rig: Rig, time_limit: None
) -> None:
    """In the main thread, on each database; and the job hears of it."""
    browser, grant = rig.person()
    rig.works(browser, grant)
    rig.expire(grant)
    row = rig.row(grant)
    rig.lies.lies[TOKEN] = after(lambda: os.kill(os.getpid(), signal.SIGUSR1))

    with pytest.raises(TimeLimit):
        refreshing.fresh(row, refreshing.Need())

    settle()
    rig.lies.lies.clear()
    assert rig.row(grant).generation == 2
    assert rig.is_good(grant)
    rig.works(browser, grant)


# --- Event loops ------------------------------------------------------------------------------------------


def test_nobody_stands_in_line_for_a_thread_with_a_token_that_is_good(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All threads wait for the provider: who has a token goes on with it, and it is refreshed in its turn."""
    monkeypatch.setattr(threads, "CREW", 1)
    monkeypatch.setattr(threads, "_crews", {})
    first, second = rig.person("ada"), rig.person("cleo")
    for browser, grant in (first, second):
        rig.works(browser, grant)
        rig.expire(grant, left=20)
    held, let_go = threading.Event(), threading.Event()

    def hold() -> None:
        held.set()
        assert let_go.wait(20)

    rig.lies.lies[TOKEN] = after(hold)
    threads.in_crew(hold)
    assert held.wait(20)
    row = rig.row(second[1])

    async def ask() -> SpatioToken:
        return await refreshing.afresh(row, refreshing.Need())

    began = time.monotonic()
    assert run_async(ask()).generation == row.generation
    assert time.monotonic() - began < refreshing.WAIT / 2
    rig.lies.lies.clear()
    let_go.set()
    settle()
    assert rig.row(second[1]).generation == row.generation + 1
    assert rig.is_good(second[1])
    rig.expire(second[1], left=20)
    row = rig.row(second[1])
    assert run_async(ask()).generation == row.generation + 1


@pytest.mark.filterwarnings("error")
def test_who_goes_away_before_a_refusal_leaves_no_error_behind(rig: Rig, records: Records) -> None:
    """The event loop would log one for each client, with what the frames held."""
    browser, grant = rig.person()
    rig.works(browser, grant)
    rig.expire(grant)
    row = rig.row(grant)
    held, let_go = threading.Event(), threading.Event()

    def refuse(status: str, headers: dict[str, str], body: bytes) -> tuple[str, dict[str, str], bytes]:
        held.set()
        assert let_go.wait(20)
        return "503 Service Unavailable", {"Content-Type": "text/plain"}, b""

    rig.lies.lies[TOKEN] = refuse
    # Said a moment ago: the record of it would keep what is to be thrown away.
    refreshing._logged["bad_status"] = time.monotonic()

    async def leave() -> bool:
        task = asyncio.ensure_future(refreshing.afresh(row, refreshing.Need()))
        assert await asyncio.to_thread(held.wait, 20)
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled()
        flight = refreshing._flights[row.handle]
        let_go.set()
        assert await asyncio.to_thread(flight.exception, 20) is not None
        await asyncio.sleep(0)  # this loop has heard, too
        del flight, task
        await asyncio.to_thread(settle)
        gc.collect()
        return True

    assert run_async(leave())
    settle()
    assert not [
        record for record in records.found if record.name == "asyncio" and record.levelname == "ERROR"
    ]


# --- Clocks -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("column", ["lease_until_ms", "retry_at_ms"])
def test_a_clock_that_was_ahead_keeps_nobody_waiting_for_a_day(rig: Rig, column: str) -> None:
    """A failover to a server whose clock is right: what seems to last longer than anything does is over."""
    browser, grant = rig.person()
    rig.works(browser, grant)
    rig.expire(grant)
    soon = {column: from_now(20), "lease_id": "somebody's" if column == "lease_until_ms" else ""}
    SpatioToken.objects.filter(pk=grant.pk).update(**soon)
    with pytest.raises(TokenUnavailable):
        refreshing.fresh(rig.row(grant), refreshing.Need(wait=False))

    SpatioToken.objects.filter(pk=grant.pk).update(**soon | {column: from_now(24 * 3600)})

    assert refreshing.fresh(rig.row(grant), refreshing.Need(wait=False)).generation == 2
    assert rig.is_good(grant)
