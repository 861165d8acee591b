"""The strict provider from outside: its process, and what it is told over HTTP on loopback."""

import json
from http.client import HTTPConnection
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit

from benchmarks.workers import Worker

#: Seconds for an answer of the control channel; a busy machine needs some of them.
PATIENCE = 60.0


class Control:
    """
    What a provider at *issuer* is told. One connection, for one thread.

    Raises, from each call:
        RuntimeError: It could not do that.
    """

    def __init__(self, issuer: str) -> None:
        self._connection = HTTPConnection(urlsplit(issuer).netloc, timeout=PATIENCE)

    def __call__(self, name: str, **members: Any) -> Any:
        """Have *name* done, a method of :class:`tests.refresh.provider.Provider`, or of its gate."""
        self._connection.request("POST", f"/control/{name}", json.dumps(members))
        answer = self._connection.getresponse()
        content = answer.read()
        if answer.status != 200:
            raise RuntimeError(f"The provider answered {answer.status} to {name}.")
        return json.loads(content)

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()


class Strict:
    """
    A strict provider in a process of its own.

    Args:
        life: Seconds that an access token lives.
        leeway: Seconds for which a used refresh token goes on working; 0 is strict.
        delay: Seconds that each refresh takes.
        id_token: Whether a refresh gives one.
    """

    def __init__(
        self, *, life: int = 2, leeway: float = 0.0, delay: float = 0.0, id_token: bool = True
    ) -> None:
        config = {"life": life, "leeway": leeway, "delay": delay, "id_token": id_token}
        self._worker = Worker("tests.refresh.provider", config, name="the strict provider")
        self.life = life
        self.issuer: str = self._worker.ask("issuer")
        self.control = Control(self.issuer)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None
    ) -> None:
        self.control.close()
        self._worker.close()
