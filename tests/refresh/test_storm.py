"""
Many processes and threads want the tokens of the same people, who have a strict provider.

A longer one than continuous integration has time for: ``SPATIO_TESTS_STORM_SECONDS=60``. How long a caller
waits is no part of it; ``python -m benchmarks storm`` tells.
"""

import os

import pytest

from tests.refresh.databases import Settings
from tests.refresh.storm import storm
from tests.refresh.strict import Strict

SECONDS = float(os.environ.get("SPATIO_TESTS_STORM_SECONDS", "10"))
PROCESSES, THREADS, USERS = 4, 8, 20


def test_the_storm_is_strong_enough(many: Settings) -> None:
    """A refresh that takes no heed of others loses most people's grants; it ends when all are lost."""
    with Strict() as strict:
        report = storm(
            many, strict, processes=PROCESSES, threads=THREADS, users=USERS, seconds=30, how="naive"
        )

    assert report.most_in_flight > 1
    assert report.reuses > USERS / 2
    assert report.lost > USERS / 2


@pytest.mark.parametrize("delay", [0.0, 0.5], ids=["a near provider", "a slow provider"])
def test_nobody_is_lost_and_nothing_is_sent_twice(many: Settings, delay: float) -> None:
    """One refresh of a grant at a time, as often as its life demands, and a good token for every caller."""
    with Strict(delay=delay) as strict:
        report = storm(
            many,
            strict,
            processes=PROCESSES,
            threads=THREADS,
            users=USERS,
            seconds=SECONDS if delay == 0 else min(SECONDS, 5),
        )

    assert report.calls > USERS
    assert (report.reuses, report.lost, report.errors, report.logged) == (0, 0, {}, {})
    assert report.most_in_flight == 1
    # The design's bound; the provider sees a refresh at some moment of the call that makes it.
    assert report.least <= min(report.refreshes)
    assert max(report.refreshes) <= report.most
    assert report.shortest >= report.life - report.widest - report.longest
