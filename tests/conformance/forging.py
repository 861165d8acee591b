"""Keys of other kinds, and tokens that the provider itself would never make."""

import base64
import hashlib
import hmac
import json
from typing import Any

from joserfc import jws
from joserfc.jwk import ECKey, Key, OKPKey, RSAKey
from joserfc.jws import JWSRegistry

Claims = dict[str, Any]


def rsa_key() -> RSAKey:
    """Make an RSA key."""
    return RSAKey.generate_key(2048)


def ec_key(curve: str = "P-256") -> ECKey:
    """Make a key on an elliptic curve."""
    return ECKey.generate_key(curve)


def okp_key() -> OKPKey:
    """Make an Ed25519 key."""
    return OKPKey.generate_key("Ed25519")


def public(key: Key, **members: str) -> dict[str, Any]:
    """Give what a key set shows of a key: its public half and, if given, ``kid`` and the like."""
    return key.as_dict(private=False) | members


def rsa_key_of(jwk: dict[str, Any]) -> RSAKey:
    """Give the key of *jwk*, free to be used with any algorithm."""
    return RSAKey.import_key({name: value for name, value in jwk.items() if name not in {"alg", "use"}})


def public_pem(jwk: dict[str, Any]) -> str:
    """Give the public half of an RSA key as anybody would write it down."""
    return rsa_key_of(jwk).as_pem(private=False).decode()


def sign(claims: Claims, key: Any, **header: Any) -> str:
    """Sign properly, with any algorithm that there is."""
    header = {"typ": "JWT"} | header
    if header["alg"] == "EdDSA":  # by hand: joserfc warns of the name, which RFC 9864 calls ambiguous
        signed = unsigned(header, claims)
        return f"{signed}.{encoded(key.private_key.sign(signed.encode()))}"
    registry = JWSRegistry(algorithms=[header["alg"]], strict_check_header=False)
    return jws.serialize_compact(header, json.dumps(claims).encode(), key, registry=registry)


def sign_hs256(claims: Claims, secret: str, **header: Any) -> str:
    """Sign with a secret that two sides know. By hand: a library would warn of a public key as the secret."""
    signed = unsigned({"alg": "HS256", "typ": "JWT"} | header, claims)
    digest = hmac.digest(secret.encode(), signed.encode(), hashlib.sha256)
    return f"{signed}.{encoded(digest)}"


def unsigned(header: dict[str, Any], claims: Claims) -> str:
    """Give header and payload, without the signature and the dot before it."""
    return ".".join(encoded(json.dumps(part).encode()) for part in (header, claims))


def header_of(token: str) -> dict[str, Any]:
    """Give the header of a JWS."""
    header: dict[str, Any] = json.loads(base64.urlsafe_b64decode(token.split(".")[0] + "=="))
    return header


def with_broken_signature(token: str) -> str:
    """Turn over one bit in the middle of the signature."""
    signed, _, signature = token.rpartition(".")
    raw = bytearray(base64.urlsafe_b64decode(signature + "=="))
    raw[len(raw) // 2] ^= 1
    return f"{signed}.{encoded(bytes(raw))}"


def encoded(data: bytes) -> str:
    """Give base64url without padding."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
