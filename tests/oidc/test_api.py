"""ApiSession: where the access token goes, and what happens when it is not taken."""

import base64
import copy
import io
import pickle
import ssl
import traceback
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
import trustme

from spatio_django.exceptions import ConfigurationError, SessionEnded, TokenUnavailable
from spatio_django.oidc import api
from spatio_django.oidc.api import ApiSession
from spatio_django.oidc.secret import Secret
from tests.oidc.notes import Notes
from tests.oidc.wire import Wire, reply


class Tokens:
    """Gives tokens by number; a rejected one is followed by the next."""

    def __init__(self) -> None:
        self.number = 1
        self.rejected: list[str] = []
        self.failure: TokenUnavailable | None = None

    def __call__(self, rejected: Secret | None) -> Secret:
        """Give the current one."""
        if rejected is not None:
            if self.failure:
                raise self.failure
            self.rejected.append(rejected.reveal())
            self.number += 1
        return Secret(f"token-{self.number}")


@pytest.fixture
def tokens() -> Tokens:
    """Give the tokens of somebody."""
    return Tokens()


@pytest.fixture
def notes() -> Iterator[Notes]:
    """Serve an API that takes any token of ours."""
    with Notes(lambda token: token.startswith("token-")) as server:
        yield server


@pytest.fixture
def elsewhere() -> Iterator[Notes]:
    """Serve another site, which takes whatever comes."""
    with Notes(lambda _: True) as server:
        yield server


def session_for(*servers: Notes, tokens: Tokens, proxy: str | None = None) -> ApiSession:
    """Make a session whose token is for *servers*."""
    return ApiSession(token=tokens, origins=[server.origin for server in servers], proxy=proxy)


@pytest.fixture
def session(notes: Notes, tokens: Tokens) -> ApiSession:
    """Give a session for the API."""
    return session_for(notes, tokens=tokens)


# Where the token goes


def test_the_token_goes_to_the_api_and_nowhere_else(
    session: ApiSession, notes: Notes, elsewhere: Notes
) -> None:
    """By origin: scheme, host and port."""
    assert session.get(f"{notes.origin}/notes").status_code == 200
    assert session.get(f"{elsewhere.origin}/notes").status_code == 401

    assert notes.sent == ["Bearer token-1"]
    assert elsewhere.sent == [None]


def test_a_redirect_takes_the_token_along_only_where_it_may_go(
    session: ApiSession, notes: Notes, elsewhere: Notes
) -> None:
    """Within the API it goes on; away from it, it stays behind; and on the way back it is there again."""
    assert session.get(f"{notes.origin}/to?{notes.origin}/notes").status_code == 200
    away = session.get(f"{notes.origin}/to?{elsewhere.origin}/notes")
    back = session.get(f"{elsewhere.origin}/to?{notes.origin}/notes")

    assert (away.status_code, back.status_code) == (401, 200)
    assert elsewhere.sent == [None, None]
    assert set(notes.sent) == {"Bearer token-1"}


def test_a_redirect_to_a_second_origin_of_the_api_takes_it_along(
    notes: Notes, elsewhere: Notes, tokens: Tokens
) -> None:
    """Whatever requests strips, both origins are the API's."""
    session = session_for(notes, elsewhere, tokens=tokens)

    assert session.get(f"{notes.origin}/to?{elsewhere.origin}/notes").status_code == 200
    assert elsewhere.sent == ["Bearer token-1"]


def test_the_token_of_another_moment_is_ours_too(session: ApiSession, notes: Notes, tokens: Tokens) -> None:
    """Another thread that sends a newer token meanwhile does not make an older one look like the caller's."""
    request = session.prepare_request(requests.Request("GET", f"{notes.origin}/notes"))
    session.send(request)
    tokens.number = 2
    session.get(f"{notes.origin}/notes")
    session.send(request.copy())

    assert notes.sent == ["Bearer token-1", "Bearer token-2", "Bearer token-2"]


@pytest.mark.parametrize("how", ["header", "session", "auth"])
def test_the_callers_own_authorization_is_left_alone(
    session: ApiSession, notes: Notes, tokens: Tokens, how: str
) -> None:
    """Whoever sets one means it: nothing is added, and a 401 is theirs."""
    options: dict[str, Any] = {}
    if how == "auth":
        options["auth"] = ("me", "secret")
    elif how == "header":
        options["headers"] = {"Authorization": "Basic bWU6c2VjcmV0"}
    else:
        session.headers["Authorization"] = "Basic bWU6c2VjcmV0"

    assert session.get(f"{notes.origin}/notes", **options).status_code == 401
    assert notes.sent == ["Basic bWU6c2VjcmV0"]
    assert tokens.rejected == []


@pytest.mark.parametrize("url", ["http://api.example", "ftp://api.example", "https://", "api.example", ""])
def test_an_origin_that_is_not_https_is_refused(tokens: Tokens, url: str) -> None:
    """Plain http is for loopback."""
    ApiSession(token=tokens, origins=["https://api.example", "http://127.0.0.1:1"], proxy=None)

    with pytest.raises(ConfigurationError) as caught:
        ApiSession(token=tokens, origins=[url], proxy=None)
    assert caught.value.code == "api_origins"


def test_the_environment_is_not_read(
    session: ApiSession, notes: Notes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither ``~/.netrc`` nor proxy variables change what is sent, and where to."""
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login me password secret\n")
    monkeypatch.setenv("NETRC", str(netrc))
    with Wire() as proxy:
        for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
            monkeypatch.setenv(name, proxy.url)
        monkeypatch.delenv("NO_PROXY", raising=False)
        monkeypatch.delenv("no_proxy", raising=False)
        with requests.Session() as ordinary:
            ordinary.get(f"{notes.origin}/notes")  # goes to the proxy
        assert session.get(f"{notes.origin}/notes").status_code == 200

        assert len(proxy.requests) == 1
    assert notes.sent == ["Bearer token-1"]


def test_the_configured_proxy_is_used_but_not_for_loopback(notes: Notes, tokens: Tokens) -> None:
    """``SPATIO_HTTP_PROXY``; a development provider is not behind it."""
    with Wire() as proxy:
        session = session_for(notes, tokens=tokens, proxy=proxy.url)

        assert session.get(f"{notes.origin}/notes").status_code == 200
        assert session.get("http://elsewhere.example/").json() == {}

        (request,) = proxy.requests
    assert request.startswith(b"GET http://elsewhere.example/ ")
    assert b"authorization" not in request.lower()


def test_nothing_switches_the_certificate_checks_off(wire: Wire, tokens: Tokens, tmp_path: Path) -> None:
    """``verify=False`` is the caller's mistake, on the request or on the session."""
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    wire.context = context
    url = f"https://127.0.0.1:{wire.port}/notes"
    with requests.Session() as ordinary, pytest.warns(Warning, match="Unverified"):
        assert ordinary.get(url, verify=False).status_code == 200
    session = ApiSession(token=tokens, origins=[url], proxy=None)

    with pytest.raises(requests.exceptions.SSLError):
        session.get(url, verify=False)
    session.verify = False
    with pytest.raises(requests.exceptions.SSLError):
        session.get(url)
    assert len(wire.requests) == 1


# When it is not taken


def test_a_rejected_token_is_renewed_once_and_the_request_sent_again(
    session: ApiSession, notes: Notes, tokens: Tokens
) -> None:
    """The caller sees one answer, the good one."""
    notes.accepts = lambda token: token == "token-2"

    answer = session.post(f"{notes.origin}/notes", data=b"a note")

    assert answer.status_code == 200
    assert tokens.rejected == ["token-1"]
    assert [(call.authorization, call.body) for call in notes.calls] == [
        ("Bearer token-1", b"a note"),
        ("Bearer token-2", b"a note"),
    ]


def test_a_second_rejection_is_the_answer(session: ApiSession, notes: Notes, tokens: Tokens) -> None:
    """No loop: an API that takes no token is asked twice."""
    notes.accepts = lambda _: False

    assert session.get(f"{notes.origin}/notes").status_code == 401
    assert tokens.rejected == ["token-1"]
    assert len(notes.calls) == 2


class Again:
    """A body that can be read as often as one likes."""

    def __iter__(self) -> Iterator[bytes]:
        yield from (b"a ", b"note")


@pytest.mark.parametrize(
    "body", ["text", {"a": "note"}, io.BytesIO(b"a note"), Again()], ids=["text", "form", "file", "iterable"]
)
def test_a_body_that_can_be_read_again_is_sent_again(session: ApiSession, notes: Notes, body: Any) -> None:
    """Texts, forms, files and iterables."""
    notes.accepts = lambda token: token == "token-2"

    assert session.post(f"{notes.origin}/notes", data=body).status_code == 200
    assert notes.calls[0].body
    assert notes.calls[0].body == notes.calls[1].body


class Pipe(io.BytesIO):
    """A file that can't go back."""

    def seek(self, *_: Any) -> int:
        """Refuse."""
        raise OSError("not a file of that kind")


@pytest.mark.parametrize("body", [iter([b"a note"]), Pipe(b"a note")], ids=["generator", "pipe"])
def test_a_body_that_can_be_read_once_is_sent_once(
    session: ApiSession, notes: Notes, tokens: Tokens, body: Iterable[bytes]
) -> None:
    """Half a body must not be taken for all of it; the 401 is the caller's."""
    notes.accepts = lambda _: False

    assert session.post(f"{notes.origin}/notes", data=body).status_code == 401
    assert [call.body for call in notes.calls] == [b"a note"]
    assert tokens.rejected == []


def test_a_token_that_can_not_be_renewed_now_leaves_the_401(
    session: ApiSession, notes: Notes, tokens: Tokens
) -> None:
    """Spatio does not answer: the API's answer is the best there is. A grant that is over is told."""
    notes.accepts = lambda _: False
    tokens.failure = TokenUnavailable("not now", code="unavailable")
    assert session.get(f"{notes.origin}/notes").status_code == 401

    tokens.failure = SessionEnded("over", code="invalid_grant")
    with pytest.raises(SessionEnded):
        session.get(f"{notes.origin}/notes")


# Using it


def test_closing_it_harms_nobody(session: ApiSession, notes: Notes) -> None:
    """Connections belong to the process, so that a request's session is cheap."""
    with session:
        session.get(f"{notes.origin}/notes")
    session.close()

    assert session.get(f"{notes.origin}/notes").status_code == 200


def test_a_call_has_a_timeout_and_a_name(session: ApiSession, wire: Wire) -> None:
    """Whoever gives no timeout, or none on purpose, gets ours; the API is told who calls."""
    seen: list[Any] = []

    class Noting(requests.adapters.HTTPAdapter):
        def send(self, *args: Any, **kwargs: Any) -> requests.Response:
            seen.append(kwargs["timeout"])
            try:
                return super().send(*args, **kwargs)
            finally:
                self.close()

    session.mount("http://", Noting())
    session.get(wire.url)
    session.get(wire.url, timeout=None)
    session.get(wire.url, timeout=1)

    assert seen == [api.TIMEOUT, api.TIMEOUT, 1]
    assert b"User-Agent: spatio-django/" in wire.requests[0]


# What others see of it


def test_neither_an_answer_nor_its_pickle_shows_the_token(
    session: ApiSession, notes: Notes, elsewhere: Notes
) -> None:
    """Somebody logs the headers that were sent, or puts the answer into a cache. Redirects are in it, too."""
    with requests.Session() as ordinary:
        shown = ordinary.get(f"{notes.origin}/notes", headers={"Authorization": "Bearer token-1"})
    assert "token-1" in repr(shown.request.headers)
    assert b"token-1" in pickle.dumps(shown)

    for path in ("/notes", f"/to?{notes.origin}/notes", f"/to?{elsewhere.origin}/notes"):
        answer = session.get(f"{notes.origin}{path}")

        for each in (answer, *answer.history):
            assert "token" not in repr(each.request.headers)
            assert b"token-1" not in pickle.dumps(each)
            assert pickle.loads(pickle.dumps(each)).status_code == each.status_code  # noqa: S301 - our own
            assert "token" not in repr(dict(copy.deepcopy(each.request).headers))
    assert set(notes.sent) == {"Bearer token-1"}


def test_a_renewed_token_is_not_shown_either(session: ApiSession, notes: Notes) -> None:
    """The request that was sent again is the answer's."""
    notes.accepts = lambda token: token == "token-2"

    answer = session.get(f"{notes.origin}/notes")

    assert notes.sent == ["Bearer token-1", "Bearer token-2"]
    assert b"token-2" not in pickle.dumps(answer)


class Frozen(Exception):
    """What a site may raise: an error that lets nobody set anything."""

    def __setattr__(self, *_: object) -> None:
        raise AttributeError


def places(error: BaseException) -> list[str]:
    """Name the functions along the traceback."""
    return [frame.name for frame in traceback.extract_tb(error.__traceback__)]


def modules(error: BaseException | None) -> set[str]:
    """Name the top-level packages along the tracebacks of *error* and what led to it."""
    found: set[str] = set()
    while error is not None:
        for frame, _ in traceback.walk_tb(error.__traceback__):
            found.add(frame.f_globals["__name__"].partition(".")[0])
        error = error.__cause__ or error.__context__
    return found


@pytest.mark.parametrize("kind", [ValueError, Frozen, KeyboardInterrupt])
def test_a_hook_that_fails_is_found_in_the_traceback(
    session: ApiSession, notes: Notes, kind: type[BaseException]
) -> None:
    """The site's own frames stay, in their order, and so do the error and its words."""

    def hook(answer: requests.Response, **kwargs: Any) -> None:
        answer.close()
        try:
            int("first")
        except ValueError as error:
            raise kind("second") from error

    with requests.Session() as ordinary, pytest.raises(kind) as plain:
        ordinary.get(f"{notes.origin}/notes", hooks={"response": hook})
    assert "requests" in modules(plain.value)

    with pytest.raises(kind, match="second") as caught:
        session.get(f"{notes.origin}/notes", hooks={"response": hook})

    assert places(caught.value)[-2:] == ["_send", "hook"]
    assert "first" in str(caught.value.__cause__)
    assert caught.value.__cause__ is not None
    assert places(caught.value.__cause__) == ["hook"]


def test_a_body_that_fails_is_found_in_the_traceback(session: ApiSession, wire: Wire) -> None:
    """A generator is read in the depths of http.client."""

    def body() -> Iterator[bytes]:
        yield b"a note"
        raise ValueError("no more")

    with pytest.raises(ValueError, match="no more") as caught:
        session.post(wire.url, data=body())

    assert places(caught.value)[-2:] == ["_send", "body"]


def test_errors_that_led_to_each_other_in_a_circle_are_no_trap(session: ApiSession, notes: Notes) -> None:
    """Python allows it, so code of the site can have done it."""

    def hook(answer: requests.Response, **kwargs: Any) -> None:
        answer.close()
        first, second = ValueError("first"), ValueError("second")
        first.__cause__, second.__cause__ = second, first
        raise first

    with pytest.raises(ValueError, match="first") as caught:
        session.get(f"{notes.origin}/notes", hooks={"response": hook})

    assert places(caught.value)[-1] == "hook"


# A proxy that wants a password


def test_the_proxys_password_is_sent_and_not_shown(tokens: Tokens) -> None:
    """Not by answers either, which have the requests that they answer, redirected ones included."""
    told = base64.b64encode(b"me:word")
    with Wire() as proxy:
        proxied = proxy.url.replace("http://", "http://me:word@")

        def once(connection: Any) -> None:
            proxy.script = proxy.ok
            proxy.request(connection)
            connection.sendall(
                reply(b"", "Location: http://other.example/", "Connection: close", status="302 On")
            )

        proxy.script = once
        with requests.Session() as ordinary:
            shown_by = ordinary.get("http://elsewhere.example/", proxies={"http": proxied})
            assert told in pickle.dumps(shown_by)
        session = session_for(tokens=tokens, proxy=proxied)

        proxy.script = once
        answer = session.get("http://elsewhere.example/")

        assert [each.status_code for each in (*answer.history, answer)] == [302, 200]
        assert len(proxy.requests) == 4
        assert all(b"Proxy-Authorization: Basic " + told in request for request in proxy.requests)
    assert told not in pickle.dumps(answer)
    assert "Proxy-Authorization" not in answer.request.headers
    assert "word" not in repr(vars(session))


def shown(error: BaseException | None) -> str:
    """Give all local variables along the tracebacks of *error* and its causes, but those of this module."""
    found = ""
    while error is not None:
        for frame, _ in traceback.walk_tb(error.__traceback__):
            if frame.f_globals["__name__"] != __name__:
                found += repr(frame.f_locals)
        error = error.__cause__ or error.__context__
    return found


@pytest.mark.parametrize("scheme", ["http", "strange"])
def test_a_proxy_that_does_not_answer_is_reported_without_its_password(tokens: Tokens, scheme: str) -> None:
    """Nobody listens, or it can't be used at all: then the error passes through frames of ours."""
    proxy = f"{scheme}://me:word@127.0.0.1:1"
    with requests.Session() as ordinary, pytest.raises(requests.RequestException) as plain:
        ordinary.get("https://elsewhere.example/", proxies={"https": proxy})
    assert "word" in shown(plain.value)

    with pytest.raises(requests.RequestException) as caught:
        session_for(tokens=tokens, proxy=proxy).get("https://elsewhere.example/")

    assert type(caught.value) is type(plain.value)
    assert "spatio_django" in modules(caught.value)
    assert "word" not in shown(caught.value)


def test_a_wrong_origin_is_reported_without_the_proxys_password(tokens: Tokens) -> None:
    """That frame has been told of both."""
    with pytest.raises(ConfigurationError) as caught:
        ApiSession(token=tokens, origins=["http://api.example"], proxy="http://me:word@127.0.0.1:1")

    assert "'proxy': <hidden>" in shown(caught.value)
    assert "word" not in shown(caught.value)
