"""What stands in for a provider: a signer that shares no code with the verifier, and canned answers."""

import base64
import json
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from spatio_django.exceptions import SpatioError
from spatio_django.oidc.answer import Answer
from spatio_django.oidc.cache import Documents
from spatio_django.oidc.http import Http
from spatio_django.oidc.secret import Secret

Result = TypeVar("Result")

ISSUER = "https://provider.example"
CLIENT_ID = "client"
NOW = 1_800_000_000.0

METADATA = {
    "issuer": ISSUER,
    "authorization_endpoint": ISSUER + "/oauth2/authorize",
    "token_endpoint": ISSUER + "/oauth2/token",
    "jwks_uri": ISSUER + "/keys",
    "userinfo_endpoint": ISSUER + "/oauth2/userinfo",
    "registration_endpoint": ISSUER + "/oauth2/register",
    "introspection_endpoint": ISSUER + "/oauth2/introspect",
    "revocation_endpoint": ISSUER + "/oauth2/revoke",
    "scopes_supported": ["openid", "profile", "email"],
    "token_endpoint_auth_methods_supported": ["client_secret_basic"],
    "code_challenge_methods_supported": ["S256"],
    "id_token_signing_alg_values_supported": ["RS256"],
    "prompt_values_supported": ["none", "login", "consent"],
}

CLAIMS = {
    "iss": ISSUER,
    "sub": "person",
    "aud": CLIENT_ID,
    "iat": int(NOW) - 10,
    "exp": int(NOW) + 3600,
    "nonce": "a nonce",
}


def b64(data: bytes) -> str:
    """Base64url without padding."""
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def number(value: int) -> str:
    """Base64urlUInt, RFC 7518 §2."""
    return b64(value.to_bytes((value.bit_length() + 7) // 8 or 1, "big"))


class Signer:
    """A provider's signing key."""

    def __init__(self, *, kid: str, bits: int = 2048) -> None:
        self.kid = kid
        self.key = rsa.generate_private_key(public_exponent=65537, key_size=bits)

    def jwk(self, **changes: Any) -> dict[str, Any]:
        """The public key as a JWKS lists it; ``None`` removes a member."""
        numbers = self.key.public_key().public_numbers()
        members: dict[str, Any] = {
            "kty": "RSA",
            "use": "sig",
            "alg": "RS256",
            "kid": self.kid,
            "n": number(numbers.n),
            "e": number(numbers.e),
        }
        return {name: value for name, value in (members | changes).items() if value is not None}

    def sign(self, claims: Mapping[str, Any] | bytes, header: Mapping[str, Any] | bytes | None = None) -> str:
        """A compact JWS; *header* members are added to the usual ones, bytes are taken as they are."""
        if not isinstance(header, bytes):
            usual: dict[str, Any] = {"alg": "RS256", "kid": self.kid, "typ": "JWT"}
            members = usual | dict(header or {})
            header = json.dumps(
                {name: value for name, value in members.items() if value is not None}
            ).encode()
        payload = claims if isinstance(claims, bytes) else json.dumps(claims).encode()
        signed = f"{b64(header)}.{b64(payload)}"
        signature = self.key.sign(signed.encode(), padding.PKCS1v15(), hashes.SHA256())
        return f"{signed}.{b64(signature)}"


def outcome(work: Callable[[], Result]) -> Result | SpatioError:
    """Return what *work* gives, or the error it is allowed to raise."""
    try:
        return work()
    except SpatioError as error:
        return error


def json_answer(document: object, *, status: int = 200, **headers: str) -> Answer:
    """An answer as an honest provider gives it."""
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    return Answer(
        status=status,
        headers={"content-type": "application/json"} | names,
        body=json.dumps(document).encode(),
    )


class Clock:
    """Time that passes when told to."""

    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> float:
        """Tell."""
        return self.now


class MemoryCache(dict[str, Any]):
    """A cache that all "hosts" of a test share; timeouts are for the reader of the entry to judge."""

    def get(self, key: str, default: Any = None) -> Any:
        """Look up."""
        return super().get(key, default)

    def set(self, key: str, value: Any, timeout: float | None = None) -> None:
        """Keep."""
        self[key] = value

    def add(self, key: str, value: Any, timeout: float | None = None) -> bool:
        """Keep unless there is one."""
        if key in self:
            return False
        self[key] = value
        return True


def seal(data: bytes) -> str:
    """Stand in for a signature."""
    return "sealed:" + data.decode()


def unseal(text: str) -> bytes | None:
    """Invert :func:`seal`."""
    prefix, _, data = text.partition(":")
    return data.encode() if prefix == "sealed" else None


def documents(cache: MemoryCache, clock: Clock, **options: Any) -> Documents:
    """One host's documents; background work is done at once."""
    options = {"background": lambda work: work()} | options
    return Documents(cache=cache, seal=seal, unseal=unseal, clock=clock, **options)


class FakeHttp(Http):
    """Answers by URL instead of asking, and remembers what was asked."""

    def __init__(self, answers: Mapping[str, Answer | SpatioError]) -> None:
        super().__init__()
        self.answers = dict(answers)
        self.calls: list[tuple[str, str, dict[str, Any]]] = []

    def get(self, url: str, **options: Any) -> Answer:
        """Answer a GET."""
        return self._answer("GET", url, options)

    def post_form(self, url: str, fields: Mapping[str, str | Secret], **options: Any) -> Answer:
        """Answer a form."""
        return self._answer("POST", url, options | {"fields": dict(fields)})

    def post_json(self, url: str, document: Mapping[str, Any], **options: Any) -> Answer:
        """Answer a document."""
        return self._answer("POST", url, options | {"document": document})

    def put_json(self, url: str, document: Mapping[str, Any], **options: Any) -> Answer:
        """Answer a document that replaces another."""
        return self._answer("PUT", url, options | {"document": document})

    def _answer(self, method: str, url: str, options: dict[str, Any]) -> Answer:
        self.calls.append((method, url, options))
        answer = self.answers[url]
        if isinstance(answer, SpatioError):
            raise answer
        return answer
