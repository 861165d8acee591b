"""A database, a provider that watches for reuse, and the example project under real servers."""

import io
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import uuid
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs

import pytest

from spatio_django.testing import FakeSpatio

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

ROOT = Path(__file__).parent.parent.parent
#: Seconds for whatever is waited for; a busy machine needs some of them.
PATIENCE = 60
#: Two processes each, as their documentation says; HUP starts both servers' workers anew.
COMMANDS = {
    "gunicorn": ["gunicorn", "tests.servers.wsgi", "--workers=2", "--threads=4", "--graceful-timeout=20"],
    "uvicorn": ["uvicorn", "tests.servers.asgi:application", "--workers=2", "--no-access-log"],
}


@pytest.fixture(autouse=True)
def fresh_process() -> None:
    """Replace the fixture of this name that prepares Django here: the site is in other processes."""


class Watch:
    """
    WSGI middleware before the provider: counts how often each refresh token is sent, and can take its time.

    Attributes:
        seconds: That the token endpoint thinks before it answers.
    """

    def __init__(self) -> None:
        self.seconds = 0.0
        self.refreshes: Counter[str] = Counter()
        self._lock = threading.Lock()

    def wrap(self, app: "WSGIApplication") -> "WSGIApplication":
        """Stand in front of *app*."""

        def watching(environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
            if environ["PATH_INFO"] == "/oauth2/token":
                body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
                environ["wsgi.input"] = io.BytesIO(body)
                with self._lock:
                    self.refreshes.update(parse_qs(body.decode()).get("refresh_token", []))
                time.sleep(self.seconds)
            return app(environ, start_response)

        return watching

    @property
    def reuses(self) -> int:
        """How often a refresh token came that had come before."""
        return self.refreshes.total() - len(self.refreshes)


@pytest.fixture
def watch() -> Watch:
    """Give what counts."""
    return Watch()


@pytest.fixture
def spatio(watch: Watch) -> Iterator[FakeSpatio]:
    """Serve a provider whose access tokens live for five seconds."""
    with FakeSpatio(access_token_lifetime=5, wrap=watch.wrap) as provider:
        yield provider


@pytest.fixture
def database() -> Iterator[str]:
    """Make an empty database, and leave none behind."""
    psycopg = pytest.importorskip("psycopg")
    where = {"host": os.environ.get("PGHOST", "127.0.0.1"), "user": os.environ.get("PGUSER", "postgres")}
    try:
        connection = psycopg.connect(dbname="postgres", autocommit=True, connect_timeout=5, **where)
    except psycopg.OperationalError:
        pytest.skip("There is no PostgreSQL; say where one is with PGHOST and PGUSER.")
    name = f"spatio_servers_{uuid.uuid4().hex[:12]}"
    with connection:
        connection.execute(f"CREATE DATABASE {name}")
        try:
            yield name
        finally:
            connection.execute(f"DROP DATABASE {name} WITH (FORCE)")


class Server:
    """The example project, registered at the provider, under one of the servers."""

    def __init__(self, kind: str, spatio: FakeSpatio, database: str, log: Path) -> None:
        self.kind = kind
        with socket.create_server(("127.0.0.1", 0)) as listener:
            self.port = int(listener.getsockname()[1])
        self.origin = f"http://localhost:{self.port}"
        self.log = log
        self.environment = os.environ | {
            "DJANGO_SETTINGS_MODULE": "tests.servers.settings",
            "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "example_project")]),
            "PYTHONUNBUFFERED": "1",
            "SERVERS_DATABASE": database,
            "SPATIO_ISSUER": spatio.issuer,
        }
        self.process: subprocess.Popen[bytes] | None = None

    def manage(self, *arguments: str) -> None:
        """Run one of Django's commands."""
        command = [sys.executable, "-m", "django", *arguments, "--verbosity=0"]
        subprocess.run(command, cwd=ROOT, env=self.environment, check=True, timeout=PATIENCE)

    def start(self) -> None:
        """Set the site up, start the server, and wait for it."""
        self.manage("migrate")
        self.manage("spatio_register", "--base-url", self.origin)
        name, *arguments = COMMANDS[self.kind]
        where = ["--bind", f"127.0.0.1:{self.port}"] if name == "gunicorn" else ["--port", str(self.port)]
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", name, *arguments, *where],
                cwd=ROOT,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        deadline = time.monotonic() + PATIENCE
        while not self.listens():
            assert self.process.poll() is None, self.output
            assert time.monotonic() < deadline, self.output
            time.sleep(0.1)

    def listens(self) -> bool:
        """Tell whether something listens."""
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    @property
    def output(self) -> str:
        """What it said."""
        return self.log.read_text()

    @property
    def workers(self) -> set[int]:
        """Its processes that serve (on systems with a /proc), without uvicorn's resource tracker."""
        assert self.process is not None
        found = set()
        for stat in Path("/proc").glob("[0-9]*/stat"):
            with suppress(OSError):  # ended just now
                pid, rest = stat.parent.name, stat.read_text().rpartition(")")[2].split()
                is_alive = int(rest[1]) == self.process.pid and rest[0] != "Z"
                if is_alive and b"resource_tracker" not in stat.with_name("cmdline").read_bytes():
                    found.add(int(pid))
        return found

    def restart_workers(self) -> None:
        """Start all workers anew, as a deployment does: HUP, by the documentation of both."""
        assert self.process is not None
        self.process.send_signal(signal.SIGHUP)

    def stop(self) -> None:
        """End it, and whatever it has started."""
        if self.process is None:
            return
        self.process.terminate()
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(PATIENCE)
        with suppress(OSError):  # the normal case: nobody is there
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(PATIENCE)


@pytest.fixture
def serve(spatio: FakeSpatio, database: str, tmp_path: Path) -> Iterator[Any]:
    """Give what starts a server by its name."""
    servers: list[Server] = []

    def start(kind: str) -> Server:
        pytest.importorskip(kind)
        server = Server(kind, spatio, database, tmp_path / "server.log")
        servers.append(server)
        server.start()
        return server

    yield start
    for server in servers:
        server.stop()
