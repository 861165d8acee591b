"""The breaker: a provider that is down is not asked by everybody all the time."""

from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import pytest

from spatio_django import breaker as module
from spatio_django.breaker import FIRST_PAUSE, LAST_PAUSE, THRESHOLD, Breaker


class Clock:
    """A monotonic clock that stands still until it is moved."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        """Tell the time."""
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """Give the breaker a clock of ours."""
    clock = Clock()
    monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=clock))
    return clock


def opened(times: int = 1) -> Breaker:
    """Give a breaker that has opened, and whose probes have failed *times* minus one times."""
    breaker = Breaker()
    for _ in range(THRESHOLD - 1 + times):
        breaker.failed()
    return breaker


def test_some_failures_in_a_row_open_it() -> None:
    """Fewer do not, and an answer begins the count anew."""
    breaker = Breaker()
    for _ in range(THRESHOLD - 1):
        breaker.failed()
    assert breaker.allows()
    breaker.succeeded()
    for _ in range(THRESHOLD - 1):
        breaker.failed()
    assert breaker.allows()

    breaker.failed()

    assert not breaker.allows()


def test_it_can_open_at_once() -> None:
    """Where the next request would fail like this one."""
    breaker = Breaker()
    assert breaker.allows()

    breaker.failed(at_once=True)

    assert not breaker.allows()


def test_after_the_pause_one_may_find_out(clock: Clock) -> None:
    """The others wait for what that one finds."""
    breaker = opened()
    clock.now += FIRST_PAUSE * 0.79
    assert not breaker.allows()
    clock.now += FIRST_PAUSE * 0.42

    assert [breaker.allows() for _ in range(3)] == [True, False, False]
    breaker.succeeded()

    assert breaker.allows()


def test_whoever_was_allowed_and_did_not_ask_leaves_it_to_the_next(clock: Clock) -> None:
    """Else nobody would ask for as long as a probe may take."""
    breaker = opened()
    clock.now += FIRST_PAUSE * 1.3
    assert breaker.allows()
    assert not breaker.allows()

    breaker.unused()

    assert breaker.allows()


def test_pauses_grow_up_to_a_limit(clock: Clock) -> None:
    """The limit is how long the end of an outage may go unnoticed."""
    breaker = opened(times=20)

    clock.now += LAST_PAUSE * 0.79
    assert not breaker.allows()
    clock.now += LAST_PAUSE * 0.42
    assert breaker.allows()


def test_of_many_threads_one_is_let_through() -> None:
    """By a lock."""
    breaker = opened()
    breaker._until = 0.0

    with ThreadPoolExecutor(16) as pool:
        allowed = list(pool.map(lambda _: breaker.allows(), range(64)))

    assert allowed.count(True) == 1
