"""Work beside the caller: in a thread of its own, with database connections of its own."""

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import copy_context
from functools import partial
from typing import Any, TypeVar

from django.db import Error, connections, transaction
from django.db.backends.base.base import BaseDatabaseWrapper

T = TypeVar("T")

#: Seconds between attempts of :func:`insist`.
PAUSE = 0.5
#: Threads of a process that :func:`in_crew` has, and so database connections beside those of the requests.
CREW = 16


def in_transaction(alias: str) -> bool:
    """
    Tell whether what is written to the database *alias* now can still be undone, or be unseen by others.

    The transaction that a ``TestCase`` wraps around each test does not count: the code under test goes on as
    if it were not there.
    """
    connection = connections[alias]
    if connection.in_atomic_block:
        return not in_test_case(alias)
    # Without connecting only to ask.
    return not (
        connection.settings_dict["AUTOCOMMIT"] if connection.connection is None else connection.autocommit
    )


def in_test_case(alias: str) -> bool:
    """Tell whether the only transaction around us is that of a ``TestCase``."""
    blocks = connections[alias].atomic_blocks
    marks = (block._from_testcase for block in blocks)  # type: ignore[attr-defined]  # noqa: SLF001 - as Django
    return bool(blocks) and all(marks)


def commit_each_statement(alias: str) -> None:
    """Have what this thread writes committed at once, also where the site has that off."""
    connection = connections[alias]
    if not (connection.in_atomic_block or connection.get_autocommit()):
        connection.set_autocommit(True)


def has_one_writer(alias: str) -> bool:
    """Tell whether a second connection would have to wait for the first, which may wait for it."""
    return connections[alias].vendor == "sqlite"


def only_here(alias: str) -> bool:
    """Tell whether another thread, by its own connection, would not find what this one has written."""
    return in_test_case(alias) or connections[alias].settings_dict["NAME"] == ":memory:"


def when_committed(alias: str, work: Callable[[], None]) -> None:
    """
    Do *work* when the transaction around us is committed, if there is one; never if it is rolled back.

    Without autocommit nobody can tell when that is: then it is done at once.
    """
    connection = connections[alias]
    if in_test_case(alias) or (in_transaction(alias) and not connection.in_atomic_block):
        work()
    else:
        transaction.on_commit(work, using=alias, robust=True)


def impatient(alias: str, seconds: int) -> AbstractContextManager[None]:
    """
    Have this thread's statements wait for locks no longer than that; then they fail.

    Not inside a transaction of the caller's, which would go on with that. Where the database allows, it is
    said along with each statement and takes no time of its own. SQLite has its connection's ``timeout``.
    """
    connection: Any = connections[alias]
    connection.ensure_connection()  # or what opens it would be taken for such a statement
    if connection.vendor == "postgresql":
        milliseconds = seconds * 1000
        # Whoever has the server put the values in can send but one statement at a time. And a statement that
        # fails in a transaction of the site's, which there is always without autocommit, needs a savepoint.
        is_one = connection.features.uses_server_side_binding
        if is_one or connection.in_atomic_block or not connection.get_autocommit():
            return _impatient_transaction(alias, milliseconds)
        words = f"SET LOCAL lock_timeout = {milliseconds}; "
    elif connection.vendor != "mysql":
        return nullcontext()
    elif getattr(connection, "mysql_is_mariadb", False):  # Oracle's own backend doesn't say
        words = f"SET STATEMENT innodb_lock_wait_timeout = {seconds}, lock_wait_timeout = {seconds} FOR "
    else:
        return _impatient_session(alias, seconds)
    wrapped: AbstractContextManager[None] = connection.execute_wrapper(partial(_together, words))
    return wrapped


def _together(
    words: str, execute: Callable[..., Any], sql: str, params: Any, many: bool, context: dict[str, Any]
) -> Any:
    """Execute *words* and *sql* in one message, which PostgreSQL takes for one transaction."""
    result = execute(words + sql, params, many, context)
    if context["connection"].Database.__name__ == "psycopg":
        # It has a result of each, and begins with the first; psycopg2 has the last one's.
        while context["cursor"].nextset():
            pass
    return result


@contextmanager
def _impatient_transaction(alias: str, milliseconds: int) -> Iterator[None]:
    with transaction.atomic(using=alias), connections[alias].cursor() as cursor:
        cursor.execute(f"SET LOCAL lock_timeout = {milliseconds}")
        yield


@contextmanager
def _impatient_session(alias: str, seconds: int) -> Iterator[None]:
    with connections[alias].cursor() as cursor:
        cursor.execute(_MYSQL_IMPATIENCE, [seconds, seconds])
        try:
            yield
        finally:
            cursor.execute(_MYSQL_PATIENCE)


_MYSQL_IMPATIENCE = """
SET @spatio_rows = @@innodb_lock_wait_timeout, @spatio_tables = @@lock_wait_timeout,
SESSION innodb_lock_wait_timeout = %s, SESSION lock_wait_timeout = %s
"""
_MYSQL_PATIENCE = (
    "SET SESSION innodb_lock_wait_timeout = @spatio_rows, SESSION lock_wait_timeout = @spatio_tables"
)


@contextmanager
def signals_later() -> Iterator[None]:
    """
    Have what this process is told by signals handled afterwards, if this is its main thread.

    For what must not be torn in the middle by Ctrl-C, a worker that is to stop, or a job's time limit: their
    handlers raise wherever the main thread is. It is for seconds. A kill remains a kill.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    arrived: list[int] = []
    handlers = {each: signal.getsignal(each) for each in signal.valid_signals()}
    handlers = {each: handler for each, handler in handlers.items() if callable(handler)}
    for each in handlers:
        signal.signal(each, lambda number, _frame: arrived.append(number))
    try:
        yield
    finally:
        for each, handler in handlers.items():
            signal.signal(each, handler)
        for number in arrived:
            signal.raise_signal(number)


def beside(work: Callable[[], T], *, daemon: bool = False) -> "Future[T]":
    """
    Do *work* in a new thread.

    Neither a rollback, nor a cancelled task, nor a closed connection of the caller reaches it.

    Args:
        daemon: Whether the process may end before the work does.

    Returns:
        What the work gives, or raises.

    Raises:
        RuntimeError: There is no thread to be had: the process is ending, or at its limit.
    """
    future: Future[T] = Future()
    future.set_running_or_notify_cancel()
    task = _prepared(work)

    def run() -> None:
        try:
            result = task()
        except BaseException as error:  # noqa: BLE001 - handed on
            future.set_exception(error)
        else:
            future.set_result(result)

    threading.Thread(target=run, name="spatio-beside", daemon=daemon).start()
    return future


def insist(work: Callable[[], T], *, seconds: float, daemon: bool) -> "Future[T]":
    """
    Do as :func:`beside`, and again while the database fails, for so many *seconds*.

    For what must be written, though the caller can't wait for it.
    """
    gives_up = time.monotonic() + seconds

    def until_done() -> T:
        while True:
            try:
                return work()
            except Error:
                if time.monotonic() >= gives_up:
                    raise
            close_connections()
            time.sleep(PAUSE)

    return beside(until_done, daemon=daemon)


def in_crew(work: Callable[[], T]) -> "Future[T]":
    """
    Do *work* in one of a few threads, as soon as one is free; the process does not end before.

    Else many requests at once would each take a database connection more.

    Returns:
        As :func:`beside`.

    Raises:
        RuntimeError: As :func:`beside`.
    """
    pid = os.getpid()  # a forked process has none of the threads
    crew = _crews.get(pid) or _crews.setdefault(pid, ThreadPoolExecutor(CREW, "spatio-crew"))
    return crew.submit(_prepared(work))


_crews: dict[int, ThreadPoolExecutor] = {}


def _prepared(work: Callable[[], T]) -> Callable[[], T]:
    """Let *work* see what the caller's code sees by context, such as which tenant it is for."""
    return partial(copy_context().run, _closing_connections, work)


def _closing_connections(work: Callable[[], T]) -> T:
    # Before anybody hears of the result: they may want to be alone with the database then.
    try:
        return work()
    finally:
        close_connections()


def close_connections() -> None:
    """Close the connections of this thread, which ends, or goes on with something else."""
    for connection in connections.all(initialized_only=True):
        # Not its own close(): SQLite's leaves one to a database in memory open, as tests have it.
        BaseDatabaseWrapper.close(connection)
