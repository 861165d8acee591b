"""The comprehensive plan, which certifies nothing: modules 21 to 24 and 46 of docs/conformance.md."""

from typing import Any

import pytest

from tests.conformance import op as at
from tests.conformance.conftest import KEYS, METADATA, TOKEN, USERINFO, Suite
from tests.conformance.forging import ec_key, public, public_pem, sign, sign_hs256, with_broken_signature


def test_oidcc_client_test_missing_aud(suite: Suite) -> None:
    """No ``aud``: a token for nobody in particular is not for us."""
    suite.accepts(TOKEN, KEYS, USERINFO)
    suite.lie_about_claims(aud=None)

    suite.refuses("aud", TOKEN)


def test_oidcc_client_test_userinfo_bearer_header(suite: Suite) -> None:
    """Userinfo gets the access token in the Authorization header: not in its address, and not in a body."""
    suite.accepts(TOKEN, KEYS, USERINFO)

    (token_call,) = suite.observer.requests(TOKEN)
    (call,) = suite.observer.requests(USERINFO)
    assert call.authorization == f"Bearer {token_call.document['access_token']}"
    assert (call.query, call.body) == ("", "")


@pytest.mark.parametrize("secret", ["client-secret", "wrong", "public-key"])
def test_oidcc_client_test_invalid_sig_hs256(suite: Suite, secret: str) -> None:
    """
    The ID token is signed with HS256, rightly or wrongly: refused, because RS256 is what Spatio signs with.

    Above all not with the public key taken for a secret, which everybody has (RFC 8725 §2.1). And where the
    metadata list HS256 alone, as the suite's do, nobody is sent there.
    """
    suite.accepts(TOKEN, KEYS, USERINFO)
    key = suite.spatio.private_jwk
    secrets = {"client-secret": suite.client_secret, "wrong": "wrong", "public-key": public_pem(key)}
    suite.lie_about_claims(sign=lambda claims: sign_hs256(claims, secrets[secret], kid=key["kid"]))

    suite.refuses("alg", TOKEN)
    suite.op.json(at.METADATA, id_token_signing_alg_values_supported=["HS256"])
    suite.refuses_to_begin("alg_unsupported", METADATA)


@pytest.mark.parametrize("signature", ["broken", "right"])
def test_oidcc_client_test_invalid_sig_es256(suite: Suite, signature: str) -> None:
    """
    The ID token is signed with ES256, by a key of the key set: refused, be the signature broken or right.

    Where the metadata list ES256 alone, as the suite's do, nobody is sent there.
    """
    key = ec_key()
    suite.publish(suite.public_jwk, public(key, kid="ec", use="sig", alg="ES256"))
    suite.accepts(TOKEN, KEYS, USERINFO)

    def signed(claims: dict[str, Any]) -> str:
        token = sign(claims, key, alg="ES256", kid="ec")
        return with_broken_signature(token) if signature == "broken" else token

    suite.lie_about_claims(sign=signed)

    suite.refuses("alg", TOKEN)
    suite.op.json(at.METADATA, id_token_signing_alg_values_supported=["ES256"])
    suite.refuses_to_begin("alg_unsupported", METADATA)


def test_oidcc_client_test_ignores_unparseable_key_in_jwks(suite: Suite) -> None:
    """The key set has keys of kinds that nobody knows yet: passed over, and the known one is used."""
    suite.accepts(TOKEN, KEYS, USERINFO)
    suite.publish(
        {"kty": "AKP", "alg": "ML-DSA-999", "kid": "after-quantum", "use": "sig", "pub": "AAAA"},
        {"kty": "made-up", "kid": "unheard-of", "use": "sig"},
        suite.public_jwk,
    )
    suite.new_process()

    suite.accepts(METADATA, TOKEN, KEYS, USERINFO)
