"""Processes and threads that all want the tokens of a few people at once, and what came of it."""

import math
import random
import statistics
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from benchmarks.workers import Worker
from tests.refresh.databases import Settings
from tests.refresh.strict import Strict

#: How much a refresh's window may differ from a quarter of the life: 20 per cent either way.
JITTER = 0.2


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """
    What a storm did.

    Attributes:
        seconds: How long it lasted.
        life: Of an access token, in seconds.
        calls: Access tokens that were had.
        refreshes: By user. A user is a family, too.
        reuses: Refresh tokens that came twice; as many families are revoked.
        lost: Users whose grant is over, as site or provider see it, or whose refresh token is not the newest.
        errors: What was raised instead of a token, and tokens that were no good.
        logged: What the package logged as an error.
        most_in_flight: Refreshes of one grant at once.
        shortest: Seconds between two refreshes of one grant, at least.
        micros: How long each call took, sorted.
        unasked: Seconds for which nobody asked for some user's token, at most.
    """

    seconds: float
    life: float
    calls: int
    refreshes: list[int]
    reuses: int
    lost: int
    errors: dict[str, int]
    logged: dict[str, int]
    most_in_flight: int
    shortest: float
    micros: list[int]
    unasked: float

    @property
    def least(self) -> int:
        """Refreshes that a user has at least, if a due token is asked for, and had, as late as any was."""
        return math.floor(self.seconds / (self.life + self.longest + self.unasked))

    @property
    def most(self) -> int:
        """Refreshes that a user has at most."""
        return math.ceil(self.seconds / (self.life - self.widest))

    @property
    def widest(self) -> float:
        """Seconds before the end of a token in which it may be refreshed."""
        return self.life / 4 * (1 + JITTER)

    @property
    def longest(self) -> float:
        """Seconds that the slowest call took."""
        return self.micros[-1] / 1e6 if self.micros else 0.0

    def percentile(self, hundredths: int) -> float:
        """Give the milliseconds in which so many of a hundred calls were done."""
        return statistics.quantiles(self.micros, n=100)[hundredths - 1] / 1000 if self.micros else math.nan


@contextmanager
def site(database: Settings, strict: Strict, *, how: str = "package", name: str = "site") -> Iterator[Worker]:
    """Start a process of a site, against *strict*."""
    endpoint = strict.control("metadata")["token_endpoint"]
    config = {
        "database": database,
        "issuer": strict.issuer,
        "token_endpoint": endpoint,
        "life": strict.life,
        "how": how,
    }
    with Worker("tests.refresh.site", config, name=name) as worker:
        yield worker


def storm(
    database: Settings,
    strict: Strict,
    *,
    processes: int,
    threads: int,
    users: int,
    seconds: float,
    how: str = "package",
) -> Report:
    """
    Have so many *threads* in so many *processes* get the tokens of *users* people for some *seconds*.

    The tables are there. All tokens are due when it begins, which is the worst moment.

    Args:
        how: By the ``package``, or the ``naive`` way.
    """
    with ExitStack() as stack:
        sites = [
            stack.enter_context(site(database, strict, how=how, name=f"process {number}"))
            for number in range(processes)
        ]
        families = strict.control("sign_in", count=users)
        keys: dict[str, int] = sites[0].ask("seed", families=families)
        sites[0].ask("expire", users=list(keys.values()))
        begin = time.time() + 0.5 + 0.02 * processes * threads
        for worker in sites:
            worker.tell(
                "storm",
                users=list(keys.values()),
                threads=threads,
                begin=begin,
                seconds=seconds,
                seed=random.randrange(2**31),  # noqa: S311 - whose token is next
            )
        found = [worker.answer() for worker in sites]
        counters = strict.control("counters", names=list(keys))
        strict.control("change", delay=0)
        after = afterwards(sites[0], list(keys.values()))
        newest = strict.control("counters", names=list(keys))["families"]
    families_after = counters["families"].values()
    errors: Counter[str] = Counter()
    logged: Counter[str] = Counter()
    lost: set[int] = set()
    for each in found:
        errors.update(each["errors"])
        logged.update(each["logged"])
        lost.update(each["lost"])
    for (sub, user), row in zip(keys.items(), after, strict=True):
        if newest[sub]["revoked"] or row["lost"] or row["refresh_token"] != newest[sub]["current"]:
            lost.add(user)
    moments = [family["rotated"] for family in families_after]
    gaps = [late - early for each in moments for early, late in pairwise(each)]
    return Report(
        seconds=max(each["ended"] for each in found) - begin,
        life=strict.life,
        calls=sum(len(each["micros"]) for each in found),
        refreshes=[family["refreshes"] for family in families_after],
        reuses=sum(family["reuses"] for family in families_after),
        lost=len(lost),
        errors=dict(errors),
        logged=dict(logged),
        most_in_flight=max(family["most_in_flight"] for family in families_after),
        shortest=min(gaps, default=math.inf),
        micros=sorted(micros for each in found for micros in each["micros"]),
        # Among all processes, nobody was forgotten for longer than by the one that thought of them most.
        unasked=max(map(min, zip(*(each["unasked"] for each in found), strict=True))),
    )


def afterwards(worker: Worker, users: list[int]) -> list[dict[str, Any]]:
    """Get every user's token once more, and see what is stored."""
    outcomes = worker.ask("calls", users=users)
    rows = worker.ask("rows", users=users)
    return [
        {"lost": "token" not in outcome or row["state"] != "active"}
        | {"outcome": outcome.get("error", "token")}
        | row
        for outcome, row in zip(outcomes, rows, strict=True)
    ]
