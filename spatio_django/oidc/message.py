"""Message: a request whose secrets stay opaque until it is sent."""

import base64
import re
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import quote_plus, urlencode, urlsplit

from spatio_django.exceptions import ProtocolViolation
from spatio_django.oidc.secret import Secret

_BEARER_TOKEN = re.compile(r"[\x21-\x7e]+")


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """
    What is to be sent. Its ``repr`` may appear in an error report.

    Attributes:
        authorization: The header's value, scheme and all.
        body: Text; sent as UTF-8.
    """

    method: str
    url: str
    authorization: Secret | None = None
    body: Secret | None = None
    content_type: str | None = None

    def encoded(self, *, host: str, user_agent: str) -> bytes:
        """Return the request in clear, head and body; for the moment of sending. RFC 9112 §3."""
        parts = urlsplit(self.url)
        body = None if self.body is None else self.body.reveal().encode()
        lines = [
            f"{self.method} {parts.path or '/'}{'?' if parts.query else ''}{parts.query} HTTP/1.1",
            f"Host: {host}",
            "Accept: application/json",
            "Accept-Encoding: identity",
            f"User-Agent: {user_agent}",
        ]
        if body is not None:
            lines += [f"Content-Type: {self.content_type}", f"Content-Length: {len(body)}"]
        if self.authorization is not None:
            lines.append(f"Authorization: {self.authorization.reveal()}")
        return "\r\n".join([*lines, "", ""]).encode() + (body or b"")


def form(fields: Mapping[str, str | Secret]) -> Secret:
    """Return *fields* form-encoded."""
    plain = {name: value.reveal() if isinstance(value, Secret) else value for name, value in fields.items()}
    return Secret(urlencode(plain, errors="replace"))


def basic(client_id: str, client_secret: Secret) -> Secret:
    """Return an ``Authorization`` for HTTP Basic, both parts form-encoded first. RFC 6749 §2.3.1."""
    pair = f"{_quoted(client_id)}:{_quoted(client_secret.reveal())}"
    return Secret("Basic " + base64.b64encode(pair.encode()).decode())


def bearer(token: Secret) -> Secret:
    """
    Return an ``Authorization`` that carries *token*. RFC 6750 §2.1.

    Raises:
        ProtocolViolation: ``access_token``, if it does not fit into a header.
    """
    if not _BEARER_TOKEN.fullmatch(token.reveal()):
        raise ProtocolViolation("The access token does not fit into a header.", code="access_token")
    return Secret("Bearer " + token.reveal())


def _quoted(text: str) -> str:
    return quote_plus(text, errors="replace")
