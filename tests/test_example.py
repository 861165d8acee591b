"""The example project as its readers meet it: one command, in a folder of its own, over real HTTP."""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from html import unescape
from http.client import HTTPConnection
from http.cookiejar import CookieJar
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urljoin
from urllib.request import HTTPCookieProcessor, OpenerDirector, ProxyHandler, build_opener

import pytest

import spatio_django
from spatio_django.testing.browser import Person

pytestmark = pytest.mark.provider

ROOT = Path(__file__).resolve().parent.parent
#: Seconds for whatever is waited for; a busy machine needs some of them.
PATIENCE = 60


def eventually(condition: Callable[[], object], what: str) -> None:
    """Wait until *condition* holds."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, f"Waited in vain for {what}."
        time.sleep(0.05)


def free_port() -> int:
    """Give a port that nothing listens on."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def listens(port: int) -> bool:
    """Tell whether something listens on *port*."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def answers(port: int) -> bool:
    """
    Tell whether a site answers on *port*.

    To have connected is not enough before Ctrl-C: Django's server would take the connection while it ends,
    and say that it can't.
    """
    with closing(HTTPConnection("127.0.0.1", port, timeout=PATIENCE)) as probe:
        with suppress(ConnectionRefusedError):
            probe.request("HEAD", "/")
            return probe.getresponse().status == 200
        return False


class Demo:
    """A copy of the example project, and the command that runs it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "example_project"
        unwanted = shutil.ignore_patterns("*.sqlite3*", ".provider*", "__pycache__")
        shutil.copytree(ROOT / "example_project", self.folder, ignore=unwanted)
        self.log = folder / "log.txt"
        self.port, self.spatio_port = free_port(), free_port()
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def origin(self) -> str:
        """Where the site is."""
        return f"http://localhost:{self.port}"

    @property
    def issuer(self) -> str:
        """Where the provider is."""
        return f"http://127.0.0.1:{self.spatio_port}"

    @property
    def output(self) -> str:
        """What it said."""
        return self.log.read_text()

    def launch(self) -> "subprocess.Popen[bytes]":
        """Run the command, in a process group of its own, as a terminal does."""
        ports = ["--port", str(self.port), "--spatio-port", str(self.spatio_port)]
        # The package that is tested here is the one that runs there.
        package = str(Path(spatio_django.__file__).parent.parent)
        environment = {name: value for name, value in os.environ.items() if name != "DJANGO_SETTINGS_MODULE"}
        environment |= {"PYTHONPATH": package, "PYTHONUNBUFFERED": "1"}
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "manage.py", "demo", *ports],
                cwd=self.folder,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        return self.process

    def start(self) -> None:
        """Run the command and wait for the site."""
        process = self.launch()
        eventually(lambda: process.poll() is not None or answers(self.port), "the site")
        assert process.poll() is None, self.output

    def stop(self, *, whole_group: bool = True) -> int:
        """Press Ctrl-C, which reaches every process of the group; or ask the command alone to end."""
        assert self.process is not None
        if whole_group:
            os.killpg(self.process.pid, signal.SIGINT)
        else:
            self.process.terminate()
        return self.process.wait(PATIENCE)

    def left_over(self) -> list[str]:
        """Give the processes of the group that still run (on systems with a /proc)."""
        assert self.process is not None
        found = []
        for stat in Path("/proc").glob("[0-9]*/stat"):
            with suppress(OSError):  # ended just now
                text = stat.read_text()
                state, _, group = text.rpartition(")")[2].split()[:3]
                if int(group) == self.process.pid and state != "Z":
                    found.append(text)
        return found

    def end(self) -> None:
        """Leave nothing behind, however the test went."""
        if self.process is not None:
            with suppress(OSError):  # the normal case: nobody is there
                os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait(PATIENCE)

    def tokens(self) -> set[str]:
        """Give every secret that the provider has handed out."""
        state = json.loads((self.folder / f".provider-{self.spatio_port}.json").read_text())
        return {value for table in state.values() for value in strings(table) if len(value) >= 40}


def strings(value: Any) -> Iterator[str]:
    """Give every text in a document."""
    if isinstance(value, dict):
        for name, member in value.items():
            yield from (name, *strings(member))
    elif isinstance(value, list):
        for member in value:
            yield from strings(member)
    elif isinstance(value, str):
        yield value


class Browser:
    """Somebody with a browser, in a few lines."""

    def __init__(self, demo: Demo) -> None:
        self.demo = demo
        self.jar = CookieJar()
        # No proxy from the environment: everything is on this machine.
        self.opener: OpenerDirector = build_opener(ProxyHandler({}), HTTPCookieProcessor(self.jar))
        self.opener.addheaders = [("Accept", "text/html"), ("Sec-Fetch-Mode", "navigate")]
        self.seen: list[str] = []
        self.headers: Any = None

    def open(self, path: str, form: dict[str, str] | None = None) -> tuple[str, str]:
        """Open a page; give where it led and its text."""
        data = None if form is None else urlencode(form).encode()
        url = urljoin(self.demo.origin, path)
        with self.opener.open(url, data, timeout=PATIENCE) as answer:
            address, page, self.headers = answer.url, answer.read().decode(), answer.headers
        self.seen.append(page)
        return address, page

    def click(self, page: str, text: str) -> tuple[str, str]:
        """Follow the link with that text."""
        (target,) = re.findall(
            rf'<a [^>]*href="([^"]+)"[^>]*>(?:(?!</a>).)*{re.escape(text)}', page, re.DOTALL
        )
        return self.open(unescape(target))

    def press(self, page: str, text: str) -> tuple[str, str]:
        """Send the form whose button has that text."""
        (form,) = (form for form in re.findall(r"<form .*?</form>", page, re.DOTALL) if text in form)
        fields = dict(re.findall(r'name="(\w+)" value="([^"]*)"', form))
        (action,) = re.findall(r'action="([^"]+)"', form)
        return self.open(action, fields)

    def allow(self, address: str, *, persona: str = "ada") -> tuple[str, str]:
        """Choose who to be at the provider, allow, and come back to the site."""
        assert address.startswith(self.demo.issuer), address
        return self.open(Person(self.demo.issuer, self.jar).sign_in(address, persona, allow=True))


@pytest.fixture
def demo(tmp_path: Path) -> Iterator[Demo]:
    """Copy the example project."""
    demo = Demo(tmp_path)
    yield demo
    demo.end()


def test_one_command_then_open_click_allow_and_see_who_you_are(demo: Demo) -> None:
    """The whole promise: nothing to configure, and every page does what it says, without showing a token."""
    demo.start()
    assert f"Open  {demo.origin}/\n" in demo.output
    browser = Browser(demo)

    _, front = browser.open("/")
    assert "Hello, stranger" in front
    assert "default-src 'self'" in browser.headers["Content-Security-Policy"]
    address, _ = browser.click(front, "Go straight to a members")
    address, me = browser.allow(address)
    assert address == f"{demo.origin}/me/?from=front+page"
    for fact in (
        "<h1>Ada Lovelace</h1>",
        "ada@example.com",
        "acc_2Yh7QmVxK0aDaLovelace",
        "<code>profile</code>",
    ):
        assert fact in me
    assert f'<img src="{demo.issuer}/static/ada.svg"' in me
    assert "30 seconds, so that you can watch" in me
    assert re.search(r"<strong>\d+ seconds?</strong>", me)

    before = demo.output.count("GET /oauth2/userinfo")
    browser.open("/me/")
    assert demo.output.count("GET /oauth2/userinfo") == before, "/me/ needs no call"
    _, asked = browser.click(me, "Ask Spatio who I am")
    assert "Spatio answered" in asked
    assert "acc_2Yh7QmVxK0aDaLovelace" in asked
    assert demo.output.count("GET /oauth2/userinfo") == before + 1
    assert "access token number" in asked

    _, careful = browser.open("/me/careful/")
    assert "The safe is open" in careful

    assert len(demo.tokens()) > 2
    shown = "".join(browser.seen)
    assert not [token for token in demo.tokens() if token in shown]

    address, front = browser.press(careful, "Sign out")
    assert address == f"{demo.origin}/"
    assert "Hello, stranger" in front


def test_the_token_is_refreshed_while_somebody_looks(demo: Demo) -> None:
    """The page counts; the person goes on from page to page and is never sent away."""
    demo.start()
    browser = Browser(demo)
    address, _ = browser.open("/me/")
    assert "<strong>0 times</strong>" in browser.allow(address)[1]

    def refreshed() -> bool:
        address, page = browser.open("/me/")
        assert address == f"{demo.origin}/me/"
        return "<strong>1 time</strong>" in page

    eventually(refreshed, "the first refresh")
    assert "access token number 2" in browser.open("/me/asked/")[1]


def test_ctrl_c_ends_everything_quietly(demo: Demo) -> None:
    """No process and no traceback is left."""
    demo.start()

    demo.stop()

    eventually(lambda: not demo.left_over(), "the end of every process")
    assert not listens(demo.port)
    assert not listens(demo.spatio_port)
    assert "Traceback" not in demo.output
    assert "Error" not in demo.output


def test_a_supervisor_that_ends_the_command_ends_everything(demo: Demo) -> None:
    """SIGTERM to the one process that was started is enough."""
    demo.start()

    demo.stop(whole_group=False)

    eventually(lambda: not demo.left_over(), "the end of every process")
    assert "Traceback" not in demo.output


def test_it_starts_again_where_it_was_and_on_another_port_too(demo: Demo) -> None:
    """Registration and sign-in outlive a restart; a new port is registered by itself."""
    demo.start()
    browser = Browser(demo)
    address, _ = browser.open("/me/")
    browser.allow(address)
    demo.stop()
    assert "Registered as" in demo.output

    demo.start()
    assert "Already registered as" in demo.output
    assert "Ada Lovelace" in browser.open("/me/")[1]
    assert "Spatio answered" in browser.open("/me/asked/")[1]
    demo.stop()

    demo.port = free_port()
    demo.start()
    newcomer = Browser(demo)
    address, _ = newcomer.open("/me/")
    assert "Cleo Marchetti" in newcomer.allow(address, persona="cleo")[1]


def test_a_provider_that_forgot_the_site_gets_to_know_it_again(demo: Demo) -> None:
    """Deleting the provider's state does not leave a site that can't sign in."""
    demo.start()
    demo.stop()
    (demo.folder / f".provider-{demo.spatio_port}.json").unlink()

    demo.start()

    browser = Browser(demo)
    address, _ = browser.open("/me/")
    assert "Ada Lovelace" in browser.allow(address)[1]


def test_changing_the_code_reloads_the_site_and_leaves_the_provider_alone(demo: Demo) -> None:
    """A connection to the provider survives the reload, and so does the sign-in."""
    demo.start()
    browser = Browser(demo)
    address, _ = browser.open("/me/")
    assert "Left of that" in browser.allow(address)[1]
    views = demo.folder / "pages" / "views.py"
    with closing(HTTPConnection("127.0.0.1", demo.spatio_port, timeout=PATIENCE)) as provider:
        provider.connect()
        connection = provider.sock

        views.write_text(views.read_text().replace('"token": token', '"token": None'))

        eventually(lambda: demo.output.count("Quit the server with") > 1, "the reload")
        eventually(lambda: answers(demo.port), "the site")
        assert "Left of that" not in browser.open("/me/")[1]
        provider.request("GET", "/.well-known/openid-configuration")
        with provider.getresponse() as answer:
            assert json.load(answer)["issuer"] == demo.issuer
        assert provider.sock is connection
    assert "Spatio answered" in browser.open("/me/asked/")[1]


@pytest.mark.parametrize("option", ["--port", "--spatio-port"])
def test_a_port_that_is_taken_is_named_with_the_way_out(demo: Demo, option: str) -> None:
    """One sentence that has the port and the option to change it; and nothing was started."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        if option == "--port":
            demo.port = port
        else:
            demo.spatio_port = port

        status = demo.launch().wait(PATIENCE)

    assert status == 1
    assert f"Port {port} can't be used" in demo.output
    assert f"choose another port with {option}." in demo.output
    assert "Traceback" not in demo.output
    assert not demo.left_over()
