"""Dynamic client registration (RFC 7591) and its management (RFC 7592)."""

import copy
import re
import secrets
import time
import uuid
from typing import Any
from urllib.parse import urlsplit

from authlib.oauth2.rfc6749 import JsonPayload, JsonRequest
from authlib.oauth2.rfc6750 import InvalidTokenError
from authlib.oauth2.rfc7591 import (
    ClientRegistrationEndpoint,
    InvalidClientMetadataError,
    InvalidRedirectURIError,
)
from authlib.oauth2.rfc7592 import ClientConfigurationEndpoint
from flask import request as flask_request

from spatio_django.testing.provider import AUTH_METHODS, GRANT_TYPES, SCOPES, Provider
from spatio_django.testing.store import Client, random_token

MAX_REDIRECT_URIS = 10
#: Spatio's defaults, not RFC 7591's: a client that says nothing is public and may not sign anybody in.
DEFAULTS: dict[str, Any] = {
    "grant_types": GRANT_TYPES,
    "response_types": ["code"],
    "scope": "read:*",
    "token_endpoint_auth_method": "none",
}
URI_MEMBERS = ("client_uri", "logo_uri", "policy_uri", "tos_uri")
URI_CHARACTERS = re.compile(r"[A-Za-z0-9\-._~:/?#\[\]@!$&'()*+,;=%]+")


def is_uri(value: object, *, web: bool) -> bool:
    """
    Whether *value* is an absolute URI: http(s) with a host or, unless *web*, an app's own scheme.

    An app's scheme has a dot, as a reversed domain name has (RFC 8252 §7.1); ``javascript:`` has none.
    """
    if not isinstance(value, str) or not URI_CHARACTERS.fullmatch(value):
        return False
    try:
        parts = urlsplit(value)
        has_host = bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:
        return False
    if parts.scheme in ("http", "https"):
        return has_host and "@" not in parts.netloc
    return not web and "." in parts.scheme


def clean_metadata(document: dict[str, Any]) -> dict[str, Any]:
    """
    Validate a registration request, and fill in the defaults.

    Unknown members are ignored, ``null`` is an absent member (RFC 7591 §2, §3.2.1). Any http redirect URI
    is taken: development hosts are called ``testserver`` as often as ``localhost``.
    """
    known = {"client_name", "redirect_uris", *DEFAULTS, *URI_MEMBERS}
    metadata = copy.deepcopy(DEFAULTS)
    metadata |= {name: document[name] for name in known if document.get(name) is not None}

    def string_list(name: str) -> bool:
        value = metadata.get(name)
        return isinstance(value, list) and all(isinstance(item, str) for item in value)

    name = metadata.get("client_name")
    if not isinstance(name, str) or not name.strip():
        raise InvalidClientMetadataError("client_name is required.")
    if not string_list("redirect_uris") or not 1 <= len(metadata["redirect_uris"]) <= MAX_REDIRECT_URIS:
        raise InvalidRedirectURIError("redirect_uris must be a list of 1 to 10 URIs.")
    if not all(is_uri(uri, web=False) and "#" not in uri for uri in metadata["redirect_uris"]):
        raise InvalidRedirectURIError("Every redirect URI must be absolute and without a fragment.")
    if metadata["response_types"] != ["code"]:
        raise InvalidClientMetadataError("response_types must be code alone.")
    if (
        not string_list("grant_types")
        or "authorization_code" not in metadata["grant_types"]
        or not set(metadata["grant_types"]) <= set(GRANT_TYPES)
    ):
        raise InvalidClientMetadataError(
            "grant_types must be authorization_code and, if wanted, refresh_token."
        )
    if metadata["token_endpoint_auth_method"] not in AUTH_METHODS:
        raise InvalidClientMetadataError("token_endpoint_auth_method is not supported.")
    scope = metadata["scope"]
    if not isinstance(scope, str) or not scope.split() or not set(scope.split()) <= set(SCOPES):
        raise InvalidClientMetadataError("scope holds a name that is not in scopes_supported.")
    for member in URI_MEMBERS:
        if member in metadata and not is_uri(metadata[member], web=True):
            raise InvalidClientMetadataError(f"{member} must be an http or https URL.")
    return metadata


def new_secret(metadata: dict[str, Any]) -> str | None:
    """A secret for a client that has to show one."""
    is_public = metadata["token_endpoint_auth_method"] == "none"  # noqa: S105 - a method
    return None if is_public else secrets.token_urlsafe(32)


def create_client(provider: Provider, metadata: dict[str, Any]) -> Client:
    """Register a client with metadata that was cleaned."""
    client = Client(
        client_id=str(uuid.uuid4()),
        client_secret=new_secret(metadata),
        client_id_issued_at=int(time.time()),
        registration_access_token=random_token("reg_"),
        metadata=metadata,
    )
    with provider.store.change() as tables:
        tables.clients[client.client_id] = client
    return client


def describe(provider: Provider, client: Client) -> dict[str, Any]:
    """
    The client information response (RFC 7591 §3.2.1).

    Without ``client_secret_expires_at``: that RFC requires it, Spatio's document doesn't have it.
    """
    document = copy.deepcopy(client.metadata) | {
        "client_id": client.client_id,
        "client_id_issued_at": client.client_id_issued_at,
        "registration_access_token": client.registration_access_token,
        "registration_client_uri": f"{provider.issuer}/oauth2/register/{client.client_id}",
    }
    if client.client_secret is not None:
        document["client_secret"] = client.client_secret
    return document


class RegistrationPayload(JsonPayload):  # type: ignore[misc]
    """The JSON object of a request; anything else counts as an empty one, which is refused."""

    @property
    def data(self) -> dict[str, Any]:
        """The members."""
        document = flask_request.get_json(silent=True)
        return document if isinstance(document, dict) else {}


class RegistrationEndpoint(ClientRegistrationEndpoint):  # type: ignore[misc]
    """``POST /oauth2/register``, open to everyone."""

    def __init__(self, provider: Provider) -> None:
        super().__init__()
        self.provider = provider

    def create_endpoint_request(self, request: Any) -> JsonRequest:
        """Take the body as it is; the metadata is validated below and not by Authlib's claims class."""
        return make_json_request(self.provider)

    def authenticate_token(self, request: Any) -> bool:
        """No initial access token is asked for."""
        return True

    def extract_client_metadata(self, request: Any) -> dict[str, Any]:
        """Authlib's own assumes that every member has the right type."""
        return clean_metadata(request.payload.data)

    def generate_client_info(self, request: Any) -> dict[str, Any]:
        """Nothing yet: whether there is a secret depends on the metadata."""
        return {}

    def save_client(self, client_info: Any, client_metadata: dict[str, Any], request: Any) -> Client:
        """Register."""
        return create_client(self.provider, client_metadata)

    def generate_client_registration_info(self, client: Client, request: Any) -> dict[str, Any]:
        """The whole answer."""
        return describe(self.provider, client)


class ConfigurationEndpoint(ClientConfigurationEndpoint):  # type: ignore[misc]
    """
    ``registration_client_uri``: GET, PUT and DELETE.

    Spatio hands out the URI and a token for it without documenting what they do; RFC 7592 is the guess.
    """

    def __init__(self, provider: Provider) -> None:
        super().__init__()
        self.provider = provider

    def create_endpoint_request(self, request: Any) -> JsonRequest:
        """As for registration."""
        return make_json_request(self.provider)

    def authenticate_token(self, request: Any) -> Client:
        """The client of the URI, if this is its token; all failures look alike (RFC 7592 §2.1)."""
        client = self.authenticate_client(request)
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        expected = client.registration_access_token if client else ""
        if client is None or scheme.lower() != "bearer" or not secrets.compare_digest(expected, token):
            raise InvalidTokenError("This is not the registration access token of this client.")
        return client

    def authenticate_client(self, request: Any) -> Client | None:
        """The client that the URI names."""
        client_id = (flask_request.view_args or {})["client_id"]
        return self.provider.store.tables.clients.get(client_id)

    def check_permission(self, client: Client, request: Any) -> bool:
        """Every client may manage itself."""
        return True

    def introspect_client(self, client: Client) -> dict[str, Any]:
        """The current registration."""
        return describe(self.provider, client)

    def generate_client_registration_info(self, client: Client, request: Any) -> dict[str, Any]:
        """Nothing to add."""
        return {}

    def extract_client_metadata(self, request: Any) -> dict[str, Any]:
        """The new metadata; what is left out goes back to its default (RFC 7592 §2.2)."""
        return clean_metadata(request.payload.data)

    def update_client(self, client: Client, client_metadata: dict[str, Any], request: Any) -> Client:
        """Replace the metadata; the secret stays unless the method changed between none and one."""
        with self.provider.store.change():
            client.metadata = client_metadata
            fresh = new_secret(client_metadata)
            client.client_secret = (client.client_secret or fresh) if fresh else None
        return client

    def delete_client(self, client: Client, request: Any) -> None:
        """Forget the client with its grants."""
        self.provider.store.forget_client(client.client_id)


def make_json_request(provider: Provider) -> JsonRequest:
    """A JSON request for Authlib, under the issuer's URL (see ``grants.Request``)."""
    request = JsonRequest(flask_request.method, provider.issuer, flask_request.headers)
    request.payload = RegistrationPayload()
    return request
