"""What waits, for another process or for the database, neither gives up too early nor believes too long."""

import time
from collections.abc import Iterator

import pytest

from tests.refresh.databases import Settings
from tests.refresh.kills import PATIENCE, Traps, traps
from tests.refresh.site import expires
from tests.refresh.storm import site
from tests.refresh.strict import Strict


@pytest.fixture(scope="module")
def set_up(many: Settings) -> Iterator[Traps]:
    """Start a site of several processes, and a strict provider."""
    with Strict(life=60) as strict, traps(many, strict) as found:
        yield found


def test_who_waits_takes_a_token_that_became_usable_meanwhile(set_up: Traps) -> None:
    """Also one that is near its end, and that another process refreshes already: it beats no token."""
    (user,) = set_up.people(1)
    set_up.strict.control("plan", count=1, when="before", do="hold")
    (refreshing,) = set_up.start([user])
    set_up.await_held(1)
    (waiting,) = set_up.start([user])
    try:
        time.sleep(0.5)  # it has read that there is none by then, or the case is a weaker one
        set_up.survivor.ask("lend", user=user, seconds=5)

        assert "token" in set_up.finish(waiting)
        assert [family["refreshes"] for family in set_up.families([user])] == [0]
    finally:
        set_up.strict.control("release")
    assert "token" in set_up.finish(refreshing)


def test_a_token_does_not_live_longer_because_the_database_was_busy(set_up: Traps, many: Settings) -> None:
    """However long the store waits for a lock, the row never says a later end than the provider does."""
    (user,) = set_up.people(1)
    with site(many, set_up.strict, name="who locks") as locking:
        locking.ask("call", user=user)  # it is connected, and the first token came without anybody in the way
        (free,) = set_up.survivor.ask("rows", users=[user])
        set_up.survivor.ask("expire", users=[user])
        set_up.strict.control("plan", count=1, when="after", do="hold")
        (pid,) = set_up.start([user])
        set_up.await_held(1)
        locking.tell("lock", user=user, seconds=2)
        time.sleep(0.5)  # it has begun by then, or the case is a weaker one
        set_up.strict.control("release")
        set_up.survivor.ask(
            "await_change", users=[user], name="generation", was=[free["generation"]], seconds=PATIENCE
        )
        locking.answer()
    token = set_up.finish(pid)["token"]
    (row,) = set_up.survivor.ask("rows", users=[user])

    assert row["expires_ms"] / 1000 <= expires(token)
