"""spatio_django.oidc.http: the only way out, against a server that does what servers must not."""

import base64
import datetime as dt
import gzip
import itertools
import json
import logging
import multiprocessing
import socket
import ssl
import threading
import time
import traceback
import zlib
from collections.abc import Callable, Iterator
from contextlib import suppress
from http import cookiejar
from pathlib import Path
from typing import Any

import certifi
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from spatio_django.exceptions import ConfigurationError, ProtocolViolation, ProviderUnavailable, SpatioError
from spatio_django.oidc import connection as module
from spatio_django.oidc import http as http_module
from spatio_django.oidc.answer import Answer
from spatio_django.oidc.call import Call, Watchdog
from spatio_django.oidc.framing import CHUNK_LINE_LIMIT, HEAD_LIMIT
from spatio_django.oidc.http import Http
from spatio_django.oidc.secret import Secret
from tests.oidc.support import Signer, outcome
from tests.oidc.wire import Script, Wire, reply

LIMIT = 1000
#: Seconds by which a deadline may be missed on a busy machine. What is interrupted would take far longer.
SLACK = 5.0


@pytest.fixture
def http() -> Iterator[Http]:
    """What is tested, patient enough for a busy machine."""
    client = Http(timeout=10)
    yield client
    client.close()


def refused(work: Callable[[], object], code: str) -> SpatioError:
    """Return the error that *work* ends with."""
    with pytest.raises(SpatioError) as caught:
        work()
    assert caught.value.code == code, caught.value.context
    return caught.value


# --- what is sent -----------------------------------------------------------------------------------------


def test_a_get_gives_status_body_and_a_few_headers(http: Http, wire: Wire) -> None:
    """Names in lower case; nothing that is not needed."""
    headers = ["Content-Type: application/json", "RETRY-AFTER: 7", "Server: x", "Cache-Control: no-store"]
    wire.script = wire.says(reply(b'{"a": 1}', *headers, status="404 Not Found"))

    answer = http.get(wire.url + "?a=b", limit=LIMIT)

    assert answer == Answer(
        status=404,
        headers={"content-type": "application/json", "retry-after": "7", "cache-control": "no-store"},
        body=b'{"a": 1}',
    )
    head = wire.requests[0].decode().lower()
    assert head.startswith("get /path?a=b http/1.1\r\n")
    assert "\r\naccept-encoding: identity\r\n" in head
    assert "\r\nuser-agent: spatio-django/" in head
    assert "authorization" not in head


@pytest.mark.parametrize("value", ["x" * 2000, "\x07bell", "caf\xe9", ""])
def test_a_header_that_is_not_plain_text_is_dropped(http: Http, wire: Wire, value: str) -> None:
    """It would end in a log or be parsed further."""
    wire.script = wire.says(reply(b"{}", f"WWW-Authenticate: {value}"))

    assert http.get(wire.url, limit=LIMIT).headers == {}


def test_white_space_around_a_header_is_none_of_it(http: Http, wire: Wire) -> None:
    """RFC 9110 §5.6.3: spaces and tabs."""
    wire.script = wire.says(reply(b"{}", "Content-Type: \t application/json \t "))

    assert http.get(wire.url, limit=LIMIT).headers == {"content-type": "application/json"}


def test_a_bearer_token_goes_into_the_header(http: Http, wire: Wire) -> None:
    """And nowhere else."""
    http.get(wire.url, limit=LIMIT, bearer=Secret("tok_abc"))

    assert b"\r\nAuthorization: Bearer tok_abc\r\n" in wire.requests[0]
    assert wire.requests[0].count(b"tok_abc") == 1


@pytest.mark.parametrize("token", ["", "a b", "a\r\nX: y", "é", "\ud800"])
def test_a_token_that_does_not_fit_a_header_is_not_sent(http: Http, wire: Wire, token: str) -> None:
    """A line break in it would be a second header."""
    refused(lambda: http.get(wire.url, limit=LIMIT, bearer=Secret(token)), "access_token")

    assert wire.connections == 0


def test_a_form_reveals_its_secrets_in_the_body_only(http: Http, wire: Wire) -> None:
    """Form-encoded, as is whatever a caller passes."""
    http.post_form(wire.url, {"code": Secret("a&b=c d"), "x": "\ud800é"}, limit=LIMIT)

    head, _, body = wire.requests[0].partition(b"\r\n\r\n")
    assert b"\r\nContent-Type: application/x-www-form-urlencoded" in head
    assert body == b"code=a%26b%3Dc+d&x=%3F%C3%A9"


def test_basic_credentials_are_form_encoded_first(http: Http, wire: Wire) -> None:
    """RFC 6749 §2.3.1: a colon or an umlaut in them arrives as it was meant."""
    http.post_form(wire.url, {}, limit=LIMIT, basic=("my id:1\ud800", Secret("p/ä+")))

    line = next(line for line in wire.requests[0].split(b"\r\n") if line.startswith(b"Authorization: Basic "))
    assert base64.b64decode(line.rpartition(b" ")[2]) == b"my+id%3A1%3F:p%2F%C3%A4%2B"


def test_a_document_is_posted_as_json(http: Http, wire: Wire) -> None:
    """For registration."""
    http.post_json(wire.url, {"client_name": "Zoë"}, limit=LIMIT)

    head, _, body = wire.requests[0].partition(b"\r\n\r\n")
    assert b"\r\nContent-Type: application/json" in head
    assert json.loads(body) == {"client_name": "Zoë"}


def test_a_document_is_put_with_a_bearer_token(http: Http, wire: Wire) -> None:
    """For a change of the registration; the token is in the header alone."""
    http.put_json(wire.url, {"client_name": "Zoë"}, limit=LIMIT, bearer=Secret("reg_abc"))

    head, _, body = wire.requests[0].partition(b"\r\n\r\n")
    assert head.startswith(b"PUT /path ")
    assert b"\r\nAuthorization: Bearer reg_abc" in head
    assert json.loads(body) == {"client_name": "Zoë"}


def test_an_unsafe_url_is_not_called(http: Http) -> None:
    """Checked again at the only exit, whatever was checked before."""
    refused(lambda: http.get("http://provider.example/", limit=LIMIT), "insecure_url")
    refused(lambda: http.post_form("https://u:p@provider.example/", {}, limit=LIMIT), "insecure_url")


def test_nothing_of_the_environment_is_read(
    http: Http, wire: Wire, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A ``~/.netrc`` would replace our ``Authorization``; a proxy variable would see every code."""
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login thief password thief")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", "/nonexistent")
    for name in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    monkeypatch.delenv("no_proxy", raising=False)

    http.get(wire.url, limit=LIMIT, bearer=Secret("tok_abc"))
    http.get(wire.url, limit=LIMIT)

    assert b"Authorization: Bearer tok_abc\r\n" in wire.requests[0]
    assert b"Authorization" not in wire.requests[1]


def test_no_cookie_is_kept(http: Http, wire: Wire) -> None:
    """One person's sign-in leaves nothing for the next one's."""

    def script(connection: socket.socket) -> None:
        while wire.request(connection):
            connection.sendall(reply(b"{}", "Set-Cookie: who=first; Path=/"))

    wire.script = script
    http.get(wire.url, limit=LIMIT)
    http.get(wire.url, limit=LIMIT)

    assert b"cookie" not in wire.requests[1].lower()


def test_making_one_does_nothing_yet(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither files nor threads nor sockets, so that a module may hold one."""
    monkeypatch.setattr(certifi, "where", lambda: "/nonexistent")
    before = threading.active_count()

    Http().close()

    assert threading.active_count() == before


# --- what is refused --------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [300, 301, 302, 303, 304, 307, 308])
def test_a_redirect_is_not_followed(http: Http, wire: Wire, status: int) -> None:
    """A 307 would post code and client secret to another host."""
    wire.script = wire.says(reply(b"", f"Location: {wire.url}", status=f"{status} Moved"))

    refused(lambda: http.post_form(wire.url, {"code": Secret("x")}, limit=LIMIT), "redirect")
    refused(lambda: http.get(wire.url, limit=LIMIT), "redirect")
    assert len(wire.requests) == 2


def endless(wire: Wire, head: bytes, part: bytes) -> Script:
    """Make a script that sends *part* as long as anybody listens."""

    def script(connection: socket.socket) -> None:
        wire.request(connection)
        connection.sendall(head)
        while not wire.ended.is_set():
            connection.sendall(part)

    return script


@pytest.mark.parametrize(
    ("head", "part", "code"),
    [
        pytest.param(
            b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n", b"x" * 999, "too_large", id="huge"
        ),
        pytest.param(b"HTTP/1.1 200 OK\r\n\r\n", b"x" * 999, "too_large", id="without-length"),
        pytest.param(
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
            b"3e7\r\n" + b"x" * 999 + b"\r\n",
            "too_large",
            id="chunked",
        ),
        pytest.param(
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
            b"1" * 9999,
            "interrupted",
            id="endless-chunk-size",
        ),
        pytest.param(b"HTTP/1.1 200 OK\r\nX: ", b"x" * 9999, "interrupted", id="endless-header"),
        pytest.param(b"HTTP/1.1 200 OK\r\n", b"X: y\r\n" * 99, "interrupted", id="endless-headers"),
        pytest.param(b"HTTP/1.1 200 ", b"x" * 9999, "interrupted", id="endless-status"),
        pytest.param(
            b"HTTP/1.1 302 Found\r\nLocation: /\r\nContent-Length: 99999999999\r\n\r\n",
            b"x" * 999,
            "redirect",
            id="redirect",
        ),
        pytest.param(
            b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\n\r\n",
            gzip.compress(b"x" * 999),
            "encoded",
            id="gzip",
        ),
    ],
)
def test_an_endless_answer_ends_early(http: Http, wire: Wire, head: bytes, part: bytes, code: str) -> None:
    """No answer takes more memory than its limit, or more time than it needs to be refused."""
    wire.script = endless(wire, head, part)
    began = time.monotonic()

    refused(lambda: http.get(wire.url, limit=LIMIT), code)

    assert time.monotonic() - began < 5


CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


@pytest.mark.parametrize(
    "line",
    [
        pytest.param(b"2\r\n", id="plain"),
        pytest.param(b"0002\r\n", id="zeros"),
        pytest.param(b"2\n", id="bare-line-feed"),
        pytest.param(b"2;name=value\r\n", id="extension"),
        pytest.param(b"2 ; name\r\n", id="extension-after-space"),
    ],
)
def test_a_chunk_has_a_hexadecimal_size(http: Http, wire: Wire, line: bytes) -> None:
    """RFC 9112 §7.1; extensions are passed over."""
    wire.script = wire.says(CHUNKED, line, b"{}\r\n", b"0A\r\n", b" " * 10 + b"\r\n", b"0\r\n\r\n")

    assert http.get(wire.url, limit=LIMIT).body == b"{}" + b" " * 10


@pytest.mark.parametrize(
    "size",
    [
        b"-1",
        b"-0",
        b"+2",
        b"0x2",
        b"0_2",
        b" 2",
        b"2 ",
        b"\x0b2",
        b"",
        b";2",
        b"2\r;",
        b"2" * 17,
        b"2;" + b"x" * CHUNK_LINE_LIMIT,
    ],
)
def test_a_chunk_of_another_size_is_not_read(http: Http, wire: Wire, size: bytes) -> None:
    """Python takes -1 for one, and reads without end: hundreds of megabytes past any limit."""
    wire.script = wire.says(CHUNKED, b"2\r\n{}\r\n", b"0\r\n\r\n")
    assert http.get(wire.url, limit=LIMIT).body == b"{}"
    wire.script = endless(wire, CHUNKED + b"2\r\n{}\r\n" + size + b"\r\n", b"x" * 9999)
    began = time.monotonic()

    refused(lambda: http.post_form(wire.url, {}, limit=LIMIT), "interrupted")

    assert time.monotonic() - began < 5


def padded(total: int, line: bytes) -> bytes:
    """Make an answer whose head has *total* bytes, most of them in lines like *line*."""
    start, end = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n", b"\r\n"
    count, rest = divmod(total - len(start) - len(end) - 100, len(line))
    head = start + line * count + b"Last: " + b"y" * (rest + 100 - 8) + b"\r\n" + end
    assert len(head) == total
    return head + b"{}"


@pytest.mark.parametrize("size", [1000, 30_000])
def test_a_head_has_an_upper_limit(http: Http, wire: Wire, size: int) -> None:
    """Python alone takes a hundred lines of 64 KiB, and needs nine times the memory to keep them."""
    line = b"X: " + b"y" * (size - 5) + b"\r\n"
    wire.script = wire.says(padded(HEAD_LIMIT, line))
    assert http.get(wire.url, limit=LIMIT).body == b"{}"
    wire.script = wire.says(padded(HEAD_LIMIT + 1, line))

    refused(lambda: http.get(wire.url, limit=LIMIT), "interrupted")


def test_interim_heads_count_too(http: Http, wire: Wire) -> None:
    """They could go on until the deadline."""
    interim = b"HTTP/1.1 100 Continue\r\n\r\n"
    wire.script = wire.says(interim * 9 + reply(b"{}"))
    assert http.get(wire.url, limit=LIMIT).body == b"{}"
    wire.script = endless(wire, interim, interim * 99)

    refused(lambda: http.get(wire.url, limit=LIMIT), "interrupted")


@pytest.mark.parametrize("size", [1000, 30_000])
def test_what_follows_the_last_chunk_has_an_upper_limit(http: Http, wire: Wire, size: int) -> None:
    """Trailers are nothing to us, so that few are passed over, and an endless stream of them is not."""
    body = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n"
    line = b"X: " + b"x" * size + b"\r\n"
    wire.script = wire.says(body + line * 2 + b"\r\n")
    assert http.get(wire.url, limit=LIMIT).body == b"{}"

    wire.script = wire.says(body + line * (HEAD_LIMIT // size + 1))
    refused(lambda: http.get(wire.url, limit=LIMIT), "interrupted")


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 O",
        b"HTTP/1.1 200 OK\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Type: app",
        b"HTTP/1.1 200 OK\r\nA: b\r\n",
    ],
)
def test_an_answer_that_is_cut_off_in_its_head_is_an_interruption(
    http: Http, wire: Wire, answer: bytes
) -> None:
    """It is not one whose head ends there, and whose body is empty."""
    wire.script = wire.says(answer)

    refused(lambda: http.get(wire.url, limit=LIMIT), "interrupted")


def test_no_cookie_is_ever_parsed(http: Http, wire: Wire, monkeypatch: pytest.MonkeyPatch) -> None:
    """The standard library takes seconds for some dates, and no deadline can interrupt it."""
    parsed: list[object] = []

    def parse(values: object) -> list[object]:
        parsed.append(values)
        return []

    for name in ("parse_ns_headers", "split_header_words"):
        monkeypatch.setattr(cookiejar, name, parse)
    cookies = [
        f"{name}: a=b; expires=01 Jan {'1' * 9_000}!"
        for name in ("Set-Cookie", "set-cookie", "SET-COOKIE", "Set-Cookie2")
    ]
    wire.script = wire.says(reply(b"{}", *cookies, "Retry-After: 7"))

    answer = http.get(wire.url, limit=LIMIT)

    assert (answer.body, answer.headers) == (b"{}", {"retry-after": "7"})
    assert parsed == []


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "br", "zstd", "x", "identity, gzip"])
def test_a_compressed_body_is_refused(http: Http, wire: Wire, encoding: str) -> None:
    """Nobody asked for it, and limits on what it expands to have failed before."""
    wire.script = wire.says(reply(b"{}", "Content-Encoding: Identity"))
    assert http.get(wire.url, limit=LIMIT).body == b"{}"
    wire.script = wire.says(reply(gzip.compress(b"{}"), f"Content-Encoding: {encoding}"))

    refused(lambda: http.get(wire.url, limit=LIMIT), "encoded")


@pytest.mark.parametrize(
    ("sent", "read"),
    [
        (reply(b"{}"), b"{}"),
        (reply(gzip.compress(b"{}"), "Content-Encoding: GZip"), b"{}"),
        (reply(gzip.compress(b"{}") + b"behind", "Content-Encoding: gzip"), b"{}"),
        (reply(gzip.compress(b"x" * LIMIT), "Content-Encoding: gzip"), b"x" * LIMIT),
    ],
    ids=["plain", "gzip", "bytes-behind", "as-large-as-its-limit"],
)
def test_gzip_is_inflated_for_whom_it_matters(http: Http, wire: Wire, sent: bytes, read: bytes) -> None:
    """Nobody asked for it; but to refuse a refresh that was answered so would lose the refresh token."""
    wire.script = wire.says(sent)

    assert http.post_form(wire.url, {}, limit=LIMIT, fresh=True, inflate=True).body == read


@pytest.mark.parametrize(
    ("encoding", "body", "code"),
    [
        ("gzip", gzip.compress(b"x" * (LIMIT + 1)), "too_large"),
        ("gzip", gzip.compress(b"x" * 100 * LIMIT), "too_large"),
        ("gzip", bytes(range(256)) * 4, "too_large"),
        ("gzip", b"{}", "encoded"),
        ("gzip", gzip.compress(b"{}")[:15] + b"\xff" * 9, "encoded"),
        ("gzip, gzip", gzip.compress(gzip.compress(b"{}")), "encoded"),
        ("deflate", zlib.compress(b"{}"), "encoded"),
        ("br", b"\x8b\x00\x80{}\x03", "encoded"),
    ],
    ids=["a-byte-too-much", "bomb", "large-as-it-comes", "no-gzip", "broken", "twice", "deflate", "br"],
)
def test_what_gzip_makes_is_bounded(http: Http, wire: Wire, encoding: str, body: bytes, code: str) -> None:
    """A bomb of a megabyte makes a gigabyte."""
    wire.script = wire.says(reply(gzip.compress(b"{}"), "Content-Encoding: gzip"))
    assert http.post_form(wire.url, {}, limit=LIMIT, fresh=True, inflate=True).body == b"{}"
    wire.script = wire.says(reply(body, f"Content-Encoding: {encoding}"))

    refused(lambda: http.post_form(wire.url, {}, limit=LIMIT, fresh=True, inflate=True), code)


def test_a_body_may_be_as_large_as_its_limit(http: Http, wire: Wire) -> None:
    """And not a byte more, however it is framed."""
    for size, framed in itertools.product((LIMIT, LIMIT + 1), (True, False)):
        body = b"x" * size
        chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\n\r\n" % (size, body)
        wire.script = wire.says(reply(body) if framed else chunked)
        result = outcome(lambda: http.get(wire.url, limit=LIMIT))
        if size == LIMIT:
            assert isinstance(result, Answer)
            assert result.body == body
        else:
            assert isinstance(result, ProtocolViolation)
            assert result.code == "too_large"


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(b"hello\r\n\r\n", id="not-http"),
        pytest.param(b"HTTP/1.1 200 OK\r\nthe code was abc\r\nContent-Length: 2\r\n\r\n{}", id="no-header"),
        pytest.param(b"HTTP/1.1 200 OK\r\n: nameless\r\nContent-Length: 2\r\n\r\n{}", id="no-name"),
        pytest.param(b"\x16\x03\x01\x00\x05hello", id="tls"),
        pytest.param(b"HTTP/1.1 abc OK\r\n\r\n", id="status-word"),
        pytest.param(b"HTTP/1.1 -20 OK\r\n\r\n", id="status-negative"),
        pytest.param(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n{}", id="truncated"),
        pytest.param(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", id="chunk-size-word"),
        pytest.param(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n{}", id="chunk-truncated"),
        pytest.param(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n-1\r\n{}", id="chunk-negative"),
        pytest.param(b"HTTP/1.1 100 Continue\r\n\r\n", id="continue-and-no-more"),
    ],
)
def test_what_is_not_http_is_an_interruption(http: Http, wire: Wire, answer: bytes) -> None:
    """The provider may have acted on the request, so the error says that it was sent."""
    wire.script = wire.says(answer)

    error = refused(lambda: http.post_form(wire.url, {}, limit=LIMIT), "interrupted")

    assert isinstance(error, ProviderUnavailable)
    assert error.context["sent"] is True


@pytest.mark.parametrize(
    "lengths", [["2", "3"], ["3", "2"], ["2, 2"], ["-1"], ["+2"], ["0_2"], ["2 2"], [""]]
)
def test_a_body_has_one_length(http: Http, wire: Wire, lengths: list[str]) -> None:
    """RFC 9112 §6.3: of two, another reader on the way may have taken the other."""
    head = "HTTP/1.1 200 OK\r\n{}\r\n"
    wire.script = wire.says(head.format("Content-Length: \t2 \r\nContent-Length:2\r\n").encode() + b"{}")
    assert http.get(wire.url, limit=LIMIT).body == b"{}"
    lines = "".join(f"Content-Length: {length}\r\n" for length in lengths)
    wire.script = wire.says(head.format(lines).encode() + b"{}")

    refused(lambda: http.get(wire.url, limit=LIMIT), "interrupted")


def test_a_reset_is_an_interruption(http: Http, wire: Wire) -> None:
    """As a crashing server or a firewall causes it."""

    def script(connection: socket.socket) -> None:
        wire.request(connection)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")

    wire.script = script

    refused(lambda: http.get(wire.url, limit=LIMIT), "interrupted")


# --- time -------------------------------------------------------------------------------------------------


def drip(wire: Wire, head: bytes, tail: Iterator[bytes]) -> Script:
    """Make a script that sends *head* at once and *tail* a little at a time."""

    def script(connection: socket.socket) -> None:
        wire.request(connection)
        connection.sendall(head)
        while not wire.ended.wait(0.05):
            connection.sendall(next(tail))

    return script


@pytest.mark.parametrize(
    ("head", "tail"),
    [
        pytest.param(b"", itertools.repeat(b""), id="silence"),
        pytest.param(b"HTTP/1.1 200 O", itertools.repeat(b"K"), id="status-drips"),
        pytest.param(b"HTTP/1.1 200 OK\r\nX: ", itertools.repeat(b"y"), id="header-drips"),
        pytest.param(b"", itertools.repeat(b"HTTP/1.1 100 Continue\r\n\r\n"), id="endless-continue"),
        pytest.param(
            b"HTTP/1.1 200 OK\r\nContent-Length: 900\r\n\r\n", itertools.repeat(b" "), id="body-drips"
        ),
        pytest.param(
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
            itertools.repeat(b"1\r\n \r\n"),
            id="chunks-drip",
        ),
        pytest.param(
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n",
            itertools.repeat(b"X: y\r\n"),
            id="trailers-drip",
        ),
        # Shut down from our side, this body ends as if complete: a deadline that passed is a failure still.
        pytest.param(b"HTTP/1.1 200 OK\r\n\r\n{}", itertools.repeat(b" "), id="good-so-far"),
    ],
)
def test_a_call_ends_with_its_deadline(wire: Wire, head: bytes, tail: Iterator[bytes]) -> None:
    """However slowly bytes arrive; a socket's own timeout restarts with each of them."""
    http = Http(timeout=1.0)  # enough to connect and send, on a busy machine too
    wire.script = drip(wire, head, tail)
    began = time.monotonic()

    error = refused(lambda: http.post_form(wire.url, {}, limit=LIMIT), "timeout")

    assert 0.9 < time.monotonic() - began < 1.0 + SLACK
    assert isinstance(error, ProviderUnavailable)
    assert error.context == {"endpoint": wire.url, "sent": True}
    http.close()


def test_a_call_may_have_another_deadline(http: Http, wire: Wire) -> None:
    """Refreshing and signing out have their own."""
    wire.script = drip(wire, b"", itertools.repeat(b""))

    for call in (http.get, lambda url, **options: http.post_form(url, {}, **options)):
        began = time.monotonic()
        refused(lambda call=call: call(wire.url, limit=LIMIT, timeout=0.2), "timeout")  # type: ignore[misc]
        assert time.monotonic() - began < 0.2 + SLACK


def test_a_handshake_that_hangs_ends_with_the_deadline(wire: Wire) -> None:
    """The socket is guarded before TLS is spoken on it."""
    http = Http(timeout=0.3)
    wire.script = drip(wire, b"", itertools.repeat(b""))

    error = refused(lambda: http.get(wire.url.replace("http:", "https:"), limit=LIMIT), "timeout")

    assert error.context["sent"] is False
    http.close()


def test_a_name_lookup_that_hangs_ends_with_the_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is part of the call's time, although nothing can interrupt it."""
    release = threading.Event()
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: release.wait(60) and [])
    began = time.monotonic()

    error = refused(lambda: Http(timeout=0.2).get("https://provider.example/", limit=LIMIT), "timeout")

    assert time.monotonic() - began < 0.2 + SLACK
    assert error.context["sent"] is False
    release.set()


# --- connections ------------------------------------------------------------------------------------------


def test_connections_are_kept_alive(http: Http, wire: Wire) -> None:
    """A sign-in's calls share one."""
    http.get(wire.url, limit=LIMIT)
    http.post_form(wire.url, {"a": "b"}, limit=LIMIT)
    http.get(wire.url, limit=LIMIT)

    assert (len(wire.requests), wire.connections) == (3, 1)


def test_an_idle_connection_is_not_used_for_ever(
    http: Http, wire: Wire, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Load balancers forget silent connections without telling."""
    http.get(wire.url, limit=LIMIT)
    monkeypatch.setattr(module, "KEEP_ALIVE", 0)
    http.get(wire.url, limit=LIMIT)

    assert wire.connections == 2


def test_a_connection_closed_while_idle_does_not_fail_a_call(http: Http, wire: Wire) -> None:
    """Every server does that after some seconds: the code exchange must not fail for it."""
    wire.script = wire.says(reply(b"{}"))
    http.get(wire.url, limit=LIMIT)
    time.sleep(0.1)
    http.post_form(wire.url, {}, limit=LIMIT)
    time.sleep(0.1)
    http.get(wire.url, limit=LIMIT)

    assert (len(wire.requests), wire.connections) == (3, 3)


def closes_on_reuse(wire: Wire) -> Script:
    """Make a script that answers once per connection and closes when asked again."""

    def script(connection: socket.socket) -> None:
        wire.request(connection)
        connection.sendall(reply(b"{}"))
        wire.request(connection)

    return script


def test_a_get_that_meets_a_closing_connection_is_repeated_once(http: Http, wire: Wire) -> None:
    """The server closed it in the very moment of use: nobody can know, and a GET may be asked again."""
    wire.script = closes_on_reuse(wire)
    http.get(wire.url, limit=LIMIT)

    assert http.get(wire.url, limit=LIMIT).body == b"{}"
    assert (len(wire.requests), wire.connections) == (3, 2)


def test_a_get_that_fails_on_a_new_connection_is_not_repeated(http: Http, wire: Wire) -> None:
    """That is not a connection's past."""
    wire.script = wire.says(b"")

    refused(lambda: http.get(wire.url, limit=LIMIT), "interrupted")

    assert len(wire.requests) == 1


@pytest.mark.parametrize("status", [100, 102, 103, 199])
def test_the_answer_is_the_one_behind_interim_answers(http: Http, wire: Wire, status: int) -> None:
    """RFC 9110 §15.2. Otherwise it would be taken for the next call's, and be another person's."""

    def script(connection: socket.socket) -> None:
        while wire.request(connection):
            interim = b"HTTP/1.1 %d Wait\r\nLink: </style.css>; rel=preload\r\n\r\n" % status
            connection.sendall(interim * 2 + reply(b'{"call": %d}' % len(wire.requests)))

    wire.script = script

    for call in (1, 2):
        assert http.post_form(wire.url, {}, limit=LIMIT).body == b'{"call": %d}' % call
    assert wire.connections == 1


def test_a_switch_of_protocols_is_not_taken_for_an_answer(http: Http, wire: Wire) -> None:
    """Nobody asked for it: what follows is another protocol, or another call's answer."""

    def script(connection: socket.socket) -> None:
        wire.request(connection)
        connection.sendall(b"HTTP/1.1 101 Switching Protocols\r\n\r\n")
        wire.request(connection)
        connection.sendall(reply(b'{"access_token": "of the first"}'))

    wire.script = script
    refused(lambda: http.post_form(wire.url, {}, limit=LIMIT), "interrupted")
    wire.script = wire.ok

    assert http.post_form(wire.url, {}, limit=LIMIT).body == b"{}"
    assert wire.connections == 2


def test_a_post_is_never_repeated(http: Http, wire: Wire) -> None:
    """The provider may have used up the code, or rotated the refresh token, before the connection broke."""
    wire.script = closes_on_reuse(wire)
    http.get(wire.url, limit=LIMIT)

    refused(lambda: http.post_form(wire.url, {"code": Secret("x")}, limit=LIMIT), "interrupted")

    assert (len(wire.requests), wire.connections) == (2, 1)


def test_a_fresh_call_has_a_connection_of_its_own(http: Http, wire: Wire) -> None:
    """Neither taken from the pool nor left to it."""
    http.get(wire.url, limit=LIMIT)
    http.post_form(wire.url, {}, limit=LIMIT, fresh=True)
    http.get(wire.url, limit=LIMIT)

    assert (len(wire.requests), wire.connections) == (3, 2)


def test_each_server_has_connections_of_its_own(http: Http, wire: Wire) -> None:
    """What waits for one is not used for another, nor lost."""
    with Wire() as other:
        for _ in range(2):
            http.get(wire.url, limit=LIMIT)
            http.get(other.url, limit=LIMIT)

        assert (wire.connections, other.connections) == (1, 1)


def test_a_connection_that_the_server_means_to_close_is_not_kept(http: Http, wire: Wire) -> None:
    """RFC 9112 §9.6: it says so, and may not have done it yet."""

    def script(connection: socket.socket) -> None:
        wire.request(connection)
        connection.sendall(reply(b"{}", "Connection: close"))
        wire.request(connection)

    wire.script = script
    for _ in range(2):
        assert http.post_form(wire.url, {}, limit=LIMIT).body == b"{}"
    assert wire.connections == 2


def test_a_form_that_is_ready_in_time_is_sent(http: Http, wire: Wire) -> None:
    """The caller's last moment is no deadline: the answer may come after it."""
    send_by = time.monotonic() + 1.5

    def slow(connection: socket.socket) -> None:
        wire.request(connection)
        while time.monotonic() <= send_by:
            time.sleep(0.05)
        connection.sendall(reply(b"{}"))

    wire.script = slow

    assert http.post_form(wire.url, {}, limit=LIMIT, send_by=send_by, fresh=True).body == b"{}"
    assert time.monotonic() > send_by


@pytest.mark.parametrize("fresh", [True, False])
@pytest.mark.parametrize("reused", [True, False])
def test_a_form_that_is_late_is_not_sent(http: Http, wire: Wire, fresh: bool, reused: bool) -> None:
    """Nothing of it reaches the wire, on new connections and on old ones."""
    received: list[bytes] = []

    def listen(connection: socket.socket) -> None:
        if reused and not received:
            wire.request(connection)
            connection.sendall(reply(b"{}"))
        while part := connection.recv(65536):
            received.append(part)
        received.append(b"closed")

    wire.script = listen
    if reused:
        http.get(wire.url, limit=LIMIT)

    error = refused(
        lambda: http.post_form(
            wire.url, {"a": Secret("x")}, limit=LIMIT, send_by=time.monotonic() - 0.001, fresh=fresh
        ),
        "late",
    )

    assert isinstance(error, ProviderUnavailable)
    assert error.context == {"endpoint": wire.url, "sent": False}
    http.close()
    connections = 2 if reused and fresh else 1
    deadline = time.monotonic() + 10
    while len(received) < connections and time.monotonic() < deadline:
        time.sleep(0.01)
    assert received == [b"closed"] * connections
    assert len(wire.requests) == int(reused)
    wire.script = wire.ok
    assert http.post_form(wire.url, {}, limit=LIMIT).body == b"{}"


def test_closing_leaves_a_client_that_can_be_used_again(http: Http, wire: Wire) -> None:
    """For a test, or a server that reloads."""
    http.get(wire.url, limit=LIMIT)
    http.close()
    http.close()
    http.get(wire.url, limit=LIMIT)

    assert wire.connections == 2


def test_threads_share_one_client(http: Http, wire: Wire) -> None:
    """Each gets its own answer."""

    def script(connection: socket.socket) -> None:
        while request := wire.request(connection):
            connection.sendall(reply(json.dumps({"path": request.split()[1].decode()}).encode()))

    wire.script = script
    paths = [f"/{number}" for number in range(16)]
    got: dict[str, list[object]] = {path: [] for path in paths}

    def work(path: str) -> None:
        for _ in range(5):
            answer = http.get(wire.url.replace("/path", path), limit=LIMIT)
            got[path].append(answer.json_object()["path"])

    threads = [threading.Thread(target=work, args=(path,)) for path in paths]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)

    assert got == {path: [path] * 5 for path in paths}
    assert wire.connections <= 16


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_a_forked_child_opens_connections_of_its_own(http: Http, wire: Wire) -> None:
    """A preloading server forks workers; two on one connection would read each other's answers."""
    http.get(wire.url, limit=LIMIT)
    context = multiprocessing.get_context("fork")
    results = context.SimpleQueue()
    child = context.Process(target=lambda: results.put(http.get(wire.url, limit=LIMIT).body))
    child.start()
    child.join(10)
    http.get(wire.url, limit=LIMIT)

    assert results.get() == b"{}"
    assert wire.connections == 2
    results.close()
    child.close()


# --- reaching the provider --------------------------------------------------------------------------------


def test_nobody_listening_is_unreachable(http: Http, wire: Wire) -> None:
    """And nothing was sent, so that the call can be made again later."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]

    error = refused(lambda: http.post_form(f"http://127.0.0.1:{port}/x?y=z", {}, limit=LIMIT), "unreachable")

    assert error.context["endpoint"] == f"http://127.0.0.1:{port}/x"
    assert error.context["sent"] is False


@pytest.mark.parametrize("error", [socket.gaierror(-2, "unknown"), UnicodeError("label too long")])
def test_a_name_that_can_not_be_looked_up_is_unreachable(
    http: Http, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    """Whatever the resolver raises."""

    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(socket, "getaddrinfo", fail)

    refused(lambda: http.get("https://provider.example/", limit=LIMIT), "unreachable")


def test_no_thread_to_be_had_is_unreachable(http: Http, wire: Wire, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a watchdog a call is not made; it would have no end."""

    def refuse(*_: object) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        refused(lambda: http.get(wire.url, limit=LIMIT), "unreachable")

    assert http.get(wire.url, limit=LIMIT).body == b"{}"


class Authority:
    """Certificates for a server on loopback, and a bundle that trusts them."""

    def __init__(self, directory: Path, host: str, key: Any) -> None:
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, host)])
        now = dt.datetime.now(dt.UTC)
        certificate = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(name)
            .public_key(key.public_key())
            .serial_number(1)
            .not_valid_before(now - dt.timedelta(days=1))
            .not_valid_after(now + dt.timedelta(days=1))
            .add_extension(x509.SubjectAlternativeName([x509.DNSName(host)]), critical=False)
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .sign(key, hashes.SHA256())
        )
        self.bundle = directory / "bundle.pem"
        self.bundle.write_bytes(certificate.public_bytes(Encoding.PEM))
        private = directory / "key.pem"
        private.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.load_cert_chain(self.bundle, private)


@pytest.fixture
def authority(tmp_path: Path, signer: Signer) -> Authority:
    """Issue a certificate for localhost."""
    return Authority(tmp_path, "localhost", signer.key)


def test_a_certificate_nobody_vouches_for_is_refused(http: Http, wire: Wire, authority: Authority) -> None:
    """Nothing is sent to such a server, and no setting changes that."""
    wire.context = authority.context

    error = refused(lambda: http.get(f"https://localhost:{wire.port}/", limit=LIMIT), "tls")

    assert error.context["sent"] is False
    assert wire.requests == []


def test_a_missing_bundle_is_a_configuration_error(
    http: Http, wire: Wire, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not one of the provider, and never a reason to go without."""
    monkeypatch.setattr(certifi, "where", lambda: "/nonexistent")

    error = refused(lambda: http.get(wire.url, limit=LIMIT), "ca_bundle")

    assert isinstance(error, ConfigurationError)
    assert wire.connections == 0


def test_a_certificate_that_holds_is_accepted(
    http: Http, wire: Wire, authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The bundle is read once, not for every connection; the name in the certificate must be the host's."""
    wire.context = authority.context
    monkeypatch.setattr(certifi, "where", lambda: str(authority.bundle))
    url = f"https://localhost:{wire.port}/"

    assert http.get(url, limit=LIMIT).body == b"{}"
    authority.bundle.unlink()
    assert http.post_form(url, {}, limit=LIMIT, fresh=True).body == b"{}"
    assert http.get(url, limit=LIMIT).body == b"{}"
    assert wire.connections == 2
    refused(lambda: http.get(f"https://127.0.0.1:{wire.port}/", limit=LIMIT), "tls")


def test_a_deadline_holds_on_an_encrypted_connection_that_is_used_again(
    http: Http, wire: Wire, authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The guard works below TLS, on old connections as on new ones."""

    def script(connection: socket.socket) -> None:
        wire.request(connection)
        connection.sendall(reply(b"{}"))
        wire.request(connection)
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 900\r\n\r\n")
        while not wire.ended.wait(0.05):
            connection.sendall(b" ")

    wire.context, wire.script = authority.context, script
    monkeypatch.setattr(certifi, "where", lambda: str(authority.bundle))
    url = f"https://localhost:{wire.port}/"
    http.get(url, limit=LIMIT)
    began = time.monotonic()

    refused(lambda: http.get(url, limit=LIMIT, timeout=0.3), "timeout")

    assert time.monotonic() - began < 0.3 + SLACK
    assert wire.connections == 1


@pytest.mark.parametrize("size", [100, 12_000])
def test_what_follows_an_answer_is_not_taken_for_the_next(
    http: Http, wire: Wire, authority: Authority, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    """Not even if TLS has decrypted it already, so that nothing is left to be seen on the socket."""

    def script(connection: socket.socket) -> None:
        while wire.request(connection):
            surplus = reply(b'{"access_token": "of another"}')
            connection.sendall(reply(b"{}") + surplus * (size // len(surplus) + 1))

    wire.context, wire.script = authority.context, script
    monkeypatch.setattr(certifi, "where", lambda: str(authority.bundle))

    for _ in range(3):
        assert http.post_form(f"https://localhost:{wire.port}/", {}, limit=LIMIT).body == b"{}"
    assert len(wire.requests) == 3


def test_a_form_that_is_late_after_the_handshake_is_not_sent(
    wire: Wire, authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What takes long comes before the last look at the clock: lookup, connection and TLS."""
    delay = 0.0
    decrypted: list[bytes] = []
    ended = threading.Event()

    def listen(connection: socket.socket) -> None:
        time.sleep(delay)  # the client's handshake waits for ours
        # The client may go away without a word of TLS.
        with suppress(OSError), authority.context.wrap_socket(connection, server_side=True) as secure:
            secure.settimeout(10)
            while part := secure.recv(65536):
                decrypted.append(part)
                secure.sendall(reply(b"{}"))
        ended.set()

    wire.script = listen
    monkeypatch.setattr(certifi, "where", lambda: str(authority.bundle))
    http = Http(timeout=30)
    url = f"https://localhost:{wire.port}/"

    def post(send_within: float) -> Answer:
        send_by = time.monotonic() + send_within
        fields = {"refresh_token": Secret("ref")}
        return http.post_form(url, fields, limit=LIMIT, send_by=send_by, fresh=True)

    assert post(20).body == b"{}"
    assert b"refresh_token=ref" in b"".join(decrypted)
    assert ended.wait(10)
    ended.clear()
    decrypted.clear()
    delay = 0.5

    error = refused(lambda: post(0.2), "late")

    assert error.context["sent"] is False
    assert ended.wait(10)
    assert decrypted == []
    assert wire.connections == 2


# --- answers that are read late ---------------------------------------------------------------------------


#: Where a process may be stopped while an answer waits in the socket's buffer: before its head is read, or
#: before its body is.
STOPS = {"before-head": (module, "_response"), "before-body": (http_module, "_read")}
Stop = Callable[[bytes], None]


@pytest.fixture(params=STOPS)
def stop(request: pytest.FixtureRequest, wire: Wire, monkeypatch: pytest.MonkeyPatch) -> Stop:
    """Let the server give an answer, and the client read it when its deadline has passed, its socket shut."""
    where, name = STOPS[request.param]
    read = getattr(where, name)
    watch = Watchdog.watch
    calls: list[Call] = []

    def watched(watchdog: Watchdog, call: Call) -> None:
        calls.append(call)
        watch(watchdog, call)

    def held(*arguments: Any, **options: Any) -> Any:
        connection = calls[-1]._socket
        assert connection is not None
        if where is module:
            socket.socket.recv(connection, 1, socket.MSG_PEEK)  # the answer has come, in one piece
        calls[-1].expire()
        return read(*arguments, **options)

    def stop(answer: bytes) -> None:
        def script(connection: socket.socket) -> None:
            while wire.request(connection):
                connection.sendall(answer)

        wire.script = script
        monkeypatch.setattr(Watchdog, "watch", watched)
        monkeypatch.setattr(where, name, held)

    return stop


@pytest.mark.parametrize("encrypted", [False, True], ids=["plain", "tls"])
@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(reply(b"{}"), id="length"),
        pytest.param(CHUNKED + b"2\r\n{}\r\n0\r\n\r\n", id="chunks"),
        pytest.param(CHUNKED + b"1\r\n{\r\n1\r\n}\r\n0\r\nX: y\r\n\r\n", id="trailers"),
        pytest.param(b"HTTP/1.1 103 Early Hints\r\n\r\n" + reply(b"{}"), id="interim"),
    ],
)
def test_a_complete_answer_counts_however_late_it_is_read(
    http: Http,
    wire: Wire,
    authority: Authority,
    monkeypatch: pytest.MonkeyPatch,
    stop: Stop,
    answer: bytes,
    encrypted: bool,
) -> None:
    """A stopped process (SIGSTOP, a paused machine) must not throw away the successor of a used-up token."""
    url = wire.url
    if encrypted:
        wire.context = authority.context
        wire.context.num_tickets = 0  # so that nothing comes before the answer
        monkeypatch.setattr(certifi, "where", lambda: str(authority.bundle))
        url = f"https://localhost:{wire.port}/"
    stop(answer)

    assert http.post_form(url, {}, limit=LIMIT, fresh=True).body == b"{}"


@pytest.mark.parametrize(
    ("whole", "part"),
    [
        pytest.param(reply(b"{}"), reply(b"{}")[:-1], id="length"),
        pytest.param(CHUNKED + b"2\r\n{}\r\n0\r\n\r\n", CHUNKED + b"2\r\n{}\r\n0", id="chunks"),
        pytest.param(reply(b"{}"), CHUNKED + b"2\r\n{}\r\n0\r\nX: y\r\n", id="trailers"),
        # Its end is the connection's, and who ended that is not known: it was shut down from our side, too.
        pytest.param(reply(b"{}"), b"HTTP/1.1 200 OK\r\n\r\n{}", id="unframed"),
    ],
)
def test_an_answer_that_is_not_known_to_be_complete_is_none_after_the_deadline(
    http: Http, wire: Wire, stop: Stop, whole: bytes, part: bytes
) -> None:
    """However complete it looks once the socket was shut down."""
    stop(whole)
    assert http.post_form(wire.url, {}, limit=LIMIT, fresh=True).body == b"{}"
    stop(part)

    error = refused(lambda: http.post_form(wire.url, {}, limit=LIMIT, fresh=True), "timeout")

    assert error.context == {"endpoint": wire.url, "sent": True}


def test_a_connection_whose_answer_came_late_is_not_used_again(http: Http, wire: Wire, stop: Stop) -> None:
    """It was shut down."""
    for _ in range(2):
        assert http.post_form(wire.url, {}, limit=LIMIT).body == b"{}"
    assert wire.connections == 1
    http.close()
    stop(reply(b"{}"))

    for _ in range(2):
        assert http.post_form(wire.url, {}, limit=LIMIT).body == b"{}"

    assert wire.connections == 3


# --- proxies ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "proxy",
    [
        *("", "proxy.example:3128", "socks5://127.0.0.1:1080", "http://a b"),
        *("http://proxy.example:99999", "https://user@:3128"),
    ],
)
def test_a_proxy_that_is_not_a_url_is_a_configuration_error(proxy: str) -> None:
    """Found at start, not at the first sign-in."""
    with pytest.raises(ConfigurationError) as caught:
        Http(proxy=proxy)

    assert caught.value.code == "proxy"


def test_a_proxy_carries_everything_but_loopback(
    wire: Wire, tmp_path: Path, signer: Signer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It sees where a call goes, and not what is said: TLS is with the provider."""
    inside = Authority(tmp_path, "provider.example", signer.key)
    monkeypatch.setattr(certifi, "where", lambda: str(inside.bundle))
    http = Http(proxy=f"http://user:pass@127.0.0.1:{wire.port}", timeout=10)

    def script(connection: socket.socket) -> None:
        wire.request(connection)
        connection.sendall(b"HTTP/1.1 200 Connected\r\n\r\n")
        with inside.context.wrap_socket(connection, server_side=True) as secure:
            wire.ok(secure)

    wire.script = script
    assert http.get("https://provider.example/secret", limit=LIMIT).body == b"{}"
    assert http.get("https://provider.example/secret", limit=LIMIT).body == b"{}"
    assert wire.connections == 1
    assert wire.requests[0].startswith(b"CONNECT provider.example:443 HTTP/1.")
    assert b"Proxy-Authorization: Basic " in wire.requests[0]
    assert b"Proxy-Authorization" not in wire.requests[1]
    assert wire.requests[1].startswith(b"GET /secret HTTP/1.1")

    wire.script = wire.ok
    assert http.get(wire.url, limit=LIMIT).body == b"{}"
    assert wire.requests[-1].startswith(b"GET /path HTTP/1.1")
    http.close()


class Inside:
    """The server's end of TLS inside TLS, as an https proxy carries it."""

    def __init__(self, outside: socket.socket, context: ssl.SSLContext) -> None:
        self._outside = outside
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_side=True)
        self._do(self._tls.do_handshake)

    def _do(self, step: Callable[..., Any], *arguments: object) -> Any:
        while True:
            try:
                result = step(*arguments)
            except ssl.SSLWantReadError:
                self._outside.sendall(self._outgoing.read())
                self._incoming.write(self._outside.recv(65536) or b"\0")
            else:
                self._outside.sendall(self._outgoing.read())
                return result

    def recv(self, size: int) -> Any:
        """Give what the client said."""
        return self._do(self._tls.read, size)

    def sendall(self, data: bytes) -> None:
        """Say *data*."""
        self._do(self._tls.write, data)


def test_a_proxy_may_be_an_https_one(
    wire: Wire, tmp_path: Path, authority: Authority, signer: Signer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Then there is TLS inside of TLS, on a connection that is kept as any other, and has its deadline."""
    (tmp_path / "inside").mkdir()
    inside = Authority(tmp_path / "inside", "provider.example", signer.key)
    both = tmp_path / "both.pem"
    both.write_bytes(authority.bundle.read_bytes() + inside.bundle.read_bytes())
    monkeypatch.setattr(certifi, "where", lambda: str(both))
    http = Http(proxy=f"https://localhost:{wire.port}", timeout=10)

    def script(connection: socket.socket) -> None:
        wire.request(connection)
        connection.sendall(b"HTTP/1.1 200 Connected\r\n\r\n")
        stream: Any = Inside(connection, inside.context)
        for _ in range(2):
            wire.request(stream)
            stream.sendall(reply(b"{}"))
        wire.request(stream)
        while not wire.ended.wait(0.05):
            stream.sendall(b"H")

    wire.context, wire.script = authority.context, script
    for _ in range(2):
        assert http.post_form("https://provider.example/secret", {}, limit=LIMIT).body == b"{}"
    refused(lambda: http.post_form("https://provider.example/", {}, limit=LIMIT, timeout=0.3), "timeout")

    assert wire.connections == 1
    assert wire.requests[0] == (
        b"CONNECT provider.example:443 HTTP/1.1\r\nHost: provider.example:443\r\n\r\n"
    )
    assert wire.requests[1].startswith(b"POST /secret HTTP/1.1\r\nHost: provider.example\r\n")
    http.close()
    monkeypatch.setattr(certifi, "where", lambda: str(inside.bundle))
    for port in (wire.port, wire.port):
        http = Http(proxy=f"https://localhost:{port}", timeout=10)
        refused(lambda http=http: http.get("https://provider.example/", limit=LIMIT), "tls")  # type: ignore[misc]


@pytest.mark.parametrize(
    ("login", "pair"),
    [("user:pass@", b"user:pass"), ("user@", b"user:"), ("%C3%BC%3A:p%40ss@", b"\xc3\xbc::p@ss"), ("", None)],
)
def test_a_proxy_is_told_who_asks(wire: Wire, login: str, pair: bytes | None) -> None:
    """RFC 7617, with what the URL's escapes stand for."""
    wire.script = wire.says(b"HTTP/1.1 407 Who are you\r\nContent-Length: 0\r\n\r\n")
    http = Http(proxy=f"http://{login}127.0.0.1:{wire.port}", timeout=10)

    refused(lambda: http.get("https://provider.example/", limit=LIMIT), "unreachable")

    head, _, told = wire.requests[0].partition(b"Proxy-Authorization: Basic ")
    assert head.startswith(b"CONNECT provider.example:443 ")
    assert (base64.b64decode(told) if told else None) == pair


def test_a_proxy_that_refuses_makes_the_provider_unreachable(wire: Wire) -> None:
    """Nothing of the request was sent."""
    wire.script = wire.says(b"HTTP/1.1 403 Forbidden\r\n\r\n")
    http = Http(proxy=f"http://127.0.0.1:{wire.port}")

    error = refused(lambda: http.get("https://provider.example/", limit=LIMIT), "unreachable")

    assert error.context["sent"] is False
    http.close()


def test_a_proxys_own_head_has_the_same_limit(wire: Wire) -> None:
    """It is read by other code of the standard library."""
    line = b"X: " + b"y" * 995 + b"\r\n"
    wire.script = endless(wire, b"HTTP/1.1 200 Connected\r\n", line * 9)
    http = Http(proxy=f"http://127.0.0.1:{wire.port}", timeout=10)
    began = time.monotonic()

    error = refused(lambda: http.get("https://provider.example/", limit=LIMIT), "unreachable")

    assert error.context["sent"] is False
    assert time.monotonic() - began < 5
    http.close()


# --- secrets ----------------------------------------------------------------------------------------------


HUNTER2 = "hunter" + str(2)  # in two parts: a traceback shows source lines too
BASIC = base64.b64encode(f"id:{HUNTER2}".encode()).decode()


def test_no_error_shows_a_secret_even_with_all_locals(http: Http, wire: Wire) -> None:
    """An error reporter prints every frame's variables, and follows every chained exception."""
    fields = {"code": Secret(HUNTER2), "client_secret": Secret(HUNTER2)}
    calls: list[Callable[[], object]] = [
        lambda: http.post_form(wire.url, fields, limit=9, basic=("id", Secret(HUNTER2))),
        lambda: http.get(wire.url, limit=9, bearer=Secret(HUNTER2)),
        lambda: http.get(wire.url, limit=9, bearer=Secret(HUNTER2 + "\n")),
        lambda: http.post_json(wire.url, {}, limit=9),
        lambda: http.put_json(wire.url, {}, limit=9, bearer=Secret(HUNTER2)),
    ]
    answers = [b"", reply(HUNTER2.encode() * 999), reply(b"", status="302 Found")]
    for answer, call in itertools.product(answers, calls):
        wire.script = wire.says(answer)
        error = outcome(call)
        assert isinstance(error, SpatioError)
        trace = traceback.TracebackException.from_exception(error, capture_locals=True)
        report = "".join(trace.format()) + repr(error.context)
        assert "limit = 9" in report
        assert HUNTER2 not in report
        assert BASIC not in report
        assert error.__context__ is None


def test_no_log_record_shows_a_secret(http: Http, wire: Wire, caplog: pytest.LogCaptureFixture) -> None:
    """At any level, and of any library in between."""
    caplog.set_level("DEBUG")
    logging.getLogger("http.client").debug("heard")
    http.post_form(wire.url, {"code": Secret(HUNTER2)}, limit=LIMIT, basic=("id", Secret(HUNTER2)))
    http.get(wire.url, limit=LIMIT, bearer=Secret(HUNTER2))

    assert "heard" in caplog.text
    assert HUNTER2 not in caplog.text
    assert BASIC not in caplog.text
