"""
Strict compact JWS on josepy's primitives; the only user of josepy.

``josepy.JWS`` is not used: without a key its ``verify`` trusts the key inside the token, it reads base64
leniently, and it verifies what it re-encoded instead of what was signed. ``JWK.load`` is not used: it
makes a symmetric key of any text it can't read.
"""

import logging
import re
from functools import lru_cache
from typing import Any

from josepy.jwa import RS256
from josepy.jwk import JWKRSA

from spatio_django.exceptions import InvalidToken
from spatio_django.oidc import base64url
from spatio_django.oidc.jwks import KeySet, PublicKey
from spatio_django.oidc.secret import Secret
from spatio_django.oidc.strict_json import parse_object

__all__ = ["KeySet", "unverified_claims", "verify"]

logger = logging.getLogger("spatio_django")

#: Characters, checked before anything is parsed.
MAX_TOKEN = 16 * 1024

_COMPACT = re.compile(r"([A-Za-z0-9_-]+)\.([A-Za-z0-9_-]+)\.([A-Za-z0-9_-]+)")

# Each would let the token choose its key or its meaning: refused, not ignored.
_REFUSED = ("crit", "jwk", "jku", "x5u", "x5c", "zip", "b64", "enc")


def verify(token: Secret, keys: KeySet) -> dict[str, Any]:
    """
    Return the claims of *token* if one of *keys* signed it with RS256. The claims are not judged.

    Raises:
        InvalidToken: ``malformed``, ``header`` (a member that must not be there), ``alg``, ``typ``, ``kid``
            or ``signature``.

    RFC 7515 §5.2, RFC 8725 §3.1-3.3 and §3.11, OpenID Connect Core 1.0 §3.1.3.7 steps 6-8.
    """
    parts = _split(token)
    if parts is None:
        raise InvalidToken("Not a compact JWS.", code="malformed")
    header, claims, signed, signature = parts
    candidates = keys.candidates(_check_header(header))
    if not any(_holds(key, signed, signature) for key in candidates):
        raise InvalidToken("The signature does not hold.", code="signature", candidates=len(candidates))
    return claims


def unverified_claims(token: Secret) -> dict[str, Any] | None:
    """Return what *token* says, whoever wrote it, or ``None``. Only ever a reason to refuse."""
    parts = _split(token)
    return None if parts is None else parts[1]


def _split(token: Secret) -> tuple[dict[str, Any], dict[str, Any], bytes, bytes] | None:
    """Return header, payload, the text that was signed, and the signature; ``None`` if malformed."""
    text = token.reveal()
    if len(text) > MAX_TOKEN or not (match := _COMPACT.fullmatch(text)):
        return None
    header, payload, signature = (base64url.decode(part) for part in match.groups())
    if header is None or payload is None or signature is None:
        return None
    members, claims = parse_object(header), parse_object(payload)
    if members is None or claims is None:
        return None
    return members, claims, text.rpartition(".")[0].encode(), signature


def _check_header(header: dict[str, Any]) -> str | None:
    """Return the header's ``kid``. The algorithm is ours, never the token's choice."""
    for name in _REFUSED:
        if name in header:
            raise InvalidToken("The header has a member that is not accepted.", code="header", member=name)
    if header.get("alg") != "RS256":
        raise InvalidToken("Only RS256 is accepted.", code="alg")
    # A token made for another purpose (at+jwt, logout+jwt) names it here. RFC 8725 §3.11-3.12.
    kind = header.get("typ", "JWT")
    if not isinstance(kind, str) or kind.upper() != "JWT":
        raise InvalidToken("Not an ID token's type.", code="typ")
    kid = header.get("kid")
    if kid is not None and not isinstance(kid, str):
        raise InvalidToken("The kid is not a string.", code="kid")
    return kid


def _holds(key: PublicKey, signed: bytes, signature: bytes) -> bool:
    try:
        return RS256.verify(_loaded(key.n, key.e), signed, signature)
    except Exception as error:  # noqa: BLE001 - josepy and cryptography raise many types; none means "it holds"
        logger.warning("A key of the provider can't be used: %s", type(error).__name__)
        return False


@lru_cache(maxsize=16)
def _loaded(n: str, e: str) -> Any:
    """Return the key for cryptography, which looks at its numbers each time that it makes one."""
    return JWKRSA.fields_from_json({"n": n, "e": e}).key
