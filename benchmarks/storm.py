"""
Many processes and threads that want the tokens of a few people, from a provider that forgives nothing.

The storm itself is in ``tests/refresh/``, where shorter ones are run with each change. Beside the package
there is a control: a refresh without a lock, which has to lose grants, or the storm would prove nothing.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks import machine
from tests.refresh.databases import KINDS, database, missing, room
from tests.refresh.storm import Report, site, storm
from tests.refresh.strict import Strict

#: Seconds that the control has: by then all is lost.
CONTROL = 6.0
#: Connections of each process beside those of its threads.
BESIDE = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """
    One storm.

    Attributes:
        where: The kind of database.
        how: By the ``package``, or the ``naive`` way.
        threads: Of each process.
        delay: Seconds that the provider takes for a refresh.
    """

    where: str
    how: str
    threads: int
    delay: float
    report: Report


def measure(
    folder: Path,
    *,
    kinds: Sequence[str] = KINDS,
    processes: int,
    threads: int,
    users: int,
    seconds: float,
    delay: float,
    say: Callable[[str], None],
) -> tuple[list[Measured], list[str]]:
    """
    Storm each kind of database that is there, with the control before.

    Where a server takes fewer connections than there are threads, there are fewer threads.

    Returns:
        What was measured, and why something was not.
    """
    found, left_out = [], []
    for kind in kinds:
        reason = missing(kind)
        if reason:
            left_out.append(f"Not measured on {kind}: {reason}")
            continue
        most = room(kind)
        fit = threads if most is None else min(threads, most // processes - BESIDE)
        place = folder / kind
        place.mkdir()
        with database(kind, place) as settings, Strict(delay=delay) as strict:
            with site(settings, strict) as worker:
                worker.ask("migrate")
            for how, lasts in (("naive", min(CONTROL, seconds)), ("package", seconds)):
                say(f"Storm on {kind}, {how}: {processes} x {fit} threads, {lasts:g} s")
                report = storm(
                    settings, strict, processes=processes, threads=fit, users=users, seconds=lasts, how=how
                )
                found.append(Measured(where=kind, how=how, threads=fit, delay=delay, report=report))
    return found, left_out


def report(measured: Sequence[Measured], *, processes: int) -> str:
    """Write it down."""
    rows = [
        [
            f"{each.where}, {'without a lock' if each.how == 'naive' else '`spatio`'}",
            f"{processes} x {each.threads}",
            f"{each.report.seconds:.0f}",
            f"{each.report.calls:,}",
            f"{sum(each.report.refreshes):,}",
            f"{min(each.report.refreshes)} to {max(each.report.refreshes)}",
            f"{each.report.least} to {each.report.most}" if each.how == "package" else "",
            f"{each.report.reuses}",
            f"{each.report.lost}",
            f"{sum(each.report.errors.values()):,}",
            f"{each.report.most_in_flight}",
            f"{each.report.percentile(50):.1f}",
            f"{each.report.percentile(99):.0f}",
            f"{each.report.longest * 1000:.0f}",
        ]
        for each in measured
    ]
    head = [
        "",
        "threads",
        "s",
        "tokens had",
        "refreshes",
        "per user",
        "bound",
        "reuses",
        "lost",
        "errors",
        "in flight, at most",
        "p50, ms",
        "p99, ms",
        "longest, ms",
    ]
    errors = [
        f"Errors on {each.where}: {each.report.errors | each.report.logged}"
        for each in measured
        if each.how == "package" and (each.report.errors or each.report.logged)
    ]
    return "\n\n".join([machine.table(head, rows), *errors])
