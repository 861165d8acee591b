"""The provider as the rest of this package sees it: what it offers, to whom, and how it is set."""

import time
from collections.abc import Sequence
from typing import Any, Protocol

from spatio_django.testing.keys import KeyRing
from spatio_django.testing.personas import SCOPE_CLAIMS, Persona
from spatio_django.testing.store import ID_TOKEN_LIFETIME, Store

#: Scopes and what they mean, in the words of the consent page and of ``scope_labels``.
SCOPES = {
    "openid": "Know who you are: your Spatio account identifier",
    "profile": "See your profile: your names, username and picture",
    "email": "See your e-mail address, and whether it is verified",
    "read:*": "Read everything in your Spatio workspaces",
}
AUTH_METHODS = ["none", "client_secret_basic", "client_secret_post"]
GRANT_TYPES = ["authorization_code", "refresh_token"]
PROMPTS = ["none", "login", "consent"]


class Options(Protocol):
    """How this provider is set; read at each use, so that a test can change its mind."""

    host: str
    issuer: str
    personas: Sequence[Persona]
    access_token_lifetime: int
    registration_limit: int | None
    refresh_leeway: float
    send_iss: bool
    id_token_has_profile: bool


class Provider:
    """Options, store and keys together, and the documents that follow from them."""

    def __init__(self, options: Options, store: Store) -> None:
        self.options = options
        self.store = store
        self.keys = KeyRing(store)

    @property
    def issuer(self) -> str:
        """The issuer identifier; every endpoint begins with it."""
        return self.options.issuer

    def persona(self, key: str | None) -> Persona | None:
        """The persona of this key, if there is (still) one."""
        return next((persona for persona in self.options.personas if persona.key == key), None)

    def metadata(self) -> dict[str, Any]:
        """The discovery document (OpenID Connect Discovery 1.0 §3, RFC 8414 §2)."""
        issuer = self.issuer
        document: dict[str, Any] = {
            "issuer": issuer,
            "authorization_endpoint": f"{issuer}/oauth2/authorize",
            "token_endpoint": f"{issuer}/oauth2/token",
            "registration_endpoint": f"{issuer}/oauth2/register",
            "introspection_endpoint": f"{issuer}/oauth2/introspect",
            "revocation_endpoint": f"{issuer}/oauth2/revoke",
            "userinfo_endpoint": f"{issuer}/oauth2/userinfo",
            "jwks_uri": f"{issuer}/.well-known/jwks.json",
            "response_types_supported": ["code"],
            "grant_types_supported": GRANT_TYPES,
            "token_endpoint_auth_methods_supported": AUTH_METHODS,
            "code_challenge_methods_supported": ["S256"],
            "scopes_supported": list(SCOPES),
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": ["RS256"],
            "prompt_values_supported": PROMPTS,
            "claims_supported": [
                *("iss", "sub", "aud", "exp", "iat", "auth_time", "nonce", "at_hash"),
                *(claim for claims in SCOPE_CLAIMS.values() for claim in claims),
            ],
            "service_documentation": "https://www.spatio.app/developers/docs/api",
        }
        if self.options.send_iss:  # RFC 9207 §3; Spatio doesn't advertise it
            document["authorization_response_iss_parameter_supported"] = True
        return document

    def id_token_claims(
        self, persona: Persona, *, client_id: str, scope: str, auth_time: int
    ) -> dict[str, Any]:
        """What every ID token says (OpenID Connect Core 1.0 §2)."""
        now = int(time.time())
        claims = persona.claims(scope, issuer=self.issuer) if self.options.id_token_has_profile else {}
        return claims | {
            "iss": self.issuer,
            "sub": persona.sub,
            "aud": client_id,
            "exp": now + ID_TOKEN_LIFETIME,
            "iat": now,
            "auth_time": auth_time,
        }
