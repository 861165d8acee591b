"""Any file that an operator gives: an env file, a list of people to move in."""

import csv
import io
import re
import shlex
import stat
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from django.contrib.auth import get_user_model
from django.db import transaction
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from spatio_django import fit, registrar
from spatio_django.adoption import Outcome, Verdict, adopt
from spatio_django.adoption_lists import from_csv
from spatio_django.conf import conf
from spatio_django.env_file import EnvFile
from spatio_django.exceptions import ConfigurationError
from spatio_django.models import SpatioAccount, SpatioClient
from spatio_django.oidc.registration import ClientMetadata
from tests.properties.support import (
    ODDITIES,
    RAW_TEXT,
    TEXT,
    always,
    as_bytes,
    changed,
    judged,
    mutated,
    part,
)

User = get_user_model()

# Env files

NOTES = {
    "issuer": "https://api.spatio.app",
    "scope": "openid email",
    "request": {
        "redirect_uris": ["https://site.example/spatio/callback/"],
        "client_name": "Site",
        "scope": "openid",
    },
    "client_secret_expires_at": None,
    "registration_client_uri": "https://api.spatio.app/oauth2/register/abc",
    "registration_access_token": "reg",
}
KEPT = (
    b"# mine\r\nexport OTHER='a b'\nSPATIO_CLIENT_ID=abc\nSPATIO_CLIENT_SECRET='x y'\n"
    b"SPATIO_CLIENT_AUTH_METHOD=client_secret_post\nSPATIO_REDIRECT_URIS=https://site.example/spatio/callback/\n"
)
PIECES = (
    *(
        b"\n",
        b"\r",
        b"\r\n",
        b"=",
        b"'",
        b'"',
        b" ",
        b"#",
        b"export ",
        b"\xff",
        b"\0",
        b"\x85",
        b"\xe2\x80\xa8",
    ),
    *(
        b"SPATIO_CLIENT_ID=",
        b"SPATIO_CLIENT_SECRET=",
        b"SPATIO_REDIRECT_URIS=",
        b"https://[",
        b"# spatio_register: ",
    ),
)
COMMENTS = st.sampled_from([b"# spatio_register: "]).flatmap(
    lambda mark: (
        (
            changed(NOTES, 5, -1, 10**30, "https://[", {"scope": 5}, {"redirect_uris": ["https://["]}).map(
                as_bytes
            )
        )
        | mutated(as_bytes(NOTES), b"{", b"[" * 3000)
    ).map(lambda text: mark + text.replace(b"\n", b" ") + b"\n")
)
FILES = st.builds(bytes.__add__, mutated(KEPT, *PIECES) | st.binary(max_size=80), st.just(b"") | COMMENTS)


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    """Give a folder for all examples."""
    with TemporaryDirectory() as name:
        yield Path(name)


def lines_of(data: bytes) -> list[bytes]:
    """Give the lines as the file's other readers see them, without their ends."""
    return re.split(rb"\r\n|\r|\n", data)


@part(0.4)  # each example waits for the disk twice
@given(FILES)
@example(b"A=1\nSPATIO_CLIENT_ID=abc")
def test_any_env_file_keeps_what_is_not_ours(folder: Path, data: bytes) -> None:
    """Byte for byte and in its order; ours is what was written, once, and for its owner alone to read."""
    path = folder / "env"
    path.write_bytes(data)
    file = EnvFile(path, note="spatio_register")
    before, _note = file.read()
    with file.replacing() as write:
        write({"SPATIO_CLIENT_ID": "new", "SPATIO_CLIENT_SECRET": None}, "{}")
    after, note = file.read()

    ours = {"SPATIO_CLIENT_ID", "SPATIO_CLIENT_SECRET"}
    assert after == {name: value for name, value in before.items() if name not in ours} | {
        "SPATIO_CLIENT_ID": "new"
    }
    assert note == "{}"
    written = path.read_bytes()
    assert written.endswith(b"# spatio_register: {}\nSPATIO_CLIENT_ID=new\n")
    kept = lines_of(written.removesuffix(b"# spatio_register: {}\nSPATIO_CLIENT_ID=new\n"))
    assert [line for line in kept if line] == [
        line
        for line in lines_of(data)
        if line and not re.match(rb"\s*(export\s+)?SPATIO_CLIENT_(ID|SECRET)\s*=|# spatio_register: ", line)
    ]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [*folder.iterdir()] == [path]


@given(FILES)
@example(KEPT + b"# spatio_register: " + as_bytes(NOTES) + b"\n")
@example(b"SPATIO_CLIENT_ID=a\nSPATIO_REDIRECT_URIS=https://[\n")
@example(b"SPATIO_CLIENT_ID=a\nSPATIO_CLIENT_SECRET=\xff\n")
@example(b"# spatio_register: " + b"[" * 100_000)
def test_any_env_file_gives_a_registration_or_an_error(folder: Path, data: bytes) -> None:
    """Whoever wrote it: what is known of it can be compared with what is wanted, and told to an operator."""
    path = folder / "env"
    path.write_bytes(data)
    row = judged(registrar.Environment(path).known)

    if not isinstance(row, SpatioClient):
        assert row is None or isinstance(row, ConfigurationError)
        return
    request = judged(lambda: registrar.wanted(registrar.Wish(), row))
    if isinstance(request, ClientMetadata):
        assert all(isinstance(line, str) for line in registrar.differences(row, request))
    else:
        assert isinstance(request, ConfigurationError)
    assert all(misfit.hint for misfit in fit.misfits(row, now=1_800_000_000))
    assert row.client_id.isprintable()


VALUES = st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), max_size=40)


@part(0.5)
@given(VALUES | RAW_TEXT)
@always((f"a{odd}b",) for odd in ODDITIES)
@always((value,) for value in ("", "~ada", "$HOME", "`id`", "a\\", "'a'", "$(id)", "!!", "a #b", "*"))
def test_any_value_is_read_as_it_was_written_or_refused(folder: Path, value: str) -> None:
    """By us, and by a shell, which is the strictest of those that read such files."""
    path = folder / "env"
    path.write_text("OTHER=1\n")
    file = EnvFile(path, note="spatio_register")

    def write() -> bool:
        with file.replacing() as replace:
            replace({"ID": value}, "{}")
        return True

    if judged(write) is True:
        assert file.read()[0]["ID"] == value
        (line,) = (line for line in path.read_text().splitlines() if line.startswith("ID="))
        assert shlex.split(line) == [f"ID={value}"]
    else:
        assert not value.isprintable() or not value.isascii() or {"'", "\\"} & {*value}


# Lists of people

LIST = b"pk,sub\n1,a-1\n2,a-2\n2,a-2\n3,b\n"
CELLS = (
    st.sampled_from(
        ["1", "2", "3", "001", "-1", "1_0", "\u0661", "9" * 30, "a-1", "A-1", "a-2", " a", "", "x" * 300]
    )
    | TEXT
)
HEADERS = st.sampled_from(
    [
        ("pk", "sub"),
        ("username", "sub"),
        ("sub", "pk", "issuer"),
        ("pk", "sub", "x"),
        ("pk",),
        ("pk", "username", "sub"),
    ]
)


@st.composite
def lists(draw: st.DrawFn) -> str:
    """Give lists as spreadsheets write them, with cells of all kinds, and what is no list at all."""
    if draw(st.booleans()):
        return draw(mutated(LIST, b",", b'"', b"\n", b"\r", b"\0", b";", b"pk", b"sub", b"issuer")).decode(
            "utf-8", "replace"
        )
    stream = io.StringIO(newline="")
    writer = csv.writer(stream)
    header = draw(HEADERS)
    writer.writerow(header)
    for _ in range(draw(st.integers(0, 6))):
        length = draw(st.sampled_from([len(header), len(header), len(header), 1, len(header) + 1]))
        writer.writerow([draw(CELLS | st.just(conf.SPATIO_ISSUER)) for _ in range(length)])
    return stream.getvalue()


@pytest.fixture
def people(db: None) -> None:
    """Make the users that the lists name, one with a name that is another's key."""
    for pk, name in enumerate(("a-1", "a-2", "2", "b"), 1):
        User.objects.create(pk=pk, username=name)


@settings(part(0.5), suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(lists())
@example(LIST.decode())
@example("pk,sub\n1,a\n\n2,a\n")
@example("pk,sub\r1,a-1\n2,a-2\n3,b\n")
@example("pk,sub\n\u0661,a\n 2,b\n003,c\n+4,d\n")
def test_any_list_connects_one_person_to_one_account_or_nobody(people: None, text: str) -> None:
    """Each row has an outcome; nothing is guessed; done twice is done once."""

    def run() -> list[Verdict]:
        return list(adopt(from_csv(io.StringIO(text, newline=""), issuer=conf.SPATIO_ISSUER), apply=True))

    with transaction.atomic():
        verdicts = judged(run)
        if not isinstance(verdicts, list):
            assert isinstance(verdicts, ConfigurationError)
            assert verdicts.code == "adopt"
            assert not SpatioAccount.objects.exists()
        else:
            new = [verdict for verdict in verdicts if verdict.outcome is Outcome.NEW]
            accounts = {(account.user_id, account.sub) for account in SpatioAccount.objects.all()}
            assert (
                len(accounts)
                == len(new)
                == len({user for user, _ in accounts})
                == len({sub for _, sub in accounts})
            )
            assert {sub for _, sub in accounts} == {verdict.row.sub for verdict in new}
            cells = {cell.lstrip("0") for row in csv.reader(io.StringIO(text, newline="")) for cell in row}
            assert all(verdict.row.user in cells for verdict in new)
            assert all(sub.isascii() and sub.isprintable() and sub == sub.strip() for _, sub in accounts)
            again = judged(run)
            assert isinstance(again, list)
            assert [verdict.outcome for verdict in again] == [
                Outcome.KNOWN if verdict.outcome is Outcome.NEW else verdict.outcome for verdict in verdicts
            ]
        transaction.set_rollback(True)
