"""Front: passes everything through to the development provider, except where it is told to misbehave."""

import contextlib
import socket
import threading
from collections.abc import Callable
from urllib.parse import urlsplit

from tests.oidc.wire import Wire

#: What is done instead of answering, given the connection and the honest answer, head and body.
Deed = Callable[[socket.socket, bytes], None]

#: Bytes that the system may hold for us, so that what was "sent" but not read is little.
SEND_BUFFER = 32 * 1024
#: Bytes of the large answers. None is to be read to its end.
HUGE = 16 * 1024 * 1024


class Front(Wire):
    """
    A proxy of raw bytes: what a provider's own server can't be made to do is done here.

    Attributes:
        backend: Address of the provider.
        deeds: What to do instead of answering, by path.
        calls: The requests, heads and bodies, by path.
        sent: Bytes that the last deed got rid of with :meth:`pour`.
    """

    def __init__(self) -> None:
        super().__init__()
        self.backend = ""
        self.deeds: dict[str, Deed] = {}
        self.calls: dict[str, list[bytes]] = {}
        self.answers: dict[str, list[bytes]] = {}
        self.sent = 0
        self.script = self.pass_on
        self._busy = 0
        self._idle = threading.Condition()

    @property
    def origin(self) -> str:
        """What the provider is known as."""
        return f"http://127.0.0.1:{self.port}"

    def be_honest(self) -> None:
        """Wait until every deed is done, and forget them and what was seen."""
        self.deeds.clear()
        self.rest()
        self.calls.clear()
        self.answers.clear()
        self.requests.clear()
        self.sent = 0

    def rest(self) -> None:
        """Wait until every deed is done."""
        with self._idle:
            assert self._idle.wait_for(lambda: self._busy == 0, timeout=20), "a deed does not end"

    def pass_on(self, connection: socket.socket) -> None:
        """Serve one connection: ask the provider, and tell its answer, or do the deed."""
        backend = urlsplit(self.backend)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with socket.create_connection((str(backend.hostname), int(backend.port or 0))) as upstream:
            while request := self.request(connection):
                path = request.split(b" ", 2)[1].decode().partition("?")[0]
                upstream.sendall(request)
                answer = whole_answer(upstream)
                self.calls.setdefault(path, []).append(request)
                self.answers.setdefault(path, []).append(answer)
                deed = self.deeds.get(path)
                if deed is None:
                    connection.sendall(answer)
                else:
                    self._do(deed, connection, answer)

    def _do(self, deed: Deed, connection: socket.socket, answer: bytes) -> None:
        with self._idle:
            self._busy += 1
        try:
            deed(connection, answer)
        finally:
            with self._idle:
                self._busy -= 1
                self._idle.notify_all()

    def pour(self, connection: socket.socket, part: bytes, *, most: int = HUGE) -> None:
        """Send *part* again and again, until the other end has enough, or *most* bytes went."""
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER)
        self.sent = 0
        with contextlib.suppress(OSError):
            while self.sent < most:
                self.sent += connection.send(part)

    def drip(self, connection: socket.socket, data: bytes, *, every: float) -> None:
        """Send one byte after the other, and wait *every* seconds between them, until nobody listens."""
        with contextlib.suppress(OSError):
            connection.settimeout(every)
            for position in range(len(data)):
                connection.sendall(data[position : position + 1])
                with contextlib.suppress(TimeoutError):
                    if not connection.recv(65536):
                        return


def whole_answer(upstream: socket.socket) -> bytes:
    """Read one answer of the development provider, which always says how long it is."""
    data = b""
    while b"\r\n\r\n" not in data:
        data += received(upstream)
    head, _, body = data.partition(b"\r\n\r\n")
    length = 0
    for line in head.lower().split(b"\r\n"):
        if line.startswith(b"content-length:"):
            length = int(line.partition(b":")[2])
    while len(body) < length:
        body += received(upstream)
    return head + b"\r\n\r\n" + body


def received(upstream: socket.socket) -> bytes:
    """Read some bytes; the provider has no reason to close."""
    part = upstream.recv(65536)
    if not part:
        raise ConnectionError("The provider closed the connection.")
    return part


def body_of(answer: bytes) -> bytes:
    """Give the body of an answer."""
    return answer.partition(b"\r\n\r\n")[2]


def hang(connection: socket.socket, _: bytes = b"") -> None:
    """Do nothing, until the other end has had enough."""
    while connection.recv(65536):
        pass
