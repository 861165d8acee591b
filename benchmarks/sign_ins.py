"""Sign-ins against the clock, and what each of them asks of the provider and of the database."""

import random
import re
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.machine import middle_half, table
from benchmarks.network import Network
from benchmarks.sites.catalogue import SITES, Site, sqlite
from benchmarks.workers import Worker

#: Warm sign-ins that calls, connections and statements are counted over: as many as fit into some seconds.
LEAST, MOST, SECONDS = 4, 64, 2.0
#: Seconds that one visitor stays at the provider while everybody else is fast: what a site remembers for a
#: few seconds is forgotten when they are back.
PAUSE = 11.0

_WRITES = re.compile(r"\s*(INSERT|UPDATE|DELETE|REPLACE)\b")
_BRACKETS = re.compile(r"\s*(BEGIN|COMMIT|ROLLBACK|SAVEPOINT|RELEASE|START)\b")


@dataclass(frozen=True, slots=True, order=True)
class Statements:
    """
    What one view asked of the database.

    Attributes:
        asked: Statements, without those that begin and end transactions.
        writes: Those of them that write.
        sent: All, with BEGIN, COMMIT and savepoints.
    """

    asked: int
    writes: int
    sent: int

    @classmethod
    def of(cls, statements: Sequence[str]) -> "Statements":
        """Count them."""
        brackets = sum(1 for sql in statements if _BRACKETS.match(sql))
        writes = sum(1 for sql in statements if _WRITES.match(sql))
        return cls(asked=len(statements) - brackets, writes=writes, sent=len(statements))


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """
    What sign-ins need that is not time.

    Attributes:
        first_calls: Calls to the provider by kind, of the first sign-in in a process.
        first_connections: Connections that it opened.
        first_seconds: How long it took, with everything that is imported for it.
        calls: Calls of a later one, on average.
        connections: Connections that it opened.
        login: Statements at the login view, of each sign-in that was counted; likewise ``callback``.
    """

    first_calls: Mapping[str, int]
    first_connections: int
    first_seconds: float
    calls: Mapping[str, float]
    connections: float
    login: list[Statements]
    callback: list[Statements]

    def add(self, statements: Mapping[str, Sequence[str]]) -> None:
        """Count those of one more sign-in."""
        self.login.append(Statements.of(statements["login"]))
        self.callback.append(Statements.of(statements["callback"]))


@dataclass(slots=True)
class Result:
    """One site's."""

    site: Site
    counts: Counts
    wall: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)


@contextmanager
def started(
    names: Sequence[str], net: Network, folder: Path, *, count: int, say: Callable[[str], None]
) -> Iterator[dict[str, Worker]]:
    """Start sites, each with *count* people who have signed in before, in an SQLite database of its own."""
    with ExitStack() as stack:
        workers = {}
        for name in names:
            config = {
                "site": name,
                "issuer": net.issuer,
                "bundle": str(net.bundle),
                "database": sqlite(str(folder / f"{name}.sqlite3")),
            }
            workers[name] = stack.enter_context(Worker("benchmarks.site", config, name=name))
        say(f"Preparing {', '.join(names)}")
        for worker in workers.values():  # all at once: nothing is timed
            worker.tell("prepare", count=count)
        for worker in workers.values():
            worker.answer()
            worker.ask("begin", count=count)
        yield workers


def counted(worker: Worker, net: Network, *, seconds: float) -> Counts:
    """Count what sign-ins at a site need, for so many seconds. It has served nobody yet."""
    before = net.counts()
    first = worker.ask("first")
    after = net.counts()
    statements: list[Mapping[str, Sequence[str]]] = []
    until = time.monotonic() + seconds
    while len(statements) < LEAST or (len(statements) < MOST and time.monotonic() < until):
        statements.append(worker.ask("statements"))
    warm = net.counts()
    counts = Counts(
        first_calls=difference(before, after),
        first_connections=after["connections"] - before["connections"],
        first_seconds=first["wall"],
        calls={kind: calls / len(statements) for kind, calls in difference(after, warm).items()},
        connections=(warm["connections"] - after["connections"]) / len(statements),
        login=[],
        callback=[],
    )
    for one in statements:
        counts.add(one)
    return counts


def difference(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, int]:
    """Give the calls between two counts, by kind."""
    found = {kind: calls - before["calls"].get(kind, 0) for kind, calls in after["calls"].items()}
    return {kind: calls for kind, calls in found.items() if calls}


def measure(
    names: Sequence[str],
    net: Network,
    folder: Path,
    *,
    people: int,
    rounds: int,
    turn: int,
    seconds: float = SECONDS,
    pause: float = PAUSE,
    say: Callable[[str], None],
) -> list[Result]:
    """
    Count once, and measure in rounds.

    Inside a round each site has a turn of some sign-ins, in random order, so that whatever else the machine
    does meets them all alike; and ratios are taken inside a round.

    Args:
        people: Who have signed in before, at each site.
        turn: Sign-ins.
        seconds: For counting, per site.
        pause: Seconds at the provider of the one visitor per site who takes their time.
    """
    order = random.Random(1)  # noqa: S311 - who goes first
    with started(names, net, folder, count=people, say=say) as workers:
        say("Counting")
        results = {name: Result(SITES[name], counted(workers[name], net, seconds=seconds)) for name in names}
        for worker in workers.values():  # all at once: nothing is timed
            worker.tell("statements", pause=pause)
        for name, worker in workers.items():
            results[name].counts.add(worker.answer())
        for number in range(rounds):
            say(f"Round {number + 1} of {rounds}")
            for name in order.sample(names, len(names)):
                took = workers[name].ask("turn", count=turn)
                results[name].wall.append(took["wall"])
                results[name].cpu.append(took["cpu"])
    return list(results.values())


def ratios(values: Sequence[float], bases: Sequence[float]) -> str:
    """Give the median of the ratios, and the middle half of them."""
    found = [value / base for value, base in zip(values, bases, strict=True)]
    low, high = middle_half(found)
    return f"{statistics.median(found):.2f} ({low:.2f} to {high:.2f})"


def times_table(results: Sequence[Result]) -> str:
    """Give the times, and their ratios to the minimum that makes the same calls, and to the other."""
    by_name = {result.site.name: result for result in results}
    rows = []
    for result in results:
        same = by_name.get("minimum_userinfo" if result.site.asks_userinfo else "minimum")
        least = by_name.get("minimum")
        low, high = middle_half(result.wall)
        rows.append(
            [
                f"`{result.site.name}`",
                f"{1 / statistics.median(result.wall):.1f}",
                f"{statistics.median(result.wall) * 1000:.1f} ({low * 1000:.1f} to {high * 1000:.1f})",
                f"{min(result.wall) * 1000:.1f}",
                f"{statistics.median(result.cpu) * 1000:.1f}",
                ratios(result.wall, least.wall) if least else "",
                ratios(result.wall, same.wall) if same else "",
                ratios(result.cpu, least.cpu) if least else "",
                ratios(result.cpu, same.cpu) if same else "",
            ]
        )
    head = [
        "site",
        "sign-ins/s",
        "ms",
        "fastest round",
        "CPU ms",
        "time ÷ minimum",
        "÷ same calls",
        "CPU ÷ minimum",
        "÷ same calls",
    ]
    return table(head, rows)


def counts_table(results: Sequence[Result]) -> str:
    """Give what is not time. Usual is what the median sign-in needs, and most the one that needs most."""
    rows = []
    for result in results:
        counts = result.counts
        usual = [statistics.median_low(found) for found in (counts.login, counts.callback)]
        most = [max(found) for found in (counts.login, counts.callback)]
        rows.append(
            [
                f"`{result.site.name}`",
                calls(counts.calls),
                f"{counts.connections:g}",
                f"{calls(counts.first_calls)} over {counts.first_connections}",
                f"{counts.first_seconds * 1000:.0f}",
                " + ".join(str(each.asked) for each in usual),
                " + ".join(str(each.asked) for each in most),
                " + ".join(str(each.writes) for each in most),
                " + ".join(str(each.sent) for each in usual),
            ]
        )
    head = [
        "site",
        "calls, warm",
        "new connections",
        "calls of the first sign-in, over connections",
        "its ms",
        "statements: login + callback",
        "at most",
        "of these writes",
        "usually, with BEGIN and COMMIT",
    ]
    return table(head, rows)


def calls(counts: Mapping[str, float]) -> str:
    """Give calls by kind, in the order in which they are made."""
    order = ("discovery", "jwks", "token", "userinfo", "other")
    return ", ".join(f"{kind} {counts[kind]:g}" for kind in order if kind in counts) or "none"
