"""
The authorization server proper: Authlib's, with Spatio's rules where the two differ.

Authlib brings the grants, their order of checks, PKCE verification and the error answers. Replaced are
the parts that the contract fixes otherwise (PKCE for everyone, one authentication method per client,
opaque tokens with a prefix) and a few places where hostile input would end in a 500.
"""

import base64
import binascii
import hashlib
import re
import time
import uuid
from typing import Any, Self
from urllib.parse import unquote_plus

from authlib.integrations.flask_oauth2 import AuthorizationServer
from authlib.oauth2.rfc6749 import (
    InvalidClientError,
    InvalidGrantError,
    InvalidRequestError,
    OAuth2Error,
    OAuth2Payload,
    OAuth2Request,
    UnsupportedResponseTypeError,
)
from authlib.oauth2.rfc6749.grants import AuthorizationCodeGrant, RefreshTokenGrant
from authlib.oauth2.rfc7636 import CodeChallenge
from authlib.oidc.core.grants import OpenIDToken
from flask import Response
from flask import request as flask_request
from werkzeug.datastructures import MultiDict

from spatio_django.testing.personas import Persona
from spatio_django.testing.provider import AUTH_METHODS, PROMPTS, Provider
from spatio_django.testing.store import (
    CODE_LIFETIME,
    AccessToken,
    Client,
    Code,
    Grant,
    RefreshToken,
    random_token,
)

#: A SHA-256 digest in base64url (RFC 7636 §4.2).
CHALLENGE = re.compile(r"[A-Za-z0-9_-]{43}")


class Payload(OAuth2Payload):  # type: ignore[misc]
    """The parameters of one request: the query of a GET or the form of a POST, never a mix of both."""

    def __init__(self, data: MultiDict[str, str]) -> None:
        self._data = data

    @property
    def data(self) -> MultiDict[str, str]:
        """First values."""
        return self._data

    @property
    def datalist(self) -> dict[str, list[str]]:
        """All values."""
        return dict(self._data.lists())


class Request(OAuth2Request):  # type: ignore[misc]
    """A request as Authlib wants it, from the wire or from a sealed consent request."""

    def __init__(
        self, method: str, data: MultiDict[str, str], *, issuer: str, authorization: str = ""
    ) -> None:
        # The issuer stands for the URL: Authlib refuses plain http elsewhere, and anybody may write a Host.
        super().__init__(method, issuer, headers={"Authorization": authorization})
        self.payload = Payload(data)

    @classmethod
    def from_wire(cls, issuer: str) -> Self:
        """The Flask request that is being answered."""
        data = flask_request.form if flask_request.method == "POST" else flask_request.args
        authorization = flask_request.headers.get("Authorization", "")
        return cls(flask_request.method, data, issuer=issuer, authorization=authorization)

    @property
    def form(self) -> MultiDict[str, str]:
        """The same parameters: only POST requests are asked for a form."""
        return self.payload.data


class ClientRejected(InvalidClientError):  # type: ignore[misc]
    """``invalid_client``: a 401 with a challenge if HTTP Basic was tried, else a 400 (RFC 6749 §5.2)."""

    def get_headers(self) -> list[tuple[str, str]]:
        """Authlib's challenge lacks the realm that RFC 7617 §2 requires."""
        headers = [(name, value) for name, value in super().get_headers() if name != "WWW-Authenticate"]
        if self.status_code == 401:
            headers.append(("WWW-Authenticate", 'Basic realm="spatio", charset="UTF-8"'))
        return headers


def basic_credentials(authorization: str) -> tuple[str, str] | None:
    """
    Client id and secret of an HTTP Basic header, or ``None`` if there is no such header.

    Both are form-encoded before base64 (RFC 6749 §2.3.1), where ``+`` is a space; Authlib only undoes the
    percent signs.
    """
    scheme, _, encoded = authorization.partition(" ")
    if scheme.lower() != "basic":
        return None
    try:
        text = base64.b64decode(encoded, validate=True).decode()
    except (binascii.Error, UnicodeDecodeError) as error:
        raise ClientRejected("Malformed Basic credentials.", status_code=401) from error
    client_id, _, client_secret = text.partition(":")
    return unquote_plus(client_id), unquote_plus(client_secret)


class S256Required(CodeChallenge):  # type: ignore[misc]
    """PKCE for every client, and S256 only; Authlib asks it of public ones and knows ``plain``."""

    SUPPORTED_CODE_CHALLENGE_METHOD = ["S256"]
    CODE_CHALLENGE_METHODS = {"S256": CodeChallenge.CODE_CHALLENGE_METHODS["S256"]}

    def validate_code_challenge(self, grant: Any, redirect_uri: Any) -> None:
        """Refuse an authorization request without an S256 challenge (RFC 7636 §4.4.1)."""
        data = grant.request.payload.data
        if data.get("code_challenge_method") != "S256":
            raise InvalidRequestError("code_challenge_method must be S256.")
        if not CHALLENGE.fullmatch(data.get("code_challenge", "")):
            raise InvalidRequestError("code_challenge must be a base64url SHA-256 digest.")


class CodeGrant(AuthorizationCodeGrant):  # type: ignore[misc]
    """Authorization codes: 60 seconds, once."""

    TOKEN_ENDPOINT_AUTH_METHODS = AUTH_METHODS
    server: "Server"

    @classmethod
    def check_authorization_endpoint(cls, request: Any) -> bool:  # noqa: ARG003 - Authlib's signature
        """Take every request: no other grant has an authorization endpoint."""
        return True

    @staticmethod
    def validate_no_multiple_request_parameter(request: Any) -> None:
        """Nothing yet: an error can be redirected once the redirect URI is known to be the client's."""

    def validate_authorization_request(self) -> str:
        """
        Check client and redirect URI, then everything else.

        Errors of the first kind stay on our page, the others go to the client (RFC 6749 §4.1.2.1).
        Authlib's own texts quote the request, and fail on characters that RFC 6749 forbids in an error.
        """
        payload = self.request.payload
        client = self.server.query_client(payload.client_id)
        if client is None or len(payload.datalist["client_id"]) > 1:
            raise InvalidClientError("No client is registered with this client_id.")
        redirect_uri = payload.redirect_uri
        if len(payload.datalist.get("redirect_uri", ())) != 1 or not client.check_redirect_uri(redirect_uri):
            raise InvalidRequestError("redirect_uri is not one of those that this client registered.")
        try:
            self._validate_parameters()
        except OAuth2Error as error:
            error.redirect_uri = redirect_uri
            raise
        super().validate_authorization_request()
        return str(redirect_uri)

    def _validate_parameters(self) -> None:
        data, lists = self.request.payload.data, self.request.payload.datalist
        if any(len(values) > 1 for values in lists.values()):
            raise InvalidRequestError("A parameter is repeated.")
        if not data.get("response_type"):
            raise InvalidRequestError("response_type is missing.")
        if data["response_type"] != "code":
            raise UnsupportedResponseTypeError("code", "response_type must be code.")
        prompts = data.get("prompt", "").split()
        if not set(prompts) <= set(PROMPTS) or ("none" in prompts and len(prompts) > 1):
            raise InvalidRequestError("prompt must be none, login or consent.")
        if not re.fullmatch(r"[0-9]{0,9}", data.get("max_age", ""), re.ASCII):
            raise InvalidRequestError("max_age must be a number of seconds.")

    def save_authorization_code(self, code: str, request: Any) -> None:
        """Keep the code with everything that the token request will be compared with."""
        data = request.payload.data
        with self.server.provider.store.change() as tables:
            tables.codes[code] = Code(
                code=code,
                client_id=request.client.client_id,
                redirect_uri=data["redirect_uri"],
                scope=request.scope,
                persona=request.user.persona,
                nonce=data.get("nonce") or None,  # an empty parameter is an absent one (RFC 6749 §3.1)
                code_challenge=data["code_challenge"],
                code_challenge_method=data["code_challenge_method"],
                auth_time=int(request.user.auth_time),
                expires_at=time.time() + CODE_LIFETIME,
            )

    def query_authorization_code(self, code: str, client: Client) -> Code | None:
        """The code if it may still be used; a second use ends what the first one gave (RFC 6749 §4.1.2)."""
        store = self.server.provider.store
        found = store.tables.codes.get(code)
        if found is None or found.client_id != client.client_id:
            return None
        if found.grant_id is not None:
            store.end_grant(found.grant_id)
            return None
        return found if found.expires_at > time.time() else None

    def delete_authorization_code(self, authorization_code: Code) -> None:
        """Keep it: ``grant_id`` marks it as used, and a second use has to be noticed."""

    def authenticate_user(self, authorization_code: Code) -> Persona | None:
        """Whose code it is."""
        return self.server.provider.persona(authorization_code.persona)


class RotatingRefreshGrant(RefreshTokenGrant):  # type: ignore[misc]
    """Refresh tokens that are good once (OAuth 2.1 §4.3.1)."""

    TOKEN_ENDPOINT_AUTH_METHODS = AUTH_METHODS
    INCLUDE_NEW_REFRESH_TOKEN = True
    server: "Server"

    def authenticate_refresh_token(self, refresh_token: str) -> Grant:
        """The grant behind the token; Authlib calls it the credential."""
        provider = self.server.provider
        client_id = self.request.client.client_id
        grant = provider.store.grant_of(refresh_token, client_id, leeway=provider.options.refresh_leeway)
        if grant is None or provider.persona(grant.persona) is None:
            raise InvalidGrantError("The refresh token is unknown, revoked, or was used before.")
        return grant

    def authenticate_user(self, refresh_token: Grant) -> Persona | None:
        """Whose grant it is."""
        return self.server.provider.persona(refresh_token.persona)

    def revoke_old_credential(self, refresh_token: Grant) -> None:
        """Spend the token that was sent, now that its successor exists."""
        self.server.provider.store.spend(self.request.form["refresh_token"])


class IDToken(OpenIDToken):  # type: ignore[misc]
    """Adds an ID token when ``openid`` was granted, at sign-in and at refresh."""

    def __init__(self, provider: Provider) -> None:
        self.provider = provider

    def encode_id_token(self, token: dict[str, Any], request: Any) -> str:
        """
        Sign what is known about this sign-in.

        Rewritten because Authlib's stamps a refreshed ID token with the time of the refresh as its
        ``auth_time``; it has to be the original one (OpenID Connect Core 1.0 §12.2).
        """
        code, grant = request.authorization_code, request.refresh_token
        claims = self.provider.id_token_claims(
            request.user,
            client_id=request.client.client_id,
            scope=token["scope"],
            auth_time=(code or grant).auth_time,
        )
        if code and code.nonce:
            claims["nonce"] = code.nonce
        digest = hashlib.sha256(token["access_token"].encode("ascii")).digest()
        claims["at_hash"] = base64.urlsafe_b64encode(digest[:16]).rstrip(b"=").decode()  # §3.1.3.6
        return self.provider.keys.sign(claims)


class Server(AuthorizationServer):  # type: ignore[misc]
    """Authlib's server, bound to a :class:`Provider`."""

    def __init__(self, provider: Provider) -> None:
        super().__init__()
        self.provider = provider
        self.register_token_generator("default", self.new_token)
        self.register_grant(CodeGrant, [S256Required(required=True), IDToken(provider)])
        self.register_grant(RotatingRefreshGrant, [IDToken(provider)])

    def query_client(self, client_id: str | None) -> Client | None:
        """The registration of this id."""
        return self.provider.store.tables.clients.get(client_id or "")

    def create_oauth2_request(self, request: Any) -> Request:
        """Pass on a request that was made already, or wrap the one on the wire."""
        return request if isinstance(request, Request) else Request.from_wire(self.provider.issuer)

    def authenticate_client(self, request: Any, methods: list[str], endpoint: str = "token") -> Client:
        """
        Authenticate by the one method that was registered, and by one only (RFC 6749 §2.3).

        Authlib tries one method after the other, and so also accepts two at once.
        """
        form = request.form
        basic = basic_credentials(request.headers["Authorization"])
        status = 400 if basic is None else 401
        if basic is not None and "client_secret" in form:
            raise InvalidRequestError("The client authenticated in two ways at once.")
        if basic is not None:
            method, (client_id, secret) = "client_secret_basic", basic
        else:
            client_id, secret = form.get("client_id", ""), form.get("client_secret", "")
            method = "client_secret_post" if "client_secret" in form else "none"
        client = self.query_client(client_id)
        if client is None or form.get("client_id", client_id) != client_id:
            raise ClientRejected("No client is registered with this client_id.", status_code=status)
        if not client.check_endpoint_auth_method(method, endpoint):
            raise ClientRejected("The client is registered with another method.", status_code=status)
        if method != "none" and not client.check_client_secret(secret):
            raise ClientRejected("The client secret is wrong.", status_code=status)
        request.auth_method = method
        return client

    def create_token_response(self, request: Any = None) -> Response:
        """
        The token endpoint: one exchange at a time, so that looking at a code and spending it are one move.

        Repeated parameters (RFC 6749 §3.2) and a missing grant type are refused here; Authlib takes the
        first value, and calls the other an unsupported grant type.
        """
        request = self.create_oauth2_request(request)
        try:
            if any(len(values) > 1 for values in request.payload.datalist.values()):
                raise InvalidRequestError("A parameter is repeated.")
            if not request.payload.grant_type:
                raise InvalidRequestError("grant_type is missing.")
        except OAuth2Error as error:
            refused: Response = self.handle_error_response(request, error)
            return refused
        with self.provider.store.change():
            response: Response = super().create_token_response(request)
        return response

    def new_token(
        self, *, client: Client, scope: str, include_refresh_token: bool, **_: Any
    ) -> dict[str, Any]:
        """The token response (RFC 6749 §5.1), in the format that the contract describes."""
        token = {
            "access_token": random_token("tok_"),
            "token_type": "Bearer",
            "expires_in": self.provider.options.access_token_lifetime,
            "scope": scope,
        }
        if include_refresh_token:
            token["refresh_token"] = random_token("rfr_")
        return token

    def save_token(self, token: dict[str, Any], request: Any) -> None:
        """Keep what was issued; the first token of a sign-in begins its grant."""
        with self.provider.store.change() as tables:
            grant: Grant | None = request.refresh_token
            if grant is None:
                code: Code = request.authorization_code
                grant = Grant(
                    grant_id=uuid.uuid4().hex,
                    client_id=code.client_id,
                    persona=code.persona,
                    scope=code.scope,
                    auth_time=code.auth_time,
                    granted_at=time.time(),
                )
                tables.grants[grant.grant_id] = grant
                code.grant_id = grant.grant_id
            tables.access_tokens[token["access_token"]] = AccessToken(
                token=token["access_token"],
                kind="oauth",
                persona=grant.persona,
                scope=token["scope"],
                expires_at=time.time() + token["expires_in"],
                client_id=grant.client_id,
                grant_id=grant.grant_id,
            )
            if "refresh_token" in token:
                row = RefreshToken(token=token["refresh_token"], grant_id=grant.grant_id)
                tables.refresh_tokens[row.token] = row
