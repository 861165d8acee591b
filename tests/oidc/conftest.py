"""The protocol is tested on values: no settings, no database, and no network but loopback in test_http."""

from collections.abc import Iterator

import pytest

from tests.oidc.support import Signer
from tests.oidc.wire import Wire


@pytest.fixture(autouse=True)
def fresh_process() -> None:
    """Replace the fixture of this name that prepares Django for the other tests."""


@pytest.fixture(scope="session")
def signer() -> Signer:
    """One RSA key for all tests: making them is slow."""
    return Signer(kid="first")


@pytest.fixture(scope="session")
def other_signer() -> Signer:
    """A key that the provider rotates to, or that is not the provider's."""
    return Signer(kid="second")


@pytest.fixture
def wire() -> Iterator[Wire]:
    """A server of bytes on loopback."""
    with Wire() as server:
        yield server
