"""Processes that do one thing each, and are told what over a pipe: one JSON object a line, one line back."""

import json
import os
import re
import subprocess
import sys
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

# This machine's affairs: what would lead the sites past the provider, have them trust others, or have each
# process compile the package anew, which nobody's site does.
_NOT_PASSED_ON = re.compile(
    r"(REQUESTS|CURL)_CA_BUNDLE|SSL_CERT_(FILE|DIR)|\w+_PROXY|PYTHONDONTWRITEBYTECODE|PYTHONDEVMODE",
    re.IGNORECASE,
)

ROOT = Path(__file__).resolve().parent.parent


def environment() -> dict[str, str]:
    """Give the environment for processes that are measured."""
    return {name: value for name, value in os.environ.items() if not _NOT_PASSED_ON.fullmatch(name)}


class WorkerFailed(RuntimeError):
    """A worker could not do what it was told; the message is its traceback."""


class Worker:
    """
    A process of its own.

    Args:
        module: Run as ``python -m``; it calls :func:`serve`.
        config: Handed to it as JSON, on its command line.
        name: For messages.
    """

    def __init__(self, module: str, config: Mapping[str, Any], *, name: str) -> None:
        self.name = name
        self._process = subprocess.Popen(  # noqa: S603 - this interpreter, and a module of ours
            [sys.executable, "-m", module, json.dumps(config)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=ROOT,
            env=environment(),
            text=True,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None
    ) -> None:
        self.close()

    def ask(self, command: str, **arguments: Any) -> Any:
        """
        Have *command* done and give its result.

        Raises:
            WorkerFailed: It raised, or the process is gone.
        """
        self.tell(command, **arguments)
        return self.answer()

    def tell(self, command: str, **arguments: Any) -> None:
        """Say what to do, and do not wait. :meth:`answer` has to follow before anything else is said."""
        assert self._process.stdin is not None  # noqa: S101 - for the type checker
        try:
            print(json.dumps([command, arguments]), file=self._process.stdin, flush=True)
        except BrokenPipeError:
            raise WorkerFailed(f"{self.name} has ended.") from None

    def answer(self) -> Any:
        """Give the result of what it was told."""
        assert self._process.stdout is not None  # noqa: S101 - for the type checker
        line = self._process.stdout.readline()
        if not line:
            raise WorkerFailed(f"{self.name} has ended.")
        answer = json.loads(line)
        if "error" in answer:
            raise WorkerFailed(f"{self.name}:\n{answer['error']}")
        return answer["result"]

    def close(self) -> None:
        """End it: the end of its input tells it to."""
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None  # noqa: S101 - for the type checker
            pipe.close()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


def serve(commands: Mapping[str, Callable[..., Any]]) -> None:
    """Do what the parent says until it says no more. Returns when the pipe is closed."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print must not get between the answers
    for line in sys.stdin:
        command, arguments = json.loads(line)
        try:
            answer = {"result": commands[command](**arguments)}
        except Exception:  # noqa: BLE001 - the parent raises it
            answer = {"error": traceback.format_exc()}
        print(json.dumps(answer), file=answers, flush=True)


def config() -> dict[str, Any]:
    """Give what the parent wrote on the command line."""
    found: dict[str, Any] = json.loads(sys.argv[1])
    return found
