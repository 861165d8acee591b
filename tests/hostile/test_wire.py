"""What is below the answer: how much of it, how slowly, and whether it comes to an end."""

import contextlib
import json
import socket
import ssl
import struct
import tracemalloc
from collections.abc import Callable, Iterator

import pytest
import trustme

from spatio_django.oidc.discovery import METADATA_LIMIT
from spatio_django.oidc.keys import JWKS_LIMIT
from spatio_django.oidc.responses import TOKEN_LIMIT, USERINFO_LIMIT
from tests.hostile.conftest import DISCOVERY, KEYS, TOKEN, USERINFO, Hostile, endpoints
from tests.hostile.front import HUGE, SEND_BUFFER, Deed, Front, body_of, hang
from tests.oidc.wire import Wire, reply

JSON = "Content-Type: application/json"
LIMITS = {DISCOVERY: METADATA_LIMIT, KEYS: JWKS_LIMIT, TOKEN: TOKEN_LIMIT, USERINFO: USERINFO_LIMIT}
#: Bytes that may leave the provider of an answer that is not wanted: what the two systems hold in between.
SENT = 2 * 1024 * 1024
#: Bytes of memory that one refusal may take at its height.
MEMORY = 4 * 1024 * 1024
#: Seconds that a call may take where the provider is slow.
IMPATIENT = 0.5


def head(*lines: str, status: str = "200 OK") -> bytes:
    """Give the head of an answer."""
    return "\r\n".join([f"HTTP/1.1 {status}", JSON, *lines, "", ""]).encode()


def chunk(data: bytes, extension: bytes = b"") -> bytes:
    """Give one chunk."""
    return b"%x%s\r\n%s\r\n" % (len(data), extension, data)


def closing(data: Callable[[bytes], bytes]) -> Deed:
    """Send what *data* makes of the honest answer, and close."""

    def deed(connection: socket.socket, answer: bytes) -> None:
        connection.sendall(data(answer))
        connection.shutdown(socket.SHUT_RDWR)

    return deed


def resetting(data: Callable[[bytes], bytes]) -> Deed:
    """Send what *data* makes of the honest answer, and tear the connection."""

    def deed(connection: socket.socket, answer: bytes) -> None:
        connection.sendall(data(answer))
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        connection.close()

    return deed


# --- too much ---------------------------------------------------------------------------------------------


def floods(front: Front) -> dict[str, tuple[Deed, str, int]]:
    """Give answers that don't end before 16 MiB, and what each is refused as."""

    def pouring(start: bytes, part: bytes) -> Deed:
        def deed(connection: socket.socket, _: bytes) -> None:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER)
            with contextlib.suppress(OSError):
                connection.sendall(start)
            front.pour(connection, part)

        return deed

    chunked = head("Transfer-Encoding: chunked")
    block = 64 * 1024
    return {
        "16 MiB with a length": (pouring(head(f"Content-Length: {HUGE}"), b" " * block), "too_large", 502),
        "16 MiB without": (pouring(head("Connection: close"), b" " * block), "too_large", 502),
        "an honest beginning": (pouring(head() + b'{"sub": "', b"x" * block), "too_large", 502),
        "a terabyte announced": (pouring(head(f"Content-Length: {2**40}"), b"[" * block), "too_large", 502),
        "endless chunks": (pouring(chunked, chunk(b" " * block)), "too_large", 502),
        "endless chunks of one byte": (pouring(chunked, chunk(b" ") * 10_000), "too_large", 502),
        "one chunk of 16 MiB": (pouring(chunked + b"1000000\r\n", b" " * block), "too_large", 502),
        "an endless chunk size": (pouring(chunked, b"0" * block), "interrupted", 503),
        "an endless chunk extension": (pouring(chunked + b"1;x=", b"y" * block), "interrupted", 503),
        "endless trailers": (pouring(chunked + b"0\r\n", b"X-T: y\r\n" * 8000), "interrupted", 503),
        "an endless trailer": (pouring(chunked + b"0\r\nX: ", b"y" * block), "interrupted", 503),
        "an endless status line": (pouring(b"HTTP/1.1 200 ", b"O" * block), "interrupted", 503),
        "an endless header": (pouring(head()[:-2] + b"X: ", b"y" * block), "interrupted", 503),
        "endless headers": (pouring(head()[:-2], b"X-H: y\r\n" * 8000), "interrupted", 503),
        "endless cookies": (pouring(head()[:-2], b"Set-Cookie: a=b\r\n" * 4000), "interrupted", 503),
        "endless folded header": (pouring(head()[:-2] + b"X: y\r\n", b" y\r\n" * 16000), "interrupted", 503),
        "endless interim answers": (
            pouring(b"", b"HTTP/1.1 100 Continue\r\n\r\n" * 2000),
            "interrupted",
            503,
        ),
        "endless early hints": (
            pouring(b"", b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n" * 1000),
            "interrupted",
            503,
        ),
        "compressed": (
            pouring(head("Content-Encoding: gzip"), b"\x1f\x8b\x08" + b"\0" * block),
            "encoded",
            502,
        ),
        "a redirect with a body": (
            pouring(head("Location: /", status="302 Found"), b" " * block),
            "redirect",
            502,
        ),
        "an error page": (pouring(head(status="500 Oops"), b"<p>" * 20_000), "too_large", 502),
    }


@endpoints
def test_a_flood_is_not_drunk(hostile: Hostile, endpoint: str, subtests: pytest.Subtests) -> None:
    """Of 16 MiB the provider gets rid of what the systems hold in between, and little is kept."""
    hostile.accepts()
    hostile.timeout = 30  # memory is traced, which takes its time where each byte has a chunk of its own
    for name, (deed, code, status) in floods(hostile.front).items():
        with subtests.test(name):
            hostile.do(endpoint, deed)
            tracemalloc.start()
            try:
                hostile.refuses(code, status, endpoint=endpoint)
                assert tracemalloc.get_traced_memory()[1] < MEMORY
            finally:
                tracemalloc.stop()
            hostile.front.rest()
            assert hostile.front.sent < SENT


@endpoints
def test_a_body_may_be_as_large_as_its_limit_and_no_larger(hostile: Hostile, endpoint: str) -> None:
    """One byte decides; with a length, in chunks, and up to the end of the connection."""
    limit = LIMITS[endpoint]
    framings: list[Callable[[bytes], bytes]] = [
        lambda body: reply(body, JSON),
        lambda body: head("Transfer-Encoding: chunked") + chunk(body) + chunk(b""),
        lambda body: head() + body,
    ]

    def padded(size: int, framing: Callable[[bytes], bytes]) -> Deed:
        return closing(lambda answer: framing(body_of(answer).ljust(size)))

    for framing in framings:
        hostile.do(endpoint, padded(limit, framing))
        hostile.new_process()
        hostile.accepts()
        hostile.do(endpoint, padded(limit + 1, framing))
        hostile.refuses("too_large", endpoint=endpoint)


# --- too slow ---------------------------------------------------------------------------------------------


def delays(front: Front) -> dict[str, Deed]:
    """Give answers that would be there in an hour."""

    def dripping(start: Callable[[bytes], bytes], rest: Callable[[bytes], bytes]) -> Deed:
        def deed(connection: socket.socket, answer: bytes) -> None:
            connection.sendall(start(answer))
            front.drip(connection, rest(answer), every=IMPATIENT / 8)

        return deed

    def hanging(start: Callable[[bytes], bytes]) -> Deed:
        def deed(connection: socket.socket, answer: bytes) -> None:
            connection.sendall(start(answer))
            hang(connection)

        return deed

    def middle(answer: bytes) -> int:
        return len(answer) - len(body_of(answer)) // 2

    return {
        "a head, byte by byte": dripping(lambda _: b"", lambda answer: answer),
        "a body, byte by byte": dripping(
            lambda answer: answer[: -len(body_of(answer))], lambda answer: body_of(answer)
        ),
        "chunks of a byte": dripping(
            lambda _: head("Transfer-Encoding: chunked"), lambda _: chunk(b"{") * 1000
        ),
        "interim answers": dripping(lambda _: b"", lambda _: b"HTTP/1.1 100 Continue\r\n\r\n" * 100),
        "trailers": dripping(
            lambda answer: head("Transfer-Encoding: chunked") + chunk(body_of(answer)) + b"0\r\n",
            lambda _: b"X: y\r\n" * 100,
        ),
        "nothing": hanging(lambda _: b""),
        "half a status line": hanging(lambda answer: answer[:7]),
        "half a head": hanging(lambda answer: answer[:40]),
        "a head and no body": hanging(lambda answer: answer[: -len(body_of(answer))]),
        "half a body": hanging(lambda answer: answer[: middle(answer)]),
        "all but the last byte": hanging(lambda answer: answer[:-1]),
        "all, and no end": hanging(lambda answer: head() + body_of(answer)),
    }


@endpoints
@pytest.mark.parametrize("name", delays(Front.__new__(Front)))
def test_a_slow_answer_ends_with_the_deadline(hostile: Hostile, endpoint: str, name: str) -> None:
    """However many bytes come, the call is over in time; in the head, in the body, and after it."""
    hostile.accepts()
    hostile.timeout = IMPATIENT
    hostile.do(endpoint, delays(hostile.front)[name])

    hostile.refuses("timeout", 503, endpoint=endpoint)


# --- broken -----------------------------------------------------------------------------------------------

BREAKS: dict[str, Deed] = {
    "closed at once": closing(lambda _: b""),
    "closed in the status line": closing(lambda answer: answer[:10]),
    "closed in the head": closing(lambda answer: answer[:40]),
    "closed before the body": closing(lambda answer: answer[: -len(body_of(answer))]),
    "closed in the body": closing(lambda answer: answer[:-2]),
    "closed in a chunk": closing(
        lambda answer: head("Transfer-Encoding: chunked") + chunk(body_of(answer))[:-9]
    ),
    "closed before the last chunk": closing(
        lambda answer: head("Transfer-Encoding: chunked") + chunk(body_of(answer))
    ),
    "reset at once": resetting(lambda _: b""),
    "reset in the head": resetting(lambda answer: answer[:40]),
    "reset in the body": resetting(lambda answer: answer[:-2]),
    "no http": closing(lambda _: b"SSH-2.0-OpenSSH_9.2\r\n"),
    "http/2": closing(lambda _: b"\0\0\x12\x04\0\0\0\0\0\0\x03\0\0\0\x80\0\x04\0\x01\0\0"),
    "http/0.9": closing(lambda answer: body_of(answer)),
    "another protocol": closing(lambda answer: answer.replace(b"HTTP/1.1", b"ICY")),
    "tls where none is expected": closing(lambda _: b"\x15\x03\x03\x00\x02\x02\x46"),
    "line breaks only": closing(lambda _: b"\r\n" * 100),
    "zeros": closing(lambda _: b"\0" * 1000),
    "a negative chunk": closing(
        lambda answer: head("Transfer-Encoding: chunked") + b"-1\r\n" + body_of(answer)
    ),
    "a chunk with a foreign size": closing(
        lambda answer: head("Transfer-Encoding: chunked") + b"0x10\r\n" + body_of(answer)
    ),
}


@endpoints
def test_a_connection_that_breaks_is_an_interruption(
    hostile: Hostile, endpoint: str, subtests: pytest.Subtests
) -> None:
    """Wherever it breaks; and what is no HTTP never was an answer."""
    hostile.do(endpoint, closing(lambda answer: answer))
    hostile.accepts()
    for name, deed in BREAKS.items():
        with subtests.test(name):
            hostile.do(endpoint, deed)
            hostile.refuses("interrupted", 503, endpoint=endpoint)


@endpoints
@pytest.mark.parametrize("length", ["-1", "abc", "1e3", "0x10", "", " ", "9" * 30, "5, 5"])
def test_a_length_that_is_none_gives_no_half_an_answer(hostile: Hostile, endpoint: str, length: str) -> None:
    """RFC 9112 §6.3: nobody knows where the body ends then, even if all of it seems to be there."""
    hostile.accepts()
    hostile.new_process()
    hostile.do(endpoint, closing(lambda answer: head(f"Content-Length: {length}") + body_of(answer)))
    hostile.refuses("interrupted", 503, endpoint=endpoint)


@endpoints
def test_what_follows_an_answer_is_not_taken_for_the_next(hostile: Hostile, endpoint: str) -> None:
    """An answer of somebody else's, smuggled behind the honest one, meets a connection that is closed."""
    hostile.accepts()
    forged = reply(json.dumps({"sub": "somebody-else", "keys": [], "error": "invalid_grant"}).encode(), JSON)
    hostile.do(endpoint, lambda connection, answer: connection.sendall(answer + forged))
    hostile.new_process()

    for _ in range(3):
        hostile.accepts()


@endpoints
def test_two_lengths_are_an_interruption(hostile: Hostile, endpoint: str) -> None:
    """RFC 9112 §6.3: where they differ, what is left over would be the next answer."""
    hostile.accepts()
    forged = reply(b'{"sub": "somebody-else"}', JSON)

    def deed(connection: socket.socket, answer: bytes) -> None:
        body = body_of(answer)
        lengths = f"Content-Length: {len(body)}", f"Content-Length: {len(body + forged)}"
        connection.sendall(head(*lengths) + body + forged)

    hostile.do(endpoint, deed)
    hostile.new_process()

    hostile.refuses("interrupted", 503, endpoint=endpoint)
    hostile.be_honest()
    hostile.new_process()
    for _ in range(3):
        hostile.accepts()


# --- no connection ----------------------------------------------------------------------------------------

#: Endpoints that the metadata can put elsewhere, and the names they have there.
MOVABLE = {TOKEN: "token_endpoint", KEYS: "jwks_uri", USERINFO: "userinfo_endpoint"}
movable = pytest.mark.parametrize("endpoint", MOVABLE, ids=("token", "jwks", "userinfo"))


def move(hostile: Hostile, endpoint: str, url: str) -> None:
    """Have the metadata say that *endpoint* is at *url*."""
    hostile.accepts()
    hostile.change_members(DISCOVERY, **{MOVABLE[endpoint]: url})
    hostile.new_process()


@movable
def test_nobody_listening_is_unreachable(hostile: Hostile, endpoint: str) -> None:
    """A port where the connection is refused, and a name that nobody has."""
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    move(hostile, endpoint, f"http://127.0.0.1:{port}/")
    hostile.refuses("unreachable", 503)
    move_again = f"https://{'x' * 64}.invalid/"
    hostile.change_members(DISCOVERY, **{MOVABLE[endpoint]: move_again})
    hostile.new_process()
    hostile.refuses("unreachable", 503)


@pytest.fixture
def deaf() -> Iterator[int]:
    """Give a port where connections are neither accepted nor refused: its queue is full."""
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
        for _ in range(3):
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                waiting.connect(listener.getsockname())
        yield listener.getsockname()[1]


@movable
def test_a_connection_that_is_not_accepted_ends_with_the_deadline(
    hostile: Hostile, endpoint: str, deaf: int
) -> None:
    """The handshake of TCP counts too."""
    move(hostile, endpoint, f"http://127.0.0.1:{deaf}/")
    hostile.timeout = IMPATIENT

    hostile.refuses("timeout", 503)


@movable
@pytest.mark.parametrize("script", ["hang", "drip"])
def test_a_tls_handshake_that_does_not_end_ends_with_the_deadline(
    hostile: Hostile, endpoint: str, script: str
) -> None:
    """Whether nothing comes, or a record byte by byte."""
    with Wire() as wire:

        def drip(connection: socket.socket) -> None:
            hostile.front.drip(connection, b"\x16\x03\x03\x20\x00" + b"\x02" * 8000, every=IMPATIENT / 8)

        wire.script = hang if script == "hang" else drip
        move(hostile, endpoint, wire.url.replace("http:", "https:"))
        hostile.timeout = IMPATIENT

        hostile.refuses("timeout", 503)


@movable
@pytest.mark.parametrize("kind", ["no tls", "unknown authority", "another name", "tls 1.1", "closed"])
def test_a_handshake_that_fails_sends_nothing(hostile: Hostile, endpoint: str, kind: str) -> None:
    """No certificate, no code, no secret and no token."""
    with Wire() as wire:
        wire.script = wire.says(reply(b"{}"))
        if kind not in {"no tls", "closed"}:
            wire.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            name = "elsewhere.example" if kind == "another name" else "127.0.0.1"
            trustme.CA().issue_cert(name).configure_cert(wire.context)
            if kind == "tls 1.1":
                wire.context.maximum_version = ssl.TLSVersion.TLSv1_2
                wire.context.set_ciphers("NULL-MD5:AES128-SHA")
        if kind == "no tls":
            wire.script = lambda connection: connection.sendall(reply(b"{}"))
        if kind == "closed":
            wire.script = lambda connection: connection.shutdown(socket.SHUT_RDWR)
        move(hostile, endpoint, wire.url.replace("http:", "https:"))

        hostile.refuses("tls", 503)

        assert not any(b"HTTP/1" in request for request in wire.requests)
