"""Fixtures: a relying party, and a clock that can be put forward."""

import time
from collections.abc import Callable

import pytest

from spatio_django.testing import FakeSpatio
from spatio_django.testing.fixtures import spatio
from tests.testing.relying_party import RelyingParty

__all__ = ["spatio"]  # for a checkout that is not installed, and so has no plugin


@pytest.fixture
def rp(spatio: FakeSpatio) -> RelyingParty:
    """A confidential client that uses HTTP Basic."""
    return RelyingParty(spatio)


class Clock:
    """Stands in for the ``time`` module in the provider's own modules, and runs ahead of it."""

    ahead = 0.0

    def time(self) -> float:
        """Seconds since the epoch, and then some."""
        return time.time() + self.ahead

    def monotonic(self) -> float:
        """Seconds since whenever, and then some."""
        return time.monotonic() + self.ahead


@pytest.fixture
def later(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Let the provider's clocks run ahead by some seconds."""
    clock = Clock()

    def advance(seconds: float) -> None:
        clock.ahead += seconds

    for module in ("store", "keys", "provider", "grants", "consent", "app", "fake"):
        monkeypatch.setattr(f"spatio_django.testing.{module}.time", clock)
    return advance
