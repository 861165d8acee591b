"""
The pytest plugin: one fixture, ``spatio``.

Every pytest run on a machine that has this package imports this module, so it imports pytest and nothing
else at the top.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from spatio_django.testing import FakeSpatio


@pytest.fixture
def spatio() -> Iterator[FakeSpatio]:
    """Serve a fresh development provider on a free port of 127.0.0.1, for one test."""
    from spatio_django.testing import FakeSpatio

    with FakeSpatio() as provider:
        yield provider
