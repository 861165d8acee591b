"""
A pending login, and the one cookie that remembers it.

The cookie, not the session: an anonymous click writes no database row, two tabs can't overwrite each other,
and the flow works with every session engine and with ``SESSION_COOKIE_SAMESITE = "Strict"``.
"""

import hashlib
import json
import re
import time
from dataclasses import dataclass, field, replace

from django.http import HttpRequest, HttpResponse
from django.utils.functional import cached_property

from spatio_django.encryption import key_ring
from spatio_django.exceptions import Undecryptable
from spatio_django.links import Ask
from spatio_django.oidc.secret import Secret

#: Seconds a pending login lives: long enough to find a password, short enough to be of no use later.
LIFETIME = 600
#: Pending logins kept per browser, and the bytes of their cookies together: web servers cap headers at 8 KB.
MAX_FLOWS = 8
MAX_COOKIE_BYTES = 4096
#: Names the layout of what is sealed, so that an older release's cookie is not misread.
COOKIE_CONTEXT = "flow.3:"

_NAME = re.compile(r"(?:__Host-)?spatio_flow_[0-9a-f]{16}")


@dataclass(frozen=True, kw_only=True)
class PendingLogin:
    """
    One login on its way through Spatio.

    Attributes:
        client_id: Whose code will come back; a site may register anew meanwhile.
        created: Seconds since the epoch.
        connect_to: Primary key, as text, of the signed-in user who asked to connect an account; ``None`` for
            a sign-in.
        done: The callback came. What is left of the flow leads a replayed callback to its page.
    """

    issuer: str
    client_id: str
    state: Secret
    nonce: Secret
    code_verifier: Secret
    redirect_uri: str
    next_url: str | None
    created: int
    ask: Ask = field(default_factory=Ask)
    connect_to: str | None = None
    done: bool = False

    @property
    def secure(self) -> bool:
        """Whether the browser is on https; the registered URI knows, whatever a proxy says."""
        return self.redirect_uri.startswith("https:")

    @cached_property
    def digest(self) -> str:
        """What names this flow where its state must not be read: the cookie's name, the consumed states."""
        return hashlib.sha256(self.state.reveal().encode()).hexdigest()

    @cached_property
    def cookie(self) -> str:
        """Name of its cookie."""
        return cookie_name(self.digest, secure=self.secure)

    def sealed(self) -> str:
        """Encrypt it for its cookie."""
        parts = [
            self.issuer,
            self.client_id,
            [secret.reveal() for secret in (self.state, self.nonce, self.code_verifier)],
            self.redirect_uri,
            self.next_url,
            self.created,
            [self.ask.scopes, self.ask.prompt, self.ask.max_age],
            self.connect_to,
            self.done,
        ]
        return key_ring().seal(
            Secret(json.dumps(parts, separators=(",", ":"))), context=COOKIE_CONTEXT + self.cookie
        )

    @classmethod
    def opened(cls, name: str, value: str) -> "PendingLogin | None":
        """Read what :meth:`sealed` gave, or ``None`` if it isn't ours, isn't this cookie's, or is too old."""
        try:
            text = key_ring().open(value, context=COOKIE_CONTEXT + name).reveal()
        except Undecryptable:
            return None
        issuer, client_id, secrets, redirect_uri, next_url, created, ask, connect_to, done = json.loads(text)
        if not -60 <= time.time() - created < LIFETIME:
            return None
        state, nonce, code_verifier = map(Secret, secrets)
        return cls(
            issuer=issuer,
            client_id=client_id,
            state=state,
            nonce=nonce,
            code_verifier=code_verifier,
            redirect_uri=redirect_uri,
            next_url=next_url,
            created=created,
            ask=Ask(scopes=tuple(ask[0]), prompt=ask[1], max_age=ask[2]),
            connect_to=connect_to,
            done=done,
        )


def cookie_name(digest: str, *, secure: bool) -> str:
    """
    Name the cookie of the flow whose state has that digest.

    ``__Host-`` makes browsers refuse it from a sibling subdomain, which could otherwise plant its own
    pending login (login CSRF).
    """
    return f"{'__Host-' if secure else ''}spatio_flow_{digest[:16]}"


def used_up(pending: PendingLogin) -> PendingLogin:
    """Give what is kept of a flow whose callback came: where it led, and nothing that could be redeemed."""
    nothing = Secret("")
    return replace(pending, nonce=nothing, code_verifier=nothing, done=True)


def remember(request: HttpRequest, response: HttpResponse, pending: PendingLogin) -> None:
    """Put *pending* into its cookie; the oldest flows make room, and cookies that are not ours go."""
    value = pending.sealed()
    if len(pending.cookie) + len(value) > MAX_COOKIE_BYTES:
        # Browsers would not keep it. Better to land on the usual page than nowhere.
        value = replace(pending, next_url=None).sealed()
    response.set_cookie(
        pending.cookie,
        value,
        max_age=max(1, pending.created + LIFETIME - int(time.time())),
        secure=pending.secure,
        httponly=True,
        samesite="Lax",
    )
    others = {
        name: (PendingLogin.opened(name, text), len(name) + len(text))
        for name, text in flow_cookies(request).items()
        if name != pending.cookie
    }
    room, places = MAX_COOKIE_BYTES - len(pending.cookie) - len(value), MAX_FLOWS - 1
    doomed = []
    for name, (other, size) in sorted(
        others.items(), key=lambda item: item[1][0].created if item[1][0] else 0, reverse=True
    ):
        room, places = room - size, places - 1
        if other is None or room < 0 or places < 0:
            doomed.append(name)
    for name in doomed[:MAX_FLOWS]:  # the rest of what somebody planted goes with the next logins
        response.delete_cookie(name, samesite="Lax")


def flow_cookies(request: HttpRequest) -> dict[str, str]:
    """
    Give the cookies of pending logins, by the names that the browser knows them under.

    Not from ``request.COOKIES``: Django trims Unicode white space off names there. A sibling subdomain may
    not set ``__Host-…``, but a browser lets it set the same with such a space before it.
    """
    found: dict[str, str] = {}
    for part in request.META.get("HTTP_COOKIE", "").split(";"):
        name, _, value = part.strip(" \t").partition("=")
        if _NAME.fullmatch(name):
            found.setdefault(name, value)
    return found
