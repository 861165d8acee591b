"""Work beside the caller: what counts as a transaction, and what does not reach the caller's."""

import signal
from functools import partial
from types import ModuleType
from typing import Any
from unittest import mock
from unittest.mock import patch

import pytest
from django.contrib.auth import get_user_model
from django.db import DatabaseError, connection, transaction
from django.db.backends.utils import CursorWrapper
from django.test import TestCase, TransactionTestCase

from spatio_django import threads

User = get_user_model()


class OfATestCase(TestCase):
    """Inside the transaction that Django wraps around a test."""

    def test_the_transaction_of_a_test_does_not_count(self) -> None:
        """The code under test goes on as if it were not there."""
        assert connection.in_atomic_block
        assert threads.in_test_case("default")
        assert not threads.in_transaction("default")

        with transaction.atomic():
            assert threads.in_transaction("default")
            assert not threads.in_test_case("default")

    def test_other_threads_do_not_find_its_rows(self) -> None:
        """What needs them is done here."""
        assert threads.only_here("default")

    def test_what_waits_for_a_commit_is_done_at_once(self) -> None:
        """There will be none."""
        done: list[int] = []

        threads.when_committed("default", lambda: done.append(1))

        assert done == [1]


class OfASite(TransactionTestCase):
    """Without it."""

    def test_a_transaction_counts_and_autocommit_does_not(self) -> None:
        """What is written in one can be undone; without autocommit everything is in one."""
        assert not threads.in_transaction("default")
        assert not threads.in_test_case("default")
        with transaction.atomic():
            assert threads.in_transaction("default")
        connection.set_autocommit(False)
        try:
            assert threads.in_transaction("default")
        finally:
            connection.set_autocommit(True)

    def test_a_database_in_memory_is_one_connections_own(self) -> None:
        """Another one would find an empty one."""
        assert not threads.only_here("default")
        with patch.dict(connection.settings_dict, NAME=":memory:"):
            assert threads.only_here("default")

    def test_a_thread_can_commit_each_statement_where_the_site_does_not(self) -> None:
        """What is claimed must be seen by others before it is used."""
        threads.commit_each_statement("default")
        connection.set_autocommit(False)
        try:
            threads.commit_each_statement("default")
            assert connection.get_autocommit()
        finally:
            connection.set_autocommit(True)
        with transaction.atomic():
            threads.commit_each_statement("default")
            assert connection.in_atomic_block

    def test_what_waits_for_a_commit_is_not_done_when_there_is_none(self) -> None:
        """A rollback forgets it."""
        done: list[str] = []
        with transaction.atomic():
            threads.when_committed("default", lambda: done.append("committed"))
            assert done == []
        assert done == ["committed"]

        with transaction.atomic():
            threads.when_committed("default", lambda: done.append("rolled back"))
            transaction.set_rollback(True)

        assert done == ["committed"]

    def test_work_beside_has_a_connection_of_its_own_and_closes_it(self) -> None:
        """A rollback of the caller does not reach it."""
        used: list[Any] = []

        def work() -> int:
            count = User.objects.count()
            used.append(connection.connection)
            return count

        assert threads.beside(work).result(10) == 0
        assert used[0] is not connection.connection


def test_what_work_raises_reaches_who_waits() -> None:
    """Even what ends a process."""

    def work() -> None:
        raise SystemExit(3)

    with pytest.raises(SystemExit):
        threads.beside(work).result(10)


def test_what_must_be_written_is_tried_until_the_database_lets_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Again and again, each time on a new connection; any other fault is no reason to."""
    monkeypatch.setattr(threads, "PAUSE", 0.0)
    tries: list[BaseException] = []

    def work(*errors: BaseException) -> int:
        if len(tries) < len(errors):
            tries.append(errors[len(tries)])
            raise tries[-1]
        return 7

    refused = DatabaseError("locked")
    assert threads.insist(partial(work, refused, refused), seconds=20, daemon=True).result(10) == 7
    assert len(tries) == 2

    for seconds, error in ((0, refused), (20, ValueError("a fault"))):
        tries.clear()
        with pytest.raises(type(error)):
            threads.insist(partial(work, error, error), seconds=seconds, daemon=True).result(10)
        assert len(tries) == 1


def test_signals_are_handled_when_what_must_not_be_torn_is_done() -> None:
    """In the main thread, whose handlers raise wherever it is; afterwards they are what they were."""
    done: list[str] = []

    class Stop(Exception):
        pass

    def handle(number: int, frame: Any) -> None:
        raise Stop

    def work() -> None:
        with threads.signals_later():
            signal.raise_signal(signal.SIGUSR1)
            done.append("all of it")

    before = signal.signal(signal.SIGUSR1, handle)
    try:
        with pytest.raises(Stop):
            signal.raise_signal(signal.SIGUSR1)
        with pytest.raises(Stop):
            work()
        assert done == ["all of it"]
        assert signal.getsignal(signal.SIGUSR1) is handle
    finally:
        signal.signal(signal.SIGUSR1, before)


def test_another_thread_has_no_signals_to_be_handled_later() -> None:
    """Python lets only the main one say so."""

    def work() -> bool:
        with threads.signals_later():
            return True

    assert threads.beside(work).result(10)


def test_without_a_thread_to_be_had_the_caller_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """At once; nothing was begun."""
    assert threads.beside(lambda: 1).result(10) == 1

    def start(self: Any) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr("threading.Thread.start", start)
    with pytest.raises(RuntimeError):
        threads.beside(lambda: 1)


#: By kind of database: what is said to it when it is asked for 1 in two seconds, and what makes it that kind.
SAID: dict[str, tuple[list[str], str, dict[str, Any]]] = {
    "postgresql": (["SET LOCAL lock_timeout = 2000; SELECT 1"], "postgresql", {}),
    "postgresql, server_side_binding": (
        ["SET LOCAL lock_timeout = 2000", "SELECT 1"],
        "postgresql",
        {"features.uses_server_side_binding": True},
    ),
    "mariadb": (
        ["SET STATEMENT innodb_lock_wait_timeout = 2, lock_wait_timeout = 2 FOR SELECT 1"],
        "mysql",
        {"mysql_is_mariadb": True},
    ),
    "mysql": (
        [threads._MYSQL_IMPATIENCE, "SELECT 1", threads._MYSQL_PATIENCE],
        "mysql",
        {"mysql_is_mariadb": False},
    ),
    "sqlite": (["SELECT 1"], "sqlite", {}),
}


#: SQLite can play the others.
KINDS = [kind for kind in SAID if connection.vendor in {"sqlite", SAID[kind][1]}]


@pytest.mark.parametrize("kind", KINDS)
def test_waiting_for_locks_is_limited_in_the_databases_own_words(
    transactional_db: None, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """In one message with the statement where that can be done."""
    words, vendor, marks = SAID[kind]
    played = vendor != connection.vendor
    said: list[str] = []
    execute = CursorWrapper._execute  # type: ignore[attr-defined]  # not in the stubs

    def listen(self: CursorWrapper, sql: str, *rest: Any) -> Any:
        if sql.endswith("SELECT 1") or "lock" in sql:
            said.append(sql)
            return execute(self, "SELECT 1", None) if played else execute(self, sql, *rest)
        return execute(self, sql, *rest)

    connection.ensure_connection()
    with monkeypatch.context() as patched:
        patched.setattr(CursorWrapper, "_execute", listen)
        patched.setattr(connection, "vendor", vendor)
        for name, value in {"features.uses_server_side_binding": False, **marks}.items():
            owner = connection.features if name.startswith("features.") else connection
            patched.setattr(owner, name.rpartition(".")[2], value, raising=False)
        with threads.impatient("default", 2), connection.cursor() as cursor:
            cursor.execute("SELECT 1")
            assert cursor.fetchone() == (1,), "the statement's own result"

    assert said == words


@pytest.mark.parametrize(("driver", "asked"), [("psycopg", 2), ("psycopg2", 0), ("MySQLdb", 0)])
def test_what_is_said_along_has_no_result_to_be_taken_for_the_statements(driver: str, asked: int) -> None:
    """One driver keeps a result of each, and begins with the first; the last one's is wanted."""
    cursor = mock.Mock(nextset=mock.Mock(side_effect=[True, None]))
    context = {"cursor": cursor, "connection": mock.Mock(Database=ModuleType(driver))}
    execute = mock.Mock(return_value=None)

    threads._together("SET x; ", execute, "UPDATE y", [1], False, context)

    assert execute.mock_calls == [mock.call("SET x; UPDATE y", [1], False, context)]
    assert cursor.nextset.call_count == asked


#: What says how long this connection waits for locks, what sets that to 41 s, and how it is said.
WORDS = {
    "postgresql": ("SHOW lock_timeout", "SET lock_timeout = '41s'", "41s", "2s"),
    "mysql": (
        "SELECT concat(@@innodb_lock_wait_timeout, '/', @@lock_wait_timeout)",
        "SET SESSION innodb_lock_wait_timeout = 41, SESSION lock_wait_timeout = 42",
        "41/42",
        "2/2",
    ),
    "sqlite": ("PRAGMA busy_timeout", "PRAGMA busy_timeout = 41000", 41000, 41000),
}


def test_a_sites_own_patience_is_as_it_was_afterwards(transactional_db: None) -> None:
    """Also after a failure: other statements of this connection are the site's."""
    ask, change, usual, meanwhile = WORDS[connection.vendor]

    def patience() -> Any:
        with connection.cursor() as cursor:
            cursor.execute(ask)
            return cursor.fetchone()[0]

    def fail() -> None:
        with threads.impatient("default", 2):
            assert patience() == meanwhile
            raise ValueError("the work")

    with connection.cursor() as cursor:
        cursor.execute(change)

    with pytest.raises(ValueError, match="the work"):
        fail()

    assert patience() == usual
    connection.close()


def test_a_transaction_that_the_site_never_began_survives_a_failure(transactional_db: None) -> None:
    """Without autocommit there is always one."""
    connection.set_autocommit(False)
    try:
        User.objects.create(username="ada")

        with pytest.raises(DatabaseError), threads.impatient("default", 2), connection.cursor() as cursor:
            cursor.execute("UPDATE no_such_table SET a = 1")

        assert User.objects.count() == 1
        connection.commit()
    finally:
        connection.rollback()
        connection.set_autocommit(True)
    assert User.objects.count() == 1
