"""Work beside the caller: what counts as a transaction, and what does not reach the caller's."""

from typing import Any
from unittest.mock import patch

import pytest
from django.contrib.auth import get_user_model
from django.db import connection, transaction
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


def test_without_a_thread_to_be_had_the_caller_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """At once; nothing was begun."""
    assert threads.beside(lambda: 1).result(10) == 1

    def start(self: Any) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr("threading.Thread.start", start)
    with pytest.raises(RuntimeError):
        threads.beside(lambda: 1)


#: SQLite can play the others, as far as they are only spoken to.
VENDORS = ["postgresql", "mysql", "sqlite"] if connection.vendor == "sqlite" else [connection.vendor]


@pytest.mark.parametrize("vendor", VENDORS)
def test_waiting_for_locks_is_limited_in_the_databases_own_words(
    transactional_db: None, monkeypatch: pytest.MonkeyPatch, vendor: str
) -> None:
    """And as it was before, afterwards. That it works is seen where there is such a server."""
    said: list[str] = []

    def listen(execute: Any, sql: str, *rest: Any) -> Any:
        said.append(sql)
        return None if "lock" in sql and played else execute(sql, *rest)

    played = vendor != connection.vendor
    monkeypatch.setattr(connection, "vendor", vendor)
    with connection.execute_wrapper(listen), threads.impatient("default", 2):
        said.append("the work")

    before = [sql for sql in said if "lock" in sql or sql == "the work"]
    assert (
        before
        == {
            "postgresql": ["SET LOCAL lock_timeout = 2000", "the work"],
            "mysql": [
                threads._MYSQL_IMPATIENCE,
                "the work",
                threads._MYSQL_PATIENCE,
            ],
            "sqlite": ["the work"],
        }[vendor]
    )


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
