"""
The benchmark in its shortest form: what it counts, and that its instruments do what they say.

Times are for a quiet machine and ``python -m benchmarks``; none is judged here.
"""

import socket
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from benchmarks import machine, middleware, profiling, sign_ins, storm
from benchmarks.network import network
from benchmarks.sign_ins import Result, Statements
from benchmarks.sites.catalogue import SITES
from benchmarks.workers import ROOT, Worker, WorkerFailed

pytestmark = pytest.mark.provider  # it needs what the peers, or Authlib, bring

OURS = ("minimum", "minimum_userinfo", "spatio", "spatio_userinfo")
PEERS = tuple(name for name in SITES if name not in OURS)


def measured(names: tuple[str, ...], folder: Path, *, scheme: str = "http") -> dict[str, Result]:
    """Measure in one round of one sign-in, with nobody far away or slow."""
    with network(folder, scheme=scheme, round_trip=0) as net:
        results = sign_ins.measure(
            names, net, folder, people=20, rounds=1, turn=1, seconds=0, pause=0, say=lambda _: None
        )
    return {result.site.name: result for result in results}


def test_a_warm_sign_in_asks_for_nothing_but_tokens_and_a_user(tmp_path: Path) -> None:
    """Over https: no discovery, no keys, no new connection, no write at the login view, few statements."""
    found = measured(OURS, tmp_path, scheme="https")

    for name, result in found.items():
        userinfo = {"userinfo": 1} if result.site.asks_userinfo else {}
        counts = result.counts
        assert counts.calls == {"token": 1} | userinfo, name
        assert counts.connections == 0, name
        assert counts.first_calls == {"discovery": 1, "jwks": 1, "token": 1} | userinfo, name
        assert counts.first_connections == 1, name
        assert max(counts.login).writes == 0, name
        assert len(result.wall) == len(result.cpu) == 1, name
    for name in ("minimum", "minimum_userinfo"):
        assert [each.asked for each in found[name].counts.callback] == [4] * (sign_ins.LEAST + 1), name
    for name in ("spatio", "spatio_userinfo"):
        asked = [each.asked for each in found[name].counts.callback]
        assert statistics.median_low(asked) <= 6, name
        # One that also clears away used states, and comes when the registration is due to be read again.
        assert max(asked) <= 9, name


@pytest.mark.parametrize("name", PEERS)
def test_a_peer_signs_in_the_person_whom_the_provider_names(name: str, tmp_path: Path) -> None:
    """Set up as its documentation says, it still does; or there would be nothing to compare with."""
    result = measured((name,), tmp_path)[name]

    assert result.counts.calls["token"] == 1
    assert result.counts.calls.get("userinfo", 0) == result.site.asks_userinfo
    assert max(result.counts.callback).writes >= 2


def test_a_profile_shares_the_time_out(tmp_path: Path) -> None:
    """Database, HTTP and our code have their lines, and the functions that take most are named."""
    with (
        network(tmp_path, scheme="http", round_trip=0) as net,
        sign_ins.started(["spatio"], net, tmp_path, count=20, say=lambda _: None) as sites,
    ):
        sites["spatio"].ask("first")
        found = sites["spatio"].ask("profile", count=3, top=5)

    assert {"database", "HTTP client", "spatio_django, the rest", "crypto"} <= set(found["layers"])
    assert len(found["own"]) == len(found["total"]) == 5
    text = profiling.report(found)
    assert "spatio_django/" in text
    assert str(ROOT) not in text


def test_the_command_measures_a_start_and_writes_it_down(tmp_path: Path) -> None:
    """A new project's figures, and what the package adds to them; on the terminal, and in a file."""
    report = tmp_path / "report.md"
    command = ["startup", "--rounds", "1", "--sites", "spatio,spatio_userinfo", "--output", str(report)]
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks", *command], cwd=ROOT, check=True, capture_output=True, text=True
    )

    assert done.stdout == report.read_text()
    rows = [line for line in done.stdout.splitlines() if line.startswith("| ")]
    assert [row.split(" | ")[0] for row in rows[2:]] == ["| a new project, in all", "| `spatio` adds"]
    modules = [float(row.strip("| ").split(" | ")[7]) for row in rows[2:]]
    assert modules[0] > 100
    assert modules[1] > 0


def test_the_middleware_asks_nothing_while_nothing_is_due(tmp_path: Path) -> None:
    """No query more than without it; and its table has a control, and what that differs from itself by."""
    found, queries = middleware.measure(tmp_path, rounds=1, turn=3, say=lambda _: None)

    for case in middleware.CASES:
        added = queries[case, "spatio"] - queries[case, "control"]
        assert (added == 0) == (case.due == "nothing"), case.name
    text = middleware.report(found, queries)
    assert text.count("| control again |") == 4 * 2 + 2
    assert text.count("| `spatio` |") == 4 * 2 + 2


def test_the_storm_writes_down_what_a_refresh_without_a_lock_loses(tmp_path: Path) -> None:
    """Both ways have their line; the tests proper, longer and with every database, are in tests/refresh/."""
    found, left_out = storm.measure(
        tmp_path,
        kinds=["sqlite"],
        processes=2,
        threads=4,
        users=5,
        seconds=3,
        delay=0.02,
        say=lambda _: None,
    )

    assert not left_out
    naive, package = (each.report for each in found)
    assert naive.lost > 0
    assert (package.lost, package.reuses, package.errors) == (0, 0, {})
    rows = storm.report(found, processes=2).splitlines()[2:]
    assert [row.split(" | ")[0] for row in rows] == ["| sqlite, without a lock", "| sqlite, `spatio`"]


def test_a_site_that_refuses_somebody_ends_the_run(tmp_path: Path) -> None:
    """Sign-ins that fail fast would look fast: the traceback comes instead."""
    with (
        network(tmp_path, scheme="http", round_trip=0) as net,
        sign_ins.started(["minimum"], net, tmp_path, count=3, say=lambda _: None) as sites,
    ):
        assert sites["minimum"].ask("turn", count=2)["wall"] > 0

        sites["minimum"].ask("begin", count=10_000)  # more people than there are
        with pytest.raises(WorkerFailed, match="DoesNotExist"):
            sites["minimum"].ask("turn", count=20)


@contextmanager
def echo() -> Iterator[int]:
    """Listen on loopback, and give back what comes on each connection."""

    def answer() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with connection:
                while data := connection.recv(65536):
                    connection.sendall(data)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=answer, daemon=True)
        thread.start()
        yield listener.getsockname()[1]
        listener.shutdown(socket.SHUT_RDWR)
    thread.join(10)


def test_distance_takes_a_round_trip_and_two_for_a_new_connection() -> None:
    """Never less: TCP's handshake is one, the question and its answer another; and bytes keep their order."""

    def ask(*parts: bytes) -> float:
        began = time.monotonic()
        for part in parts:
            connection.sendall(part)
            time.sleep(0.002)  # so that each comes by itself
        received = b""
        while len(received) < len(b"".join(parts)):
            received += connection.recv(65536)
        assert received == b"".join(parts)
        return time.monotonic() - began

    parts = [bytes([number]) * 5000 for number in range(10)]
    with (
        echo() as port,
        Worker("benchmarks.distance", {"port": port, "round_trip": 0.05}, name="distance") as worker,
        socket.create_connection(("127.0.0.1", worker.ask("port")), timeout=20) as connection,
    ):
        assert ask(*parts) >= 0.1
        assert ask(*parts) >= 0.05


def test_statements_are_told_from_what_is_around_them() -> None:
    """Beginning and ending a transaction is no question, and only some statements write."""
    found = Statements.of(
        ["BEGIN IMMEDIATE", "SELECT 1", 'INSERT INTO "a" VALUES (1)', "SAVEPOINT x", "COMMIT", 'UPDATE "a"']
    )

    assert found == Statements(asked=3, writes=2, sent=6)


def test_ratios_are_taken_inside_a_round() -> None:
    """A round in which the machine was busy slows both, and changes no ratio."""
    assert sign_ins.ratios([2.0, 20.0, 2.0], [1.0, 10.0, 1.0]) == "2.00 (2.00 to 2.00)"
    assert machine.middle_half([4.0]) == (4.0, 4.0)
    assert machine.table(["a", "b"], [["1", "2"]]) == "| a | b |\n| --- | --- |\n| 1 | 2 |"
