"""Work beside the caller: in a thread of its own, with database connections of its own."""

import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

from django.db import connections, transaction

T = TypeVar("T")


def in_transaction(alias: str) -> bool:
    """
    Tell whether what is written to the database *alias* now can still be undone, or be unseen by others.

    The transaction that a ``TestCase`` wraps around each test does not count: the code under test goes on as
    if it were not there.
    """
    connection = connections[alias]
    if connection.in_atomic_block:
        return not in_test_case(alias)
    return not connection.get_autocommit()


def in_test_case(alias: str) -> bool:
    """Tell whether the only transaction around us is that of a ``TestCase``."""
    blocks = connections[alias].atomic_blocks
    marks = (block._from_testcase for block in blocks)  # type: ignore[attr-defined]  # noqa: SLF001 - as Django
    return bool(blocks) and all(marks)


def when_committed(alias: str, work: Callable[[], None]) -> None:
    """Do *work* when the transaction around us is committed, if there is one; never if it is rolled back."""
    if in_test_case(alias):
        work()
    else:
        transaction.on_commit(work, using=alias, robust=True)


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

    def run() -> None:
        try:
            result = work()
        except BaseException as error:  # noqa: BLE001 - handed on
            future.set_exception(error)
        else:
            future.set_result(result)
        finally:
            connections.close_all()

    threading.Thread(target=run, name="spatio-beside", daemon=daemon).start()
    return future
