"""
A strict provider, in a process of its own: refresh tokens rotate, and one that comes twice ends its family.

It shares no code with what it judges, nor with the development provider. What a family is and what happened
to it is counted here, where every process and host of a site is seen at once. It can be told, over HTTP on
loopback, to hold, drop, delay or replace answers; :mod:`tests.refresh.strict` does the telling.

The token endpoint has a port of its own, with a gate: while that is closed no connection to it comes about,
so that a client has claimed its refresh and cannot have sent it.
"""

import base64
import hmac
import json
import math
import secrets
import select
import socket
import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, unquote_plus

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from benchmarks import workers

CLIENT_ID = "storm"
CLIENT_SECRET = "a-secret-of-the-storm"
#: Seconds that anything is held at most: a test that forgets to let go must not leave threads behind.
PATIENCE = 60.0
#: Seconds in which a connection on loopback comes about, if it does at all.
CONNECTS = 0.1
BACKLOG = 512


@dataclass(slots=True)
class Family:
    """
    What one sign-in gave, and all that came of it.

    Attributes:
        current: The refresh token that may be used.
        used: Those that were, and when, on the monotonic clock.
        rotated: When each refresh was done, likewise.
        revoked_at: When it ended, in seconds since the epoch.
        leeways: Refreshes with a token that had been used already, but a moment ago.
    """

    name: str
    current: str
    used: dict[str, float] = field(default_factory=dict)
    rotated: list[float] = field(default_factory=list)
    revoked_at: float = math.inf
    reuses: int = 0
    leeways: int = 0
    in_flight: int = 0
    most_in_flight: int = 0

    @property
    def revoked(self) -> bool:
        """Whether it has ended."""
        return self.revoked_at < math.inf


@dataclass(slots=True, kw_only=True)
class Fault:
    """
    What is to happen to a token request.

    Attributes:
        when: ``before`` or ``after`` the tokens rotate.
        do: ``hold`` until released, ``drop`` the connection, ``delay``, or ``answer`` something else.
    """

    when: str
    do: str
    seconds: float = 0.0
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    body: str = ""


@dataclass(slots=True, kw_only=True)
class Reply:
    """An answer, as it goes over the wire."""

    status: int
    body: bytes
    headers: dict[str, str] = field(default_factory=lambda: {"Content-Type": "application/json"})


def reply(status: int, document: object) -> Reply:
    """Answer with JSON."""
    return Reply(status=status, body=json.dumps(document).encode())


def encode(data: bytes) -> str:
    """Give *data* in base64url, without padding."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


class Provider:
    """
    What is answered, and what has happened.

    Args:
        life: Seconds that an access token lives.
        leeway: Seconds for which a used refresh token goes on working; 0 is strict.
        delay: Seconds that each refresh takes.
        id_token: Whether a refresh gives one.
    """

    def __init__(self, *, life: int, leeway: float, delay: float, id_token: bool) -> None:
        self.life, self.leeway, self.delay, self.id_token = life, leeway, delay, id_token
        self.issuer = self.token_endpoint = ""
        self._lock = threading.Lock()
        self._families: dict[str, Family] = {}
        self._by_refresh: dict[str, Family] = {}
        #: By access token: whose, and when it expires, in seconds since the epoch.
        self._access: dict[str, tuple[Family, float]] = {}
        self._faults: deque[Fault] = deque()
        self._released = threading.Event()
        self._holding = 0
        self.refused: dict[str, int] = {}
        self._key = rsa.generate_private_key(public_exponent=65537, key_size=2048)

    # Documents

    def metadata(self) -> dict[str, Any]:
        """Give the discovery document."""
        return {
            "issuer": self.issuer,
            "authorization_endpoint": f"{self.issuer}/authorize",
            "token_endpoint": self.token_endpoint,
            "jwks_uri": f"{self.issuer}/jwks",
            "response_types_supported": ["code"],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": ["RS256"],
            "code_challenge_methods_supported": ["S256"],
        }

    def jwks(self) -> dict[str, Any]:
        """Give the one key."""
        numbers = self._key.public_key().public_numbers()
        n, e = (encode(value.to_bytes((value.bit_length() + 7) // 8)) for value in (numbers.n, numbers.e))
        return {"keys": [{"kty": "RSA", "use": "sig", "alg": "RS256", "kid": "1", "n": n, "e": e}]}

    def _id_token(self, family: Family) -> str:
        now = int(time.time())
        header = {"alg": "RS256", "kid": "1", "typ": "JWT"}
        claims = {"iss": self.issuer, "sub": family.name, "aud": CLIENT_ID, "iat": now, "exp": now + 3600}
        signed = ".".join(encode(json.dumps(part).encode()) for part in (header, claims))
        return f"{signed}.{encode(self._key.sign(signed.encode(), padding.PKCS1v15(), hashes.SHA256()))}"

    # Tokens

    def _issue(self, family: Family) -> dict[str, Any]:
        expires = time.time() + self.life
        # The moment is in it, so that whoever was handed one can tell without asking.
        access = f"tok_{secrets.token_urlsafe(24)}.{int(expires * 1000)}"
        family.current = f"ref_{secrets.token_urlsafe(24)}"
        self._by_refresh[family.current] = family
        self._access[access] = (family, expires)
        return {
            "access_token": access,
            "token_type": "Bearer",
            "expires_in": self.life,
            "refresh_token": family.current,
            "scope": "openid profile email",
        }

    def sign_in(self, count: int) -> list[dict[str, Any]]:
        """Make *count* families, as so many sign-ins would."""
        with self._lock:
            found = []
            for _ in range(count):
                family = Family(name=f"person-{secrets.token_hex(8)}", current="")
                self._families[family.name] = family
                found.append({"sub": family.name, **self._issue(family)})
            return found

    def _refresh(self, headers: dict[str, str], form: dict[str, str], family: Family | None) -> Reply:
        if not self._knows_client(headers, form):
            return self._refuse(401, "invalid_client")
        if form.get("grant_type") != "refresh_token":
            return self._refuse(400, "unsupported_grant_type")
        with self._lock:
            if family is None or family.revoked:
                return self._refuse(400, "invalid_grant")
            token, now = form["refresh_token"], time.monotonic()
            if token != family.current:
                if now - family.used[token] > self.leeway:
                    family.reuses += 1
                    family.revoked_at = min(family.revoked_at, time.time())
                    return self._refuse(400, "invalid_grant")
                family.leeways += 1
            family.used.setdefault(token, now)
            # Under a leeway the successor that was lost, or was not, goes on working for as long.
            family.used.setdefault(family.current, now)
            family.rotated.append(now)
            document = self._issue(family)
        if self.id_token:
            document["id_token"] = self._id_token(family)
        return reply(200, document)

    def _refuse(self, status: int, error: str) -> Reply:
        self.refused[error] = self.refused.get(error, 0) + 1
        return reply(status, {"error": error})

    def _knows_client(self, headers: dict[str, str], form: dict[str, str]) -> bool:
        """Take the credentials either way, but one way only (RFC 6749 §2.3.1)."""
        scheme, _, sent = headers.get("authorization", "").partition(" ")
        given = f"{form.get('client_id', '')}:{form.get('client_secret', '')}"
        if scheme:
            if scheme.lower() != "basic" or "client_secret" in form:
                return False
            given = unquote_plus(base64.b64decode(sent).decode())
        return hmac.compare_digest(given, f"{CLIENT_ID}:{CLIENT_SECRET}")

    @contextmanager
    def _in_flight(self, family: Family | None) -> Iterator[None]:
        if family is None:
            yield
            return
        with self._lock:
            family.in_flight += 1
            family.most_in_flight = max(family.most_in_flight, family.in_flight)
        try:
            yield
        finally:
            with self._lock:
                family.in_flight -= 1

    @contextmanager
    def token(self, headers: dict[str, str], body: bytes) -> Iterator[Reply | None]:
        """Answer a token request, which lasts until the answer is written; ``None`` drops it."""
        form = {name: values[0] for name, values in parse_qs(body.decode()).items()}
        family = self._by_refresh.get(form.get("refresh_token", ""))
        with self._in_flight(family):
            try:
                fault = self._faults.popleft()
            except IndexError:
                fault = Fault(when="before", do="delay", seconds=self.delay)
            if fault.when == "before" and not self._suffer(fault):
                yield self._instead(fault)
                return
            answer = self._refresh(headers, form, family)
            if fault.when == "after" and not self._suffer(fault):
                yield self._instead(fault)
                return
            yield answer

    def _suffer(self, fault: Fault) -> bool:
        """Have *fault* happen; tell whether the honest answer follows."""
        if fault.do == "hold":
            with self._lock:
                self._holding += 1
                released = self._released
            released.wait(PATIENCE)
        elif fault.do == "delay" and fault.seconds:
            time.sleep(fault.seconds)
        return fault.do in {"hold", "delay"}

    def _instead(self, fault: Fault) -> Reply | None:
        if fault.do == "drop":
            return None
        return Reply(status=fault.status, headers=fault.headers, body=fault.body.encode())

    # What the harness says and asks

    def plan(self, *, count: int, **fault: Any) -> None:
        """Have the next *count* token requests suffer a :class:`Fault`."""
        self._faults.extend([Fault(**fault)] * count)

    def release(self) -> None:
        """Let go of what is held, and plan nothing any more."""
        self._faults.clear()
        with self._lock:
            self._holding = 0
            self._released.set()
            self._released = threading.Event()

    def change(self, **settings: Any) -> None:
        """Change ``life``, ``leeway``, ``delay`` or ``id_token``."""
        for name, value in settings.items():
            setattr(self, name, value)

    def holding(self) -> int:
        """Count the token requests that are held."""
        return self._holding

    def good_until(self, tokens: list[str]) -> list[float]:
        """Tell until when each access token was any good, in seconds since the epoch; 0 if it never was."""
        found = [self._access.get(token) for token in tokens]
        return [0.0 if each is None else min(each[0].revoked_at, each[1]) for each in found]

    def counters(self, names: list[str]) -> dict[str, Any]:
        """Tell what became of these families."""
        with self._lock:
            return {
                "refused": dict(self.refused),
                "families": {
                    name: {
                        "current": family.current,
                        "refreshes": len(family.rotated),
                        "rotated": family.rotated,
                        "reuses": family.reuses,
                        "revoked": family.revoked,
                        "leeways": family.leeways,
                        "most_in_flight": family.most_in_flight,
                    }
                    for name, family in ((name, self._families[name]) for name in names)
                },
            }


class Gate:
    """
    The token endpoint's door. Closed, its queue is full: a connection to it neither succeeds nor fails.

    Linux answers no SYN while the queue of a listener is full, and the client's kernel sends it again every
    second. So one that waits here is let in about a second after the gate is opened.
    """

    def __init__(self, listener: socket.socket) -> None:
        self.listener = listener
        self._open = threading.Event()
        self._open.set()
        self._accepting = threading.Lock()
        self._fillers: list[socket.socket] = []

    def accept(self) -> socket.socket:
        """Wait for the next connection that is let in."""
        while True:
            self._open.wait()
            with self._accepting:
                ready = select.select([self.listener], [], [], 0.02)[0] if self._open.is_set() else []
                if ready:
                    return self.listener.accept()[0]

    def close(self) -> None:
        """Let nobody in from now on."""
        with self._accepting:
            self._open.clear()
            self.listener.listen(0)
        for _ in range(BACKLOG):
            filler = socket.socket()
            filler.settimeout(CONNECTS)
            self._fillers.append(filler)
            try:
                filler.connect(self.listener.getsockname())
            except TimeoutError:
                return
        raise RuntimeError("This system's listeners take connections that nobody accepts.")

    def open(self) -> None:
        """Let everybody in who comes or waits."""
        while self._fillers:
            self._fillers.pop().close()
        self.listener.listen(BACKLOG)
        self._open.set()


class Server:
    """HTTP/1.1, no more of it than is needed here: a thread per connection, which stays open if asked."""

    def __init__(self, provider: Provider) -> None:
        self._provider = provider
        self._front = socket.create_server(("127.0.0.1", 0), backlog=BACKLOG)
        self.gate = Gate(socket.create_server(("127.0.0.1", 0), backlog=BACKLOG))
        provider.issuer = f"http://127.0.0.1:{self._front.getsockname()[1]}"
        provider.token_endpoint = f"http://127.0.0.1:{self.gate.listener.getsockname()[1]}/token"
        names = ("metadata", "sign_in", "plan", "release", "change", "holding", "good_until", "counters")
        self._controls = {name: getattr(provider, name) for name in names} | {
            "open": self.gate.open,
            "close": self.gate.close,
        }

    def run(self) -> None:
        """Serve, in threads of their own."""
        for accept in (lambda: self._front.accept()[0], self.gate.accept):
            threading.Thread(target=self._take, args=(accept,), daemon=True).start()

    def _take(self, accept: Any) -> None:
        while True:
            connection = accept()
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        # A client that is killed leaves half a request, or none: ConnectionResetError and ValueError.
        with suppress(OSError, ValueError), connection, connection.makefile("rb") as stream:
            while line := stream.readline():
                _, target, _ = line.decode("latin-1").split(" ", 2)
                headers = {}
                while (header := stream.readline()) not in {b"\r\n", b""}:
                    name, _, value = header.decode("latin-1").partition(":")
                    headers[name.lower()] = value.strip()
                length = int(headers.get("content-length", "0"))
                body = stream.read(length)
                if header == b"" or len(body) < length:
                    return  # it went away before it had said everything
                if not self._answer(connection, target, headers, body):
                    return
                if headers.get("connection", "").lower() == "close":
                    return

    def _answer(self, connection: socket.socket, target: str, headers: dict[str, str], body: bytes) -> bool:
        if target == "/token":
            with self._provider.token(headers, body) as answer:
                if answer is None:
                    return False
                write(connection, answer)
            return True
        write(connection, self._document(target, body))
        return True

    def _document(self, target: str, body: bytes) -> Reply:
        if target == "/.well-known/openid-configuration":
            return reply(200, self._provider.metadata())
        if target == "/jwks":
            return reply(200, self._provider.jwks())
        control = self._controls.get(target.removeprefix("/control/"))
        if control is None:
            return reply(404, {"error": "not_found"})
        return reply(200, control(**json.loads(body or b"{}")))


def write(connection: socket.socket, answer: Reply) -> None:
    """Send *answer*."""
    headers = {**answer.headers, "Content-Length": str(len(answer.body)), "Cache-Control": "no-store"}
    head = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    connection.sendall(f"HTTP/1.1 {answer.status} Answer\r\n{head}\r\n".encode() + answer.body)


def main() -> None:
    """Serve until the parent has gone."""
    provider = Provider(**workers.config())
    Server(provider).run()
    workers.serve({"issuer": lambda: provider.issuer})


if __name__ == "__main__":
    main()
