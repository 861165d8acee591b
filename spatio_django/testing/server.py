"""
The HTTP server: werkzeug's threaded one, taught to keep connections alive and to let go of them.

Werkzeug closes each connection after one answer, because it doesn't know how much of a request's body the
application left unread. Here the body is read before the application runs and the answer is complete
before a byte of it is sent, so that there is nothing to drain and always a Content-Length. Relying parties
that pool connections are thus tested with connections that stay open, as they do in production.
"""

import contextlib
import io
import ipaddress
import logging
import socket
import sys
import threading
from collections.abc import Iterable
from typing import Any

from werkzeug.exceptions import BadRequest, InternalServerError, RequestEntityTooLarge
from werkzeug.serving import ThreadedWSGIServer, WSGIRequestHandler

logger = logging.getLogger("spatio_django.testing")

#: No request of the contract comes near this size.
MAX_BODY = 1024 * 1024


def require_loopback(host: str) -> None:
    """
    Raise ValueError unless *host* can be reached from this machine only.

    Everybody may be anybody at this provider: on a reachable address it would be an open door.
    """
    try:
        loopback = host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        loopback = False
    if not loopback:
        raise ValueError(f"The development provider serves loopback only (127.0.0.1, ::1), not {host!r}.")


class Handler(WSGIRequestHandler):
    """One connection: any number of requests, one after the other (RFC 9112 §9.3)."""

    protocol_version = "HTTP/1.1"
    # Head and body of an answer leave as one packet, at once: no waiting for a delayed acknowledgement.
    disable_nagle_algorithm = True
    wbufsize = -1
    server: "Server"

    def setup(self) -> None:
        """Learn which connection this is."""
        super().setup()
        self.number = self.server.enter(self.connection)

    def finish(self) -> None:
        """Let the server forget the connection; a peer that is gone already is no error."""
        with contextlib.suppress(OSError):
            super().finish()
        self.server.leave(self.connection)

    def run_wsgi(self) -> None:
        """Answer one request."""
        self.environ = environ = self.make_environ()
        environ["spatio.connection"] = self.number
        app: Any = self.server.app
        # A chunked body ends itself; without either framing there is no body (RFC 9112 §6.3).
        chunked = environ.get("wsgi.input_terminated", False)
        length = str(MAX_BODY + 1) if chunked else environ.get("CONTENT_LENGTH") or "0"
        body = b""
        if length.isdecimal():
            body = environ["wsgi.input"].read(min(int(length), MAX_BODY + 1))
        else:
            self.close_connection, app = True, BadRequest()
        if len(body) > MAX_BODY:
            self.close_connection, app = True, RequestEntityTooLarge()
        environ["wsgi.input"] = io.BytesIO(body)
        environ["CONTENT_LENGTH"] = str(len(body))
        try:
            status, headers, answer = call(app, environ)
        except Exception:
            logger.exception("The application failed on %s %s", self.command, environ["PATH_INFO"])
            status, headers, answer = call(InternalServerError(), environ)
        self.send_answer(status, headers, answer)

    def handle_expect_100(self) -> bool:
        """Say "go on" at once (RFC 9110 §10.1.1); what is written here waits in a buffer otherwise."""
        go_on = super().handle_expect_100()
        self.wfile.flush()
        return go_on

    def send_answer(self, status: str, headers: list[tuple[str, str]], body: bytes) -> None:
        """Send a whole answer with its length (RFC 9110 §8.6: none for 204)."""
        code, _, reason = status.partition(" ")
        self.send_response(int(code), reason)
        names = {name.lower() for name, _ in headers}
        for name, value in headers:
            self.send_header(name, value)
        if "content-length" not in names and code != "204":
            self.send_header("Content-Length", str(len(body)))
        if self.close_connection and "connection" not in names:
            self.send_header("Connection", "close")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)
        self.wfile.flush()

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        """Log the path without its query, which carries codes and states."""
        path = getattr(self, "path", "?").partition("?")[0]
        logger.info("%s %s %s", self.command, path, code)

    def log(self, type: str, message: str, *args: Any) -> None:  # noqa: A002
        """Log to our logger: werkzeug's own would attach a handler to itself."""
        logger.warning(message, *args)


def call(app: Any, environ: dict[str, Any]) -> tuple[str, list[tuple[str, str]], bytes]:
    """Run a WSGI application to its end."""
    started: list[tuple[str, list[tuple[str, str]]]] = []
    written: list[bytes] = []

    def start_response(status: str, headers: list[tuple[str, str]], exc_info: object = None) -> Any:
        started[:] = [(status, headers)]
        return written.append

    chunks: Iterable[bytes] = app(environ, start_response)
    try:
        written.extend(chunks)
    finally:
        if hasattr(chunks, "close"):
            chunks.close()
    ((status, headers),) = started
    return status, headers, b"".join(written)


class Server(ThreadedWSGIServer):
    """A threaded server that counts its connections and can end them all."""

    def __init__(self, host: str, port: int, app: Any) -> None:
        require_loopback(host)
        # Bound here, because werkzeug ends the process when the port is taken.
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        with socket.create_server((host, port), family=family, backlog=128) as listener:
            super().__init__(host, port, app, handler=Handler, fd=listener.fileno())
        self.connections = 0
        self._open: dict[socket.socket, threading.Thread] = {}
        self._lock = threading.Lock()
        self._closing = False

    def enter(self, connection: socket.socket) -> int:
        """Note an accepted connection and the thread that serves it; its number, from 1."""
        with self._lock:
            self.connections += 1
            self._open[connection] = threading.current_thread()
            if self._closing:  # pragma: no cover - accepted in the instant of stopping
                connection.shutdown(socket.SHUT_RD)
            return self.connections

    def leave(self, connection: socket.socket) -> None:
        """Forget a connection."""
        with self._lock:
            self._open.pop(connection, None)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Log; a peer that hung up is everyday life, anything else deserves its traceback."""
        error = sys.exc_info()[1]
        level = logging.DEBUG if isinstance(error, OSError) else logging.ERROR
        logger.log(level, "Connection from %s failed", client_address, exc_info=True)

    def close_connections(self) -> None:
        """
        End every open connection and wait for its thread.

        Reading ends first, which an idle connection takes for the peer's goodbye, while an answer that is
        being written still leaves.
        """
        with self._lock:
            self._closing = True
            threads = dict(self._open)
            for connection in threads:
                with contextlib.suppress(OSError):  # the peer was faster
                    connection.shutdown(socket.SHUT_RD)
        for thread in threads.values():
            thread.join(timeout=5)
