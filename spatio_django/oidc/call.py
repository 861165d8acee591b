"""Call: the time that one HTTP call may take in all, kept whatever the other end does. No HTTP here."""

import heapq
import ipaddress
import itertools
import socket
import threading
import time
from collections.abc import Iterable
from concurrent.futures import Future
from typing import Any

Address = tuple[Any, ...]


class TooLate(Exception):
    """The request was ready to be sent only after ``send_by``."""


class Call:
    """
    One call's deadline, its socket, and how far it got.

    A socket timeout restarts with every byte, so a server that drips can hold a thread for hours. Here the
    socket is shut down when the time is up, which wakes whoever waits on it: in the TLS handshake, in the
    headers or in the body.

    Args:
        seconds: From now.
        send_by: On the monotonic clock: not a byte of the request is sent later. ``None``: whenever.

    Attributes:
        reused: The request went out on a connection that had served before.
        sent: Some of the request may have left this machine.
        finished: Nobody waits for it any more.
    """

    def __init__(self, seconds: float, *, send_by: float | None = None) -> None:
        self.ends_at = time.monotonic() + seconds
        self._send_by = send_by
        self.reused = False
        self.sent = False
        self.finished = False
        self._lock = threading.Lock()
        self._socket: socket.socket | None = None
        self._expired = False

    @property
    def remaining(self) -> float:
        """Seconds left; never quite 0, which would mean "non-blocking" to a socket."""
        return max(self.ends_at - time.monotonic(), 0.001)

    @property
    def expired(self) -> bool:
        """Whether time is up; then the connection may be shut down, and nothing more will come."""
        return self._expired or time.monotonic() >= self.ends_at

    @property
    def late(self) -> bool:
        """Whether the request must not be sent any more. Looked at when everything else is ready."""
        return self._send_by is not None and time.monotonic() > self._send_by

    def guard(self, connection: socket.socket) -> None:
        """
        Watch *connection* from now on, and no other. It stays open until :meth:`release`.

        Raises:
            TimeoutError: Time was up before.
        """
        with self._lock:
            self._socket = connection
        if self._expired:
            raise TimeoutError("deadline")

    def release(self) -> None:
        """Watch no connection any more: from here on it can be closed, or serve another call."""
        with self._lock:
            self._socket = None

    def expire(self) -> None:
        """Shut the socket down. Called when time is up; harmless after :meth:`finish`."""
        with self._lock:
            self._expired = True
            if self._socket is not None:
                try:
                    # TCP's end alone: SSLSocket.shutdown() also forgets TLS, under the hands of who reads.
                    socket.socket.shutdown(self._socket, socket.SHUT_RDWR)
                except OSError:  # the other end was first
                    return

    def finish(self) -> None:
        """Stop watching."""
        self.finished = True
        self.release()


class Watchdog:
    """Expires calls, from one daemon thread that exists only while there are calls to watch."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._calls: list[tuple[float, int, Call]] = []
        self._numbers = itertools.count()  # so that equal times never compare calls
        self._running = False

    def watch(self, call: Call) -> None:
        """Expire *call* when its time is up. Finished calls stay until the watchdog wakes, and do no harm."""
        with self._changed:
            heapq.heappush(self._calls, (call.ends_at, next(self._numbers), call))
            if not self._running:
                threading.Thread(target=self._run, name="spatio-watchdog", daemon=True).start()
                self._running = True
            elif self._calls[0][2] is call:
                self._changed.notify()

    def _run(self) -> None:
        with self._changed:
            while self._calls:
                seconds = self._calls[0][0] - time.monotonic()
                if seconds > 0:
                    self._changed.wait(seconds)
                else:
                    heapq.heappop(self._calls)[2].expire()
                    # Most have finished long ago: not woken for each of them again.
                    self._calls = [entry for entry in self._calls if not entry[2].finished]
                    heapq.heapify(self._calls)
            self._running = False


class Dialer:
    """
    Opens TCP connections without outliving a call.

    ``getaddrinfo`` cannot be interrupted, so it runs in a thread: one per name, however many callers wait
    for it. A dead resolver then costs a thread per host, and not one per call.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._pending: dict[tuple[str, int], Future[list[Address]]] = {}

    def connect(
        self, host: str, port: int, *, call: Call, options: Iterable[tuple[int, int, int | bytes]]
    ) -> socket.socket:
        """
        Open a TCP connection within the time of *call*, and let the call guard it.

        Each address gets an equal share of what is left, so that one dead address does not use up all.

        Raises:
            OSError: No address could be reached; :class:`TimeoutError` if for lack of time.
        """
        addresses = _numeric(host, port) or self._look_up(host, port, call.remaining)
        failure = OSError("no address")
        for position, (family, kind, protocol, _, address) in enumerate(addresses):
            connection = socket.socket(family, kind, protocol)
            try:
                for option in options:
                    connection.setsockopt(*option)
                connection.settimeout(call.remaining / (len(addresses) - position))
                connection.connect(address)
                call.guard(connection)
            except OSError as error:
                connection.close()
                failure = error
            else:
                return connection
        raise failure

    def _look_up(self, host: str, port: int, seconds: float) -> list[Address]:
        name = (host, port)
        with self._lock:
            answer = self._pending.get(name)
            if answer is None:
                answer = Future()
                threading.Thread(
                    target=self._run, args=(name, answer), name="spatio-lookup", daemon=True
                ).start()
                self._pending[name] = answer
        return answer.result(seconds)

    def _run(self, name: tuple[str, int], answer: "Future[list[Address]]") -> None:
        try:
            addresses = socket.getaddrinfo(*name, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError) as error:  # a label of more than 63 characters is a UnicodeError
            answer.set_exception(OSError(f"lookup failed: {type(error).__name__}"))
        else:
            answer.set_result(list(addresses))
        finally:
            with self._lock:
                del self._pending[name]


def _numeric(host: str, port: int) -> list[Address]:
    """Give what a lookup of an IP address would, without one: nobody is asked, so it takes no time."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return []
    return list(socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST))
