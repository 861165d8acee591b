"""A session engine whose store goes away in the middle of a sign-in."""

from django.contrib.sessions.backends.db import SessionStore as DatabaseStore


class SessionStore(DatabaseStore):
    """Reads, and fails at what a sign-in does."""

    def flush(self) -> None:
        """Fail."""
        raise RuntimeError("the session store is down")

    def cycle_key(self) -> None:
        """Fail."""
        raise RuntimeError("the session store is down")

    def save(self, must_create: bool = False) -> None:
        """Fail."""
        raise RuntimeError("the session store is down")
