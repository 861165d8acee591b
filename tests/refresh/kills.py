"""
Processes that end, or stand still, at the worst moments of a refresh; and who finds what they left.

Nothing inside the package is hooked. Where a process is, is seen from outside: its claim and what it stored
in the row, its request at the provider. The one thing done by hand is what time does otherwise: a lease lasts
25 seconds, and a test ends it by moving ``lease_until_ms`` back.
"""

import random
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

from benchmarks.workers import Worker
from tests.refresh.databases import Settings
from tests.refresh.storm import afterwards, site
from tests.refresh.strict import Strict

#: Seconds for whatever is waited for; a busy machine needs some of them.
PATIENCE = 30.0
#: Processes that are killed in one go.
BATCH = 10
#: Seconds after which a claim is too old to send anything on.
GUARD = 3.0


@dataclass(slots=True, kw_only=True)
class Losses:
    """
    What became of grants whose refresh was cut short.

    Attributes:
        killed: Processes.
        lost: Grants that are over, or whose stored refresh token is not the newest.
        reuses: Refresh tokens that came twice.
        outcomes: What came after, by the next process that wanted a token: ``token``, or an error.
    """

    killed: int = 0
    lost: int = 0
    reuses: int = 0
    outcomes: list[str]


class Traps:
    """
    A site of three kinds of processes: the nursery, whose children die; and the one that survives.

    Args:
        nursery: It makes no connection and no thread of its own, so its children start clean.
        survivor: It looks after what they left.
    """

    def __init__(self, strict: Strict, nursery: Worker, survivor: Worker) -> None:
        self.strict, self.nursery, self.survivor = strict, nursery, survivor
        self._subs: dict[int, str] = {}

    def people(self, count: int) -> list[int]:
        """Have *count* people sign in, and their access tokens expire."""
        families = self.strict.control("sign_in", count=count)
        keys = self.survivor.ask("seed", families=families)
        users = list(keys.values())
        self.survivor.ask("expire", users=users)
        self._subs.update({user: sub for sub, user in keys.items()})
        return users

    def families(self, users: list[int]) -> list[dict[str, Any]]:
        """Tell what the provider has counted for them."""
        found = self.strict.control("counters", names=[self._subs[user] for user in users])["families"]
        return [found[self._subs[user]] for user in users]

    def start(self, users: list[int]) -> list[int]:
        """Start a process for each, that wants the access token. Gives their ids."""
        return [self.nursery.ask("fork", user=user) for user in users]

    def await_claims(self, users: list[int]) -> None:
        """Wait until each of their grants is claimed."""
        waiting = users
        while waiting:
            was = [""] * len(waiting)
            claimed = self.survivor.ask(
                "await_change", users=waiting, name="lease_id", was=was, seconds=PATIENCE
            )
            waiting = [user for user in waiting if user not in claimed]

    def await_held(self, count: int) -> None:
        """Wait until the provider holds *count* requests."""
        until = time.monotonic() + PATIENCE
        while self.strict.control("holding") < count:
            assert time.monotonic() < until, "The requests never came."
            time.sleep(0.005)

    def afterwards(self, users: list[int]) -> Losses:
        """Let the leases run out, have the survivor get each token, and see what is lost."""
        self.survivor.ask("age", users=users)
        rows = afterwards(self.survivor, users)
        families = self.families(users)
        lost = [
            row["lost"] or family["revoked"] or row["refresh_token"] != family["current"]
            for row, family in zip(rows, families, strict=True)
        ]
        return Losses(
            killed=len(users),
            lost=sum(lost),
            reuses=sum(family["reuses"] for family in families),
            outcomes=[row["outcome"] for row in rows],
        )

    def finish(self, pid: int) -> dict[str, Any]:
        """Wait for what a process gives, and end it."""
        outcome: dict[str, Any] = self.nursery.ask("outcome", pid=pid)
        self.nursery.ask("kill", pids=[pid])
        return outcome

    # The moments

    def kill_after_claim(self, count: int) -> Losses:
        """Kill when the refresh is claimed, and nothing of it sent: no connection comes about."""
        users = self.people(count)
        self.strict.control("close")
        try:
            pids = self.start(users)
            self.await_claims(users)
            self.nursery.ask("kill", pids=pids)
        finally:
            self.strict.control("open")
        assert [family["refreshes"] for family in self.families(users)] == [0] * count
        return self.afterwards(users)

    def kill_in_the_gap(self, count: int) -> Losses:
        """Kill when the provider has rotated, and its answer is on the way."""
        users = self.people(count)
        self.strict.control("plan", count=count, when="after", do="hold")
        pids = self.start(users)
        self.await_held(count)
        self.nursery.ask("kill", pids=pids)
        self.strict.control("release")
        assert [family["refreshes"] for family in self.families(users)] == [1] * count
        return self.afterwards(users)

    def kill_after_store(self, count: int) -> Losses:
        """Kill as soon as the row shows that the successor is stored."""
        users = self.people(count)
        before = [row["generation"] for row in self.survivor.ask("rows", users=users)]
        for user, generation in zip(users, before, strict=True):
            pids = self.start([user])
            self.survivor.ask(
                "await_change", users=[user], name="generation", was=[generation], seconds=PATIENCE
            )
            self.nursery.ask("kill", pids=pids)
        assert [family["refreshes"] for family in self.families(users)] == [1] * count
        return self.afterwards(users)

    def kill_anywhere(self, count: int) -> Losses:
        """Kill at moments that nobody chose, from the first statement to some time after the store."""
        users = self.people(count)
        pids = self.start(users)
        for pid in pids:
            time.sleep(random.uniform(0, 0.03))  # noqa: S311 - how long each one has
            self.nursery.ask("kill", pids=[pid])
        return self.afterwards(users)

    def stop_before_send(self, *, stop: bool = True) -> tuple[dict[str, Any], dict[str, Any]]:
        """
        Stop a process that has claimed and not sent; let another refresh meanwhile; and let it go on.

        Args:
            stop: If not, it is let in at once, and nobody else is about.

        Returns:
            What the process gave in the end, and what the provider counted.
        """
        (user,) = self.people(1)
        self.strict.control("close")
        try:
            (pid,) = self.start([user])
            self.await_claims([user])
            claimed = time.monotonic()
            if stop:
                self.nursery.ask("signal", pid=pid, name="SIGSTOP")
                self.survivor.ask("age", users=[user])
        finally:
            self.strict.control("open")
        if stop:
            # Its kernel goes on, and connects meanwhile.
            time.sleep(GUARD + 1)
            assert "token" in self.survivor.ask("call", user=user)
            assert time.monotonic() - claimed > GUARD
            self.nursery.ask("signal", pid=pid, name="SIGCONT")
        outcome = self.finish(pid)
        (family,) = self.families([user])
        return outcome, family


@contextmanager
def traps(database: Settings, strict: Strict, *, how: str = "package") -> Iterator[Traps]:
    """Start the processes of a site whose tables are there."""
    with ExitStack() as stack:
        nursery = stack.enter_context(site(database, strict, how=how, name="the nursery"))
        survivor = stack.enter_context(site(database, strict, how=how, name="the survivor"))
        yield Traps(strict, nursery, survivor)


def kill(moment: Any, count: int) -> Losses:
    """
    Kill *count* processes at a *moment*, some at a time.

    Args:
        moment: A ``kill_…`` method of :class:`Traps`.
    """
    found = Losses(outcomes=[])
    while found.killed < count:
        batch: Losses = moment(min(BATCH, count - found.killed))
        found.killed += batch.killed
        found.lost += batch.lost
        found.reuses += batch.reuses
        found.outcomes += batch.outcomes
    return found
