"""``python -m benchmarks``: how fast signing in is. README.md, beside this file, says how to read it."""

import argparse
import sys
import tempfile
import time
from pathlib import Path

from benchmarks import machine, sign_ins
from benchmarks.network import network
from benchmarks.sites.catalogue import SITES

_began = time.monotonic()


def say(what: str) -> None:
    """Tell whoever waits how far it is."""
    print(f"[{time.monotonic() - _began:5.0f} s] {what}", file=sys.stderr, flush=True)


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer rounds of everything")
    parser.add_argument("--sites", help=f"some of {','.join(SITES)}; default: all whose packages are there")
    parser.add_argument("--scheme", choices=("https", "http"), default="https")
    parser.add_argument("--round-trip", type=float, default=20.0, metavar="MS")
    parser.add_argument("--rounds", type=int, metavar="N")
    parser.add_argument("--turn", type=int, metavar="N", help="sign-ins of a site in a round")
    parser.add_argument("--people", type=int, default=10_000, metavar="N")
    parser.add_argument("--output", type=Path, metavar="FILE", help="write the report there, too")
    return parser.parse_args()


def main() -> None:
    """Measure what is asked for, and print it."""
    options = arguments()
    names = options.sites.split(",") if options.sites else list(SITES)
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
    print(report)
    if options.output:
        options.output.write_text(report + "\n")


if __name__ == "__main__":
    main()
