"""Dynamic client registration, request and answer, and changing it. RFC 7591, RFC 7592."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, Literal, Self, cast, get_args

from spatio_django.exceptions import ProtocolViolation, ProviderUnavailable
from spatio_django.oidc.answer import Answer
from spatio_django.oidc.authorization import SCOPE_NAME
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
GRANT_TYPES = ("authorization_code", "refresh_token")
RESPONSE_TYPES = ("code",)
#: Optional pages and pictures of ours that the consent page leads to.
URI_MEMBERS = ("client_uri", "logo_uri", "policy_uri", "tos_uri")

#: Characters of a name that are kept.
MAX_NAME = 200

#: Seconds since the epoch: the end of the year 9999, as far as dates go.
MAX_TIME = 253_402_300_800

#: A client id is kept in a column that a unique constraint covers.
_CLIENT_ID = re.compile(r"[\x20-\x7e]{1,255}")  # RFC 6749 §A.1
_VSCHAR = re.compile(r"[\x20-\x7e]{1,4096}")  # RFC 6749 §A.2
_HEADER_SAFE = re.compile(r"[\x21-\x7e]{1,8192}")


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientMetadata:
    """
    What we ask to be registered as. Always the code flow, with refresh tokens.

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
            "grant_types": list(GRANT_TYPES),
            "response_types": list(RESPONSE_TYPES),
            "scope": " ".join(self.scope),
            "token_endpoint_auth_method": self.token_endpoint_auth_method,
        }
        for name in URI_MEMBERS:
            if (value := getattr(self, name)) is not None:
                document[name] = value
        return document


@dataclass(frozen=True, slots=True, kw_only=True)
class Management:
    """
    What changing a registration takes.

    Attributes:
        client_id: Whose registration it is.
        client_secret: As known so far: an answer need not repeat it.
        client_secret_expires_at: Likewise. Seconds since the epoch; ``None`` for never.
        uri: ``registration_client_uri``.
        access_token: ``registration_access_token``.
    """

    client_id: str
    client_secret: Secret | None
    client_secret_expires_at: int | None = None
    uri: str
    access_token: Secret

    def renewed_by(self, answer: Answer) -> Self:
        """
        Give this with the secrets that *answer* brings, whatever else is in it.

        A provider may give new ones with each change, and then the old ones are dead, even if the rest of
        the answer is of no use.

        RFC 7592 §3, §5.
        """
        try:
            document = answer.json_object()
            secret = text(document, "client_secret", _VSCHAR)
            access_token = text(document, "registration_access_token", _HEADER_SAFE)
        except ProtocolViolation:
            return self
        if answer.status != 200 or document.get("client_id") != self.client_id:
            return self
        return replace(
            self,
            client_secret=self.client_secret if secret is None else Secret(secret),
            access_token=self.access_token if access_token is None else Secret(access_token),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientInformation:
    """
    What we were registered as, which may differ from what was asked: see :meth:`surprises`.

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
    grant_types: tuple[str, ...] = GRANT_TYPES
    registration_access_token: Secret | None = None
    registration_client_uri: str | None = None
    client_id_issued_at: int | None = None
    client_secret_expires_at: int | None = None

    @classmethod
    def from_answer(
        cls,
        answer: Answer,
        *,
        request: ClientMetadata,
        issuer: str,
        now: float,
        current: Management | None = None,
    ) -> Self:
        """
        Judge an answer of the registration endpoint, or of the address where a registration is changed.

        What the answer says is what counts; what it leaves out, or gives as ``null``, was registered as
        asked (RFC 7591 §3.2.1). It may be less than that, but not so little that nobody could sign in:
        redirect URIs may become fewer, never others, since codes go there; a client with a secret never
        becomes one without.

        Args:
            issuer: Whose endpoint answered: where it may send us follows from where it is, see
                :func:`~spatio_django.oidc.discovery.require_endpoint`.
            now: Seconds since the epoch.
            current: The registration that was to be changed, if it was not a new one.

        Raises:
            ProviderUnavailable: ``rate_limited`` (``retry_after`` is always set) or ``bad_status``.
            ProviderRefused: The registration error.
            ProtocolViolation: ``not_json``, ``bad_status``, ``insecure_url``, or the name of the member that
                is wrong; ``client_secret`` also if one is needed and none came, ``scope`` also without
                ``openid``, ``client_secret_expires_at`` also when it has expired already.
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
        if client_id is None or (current is not None and client_id != current.client_id):
            raise bad_member("client_id")
        method, secret = _authentication(document, request, current)
        access_token = text(document, "registration_access_token", _HEADER_SAFE)
        return cls(
            client_id=client_id,
            client_secret=secret,
            token_endpoint_auth_method=method,
            redirect_uris=_redirect_uris(document, request),
            scope=_scope(document, request),
            client_name=_name(document, request),
            grant_types=_code_flow(document),
            registration_access_token=None if access_token is None else Secret(access_token),
            registration_client_uri=_client_uri(document, issuer),
            client_id_issued_at=_time(document, "client_id_issued_at"),
            client_secret_expires_at=_expiry(document, secret, now, current),
        )

    def surprises(self, request: ClientMetadata) -> list[str]:
        """Say what differs from *request*, in sentences for an operator: sign-in works all the same."""
        found = []
        if missing := [name for name in request.scope if name not in self.scope]:
            found.append(f"Spatio did not grant the scope {' '.join(missing)}.")
        if missing := [uri for uri in request.redirect_uris if uri not in self.redirect_uris]:
            found.append(f"Spatio did not register the redirect URI {' '.join(missing)}.")
        if self.token_endpoint_auth_method != request.token_endpoint_auth_method:
            found.append(
                f"The client authenticates with {self.token_endpoint_auth_method}, "
                f"not with {request.token_endpoint_auth_method}."
            )
        if "refresh_token" not in self.grant_types:
            found.append("Spatio will give no refresh tokens.")
        if self.client_secret_expires_at is not None:
            moment = datetime.fromtimestamp(self.client_secret_expires_at, tz=UTC)
            found.append(f"The client secret expires on {moment:%Y-%m-%d %H:%M} UTC: register again before.")
        return found


def _authentication(
    document: Mapping[str, Any], request: ClientMetadata, current: Management | None
) -> tuple[AuthMethod, Secret | None]:
    method = document.get("token_endpoint_auth_method")
    asked = request.token_endpoint_auth_method
    if method is None:
        method = asked
    # A secret was asked for: being made a public client is not an answer to that.
    if method not in AUTH_METHODS or (method == "none" and asked != "none"):
        raise bad_member("token_endpoint_auth_method")
    secret = text(document, "client_secret", _VSCHAR)
    if method == "none":
        return "none", None  # some providers make a secret for everybody; it will never be sent
    known = None if current is None else current.client_secret
    if secret is None and known is None:
        raise bad_member("client_secret")
    return cast(AuthMethod, method), known if secret is None else Secret(secret)


def _redirect_uris(document: Mapping[str, Any], request: ClientMetadata) -> tuple[str, ...]:
    uris = document.get("redirect_uris")
    if uris is None:
        return request.redirect_uris
    if not isinstance(uris, list) or not uris or not all(uri in request.redirect_uris for uri in uris):
        raise bad_member("redirect_uris")
    return tuple(dict.fromkeys(uris))


def _scope(document: Mapping[str, Any], request: ClientMetadata) -> tuple[str, ...]:
    granted = scopes(document)
    if granted is None:
        return request.scope
    if not all(SCOPE_NAME.fullmatch(name) for name in granted):
        raise bad_member("scope")
    if "openid" not in granted:
        raise ProtocolViolation("The client may not ask for openid, so nobody could sign in.", code="scope")
    return granted


def _code_flow(document: Mapping[str, Any]) -> tuple[str, ...]:
    """Give the grant types; without the code flow there is no way to sign in."""
    _strings(document, "response_types", RESPONSE_TYPES, needed="code")
    return _strings(document, "grant_types", GRANT_TYPES, needed="authorization_code")


def _strings(
    document: Mapping[str, Any], name: str, usual: tuple[str, ...], *, needed: str
) -> tuple[str, ...]:
    values = document.get(name)
    if values is None:
        return usual
    if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
        raise bad_member(name)
    if needed not in values:
        raise bad_member(name)
    return tuple(values)


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


def _expiry(
    document: Mapping[str, Any], secret: Secret | None, now: float, current: Management | None
) -> int | None:
    moment = _time(document, "client_secret_expires_at")
    if moment is None and current is not None and secret == current.client_secret:
        return current.client_secret_expires_at  # the same secret, about which nothing was said
    if not moment or secret is None:
        return None
    if moment <= now:
        raise ProtocolViolation("The client secret has expired already.", code="client_secret_expires_at")
    return moment


def _time(document: Mapping[str, Any], name: str) -> int | None:
    value = document.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < MAX_TIME:
        raise bad_member(name)
    return value
