"""ApiSession: where the access token goes, and what happens when it is not taken."""

import io
import ssl
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
from tests.oidc.wire import Wire


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
