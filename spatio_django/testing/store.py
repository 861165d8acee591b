"""
What the provider remembers: values, the rules for spending them, and a file to keep them in.

Everything is in memory, behind one re-entrant lock. With a *path* the whole is also written as JSON after
each change, to a temporary file that then replaces the old one: a reader, or the next start, sees one
whole state or the other (and a development provider has few enough rows for that to be quick).
"""

import contextlib
import json
import os
import secrets
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

#: Seconds. RFC 6749 §4.1.2 wants a short life for a code; used ones are remembered longer, for §10.5.
CODE_LIFETIME = 60
CODE_MEMORY = 600
#: An ID token lives an hour, so a retired key is published a little longer than that.
ID_TOKEN_LIFETIME = 3600
KEY_MEMORY = ID_TOKEN_LIFETIME + 300
#: Expired rows are looked for this often: each look reads all of them.
SWEEP_INTERVAL = 10


def random_token(prefix: str) -> str:
    """*prefix* and 32 random bytes in base64url: more than anyone can guess."""
    return prefix + secrets.token_urlsafe(32)


@dataclass(kw_only=True)
class Client:
    """A registered relying party; the methods are those that Authlib asks a client (RFC 6749 §2)."""

    client_id: str
    client_secret: str | None
    client_id_issued_at: int
    registration_access_token: str
    metadata: dict[str, Any]

    def get_client_id(self) -> str:
        """The identifier."""
        return self.client_id

    def get_default_redirect_uri(self) -> str | None:
        """None: the contract requires ``redirect_uri`` in every request."""

    def get_allowed_scope(self, scope: str | None) -> str | None:
        """The scope to grant: all that is registered if none was asked for, ``None`` to refuse."""
        registered = self.metadata["scope"].split()
        wanted = list(dict.fromkeys((scope or "").split())) or registered
        return " ".join(wanted) if set(wanted) <= set(registered) else None

    def check_redirect_uri(self, redirect_uri: str) -> bool:
        """Compare character by character (RFC 9700 §2.1)."""
        return redirect_uri in self.metadata["redirect_uris"]

    def check_client_secret(self, client_secret: str) -> bool:
        """Compare in constant time; a public client has no secret and none fits."""
        return self.client_secret is not None and secrets.compare_digest(
            self.client_secret.encode(), client_secret.encode()
        )

    def check_client(self, client: "Client") -> bool:
        """Whether this is the same: a client stands for its own registration access token."""
        return self.client_id == client.client_id

    def check_endpoint_auth_method(self, method: str, endpoint: str) -> bool:
        """The registered method and no other (RFC 7591 §2)."""
        return bool(self.metadata["token_endpoint_auth_method"] == method)

    def check_response_type(self, response_type: str) -> bool:
        """Whether it was registered."""
        return response_type in self.metadata["response_types"]

    def check_grant_type(self, grant_type: str) -> bool:
        """Whether it was registered."""
        return grant_type in self.metadata["grant_types"]


@dataclass(kw_only=True)
class Code:
    """An authorization code; the methods are Authlib's (RFC 6749 §4.1.2, RFC 7636)."""

    code: str
    client_id: str
    redirect_uri: str
    scope: str
    persona: str
    nonce: str | None
    code_challenge: str
    code_challenge_method: str
    auth_time: int
    expires_at: float
    grant_id: str | None = None

    def get_redirect_uri(self) -> str:
        """Where the code was sent."""
        return self.redirect_uri

    def get_scope(self) -> str:
        """What was consented to."""
        return self.scope


@dataclass(kw_only=True)
class Grant:
    """What one sign-in gave to one client; ending it ends all of its tokens."""

    grant_id: str
    client_id: str
    persona: str
    scope: str
    auth_time: int
    granted_at: float

    def get_scope(self) -> str:
        """What was consented to."""
        return self.scope

    def check_client(self, client: Client) -> bool:
        """Whether it was issued to *client*."""
        return self.client_id == client.client_id


@dataclass(kw_only=True)
class RefreshToken:
    """One link of a grant's chain of refresh tokens; ``spent_at`` is set when it is exchanged."""

    token: str
    grant_id: str
    spent_at: float | None = None


@dataclass(kw_only=True)
class AccessToken:
    """A bearer token: an app's (``oauth``) or a person's own (``pat``)."""

    token: str
    kind: str
    persona: str
    scope: str
    expires_at: float | None
    client_id: str | None = None
    grant_id: str | None = None
    workspace_id: str | None = None

    def get_scope(self) -> str:
        """What it may be used for."""
        return self.scope

    def is_expired(self) -> bool:
        """Whether its time has passed; a personal access token may have none."""
        return self.expires_at is not None and self.expires_at <= time.time()

    def is_revoked(self) -> bool:
        """False: what is revoked is forgotten."""
        return False


@dataclass(kw_only=True)
class Consent:
    """What a persona once allowed a client, so that it is not asked again."""

    persona: str
    client_id: str
    scopes: list[str]
    granted_at: float


@dataclass(kw_only=True)
class Browser:
    """Who is signed in at this provider in one browser, and since when."""

    browser_id: str
    persona: str
    auth_time: float


@dataclass(kw_only=True)
class SigningKey:
    """An RSA key as a private JWK; ``retired_at`` is set when another takes its place."""

    jwk: dict[str, Any]
    retired_at: float | None = None


@dataclass(kw_only=True)
class Tables:
    """All rows, each table by its key."""

    secret: str = field(default_factory=lambda: secrets.token_urlsafe(32))
    clients: dict[str, Client] = field(default_factory=dict)
    codes: dict[str, Code] = field(default_factory=dict)
    grants: dict[str, Grant] = field(default_factory=dict)
    refresh_tokens: dict[str, RefreshToken] = field(default_factory=dict)
    access_tokens: dict[str, AccessToken] = field(default_factory=dict)
    consents: dict[str, Consent] = field(default_factory=dict)
    browsers: dict[str, Browser] = field(default_factory=dict)
    keys: list[SigningKey] = field(default_factory=list)

    @classmethod
    def from_json(cls, document: dict[str, Any]) -> "Tables":
        """Rebuild from what :func:`dataclasses.asdict` gave."""
        rows: dict[str, Callable[..., object]] = {
            "clients": Client,
            "codes": Code,
            "grants": Grant,
            "refresh_tokens": RefreshToken,
            "access_tokens": AccessToken,
            "consents": Consent,
            "browsers": Browser,
        }
        tables: dict[str, Any] = {
            name: {key: row(**values) for key, values in document[name].items()} for name, row in rows.items()
        }
        keys = [SigningKey(**values) for values in document["keys"]]
        return cls(secret=document["secret"], keys=keys, **tables)


class Store:
    """The tables, the lock around them, and the moves that must happen as one."""

    def __init__(self, path: Path | None = None) -> None:
        self.path = path
        self.lock = threading.RLock()
        self.tables = Tables()
        self._depth = 0
        self._next_sweep = 0.0
        if path is not None and path.exists():
            try:
                self.tables = Tables.from_json(json.loads(path.read_text(encoding="utf-8")))
            except (ValueError, LookupError, TypeError) as error:
                message = (
                    f"{path} does not hold the state of a development provider; delete it to start anew."
                )
                raise ValueError(message) from error

    @contextlib.contextmanager
    def change(self) -> Iterator[Tables]:
        """Hold the lock, and write the file when the outermost change is done."""
        with self.lock:
            self._depth += 1
            try:
                yield self.tables
            finally:
                self._depth -= 1
                if self._depth == 0:
                    self._forget_expired()
                    self._write()

    def _forget_expired(self) -> None:
        now, tables = time.time(), self.tables
        if now < self._next_sweep:
            return
        self._next_sweep = now + SWEEP_INTERVAL
        for token in [row.token for row in tables.access_tokens.values() if row.is_expired()]:
            del tables.access_tokens[token]
        for code in [row.code for row in tables.codes.values() if row.expires_at + CODE_MEMORY < now]:
            del tables.codes[code]
        tables.keys[:] = [key for key in tables.keys if (key.retired_at or now) + KEY_MEMORY > now]

    def _write(self) -> None:
        if self.path is None:
            return
        # mkstemp makes the file readable by its owner only, before there is a secret in it.
        descriptor, name = tempfile.mkstemp(dir=self.path.parent, prefix=self.path.name)
        try:
            with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                json.dump(asdict(self.tables), file)
            Path(name).replace(self.path)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise

    def grant_of(self, token: str, client_id: str, *, leeway: float) -> Grant | None:
        """
        The grant that a refresh token of this client stands for.

        A token that was spent longer than *leeway* seconds ago is either stolen or was: nobody can tell
        which of the two holders is honest, so the whole grant ends (RFC 9700 §4.14.2).
        """
        with self.lock:
            row = self.tables.refresh_tokens.get(token)
            grant = self.tables.grants[row.grant_id] if row else None
            if row is None or grant is None or grant.client_id != client_id:
                return None
            if row.spent_at is not None and time.time() - row.spent_at >= leeway:
                self.end_grant(grant.grant_id)
                return None
            return grant

    def spend(self, token: str) -> None:
        """Mark a refresh token as exchanged; the first time counts."""
        with self.change() as tables:
            row = tables.refresh_tokens[token]
            row.spent_at = row.spent_at or time.time()

    def end_grant(self, grant_id: str) -> None:
        """Forget a grant and all of its tokens."""
        with self.change() as tables:
            tables.grants.pop(grant_id, None)
            for table in (tables.refresh_tokens, tables.access_tokens):
                for token in [row.token for row in table.values() if row.grant_id == grant_id]:
                    del table[token]

    def revoke(self, token: str) -> None:
        """Revoke whatever *token* is; a refresh token takes its whole grant along (RFC 7009 §2.1)."""
        with self.change() as tables:
            refresh_token = tables.refresh_tokens.get(token)
            if refresh_token is not None:
                self.end_grant(refresh_token.grant_id)
            tables.access_tokens.pop(token, None)

    def consented(self, persona: str, client_id: str) -> set[str]:
        """The scopes that *persona* already allowed the client."""
        with self.lock:
            consent = self.tables.consents.get(f"{persona} {client_id}")
            return set(consent.scopes) if consent else set()

    def remember_consent(self, persona: str, client_id: str, scope: str) -> None:
        """Add *scope* to what *persona* allowed the client."""
        with self.change() as tables:
            scopes = sorted(self.consented(persona, client_id) | set(scope.split()))
            tables.consents[f"{persona} {client_id}"] = Consent(
                persona=persona, client_id=client_id, scopes=scopes, granted_at=time.time()
            )

    def forget_app(self, persona: str, client_id: str) -> bool:
        """End what *persona* gave the client: consent, codes and tokens. Whether there was anything."""
        with self.change() as tables:
            found = tables.consents.pop(f"{persona} {client_id}", None) is not None
            for grant in list(tables.grants.values()):
                if (grant.persona, grant.client_id) == (persona, client_id):
                    self.end_grant(grant.grant_id)
            for code in list(tables.codes.values()):
                if (code.persona, code.client_id) == (persona, client_id):
                    del tables.codes[code.code]
            return found

    def forget_client(self, client_id: str) -> None:
        """Delete a registration with everything that hangs on it (RFC 7592 §2.3)."""
        with self.change() as tables:
            tables.clients.pop(client_id, None)
            for persona in {row.persona for row in tables.consents.values() if row.client_id == client_id}:
                self.forget_app(persona, client_id)
