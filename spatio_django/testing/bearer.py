"""Tokens after they were issued: presented (RFC 6750), introspected (RFC 7662), revoked (RFC 7009)."""

from typing import Any

from authlib.oauth2.rfc6749 import InvalidRequestError, OAuth2Error
from authlib.oauth2.rfc6750 import BearerTokenValidator, InvalidTokenError
from authlib.oauth2.rfc7009 import RevocationEndpoint
from authlib.oauth2.rfc7662 import IntrospectionEndpoint
from flask import Response
from flask import request as flask_request

from spatio_django.testing.personas import Persona
from spatio_django.testing.provider import Provider
from spatio_django.testing.store import AccessToken

REALM = "spatio"


class MissingToken(OAuth2Error):  # type: ignore[misc]
    """No token was sent: a challenge without an error code (RFC 6750 §3.1)."""

    error = "invalid_token"
    description = "A bearer token is needed."
    status_code = 401

    def get_headers(self) -> list[tuple[str, str]]:
        """The bare challenge."""
        return [*super().get_headers(), ("WWW-Authenticate", f'Bearer realm="{REALM}"')]


class Validator(BearerTokenValidator):  # type: ignore[misc]
    """Finds access tokens, and whose they are."""

    def __init__(self, provider: Provider) -> None:
        super().__init__(realm=REALM)
        self.provider = provider

    def authenticate_token(self, token_string: str) -> AccessToken | None:
        """The token's row; a token of a persona that no longer exists is none."""
        token = self.provider.store.tables.access_tokens.get(token_string)
        return token if token and self.provider.persona(token.persona) else None

    def authenticate(self, *, body: bool = False) -> tuple[AccessToken, Persona]:
        """
        The token of the current request, from the header or, if *body*, from the form (RFC 6750 §2.2).

        A token in the query is not looked for: it would be in every log.
        """
        scheme, _, header = flask_request.headers.get("Authorization", "").partition(" ")
        tokens = [header.strip()] if scheme.lower() == "bearer" else []
        if body:
            tokens += flask_request.form.getlist("access_token")
        if not tokens:
            raise MissingToken
        if len(tokens) > 1:
            raise InvalidTokenError("The token was sent more than once.", realm=self.realm)
        token = self.authenticate_token(tokens[0])
        self.validate_token(token, None, flask_request)
        persona = self.provider.persona(token.persona if token else None)
        assert token is not None and persona is not None  # noqa: S101, PT018 - validate_token raised otherwise
        return token, persona


def challenge(error: Any) -> Response:
    """The answer to a missing or invalid token: a status and WWW-Authenticate, no body (contract, §8)."""
    headers = [header for header in error.get_headers() if header[0] == "WWW-Authenticate"]
    return Response(status=error.status_code, headers=headers)


class AnyToken:
    """
    What introspection and revocation share here: the contract documents no client authentication.

    RFC 7009 and 7662 ask for it, so a careful client sends its credentials; they are not looked at.
    """

    def authenticate_endpoint_client(self, request: Any) -> None:
        """Nobody: any holder of a token may ask."""

    def authenticate_token(self, request: Any, client: None) -> str:
        """The token as it was sent; Authlib also knows hints, which the contract doesn't."""
        token = request.form.get("token")
        if not token:
            raise InvalidRequestError("token is missing.")
        return str(token)


class Introspection(AnyToken, IntrospectionEndpoint):  # type: ignore[misc]
    """``POST /oauth2/introspect``."""

    def __init__(self, provider: Provider, validator: Validator) -> None:
        super().__init__()
        self.provider = provider
        self.validator = validator

    def create_introspection_payload(self, token: str) -> dict[str, Any]:
        """Describe an access token or a personal one; for all else the answer is ``active: false`` alone."""
        row = self.validator.authenticate_token(token)
        persona = self.provider.persona(row.persona) if row else None
        if row is None or persona is None or row.is_expired():
            return {"active": False}
        answer = {
            "active": True,
            "token_type": row.kind,
            "client_id": row.client_id,
            "user_id": persona.user_id,
            "workspace_id": row.workspace_id,
            "scope": row.scope,
            "exp": None if row.expires_at is None else int(row.expires_at),
        }
        return {name: value for name, value in answer.items() if value is not None}


class Revocation(AnyToken, RevocationEndpoint):  # type: ignore[misc]
    """``POST /oauth2/revoke``."""

    def __init__(self, provider: Provider) -> None:
        super().__init__()
        self.provider = provider

    def create_endpoint_response(self, request: Any) -> tuple[int, str, list[tuple[str, str]]]:
        """Revoke and answer 200 without a body, whether there was such a token or not (RFC 7009 §2.2)."""
        self.provider.store.revoke(self.authenticate_token(request, None))
        return 200, "", [("Cache-Control", "no-store")]
