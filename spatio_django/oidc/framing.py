"""StrictResponse: http.client's reader of answers, without what it lets a server get away with."""

import http.client
import re
from typing import Any

#: Bytes of one answer before its body, interim answers included. Python alone would take 100 lines of 64 KiB.
HEAD_LIMIT = 64 * 1024
#: Bytes of the line before a chunk: its size, and extensions that nobody uses.
CHUNK_LINE_LIMIT = 1024

# int(line, 16) would also take a sign, underscores and foreign digits; a negative size then means "read all".
_CHUNK_LINE = re.compile(rb"([0-9A-Fa-f]{1,16})(?:[ \t]*;[^\n]*)?\r?\n")


class StrictResponse(http.client.HTTPResponse):
    """
    An answer whose head is small, whose chunks have a size, and whose cookies nobody parses.

    It overrides where http.client has no other way in; the tests say whether a new Python still asks here.

    Raises:
        http.client.HTTPException: The head is too long, or a chunk has no proper size.
    """

    fp: Any  # None once the answer was read

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fp = _Head(self.fp)

    def begin(self) -> None:
        """Read the head. Not called for a proxy's answer to CONNECT, which has no body."""
        super().begin()
        self.fp = self.fp.stream
        # requests would give these to http.cookiejar, whose expressions take seconds for some.
        del self.headers["Set-Cookie"]

    def _read_next_chunk_size(self) -> int:
        match = _CHUNK_LINE.fullmatch(self.fp.readline(CHUNK_LINE_LIMIT))
        if match is None:
            raise http.client.HTTPException("A chunk has no proper size.")
        return int(match[1], 16)


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
        return line

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)
