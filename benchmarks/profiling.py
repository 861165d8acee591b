"""Where the time of a sign-in goes: own time by layer, and the functions that take most of it."""

import cProfile
import pstats
import sys
from collections import Counter
from collections.abc import Callable
from typing import Any

from benchmarks.machine import table
from benchmarks.workers import ROOT

#: Layers, and what the path of a file holds that belongs to them; the first that fits counts.
LAYERS: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("benchmark", ("/benchmarks/",)),
    (
        "HTTP, ours",
        tuple(
            f"/spatio_django/oidc/{name}.py"
            for name in ("http", "connection", "call", "framing", "message", "answer", "secret", "urls")
        ),
    ),
    ("spatio_django, the rest", ("/spatio_django/",)),
    ("mozilla-django-oidc", ("/mozilla_django_oidc/",)),
    ("other packages for signing in", ("/allauth/", "/social_core/", "/social_django/", "/authlib/")),
    ("database", ("/django/db/", "/sqlite3/", "/psycopg")),
    ("sessions and auth of Django", ("/django/contrib/",)),
    ("rest of Django", ("/django/", "/asgiref/")),
    (
        "crypto",
        ("/cryptography/", "/josepy/", "/jwt/", "/joserfc/", "/hmac.py", "/secrets.py", "/hashlib.py"),
    ),
    (
        "HTTP client",
        ("/requests/", "/urllib3/", "/http/", "/email/", "/ssl.py", "/socket.py", "/selectors.py"),
    ),
    ("URLs: HTTP client and others", ("/urllib/", "/idna/", "/charset_normalizer/")),
)
REST = "standard library and the rest"
WAITING = "waiting for the provider (not counted)"

#: Built-in functions in which a thread waits.
_WAITS = (
    "method 'read' of '_ssl._SSLSocket'",
    "method 'do_handshake' of",
    "method 'recv_into' of",
    "method 'recv' of",
    "method 'connect' of",
    "method 'acquire' of",
    "method 'poll' of 'select",
)
#: Built-in functions that belong to a layer, whoever calls them.
_BUILTINS = (
    ("database", ("sqlite3", "SQLite", "psycopg")),
    ("crypto", ("_hashlib", "_hmac", "cryptography", "openssl", "_sha2", "binascii.")),
    ("HTTP client", ("_ssl.", "_socket.", "_SSLSocket", "SSLContext")),
)

Function = tuple[str, int, str]


def layer(function: Function) -> str | None:
    """Give the layer of *function*; ``None`` for a built-in one, which belongs to who called it."""
    path, _, name = function
    if path == "~":
        if any(wait in name for wait in _WAITS):
            return WAITING
        return next((known for known, marks in _BUILTINS if any(mark in name for mark in marks)), None)
    path = path.replace("\\", "/")
    return next((known for known, marks in LAYERS if any(mark in path for mark in marks)), REST)


def short(function: Function) -> str:
    """Name *function*, without what only this machine calls its file."""
    path, line, name = function
    if path == "~":
        return name
    for prefix in ("site-packages/", f"/python{sys.version_info[0]}.{sys.version_info[1]}/", f"{ROOT}/"):
        path = path.rpartition(prefix)[2]
    return f"{path}:{line} {name}"


def own_times(stats: dict[Function, Any]) -> Counter[str]:
    """Give the seconds by layer. What a built-in function takes counts where it was called."""
    seconds: Counter[str] = Counter()
    for function, (_, _, own, _, callers) in stats.items():
        known = layer(function)
        if known is not None:
            seconds[known] += own
            continue
        for caller, (_, _, share, _) in callers.items():
            seconds[layer(caller) or REST] += share
    return seconds


def profiled(work: Callable[[cProfile.Profile], None], *, count: int, top: int) -> dict[str, Any]:
    """
    Profile *work*, which signs in *count* times and turns the profiler on while the site works.

    Returns:
        ``layers``: milliseconds per sign-in, by layer. ``own`` and ``total``: of the functions that take
        most, by themselves and with what they call: calls, milliseconds and name.
    """
    profiler = cProfile.Profile()
    work(profiler)
    stats: dict[Function, Any] = pstats.Stats(profiler).stats  # type: ignore[attr-defined]
    per_sign_in = 1000 / count

    def rows(column: int, wanted: Callable[[Function], bool]) -> list[list[Any]]:
        found = sorted(filter(wanted, stats), key=lambda function: stats[function][column], reverse=True)
        return [
            [stats[each][1] / count, stats[each][column] * per_sign_in, short(each)] for each in found[:top]
        ]

    return {
        "layers": {name: own * per_sign_in for name, own in own_times(stats).most_common()},
        "own": rows(2, lambda function: layer(function) != WAITING),
        "total": rows(3, lambda function: "/spatio_django/" in function[0]),
    }


def report(found: dict[str, Any]) -> str:
    """Write it down."""
    layers = found["layers"]
    worked = sum(ms for name, ms in layers.items() if name != WAITING)
    parts = [
        "Own time per sign-in under cProfile, which about doubles Python code: read the shares.",
        table(
            ["layer", "ms", "share"],
            [
                [name, f"{ms:.2f}", "" if name == WAITING else f"{ms / worked:.0%}"]
                for name, ms in layers.items()
            ],
        ),
    ]
    heads = (("own", "Most by themselves"), ("total", "Most of ours, with what they call"))
    for key, title in heads:
        rows = [[f"{calls:.1f}", f"{ms:.3f}", f"`{name}`"] for calls, ms, name in found[key]]
        parts += [f"### {title}", table(["calls", "ms", "function"], rows)]
    return "\n\n".join(parts)
