"""spatio_django.oidc.call: time that is kept, whatever the other end does."""

import socket
import threading
import time
from typing import Any

import pytest

from spatio_django.oidc.call import Call, Dialer, Watchdog
from tests.oidc.wire import Wire


def test_an_expired_call_wakes_who_waits_on_its_socket() -> None:
    """Even while bytes go on arriving, which would restart a socket's own timeout."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        call = Call(0.1)
        call.guard(ours)
        Watchdog().watch(call)

        assert ours.recv(1) == b""
        assert call.expired
        call.finish()


def test_a_call_guards_its_newest_socket_only() -> None:
    """The first one may have gone back to its pool."""
    ours, theirs = socket.socketpair()
    other, peer = socket.socketpair()
    with ours, theirs, other, peer:
        call = Call(5)
        call.guard(ours)
        call.guard(other)
        call.expire()
        theirs.sendall(b"x")

        assert ours.recv(1) == b"x"
        assert other.recv(1) == b""
        call.finish()


def test_a_finished_call_leaves_its_connection_alone() -> None:
    """It serves the next call by now."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        call = Call(5)
        call.guard(ours)
        call.finish()
        call.expire()
        theirs.sendall(b"x")

        assert ours.recv(1) == b"x"


def test_an_expired_call_accepts_no_socket() -> None:
    """Time may be up while the connection is being made."""
    call = Call(5)
    call.expire()
    with socket.socket() as connection, pytest.raises(TimeoutError):
        call.guard(connection)
    call.finish()


def test_expiring_survives_a_socket_that_is_gone() -> None:
    """The other end may have reset the connection first."""
    with socket.socket() as never_connected:
        call = Call(5)
        call.guard(never_connected)
        call.expire()

        assert call.expired
        call.finish()


def test_one_thread_watches_all_calls_and_ends_with_them() -> None:
    """In order of their ends, not of their beginnings."""
    watchdog = Watchdog()
    calls = [Call(seconds) for seconds in (0.3, 0.1, 0.2, 0.1)]
    before = set(threading.enumerate())
    for call in calls:
        watchdog.watch(call)

    (thread,) = set(threading.enumerate()) - before
    assert thread.daemon
    time.sleep(0.15)
    assert [call._expired for call in calls] == [False, True, False, True]
    time.sleep(0.3)
    assert all(call._expired for call in calls)
    assert not thread.is_alive()
    watchdog.watch(late := Call(0.01))
    time.sleep(0.1)
    assert late._expired


def test_a_finished_call_keeps_no_thread_awake() -> None:
    """A busy site makes many; the thread that watches wakes for one of them, and forgets the others."""
    watchdog = Watchdog()
    before = set(threading.enumerate())
    watchdog.watch(Call(0.1))
    for _ in range(3):
        watchdog.watch(done := Call(60))
        done.finish()
    watchdog.watch(waiting := Call(0.3))

    (thread,) = set(threading.enumerate()) - before
    time.sleep(0.2)
    assert thread.is_alive()
    assert not waiting._expired
    thread.join(1)
    assert thread not in threading.enumerate()
    assert waiting.expired
    assert not done._expired


def test_calls_end_in_their_order_after_others_were_forgotten() -> None:
    """What is left when the finished ones are gone is still sorted by its end."""
    watchdog = Watchdog()
    first = Call(0.05)
    calls = [Call(0.1 + 0.01 * ((number * 7) % 31)) for number in range(31)]
    for call in (first, *calls):
        watchdog.watch(call)
    for call in calls[::2]:
        call.finish()
    time.sleep(0.08)  # the first has ended, and the finished ones are forgotten

    left = [entry[0] for entry in watchdog._calls]
    assert len(left) == 15
    assert all(left[(place - 1) // 2] <= left[place] for place in range(1, len(left)))


def addresses(*ports: int) -> list[Any]:
    """What a name lookup gives."""
    return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port)) for port in ports]


def closed_port() -> int:
    """A port where nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def connect(call: Call) -> socket.socket:
    """Connect as http.py does."""
    options = [(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)]
    return Dialer().connect("provider.example", 443, call=call, options=options)


def test_the_next_address_is_tried(wire: Wire, monkeypatch: pytest.MonkeyPatch) -> None:
    """A host with a broken IPv6 route is reached all the same."""
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: addresses(closed_port(), wire.port))
    call = Call(5)

    with connect(call) as connection:
        assert connection.getpeername() == ("127.0.0.1", wire.port)
        assert connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
    call.finish()


@pytest.mark.parametrize(("host", "family"), [("127.0.0.1", socket.AF_INET), ("::1", socket.AF_INET6)])
def test_an_address_is_not_looked_up(
    host: str, family: socket.AddressFamily, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There is nobody to ask, and no thread to wait for."""
    monkeypatch.setattr(Dialer, "_look_up", lambda *_: pytest.fail("looked up"))
    call = Call(5)

    with socket.create_server((host, 0), family=family) as server:
        port = server.getsockname()[1]
        with Dialer().connect(host, port, call=call, options=[]) as connection:
            assert connection.getpeername()[:2] == (host, port)
    call.finish()
    with pytest.raises(pytest.fail.Exception, match="looked up"):
        Dialer().connect("localhost", port, call=call, options=[])


@pytest.mark.parametrize("ports", [0, 1, 2])
def test_no_address_that_answers_is_an_error(ports: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also if the name has no address at all."""
    found = addresses(*[closed_port() for _ in range(ports)])
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found)
    call = Call(5)

    with pytest.raises(OSError, match=r"no address|refused"):
        connect(call)
    call.finish()


def test_a_hanging_lookup_costs_one_thread_and_keeps_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    """``getaddrinfo`` can take half a minute, and nothing interrupts it."""
    release = threading.Event()
    lookups: list[str] = []

    def hang(host: str, *_: object, **__: object) -> list[Any]:
        lookups.append(host)
        release.wait(10)
        raise socket.gaierror(socket.EAI_AGAIN, "temporary failure")

    monkeypatch.setattr(socket, "getaddrinfo", hang)
    dialer = Dialer()
    for _ in range(3):
        with pytest.raises(TimeoutError):
            dialer.connect("provider.example", 443, call=Call(0.05), options=())
    assert lookups == ["provider.example"]

    release.set()
    with pytest.raises(OSError, match="gaierror"):
        dialer.connect("other.example", 443, call=Call(5), options=())
    assert lookups == ["provider.example", "other.example"]
