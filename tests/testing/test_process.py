"""``python -m spatio_django.testing``, as its users meet it."""

import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from spatio_django.testing import FakeSpatio
from spatio_django.testing.__main__ import main
from tests.testing.relying_party import CALLBACK, fetch

ROOT = Path(__file__).parent.parent.parent


@contextmanager
def running(*arguments: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """The process, and the issuer that it printed."""
    command = [sys.executable, "-X", "dev", "-W", "error", "-m", "spatio_django.testing", *arguments]
    process = subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, encoding="utf-8"
    )
    with process:
        try:
            assert process.stdout is not None
            line = next(line for line in process.stdout if "SPATIO_ISSUER" in line)
            yield process, line.split('"')[1]
        finally:
            process.kill()  # nothing happens to one that has ended


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_serves_until_it_is_told_to_stop(number: signal.Signals, tmp_path: Path) -> None:
    """It prints the setting to use, logs paths without their queries, and ends with status 0."""
    state = tmp_path / "state.json"
    with running("--port", "0", "--state", str(state), "--access-token-lifetime", "7") as (process, issuer):
        assert issuer.startswith("http://127.0.0.1:")
        body = {"client_name": "A site", "redirect_uris": [CALLBACK]}
        assert fetch(issuer + "/oauth2/register", body=body).status == 201
        assert fetch(issuer + "/consent?request=secret").status == 400
        time.sleep(0.3)  # longer than it waits for a signal at a time
        process.send_signal(number)
        _, errors = process.communicate(timeout=10)

    assert process.returncode == 0
    assert "GET /consent 400" in errors
    assert "secret" not in errors
    assert "Traceback" not in errors
    assert "Warning" not in errors
    assert CALLBACK in state.read_text()


def test_it_explains_its_options(capsys: pytest.CaptureFixture[str]) -> None:
    """With the command that people type."""
    with pytest.raises(SystemExit, match="0"):
        main(["--help"])

    output = capsys.readouterr().out
    assert output.startswith("usage: python -m spatio_django.testing")
    assert all(option in output for option in ("--host", "--port", "--state", "--access-token-lifetime"))


def test_it_says_why_it_cannot_start(spatio: FakeSpatio, tmp_path: Path) -> None:
    """One line, status 1: a reachable address, a taken port, a directory that isn't there."""
    for arguments, reason in (
        (["--host", "192.0.2.1"], "loopback"),
        (["--port", str(spatio.port)], "in use"),
        (["--port", "0", "--state", str(tmp_path)], "directory"),
    ):
        command = [sys.executable, "-m", "spatio_django.testing", *arguments]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=30, check=False)
        assert done.returncode == 1
        assert reason in done.stderr
        assert len(done.stderr.splitlines()) == 1
