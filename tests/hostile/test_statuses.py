"""Every status there is, content types, redirects and compression: what the head of an answer can say."""

import gzip
import socket
import struct
import tracemalloc
import zlib
from http import HTTPStatus
from typing import Any

import pytest

from tests.hostile.conftest import (
    DISCOVERY,
    SECOND_DISCOVERY,
    TOKEN,
    USERINFO,
    Hostile,
    endpoints,
)
from tests.hostile.front import HUGE, Deed, body_of
from tests.oidc.wire import Wire, reply

#: Bytes of memory that one refusal may take at its height.
MEMORY = 4 * 1024 * 1024


def expected(status: int, endpoint: str) -> tuple[str, int]:
    """Give code and page for an answer with *status* whose body is the honest one."""
    if status < 200:
        return "interrupted", 503
    if 300 <= status < 400:
        return "redirect", 502
    if status == 429:
        return "rate_limited", 503
    if status >= 500:
        return "bad_status", 503
    if endpoint == USERINFO and status in {401, 403}:
        return "invalid_token", 403
    return "bad_status", 502


def line(status: int) -> str:
    """Give a status and a reason, if there is a known one."""
    known = {each.value: each.phrase for each in HTTPStatus}
    return f"{status} {known.get(status, '')}".strip()


@endpoints
@pytest.mark.parametrize("hundreds", range(1, 6))
def test_a_status_that_means_something_else_is_named(
    hostile: Hostile, endpoint: str, hundreds: int, subtests: pytest.Subtests
) -> None:
    """
    100 to 599 but 200, with the honest body: a body counts only with the status that it needs.

    Where the code is redeemed all of them, elsewhere those that have a name, the borders, and some more.
    """
    hostile.do(endpoint, telling(200))
    hostile.accepts()
    everything = range(hundreds * 100, hundreds * 100 + 100)
    some = {each.value for each in HTTPStatus} | {everything[0], *everything[9::18], everything[-1]}
    for status in sorted(set(everything) - {200} if endpoint == TOKEN else (set(everything) & some) - {200}):
        with subtests.test(status=status):
            hostile.do(endpoint, telling(status))
            hostile.refuses(*expected(status, endpoint), endpoint=endpoint)
    hostile.front.be_honest()
    hostile.new_process()
    hostile.accepts()


def telling(status: int | str) -> Deed:
    """Tell the honest body under another status, and close: some of these have no body (RFC 9110)."""
    text = line(status) if isinstance(status, int) else status

    def deed(connection: socket.socket, answer: bytes) -> None:
        headers = ("Content-Type: application/json", "Connection: close")
        connection.sendall(reply(body_of(answer), *headers, status=text))
        connection.shutdown(socket.SHUT_RDWR)

    return deed


@endpoints
def test_a_status_that_is_none_is_an_interruption_or_means_nothing(
    hostile: Hostile, endpoint: str, subtests: pytest.Subtests
) -> None:
    """RFC 9110 §15 knows 100 to 599."""
    hostile.do(endpoint, telling("200"))
    hostile.accepts()
    for status in ("", "2", "20", "2000", "abc", "-200", "099", "000", "600", "999"):
        with subtests.test(status):
            hostile.do(endpoint, telling(status))
            code = "bad_status" if status in {"600", "999"} else "interrupted"
            hostile.refuses(code, 503, endpoint=endpoint)


def test_metadata_that_are_not_at_the_first_place_are_found_at_the_second(
    hostile: Hostile, subtests: pytest.Subtests
) -> None:
    """RFC 8414 §3: where OpenID Connect's place has nothing, OAuth's may."""
    hostile.accepts()
    for status in (400, 401, 403, 404, 405, 410, 418, 429, 451, 499):
        with subtests.test(status=status):
            hostile.front.deeds = {DISCOVERY: telling(status)}
            if status == 429:
                hostile.refuses("rate_limited", 503, endpoint=DISCOVERY)
            else:
                hostile.new_process()
                hostile.forget_calls()
                hostile.accepts()
                assert len(hostile.front.calls[SECOND_DISCOVERY]) == 1


# --- what the token endpoint refuses ----------------------------------------------------------------------


@pytest.mark.parametrize("status", ["400 Bad Request", "401 Unauthorized", "403 Forbidden", "404", "499"])
def test_an_oauth_error_is_named_by_its_own_code(
    hostile: Hostile, status: str, subtests: pytest.Subtests
) -> None:
    """In any 4xx, known or not; and tokens beside it count for nothing."""
    hostile.accepts()
    cases: dict[str, tuple[dict[str, Any], str, int]] = {
        "known": ({"error": "invalid_grant"}, "invalid_grant", 403),
        "client": ({"error": "invalid_client", "error_uri": "javascript:alert(1)"}, "invalid_client", 403),
        "unknown": ({"error": "no_such_code"}, "unknown_error", 403),
        "markup": ({"error": "<script>alert(1)</script>"}, "unknown_error", 403),
        "lines": ({"error": "invalid_grant\r\nX: y"}, "unknown_error", 403),
        "huge": ({"error": "x" * 10_000}, "unknown_error", 403),
        "code of ours": ({"error": "site_error"}, "unknown_error", 403),
        "choice": ({"error": "access_denied"}, "access_denied", 403),
        "description": ({"error": "invalid_grant", "error_description": ["x"]}, "invalid_grant", 403),
        "number": ({"error": 7}, "bad_status", 502),
        "null": ({"error": None}, "bad_status", 502),
        "list": ({"error": ["invalid_grant"]}, "bad_status", 502),
        "object": ({"error": {"code": "invalid_grant"}}, "bad_status", 502),
        "none": ({}, "bad_status", 502),
    }
    for name, (members, code, page) in cases.items():
        with subtests.test(name):
            hostile.change_members(TOKEN, **members)
            hostile.lies.lies[TOKEN] = with_status(hostile.lies.lies[TOKEN], status)
            response = hostile.refuses(code, page)
            assert "alert(1)" not in response.content.decode()


def with_status(lie: Any, status: str) -> Any:
    """Let *lie* be told with another status."""

    def told(_: str, headers: dict[str, str], body: bytes) -> tuple[str, dict[str, str], bytes]:
        _, headers, body = lie(_, headers, body)
        return status, headers, body

    return told


# --- redirects --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [300, 301, 302, 303, 304, 305, 307, 308])
@endpoints
def test_a_redirect_is_followed_nowhere(
    hostile: Hostile, endpoint: str, status: int, subtests: pytest.Subtests
) -> None:
    """It could take code, secret or token along: nobody is called, in the same origin or another."""
    hostile.accepts()
    with Wire() as elsewhere:
        locations = {
            "same": f"{hostile.spatio.issuer}/elsewhere",
            "other": elsewhere.url,
            "relative": "/elsewhere",
            "scheme-relative": elsewhere.url.removeprefix("http:"),
            "file": "file:///etc/passwd",
            "javascript": "javascript:alert(1)",
            "none": None,
            "itself": hostile.spatio.issuer + endpoint,
            "not a url": "\x7f http://[",
        }
        for name, location in locations.items():
            with subtests.test(name):
                headers = {"Location": location, "Refresh": location and f"0;url={location}"}
                hostile.answer_status(endpoint, line(status), headers=headers)
                hostile.refuses("redirect", endpoint=endpoint)
                assert len(hostile.front.calls[endpoint]) == 1
                assert "/elsewhere" not in hostile.front.calls
        assert elsewhere.connections == 0


@endpoints
def test_a_refresh_header_beside_a_good_answer_is_nothing(hostile: Hostile, endpoint: str) -> None:
    """``Refresh``, ``Link`` and ``Location`` with 200 are for browsers."""
    with Wire() as elsewhere:
        link = f"<{elsewhere.url}>; rel=preload"
        headers = {"Refresh": f"0;url={elsewhere.url}", "Location": elsewhere.url, "Link": link}
        hostile.answer_status(endpoint, "200 OK", headers=headers)
        hostile.accepts()
        assert elsewhere.connections == 0


# --- content types ----------------------------------------------------------------------------------------

TYPES = [
    "text/html",
    "text/html; charset=utf-8",
    "text/plain",
    "application/jwt",
    "application/octet-stream",
    "application/x-www-form-urlencoded",
    "application/jsonp",
    "application/json+x",
    "application/problem+json",
    "multipart/mixed; boundary=x",
    "json",
    "application",
    ";",
    "",
    "text/html, application/json",
    "application/json, text/html",
]
#: The honest one in other words.
JSON_TYPES = [
    "application/json",
    "application/json; charset=utf-8",
    "application/json;charset=UTF-8",
    'Application/JSON ; charset="utf-8"; x=y',
    "application/json; charset=latin-1",
    "application/json;",
]


@endpoints
def test_json_under_another_type_is_read_where_it_can_be_nothing_else(
    hostile: Hostile, endpoint: str, subtests: pytest.Subtests
) -> None:
    """
    The type is a label; the content is judged.

    Userinfo is the exception: its answer may be a signed JWT (Core §5.3.2), and the type says which.
    """
    for kind in JSON_TYPES:
        with subtests.test(kind):
            hostile.answer_bytes(endpoint, lambda body: body, Content_Type=kind)
            hostile.new_process()
            hostile.accepts()
    for kind in TYPES:
        with subtests.test(kind):
            hostile.answer_bytes(endpoint, lambda body: body, Content_Type=kind)
            if endpoint == USERINFO:
                hostile.refuses("userinfo_type", endpoint=endpoint)
            else:
                hostile.new_process()
                hostile.accepts()


# --- compression ------------------------------------------------------------------------------------------


def zstd_bomb() -> bytes:
    """Give a frame of RLE blocks, 4 bytes for each 128 KiB of zeros (RFC 8878 §3.1.1)."""
    blocks = HUGE // (128 * 1024)
    size = 128 * 1024
    headers = (size << 3 | 1 << 1 | (number == blocks - 1) for number in range(blocks))
    return struct.pack("<IBB", 0xFD2FB528, 0, 0x58) + b"".join(
        struct.pack("<I", header)[:3] + b"\0" for header in headers
    )


def deflated(raw: bytes, wbits: int) -> bytes:
    """Compress."""
    packer = zlib.compressobj(9, zlib.DEFLATED, wbits)
    return packer.compress(raw) + packer.flush()


BOMBS = {
    "gzip": gzip.compress(b" " * HUGE),
    "x-gzip": gzip.compress(b" " * HUGE),
    "GZIP": gzip.compress(b" " * HUGE),
    "deflate": deflated(b" " * HUGE, zlib.MAX_WBITS),
    "deflate ": deflated(b" " * HUGE, -zlib.MAX_WBITS),
    "zstd": zstd_bomb(),
    "br": b"\xcb\xff\xff\x5f\x00\x00" * 1000,
    "gzip, gzip": gzip.compress(gzip.compress(b" " * HUGE)),
    "identity, gzip": gzip.compress(b" " * HUGE),
    "compress": b"\x1f\x9d\x90" + b"\x00" * 1000,
    "no-such-coding": b"{}",
}


@endpoints
def test_a_bomb_is_not_unpacked(hostile: Hostile, endpoint: str, subtests: pytest.Subtests) -> None:
    """Nobody asked for a compressed answer: a few bytes of one become gigabytes."""
    hostile.accepts()
    for coding, bomb in BOMBS.items():
        with subtests.test(coding):
            hostile.answer_status(endpoint, "200 OK", bomb, {"Content-Encoding": coding})
            tracemalloc.start()
            try:
                hostile.refuses("encoded", endpoint=endpoint)
                assert tracemalloc.get_traced_memory()[1] < MEMORY
            finally:
                tracemalloc.stop()


@endpoints
def test_a_compressed_honest_answer_is_refused_too(hostile: Hostile, endpoint: str) -> None:
    """We said ``identity``; and without the header it is just no JSON."""
    hostile.answer_bytes(endpoint, lambda body: body, Content_Encoding="identity")
    hostile.accepts()
    hostile.answer_bytes(endpoint, gzip.compress, Content_Encoding="gzip")
    hostile.refuses("encoded", endpoint=endpoint)
    hostile.answer_bytes(endpoint, gzip.compress)
    hostile.refuses("not_json", endpoint=endpoint)
