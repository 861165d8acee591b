"""A provider as a process of its own, and what it was asked."""

import json
import os
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]

#: Seconds to start; a busy machine needs some of them.
PATIENCE = 60.0
#: Seconds to end by itself.
GRACE = 10.0


@dataclass(frozen=True)
class Provider:
    """
    A running provider.

    Attributes:
        issuer: As its discovery document spells it.
        log: A JSON line per request, written by the provider itself.
    """

    issuer: str
    log: Path

    def requests(self) -> list[dict[str, Any]]:
        """Give all requests so far."""
        return [json.loads(line) for line in self.log.read_text().splitlines()] if self.log.exists() else []


class Calls:
    """What the site, not the browser, asked of a provider since this was made or last taken."""

    def __init__(self, provider: Provider) -> None:
        self.provider = provider
        self.seen = len(provider.requests())

    def take(self) -> list[str]:
        """Give the calls as "POST /token", with how the client authenticated if it did in the header."""
        found = self.provider.requests()
        new, self.seen = found[self.seen :], len(found)
        return [
            f"{call['method']} {call['path']} {call['scheme']}".rstrip()
            for call in new
            if call["agent"].startswith("spatio-django/")
        ]


@contextmanager
def running(
    command: list[str], folder: Path, *, environment: Mapping[str, str] | None = None
) -> Iterator[Provider]:
    """
    Start a provider, wait until it prints its issuer, and end it.

    Its standard input is held open: it ends with that, even if the tests are killed.

    Args:
        command: Logs requests to ``requests.jsonl`` in *folder*.
        folder: Empty; the output goes to ``output.txt`` there, and into the failure if it doesn't start.
        environment: Variables on top of this process's.
    """
    printed = folder / "output.txt"
    with printed.open("wb") as output:
        process = subprocess.Popen(
            command,
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=subprocess.STDOUT,
            env={**os.environ, **(environment or {})},
        )
    try:
        yield Provider(issuer=wait_for_issuer(process, printed), log=folder / "requests.jsonl")
    finally:
        assert process.stdin is not None
        process.stdin.close()
        with suppress(subprocess.TimeoutExpired):  # it would hide why it didn't start
            process.wait(GRACE)
        process.kill()  # nothing happens to one that has ended
        process.wait()


def wait_for_issuer(process: subprocess.Popen[bytes], printed: Path) -> str:
    """Give the issuer as soon as it is printed; fail with all that was printed if it isn't."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        ended = process.poll() is not None
        lines = printed.read_text(errors="replace").splitlines(keepends=True)
        for line in lines:
            if line.startswith("ISSUER ") and line.endswith("\n"):
                return line.split()[1]
        if ended:
            break
        time.sleep(0.05)
    pytest.fail(f"{process.args!r} did not start:\n{printed.read_text(errors='replace')}")
