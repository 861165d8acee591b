"""Environment files: what is replaced, what stays, and what an interruption leaves."""

import errno
import os
import resource
import signal
import stat
from pathlib import Path

import pytest

from spatio_django.env_file import EnvFile
from spatio_django.exceptions import ConfigurationError


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Give the path of a file that is not there yet."""
    return tmp_path / "folder" / ".env"


@pytest.fixture
def file(path: Path) -> EnvFile:
    """Give it as an env file, in a folder that is there."""
    path.parent.mkdir()
    return EnvFile(path, note="ours")


def write(file: EnvFile, values: dict[str, str | None], note: str = "{}") -> None:
    """Replace variables."""
    with file.replacing() as replace:
        replace(values, note)


def test_a_new_file_is_its_owners_alone(file: EnvFile, path: Path) -> None:
    """Mode 0600 from its first byte on: it was made so, and not changed afterwards."""
    write(file, {"ID": "abc", "GONE": None})

    assert path.read_text() == "# ours: {}\nID=abc\n"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert file.read() == ({"ID": "abc"}, "{}")
    assert list(path.parent.iterdir()) == [path]


def test_other_lines_stay_as_they_are(file: EnvFile, path: Path) -> None:
    """Comments, order, line ends, bytes that are no UTF-8; and a last line without an end gets one."""
    path.write_bytes(b"# mine\r\nexport ID = 'old'\nOTHER=\xff x\nID=older\n# ours: old\nLAST=1")
    path.chmod(0o644)

    write(file, {"ID": "new", "SECRET": None}, "new")

    assert path.read_bytes() == b"# mine\r\nOTHER=\xff x\nLAST=1\n# ours: new\nID=new\n"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_file_without_our_lines_has_no_note(file: EnvFile, path: Path) -> None:
    """Nor has one that is not there."""
    assert file.read() == ({}, "")
    path.write_text("# comment\n\nA=1\nB=\"two words\"\nC='three'\nnot a line\n")

    assert file.read() == ({"A": "1", "B": "two words", "C": "three"}, "")


def test_spaces_around_a_value_are_not_its_own(file: EnvFile, path: Path) -> None:
    """However many there are, and those inside stay: a long line is read in one go."""
    path.write_text(f"A =  1 \nB={' ' * 9}\nC= x{' ' * 200_000}y\t\n")

    assert file.read() == ({"A": "1", "B": "", "C": f"x{' ' * 200_000}y"}, "")


def test_a_link_stays_a_link(path: Path) -> None:
    """Deployments link the file of a release to a shared one."""
    path.parent.mkdir()
    link = path.with_name("link")
    link.symlink_to(path)

    write(EnvFile(link, note="ours"), {"ID": "abc"})

    assert link.is_symlink()
    assert "ID=abc" in path.read_text()


def test_what_is_interrupted_leaves_the_old_file(file: EnvFile, path: Path) -> None:
    """And no second one beside it, with a secret in it."""
    path.write_text("ID=old\n")

    with pytest.raises(ValueError, match="no answer"), file.replacing():
        raise ValueError("no answer")

    assert path.read_text() == "ID=old\n"
    assert list(path.parent.iterdir()) == [path]


def test_a_folder_that_is_not_there_is_told_first(path: Path) -> None:
    """Before anything is asked of anybody."""
    with pytest.raises(ConfigurationError, match="No such file") as caught:
        EnvFile(path, note="x").replacing().__enter__()

    assert caught.value.code == "env_file"


def test_a_disk_that_is_full_is_told_first(file: EnvFile, path: Path) -> None:
    """A limit on the size of files refuses as a full disk does; nothing is left, and what was there stays."""
    write(file, {"ID": "abc"})
    before = path.read_bytes()
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1024, hard))
    try:
        with pytest.raises(ConfigurationError, match=os.strerror(errno.EFBIG)) as caught:
            file.replacing().__enter__()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, handler)

    assert caught.value.code == "env_file"
    assert path.read_bytes() == before
    assert list(path.parent.iterdir()) == [path]
    write(file, {"ID": "new"})
    assert file.read() == ({"ID": "new"}, "{}")


def test_what_is_no_file_is_not_replaced(path: Path) -> None:
    """A folder, or a device."""
    path.mkdir(parents=True)

    for call in (EnvFile(path, note="x").read, EnvFile(path, note="x").replacing().__enter__):
        with pytest.raises(ConfigurationError, match="no regular file"):
            call()

    assert list(path.parent.iterdir()) == [path]


def test_a_value_that_readers_disagree_about_is_refused(file: EnvFile, path: Path) -> None:
    """Better no file than one that gives a shell another secret than Docker."""
    write(file, {"ID": "~root"})
    assert "ID='~root'\n" in path.read_text()
    write(file, {"ID": "with space $HOME # and more"})
    assert "ID='with space $HOME # and more'\n" in path.read_text()

    for value in ("it's", "back\\slash"):
        with pytest.raises(ConfigurationError) as caught:
            write(file, {"ID": value})
        assert caught.value.code == "env_file"
        assert value not in str(caught.value)

    assert file.read()[0] == {"ID": "with space $HOME # and more"}
