"""What can happen to a database: done to the real one, by somebody else."""

import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from django.db import connections
from django.db.backends.base.base import BaseDatabaseWrapper

from spatio_django.models import SpatioToken
from spatio_django.threads import close_connections
from tests.faults.line import Relay


def vendor() -> str:
    """Give the database's kind: ``sqlite``, ``postgresql`` or ``mysql``."""
    return str(connections["default"].vendor)


@contextmanager
def stranger() -> Iterator[BaseDatabaseWrapper]:
    """Give a connection of somebody else's to the same database."""
    other = connections["default"].copy()
    try:
        yield other
    finally:
        other.close()


def end_all_connections() -> None:
    """Have the server end everybody's connections, as a failover does, and wait until they are gone."""
    with stranger() as other, other.cursor() as cursor:
        if other.vendor == "postgresql":
            cursor.execute(
                "SELECT pg_terminate_backend(pid, 2000) FROM pg_stat_activity"
                " WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )
        elif other.vendor == "mysql":
            cursor.execute(
                "SELECT id FROM information_schema.processlist"
                " WHERE db = DATABASE() AND id <> connection_id()"
            )
            for (number,) in cursor.fetchall():
                cursor.execute("KILL %s", [number])


@contextmanager
def row_locked(grant: SpatioToken) -> Iterator[None]:
    """Hold the lock of a grant's row in somebody else's transaction; on SQLite there is only one lock."""
    with stranger() as other, other.cursor() as cursor:
        cursor.execute("BEGIN IMMEDIATE" if other.vendor == "sqlite" else "BEGIN")
        suffix = "" if other.vendor == "sqlite" else " FOR UPDATE"
        cursor.execute(f"SELECT id FROM spatio_django_spatiotoken WHERE id = %s{suffix}", [grant.pk])  # noqa: S608 - no input
        try:
            yield
        finally:
            cursor.execute("ROLLBACK")


@contextmanager
def patience(seconds: float) -> Iterator[None]:
    """Let nobody wait longer than that for a lock, so that what is locked fails as it would in the end."""
    options: dict[str, dict[str, Any]] = {
        "sqlite": {"timeout": seconds},
        "postgresql": {"options": f"-c lock_timeout={seconds * 1000:.0f}ms"},
        "mysql": {"init_command": f"SET innodb_lock_wait_timeout={max(1, round(seconds))}"},
    }
    settings = connections.settings["default"]
    before = settings["OPTIONS"]
    connections["default"].close()
    settings["OPTIONS"] = {**before, **options[vendor()]}
    try:
        yield
    finally:
        connections["default"].close()
        settings["OPTIONS"] = before


class Outage:
    """
    A database that can't be used for a while, told so by :meth:`begin` from whichever thread.

    A server's connections are cut, and new ones refused. SQLite's file is locked by somebody else.
    """

    def __init__(self, relay: Relay | None) -> None:
        self._relay = relay
        self._threads: list[threading.Thread] = []

    def begin(self, seconds: float) -> None:
        """Go away now, and come back after *seconds*."""
        began = threading.Event()
        thread = threading.Thread(target=self._run, args=(began, seconds), daemon=True)
        self._threads.append(thread)
        thread.start()
        assert began.wait(10)

    def _run(self, began: threading.Event, seconds: float) -> None:
        if self._relay is not None:
            self._relay.is_open = False
            self._relay.cut()
            began.set()
            time.sleep(seconds)
            self._relay.is_open = True
            return
        with stranger() as other, other.cursor() as cursor:
            cursor.execute("BEGIN EXCLUSIVE")
            began.set()
            time.sleep(seconds)
            cursor.execute("ROLLBACK")

    def wait(self) -> None:
        """Wait until all is well again."""
        for thread in self._threads:
            thread.join(30)
        self._threads.clear()


@contextmanager
def outages() -> Iterator[Outage]:
    """Let connections from now on go a way that can be cut."""
    settings: dict[str, Any] = connections.settings["default"]
    relay = None
    before = {name: settings.get(name) for name in ("HOST", "PORT")}
    if vendor() != "sqlite":
        usual = {"postgresql": os.environ.get("PGPORT", "5432"), "mysql": "3306"}
        port = int(settings.get("PORT") or usual[vendor()])
        relay = Relay((str(settings["HOST"]), port))
        connections["default"].close()
        settings.update(HOST="127.0.0.1", PORT=str(relay.port))
    outage = Outage(relay)
    try:
        yield outage
    finally:
        outage.wait()
        connections["default"].close()
        settings.update(before)
        if relay is not None:
            relay.close()


def together(count: int, work: Callable[[int], Any]) -> list[Any]:
    """Do *work* in that many threads at once; give what each gave, or raised."""
    results: list[Any] = [None] * count
    start = threading.Barrier(count)

    def run(number: int) -> None:
        try:
            start.wait(20)
            results[number] = work(number)
        except BaseException as error:  # noqa: BLE001 - given to the caller
            results[number] = error
        finally:
            close_connections()

    threads = [threading.Thread(target=run, args=(number,), daemon=True) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert not any(thread.is_alive() for thread in threads), "a thread does not end"
    return results


def threads_beside() -> list[threading.Thread]:
    """Give the threads in which the site works beside its callers."""
    return [thread for thread in threading.enumerate() if thread.name == "spatio-beside"]
