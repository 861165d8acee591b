"""StrictResponse: http.client's reader of answers, without what it lets a server get away with."""

import http.client
import re
from email.errors import MultipartInvariantViolationDefect, StartBoundaryNotFoundDefect
from typing import Any

#: Bytes of one answer before its body, interim answers included, and again behind its last chunk. Python
#: alone would take 100 lines of 64 KiB before, and any number behind.
HEAD_LIMIT = 64 * 1024
#: Bytes of the line before a chunk: its size, and extensions that nobody uses.
CHUNK_LINE_LIMIT = 1024

#: Nobody asked for it, so it ends the conversation instead of preceding an answer.
SWITCHING_PROTOCOLS = 101

# What Python's parser of mail misses behind the head of a multipart answer: it looks at no body here.
_OF_BODIES = (StartBoundaryNotFoundDefect, MultipartInvariantViolationDefect)

# int() would also take a sign, underscores and foreign digits; a negative size then means "read all".
_LENGTH = re.compile(r"[0-9]{1,15}", re.ASCII)
_CHUNK_LINE = re.compile(rb"([0-9A-Fa-f]{1,16})(?:[ \t]*;[^\n]*)?\r?\n")


class StrictResponse(http.client.HTTPResponse):
    """
    An answer whose head is small, whose body and chunks have a size, and whose cookies nobody parses.

    It overrides where http.client has no other way in; the tests say whether a new Python still asks here.

    Attributes:
        is_framed: It says itself where its body ends. Otherwise the end of the connection does, and our own
            deadline looks the same as that.

    Raises:
        http.client.HTTPException: The head is too long or cut off, the body or a chunk has no proper size,
            or too much follows the last one.
    """

    fp: Any  # None once the answer was read
    is_framed = False

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fp = _Head(self.fp)

    def begin(self) -> None:
        """Read the head, and see where the body ends."""
        super().begin()
        self.fp = self.fp.stream
        if any(not isinstance(defect, _OF_BODIES) for defect in self.headers.defects):
            # A line without a colon ends the head for Python, and the headers behind it would be missed.
            raise http.client.HTTPException("The head has a line that is no header.")
        lengths = {length.strip(" \t") for length in self.headers.get_all("Content-Length", ())}
        if len(lengths) > 1 or not all(map(_LENGTH.fullmatch, lengths)):
            # RFC 9112 §6.3. Of two, Python would take the first; and without one that it can read, all until
            # the connection ends.
            raise http.client.HTTPException("The body has no proper length.")
        self.is_framed = bool(self.chunked or self.length is not None)
        # requests would give these to http.cookiejar, whose expressions take seconds for some.
        del self.headers["Set-Cookie"]

    def _read_status(self) -> tuple[str, int, str]:
        """Pass over interim answers (RFC 9110 §15.2). Python knows 100 only, and takes 103 for the answer."""
        while True:
            version, status, reason = super()._read_status()  # type: ignore[misc]  # not in typeshed
            if not 100 <= status < 200 or status == SWITCHING_PROTOCOLS:
                return version, status, reason
            while self.fp.readline(HEAD_LIMIT) not in {b"\r\n", b"\n"}:
                pass

    def _read_next_chunk_size(self) -> int:
        match = _CHUNK_LINE.fullmatch(self.fp.readline(CHUNK_LINE_LIMIT))
        if match is None:
            raise http.client.HTTPException("A chunk has no proper size.")
        return int(match[1], 16)

    def _read_and_discard_trailer(self) -> None:
        left = HEAD_LIMIT
        # Nothing at all is let pass: the body is whole.
        while (line := self.fp.readline(left + 1)) not in {b"\r\n", b"\n", b""}:
            left -= len(line)
            if left < 0:
                raise http.client.LineTooLong("trailers")
        if not line:
            self.is_framed = False  # the connection has ended it


class _Head:
    """A stream until the body begins: lines, up to a total."""

    def __init__(self, stream: Any) -> None:
        self.stream = stream
        self._left = HEAD_LIMIT

    def readline(self, limit: int) -> bytes:
        line: bytes = self.stream.readline(min(limit, self._left + 1))
        self._left -= len(line)
        if self._left < 0:
            raise http.client.LineTooLong("head")
        if not line.endswith(b"\n") and len(line) < limit:
            # For http.client the end of the connection ends a head too: an answer that is cut off there would
            # be one with an empty body.
            raise http.client.RemoteDisconnected("The head is cut off.")
        return line

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)
