"""
A provider that is as fast as Python lets it be, in a process of its own.

It keeps nothing: a code holds all that the token endpoint has to know, and an access token whom it is about.
So nothing has to be set up for a sign-in, and no sign-in is slower than the one before. What makes a provider
safe is missing: it is for measuring relying parties, and for nothing else.

Each connection has a thread, and stays open as long as the client likes.
"""

import base64
import hashlib
import json
import secrets
import socket
import ssl
import threading
import time
from collections import Counter
from typing import Any
from urllib.parse import parse_qs

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from benchmarks import people, workers

KINDS = {
    "/.well-known/openid-configuration": "discovery",
    "/oauth2/jwks": "jwks",
    "/oauth2/token": "token",
    "/oauth2/userinfo": "userinfo",
}


def encode(data: bytes) -> str:
    """Give *data* in base64url, without padding."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def decode(text: str) -> bytes:
    """Undo :func:`encode`."""
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


class Provider:
    """What is answered, and a count of what was asked."""

    def __init__(self) -> None:
        self.issuer = ""
        self.calls: Counter[str] = Counter()
        self._key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        # Providers show the key before as well, or the one to come.
        others = [rsa.generate_private_key(public_exponent=65537, key_size=2048)]
        self._jwks = {"keys": [jwk(f"key-{n}", key) for n, key in enumerate((self._key, *others))]}
        self._header = encode(json.dumps({"alg": "RS256", "kid": "key-0", "typ": "JWT"}).encode())

    def answer(self, target: str, headers: dict[bytes, bytes], body: bytes) -> tuple[int, dict[str, Any]]:
        """Give status and document for a request."""
        kind = KINDS.get(target.partition("?")[0], "other")
        self.calls[kind] += 1
        if kind == "discovery":
            return 200, self._metadata()
        if kind == "jwks":
            return 200, self._jwks
        if kind == "token":
            return self._token({name: values[0] for name, values in parse_qs(body.decode()).items()})
        if kind == "userinfo":
            scheme, _, token = headers.get(b"authorization", b"").decode().partition(" ")
            if scheme != "Bearer" or not token.startswith("tok_"):
                return 401, {"error": "invalid_token"}
            return 200, people.profile(int(token.removeprefix("tok_").partition("_")[0]))
        return 404, {"error": "not_found"}

    def _metadata(self) -> dict[str, Any]:
        return {
            "issuer": self.issuer,
            "authorization_endpoint": f"{self.issuer}/oauth2/authorize",
            "token_endpoint": f"{self.issuer}/oauth2/token",
            "userinfo_endpoint": f"{self.issuer}/oauth2/userinfo",
            "jwks_uri": f"{self.issuer}/oauth2/jwks",
            "registration_endpoint": f"{self.issuer}/oauth2/register",
            "introspection_endpoint": f"{self.issuer}/oauth2/introspect",
            "revocation_endpoint": f"{self.issuer}/oauth2/revoke",
            "scopes_supported": list(people.SCOPES),
            "response_types_supported": ["code"],
            "grant_types_supported": ["authorization_code", "refresh_token"],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": ["RS256"],
            "token_endpoint_auth_methods_supported": ["client_secret_basic", "client_secret_post", "none"],
            "code_challenge_methods_supported": ["S256"],
            "claims_supported": ["iss", "aud", "exp", "iat", *people.profile(0)],
        }

    def _token(self, form: dict[str, str]) -> tuple[int, dict[str, Any]]:
        code = json.loads(decode(form["code"]))
        challenge = code["code_challenge"]
        verifier = form.get("code_verifier", "").encode()
        if challenge is not None and encode(hashlib.sha256(verifier).digest()) != challenge:
            return 400, {"error": "invalid_grant", "error_description": "The code verifier is wrong."}
        if form["redirect_uri"] != code["redirect_uri"]:
            return 400, {"error": "invalid_grant", "error_description": "The redirect URI is wrong."}
        access_token = f"tok_{code['person']}_{secrets.token_urlsafe(32)}"
        return 200, {
            "access_token": access_token,
            "token_type": "Bearer",
            "expires_in": 3600,
            "refresh_token": f"ref_{secrets.token_urlsafe(32)}",
            "scope": " ".join(people.SCOPES),
            "id_token": self._id_token(code, access_token),
        }

    def _id_token(self, code: dict[str, Any], access_token: str) -> str:
        now = int(time.time())
        claims = {
            "iss": self.issuer,
            "sub": people.subject(code["person"]),
            "aud": people.CLIENT_ID,
            "iat": now,
            "exp": now + 3600,
            "auth_time": now - 60,
            "at_hash": encode(hashlib.sha256(access_token.encode()).digest()[:16]),
        }
        if code["nonce"] is not None:
            claims["nonce"] = code["nonce"]
        if code["tells_all"]:
            claims |= people.profile(code["person"])
        signed = f"{self._header}.{encode(json.dumps(claims).encode())}"
        signature = self._key.sign(signed.encode(), padding.PKCS1v15(), hashes.SHA256())
        return f"{signed}.{encode(signature)}"


def jwk(kid: str, key: rsa.RSAPrivateKey) -> dict[str, str]:
    """Give the public half of *key* as RFC 7517 writes it."""
    numbers = key.public_key().public_numbers()
    n, e = (encode(value.to_bytes((value.bit_length() + 7) // 8)) for value in (numbers.n, numbers.e))
    return {"kty": "RSA", "use": "sig", "alg": "RS256", "kid": kid, "n": n, "e": e}


def code_for(*, person: int, params: dict[str, str], tells_all: bool) -> str:
    """
    Give the code that the provider would answer an authorization request with.

    Args:
        person: Who signs in.
        params: The request's parameters.
        tells_all: Whether the ID token holds the person's profile, so that userinfo says nothing new.
    """
    content = {
        "person": person,
        "nonce": params.get("nonce"),
        "code_challenge": params.get("code_challenge"),
        "redirect_uri": params["redirect_uri"],
        "tells_all": tells_all,
    }
    return encode(json.dumps(content).encode())


class Server:
    """HTTP/1.1 with keep-alive, no more of it than relying parties use."""

    def __init__(self, provider: Provider, context: ssl.SSLContext | None) -> None:
        self._provider = provider
        self._context = context
        self.connections = 0
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        self.port: int = self._listener.getsockname()[1]

    def run(self) -> None:
        """Take connections, for ever."""
        while True:
            connection, _ = self._listener.accept()
            self.connections += 1
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        try:
            if self._context is not None:
                connection = self._context.wrap_socket(connection, server_side=True)
            with connection, connection.makefile("rb") as stream:
                while line := stream.readline():
                    _, target, _ = line.decode("latin-1").split(" ", 2)
                    headers = {}
                    while (header := stream.readline().strip()) != b"":
                        name, _, value = header.partition(b":")
                        headers[name.lower()] = value.strip()
                    body = stream.read(int(headers.get(b"content-length", b"0")))
                    status, document = self._provider.answer(target, headers, body)
                    content = json.dumps(document).encode()
                    connection.sendall(
                        b"HTTP/1.1 %d Answer\r\nContent-Type: application/json\r\n"
                        b"Cache-Control: no-store\r\nContent-Length: %d\r\n\r\n%b"
                        % (status, len(content), content)
                    )
                    if headers.get(b"connection", b"").lower() == b"close":
                        return
        except OSError:  # the client went away
            return


def main() -> None:
    """Serve, and answer the parent."""
    config = workers.config()
    context = None
    if config["certificate"]:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(config["certificate"])
    provider = Provider()
    server = Server(provider, context)
    threading.Thread(target=server.run, daemon=True).start()

    def counts() -> dict[str, Any]:
        return {"calls": dict(provider.calls), "connections": server.connections}

    def begin(issuer: str) -> None:
        provider.issuer = issuer

    workers.serve({"port": lambda: server.port, "begin": begin, "counts": counts})


if __name__ == "__main__":
    main()
