"""spatio_django.oidc.connection: those that wait for their next call."""

import gc
import socket
import ssl
import weakref
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from spatio_django.oidc import connection as module
from spatio_django.oidc.call import Call, Dialer
from spatio_django.oidc.connection import Connection, Idle
from spatio_django.oidc.urls import Origin, origin
from tests.oidc.wire import Wire

HERE = Origin("http", "127.0.0.1", 80)


@pytest.fixture
def pairs() -> Iterator[list[tuple[Connection, socket.socket]]]:
    """Give three connections, used just now, and their other ends."""
    with ExitStack() as stack:
        found = []
        for _ in range(3):
            ours, theirs = map(stack.enter_context, socket.socketpair())
            connection = Connection(HERE, ours, ours)
            theirs.sendall(b"HTTP/1.1 204 No Content\r\n\r\n")
            connection.ask("GET", b"x", Call(5)).read()
            theirs.recv(1)
            found.append((connection, theirs))
        yield found


def is_open(other_end: socket.socket) -> bool:
    """Tell whether nobody has closed the connection."""
    other_end.setblocking(False)
    try:
        return other_end.recv(1) != b""
    except BlockingIOError:
        return True
    except ConnectionResetError:  # with something in it that nobody had read
        return False


def test_the_newest_is_used_again_first(pairs: list[tuple[Connection, socket.socket]]) -> None:
    """So that those which are not needed grow old."""
    idle = Idle()
    for connection, _ in pairs:
        idle.keep(connection)

    assert idle.take(HERE) is pairs[2][0]
    assert idle.take(HERE) is pairs[1][0]
    idle.keep(pairs[2][0])
    assert idle.take(HERE) is pairs[2][0]
    assert idle.take(HERE) is pairs[0][0]
    assert idle.take(HERE) is None


def test_one_too_many_is_closed(
    pairs: list[tuple[Connection, socket.socket]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The one that nobody came for."""
    monkeypatch.setattr(module, "POOL_SIZE", 2)
    idle = Idle()
    for connection, _ in pairs:
        idle.keep(connection)

    assert [is_open(other_end) for _, other_end in pairs] == [False, True, True]


def test_one_that_says_something_is_not_used_again(pairs: list[tuple[Connection, socket.socket]]) -> None:
    """Nobody asked; it would be taken for the next answer."""
    idle = Idle()
    for connection, _ in pairs:
        idle.keep(connection)
    pairs[2][1].sendall(b"HTTP/1.1 200 OK\r\n\r\n")

    assert idle.take(HERE) is pairs[1][0]
    assert [is_open(other_end) for _, other_end in pairs] == [True, True, False]


def test_those_that_come_back_after_closing_are_closed(
    pairs: list[tuple[Connection, socket.socket]],
) -> None:
    """A call may last longer than the client."""
    idle = Idle()
    idle.keep(pairs[0][0])
    idle.close()
    idle.keep(pairs[1][0])

    assert [is_open(other_end) for _, other_end in pairs] == [False, False, True]


def test_those_that_are_forgotten_are_closed(pairs: list[tuple[Connection, socket.socket]]) -> None:
    """Python would warn of each."""
    idle = Idle()
    idle.keep(pairs[0][0])
    gone = weakref.ref(idle)
    del idle
    gc.collect()

    assert gone() is None
    assert [is_open(other_end) for _, other_end in pairs] == [False, True, True]


@pytest.mark.parametrize("url", ["https://a..example:1/", "https://localhost/"])
def test_a_connection_that_does_not_come_about_leaves_nothing_open(wire: Wire, url: str) -> None:
    """Neither before TLS nor in it."""
    wire.script = lambda connection: connection.sendall(b"no TLS")
    scheme, host, _ = origin(url)
    call = Call(5)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    destination = Origin(scheme, host, wire.port)

    with pytest.raises((OSError, ValueError)):
        Connection.opened(destination, proxy=None, context=context, dialer=Dialer(), call=call)
    assert call._socket is None
