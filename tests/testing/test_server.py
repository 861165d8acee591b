"""The HTTP server: loopback only, connections kept alive, bodies bounded, a clean end."""

import http.client
import socket
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from typing import Any

import pytest

from spatio_django.testing import FakeSpatio, RecordedRequest
from tests.testing.relying_party import RelyingParty, fetch

JWKS = "/.well-known/jwks.json"


@pytest.fixture
def connection(spatio: FakeSpatio) -> Iterator[http.client.HTTPConnection]:
    """One connection to the provider."""
    with closing(http.client.HTTPConnection(spatio.host, spatio.port, timeout=10)) as connection:
        yield connection


@pytest.mark.parametrize(
    "host",
    ["0.0.0.0", "::", "", "192.0.2.1", "10.0.0.1", "example.com", "localhost.example.com", "2001:db8::1"],  # noqa: S104
)
def test_it_refuses_to_be_reachable(host: str) -> None:
    """Everybody may be anybody here, so nobody else may come."""
    with pytest.raises(ValueError, match="loopback"):
        FakeSpatio(host=host)


@pytest.mark.parametrize(
    ("host", "origin"),
    [("127.0.0.1", "http://127.0.0.1"), ("127.0.0.2", "http://127.0.0.2"), ("localhost", "http://localhost")],
)
def test_it_serves_loopback(host: str, origin: str) -> None:
    """The issuer is the origin, and endpoints begin with it."""
    with FakeSpatio(host=host) as spatio:
        assert spatio.issuer == f"{origin}:{spatio.port}"
        assert fetch(spatio.issuer + JWKS).status == 200
        rp = RelyingParty(spatio)
        assert rp.claims(rp.sign_in()["id_token"])["iss"] == spatio.issuer


@pytest.mark.skipif(not socket.has_dualstack_ipv6(), reason="this machine has no IPv6")
def test_it_serves_ipv6_loopback() -> None:
    """In brackets, as URLs have it."""
    with FakeSpatio(host="::1") as spatio:
        assert spatio.issuer == f"http://[::1]:{spatio.port}"
        assert fetch(spatio.issuer + JWKS).status == 200


def test_a_foreign_host_name_is_refused(spatio: FakeSpatio) -> None:
    """Another name that was pointed at 127.0.0.1 (DNS rebinding)."""
    for host in ("evil.example", f"evil.example:{spatio.port}", "[::1", ""):
        assert fetch(spatio.issuer + JWKS, headers={"Host": host}).status == 400
    assert fetch(spatio.issuer + JWKS, headers={"Host": f"localhost:{spatio.port}"}).status == 200


def test_two_requests_share_one_connection(
    spatio: FakeSpatio, connection: http.client.HTTPConnection
) -> None:
    """HTTP/1.1, with a length in every answer, whatever its status or method."""
    requests: list[tuple[str, str, bytes | None]] = [
        ("GET", JWKS, None),
        ("GET", "/nowhere", None),
        ("HEAD", JWKS, None),
        ("POST", "/oauth2/revoke", b"token=x"),
        ("POST", "/oauth2/token", b"unread" * 1000),
        ("DELETE", JWKS, None),
        ("GET", "/oauth2/userinfo", None),
        ("GET", "/static/provider.css", None),
    ]
    for method, path, body in requests:
        headers = {"Content-Type": "application/x-www-form-urlencoded"} if body else {}
        connection.request(method, path, body, headers)
        answer = connection.getresponse()
        answer.read()
        assert answer.version == 11
        assert answer.headers["Content-Length"] is not None
        assert answer.headers["Connection"] is None

    assert spatio.connections == 1
    assert {request.connection for request in spatio.requests} == {1}


def test_connections_are_numbered(spatio: FakeSpatio) -> None:
    """So that a test can say which request came over which."""
    for _ in range(3):
        fetch(spatio.issuer + JWKS)

    assert spatio.connections == 3
    assert [request.connection for request in spatio.calls(JWKS)] == [1, 2, 3]


def test_keep_alive_does_not_stall(connection: http.client.HTTPConnection) -> None:
    """Without TCP_NODELAY each answer would wait 40 ms for an acknowledgement."""
    connection.request("GET", JWKS)  # makes the key
    connection.getresponse().read()
    started = time.perf_counter()
    for _ in range(50):
        connection.request("POST", "/oauth2/introspect", b"token=x")
        connection.getresponse().read()

    assert time.perf_counter() - started < 50 * 0.04


def test_requests_are_recorded_without_their_secrets(spatio: FakeSpatio, rp: RelyingParty) -> None:
    """Names of form fields, the query, the scheme of the credentials; no values of bodies or headers."""
    spatio.requests.clear()
    rp.token(grant_type="refresh_token", refresh_token="a secret")
    fetch(spatio.issuer + "/consent?request=1&request=2&empty=")

    assert spatio.requests == [
        RecordedRequest(
            method="POST",
            path="/oauth2/token",
            form=("grant_type", "refresh_token"),
            authorization="Basic",
            connection=1,
        ),
        RecordedRequest(method="GET", path="/consent", query={"request": "2", "empty": ""}, connection=2),
    ]


def test_a_chunked_body_is_read(connection: http.client.HTTPConnection) -> None:
    """RFC 9112 §7.1."""
    chunks: Iterable[bytes] = iter([b"tok", b"en=x"])
    headers = {"Content-Type": "application/x-www-form-urlencoded"}
    connection.request("POST", "/oauth2/introspect", chunks, headers, encode_chunked=True)

    assert connection.getresponse().read() == b'{"active": false}'


def test_expect_continue_is_answered(spatio: FakeSpatio) -> None:
    """RFC 9110 §10.1.1: curl sends it with larger bodies, and waits."""
    head = f"POST /oauth2/introspect HTTP/1.1\r\nHost: localhost:{spatio.port}\r\nContent-Length: 7\r\n"
    head += "Content-Type: application/x-www-form-urlencoded\r\nExpect: 100-continue\r\n\r\n"
    with socket.create_connection((spatio.host, spatio.port), timeout=10) as peer:
        peer.sendall(head.encode())
        assert peer.recv(1000).startswith(b"HTTP/1.1 100 ")
        peer.sendall(b"token=x")
        assert peer.recv(1000).startswith(b"HTTP/1.1 200 ")


@pytest.mark.parametrize(("length", "status"), [(b"1048577", b"413"), (b"many", b"400"), (b"-1", b"400")])
def test_a_body_that_cannot_be_read_ends_the_connection(
    spatio: FakeSpatio, length: bytes, status: bytes
) -> None:
    """Too long, or of no length: what follows can't be told from a next request."""
    with socket.create_connection((spatio.host, spatio.port), timeout=10) as peer:
        peer.sendall(
            b"POST /oauth2/token HTTP/1.1\r\nHost: localhost\r\nContent-Length: " + length + b"\r\n\r\n"
        )
        if status == b"413":
            peer.sendall(b"x" * 1048577)
        answer = b""
        while received := peer.recv(10000):
            answer += received

    assert answer.startswith(b"HTTP/1.1 " + status)
    assert b"Connection: close" in answer


def test_http_1_0_closes(spatio: FakeSpatio) -> None:
    """As that version has it."""
    with socket.create_connection((spatio.host, spatio.port), timeout=10) as peer:
        peer.sendall(b"GET /.well-known/jwks.json HTTP/1.0\r\nHost: localhost\r\n\r\n")
        answer = b""
        while received := peer.recv(10000):
            answer += received

    assert b"200 OK" in answer
    assert answer.endswith(b"]}\n")


def test_nonsense_is_refused(spatio: FakeSpatio, caplog: pytest.LogCaptureFixture) -> None:
    """Not HTTP at all."""
    with socket.create_connection((spatio.host, spatio.port), timeout=10) as peer:
        peer.sendall(b"\x16\x03\x01 nonsense\r\n\r\n")
        assert b"400" in peer.recv(10000)
    assert fetch(spatio.issuer + JWKS).status == 200
    assert {record.name for record in caplog.records} == {"spatio_django.testing"}


def test_a_peer_that_hangs_up_is_no_error(spatio: FakeSpatio, caplog: pytest.LogCaptureFixture) -> None:
    """In the middle of a request."""
    with socket.create_connection((spatio.host, spatio.port), timeout=10) as peer:
        peer.sendall(b"POST /oauth2/token HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\nhalf")
    assert fetch(spatio.issuer + JWKS).status == 200
    assert not [record for record in caplog.records if record.levelname == "ERROR"]


@pytest.mark.parametrize("path", ["/nowhere", "/oauth2/nowhere"])
def test_an_unknown_page_is_not_found(spatio: FakeSpatio, path: str) -> None:
    """In words."""
    answer = fetch(spatio.issuer + path)
    assert answer.status == 404
    assert "not found" in answer.text.lower()


def test_other_methods_are_not_allowed(spatio: FakeSpatio) -> None:
    """With the ones that are."""
    answer = fetch(spatio.issuer + "/oauth2/token")
    assert answer.status == 405
    assert set((answer.headers["Allow"] or "").split(", ")) == {"OPTIONS", "POST"}


def test_wrap_puts_middleware_around_it() -> None:
    """The seam for misbehaviour; requests that it answers itself are recorded all the same."""

    def wrap(app: Any) -> Callable[..., Iterable[bytes]]:
        def middleware(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
            if environ["PATH_INFO"] == "/written":
                start_response("200 OK", [])(b"written ")
                return [b"and returned"]
            if environ["PATH_INFO"] == "/broken":
                raise RuntimeError("on purpose")
            result: Iterable[bytes] = app(environ, start_response)
            return result

        return middleware

    with FakeSpatio(wrap=wrap) as spatio:
        assert fetch(spatio.issuer + "/written").text == "written and returned"
        assert fetch(spatio.issuer + "/broken").status == 500
        assert fetch(spatio.issuer + JWKS).status == 200
        assert len(spatio.requests) == 3


def test_a_fault_of_its_own_is_a_500_and_in_the_log(
    spatio: FakeSpatio, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """With its traceback, so that it can be reported."""
    monkeypatch.setattr("spatio_django.testing.provider.Provider.metadata", lambda _: 1 / 0)

    assert fetch(spatio.issuer + "/.well-known/openid-configuration").status == 500
    assert "ZeroDivisionError" in caplog.text


def test_a_failing_connection_is_logged(
    spatio: FakeSpatio, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A fault in the server itself ends that connection only."""
    monkeypatch.setattr("spatio_django.testing.server.call", lambda *_: 1 / 0)
    with pytest.raises(http.client.HTTPException):
        fetch(spatio.issuer + JWKS)
    monkeypatch.undo()

    assert fetch(spatio.issuer + JWKS).status == 200
    assert "ZeroDivisionError" in caplog.text


def test_stop_ends_idle_connections_at_once(connection: http.client.HTTPConnection) -> None:
    """And waits for its threads, and can be called again."""
    import threading

    before = set(threading.enumerate())
    spatio = FakeSpatio()
    spatio.stop()
    assert (spatio.requests, spatio.connections) == ([], 0)
    spatio.start()
    idle = http.client.HTTPConnection(spatio.host, spatio.port, timeout=10)
    with closing(idle):
        idle.request("GET", JWKS)
        idle.getresponse().read()
        started = time.perf_counter()
        spatio.stop()
        assert time.perf_counter() - started < 2
        assert set(threading.enumerate()) <= before
        assert idle.sock is not None
        assert idle.sock.recv(1) == b""
    spatio.stop()
    with pytest.raises(OSError, match="refused"):
        fetch(spatio.issuer + JWKS)


def test_it_starts_once(spatio: FakeSpatio) -> None:
    """And a taken port is an OSError, not the end of the process."""
    with pytest.raises(RuntimeError, match="already"):
        spatio.start()
    with pytest.raises(OSError, match="in use"):
        FakeSpatio(port=spatio.port).start()


def test_it_can_be_started_again() -> None:
    """On the same port, with what it knew."""
    spatio = FakeSpatio()
    with spatio:
        rp = RelyingParty(spatio)
        issuer, tokens = spatio.issuer, rp.sign_in()
    with spatio:
        assert spatio.issuer == issuer
        assert rp.refresh(tokens["refresh_token"]).status == 200
