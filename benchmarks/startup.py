"""What a package adds to the start of a site: a fresh interpreter per sample, the sites in turn."""

import json
import random
import statistics
import subprocess
import sys
from collections.abc import Callable, Sequence

from benchmarks import machine
from benchmarks.workers import ROOT, environment

#: The site that the others are compared with: a new project.
DJANGO = "django"
#: The same package again, or nothing to import.
_LEFT_OUT = {"minimum_userinfo", "spatio_userinfo"}


def sample(name: str) -> dict[str, float]:
    """Start a site once."""
    result = subprocess.run(  # noqa: S603 - this interpreter, and a module of ours
        [sys.executable, "-m", "benchmarks.starting", name],
        cwd=ROOT,
        env=environment(),
        capture_output=True,
        text=True,
        check=True,
    )
    found: dict[str, float] = json.loads(result.stdout)
    return found


def measure(
    names: Sequence[str], *, rounds: int, say: Callable[[str], None]
) -> dict[str, list[dict[str, float]]]:
    """
    Start each site once per round, in random order, and a new project with them.

    Returns:
        By site, one sample per round.
    """
    order = random.Random(1)  # noqa: S311 - who goes first
    names = [DJANGO, *(name for name in names if name not in _LEFT_OUT)]
    say("Starting each site once, for its bytecode")
    for name in names:
        sample(name)
    samples: dict[str, list[dict[str, float]]] = {name: [] for name in names}
    for number in range(rounds):
        say(f"Starting: round {number + 1} of {rounds}")
        for name in order.sample(names, len(names)):
            samples[name].append(sample(name))
    return samples


def report(samples: dict[str, list[dict[str, float]]]) -> str:
    """Write it down: a new project's figures, and what the others add to them inside a round."""
    plain = samples[DJANGO]

    def added(name: str, key: str, form: str) -> str:
        found = [one[key] - base[key] for one, base in zip(samples[name], plain, strict=True)]
        low, high = machine.middle_half(found)
        return f"{statistics.median(found):{form}} ({low:{form}} to {high:{form}})"

    def alone(key: str, form: str) -> str:
        return f"{statistics.median(one[key] for one in plain):{form}}"

    rows = [
        [
            "a new project, in all",
            *(alone(key, ".0f") for key in ("setup_ms", "setup_cpu_ms", "ready_ms", "ready_cpu_ms")),
            *(alone(key, ".1f") for key in ("setup_mib", "ready_mib")),
            alone("setup_modules", ".0f"),
            alone("ready_modules", ".0f"),
        ]
    ]
    rows += [
        [
            f"`{name}` adds",
            *(added(name, key, "+.1f") for key in ("setup_ms", "setup_cpu_ms", "ready_ms", "ready_cpu_ms")),
            *(added(name, key, "+.1f") for key in ("setup_mib", "ready_mib")),
            f"{samples[name][0]['setup_modules'] - plain[0]['setup_modules']:+.0f}",
            f"{samples[name][0]['ready_modules'] - plain[0]['ready_modules']:+.0f}",
        ]
        for name in samples
        if name != DJANGO
    ]
    head = [
        "",
        "setup, ms",
        "its CPU ms",
        "ready, ms",
        "its CPU ms",
        "setup, MiB",
        "ready, MiB",
        "modules at setup",
        "when ready",
    ]
    return machine.table(head, rows)
