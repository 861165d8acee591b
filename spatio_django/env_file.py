"""Environment files: some lines replaced, the rest left alone, mode 0600, all or nothing."""

import os
import re
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from spatio_django.exceptions import ConfigurationError

# The value with the spaces around it: to tell them apart, an expression looks at each space again and again.
_ASSIGNMENT = re.compile(r"\s*(?:export\s+)?([A-Za-z_][A-Za-z0-9_]*)\s*=(.*)")
#: What Docker, systemd, shells and the libraries for such files read as it stands. No tilde: to a shell,
#: ``~ada`` is somebody's home.
_PLAIN = re.compile(r"[A-Za-z0-9._+/=:@%,-]*")
#: What all of them but Docker, which knows no quotes, read the same in single quotes.
_QUOTABLE = re.compile(r"[\x20-\x26\x28-\x5b\x5d-\x7e]*")

#: Bytes kept free on the disk for what is written: more than a provider's answer may have.
_ROOM = 64 * 1024

Write = Callable[[Mapping[str, str | None], str], None]


class EnvFile:
    """
    A file of ``NAME=value`` lines, and one comment of ours.

    Args:
        path: Need not be there yet. A symbolic link stays one: what it leads to is replaced.
        note: What our comment begins with.
    """

    def __init__(self, path: Path, *, note: str) -> None:
        self.path = Path(os.path.realpath(path))
        self._note = f"# {note}: "

    def read(self) -> tuple[dict[str, str], str]:
        """
        Give the variables, and our comment; of a file that is not there, none and an empty one.

        Raises:
            ConfigurationError: ``env_file``.
        """
        values, note = {}, ""
        for line in self._lines():
            if line.startswith(self._note):
                note = line.removeprefix(self._note).strip()
            elif match := _ASSIGNMENT.fullmatch(line.rstrip("\r\n")):
                name, value = match[1], match[2].strip()
                is_quoted = len(value) > 1 and value[0] == value[-1] and value[0] in "'\""
                values[name] = value[1:-1] if is_quoted else value
        return values, note

    @contextmanager
    def replacing(self) -> Iterator[Write]:
        """
        Give a function that replaces variables (``None`` takes one out) and our comment.

        The new file is made, at its full size, before the block begins, so that a folder which can't be
        written to and a full disk are known in time; it takes the place of the old one at once, when the
        function is called.

        Raises:
            ConfigurationError: ``env_file``; also from the function.
        """
        with _told(self.path):
            kept = self._lines()
            handle, name = tempfile.mkstemp(prefix=f".{self.path.name}.", dir=self.path.parent)  # mode 0600
        new = Path(name)
        file = os.fdopen(handle, "w", encoding="utf-8", errors="surrogateescape", newline="")

        def write(values: Mapping[str, str | None], note: str) -> None:
            lines = [*self._without(kept, values), f"{self._note}{note}\n"]
            lines += [f"{key}={_quoted(key, value)}\n" for key, value in values.items() if value is not None]
            with _told(self.path):
                file.seek(0)
                file.write("".join(lines))
                file.truncate()
                os.fsync(handle)
                if self.path.exists():
                    with suppress(OSError):  # who is not root owns it already, or may not give it away
                        os.chown(new, self.path.stat().st_uid, self.path.stat().st_gid)
                new.replace(self.path)

        try:
            with _told(self.path):
                file.write("".join(kept) + "\n" * _ROOM)
                file.flush()
            yield write
        finally:
            with suppress(OSError):  # what it couldn't write was told already
                file.close()
            new.unlink(missing_ok=True)

    def _lines(self) -> list[str]:
        """Give the lines with their ends, the last one ended."""
        with _told(self.path):
            if not self.path.exists():
                return []
            if not self.path.is_file():
                raise ConfigurationError(f"{self.path} is no regular file.", code="env_file")
            with self.path.open(encoding="utf-8", errors="surrogateescape", newline="") as file:
                lines = file.readlines()
        return [*lines[:-1], lines[-1] if lines[-1].endswith("\n") else lines[-1] + "\n"] if lines else []

    def _without(self, lines: list[str], values: Mapping[str, str | None]) -> Iterator[str]:
        for line in lines:
            match = _ASSIGNMENT.fullmatch(line.rstrip("\r\n"))
            if not (line.startswith(self._note) or (match and match[1] in values)):
                yield line


@contextmanager
def _told(path: Path) -> Iterator[None]:
    """Tell what the system refuses, as an error of ours."""
    try:
        yield
    except OSError as error:
        raise ConfigurationError(f"{path} can't be used: {error.strerror}.", code="env_file") from None


def _quoted(name: str, value: str) -> str:
    if _PLAIN.fullmatch(value):
        return value
    if _QUOTABLE.fullmatch(value):
        return f"'{value}'"
    raise ConfigurationError(
        f"{name} has characters that readers of such files take for different things.", code="env_file"
    )
