"""The plan "Basic RP": modules 1 to 14 of the table in docs/conformance.md, each under its test id."""

import re
from functools import partial
from typing import Any
from urllib.parse import parse_qs

import pytest

from tests.conformance import op as at
from tests.conformance.conftest import AUTHORIZE, KEYS, METADATA, TOKEN, USERINFO, Suite
from tests.conformance.forging import (
    ec_key,
    header_of,
    okp_key,
    public,
    rsa_key,
    sign,
    unsigned,
    with_broken_signature,
)


def test_oidcc_client_test(suite: Suite) -> None:
    """Everything is right: authorize, token, userinfo, and the person is signed in."""
    grant = suite.accepts(TOKEN, KEYS, USERINFO)

    assert grant.account.claims["name"] == "Ada Lovelace"
    assert grant.scopes == {"openid", "profile", "email"}


def test_oidcc_client_test_invalid_iss(suite: Suite) -> None:
    """``iss`` has one character more: another issuer's token signs nobody in."""
    suite.accepts(TOKEN, KEYS, USERINFO)
    suite.lie_about_claims(iss=lambda iss: iss + "1")

    suite.refuses("iss", TOKEN)


def test_oidcc_client_test_missing_sub(suite: Suite) -> None:
    """No ``sub``: a token about nobody signs nobody in."""
    suite.accepts(TOKEN, KEYS, USERINFO)
    suite.lie_about_claims(sub=None)

    suite.refuses("sub", TOKEN)


def test_oidcc_client_test_invalid_aud(suite: Suite) -> None:
    """``aud`` has one character more: another client's token is worth nothing here."""
    suite.accepts(TOKEN, KEYS, USERINFO)
    suite.lie_about_claims(aud=lambda aud: aud + "1")

    suite.refuses("aud", TOKEN)


def test_oidcc_client_test_missing_iat(suite: Suite) -> None:
    """No ``iat``: a required claim is missing, so the token is none."""
    suite.accepts(TOKEN, KEYS, USERINFO)
    suite.lie_about_claims(iat=None)

    suite.refuses("iat", TOKEN)


def test_oidcc_client_test_kid_absent_single_jwks(suite: Suite) -> None:
    """No ``kid``, and the key set's one RSA key has none either: that key is meant."""
    suite.accepts(TOKEN, KEYS, USERINFO)
    key = suite.spatio.private_jwk
    suite.publish({name: key[name] for name in ("kty", "use", "alg", "n", "e")})
    suite.lie_about_claims(sign=lambda claims: suite.spatio.sign(claims, kid=None))
    suite.new_process()

    suite.accepts(METADATA, TOKEN, KEYS, USERINFO)


def test_oidcc_client_test_kid_absent_multiple_jwks(suite: Suite) -> None:
    """
    No ``kid`` in the token or in any of twelve keys, three of each kind.

    The suite lets a site try them all, or refuse. Here the one suitable key is taken if there is only one,
    whatever stands beside it; of three none is picked.
    """
    suite.accepts(TOKEN, KEYS, USERINFO)
    ours, *others = (rsa_key() for _ in range(3))
    rsa = [public(key, use="sig") for key in (*others, ours)]
    unsuitable = [
        public(make(), use="sig")
        for make in (ec_key, partial(ec_key, "secp256k1"), okp_key)
        for _ in range(3)
    ]
    assert not any("kid" in key for key in (*rsa, *unsuitable))
    suite.lie_about_claims(sign=lambda claims: sign(claims, ours, alg="RS256"))
    suite.publish(*unsuitable, rsa[-1])
    suite.new_process()
    suite.accepts(METADATA, TOKEN, KEYS, USERINFO)
    suite.publish(*rsa, *unsuitable)
    suite.new_process()

    # Looked for once more, in case the provider has just rotated to a single key.
    suite.refuses("kid", METADATA, TOKEN, KEYS, KEYS)


def test_oidcc_client_test_idtoken_sig_rs256(suite: Suite) -> None:
    """The ID token is signed with RS256 and the key set has the key: verified, and accepted."""
    algorithms: list[str] = []

    def look(token: str) -> str:
        algorithms.append(header_of(token)["alg"])
        return token

    suite.replace_id_token(look)

    suite.accepts(TOKEN, KEYS, USERINFO)

    assert algorithms == ["RS256"]


@pytest.mark.parametrize("alg", ["none", "None", "NONE", "nOnE"])
@pytest.mark.parametrize(("signature", "code"), [("", "malformed"), ("left", "alg")])
def test_oidcc_client_test_idtoken_sig_none(suite: Suite, alg: str, signature: str, code: str) -> None:
    """
    ``alg`` is ``none``, without a signature or with the old one left in place: refused.

    The suite lets a code-flow client accept it. Spatio signs with RS256, so that here nothing else will do.
    """
    suite.accepts(TOKEN, KEYS, USERINFO)
    suite.lie_about_claims(sign=lambda claims: f"{unsigned({'alg': alg}, claims)}.{signature}")

    suite.refuses(code, TOKEN)


def test_oidcc_client_test_invalid_sig_rs256(suite: Suite) -> None:
    """
    One bit of the signature is wrong: refused, and TLS to the token endpoint is no excuse.

    The keys are looked at once more, in case they were rotated under one ``kid``; within a minute only once.
    """
    suite.accepts(TOKEN, KEYS, USERINFO)
    suite.replace_id_token(with_broken_signature)

    suite.refuses("signature", TOKEN, KEYS)
    suite.refuses("signature", TOKEN)


def test_oidcc_client_test_userinfo_invalid_sub(suite: Suite) -> None:
    """Userinfo is about somebody else: its claims are not used, and nobody is signed in."""
    suite.accepts(TOKEN, KEYS, USERINFO)
    suite.op.json(at.USERINFO, sub="acc_somebodyElse")

    suite.refuses("userinfo_sub", TOKEN, USERINFO)


def test_oidcc_client_test_nonce_invalid(suite: Suite) -> None:
    """``nonce`` has one character more than the one that was sent: another sign-in's token."""
    suite.accepts(TOKEN, KEYS, USERINFO)
    suite.lie_about_claims(nonce=lambda nonce: nonce + "1")

    suite.refuses("nonce", TOKEN)


@pytest.mark.parametrize(
    ("scopes", "calls", "known"),
    [
        pytest.param(["openid"], [], {"name": None, "email": None}, id="openid"),
        pytest.param(
            ["openid", "profile"], [USERINFO], {"name": "Ada Lovelace", "email": None}, id="profile"
        ),
        pytest.param(["openid", "email"], [USERINFO], {"name": None, "email": "ada@example.com"}, id="email"),
        pytest.param(
            ["openid", "profile", "email"],
            [USERINFO],
            {"name": "Ada Lovelace", "email": "ada@example.com"},
            id="both",
        ),
    ],
)
def test_oidcc_client_test_scope_userinfo_claims(
    suite: Suite, settings: Any, scopes: list[str], calls: list[str], known: dict[str, str | None]
) -> None:
    """Claims come by scope, at userinfo: the scopes are asked for, and what comes is used."""
    settings.SPATIO_SCOPES = scopes

    grant = suite.accepts(TOKEN, KEYS, *calls)

    (asked,) = suite.observer.requests(AUTHORIZE)
    assert parse_qs(asked.query)["scope"] == [" ".join(scopes)]
    assert {name: grant.account.claims.get(name) for name in known} == known


@pytest.mark.parametrize("kind", ["plain", "awkward"])
def test_oidcc_client_test_client_secret_basic(suite: Suite, kind: str) -> None:
    """The provider takes HTTP Basic only, with id and secret form-encoded as RFC 6749 §2.3.1 says."""
    if kind == "awkward":
        suite.name_clients(client_id="a site: 1+1 = 100%", client_secret="p:w+d &%/ ~")
        suite.register_again()

    suite.accepts(TOKEN, KEYS, USERINFO)

    (sent,) = suite.observer.requests(TOKEN)
    assert re.fullmatch(r"Basic [A-Za-z0-9+/]+=*", sent.authorization)
    assert set(sent.form) == {"grant_type", "code", "redirect_uri", "code_verifier"}
