"""Dynamic client registration, request and answer. RFC 7591."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, Self, cast, get_args

from spatio_django.exceptions import ProviderUnavailable
from spatio_django.oidc.answer import Answer
from spatio_django.oidc.discovery import require_endpoint
from spatio_django.oidc.refusal import printable
from spatio_django.oidc.responses import bad_member, raise_refusal, scopes, text
from spatio_django.oidc.secret import Secret

AuthMethod = Literal["client_secret_basic", "client_secret_post", "none"]
AUTH_METHODS: tuple[str, ...] = get_args(AuthMethod)

#: Bytes.
REGISTRATION_LIMIT = 64 * 1024
#: Seconds to wait after a 429 that does not say: Spatio allows ten registrations an hour.
RATE_LIMIT_WAIT = 3600.0
#: Characters of a name that are kept.
MAX_NAME = 200

#: A client id is kept in a column that a unique constraint covers.
_CLIENT_ID = re.compile(r"[\x20-\x7e]{1,255}")  # RFC 6749 §A.1
_VSCHAR = re.compile(r"[\x20-\x7e]{1,4096}")  # RFC 6749 §A.2
_HEADER_SAFE = re.compile(r"[\x21-\x7e]{1,8192}")


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientMetadata:
    """
    What we ask to be registered as.

    Attributes:
        redirect_uris: At most ten at Spatio.
        scope: Always stated: Spatio's default lacks ``openid``, and grants reading all data instead.
        token_endpoint_auth_method: Always stated: Spatio's default is a client without a secret.
    """

    redirect_uris: tuple[str, ...]
    client_name: str
    scope: tuple[str, ...]
    token_endpoint_auth_method: AuthMethod = "client_secret_basic"  # noqa: S105 - no secret
    client_uri: str | None = None
    logo_uri: str | None = None
    policy_uri: str | None = None
    tos_uri: str | None = None

    def to_document(self) -> dict[str, Any]:
        """Return the request's JSON. RFC 7591 §2, §3.1."""
        document: dict[str, Any] = {
            "client_name": self.client_name,
            "redirect_uris": list(self.redirect_uris),
            "grant_types": ["authorization_code", "refresh_token"],
            "response_types": ["code"],
            "scope": " ".join(self.scope),
            "token_endpoint_auth_method": self.token_endpoint_auth_method,
        }
        for name in ("client_uri", "logo_uri", "policy_uri", "tos_uri"):
            if (value := getattr(self, name)) is not None:
                document[name] = value
        return document


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientInformation:
    """
    What we were registered as, which may differ from what was asked.

    Attributes:
        client_id_issued_at: Seconds since the epoch.
        client_secret_expires_at: Seconds since the epoch; ``None`` for never.
        registration_access_token: Shown once.
    """

    client_id: str
    client_secret: Secret | None
    token_endpoint_auth_method: AuthMethod
    redirect_uris: tuple[str, ...]
    scope: tuple[str, ...]
    client_name: str
    registration_access_token: Secret | None = None
    registration_client_uri: str | None = None
    client_id_issued_at: int | None = None
    client_secret_expires_at: int | None = None

    @classmethod
    def from_answer(cls, answer: Answer, *, request: ClientMetadata, issuer: str) -> Self:
        """
        Judge an answer of the registration endpoint.

        What the answer says is what counts; what it leaves out, or gives as ``null``, was registered as
        asked (RFC 7591 §3.2.1). Redirect URIs may become fewer, but never others: codes go there.

        Args:
            issuer: Whose endpoint answered: where it may send us follows from where it is, see
                :func:`~spatio_django.oidc.discovery.require_endpoint`.

        Raises:
            ProviderUnavailable: ``rate_limited`` (``retry_after`` is always set) or ``bad_status``.
            ProviderRefused: The registration error.
            ProtocolViolation: ``not_json``, ``bad_status``, ``insecure_url``, or the name of the member that
                is wrong; ``client_secret`` also if one is needed and none came.
        """
        if answer.status == 429:
            wait = RATE_LIMIT_WAIT if answer.retry_after is None else answer.retry_after
            raise ProviderUnavailable(
                "Too many registrations from this address.", code="rate_limited", retry_after=wait
            )
        answer.require_available()
        raise_refusal(answer)
        if answer.status not in {200, 201}:
            raise answer.unexpected()
        document = answer.json_object()

        client_id = text(document, "client_id", _CLIENT_ID)
        if client_id is None:
            raise bad_member("client_id")
        secret = text(document, "client_secret", _VSCHAR)
        method = _auth_method(document, secret, request)
        access_token = text(document, "registration_access_token", _HEADER_SAFE)
        granted = scopes(document)
        return cls(
            client_id=client_id,
            client_secret=None if secret is None else Secret(secret),
            token_endpoint_auth_method=method,
            redirect_uris=_redirect_uris(document, request),
            scope=request.scope if granted is None else granted,
            client_name=_name(document, request),
            registration_access_token=None if access_token is None else Secret(access_token),
            registration_client_uri=_client_uri(document, issuer),
            client_id_issued_at=_time(document, "client_id_issued_at"),
            client_secret_expires_at=_time(document, "client_secret_expires_at") or None,
        )


def _auth_method(document: Mapping[str, Any], secret: str | None, request: ClientMetadata) -> AuthMethod:
    method = document.get("token_endpoint_auth_method")
    if method is None:
        method = request.token_endpoint_auth_method
    if method not in AUTH_METHODS:
        raise bad_member("token_endpoint_auth_method")
    # A secret was asked for: being made a public client in silence is not an answer to that.
    if secret is None and (method != "none" or request.token_endpoint_auth_method != "none"):  # noqa: S105
        raise bad_member("client_secret")
    return cast(AuthMethod, method)


def _redirect_uris(document: Mapping[str, Any], request: ClientMetadata) -> tuple[str, ...]:
    uris = document.get("redirect_uris")
    if uris is None:
        return request.redirect_uris
    if not isinstance(uris, list) or not uris or not all(uri in request.redirect_uris for uri in uris):
        raise bad_member("redirect_uris")
    return tuple(uris)


def _client_uri(document: Mapping[str, Any], issuer: str) -> str | None:
    member = "registration_client_uri"
    uri = document.get(member)
    return None if uri is None else require_endpoint(uri, member=member, issuer=issuer)


def _name(document: Mapping[str, Any], request: ClientMetadata) -> str:
    name = document.get("client_name")
    if name is None:
        return request.client_name
    if not isinstance(name, str):
        raise bad_member("client_name")
    return printable(name, limit=MAX_NAME)


def _time(document: Mapping[str, Any], name: str) -> int | None:
    value = document.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 1 << 40:
        raise bad_member(name)
    return value
