"""
Modules 28 to 40, 42 and 43 of the table in docs/conformance.md: behaviour that the FAPI plans look at.

Not the FAPI profiles, which ask for more (pushed requests, bound tokens): what they say of any code flow.
"""

import time
from typing import Any

import pytest

from tests.conformance import op as at
from tests.conformance.conftest import KEYS, METADATA, TOKEN, USERINFO, Suite
from tests.conformance.forging import ec_key, okp_key, public, rsa_key_of, sign


def test_fapi2_security_profile_final_client_test_invalid_secondary_aud(suite: Suite) -> None:
    """``aud`` names us and a stranger, without ``azp``: whoever else has the token could replay it here."""
    suite.accepts(TOKEN, KEYS, USERINFO)
    suite.lie_about_claims(aud=lambda aud: [aud, "a-stranger"])

    suite.refuses("aud", TOKEN)


def test_fapi2_security_profile_final_client_test_valid_aud_as_array(suite: Suite) -> None:
    """``aud`` is a list with us alone: that is what a plain text says, too."""
    suite.lie_about_claims(aud=lambda aud: [aud])

    suite.accepts(TOKEN, KEYS, USERINFO)


@pytest.mark.parametrize("alg", ["PS256", "RS384", "RS512", "ES256", "EdDSA"])
def test_fapi2_security_profile_final_client_test_invalid_alternate_alg(suite: Suite, alg: str) -> None:
    """
    A right signature, with another asymmetric algorithm than the agreed one: refused.

    Whether by another key of the key set, or by the very key that signs with RS256 else.
    """
    kid: str = suite.public_jwk["kid"]
    key: Any = rsa_key_of(suite.spatio.private_jwk)
    if alg in {"ES256", "EdDSA"}:
        kid = "other"
        key = ec_key() if alg == "ES256" else okp_key()
        suite.publish(suite.public_jwk, public(key, kid=kid, use="sig", alg=alg))
    suite.accepts(TOKEN, KEYS, USERINFO)
    suite.lie_about_claims(sign=lambda claims: sign(claims, key, alg=alg, kid=kid))

    suite.refuses("alg", TOKEN)


def test_fapi2_security_profile_final_client_test_invalid_expired_exp(suite: Suite) -> None:
    """``exp`` was more than five minutes ago, and clocks may differ by one."""
    suite.accepts(TOKEN, KEYS, USERINFO)
    suite.lie_about_claims(exp=int(time.time()) - 301)

    suite.refuses("exp", TOKEN)


def test_fapi2_security_profile_final_client_test_invalid_missing_exp(suite: Suite) -> None:
    """No ``exp``: a token that never ends is none."""
    suite.accepts(TOKEN, KEYS, USERINFO)
    suite.lie_about_claims(exp=None)

    suite.refuses("exp", TOKEN)


def test_fapi2_security_profile_final_client_test_invalid_missing_iss(suite: Suite) -> None:
    """No ``iss``: a token that nobody stands for."""
    suite.accepts(TOKEN, KEYS, USERINFO)
    suite.lie_about_claims(iss=None)

    suite.refuses("iss", TOKEN)


def test_fapi2_security_profile_final_client_test_invalid_missing_nonce(suite: Suite) -> None:
    """No ``nonce`` although one was sent: the token may be of any sign-in."""
    suite.accepts(TOKEN, KEYS, USERINFO)
    suite.lie_about_claims(nonce=None)

    suite.refuses("nonce", TOKEN)


def test_fapi2_security_profile_final_client_test_invalid_authorization_response_iss(suite: Suite) -> None:
    """The callback's ``iss`` is another issuer's (RFC 9207): its code goes nowhere, and nothing is called."""
    suite.spatio.send_iss = True
    suite.accepts(TOKEN, KEYS, USERINFO)
    suite.op.callback = {"iss": suite.spatio.issuer + "1"}

    suite.refuses("iss")


def test_fapi2_security_profile_final_client_test_remove_authorization_response_iss(suite: Suite) -> None:
    """
    The metadata announce ``iss`` in callbacks, and it is not there: refused, and nothing is called.

    Spatio's don't announce it; then its absence says nothing.
    """
    suite.spatio.send_iss = True
    suite.new_process()
    suite.accepts(METADATA, TOKEN, KEYS, USERINFO)
    suite.op.callback = {"iss": None}

    suite.refuses("iss")
    suite.spatio.send_iss = False
    suite.new_process()
    suite.accepts(METADATA, TOKEN, KEYS, USERINFO)


def test_fapi2_security_profile_final_client_test_ensure_authorization_response_with_invalid_state_fails(
    suite: Suite,
) -> None:
    """The callback's ``state`` is not the one that was sent: no login of this browser; nothing is called."""
    suite.accepts(TOKEN, KEYS, USERINFO)
    suite.op.callback = {"state": "x" * 43}

    suite.refuses("state", status=400)


def test_fapi2_security_profile_final_client_test_ensure_authorization_response_with_invalid_missing_state_fails(  # noqa: E501 - a test id
    suite: Suite,
) -> None:
    """The callback has no ``state``: no login of this browser; nothing is called."""
    suite.accepts(TOKEN, KEYS, USERINFO)
    suite.op.callback = {"state": None}

    suite.refuses("state_missing", status=400)


def test_fapi2_security_profile_final_client_test_token_endpoint_response_without_expires_in(
    suite: Suite,
) -> None:
    """``expires_in`` is only recommended (RFC 6749 §5.1): accepted, and no lifetime is made up."""
    assert suite.accepts(TOKEN, KEYS, USERINFO).seconds_left is not None
    suite.op.json(at.TOKEN, expires_in=None)

    assert suite.accepts(TOKEN, USERINFO).seconds_left is None


@pytest.mark.parametrize("token_type", ["bEARER", "bearer", "BEARER"])
def test_fapi2_security_profile_final_client_test_token_type_case_insensitivity(
    suite: Suite, token_type: str
) -> None:
    """``token_type`` is compared in any case (RFC 6749 §5.1), and sent on as ``Bearer``."""
    suite.op.json(at.TOKEN, token_type=token_type)

    suite.accepts(TOKEN, KEYS, USERINFO)


def test_fapi1_advanced_final_client_test_iat_is_week_in_past(suite: Suite) -> None:
    """
    ``iat`` is a week ago, ``exp`` still to come: accepted, as OpenID Connect Core leaves it open.

    FAPI refuses it. Here the ``nonce`` ties the token to this very sign-in, whenever it was made, and ``exp``
    ends it: with that a week ago too, it is refused.
    """
    week_ago = int(time.time()) - 7 * 24 * 3600
    suite.lie_about_claims(iat=week_ago)
    suite.accepts(TOKEN, KEYS, USERINFO)
    suite.lie_about_claims(iat=week_ago, exp=week_ago + 3600)

    suite.refuses("exp", TOKEN)


def test_fapi1_advanced_final_client_test_no_scope_in_token_endpoint_response(suite: Suite) -> None:
    """No ``scope`` and no ``expires_in``: what was asked for is granted (RFC 6749 §5.1)."""
    suite.op.json(at.TOKEN, scope=None, expires_in=None)

    assert suite.accepts(TOKEN, KEYS, USERINFO).scopes == {"openid", "profile", "email"}
