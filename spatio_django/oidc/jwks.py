"""KeySet: the public keys of a JWKS that may have signed an ID token."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from spatio_django.exceptions import InvalidToken, ProtocolViolation
from spatio_django.oidc import base64url

#: Bits. RFC 7518 §3.3 asks for 2,048 at least; verifying with huge moduli or exponents costs seconds.
MIN_BITS, MAX_BITS, MAX_EXPONENT_BITS = 2048, 16_384, 64
#: Keys tried for one token: more of one ``kid`` is not rotation but a way to cost time.
MAX_CANDIDATES = 4

# A key whose private half is published signs for anybody.
_PRIVATE = frozenset({"d", "p", "q", "dp", "dq", "qi", "oth"})


@dataclass(frozen=True, slots=True, kw_only=True)
class PublicKey:
    """An RSA key fit for RS256, as the JWKS spells it; not checked to be a product of two primes."""

    kid: str | None
    n: str
    e: str

    @classmethod
    def from_jwk(cls, jwk: object) -> Self | None:
        """Return the key, or ``None`` if *jwk* can't or must not verify RS256. RFC 7517 §4, RFC 7518 §6.3."""
        if not isinstance(jwk, Mapping) or jwk.get("kty") != "RSA" or not _PRIVATE.isdisjoint(jwk):
            return None
        if jwk.get("use", "sig") != "sig" or jwk.get("alg", "RS256") != "RS256":
            return None
        operations = jwk.get("key_ops", ["verify"])
        if not isinstance(operations, list) or "verify" not in operations:
            return None
        kid, n, e = jwk.get("kid"), jwk.get("n"), jwk.get("e")
        if not (kid is None or isinstance(kid, str)) or not isinstance(n, str) or not isinstance(e, str):
            return None
        modulus, exponent = _number(n), _number(e)
        if not MIN_BITS <= modulus.bit_length() <= MAX_BITS:
            return None
        # With 1 anybody signs; with an even one nobody does (RFC 8017 §3.1).
        if exponent < 3 or exponent % 2 == 0 or exponent.bit_length() > MAX_EXPONENT_BITS:
            return None
        return cls(kid=kid, n=n, e=e)


@dataclass(frozen=True, slots=True, kw_only=True)
class KeySet:
    """The usable keys of one document, in its order."""

    keys: tuple[PublicKey, ...]

    @classmethod
    def from_document(cls, document: Mapping[str, Any]) -> Self:
        """
        Keep the keys of *document* that are usable here, and pass over the others (RFC 7517 §5).

        Raises:
            ProtocolViolation: ``jwks``, if no usable key is left.
        """
        listed = document.get("keys")
        keys = map(PublicKey.from_jwk, listed if isinstance(listed, list) else ())
        usable = tuple(key for key in keys if key is not None)
        if not usable:
            raise ProtocolViolation("The key set has no key for RS256.", code="jwks")
        return cls(keys=usable)

    def candidates(self, kid: str | None) -> tuple[PublicKey, ...]:
        """
        Return the keys that may have signed a token with this ``kid``; without one, the only key there is.

        Raises:
            InvalidToken: ``kid``.

        OpenID Connect Core 1.0 §10.1.
        """
        if kid is None:
            found = self.keys
            allowed = 1
        else:
            found = tuple(key for key in self.keys if key.kid == kid)
            allowed = MAX_CANDIDATES
        if not 1 <= len(found) <= allowed:
            raise InvalidToken("No key, or more than one, fits the token.", code="kid", found=len(found))
        return found


def _number(text: str) -> int:
    """Return the value of a Base64urlUInt; 0 if it is not one, or longer than any allowed."""
    if len(text) > MAX_BITS // 6 + 2:
        return 0
    return int.from_bytes(base64url.decode(text) or b"")
