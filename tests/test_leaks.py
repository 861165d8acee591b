"""Nothing secret in logs, pages, sessions, exceptions or the database."""

import json
import logging
import secrets
import socket
import ssl
import struct
import traceback
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
import requests
import trustme
from django.apps import apps
from django.contrib.sessions.models import Session
from django.core import serializers
from django.views.debug import ExceptionReporter

from spatio_django.models import SpatioClient
from spatio_django.oidc import api
from spatio_django.oidc.secret import Secret
from spatio_django.pending import PendingLogin
from tests.conftest import Site
from tests.misbehaving import Misbehaviour
from tests.oidc.wire import Wire, reply


@pytest.fixture
def wire() -> Iterator[Wire]:
    """Serve bytes on loopback."""
    with Wire() as server:
        yield server


class Witness:
    """Collects the secrets of a walk, and everything that somebody could read."""

    def __init__(self) -> None:
        self.secrets: dict[str, str] = {}
        self.seen: dict[str, str] = {}

    def assert_silent(self) -> None:
        """See that no secret is in anything seen, and that there were secrets to see."""
        assert len(self.secrets) >= 9, sorted(self.secrets)
        for place, text in self.seen.items():
            for name, secret in self.secrets.items():
                assert secret not in text, f"{name} is in {place}"


@pytest.fixture
def records() -> Iterator[list[logging.LogRecord]]:
    """Collect every log record of every logger, down to DEBUG."""
    found: list[logging.LogRecord] = []

    class Collect(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            found.append(record)

    handler, root = Collect(), logging.getLogger()
    level = root.level
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    for name in ("django", "spatio_django", "urllib3", "requests", "mozilla_django_oidc"):
        logging.getLogger(name).setLevel(logging.DEBUG)
    yield found
    root.removeHandler(handler)
    root.setLevel(level)
    for name in ("django", "spatio_django", "urllib3", "requests", "mozilla_django_oidc"):
        logging.getLogger(name).setLevel(logging.NOTSET)


def text_of(record: logging.LogRecord) -> str:
    """Give all that a handler could write of *record*: message, arguments, extras, traceback with locals."""
    parts = [record.getMessage(), repr({k: v for k, v in vars(record).items() if k != "exc_info"})]
    if record.exc_info and record.exc_info[1]:
        told = traceback.TracebackException.from_exception(record.exc_info[1], capture_locals=True)
        parts.extend(told.format())
    return "\n".join(parts)


def database() -> str:
    """Give everything in every table of ours, and the sessions as a reader would decode them."""
    models: list[Any] = [*apps.get_app_config("spatio_django").get_models(), Session]
    rows: str = serializers.serialize(
        "json", [row for model in models for row in model._default_manager.all()]
    )
    return rows + repr([session.get_decoded() for session in Session.objects.all()])


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("outcome", ["signed in", "bad token", "refused", "broken", "site error"])
def test_a_walk_leaves_no_secret_anywhere(
    site: Site,
    misbehaviour: Misbehaviour,
    records: list[logging.LogRecord],
    settings: Any,
    outcome: str,
) -> None:
    """Whether it ends well or badly: tokens, code, state, nonce, verifier and client secret stay unseen."""
    witness = Witness()
    answers: list[dict[str, Any]] = []
    sign = site.spatio.sign
    if outcome == "bad token":
        misbehaviour.id_token(sign, aud="somebody else")
    if outcome == "site error":
        settings.AUTHENTICATION_BACKENDS = ["tests.test_backends.Crashing"]
    told = misbehaviour.lies.get("/oauth2/token")

    def listen(status: str, headers: dict[str, str], body: bytes) -> tuple[str, dict[str, str], bytes]:
        if told:
            status, headers, body = told(status, headers, body)
        answers.append(json.loads(body))
        if outcome == "refused":
            quoted = misbehaviour.sent[-1][2].decode()  # some providers do
            refused = {"error": "invalid_grant", "error_description": f"can't take {quoted}"}
            return "400 Bad", headers, json.dumps(refused).encode()
        return status, headers, body if outcome != "broken" else body[:-1]

    misbehaviour.lies["/oauth2/token"] = listen
    browser = site.browser()
    url = site.begin(browser)
    sent = parse_qs(urlsplit(url).query)
    ((name, cookie),) = ((n, c) for n, c in browser.cookies.items() if "spatio_flow" in n)
    pending = PendingLogin.opened(name, cookie.value)
    callback = site.authorize(url)
    assert pending is not None
    client = SpatioClient.objects.get()
    assert client.client_secret is not None
    assert client.registration_access_token is not None

    response = browser.get(callback)

    assert response.status_code == {"signed in": 302, "refused": 403, "site error": 503}.get(outcome, 502)
    witness.secrets = {
        "state": sent["state"][0],
        "nonce": sent["nonce"][0],
        "verifier": pending.code_verifier.reveal(),
        "code": parse_qs(urlsplit(callback).query)["code"][0],
        "client secret": client.client_secret.reveal(),
        "registration token": client.registration_access_token.reveal(),
        **{f"{n}": answers[0][n] for n in ("access_token", "refresh_token", "id_token")},
    }
    pages = [response, browser.get("/me/"), browser.get("/state/")]
    site_side = [record for record in records if not record.name.startswith(("werkzeug", "authlib"))]
    witness.seen = {
        "the log": "\n".join(text_of(record) for record in site_side),
        "our pages": "\n".join(page.content.decode() + str(page.headers) for page in pages),
        "the database": database(),
        "the pending login's repr": repr(pending),
        "the cookie": "".join(morsel.value for morsel in browser.cookies.values()),
    }
    witness.assert_silent()


def test_the_witness_sees_a_leak(site: Site, records: list[logging.LogRecord]) -> None:
    """A check that can't fail proves nothing: a token that is logged is found."""
    witness = Witness()
    witness.secrets = {str(number): f"secret-{number}" for number in range(9)}
    logging.getLogger("spatio_django").debug("told %s", "secret-3")
    witness.seen = {"the log": "\n".join(text_of(record) for record in records)}

    with pytest.raises(AssertionError, match="3 is in the log"):
        witness.assert_silent()


# Calls of the site's that fail


def resets(wire: Wire) -> None:
    """Let the next call meet a connection that breaks."""

    def script(connection: socket.socket) -> None:
        wire.request(connection)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    wire.script = script


def resets_after_a_redirect(wire: Wire) -> None:
    """Let the call after the next one meet that."""

    def script(connection: socket.socket) -> None:
        wire.request(connection)
        resets(wire)
        connection.sendall(reply(b"", "Location: /elsewhere", "Connection: close", status="307 There"))

    wire.script = script


def hangs(wire: Wire) -> None:
    """Answer when the test is over."""

    def script(connection: socket.socket) -> None:
        wire.request(connection)
        wire.ended.wait(10)

    wire.script = script


def says(*parts: bytes) -> Callable[[Wire], None]:
    """Answer with that, and close."""

    def prepare(wire: Wire) -> None:
        wire.script = wire.says(*parts)

    return prepare


def failure(call: Callable[[], Any]) -> Exception:
    """Give what *call* raises. No frame along its traceback but those of the call knows the token."""
    with pytest.raises(requests.RequestException) as caught:
        call()
    return caught.value


def reports(error: BaseException) -> str:
    """Give all that Django and others write of *error*: local variables, and all that led to it."""
    reporter = ExceptionReporter(None, type(error), error, error.__traceback__)
    parts: list[str] = [reporter.get_traceback_html(), reporter.get_traceback_text()]
    each: BaseException | None = error
    while each is not None:
        parts += traceback.TracebackException.from_exception(each, capture_locals=True).format()
        each = each.__cause__ or each.__context__
    return "\n".join(parts)


def both(url: str) -> tuple[requests.Session, requests.Session, str]:
    """Give an ordinary session and one of ours, both of which send the token, and the token."""
    token = secrets.token_urlsafe()
    ordinary = requests.Session()
    ordinary.headers["Authorization"] = f"Bearer {token}"
    return ordinary, api.ApiSession(token=lambda _: Secret(token), origins=[url], proxy=None), token


@pytest.mark.parametrize(
    "prepare",
    [
        pytest.param(resets, id="reset"),
        pytest.param(resets_after_a_redirect, id="reset after a redirect"),
        pytest.param(hangs, id="hangs"),
        pytest.param(says(), id="closed"),
        pytest.param(says(b"SSH-2.0\r\n\r\n"), id="no HTTP"),
    ],
)
def test_a_call_that_fails_shows_no_token_in_error_reports(
    wire: Wire, prepare: Callable[[Wire], None]
) -> None:
    """What a view or a job does not catch ends up in Django's mails, on its page, or in a tool's report."""
    ordinary, ours, token = both(wire.url)
    with ordinary:
        prepare(wire)
        plain = failure(partial(ordinary.get, wire.url, timeout=0.3))
    assert token in reports(plain)

    prepare(wire)
    error = failure(partial(ours.get, wire.url, timeout=0.3))

    assert (type(error), str(error)[:20]) == (type(plain), str(plain)[:20])
    assert f"Bearer {token}".encode() in wire.requests[-1]
    assert token not in reports(error)


def test_an_api_that_is_down_shows_no_token_in_error_reports() -> None:
    """Nobody listens: the request was not even sent."""
    with socket.create_server(("127.0.0.1", 0)) as unused:
        url = f"http://127.0.0.1:{unused.getsockname()[1]}/"
    ordinary, ours, token = both(url)
    with ordinary:
        plain = failure(partial(ordinary.get, url))
    assert token in reports(plain)

    error = failure(partial(ours.get, url))

    assert type(error) is type(plain)
    assert token not in reports(error)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    "answer",
    [
        b"Content-Length: 100\r\n\r\nhalf",
        b"Transfer-Encoding: chunked\r\n\r\n64\r\nhalf",
        b"Content-Length: 4\r\nContent-Encoding: gzip\r\n\r\nhalf",
    ],
    ids=["cut off", "cut off in a chunk", "not what it says"],
)
def test_an_answer_that_breaks_off_shows_no_token_in_error_reports(
    wire: Wire, answer: bytes, stream: bool
) -> None:
    """Also where it is read later, by the site."""
    ordinary, ours, token = both(wire.url)
    ordinary.close()
    wire.script = wire.says(b"HTTP/1.1 200 OK\r\n" + answer)

    error = failure(lambda: ours.get(wire.url, stream=stream).content)

    assert f"Bearer {token}".encode() in wire.requests[-1]
    assert token not in reports(error)


@pytest.mark.parametrize("trusted", [False, True], ids=["not trusted", "broken while sent"])
def test_a_call_that_fails_in_tls_shows_no_token_in_error_reports(
    wire: Wire, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, trusted: bool
) -> None:
    """There it is Python's own ssl that holds the request."""
    authority = trustme.CA()
    wire.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(wire.context)
    url = f"https://127.0.0.1:{wire.port}/"
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    if trusted:
        monkeypatch.setattr("certifi.where", lambda: str(tmp_path / "ca.pem"))
        monkeypatch.setattr(api, "_adapters", {})

        def broken(self: ssl.SSLSocket, data: memoryview, flags: int = 0) -> int:
            raise ConnectionResetError

        monkeypatch.setattr("ssl.SSLSocket.send", broken)
    ordinary, ours, token = both(url)
    with ordinary:
        plain = failure(partial(ordinary.get, url, verify=str(tmp_path / "ca.pem") if trusted else None))
    assert token in reports(plain)

    error = failure(partial(ours.get, url))

    assert (
        type(error) is type(plain) is (requests.ConnectionError if trusted else requests.exceptions.SSLError)
    )
    assert token not in reports(error)
