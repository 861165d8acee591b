"""``python -m benchmarks``: how fast signing in is. README.md, beside this file, says how to read it."""

import argparse
import sys
import tempfile
import time
from pathlib import Path

from benchmarks import machine, profiling, sign_ins
from benchmarks.network import network
from benchmarks.sites.catalogue import SITES, installed

_began = time.monotonic()


def say(what: str) -> None:
    """Tell whoever waits how far it is."""
    print(f"[{time.monotonic() - _began:5.0f} s] {what}", file=sys.stderr, flush=True)


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("what", nargs="?", choices=("all", "profile"), default="all")
    parser.add_argument("--quick", action="store_true", help="fewer rounds of everything")
    parser.add_argument("--sites", help=f"some of {','.join(SITES)}; default: all whose packages are there")
    parser.add_argument("--scheme", choices=("https", "http"), default="https")
    parser.add_argument("--round-trip", type=float, default=20.0, metavar="MS")
    parser.add_argument("--rounds", type=int, metavar="N")
    parser.add_argument("--turn", type=int, metavar="N", help="sign-ins of a site in a round")
    parser.add_argument("--people", type=int, default=10_000, metavar="N")
    parser.add_argument("--sign-ins", type=int, default=200, metavar="N", help="that are profiled")
    parser.add_argument("--top", type=int, default=40, metavar="N", help="functions that the profile lists")
    parser.add_argument("--output", type=Path, metavar="FILE", help="write the report there, too")
    return parser.parse_args()


def main() -> None:
    """Measure what is asked for, and print it."""
    options = arguments()
    if options.what == "profile":
        finish(options, profile(options))
        return
    names = options.sites.split(",") if options.sites else installed()
    rounds = options.rounds or (5 if options.quick else 15)
    turn = options.turn or (3 if options.quick else 8)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with network(folder, scheme=options.scheme, round_trip=options.round_trip / 1000) as net:
            results = sign_ins.measure(
                names, net, folder, people=options.people, rounds=rounds, turn=turn, say=say
            )
    report = "\n\n".join(
        [
            f"{machine.machine()}; {machine.versions()}.",
            f"## Sign-ins over {options.scheme}, {options.round_trip:g} ms per round trip",
            f"{rounds} rounds with a turn of {turn} sign-ins each; medians, with the middle half.",
            sign_ins.times_table(results),
            "## Calls, connections and statements per sign-in",
            sign_ins.counts_table(results),
        ]
    )
    finish(options, report)


def profile(options: argparse.Namespace) -> str:
    """Profile warm sign-ins of the sites that are asked for; of this package, unless others are."""
    names = options.sites.split(",") if options.sites else ["spatio"]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with (
            network(folder, scheme=options.scheme, round_trip=options.round_trip / 1000) as net,
            sign_ins.started(names, net, folder, count=options.people, say=say) as sites,
        ):
            parts = [f"{machine.machine()}; {machine.versions()}."]
            for site, worker in sites.items():
                say(f"Profiling {site}")
                worker.ask("first")
                found = worker.ask("profile", count=options.sign_ins, top=options.top)
                parts += [f"## {site}: {options.sign_ins} sign-ins", profiling.report(found)]
    return "\n\n".join(parts)


def finish(options: argparse.Namespace, report: str) -> None:
    """Print the report, and keep it if asked to."""
    print(report)
    if options.output:
        options.output.write_text(report + "\n")


if __name__ == "__main__":
    main()
