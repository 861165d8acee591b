"""
A provider that gives any answer that can be given, and the site that has to live with it.

Nothing is patched. The development provider answers; :class:`~tests.misbehaving.Misbehaviour` changes what it
says, and :class:`~tests.hostile.front.Front` the bytes on the wire. One provider serves all cases of a
process, so that thousands of walks take seconds.
"""

import base64
import json
import logging
import re
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from functools import cache as once
from functools import partial
from http.cookiejar import CookieJar
from pathlib import Path
from typing import Any, Self, cast
from urllib.parse import parse_qs, parse_qsl, urlencode, urlsplit

import pytest
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from django.contrib.auth import get_user_model
from django.core.cache import cache
from django.test import Client, override_settings
from django.urls import reverse
from joserfc.jwk import RSAKey

from spatio_django import memo, provider
from spatio_django.conf import conf
from spatio_django.models import SpatioAccount, SpatioToken
from spatio_django.testing import FakeSpatio
from tests.conftest import Site
from tests.hostile.front import Front
from tests.hostile.values import ABSENT
from tests.misbehaving import Misbehaviour
from tests.oidc.support import Signer

User = get_user_model()

DISCOVERY, SECOND_DISCOVERY = "/.well-known/openid-configuration", "/.well-known/oauth-authorization-server"
KEYS, TOKEN, USERINFO = "/.well-known/jwks.json", "/oauth2/token", "/oauth2/userinfo"
#: The endpoints whose answers the site reads, in the order of a first sign-in.
ENDPOINTS = (DISCOVERY, TOKEN, KEYS, USERINFO)
#: Asked once per process: only a new one sees the lie.
DOCUMENTS = (DISCOVERY, SECOND_DISCOVERY, KEYS)

endpoints = pytest.mark.parametrize("endpoint", ENDPOINTS, ids=("discovery", "token", "jwks", "userinfo"))


class Hostile(Site):
    """
    The site, and what is to be seen after a walk. Each walk is another browser's.

    Attributes:
        timeout: Seconds that one call may take.
    """

    def __init__(
        self,
        spatio: FakeSpatio,
        front: Front,
        misbehaviour: Misbehaviour,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        super().__init__(spatio)
        self.front = front
        self.lies = misbehaviour
        self.monkeypatch = monkeypatch
        self.timeout = 5.0
        self.jar = CookieJar()
        self._signer: Signer | None = None
        self.callback: Callable[[str], str] = lambda callback: callback

    # What goes wrong

    def be_honest(self) -> None:
        """End all misbehaviour."""
        self.front.be_honest()
        self.lies.lies.clear()
        self.lies.sent.clear()
        self.spatio.requests.clear()
        self.callback = lambda callback: callback

    def answer_bytes(self, endpoint: str, change: Callable[[bytes], bytes], **headers: str) -> None:
        """Change the body of what *endpoint* answers, and headers if given."""

        def lie(status: str, given: dict[str, str], body: bytes) -> tuple[str, dict[str, str], bytes]:
            named = {name.replace("_", "-"): value for name, value in headers.items()}
            kept = {name: value for name, value in given.items() if name.lower() not in named}
            return status, kept | named, change(body)

        for path in places(endpoint):
            self.lies.lies[path] = lie

    def answer_document(self, endpoint: str, change: Callable[[dict[str, Any]], object]) -> None:
        """Change the JSON object that *endpoint* answers."""
        self.answer_bytes(endpoint, lambda body: json.dumps(change(json.loads(body))).encode())

    def change_members(self, endpoint: str, **members: Any) -> None:
        """Change members of the JSON object that *endpoint* answers; :data:`ABSENT` takes one away."""
        self.answer_document(endpoint, lambda document: changed(document, **members))

    def answer_status(
        self,
        endpoint: str,
        status: str,
        body: bytes | None = None,
        headers: Mapping[str, str | None] | None = None,
    ) -> None:
        """Answer with another status, and other body and headers if given."""
        more = {name: value for name, value in (headers or {}).items() if value is not None}

        def lie(_: str, given: dict[str, str], honest: bytes) -> tuple[str, dict[str, str], bytes]:
            return status, given | more, honest if body is None else body

        for path in places(endpoint):
            self.lies.lies[path] = lie

    def replace_id_token(self, replace: Callable[[str], Any]) -> None:
        """Answer with another ID token, made from the honest one."""
        self.answer_document(TOKEN, lambda document: document | {"id_token": replace(document["id_token"])})

    def change_claims(self, header: dict[str, Any] | None = None, **claims: Any) -> None:
        """Change claims of the ID token; a function makes the new value from the old. Properly signed."""
        self.replace_id_token(lambda token: self.signer.sign(changed(claims_of(token), **claims), header))

    @property
    def signer(self) -> Signer:
        """The provider's key, for whatever the provider itself would never sign."""
        jwk = self.spatio.private_jwk
        if self._signer is None or self._signer.kid != jwk["kid"]:
            plain = {name: value for name, value in jwk.items() if name not in {"alg", "use"}}
            self._signer = Signer.__new__(Signer)
            self._signer.kid = jwk["kid"]
            self._signer.key = cast(RSAPrivateKey, RSAKey.import_key(plain).private_key)
        return self._signer

    def do(self, endpoint: str, deed: Callable[..., None]) -> None:
        """Do something below HTTP instead of answering."""
        for path in places(endpoint):
            self.front.deeds[path] = deed

    # What the site does

    def new_process(self) -> None:
        """Begin anew, without metadata and keys. Connections stay, because certificates load slowly."""
        forget_documents()

    def pass_time(self, seconds: float) -> None:
        """
        Let time pass, for the site and for the provider, which live in one process here.

        The clock is what a client is given when it is made; the module's own is what everything else reads.
        """
        self.monkeypatch.setattr(time, "time", partial(later, time.time, seconds))
        for client, _ in provider._clients.values():
            client._clock = client._documents._clock = time.time

    def walk(self, browser: Client) -> Any:
        """Click the button, sign in and come back; give the answer to the last that was possible."""
        with self.patience():
            began = browser.get("/spatio/login/")
        if began.status_code != 302:
            return began
        assert began["Location"].startswith(f"{self.spatio.issuer}/oauth2/authorize?")
        address = self.callback(self.authorize(began["Location"], session=self.jar))
        with self.patience():
            return browser.get(address)

    def patience(self) -> AbstractContextManager[object]:
        """Let calls take no longer than :attr:`timeout`."""
        if self.timeout == conf.SPATIO_HTTP_TIMEOUT:
            return nullcontext()
        return override_settings(SPATIO_HTTP_TIMEOUT=self.timeout)

    # What is to be seen

    def accepts(self, **claims: Any) -> SpatioToken:
        """See somebody signed in, and what was kept of them; give the grant, and forget it."""
        self.forget_people()
        browser = self.browser()
        with Records() as records:
            response = self.walk(browser)
        assert response.status_code == 302, told(response)
        assert response["Location"] == "/me/"
        grant = SpatioToken.objects.select_related("account__user").with_clock().get()
        user = grant.account.user
        assert browser.get("/state/").json()["user"] == user.get_username() != ""
        assert browser.session["_spatio_grant"] == grant.handle
        assert (user.is_staff, user.is_superuser, user.has_usable_password()) == (False, False, False)
        expected = PERSON | claims
        assert grant.account.sub == expected["sub"]
        kept = {name: grant.account.claims.get(name) for name in expected}
        assert kept == expected
        self.see_no_secret(records, browser)
        self.forget_people()
        return grant

    def refuses(self, code: str, status: int = 502, *, endpoint: str = "") -> Any:
        """
        See a page of ours with that code and status, in time, and nothing that is left of the walk.

        Args:
            endpoint: Where the lie is told. What is asked once per process begins a new one; without
                metadata it ends at the click already, before the browser leaves the site.
        """
        at = "login" if endpoint == DISCOVERY else "callback"
        if endpoint in DOCUMENTS:
            self.new_process()
        assert code in documented_codes(), f"{code} is not in docs/errors.md"
        self.forget_calls()
        self.forget_people()
        browser = self.browser()
        began = time.monotonic()
        with Records() as records:
            response = self.walk(browser)
        elapsed = time.monotonic() - began
        page = response.content.decode()
        context = response.context or {}
        assert (response.status_code, context.get("code")) == (status, code), told(response)
        assert response.request["PATH_INFO"] == reverse(f"spatio:{at}")
        assert "spatio_django/login_error.html" in {template.name for template in response.templates}
        assert code in page
        assert context["reference"] in page
        assert response["Cache-Control"].count("no-store") == 1
        assert elapsed < self.timeout * max(1, self.calls) + 1
        assert "sessionid" not in browser.cookies
        assert browser.get("/state/").json()["user"] == ""
        rows = (User.objects.count(), SpatioAccount.objects.count(), SpatioToken.objects.count())
        assert rows == (0, 0, 0)
        assert [record.levelname for record in records.found if record.name == "spatio_django"] == ["WARNING"]
        self.see_no_secret(records, browser, page)
        return response

    def see_no_secret(self, records: "Records", browser: Client, page: str = "") -> None:
        """See that neither log nor page nor cookies tell what was exchanged, and that nothing crashed."""
        crashes = [each for each in records.found if each.exc_info and each.levelno > logging.DEBUG]
        assert not crashes, records.text
        assert "site_error" not in records.text
        seen = f"{records.text}\n{page}\n{browser.cookies}"
        for secret in self.secrets():
            assert secret not in seen, f"{secret} can be read"

    def secrets(self) -> set[str]:
        """Give everything secret that went over the wire: code, verifier, credentials, tokens."""
        found: set[str] = set()
        for request in self.front.calls.get(TOKEN, ()):
            head, _, body = request.partition(b"\r\n\r\n")
            form = dict(parse_qsl(body.decode()))
            found |= {form.get(name, "") for name in ("code", "code_verifier", "client_secret")}
            found |= {match[1].decode() for match in re.finditer(rb"(?i)\r\nauthorization: \S+ (\S+)", head)}
        for answer in self.front.answers.get(TOKEN, ()):
            for match in re.finditer(rb'"(?:access_token|refresh_token|id_token)": *"([^"]{12,})"', answer):
                found.add(match[1].decode("utf-8", "replace"))
        return {secret for secret in found if len(secret) >= 12}  # the made-up ones are words

    @property
    def calls(self) -> int:
        """How many calls the site made."""
        return sum(len(self.front.calls.get(path, ())) for path in {*ENDPOINTS, SECOND_DISCOVERY})

    def forget_calls(self) -> None:
        """Count from here."""
        self.front.calls.clear()
        self.front.answers.clear()
        self.spatio.requests.clear()

    def forget_people(self) -> None:
        """Leave the site as it was before anybody signed in."""
        User.objects.all().delete()


def later(clock: Callable[[], float], seconds: float) -> float:
    """Give the time of *clock*, *seconds* later."""
    return clock() + seconds


#: What the site keeps of the person who signs in here, if the provider is honest.
PERSON = {
    "sub": "acc_2Yh7QmVxK0aDaLovelace",
    "name": "Ada Lovelace",
    "email": "ada@example.com",
    "email_verified": True,
}


def changed(document: dict[str, Any], **members: Any) -> dict[str, Any]:
    """Give *document* with other members; a function makes the new value from the old."""
    for name, value in members.items():
        new = value(document.get(name)) if callable(value) else value
        document = {key: old for key, old in document.items() if key != name}
        if new is not ABSENT:
            document[name] = new
    return document


def claims_of(token: str) -> dict[str, Any]:
    """Give the claims of a JWS."""
    claims: dict[str, Any] = json.loads(base64.urlsafe_b64decode(token.split(".")[1] + "=="))
    return claims


def places(endpoint: str) -> tuple[str, ...]:
    """Give the paths at which *endpoint* is asked for: metadata may be at either of two."""
    return (DISCOVERY, SECOND_DISCOVERY) if endpoint == DISCOVERY else (endpoint,)


def with_parameters(callback: str, **parameters: Any) -> str:
    """Give *callback* with other parameters; ``None`` takes one away, a list gives it several times."""
    query = {**parse_qs(urlsplit(callback).query, keep_blank_values=True), **parameters}
    kept = {name: value for name, value in query.items() if value is not None}
    return f"{urlsplit(callback).path}?{urlencode(kept, doseq=True)}"


def told(response: Any) -> str:
    """Give what a response says, for the message of a failed test."""
    context = response.context or {}
    return f"{response.status_code} {context.get('code')} {response.headers} {response.content[:300]!r}"


@once
def documented_codes() -> frozenset[str]:
    """Give the codes that docs/errors.md promises: what stands in the first column of its tables."""
    text = (Path(__file__).parents[2] / "docs" / "errors.md").read_text()
    first = re.findall(r"^\| (`.*?) \|", text, re.MULTILINE)
    return frozenset(re.findall(r"`(\w+)`", " ".join(first)))


#: Loggers of the provider, which knows its own secrets.
OF_THE_PROVIDER = ("authlib", "joserfc", "spatio_django.testing", "werkzeug")


class Records:
    """Collects every log record of every logger, and what a handler could write of it."""

    def __init__(self) -> None:
        self.found: list[logging.LogRecord] = []

    def __enter__(self) -> Self:
        self._handler = logging.Handler()
        self._handler.emit = self._collect  # type: ignore[method-assign]
        root = logging.getLogger()
        self._level = root.level
        root.addHandler(self._handler)
        root.setLevel(logging.DEBUG)
        return self

    def __exit__(self, *exc_info: object) -> None:
        root = logging.getLogger()
        root.removeHandler(self._handler)
        root.setLevel(self._level)

    def _collect(self, record: logging.LogRecord) -> None:
        if not record.name.startswith(OF_THE_PROVIDER):
            self.found.append(record)

    @property
    def text(self) -> str:
        """Messages, arguments and extras."""
        return "\n".join(f"{record.getMessage()} {vars(record)!r}" for record in self.found)


@pytest.fixture(autouse=True)
def fresh_process() -> Iterator[None]:
    """Begin each test without documents, but not without connections and certificates."""
    forget_documents()
    memo.memo.clear()
    yield
    assert len(provider._clients) <= 3, "one client, an impatient one, and a patient one"


@pytest.fixture(autouse=True, scope="session")
def last_process() -> Iterator[None]:
    """Close the connections in the end."""
    yield
    provider.close()


def forget_documents() -> None:
    """Let the site know neither metadata nor keys, by its own clock."""
    cache.clear()
    for client, _ in provider._clients.values():
        client._documents._slots.clear()
        client._clock = client._documents._clock = time.time


@pytest.fixture(scope="session")
def misbehaviour() -> Misbehaviour:
    """Give what makes the provider say something else."""
    return Misbehaviour()


@pytest.fixture(scope="session")
def front() -> Iterator[Front]:
    """Serve the wire in front of the provider."""
    with Front() as front:
        yield front


@pytest.fixture(scope="session")
def spatio(misbehaviour: Misbehaviour, front: Front) -> Iterator[FakeSpatio]:
    """Serve one provider for all cases, known by the address of the front."""
    with FakeSpatio(wrap=misbehaviour.wrap, registration_limit=None) as provider:
        front.backend = provider.issuer
        provider.issuer = front.origin
        yield provider


@pytest.fixture(scope="session")
def client_information(spatio: FakeSpatio) -> dict[str, Any]:
    """Register the site once."""
    return spatio.register([f"{Site.origin}/spatio/callback/"])


@pytest.fixture
def hostile(
    db: None,
    spatio: FakeSpatio,
    front: Front,
    misbehaviour: Misbehaviour,
    client_information: dict[str, Any],
    settings: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Hostile]:
    """Give the site, in a new process, at a provider that is honest until told otherwise."""
    settings.SPATIO_ISSUER = spatio.issuer
    settings.SPATIO_CLIENT_ID = client_information["client_id"]
    settings.SPATIO_CLIENT_SECRET = client_information["client_secret"]
    settings.SPATIO_REDIRECT_URIS = client_information["redirect_uris"]
    hostile = Hostile(spatio, front, misbehaviour, monkeypatch)
    hostile.be_honest()
    yield hostile
    hostile.be_honest()
