"""Wire: a server of raw bytes on loopback, to misbehave below HTTP."""

import contextlib
import socket
import ssl
import threading
from collections.abc import Callable
from typing import Self

Script = Callable[[socket.socket], None]


class Wire:
    """
    Runs *script* for each connection, in a thread of its own.

    Attributes:
        script: Replace it to change what the next connection meets.
        connections: How many there were.
        requests: What was received by :meth:`request`, heads and bodies.
    """

    def __init__(self) -> None:
        self.script: Script = self.ok
        self.connections = 0
        self.requests: list[bytes] = []
        self.ended = threading.Event()
        self.context: ssl.SSLContext | None = None
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._open: list[socket.socket] = []
        self._threads: list[threading.Thread] = []

    @property
    def port(self) -> int:
        """Chosen by the system."""
        return int(self._listener.getsockname()[1])

    @property
    def url(self) -> str:
        """Any path will do."""
        return f"http://127.0.0.1:{self.port}/path"

    def __enter__(self) -> Self:
        self._start(self._accept)
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.ended.set()
        # Wakes accept() and recv(), which close() alone does not.
        for connection in [self._listener, *self._open]:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for thread in self._threads:
            thread.join(5)

    def _start(self, target: Callable[..., None], *arguments: object) -> None:
        thread = threading.Thread(target=target, args=arguments, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while not self.ended.is_set():
            with contextlib.suppress(OSError):
                connection, _ = self._listener.accept()
                self.connections += 1
                self._open.append(connection)
                self._start(self._serve, connection)

    def _serve(self, connection: socket.socket) -> None:
        with contextlib.suppress(OSError), connection:
            if self.context is None:
                self.script(connection)
            else:
                with self.context.wrap_socket(connection, server_side=True) as secure:
                    self._open.append(secure)
                    self.script(secure)

    def request(self, connection: socket.socket) -> bytes:
        """Read one request, head and body; empty when the client has closed."""
        data = b""
        while b"\r\n\r\n" not in data:
            part = connection.recv(65536)
            if not part:
                return b""
            data += part
        head, _, body = data.partition(b"\r\n\r\n")
        length = 0
        for line in head.lower().split(b"\r\n"):
            if line.startswith(b"content-length:"):
                length = int(line.partition(b":")[2])
        while len(body) < length:
            body += connection.recv(65536)
        self.requests.append(head + b"\r\n\r\n" + body)
        return self.requests[-1]

    def ok(self, connection: socket.socket) -> None:
        """Answer every request with an empty JSON object, and keep the connection."""
        while self.request(connection):
            connection.sendall(reply(b"{}"))

    def says(self, *parts: bytes) -> Script:
        """Make a script that reads a request, sends *parts* and closes."""

        def script(connection: socket.socket) -> None:
            self.request(connection)
            for part in parts:
                connection.sendall(part)

        return script


def reply(body: bytes, *headers: str, status: str = "200 OK") -> bytes:
    """A well-formed response."""
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *headers, "", ""]
    return "\r\n".join(lines).encode("latin-1") + body
