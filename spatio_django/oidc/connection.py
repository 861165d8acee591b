"""Connection: what HTTP is spoken on, opened within a call's time; and those that wait for the next call."""

import base64
import socket
import ssl
import threading
import time
import weakref
from typing import Any, NamedTuple, Self
from urllib.parse import unquote_to_bytes, urlsplit

from spatio_django.oidc.call import Call, Dialer, TooLate
from spatio_django.oidc.framing import StrictResponse
from spatio_django.oidc.secret import Secret
from spatio_django.oidc.urls import Origin, origin

#: Seconds that an idle connection is used again. Load balancers forget silent ones after 60 or more.
KEEP_ALIVE = 30.0
#: Idle connections kept in all: one per thread of a busy process.
POOL_SIZE = 32

# The request leaves in one piece: nothing is gained by waiting for more.
_OPTIONS = ((socket.IPPROTO_TCP, socket.TCP_NODELAY, 1),)


class Proxy(NamedTuple):
    """An http or https proxy, and what it wants to hear."""

    origin: Origin
    authorization: Secret | None

    @classmethod
    def of(cls, url: str) -> Self:
        """
        Return the proxy of an http or https URL, which may hold a user name and a password.

        Raises:
            ValueError: As :func:`~spatio_django.oidc.urls.origin`.
        """
        user, at, _ = urlsplit(url).netloc.rpartition("@")
        name, _, password = user.partition(":")
        pair = unquote_to_bytes(name) + b":" + unquote_to_bytes(password)
        basic = Secret("Basic " + base64.b64encode(pair).decode()) if at else None
        return cls(origin(url), basic)


class Connection:
    """
    TCP, with TLS where the origin has it. It has one user at a time.

    Attributes:
        origin: Where it leads.
    """

    def __init__(self, origin: Origin, connected: socket.socket, stream: Any) -> None:
        self.origin = origin
        self._socket = connected  # owns the descriptor; deadlines work on it
        self._stream = stream  # on top of it, or the same
        self._asked_at = 0.0  # monotonic seconds

    @classmethod
    def opened(
        cls, origin: Origin, *, proxy: Proxy | None, context: ssl.SSLContext, dialer: Dialer, call: Call
    ) -> Self:
        """
        Open a connection within the time of *call*, which guards it from the first packet on.

        Args:
            proxy: For an https origin; the proxy connects to it, and does not see what is said.

        Raises:
            OSError: There is none; :class:`ssl.SSLError` where TLS is why, :class:`TimeoutError` for lack of
                time.
            http.client.HTTPException: The proxy speaks no HTTP.
            ValueError: The host is no name.
        """
        first = origin if proxy is None else proxy.origin
        connected = dialer.connect(first.host, first.port, call=call, options=_OPTIONS)
        stream: Any
        try:
            connected.settimeout(call.remaining)
            if first.scheme == "https":
                connected = _encrypted(connected, first, context, call)
            stream = connected
            if proxy is not None:
                _tunnel(connected, origin, proxy)
                if first.scheme == "https":
                    # The standard library speaks TLS on a bare socket only.
                    from urllib3.util.ssltransport import SSLTransport

                    stream = SSLTransport(connected, context, server_hostname=origin.name)
                else:
                    stream = connected = _encrypted(connected, origin, context, call)
        except BaseException:
            call.release()
            connected.close()
            raise
        return cls(origin, connected, stream)

    def ask(self, method: str, request: bytes, call: Call) -> StrictResponse:
        """
        Send *request* and return the answer, its head read. *call* guards the connection.

        Raises:
            OSError, http.client.HTTPException: The connection broke, or what came was not HTTP.
            TooLate: The call's ``send_by`` has passed. Nothing was sent.
        """
        call.guard(self._socket)
        self._socket.settimeout(call.remaining)
        if call.late:
            raise TooLate
        self._asked_at = time.monotonic()
        call.sent = True
        # Head and body leave in one piece: one system call, one TLS record, one packet.
        self._stream.sendall(request)
        return _response(self._stream, method)

    def is_usable(self) -> bool:
        """Whether it is young enough, and the other end holds it and has sent nothing since its answer."""
        if time.monotonic() - self._asked_at >= KEEP_ALIVE:
            return False
        if isinstance(self._stream, ssl.SSLSocket) and self._stream.pending():
            return False
        self._socket.settimeout(0)
        try:
            # Below TLS, which knows of no peeking.
            socket.socket.recv(self._socket, 1, socket.MSG_PEEK)
        except OSError as error:
            return isinstance(error, BlockingIOError)
        return False

    def close(self) -> None:
        """Close it. No call may guard it any more."""
        self._socket.close()


class Idle:
    """Connections that wait for their next call. Safe to share between threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._connections: list[Connection] = []  # in the order of their use
        self._closed = False
        # Without this Python would warn of each, at the end of a process that asked it to (-X dev).
        weakref.finalize(self, _close_all, self._connections)

    def take(self, origin: Origin) -> Connection | None:
        """Return a connection that leads there and can be used, if there is one."""
        while True:
            with self._lock:
                # The newest: those that are not needed grow old.
                found = next((one for one in reversed(self._connections) if one.origin == origin), None)
                if found is None:
                    return None
                self._connections.remove(found)
            if found.is_usable():
                return found
            found.close()

    def keep(self, connection: Connection) -> None:
        """Keep *connection* for the next call; if that is too many, close the one that waited longest."""
        with self._lock:
            self._connections.append(connection)
            while len(self._connections) > (0 if self._closed else POOL_SIZE):
                self._connections.pop(0).close()

    def close(self) -> None:
        """Close them all, and from now on whatever comes back."""
        with self._lock:
            self._closed = True
            _close_all(self._connections)


def _close_all(connections: list[Connection]) -> None:
    while connections:
        connections.pop().close()


def _encrypted(
    connected: socket.socket, origin: Origin, context: ssl.SSLContext, call: Call
) -> ssl.SSLSocket:
    """Take over *connected* and speak TLS on it, guarded from the first byte on."""
    encrypted = context.wrap_socket(connected, server_hostname=origin.name, do_handshake_on_connect=False)
    try:
        call.guard(encrypted)
        encrypted.do_handshake()
    except BaseException:
        call.release()
        encrypted.close()
        raise
    return encrypted


def _tunnel(connected: socket.socket, origin: Origin, proxy: Proxy) -> None:
    """Let the proxy connect to *origin*. RFC 9110 §9.3.6."""
    lines = [f"CONNECT {origin.authority} HTTP/1.1", f"Host: {origin.authority}"]
    if proxy.authorization is not None:
        lines.append(f"Proxy-Authorization: {proxy.authorization.reveal()}")
    connected.sendall("\r\n".join([*lines, "", ""]).encode())
    response = _response(connected, "CONNECT")
    response.close()
    if not 200 <= response.status < 300:
        raise ConnectionError(f"The proxy answered {response.status}.")


def _response(stream: Any, method: str) -> StrictResponse:
    response = StrictResponse(stream, method=method)
    try:
        response.begin()
    except BaseException:
        response.close()
        raise
    return response
