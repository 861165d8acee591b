"""A small API over HTTP that wants a bearer token: what apps call with the token of a sign-in."""

import json
import threading
from collections.abc import Callable
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self


@dataclass(frozen=True)
class Call:
    """One request."""

    method: str
    path: str
    authorization: str | None
    body: bytes


class Notes:
    """
    Serves ``/notes`` to whoever has a good token, and redirects to wherever ``/to?…`` says.

    Attributes:
        accepts: Tells whether a token is good.
        calls: Everything that was asked.
    """

    def __init__(self, accepts: Callable[[str], bool]) -> None:
        self.accepts = accepts
        self.calls: list[Call] = []
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), type("Bound", (_Handler,), {"notes": self}))
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))

    @property
    def origin(self) -> str:
        """Where it is."""
        return f"http://127.0.0.1:{self._server.server_port}"

    @property
    def sent(self) -> list[str | None]:
        """What was in each request's Authorization header."""
        return [call.authorization for call in self.calls]

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


class _Handler(BaseHTTPRequestHandler):
    notes: Notes

    def handle_any(self) -> None:
        """Read everything, judge the token, answer."""
        if self.headers.get("Transfer-Encoding") == "chunked":
            body = b""
            while size := int(self.rfile.readline(), 16):
                body += self.rfile.read(size)
                self.rfile.readline()
        else:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        authorization = self.headers.get("Authorization")
        self.notes.calls.append(Call(self.command, self.path, authorization, body))
        path, _, target = self.path.partition("?")
        if path == "/to":
            self.answer(307, Location=target)
        elif authorization and self.notes.accepts(authorization.removeprefix("Bearer ")):
            self.answer(200)
        else:
            self.answer(401, **{"WWW-Authenticate": 'Bearer error="invalid_token"'})

    do_GET = do_POST = handle_any  # noqa: N815 - the names that the server looks for

    def answer(self, status: int, **headers: str) -> None:
        """Send an answer with an empty list of workspaces, which is what the SDK's models want."""
        content = json.dumps({"workspaces": [], "total": 0}).encode()
        self.send_response(status)
        for name, value in {"Content-Type": "application/json", **headers}.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *args: Any) -> None:
        """Say nothing."""
