"""
Many processes, one provider that forgives nothing, and a database of their own.

The database is the kind that ``SPATIO_TESTS_DATABASE`` names, made and dropped here: what several processes
do at once can't be in the transaction of a test.
"""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.refresh.databases import Settings, database
from tests.refresh.storm import site
from tests.refresh.strict import Strict


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    """Give a database with the tables, for many processes."""
    folder: Path = tmp_path_factory.mktemp("refresh")
    with database(os.environ.get("SPATIO_TESTS_DATABASE", "sqlite"), folder) as settings:
        with Strict() as strict, site(settings, strict) as worker:
            worker.ask("migrate")
        yield settings
