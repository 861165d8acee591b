"""Any bytes as an answer: a value of bounded size or an error, and the next call is not harmed."""

from collections.abc import Iterator

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from spatio_django.exceptions import ProtocolViolation, ProviderUnavailable
from spatio_django.oidc.answer import MAX_RETRY_AFTER, Answer
from spatio_django.oidc.http import Http
from tests.oidc.wire import Wire, reply
from tests.properties.support import judged, mutated, part

LIMIT = 1000
GENUINE = reply(b'{"a": 1}', "Content-Type: application/json", "Retry-After: 30", "Connection: keep-alive")
CHUNKED = (
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Type: application/json\r\n\r\n"
    b'4\r\n{"a"\r\n4;x=y\r\n: 1}\r\n0\r\nTrailer: x\r\n\r\n'
)
PIECES = (
    *(b"\r\n", b"\n", b"\r", b"\r\n\r\n", b" ", b":", b"\0", b"\xff", b"\t x", b"0\r\n\r\n"),
    *(b"-1\r\n", b"1_0\r\n", b"ffffffffffffffff\r\n", b"fffffffffffffffff\r\n"),
    *(b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 204 No\r\n", b"HTTP/1.1 302 F\r\nLocation: /\r\n"),
    *(b"HTTP/0.9 200\r\n", b"HTTP/2 999 x\r\n", b"HTTP/1.1 9999999999 x\r\n"),
    *(b"Content-Length: -1\r\n", b"Content-Length: 1, 2\r\n", b"Content-Length: 9999999999999\r\n"),
    *(b"Transfer-Encoding: chunked\r\n", b"Transfer-Encoding: gzip, chunked\r\n"),
    *(b"Content-Encoding: gzip\r\n", b"Set-Cookie: a=b; expires=" + b"0" * 500 + b"\r\n"),
    *(b"Connection: close\r\n", b"A: " + b"x" * 70_000 + b"\r\n", b"B: x\r\n" * 101),
    *(b"x" * (LIMIT + 1), b"Retry-After: \xb2\r\n", b"Content-Type: a\r\n b\r\n"),
)
STARTS = st.lists(st.sampled_from(PIECES), max_size=6).map(b"".join)
ANSWERS = (
    mutated(GENUINE, *PIECES)
    | mutated(CHUNKED, *PIECES)
    | st.lists(st.sampled_from(PIECES), max_size=6).map(
        lambda parts: b"HTTP/1.1 200 OK\r\n" + b"".join(parts)
    )
    | st.binary(max_size=300)
)


@pytest.fixture(scope="module")
def wire() -> Iterator[Wire]:
    """Give a server of bytes on loopback, for all examples."""
    with Wire() as server:
        yield server


@pytest.fixture(scope="module")
def http() -> Iterator[Http]:
    """Give a way out that keeps its connections from one example to the next."""
    http = Http(timeout=20)
    yield http
    http.close()


@part(0.6)
@given(ANSWERS, st.booleans())
@example(GENUINE, True)
@example(CHUNKED, True)
@example(reply(b"x" * LIMIT), True)
@example(reply(b"x" * (LIMIT + 1)), False)
@example(b"HTTP/1.1 103 Early Hints\r\n\r\n" + GENUINE, True)
@example(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n-1\r\n", True)
def test_any_bytes_give_an_answer_or_an_error(wire: Wire, http: Http, data: bytes, is_get: bool) -> None:
    """Within the limit, with the headers that matter and a status that means something. Then all goes on."""

    def call() -> Answer:
        if is_get:
            return http.get(wire.url, limit=LIMIT)
        # Not on a connection that the example before has closed: a POST is not made again.
        return http.post_form(wire.url, {}, limit=LIMIT, fresh=True)

    wire.script = wire.says(data)
    result = judged(call)

    if isinstance(result, Answer):
        assert 200 <= result.status < 300 or 400 <= result.status <= 999
        assert len(result.body) <= LIMIT
        assert {*result.headers} <= {"content-type", "retry-after", "www-authenticate", "cache-control"}
        for value in result.headers.values():
            assert value.isascii()
            assert value.isprintable()
            assert len(value) <= 1024
        assert result.retry_after is None or 0 <= result.retry_after <= MAX_RETRY_AFTER
        if data in {GENUINE, CHUNKED}:
            assert result.json_object() == {"a": 1}
    else:
        assert isinstance(result, ProviderUnavailable | ProtocolViolation)
        assert data not in {GENUINE, CHUNKED}
        assert result.code in {"interrupted", "redirect", "encoded", "too_large"}
        assert result.context["endpoint"] == wire.url

    wire.script = wire.says(GENUINE)
    assert http.get(wire.url, limit=LIMIT).json_object() == {"a": 1}
