"""``python -m benchmarks``: how fast signing in is. README.md, beside this file, says how to read it."""

import argparse
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks import machine, profiling, sign_ins, startup
from benchmarks.network import network
from benchmarks.sites.catalogue import SITES, installed, is_there

_began = time.monotonic()


def say(what: str) -> None:
    """Tell whoever waits how far it is."""
    print(f"[{time.monotonic() - _began:4.0f} s] {what}", file=sys.stderr, flush=True)


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description="How fast signing in is: this package, its peers, and a hand-written minimum.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument(
        "what",
        nargs="?",
        choices=("all", *PARTS, "profile"),
        default="all",
        help="all parts, one of them, or a profile of where the time goes",
    )
    parser.add_argument("--quick", action="store_true", help="in two minutes, and rougher")
    parser.add_argument("--sites", metavar="A,B", help=f"some of {', '.join(SITES)}; without it, all")
    parser.add_argument("--scheme", choices=("https", "http"), default="https", help="of the provider")
    parser.add_argument(
        "--round-trip", type=float, default=20.0, metavar="MS", help="to the provider and back"
    )
    parser.add_argument("--rounds", type=int, metavar="N", help="without it 24, or 6 if quick")
    parser.add_argument(
        "--turn", type=int, metavar="N", help="sign-ins in a round; without it 4, or 2 if quick"
    )
    parser.add_argument("--people", type=int, default=10_000, metavar="N", help="who have an account")
    parser.add_argument("--sign-ins", type=int, default=200, metavar="N", help="that are profiled")
    parser.add_argument("--top", type=int, default=40, metavar="N", help="functions that a profile lists")
    parser.add_argument("--output", type=Path, metavar="FILE", help="write the report there, too")
    options = parser.parse_args()
    options.sites = options.sites.split(",") if options.sites else None
    unknown = set(options.sites or ()) - set(SITES)
    if unknown:
        parser.error(f"There is no site {', '.join(sorted(unknown))}.")
    options.rounds = options.rounds or (6 if options.quick else 24)
    options.turn = options.turn or (2 if options.quick else 4)
    return options


def measured_sign_ins(options: argparse.Namespace, folder: Path) -> list[str]:
    """Measure sign-ins, and count what they need."""
    with network(folder, scheme=options.scheme, round_trip=options.round_trip / 1000) as net:
        results = sign_ins.measure(
            options.sites or installed(),
            net,
            folder,
            people=options.people,
            rounds=options.rounds,
            turn=options.turn,
            say=say,
        )
    how = (
        f"{options.rounds} rounds with a turn of {options.turn} sign-ins each; {options.people:,} people; "
        "SQLite."
    )
    return [
        f"## Sign-ins over {options.scheme}, {options.round_trip:g} ms per round trip",
        how,
        sign_ins.times_table(results),
        "## Calls, connections and statements per sign-in",
        sign_ins.counts_table(results),
    ]


def measured_startup(options: argparse.Namespace, folder: Path) -> list[str]:
    """Measure what the packages add to a start."""
    samples = startup.measure(options.sites or installed(), rounds=options.rounds, say=say)
    how = (
        f"{options.rounds} fresh interpreters. *setup* is `django.setup()`; *ready* is that and what the "
        "first request waits for: middleware, URLconf and views."
    )
    return ["## Starting a site", how, startup.report(samples)]


def measured_accounts(options: argparse.Namespace, folder: Path) -> list[str]:
    """Measure sign-ins by the number of accounts."""
    head = "## Sign-ins by the number of accounts, on PostgreSQL"
    if not is_there("psycopg"):
        return [head, "Not measured: psycopg is not installed."]
    from benchmarks import accounts

    reason = accounts.missing()
    if reason:
        return [head, f"Not measured: {reason}"]
    sizes = accounts.SIZES[:2] if options.quick else accounts.SIZES
    times = accounts.measure(folder, sizes=sizes, rounds=options.rounds, turn=options.turn, say=say)
    how = (
        f"{options.rounds} rounds with a turn of {options.turn} sign-ins each, over http, 0 ms away. "
        f"Beside those accounts there are {accounts.FEW} more; whoever signs in is any of them all."
    )
    return [head, how, accounts.report(times)]


PARTS: dict[str, Callable[[argparse.Namespace, Path], list[str]]] = {
    "sign-ins": measured_sign_ins,
    "startup": measured_startup,
    "accounts": measured_accounts,
}


def profiled(options: argparse.Namespace, folder: Path) -> list[str]:
    """Profile warm sign-ins of the sites that are asked for; of this package, unless others are."""
    parts = []
    with (
        network(folder, scheme=options.scheme, round_trip=options.round_trip / 1000) as net,
        sign_ins.started(options.sites or ["spatio"], net, folder, count=options.people, say=say) as sites,
    ):
        for site, worker in sites.items():
            say(f"Profiling {site}")
            worker.ask("first")
            found = worker.ask("profile", count=options.sign_ins, top=options.top)
            parts += [f"## {site}: {options.sign_ins} sign-ins", profiling.report(found)]
    return parts


def main() -> None:
    """Measure what is asked for, and print it."""
    options = arguments()
    parts = PARTS | {"profile": profiled}
    wanted = list(PARTS.values()) if options.what == "all" else [parts[options.what]]
    blocks = ["# Signing in, measured", f"{machine.machine()}.", f"{machine.versions()}.", machine.caveat()]
    for part in wanted:
        with tempfile.TemporaryDirectory() as name:
            blocks += part(options, Path(name))
    report = "\n\n".join(blocks)
    print(report)
    if options.output:
        options.output.write_text(report + "\n")


if __name__ == "__main__":
    main()
