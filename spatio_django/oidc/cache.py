"""Documents: a provider's JSON documents, fetched seldom and kept fresh."""

import copy as copying  # a traceback holds frames alive, and belongs to one thread: a copy has none
import json
import logging
import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

from spatio_django.exceptions import SpatioError
from spatio_django.oidc.strict_json import parse_object

logger = logging.getLogger("spatio_django")

#: Seconds after which a copy is fetched again, in the background.
FRESH = 3600.0
#: Seconds after which a copy is not used any more, whatever happens: a planted key set must not live on.
MAX_AGE = 86_400.0
#: Seconds that a failure stands when there is no copy, so that an outage is not hammered.
RETRY_EMPTY = 5.0
#: Seconds between attempts while an old copy serves.
RETRY_STALE = 60.0
#: Seconds by which another host's clock may be ahead.
SKEW = 60.0
#: Seconds to wait for a document that another host is fetching; about one call's deadline.
AWAIT_OTHER = 5.0
#: Seconds between looks while waiting.
AWAIT_STEP = 0.1

Fetch = Callable[[], dict[str, Any]]
Reading = TypeVar("Reading")


class Cache(Protocol):
    """What is asked of the shared cache. Django's caches satisfy it."""

    def get(self, key: str, default: Any = None) -> Any:
        """Return the value, or *default* if there is none."""

    def set(self, key: str, value: Any, timeout: float | None = None) -> Any:
        """Keep *value* for *timeout* seconds."""

    def add(self, key: str, value: Any, timeout: float | None = None) -> bool:
        """Keep *value* unless there is one already; whether it was kept, atomically."""


def in_thread(work: Callable[[], None]) -> None:
    """Run *work* beside the caller, in a daemon thread."""
    threading.Thread(target=work, name="spatio-documents", daemon=True).start()


@dataclass(frozen=True, slots=True, kw_only=True)
class Copy:
    """
    A document and its age. Read-only, because threads share it.

    Attributes:
        fetched_at: Seconds since the epoch, when the fetch began.
    """

    document: dict[str, Any] = field(repr=False)
    fetched_at: float
    _readings: dict[Any, Any] = field(default_factory=dict, repr=False, compare=False)

    def read(self, parse: Callable[[dict[str, Any]], Reading]) -> Reading:
        """Give what *parse* makes of the document; made once."""
        if parse not in self._readings:
            self._readings[parse] = parse(self.document)
        reading: Reading = self._readings[parse]
        return reading


@dataclass(slots=True)
class _Slot:
    """What one process knows of one document."""

    flight: threading.Lock = field(default_factory=threading.Lock)
    copy: Copy | None = None
    #: The copy that something did not work with.
    doubted: Copy | None = None
    failure: SpatioError | None = None
    failed_at: float = float("-inf")
    claimed_at: float = float("-inf")
    #: Another host's claim, and when this process saw it first.
    seen: tuple[float, float] | None = None

    @property
    def fresh_for(self) -> float:
        """Seconds of age up to which the copy is not fetched again."""
        return FRESH if self.doubted is None or self.doubted is not self.copy else RETRY_STALE


class Documents:
    """
    A copy per process, in front of a cache that all processes share.

    A fresh copy costs nothing. An old one is served while it is fetched again behind the caller, and goes on
    being served while that fails, up to a day. One fetch at a time per process: others use the old copy, or
    wait. What comes out of the shared cache is authenticated, since whoever can write there could otherwise
    plant the keys that sign-ins are verified with.

    Args:
        cache: Shared; when it fails, processes do without.
        seal: Turns bytes into text that only :attr:`unseal` of the same site accepts.
        unseal: The inverse: ``None``, or any exception, for a text that was not sealed here.
        clock: Seconds since the epoch.
        background: Runs a function beside the caller.
    """

    def __init__(
        self,
        *,
        cache: Cache,
        seal: Callable[[bytes], str],
        unseal: Callable[[str], bytes | None],
        clock: Callable[[], float] = time.time,
        background: Callable[[Callable[[], None]], None] = in_thread,
    ) -> None:
        self._cache = cache
        self._seal = seal
        self._unseal = unseal
        self._clock = clock
        self._background = background
        self._slots: dict[tuple[int, str], _Slot] = {}

    def get(self, name: str, fetch: Fetch) -> Copy:
        """
        Return a copy that is at most a day old, and normally at most an hour.

        Args:
            name: Of the document, unique in the shared cache. Not secret.
            fetch: Fetches and validates the document; raises :class:`SpatioError` if it can't.

        Raises:
            SpatioError: What *fetch* raised, now or a moment ago, and there is no copy to use instead.
        """
        slot = self._slot(name)
        now = self._clock()
        if slot.copy is not None and 0 <= now - slot.copy.fetched_at < slot.fresh_for:
            return slot.copy
        copy = self._latest(slot, name)
        if copy is None:
            with slot.flight:
                return self._latest(slot, name) or self._first(slot, name, fetch)
        if now - copy.fetched_at >= slot.fresh_for and not 0 <= now - slot.failed_at < RETRY_STALE:
            self._refresh(slot, name, fetch)
        return copy

    def doubt(self, name: str) -> None:
        """
        Let this process's copy count as old after a minute: something that it says did not work.

        It goes on serving while it is fetched again, like any old copy. So a provider that moved, or told
        something wrong for a moment, is not taken at that word for an hour.
        """
        slot = self._slot(name)
        slot.doubted = slot.copy

    def newer(self, name: str, fetch: Fetch, *, than: Copy, interval: float) -> Copy | None:
        """
        Return a newer copy than one that turned out to be too old, or ``None`` if there is none to be had.

        Args:
            name: As in :meth:`get`.
            fetch: As in :meth:`get`.
            than: The copy that did not suffice.
            interval: Seconds in which the whole fleet fetches at most once for this reason. Claimed before
                the fetch, so that a provider that is down is not asked again and again either. Another
                host's claim is waited for, by all threads together and not one after the other.

        Raises:
            SpatioError: What *fetch* raised.
        """
        slot = self._slot(name)
        with slot.flight:
            copy = self._latest(slot, name)
            if copy is not None and copy.fetched_at > than.fetched_at:
                return copy
            now = self._clock()
            if 0 <= now - slot.claimed_at < interval:
                return None
            claim = f"{name}:claim"
            if not self._shared(lambda: self._cache.add(claim, now, interval), default=True):
                claimed_at = self._shared(lambda: float(self._cache.get(claim)), default=0.0)
                # Not sealed, so not trusted: it can make us wait, but no longer than a claim made when we
                # saw it first, however far its clock is ahead of ours.
                if slot.seen is None or slot.seen[0] != claimed_at or slot.seen[1] > now:
                    slot.seen = (claimed_at, now)
                until = min(claimed_at, slot.seen[1]) + AWAIT_OTHER
            else:
                slot.claimed_at = now
                return self._fetch(slot, name, fetch)
        return self._await_other(slot, name, than=than, until=until)  # the lock is free: others wait beside

    def _first(self, slot: _Slot, name: str, fetch: Fetch) -> Copy:
        if slot.failure is not None and 0 <= self._clock() - slot.failed_at < RETRY_EMPTY:
            raise copying.copy(slot.failure)
        return self._fetch(slot, name, fetch)

    def _refresh(self, slot: _Slot, name: str, fetch: Fetch) -> None:
        if not slot.flight.acquire(blocking=False):
            return

        def work() -> None:
            try:
                self._fetch(slot, name, fetch)
            except SpatioError as error:
                logger.warning("Serving an old copy of %s: %s", name, error, extra={"spatio": error.context})
            finally:
                slot.flight.release()

        try:
            self._background(work)
        except RuntimeError:  # no thread to be had: the process is ending, or at its limit
            slot.flight.release()

    def _fetch(self, slot: _Slot, name: str, fetch: Fetch) -> Copy:
        began_at = self._clock()
        try:
            document = fetch()
        except SpatioError as error:
            slot.failure, slot.failed_at = copying.copy(error), self._clock()
            raise
        slot.copy = copy = Copy(document=document, fetched_at=began_at)
        slot.failure = None
        entry = {"name": name, "fetched_at": began_at, "document": document}
        self._shared(
            lambda: self._cache.set(name, self._seal(json.dumps(entry).encode()), MAX_AGE), default=None
        )
        return copy

    def _latest(self, slot: _Slot, name: str) -> Copy | None:
        """Return the newer of this process's copy and the shared one, unless both are too old."""
        shared = self._read_shared(name)
        own, now = slot.copy, self._clock()
        usable = [copy for copy in (own, shared) if copy and -SKEW <= now - copy.fetched_at < MAX_AGE]
        latest = max(usable, key=lambda copy: copy.fetched_at, default=None)
        if latest is not None and latest is not own:
            slot.copy = latest
        return latest

    def _read_shared(self, name: str) -> Copy | None:
        sealed = self._shared(lambda: self._cache.get(name), default=None)
        if not isinstance(sealed, str):
            return None
        data = self._shared(lambda: self._unseal(sealed), default=None)
        entry = None if data is None else parse_object(data)
        # The name is inside the seal, so that one document can't be put in another's place.
        if entry is None or entry.get("name") != name:
            return None
        document, fetched_at = entry.get("document"), entry.get("fetched_at")
        if not isinstance(document, dict) or not isinstance(fetched_at, int | float):
            return None  # sealed here, but by another version
        return Copy(document=document, fetched_at=fetched_at)

    def _await_other(self, slot: _Slot, name: str, *, than: Copy, until: float) -> Copy | None:
        while self._clock() < until:
            time.sleep(AWAIT_STEP)
            copy = self._latest(slot, name)
            if copy is not None and copy.fetched_at > than.fetched_at:
                return copy
        return None

    def _shared(self, use: Callable[[], Any], *, default: Any) -> Any:
        """Call *use*; a cache that is down, or holds what was not sealed here, is as good as empty."""
        try:
            return use()
        except Exception as error:  # noqa: BLE001 - any backend, any of its errors: sign-in goes on without
            logger.warning("The shared cache can't be used: %s", type(error).__name__)
            return default

    def _slot(self, name: str) -> _Slot:
        # Keyed by process: after a fork, a lock of the parent may be locked for ever.
        key = (os.getpid(), name)
        return self._slots.get(key) or self._slots.setdefault(key, _Slot())
