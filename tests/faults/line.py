"""Line: the wire in front of the provider, which can also keep a request from it, and be dead."""

import contextlib
import socket
import threading
from urllib.parse import urlsplit

from tests.hostile.front import Deed, Front, whole_answer


class Line(Front):
    """
    A front at which a request can end before the provider has heard of it.

    Attributes:
        instead: What to do instead of asking the provider, by path. Where a refresh token is good once, this
            is the difference between one that is used up and one that is not.
        connected: How many connections were made.
    """

    def __init__(self) -> None:
        super().__init__()
        self.instead: dict[str, Deed] = {}
        self._number = self.port

    @property
    def port(self) -> int:
        """The same, whether somebody listens or not."""
        return getattr(self, "_number", None) or super().port

    def be_honest(self) -> None:
        """Forget also what was done instead."""
        self.instead.clear()
        super().be_honest()

    def pass_on(self, connection: socket.socket) -> None:
        """Serve one connection."""
        backend = urlsplit(self.backend)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with socket.create_connection((str(backend.hostname), int(backend.port or 0))) as upstream:
            while request := self.request(connection):
                path = request.split(b" ", 2)[1].decode().partition("?")[0]
                self.calls.setdefault(path, []).append(request)
                instead = self.instead.get(path)
                if instead is not None:
                    self._do(instead, connection, b"")
                    return
                upstream.sendall(request)
                answer = whole_answer(upstream)
                self.answers.setdefault(path, []).append(answer)
                deed = self.deeds.get(path)
                if deed is None:
                    connection.sendall(answer)
                else:
                    self._do(deed, connection, answer)

    # Nobody there

    def _accept(self) -> None:
        listener = self._listener
        while not self.ended.is_set():
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            self.connections += 1
            self._open.append(connection)
            self._start(self._serve, connection)

    def hang_up(self) -> None:
        """Refuse connections from here on, and end those that are open."""
        for each in [self._listener, *self._open]:
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def pick_up(self) -> None:
        """Listen again, at the same port."""
        self._listener = socket.create_server(("127.0.0.1", self._number))
        self._start(self._accept)


class Relay:
    """
    A way to a server that can be cut: what happens to connections to a database.

    Args:
        address: Host and port of the server.
    """

    def __init__(self, address: tuple[str, int]) -> None:
        self._address = address
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self._pairs: list[socket.socket] = []
        self._lock = threading.Lock()
        self._ended = False
        self.is_open = True
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while not self._ended:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            if not self.is_open:
                near.close()
                continue
            far = socket.create_connection(self._address)
            for each in (near, far):
                each.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with self._lock:
                self._pairs += [near, far]
            for source, target in ((near, far), (far, near)):
                threading.Thread(target=self._pump, args=(source, target), daemon=True).start()

    def _pump(self, source: socket.socket, target: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while part := source.recv(65536):
                target.sendall(part)
        for each in (source, target):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()

    def cut(self) -> None:
        """End all connections; the next ones are served."""
        with self._lock:
            pairs, self._pairs = self._pairs, []
        for each in pairs:
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Serve nobody any more."""
        self._ended = True
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.cut()
