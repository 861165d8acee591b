"""``python -m benchmarks``: how fast signing in is. README.md, beside this file, says how to read it."""

import argparse
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks import machine, middleware, profiling, sign_ins, startup, storm
from benchmarks.network import network
from benchmarks.sites.catalogue import SITES, installed, is_there
from tests.refresh.databases import KINDS

#: Visits in a round, of one kind to one handler.
VISITS = 200

_began = time.monotonic()


def say(what: str) -> None:
    """Tell whoever waits how far it is."""
    print(f"[{time.monotonic() - _began:4.0f} s] {what}", file=sys.stderr, flush=True)


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description="How fast signing in is, and what goes with it: this package, its peers, and a minimum.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument(
        "what",
        nargs="?",
        choices=("all", *PARTS, *BY_NAME),
        default="all",
        help="all parts but those that take long; or one of them, or a profile of where the time goes",
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
    storm = parser.add_argument_group("storm")
    storm.add_argument("--seconds", type=float, metavar="S", help="without it 60, or 10 if quick")
    storm.add_argument("--processes", type=int, default=8, metavar="N")
    storm.add_argument("--threads", type=int, default=16, metavar="N", help="of each process, if they fit")
    storm.add_argument("--users", type=int, default=50, metavar="N", help="whose tokens all threads want")
    storm.add_argument(
        "--databases", metavar="A,B", default=",".join(KINDS), help="kinds; what is not there is left out"
    )
    parser.add_argument("--top", type=int, default=40, metavar="N", help="functions that a profile lists")
    parser.add_argument("--output", type=Path, metavar="FILE", help="write the report there, too")
    options = parser.parse_args()
    options.sites = options.sites.split(",") if options.sites else None
    unknown = set(options.sites or ()) - set(SITES)
    if unknown:
        parser.error(f"There is no site {', '.join(sorted(unknown))}.")
    options.databases = options.databases.split(",")
    if not set(options.databases) <= set(KINDS):
        parser.error(f"Databases are {', '.join(KINDS)}.")
    options.seconds = options.seconds or (10 if options.quick else 60)
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


def measured_middleware(options: argparse.Namespace, folder: Path) -> list[str]:
    """Measure what the middleware adds to each request."""
    found, queries = middleware.measure(folder, rounds=options.rounds, turn=VISITS, say=say)
    how = (
        f"{options.rounds} rounds with a turn of {VISITS} visits each, in one process, sessions in the "
        "database (SQLite); microseconds of the processor. *control* is the same handler without it, "
        "*control again* one more of those: what they differ by is chance."
    )
    return ["## What the middleware adds to a request", how, middleware.report(found, queries)]


def stormed(options: argparse.Namespace, folder: Path) -> list[str]:
    """Let many threads want the tokens of a few people."""
    found, left_out = storm.measure(
        folder,
        kinds=options.databases,
        processes=options.processes,
        threads=options.threads,
        users=options.users,
        seconds=options.seconds,
        delay=options.round_trip / 1000,
        say=say,
    )
    how = (
        f"{options.users} people, tokens that live 2 s, a provider that ends the grant whose refresh token "
        f"comes twice and takes {options.round_trip:g} ms for a refresh. All tokens are due at the beginning."
    )
    head = "## Refreshing in many processes at once"
    return [head, how, *left_out, *([storm.report(found, processes=options.processes)] if found else [])]


PARTS: dict[str, Callable[[argparse.Namespace, Path], list[str]]] = {
    "sign-ins": measured_sign_ins,
    "startup": measured_startup,
    "accounts": measured_accounts,
    "middleware": measured_middleware,
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


#: What takes long, or answers another question: only when named.
BY_NAME = {"storm": stormed, "profile": profiled}


def main() -> None:
    """Measure what is asked for, and print it."""
    options = arguments()
    parts = PARTS | BY_NAME
    wanted = list(PARTS.values()) if options.what == "all" else [parts[options.what]]
    blocks = ["# What was measured", f"{machine.machine()}.", f"{machine.versions()}.", machine.caveat()]
    for part in wanted:
        with tempfile.TemporaryDirectory() as name:
            blocks += part(options, Path(name))
    report = "\n\n".join(blocks)
    print(report)
    if options.output:
        options.output.write_text(report + "\n")


if __name__ == "__main__":
    main()
