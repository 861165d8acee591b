"""
Processes that are killed, or stand still, around the call: what they leave is found, and nobody is lost.

More of them than continuous integration has time for: ``SPATIO_TESTS_KILLS=200``, of each kind.
"""

import os
from collections.abc import Iterator

import pytest

from tests.refresh.databases import Settings
from tests.refresh.kills import Traps, kill, traps
from tests.refresh.strict import Strict

KILLS = int(os.environ.get("SPATIO_TESTS_KILLS", "10"))


@pytest.fixture(scope="module")
def set_up(many: Settings) -> Iterator[Traps]:
    """Start a site whose processes are killed, and a strict provider."""
    with Strict(life=60) as strict, traps(many, strict) as found:
        yield found


@pytest.fixture
def strict_traps(set_up: Traps) -> Traps:
    """Let the provider forgive nothing."""
    set_up.strict.control("change", leeway=0)
    return set_up


def test_nobody_is_lost_whose_refresh_was_claimed_and_not_sent(strict_traps: Traps) -> None:
    """When the lease is over, the next process claims the same generation, and the provider sees one call."""
    found = kill(strict_traps.kill_after_claim, KILLS)

    assert (found.killed, found.lost, found.reuses) == (KILLS, 0, 0), found.outcomes


def test_nobody_is_lost_whose_refresh_was_stored(strict_traps: Traps) -> None:
    """The next process finds the successor, and asks for nothing."""
    found = kill(strict_traps.kill_after_store, KILLS)

    assert (found.killed, found.lost, found.reuses) == (KILLS, 0, 0), found.outcomes


def test_at_most_one_grant_is_lost_with_each_answer_that_nobody_received(strict_traps: Traps) -> None:
    """A strict provider revokes it: no client can know the successor. Everybody else keeps theirs."""
    found = kill(strict_traps.kill_in_the_gap, KILLS)

    assert found.killed == KILLS
    assert found.lost <= KILLS
    assert found.reuses <= KILLS
    # Told as what it is: only a new sign-in helps.
    assert {outcome for outcome in found.outcomes if outcome != "token"} <= {"SessionEnded: invalid_grant"}


def test_a_provider_with_a_leeway_loses_nobody(strict_traps: Traps) -> None:
    """It takes the used token again for a while, and the next process gets the successor's successor."""
    strict_traps.strict.control("change", leeway=30)

    found = kill(strict_traps.kill_in_the_gap, KILLS)

    assert (found.killed, found.lost, found.reuses) == (KILLS, 0, 0), found.outcomes


def test_it_does_not_matter_where_a_process_is_killed(strict_traps: Traps) -> None:
    """At moments that nobody chose, and with a provider that forgives an answer that nobody received."""
    strict_traps.strict.control("change", leeway=30)

    found = kill(strict_traps.kill_anywhere, KILLS)

    assert (found.killed, found.lost, found.reuses) == (KILLS, 0, 0), found.outcomes


def test_nothing_is_sent_on_a_claim_that_has_grown_old(strict_traps: Traps) -> None:
    """A process that stood still since its claim looks at the clock again, and finds what another stored."""
    outcome, family = strict_traps.stop_before_send(stop=False)
    assert "token" in outcome
    assert (family["refreshes"], family["reuses"]) == (1, 0)

    outcome, family = strict_traps.stop_before_send()

    assert (family["refreshes"], family["reuses"], family["revoked"]) == (1, 0, False)
    assert "token" in outcome


def test_the_trap_catches_who_does_not_look_again(many: Settings) -> None:
    """The same stop, and a client that goes on where it stood: a token comes twice, and ends its family."""
    with Strict(life=60) as strict, traps(many, strict, how="naive") as naive:
        outcome, family = naive.stop_before_send(stop=False)
        assert "token" in outcome

        outcome, family = naive.stop_before_send()

    assert outcome["error"] == "Lost: invalid_grant"
    assert (family["reuses"], family["revoked"]) == (1, True)
