"""When to look at which session again, so that most requests look at nothing."""

import hashlib
import secrets
import time


class Memo:
    """
    When to look at which session again: a bounded note per process, so that most requests look at nothing.

    A session is known by a keyed digest of its cookie; the cookie itself stays out of memory dumps.

    Args:
        seconds: How long a look stays good, and so how long a sign-out made on another host may take.
        most: Sessions remembered; when full it starts afresh.
    """

    def __init__(self, *, seconds: float, most: int) -> None:
        self._seconds, self._most = seconds, most
        self._salt = secrets.token_bytes(16)
        self._until: dict[bytes, float] = {}
        #: By handle. Where the cookie is the session, one session has one cookie after the other.
        self._cookies: dict[str, set[bytes]] = {}

    def _digest(self, cookie: str) -> bytes:
        return hashlib.blake2b(
            cookie.encode("utf-8", "surrogatepass"), key=self._salt, digest_size=16
        ).digest()

    def due(self, cookie: str) -> bool:
        """Tell whether the session behind *cookie* is to be looked at."""
        return self._until.get(self._digest(cookie), 0.0) <= time.monotonic()

    def looked(self, cookie: str, handle: str | None, *, again_in: float = float("inf")) -> None:
        """
        Note that the session behind *cookie*, which holds *handle*, was found in order.

        Args:
            again_in: Seconds after which to look again, if that is before all the others.
        """
        if len(self._until) >= self._most:
            self.clear()
        digest = self._digest(cookie)
        self._until[digest] = time.monotonic() + min(self._seconds, again_in)
        if handle:
            self._cookies.setdefault(handle, set()).add(digest)

    def forget(self, handle: str) -> None:
        """Look at the session that holds *handle* with its next request."""
        for digest in tuple(self._cookies.pop(handle, ())):  # another thread may be adding one
            self._until.pop(digest, None)

    def clear(self) -> None:
        """Look at every session with its next request."""
        self._until.clear()
        self._cookies.clear()


memo = Memo(seconds=60, most=20_000)
