"""
Signing: the RSA keys behind the JWKS, and the provider's own sealed notes to itself.

joserfc does the work. The site's side verifies with another library on purpose: a signer and a verifier
that share code agree on their mistakes.
"""

import json
import time
from typing import Any

from joserfc import jws, jwt
from joserfc.errors import JoseError
from joserfc.jwk import OctKey, RSAKey
from joserfc.jws import JWSRegistry

from spatio_django.testing.store import SigningKey, Store

#: The consent page's request: long enough to read the page, short enough not to be kept.
REQUEST_LIFETIME = 600
#: Its type, so that it is never mistaken for an ID token, nor one for it (RFC 8725 §3.11).
REQUEST_TYPE = "consent-request+jwt"


class KeyRing:
    """The active signing key, the retired ones, and an HMAC key for what only this provider reads."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self._parsed: dict[str, RSAKey] = {}
        self._sealing_key = OctKey.import_key(store.tables.secret)

    @property
    def private_jwk(self) -> dict[str, Any]:
        """The active key, with its private members."""
        return dict(self._jwks()[0])

    def _jwks(self) -> list[dict[str, Any]]:
        """All keys, the active one first. The first is made when it is needed: many tests need none."""
        with self.store.lock:
            if not self.store.tables.keys:
                self.rotate()
            return [row.jwk for row in reversed(self.store.tables.keys)]

    def rotate(self) -> None:
        """Make a new key the active one; the old ones stay in the JWKS while ID tokens may need them."""
        key = RSAKey.generate_key(2048, {"use": "sig", "alg": "RS256"}, private=True, auto_kid=True)
        with self.store.change() as tables:
            for old in tables.keys:
                old.retired_at = old.retired_at or time.time()
            tables.keys.append(SigningKey(jwk=dict(key.as_dict(private=True))))

    def public_jwks(self) -> dict[str, Any]:
        """The JWKS (RFC 7517 §5), the active key first, exactly the members that Spatio documents."""
        members = ("kty", "use", "alg", "kid", "n", "e")
        return {"keys": [{name: key[name] for name in members} for key in self._jwks()]}

    def sign(self, claims: dict[str, Any], **header: Any) -> str:
        """
        Sign *claims* as they are with the active key.

        Keyword arguments change the protected header: ``kid="other"``, or ``kid=None`` to leave it out.
        """
        jwk = self.private_jwk
        protected = {"alg": "RS256", "typ": "JWT", "kid": jwk["kid"]} | header
        protected = {name: value for name, value in protected.items() if value is not None}
        if jwk["kid"] not in self._parsed:  # parsing a private key takes longer than using it
            self._parsed = {jwk["kid"]: RSAKey.import_key({name: jwk[name] for name in jwk if name != "alg"})}
        registry = JWSRegistry(algorithms=[protected["alg"]], strict_check_header=False)
        payload = json.dumps(claims).encode()
        return jws.serialize_compact(protected, payload, self._parsed[jwk["kid"]], registry=registry)

    def seal(self, claims: dict[str, Any]) -> str:
        """Pack *claims* for the consent page, which hands them back (a JWT under the HMAC key)."""
        claims = claims | {"exp": int(time.time()) + REQUEST_LIFETIME}
        return jwt.encode({"alg": "HS256", "typ": REQUEST_TYPE}, claims, self._sealing_key)

    def unseal(self, token: str) -> dict[str, Any] | None:
        """What was sealed, or ``None`` if this provider did not seal it, or not recently enough."""
        try:
            sealed = jwt.decode(token, self._sealing_key, algorithms=["HS256"])
        except (JoseError, ValueError):
            return None
        if sealed.header.get("typ") != REQUEST_TYPE or sealed.claims["exp"] < time.time():
            return None
        return sealed.claims
