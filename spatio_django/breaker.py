"""Breaker: stop asking a provider that does not answer, and find out when it does again."""

import random
import threading
import time

#: Failures in a row that open it.
THRESHOLD = 5
#: Seconds that it stays open, at first and at most. The last one bounds how long an outage is felt after its
#: end.
FIRST_PAUSE, LAST_PAUSE = 5.0, 24.0
#: Seconds in which one caller may find out, while the others go on waiting.
PROBE = 10.0


class Breaker:
    """One per process and provider. Threads share it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._failures = 0
        self._pause = 0.0
        self._until = 0.0
        self._probing = False

    def allows(self) -> bool:
        """Tell whether to ask. While it is open, one caller at a time is let through after each pause."""
        with self._lock:
            now = time.monotonic()
            if self._failures < THRESHOLD:
                return True
            if now < self._until:
                return False
            self._until, self._probing = now + PROBE, True
            return True

    def unused(self) -> None:
        """Note that the caller who was allowed did not ask after all."""
        with self._lock:
            if self._probing:  # else there is nothing to leave to the next
                self._until, self._probing = 0.0, False

    def succeeded(self) -> None:
        """Note that the provider answered, whatever it said."""
        with self._lock:
            self._failures, self._pause, self._until, self._probing = 0, 0.0, 0.0, False

    def failed(self, *, at_once: bool = False) -> None:
        """
        Note that the provider did not answer.

        Args:
            at_once: Do not wait for more failures: the next request would fail like this one.
        """
        with self._lock:
            self._probing = False
            self._failures = THRESHOLD if at_once else self._failures + 1
            if self._failures >= THRESHOLD:
                self._pause = min(max(2 * self._pause, FIRST_PAUSE), LAST_PAUSE)
                # Not all processes at the same moment.
                self._until = time.monotonic() + self._pause * random.uniform(0.8, 1.2)  # noqa: S311
