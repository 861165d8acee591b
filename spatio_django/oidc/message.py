"""Message: a request whose secrets stay opaque until it is sent."""

import base64
import re
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import quote_plus, urlencode

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

    def headers(self) -> dict[str, str]:
        """Return the headers in clear; for the moment of sending."""
        headers = {"Accept": "application/json", "Accept-Encoding": "identity"}
        if self.content_type is not None:
            headers["Content-Type"] = self.content_type
        if self.authorization is not None:
            headers["Authorization"] = self.authorization.reveal()
        return headers

    def data(self) -> bytes | None:
        """Return the body in clear; for the moment of sending."""
        return None if self.body is None else self.body.reveal().encode()


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
