"""ProviderMetadata: what a provider says about itself, judged; and where to ask for it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import urlsplit

from spatio_django.exceptions import ProtocolViolation
from spatio_django.oidc.urls import is_loopback, require_safe_url

if TYPE_CHECKING:
    from spatio_django.oidc.http import Http

#: Bytes. Real documents have 2 to 8 KiB.
METADATA_LIMIT = 128 * 1024

_OPTIONAL_ENDPOINTS = (
    "userinfo_endpoint",
    "registration_endpoint",
    "introspection_endpoint",
    "revocation_endpoint",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ProviderMetadata:
    """
    The members of a discovery document that this package uses, validated.

    An array that the document does not have is empty: nothing is known, which is not "nothing is supported".
    """

    issuer: str
    authorization_endpoint: str
    token_endpoint: str
    jwks_uri: str
    userinfo_endpoint: str | None = None
    registration_endpoint: str | None = None
    introspection_endpoint: str | None = None
    revocation_endpoint: str | None = None
    scopes_supported: tuple[str, ...] = ()
    token_endpoint_auth_methods_supported: tuple[str, ...] = ()
    code_challenge_methods_supported: tuple[str, ...] = ()
    id_token_signing_alg_values_supported: tuple[str, ...] = ()
    prompt_values_supported: tuple[str, ...] = ()
    authorization_response_iss_parameter_supported: bool = False

    @classmethod
    def from_document(cls, document: Mapping[str, Any], *, issuer: str) -> Self:
        """
        Validate *document*, the JSON object found under *issuer*.

        Unknown members are ignored, and ``null`` counts as absent. ``issuer`` is compared without
        normalising: a trailing slash is a different issuer. Endpoints may be on any host, since the
        document came from the issuer over TLS; but on this machine, over plain http, only if the issuer is.

        Raises:
            ProtocolViolation: ``issuer_mismatch``, ``missing_member``, ``bad_member``, ``insecure_url``,
                ``pkce_unsupported`` or ``alg_unsupported``.

        OpenID Connect Discovery 1.0 §3, §4.3; RFC 8414 §2, §3.3; RFC 9207 §3.
        """
        _require_issuer(document, issuer)
        metadata = cls(
            issuer=issuer,
            authorization_endpoint=_endpoint(document, "authorization_endpoint", issuer),
            token_endpoint=_endpoint(document, "token_endpoint", issuer),
            jwks_uri=_endpoint(document, "jwks_uri", issuer),
            **{name: optional_endpoint(document, name, issuer) for name in _OPTIONAL_ENDPOINTS},
            scopes_supported=_strings(document, "scopes_supported"),
            token_endpoint_auth_methods_supported=_strings(document, "token_endpoint_auth_methods_supported"),
            code_challenge_methods_supported=_strings(document, "code_challenge_methods_supported"),
            id_token_signing_alg_values_supported=_strings(document, "id_token_signing_alg_values_supported"),
            prompt_values_supported=_strings(document, "prompt_values_supported"),
            authorization_response_iss_parameter_supported=_boolean(
                document, "authorization_response_iss_parameter_supported"
            ),
        )
        _require(document, "code_challenge_methods_supported", "S256", code="pkce_unsupported")
        _require(document, "id_token_signing_alg_values_supported", "RS256", code="alg_unsupported")
        return metadata


def well_known_urls(issuer: str) -> tuple[str, str]:
    """
    Return where *issuer*'s metadata may be: OpenID Connect's place, and OAuth's.

    The first appends its path to the issuer's, the second puts it between host and path.

    OpenID Connect Discovery 1.0 §4.1, RFC 8414 §3.1.
    """
    parts = urlsplit(issuer)
    path = parts.path.rstrip("/")
    origin = f"{parts.scheme}://{parts.netloc}"
    return (
        f"{origin}{path}/.well-known/openid-configuration",
        f"{origin}/.well-known/oauth-authorization-server{path}",
    )


def fetch_metadata(issuer: str, *, http: "Http") -> dict[str, Any]:
    """
    Return *issuer*'s discovery document, from the second place if the first has none.

    The document is not judged yet: that is :meth:`ProviderMetadata.from_document`.

    Raises:
        ProviderUnavailable, ProtocolViolation: As :class:`~spatio_django.oidc.http.Http`, or ``bad_status``.
    """
    first, second = well_known_urls(issuer)
    answer = http.get(first, limit=METADATA_LIMIT)
    answer.require_available()
    if 400 <= answer.status < 500:
        answer = http.get(second, limit=METADATA_LIMIT)
        answer.require_available()
    if answer.status != 200:
        raise answer.unexpected()
    return answer.json_object()


def fetch_oauth_metadata(issuer: str, *, http: "Http") -> dict[str, Any]:
    """
    Return *issuer*'s OAuth metadata, for endpoints that its OpenID metadata lack; empty if it has none.

    Those of registration and revocation are optional there, or unheard of, and django-oauth-toolkit, for one,
    names them here only. Looked for where RFC 8414 puts them, and where providers have them that are mounted
    below a path.

    Raises:
        ProviderUnavailable, ProtocolViolation: As :class:`~spatio_django.oidc.http.Http`;
            ``issuer_mismatch``.

    RFC 8414 §2, §3.1, §5.
    """
    appended = issuer.rstrip("/") + "/.well-known/oauth-authorization-server"
    for url in dict.fromkeys((well_known_urls(issuer)[1], appended)):
        answer = http.get(url, limit=METADATA_LIMIT)
        answer.require_available()
        if answer.status == 200:
            document = answer.json_object()
            _require_issuer(document, issuer)
            return document
    return {}


def require_endpoint(url: object, *, member: str, issuer: str) -> str:
    """
    Return *url* unchanged if *issuer* may name it as a place to send secrets to.

    Plain http is for an issuer on this machine only: a remote one that names a loopback address would have
    us hand the client secret to whatever listens there.

    Raises:
        ProtocolViolation: ``insecure_url``.
    """
    safe = require_safe_url(url, member=member)
    if urlsplit(safe).scheme != "https" and not is_loopback(issuer):
        raise ProtocolViolation(f"{member} is not an https URL.", code="insecure_url", member=member)
    return safe


def _require_issuer(document: Mapping[str, Any], issuer: str) -> None:
    if document.get("issuer") != issuer:
        raise ProtocolViolation("The document is another issuer's.", code="issuer_mismatch", expected=issuer)


def _endpoint(document: Mapping[str, Any], name: str, issuer: str) -> str:
    url = optional_endpoint(document, name, issuer)
    if url is None:
        raise ProtocolViolation(f"The metadata has no {name}.", code="missing_member", member=name)
    return url


def optional_endpoint(document: Mapping[str, Any], name: str, issuer: str) -> str | None:
    """
    Return the endpoint that *document* names, if it does.

    Raises:
        ProtocolViolation: ``insecure_url``.
    """
    url = document.get(name)
    return None if url is None else require_endpoint(url, member=name, issuer=issuer)


def _strings(document: Mapping[str, Any], name: str) -> tuple[str, ...]:
    values = document.get(name)
    if values is None:
        return ()
    if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
        raise _bad(name)
    return tuple(values)


def _boolean(document: Mapping[str, Any], name: str) -> bool:
    value = document.get(name)
    if value is not None and not isinstance(value, bool):
        raise _bad(name)
    return bool(value)


def _require(document: Mapping[str, Any], name: str, value: str, *, code: str) -> None:
    values = document.get(name)
    if values is not None and value not in values:
        raise ProtocolViolation(f"{name} lacks {value}.", code=code, member=name)


def _bad(name: str) -> ProtocolViolation:
    return ProtocolViolation(f"{name} has the wrong type.", code="bad_member", member=name)
