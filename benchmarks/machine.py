"""What a result was measured with, and how figures are written."""

import os
import platform
import sqlite3
import ssl
import statistics
from collections.abc import Iterable, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

DISTRIBUTIONS = (
    "spatio-django",
    "django",
    "requests",
    "urllib3",
    "cryptography",
    "josepy",
    "authlib",
    "social-auth-app-django",
    "social-auth-core",
    "mozilla-django-oidc",
    "django-allauth",
)


def versions(names: Iterable[str] = DISTRIBUTIONS) -> str:
    """Give the installed versions of *names*, leaving out what is not there."""
    found = []
    for name in names:
        try:
            found.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            continue
    return ", ".join(found)


def machine() -> str:
    """Describe the machine, and how busy it is: other work takes its part of the cores."""
    model = platform.machine()
    information = Path("/proc/cpuinfo")
    if information.exists():
        names = [
            line.partition(":")[2].strip()
            for line in information.read_text().splitlines()
            if "model name" in line
        ]
        model = names[0] if names else model
    return (
        f"{os.cpu_count()} cores ({model}), load {os.getloadavg()[0]:.1f}; "
        f"Python {platform.python_version()}, {ssl.OPENSSL_VERSION}, SQLite {sqlite3.sqlite_version}"
    )


def caveat() -> str:
    """Say what a reader has to know who sees the tables only."""
    busy = os.getloadavg()[0] / (os.cpu_count() or 1)
    warning = (
        f" **Other work kept the machine busy, with {busy:.1f} processes per core at the start: "
        "figures and ratios are rough.**"
        if busy > 0.5
        else ""
    )
    return (
        "Read ratios, never times: they are taken inside a round, in which every site has its turn. "
        f"The figures are medians, with the middle half in brackets.{warning}"
    )


def middle_half(values: Sequence[float]) -> tuple[float, float]:
    """Give the quartiles between which half of *values* lie."""
    if len(values) < 2:
        return values[0], values[0]
    low, _, high = statistics.quantiles(values, n=4, method="inclusive")
    return low, high


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Give a table in Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
