"""What the middleware adds to a request: each handler against the same one without it, inside a round."""

import random
import statistics
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks import machine
from benchmarks.visits import present
from benchmarks.workers import Worker
from tests.refresh.strict import Strict

CONTROL, AGAIN, OURS = "control", "control again", "spatio"


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """
    A kind of visit.

    Attributes:
        page: Of :data:`benchmarks.visits.PAGES`.
        due: ``nothing``, a ``look`` at the row, or a new ``token``: the last two are for the package alone.
        rarely: A visit takes so long that there are fewer of them.
    """

    name: str
    page: str
    signed_in: bool
    due: str = "nothing"
    rarely: bool = False

    @property
    def handlers(self) -> list[str]:
        """The handlers that it is about."""
        return present() if self.due == "nothing" else [CONTROL, AGAIN, OURS]


CASES = (
    Case(name="anonymous", page="plain", signed_in=False),
    Case(name="anonymous, and the page looks who it is", page="who", signed_in=False),
    Case(name="signed in, nothing due", page="plain", signed_in=True),
    Case(name="signed in, nothing due, and the page looks who it is", page="who", signed_in=True),
    Case(name="signed in, a look at the row due", page="plain", signed_in=True, due="look"),
    Case(name="signed in, a new token due", page="plain", signed_in=True, due="token", rarely=True),
)


@dataclass(slots=True)
class Taken:
    """
    What the visits of one case to one handler took.

    Attributes:
        medians: Of each round, in microseconds of the processor.
        visits: Each of them.
    """

    medians: list[float] = field(default_factory=list)
    visits: list[float] = field(default_factory=list)

    def add(self, turn: list[float]) -> None:
        """Add those of one more round."""
        self.medians.append(statistics.median(turn))
        self.visits += turn

    @property
    def p99(self) -> float:
        """Microseconds in which 99 of 100 visits were done."""
        return statistics.quantiles(self.visits, n=100)[98]


Results = dict[tuple[str, Case, str], Taken]


def measure(
    folder: Path, *, rounds: int, turn: int, say: Callable[[str], None]
) -> tuple[Results, dict[tuple[Case, str], int]]:
    """
    Visit in rounds.

    Args:
        turn: Visits of one case to one handler in a round.

    Returns:
        By WSGI or ASGI, case and handler what it took; and by case and handler the statements of a visit.
    """
    order = random.Random(1)  # noqa: S311 - who goes first
    with Strict(life=3600) as strict:
        config = {"database": str(folder / "visits.sqlite3"), "issuer": strict.issuer}
        with Worker("benchmarks.visits", config, name="visits") as worker:
            say("Preparing visits")
            worker.ask("prepare", family=strict.control("sign_in", count=1)[0])
            queries = {
                (case, name): len(
                    worker.ask("queries", name=name, page=case.page, signed_in=case.signed_in, due=case.due)
                )
                for case in CASES
                for name in case.handlers
            }
            found: Results = {}
            for number in range(rounds):
                say(f"Visits: round {number + 1} of {rounds}")
                for case in CASES:
                    for name in order.sample(case.handlers, len(case.handlers)):
                        told = {"name": name, "page": case.page, "signed_in": case.signed_in}
                        count = max(2, turn // 50) if case.rarely else turn
                        for interface in ("WSGI", "ASGI") if case.due == "nothing" else ("WSGI",):
                            command = "turn" if interface == "WSGI" else "async_turn"
                            taken = worker.ask(command, **told, due=case.due, count=count)
                            found.setdefault((interface, case, name), Taken()).add(taken)
    return found, queries


def report(found: Results, queries: dict[tuple[Case, str], int]) -> str:
    """Write it down: medians, and what is above the control inside a round."""
    rows = []
    keys = [
        (interface, case, name)
        for interface in ("WSGI", "ASGI")
        for case in CASES
        for name in case.handlers
        if (interface, case, name) in found
    ]
    for interface, case, name in keys:
        taken = found[interface, case, name]
        control = found[interface, case, CONTROL]
        above = [one - base for one, base in zip(taken.medians, control.medians, strict=True)]
        low, high = machine.middle_half(above)
        added = queries[case, name] - queries[case, CONTROL]
        rows.append(
            [
                f"{interface}: {case.name}",
                f"`{name}`" if name not in {CONTROL, AGAIN} else name,
                f"{statistics.median(taken.medians):.1f}",
                f"{taken.p99:.0f}",
                "" if name == CONTROL else f"{statistics.median(above):+.1f} ({low:+.1f} to {high:+.1f})",
                "" if name == CONTROL else f"{taken.p99 - control.p99:+.0f}",
                f"{queries[case, CONTROL]}" if name == CONTROL else f"{added:+}",
            ]
        )
    head = ["visit", "with", "p50, µs", "p99, µs", "p50 above control", "p99 above control", "queries"]
    return machine.table(head, rows)
