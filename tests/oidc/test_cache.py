"""spatio_django.oidc.cache: documents kept fresh."""

import json
import multiprocessing
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from spatio_django.exceptions import ProtocolViolation, ProviderUnavailable, SpatioError
from spatio_django.oidc import cache as module
from spatio_django.oidc.cache import FRESH, MAX_AGE, RETRY_EMPTY, RETRY_STALE, SKEW, Copy, Documents
from tests.oidc.support import Clock, MemoryCache, documents, seal, unseal

NAME = "spatio:test:1"


class Source:
    """A provider's document, which changes with every fetch, and can be down."""

    def __init__(self) -> None:
        self.fetches = 0
        self.error: SpatioError | None = None

    def __call__(self) -> dict[str, Any]:
        """Fetch."""
        self.fetches += 1
        if self.error is not None:
            raise self.error
        return {"number": self.fetches}


@pytest.fixture
def clock() -> Clock:
    """Time that stands still."""
    return Clock()


@pytest.fixture
def shared() -> MemoryCache:
    """The cache behind all hosts."""
    return MemoryCache()


@pytest.fixture
def source() -> Source:
    """The provider."""
    return Source()


def unavailable() -> ProviderUnavailable:
    """The provider is down."""
    return ProviderUnavailable("down", code="unreachable", retry_after=7, endpoint="x")


def test_a_fresh_copy_costs_nothing(clock: Clock, shared: MemoryCache, source: Source) -> None:
    """A warm sign-in makes no call for metadata or keys, and does not even ask the shared cache."""
    here = documents(shared, clock)
    first = here.get(NAME, source)
    shared.clear()
    clock.now += FRESH - 1

    assert here.get(NAME, source) is first
    assert first.document == {"number": 1}
    assert "number" not in repr(first)
    assert source.fetches == 1


def test_one_fetch_serves_all_hosts(clock: Clock, shared: MemoryCache, source: Source) -> None:
    """A new process starts with what the others know."""
    documents(shared, clock).get(NAME, source)

    assert documents(shared, clock).get(NAME, source).document == {"number": 1}
    assert source.fetches == 1


def test_an_old_copy_serves_while_it_is_fetched_again(
    clock: Clock, shared: MemoryCache, source: Source
) -> None:
    """Nobody waits for the hourly fetch; the next caller has its result."""
    waiting: list[Callable[[], None]] = []
    here = documents(shared, clock, background=waiting.append)
    here.get(NAME, source)
    clock.now += FRESH

    assert here.get(NAME, source).document == {"number": 1}
    assert here.get(NAME, source).document == {"number": 1}
    assert len(waiting) == 1
    waiting[0]()
    assert here.get(NAME, source).document == {"number": 2}
    assert source.fetches == 2


def test_another_hosts_fetch_is_taken_over(clock: Clock, shared: MemoryCache, source: Source) -> None:
    """An hour later only one host of the fleet asks the provider."""
    here, there = documents(shared, clock), documents(shared, clock)
    here.get(NAME, source)
    there.get(NAME, source)
    clock.now += FRESH
    here.get(NAME, source)

    assert there.get(NAME, source).document == {"number": 2}
    assert source.fetches == 2


def test_an_old_copy_serves_through_an_outage_of_a_day(
    clock: Clock, shared: MemoryCache, source: Source, caplog: pytest.LogCaptureFixture
) -> None:
    """The provider is asked again once a minute, in the background; then the copy is too old."""
    here = documents(shared, clock)
    here.get(NAME, source)
    source.error = unavailable()
    clock.now += FRESH

    for _ in range(3):
        assert here.get(NAME, source).document == {"number": 1}
    assert source.fetches == 2
    assert "Serving an old copy" in caplog.text
    clock.now += RETRY_STALE
    assert here.get(NAME, source).document == {"number": 1}
    assert source.fetches == 3

    clock.now += MAX_AGE - FRESH - RETRY_STALE - 1
    assert here.get(NAME, source).document == {"number": 1}
    clock.now += 1
    with pytest.raises(ProviderUnavailable):
        here.get(NAME, source)


def test_a_copy_that_is_doubted_is_fetched_again_after_a_minute(
    clock: Clock, shared: MemoryCache, source: Source
) -> None:
    """Once per doubt and minute, behind the callers; other hosts go on until they doubt it, too."""
    here, there = documents(shared, clock), documents(shared, clock)
    here.get(NAME, source)
    assert there.get(NAME, source).document == {"number": 1}
    here.doubt(NAME)
    clock.now += RETRY_STALE - 1
    assert here.get(NAME, source).document == {"number": 1}
    assert source.fetches == 1

    clock.now += 1
    assert here.get(NAME, source).document == {"number": 1}  # and fetches behind this caller
    assert here.get(NAME, source).document == {"number": 2}
    clock.now += RETRY_STALE
    assert here.get(NAME, source).document == {"number": 2}
    assert source.fetches == 2

    assert there.get(NAME, source).document == {"number": 1}
    there.doubt(NAME)
    assert there.get(NAME, source).document == {"number": 2}
    assert source.fetches == 2

    here.doubt(NAME)
    source.error = unavailable()
    for _ in range(3):
        assert here.get(NAME, source).document == {"number": 2}
    assert source.fetches == 3


def test_an_outage_without_a_copy_is_not_hammered(clock: Clock, shared: MemoryCache, source: Source) -> None:
    """Callers get the same error for some seconds, each its own instance, without a call."""
    here = documents(shared, clock)
    source.error = unavailable()
    with pytest.raises(ProviderUnavailable) as first:
        here.get(NAME, source)
    clock.now += RETRY_EMPTY - 1

    with pytest.raises(ProviderUnavailable) as second:
        here.get(NAME, source)

    assert source.fetches == 1
    assert second.value is not first.value
    assert (str(second.value), second.value.code, second.value.retry_after, second.value.context) == (
        "down",
        "unreachable",
        7,
        {"endpoint": "x"},
    )
    clock.now += 1
    source.error = None
    assert here.get(NAME, source).document == {"number": 2}


def test_a_violation_is_remembered_as_a_violation(clock: Clock, shared: MemoryCache, source: Source) -> None:
    """A wrong issuer setting does not look like an outage the second time."""
    here = documents(shared, clock)
    source.error = ProtocolViolation("x", code="issuer_mismatch", expected="y")

    for _ in range(2):
        with pytest.raises(ProtocolViolation) as caught:
            here.get(NAME, source)
        assert (caught.value.code, caught.value.context) == ("issuer_mismatch", {"expected": "y"})
    assert source.fetches == 1


def entry(changes: dict[str, Any], clock: Clock) -> str:
    """An entry of the shared cache that this site sealed."""
    members = {"name": NAME, "fetched_at": clock.now, "document": {"number": 99}}
    return seal(json.dumps(members | changes).encode())


def test_a_genuine_entry_is_used(clock: Clock, shared: MemoryCache, source: Source) -> None:
    """The control of the test below."""
    shared[NAME] = entry({}, clock)

    assert documents(shared, clock).get(NAME, source).document == {"number": 99}


@pytest.mark.parametrize(
    "planted",
    [
        pytest.param(lambda clock: "forged:" + entry({}, clock).partition(":")[2], id="not-sealed-here"),
        pytest.param(lambda _: {"document": {"number": 99}}, id="not-a-text"),
        pytest.param(lambda _: b"sealed:{}", id="bytes"),
        pytest.param(lambda _: "sealed:[]", id="sealed-nonsense"),
        pytest.param(lambda clock: entry({"name": "spatio:test:2"}, clock), id="of-another-document"),
        pytest.param(lambda clock: entry({"document": None}, clock), id="without-document"),
        pytest.param(lambda clock: entry({"fetched_at": "today"}, clock), id="without-time"),
        pytest.param(lambda clock: entry({"fetched_at": clock.now - MAX_AGE}, clock), id="a-day-old"),
        pytest.param(lambda clock: entry({"fetched_at": clock.now + SKEW + 1}, clock), id="from-the-future"),
    ],
)
def test_a_planted_entry_counts_as_absent(
    clock: Clock, shared: MemoryCache, source: Source, planted: Callable[[Clock], object]
) -> None:
    """Who can write to the cache can neither forge keys nor put one document in another's place."""
    shared[NAME] = planted(clock)

    assert documents(shared, clock).get(NAME, source).document == {"number": 1}


def test_a_clock_set_back_discards_copies_from_the_future(
    clock: Clock, shared: MemoryCache, source: Source
) -> None:
    """Their age can't be known."""
    here = documents(shared, clock)
    here.get(NAME, source)
    clock.now -= SKEW + 1

    assert here.get(NAME, source).document == {"number": 2}


class BrokenCache(MemoryCache):
    """A backend that is down, and says so in its own way."""

    def get(self, key: str, default: Any = None) -> Any:
        """Fail."""
        raise ConnectionError("redis://:hunter2@cache.example")

    set = add = get  # type: ignore[assignment]


def broken_unseal(text: str) -> bytes:
    """Raise as Django's signing does."""
    raise ValueError(text)


@pytest.mark.parametrize("options", [{"cache": BrokenCache()}, {"unseal": broken_unseal}])
def test_a_cache_that_is_down_does_not_stop_sign_in(
    clock: Clock, source: Source, options: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    """Each process then keeps its own copies; the log names the error's type, which holds no password."""
    settings: dict[str, Any] = {"cache": MemoryCache(), "seal": seal, "unseal": unseal, "clock": clock}
    settings |= options
    settings["cache"][NAME] = entry({}, clock)
    here = Documents(**settings)

    first = here.get(NAME, source)
    assert first.document == {"number": 1}
    newer = here.newer(NAME, source, than=first, interval=60)
    assert newer is not None
    assert newer.document == {"number": 2}
    assert "hunter2" not in caplog.text
    assert "Error" in caplog.text


def test_background_work_runs_in_a_thread_by_default(clock: Clock, shared: MemoryCache) -> None:
    """A daemon: it never keeps a process alive."""
    fetched = threading.Event()
    daemons: list[bool] = []

    def fetch() -> dict[str, Any]:
        daemons.append(threading.current_thread().daemon)
        if threading.current_thread() is not threading.main_thread():
            fetched.set()
        return {}

    here = Documents(cache=shared, seal=seal, unseal=unseal, clock=clock)
    here.get(NAME, fetch)
    clock.now += FRESH
    here.get(NAME, fetch)

    assert fetched.wait(5)
    assert daemons == [False, True]


def test_no_thread_to_be_had_leaves_the_old_copy(clock: Clock, shared: MemoryCache, source: Source) -> None:
    """At the limit of threads, or at the end of the process, sign-in goes on; the next call tries again."""

    def refuse(work: Callable[[], None]) -> None:
        raise RuntimeError("can't start new thread")

    here = documents(shared, clock, background=refuse)
    here.get(NAME, source)
    clock.now += FRESH

    assert here.get(NAME, source).document == {"number": 1}
    assert here.get(NAME, source).document == {"number": 1}


def in_threads(count: int, work: Callable[[], object]) -> list[object]:
    """Run *work* in *count* threads at once."""
    results: list[object] = []
    barrier = threading.Barrier(count)

    def run() -> None:
        barrier.wait()
        results.append(work())

    threads = [threading.Thread(target=run) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    return results


def test_one_flight_serves_all_threads(clock: Clock, shared: MemoryCache, source: Source) -> None:
    """A cold process under load asks the provider once."""
    entered = threading.Event()

    def slow() -> dict[str, Any]:
        entered.wait(0.2)
        return source()

    here = documents(shared, clock)
    results = in_threads(8, lambda: here.get(NAME, slow).document)

    assert results == [{"number": 1}] * 8
    assert source.fetches == 1


# --- newer ------------------------------------------------------------------------------------------------


def test_newer_fetches_once_per_interval(clock: Clock, shared: MemoryCache, source: Source) -> None:
    """Tokens with unknown kids must not become a stream of fetches."""
    here = documents(shared, clock)
    copy = here.get(NAME, source)
    clock.now += 1

    copy = here.newer(NAME, source, than=copy, interval=60) or copy
    assert copy.document == {"number": 2}
    clock.now += 59
    assert here.newer(NAME, source, than=copy, interval=60) is None
    clock.now += 1
    shared.pop(f"{NAME}:claim")
    copy = here.newer(NAME, source, than=copy, interval=60) or copy
    assert copy.document == {"number": 3}


def test_newer_claims_before_it_fetches(clock: Clock, shared: MemoryCache, source: Source) -> None:
    """A provider that is down is not asked once per sign-in either, by any host."""
    here, there = documents(shared, clock), documents(shared, clock)
    copy = here.get(NAME, source)
    there.get(NAME, source)
    source.error = unavailable()
    with pytest.raises(ProviderUnavailable):
        here.newer(NAME, source, than=copy, interval=60)
    clock.now += 30

    assert here.newer(NAME, source, than=copy, interval=60) is None
    assert there.newer(NAME, source, than=copy, interval=60) is None
    assert source.fetches == 2


def test_newer_shares_one_flight_among_threads(clock: Clock, shared: MemoryCache, source: Source) -> None:
    """Ten callbacks right after a rotation all get the new keys, with one call."""
    here = documents(shared, clock)
    copy = here.get(NAME, source)
    clock.now += 1

    results = in_threads(8, lambda: here.newer(NAME, source, than=copy, interval=60))

    assert [result.document for result in results if isinstance(result, Copy)] == [{"number": 2}] * 8
    assert source.fetches == 2


def test_newer_takes_what_another_host_has_fetched(clock: Clock, shared: MemoryCache, source: Source) -> None:
    """Without a call, and without a claim of its own."""
    here, there = documents(shared, clock), documents(shared, clock)
    copy = here.get(NAME, source)
    there.get(NAME, source)
    clock.now += 1
    here.newer(NAME, source, than=copy, interval=60)

    newer = there.newer(NAME, source, than=copy, interval=60)
    assert newer is not None
    assert newer.document == {"number": 2}
    assert source.fetches == 2


def test_newer_waits_for_another_host_that_is_fetching(
    clock: Clock, shared: MemoryCache, source: Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its claim is seen before its result is."""
    here, there = documents(shared, clock), documents(shared, clock)
    copy = here.get(NAME, source)
    there.get(NAME, source)
    clock.now += 1
    shared[f"{NAME}:claim"] = clock.now
    looks: list[float] = []

    def sleep(seconds: float) -> None:
        clock.now += seconds
        looks.append(seconds)
        if len(looks) == 3:
            shared[NAME] = entry({}, clock)

    monkeypatch.setattr(time, "sleep", sleep)

    newer = there.newer(NAME, source, than=copy, interval=60)
    assert newer is not None
    assert newer.document == {"number": 99}
    assert (source.fetches, len(looks)) == (1, 3)


@pytest.mark.parametrize(
    ("ahead", "waited"), [(0, module.AWAIT_OTHER), (-3, module.AWAIT_OTHER - 3), (1e300, module.AWAIT_OTHER)]
)
def test_newer_does_not_wait_for_ever(
    clock: Clock,
    shared: MemoryCache,
    source: Source,
    monkeypatch: pytest.MonkeyPatch,
    ahead: float,
    waited: float,
) -> None:
    """The other host may have died after its claim, or somebody else may have planted it."""
    here = documents(shared, clock)
    copy = here.get(NAME, source)
    shared[f"{NAME}:claim"] = clock.now + ahead
    looks: list[float] = []

    def sleep(seconds: float) -> None:
        clock.now += seconds
        looks.append(seconds)

    monkeypatch.setattr(time, "sleep", sleep)

    assert here.newer(NAME, source, than=copy, interval=60) is None
    assert sum(looks) == pytest.approx(waited, abs=2 * module.AWAIT_STEP)
    shared[f"{NAME}:claim"] = "a claim that says nothing"
    looks.clear()
    assert here.newer(NAME, source, than=copy, interval=60) is None
    assert looks == []


@pytest.mark.parametrize("ahead", [60, 1e300])
def test_a_claim_is_waited_for_once(
    clock: Clock, shared: MemoryCache, source: Source, monkeypatch: pytest.MonkeyPatch, ahead: float
) -> None:
    """A host whose clock is ahead costs the sign-ins of some seconds some seconds, and later ones nothing."""
    here = documents(shared, clock)
    copy = here.get(NAME, source)
    began = clock.now
    looks: list[float] = []

    def sleep(seconds: float) -> None:
        clock.now += seconds
        looks.append(seconds)

    monkeypatch.setattr(time, "sleep", sleep)
    shared[f"{NAME}:claim"] = began + ahead

    assert here.newer(NAME, source, than=copy, interval=60) is None
    assert sum(looks) == pytest.approx(module.AWAIT_OTHER, abs=2 * module.AWAIT_STEP)
    looks.clear()
    clock.now += 3
    assert here.newer(NAME, source, than=copy, interval=60) is None
    assert looks == []
    shared[f"{NAME}:claim"] = clock.now  # another one, by a host that may well succeed
    assert here.newer(NAME, source, than=copy, interval=60) is None
    assert sum(looks) == pytest.approx(module.AWAIT_OTHER, abs=2 * module.AWAIT_STEP)
    looks.clear()
    clock.now = began - 3600  # set back: what was seen then lies in the future
    assert here.newer(NAME, source, than=copy, interval=60) is None
    assert sum(looks) == pytest.approx(module.AWAIT_OTHER, abs=2 * module.AWAIT_STEP)
    looks.clear()
    assert here.newer(NAME, source, than=copy, interval=60) is None
    assert looks == []


@pytest.mark.parametrize("ahead", [0, 60, 1e300])
def test_threads_wait_for_a_claim_together(
    shared: MemoryCache, source: Source, monkeypatch: pytest.MonkeyPatch, ahead: float
) -> None:
    """Not one after the other, or somebody else's claim would hold all sign-ins up for minutes."""
    monkeypatch.setattr(module, "AWAIT_OTHER", 0.6)
    here = Documents(cache=shared, seal=seal, unseal=unseal)
    copy = here.get(NAME, source)
    shared[f"{NAME}:claim"] = time.time() + ahead
    began = time.monotonic()

    results = in_threads(4, lambda: here.newer(NAME, source, than=copy, interval=60))

    assert results == [None] * 4
    assert 0.5 < time.monotonic() - began < 1.5
    assert source.fetches == 1


def test_a_wait_for_a_claim_does_not_hold_up_a_fetch(
    clock: Clock, shared: MemoryCache, source: Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While one thread waits, another may find the claim expired, and fetch for both."""
    here = documents(shared, clock)
    copy = here.get(NAME, source)
    clock.now += 1
    shared[f"{NAME}:claim"] = clock.now
    fetched: list[Copy | None] = []

    def sleep(seconds: float) -> None:
        clock.now += seconds
        del shared[f"{NAME}:claim"]
        thread = threading.Thread(
            target=lambda: fetched.append(here.newer(NAME, source, than=copy, interval=60)), daemon=True
        )
        thread.start()
        thread.join(5)

    monkeypatch.setattr(time, "sleep", sleep)

    newer = here.newer(NAME, source, than=copy, interval=60)
    assert newer is not None
    assert newer.document == {"number": 2}
    assert fetched == [newer]


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_a_fork_during_a_fetch_does_not_lock_the_child(clock: Clock) -> None:
    """A preloading server may fork while a thread of the parent holds the lock."""
    here = documents(MemoryCache(), clock)
    entered, leave = threading.Event(), threading.Event()

    def fetch() -> dict[str, Any]:
        entered.set()
        leave.wait(10)
        return {}

    thread = threading.Thread(target=here.get, args=(NAME, fetch))
    thread.start()
    assert entered.wait(5)
    context = multiprocessing.get_context("fork")
    results = context.SimpleQueue()
    child = context.Process(target=lambda: results.put(here.get(NAME, lambda: {"from": "child"}).document))
    child.start()
    child.join(5)
    leave.set()
    thread.join(5)

    assert child.exitcode == 0
    assert results.get() == {"from": "child"}
    results.close()
    child.close()
