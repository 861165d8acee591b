"""spatio_django.oidc.jose and jwks: whose signature it is."""

import hmac
import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from spatio_django.exceptions import InvalidToken, ProtocolViolation
from spatio_django.oidc import jose
from spatio_django.oidc.jwks import MAX_CANDIDATES, KeySet
from spatio_django.oidc.secret import Secret
from tests.oidc.support import CLAIMS, Signer, b64, number


def keys(*jwks: object) -> KeySet:
    """Read a JWKS."""
    return KeySet.from_document({"keys": list(jwks)})


def refused(token: str, key_set: KeySet) -> InvalidToken:
    """Return the error that *token* meets."""
    with pytest.raises(InvalidToken) as caught:
        jose.verify(Secret(token), key_set)
    return caught.value


def test_a_signed_token_gives_its_claims(signer: Signer) -> None:
    """oidcc-client-test-idtoken-sig-rs256."""
    assert jose.verify(Secret(signer.sign(CLAIMS)), keys(signer.jwk())) == CLAIMS


@pytest.mark.parametrize(
    "header",
    [
        pytest.param({"typ": None}, id="no-typ"),
        pytest.param({"typ": "jwt"}, id="typ-in-lower-case"),
        pytest.param({"kid": None}, id="no-kid-and-one-key"),
        pytest.param({"x5t": "abc", "cty": "x", "custom": {}}, id="unknown-members"),
    ],
)
def test_a_header_may_say_less_or_more(signer: Signer, header: dict[str, Any]) -> None:
    """oidcc-client-test-kid-absent-single-jwks, and RFC 7515 §4: unknown members are ignored."""
    assert jose.verify(Secret(signer.sign(CLAIMS, header)), keys(signer.jwk())) == CLAIMS


@pytest.mark.parametrize(
    ("header", "code"),
    [
        pytest.param({"alg": "none"}, "alg", id="none"),
        pytest.param({"alg": "rs256"}, "alg", id="lower-case"),
        pytest.param({"alg": "RS384"}, "alg", id="stronger-hash"),
        pytest.param({"alg": "PS256"}, "alg", id="pss"),
        pytest.param({"alg": "HS256"}, "alg", id="symmetric"),
        pytest.param({"alg": "ES256"}, "alg", id="elliptic"),
        pytest.param({"alg": ["RS256"]}, "alg", id="list"),
        pytest.param({"alg": None}, "alg", id="absent"),
        pytest.param({"crit": ["exp"]}, "header", id="crit"),
        pytest.param({"crit": []}, "header", id="crit-empty"),
        pytest.param({"jwk": {}}, "header", id="embedded-key"),
        pytest.param({"jku": "https://attacker.example"}, "header", id="key-url"),
        pytest.param({"x5u": "https://attacker.example"}, "header", id="certificate-url"),
        pytest.param({"x5c": ["AAAA"]}, "header", id="certificate"),
        pytest.param({"zip": "DEF"}, "header", id="compressed"),
        pytest.param({"b64": False}, "header", id="unencoded"),
        pytest.param({"enc": "A128GCM"}, "header", id="encrypted"),
        pytest.param({"typ": "at+jwt"}, "typ", id="access-token"),
        pytest.param({"typ": "logout+jwt"}, "typ", id="logout-token"),
        pytest.param({"typ": 1}, "typ", id="typ-not-a-string"),
        pytest.param({"kid": 1}, "kid", id="kid-not-a-string"),
        pytest.param({"kid": "unknown"}, "kid", id="kid-unknown"),
        pytest.param({"kid": ""}, "kid", id="kid-empty"),
    ],
)
def test_a_header_can_not_choose_algorithm_key_or_purpose(
    signer: Signer, header: dict[str, Any], code: str
) -> None:
    """Each forged header is signed by the right key, and refused all the same."""
    jose.verify(Secret(signer.sign(CLAIMS)), keys(signer.jwk()))

    assert refused(signer.sign(CLAIMS, header), keys(signer.jwk())).code == code


@pytest.mark.parametrize(
    "forge",
    [
        pytest.param(lambda text: text + ".", id="four-segments"),
        pytest.param(lambda text: text.rpartition(".")[0], id="two-segments"),
        pytest.param(lambda text: text.rpartition(".")[0] + ".", id="empty-signature"),
        pytest.param(lambda text: "." + text.partition(".")[2], id="empty-header"),
        pytest.param(lambda text: text + "=", id="padding"),
        pytest.param(lambda text: text + "\n", id="line-break"),
        pytest.param(lambda text: " " + text, id="space"),
        pytest.param(lambda text: text.replace(".", "!.", 1), id="junk"),
        pytest.param(lambda text: text.replace(".", "+/.", 1), id="the-other-alphabet"),
        pytest.param(lambda text: text + "AAA", id="impossible-length"),
        pytest.param(lambda text: text[:-1] + ("B" if text[-1] != "B" else "C"), id="surplus-bits"),
        pytest.param(lambda _: "", id="empty"),
        pytest.param(lambda _: "..", id="dots"),
        pytest.param(lambda _: "a.b.c.d.e", id="encrypted"),
        pytest.param(lambda text: json.dumps({"payload": text, "signatures": []}), id="json-serialization"),
        pytest.param(lambda text: text + "A" * 20_000, id="too-long"),
        pytest.param(lambda text: "É" + text, id="not-ascii"),
        pytest.param(lambda text: "\ud800" + text, id="lone-surrogate"),
    ],
)
def test_a_text_that_is_not_exactly_a_token_is_malformed(signer: Signer, forge: Callable[[str], str]) -> None:
    """One token has one text: josepy alone accepts several of these."""
    text = signer.sign(CLAIMS)
    jose.verify(Secret(text), keys(signer.jwk()))

    assert refused(forge(text), keys(signer.jwk())).code == "malformed"


@pytest.mark.parametrize(
    ("claims", "header"),
    [
        pytest.param(b"[]", None, id="claims-array"),
        pytest.param(b"{}x", None, id="claims-not-json"),
        pytest.param(b'{"sub": "a", "sub": "b"}', None, id="claim-twice"),
        pytest.param(b'{"exp": 1e999}', None, id="claim-infinite"),
        pytest.param(b"{}", b"[]", id="header-array"),
        pytest.param(b"{}", b'{"alg": "none", "alg": "RS256"}', id="alg-twice"),
        pytest.param(b"{}", b'{"alg": "RS256", "x": ' + b"[" * 5000 + b"}", id="header-nested"),
    ],
)
def test_header_and_claims_are_unambiguous_json(signer: Signer, claims: bytes, header: bytes | None) -> None:
    """A second parser must not read another token than this one."""
    assert refused(signer.sign(claims, header), keys(signer.jwk())).code == "malformed"


def test_a_changed_token_does_not_hold(signer: Signer, other_signer: Signer) -> None:
    """oidcc-client-test-invalid-sig-rs256: other claims, another header or another key."""
    header, claims, signature = signer.sign(CLAIMS).split(".")
    other_claims = signer.sign(CLAIMS | {"sub": "victim"}).split(".")[1]
    other_header = signer.sign(CLAIMS, {"x": 1}).split(".")[0]
    key_set = keys(signer.jwk())

    assert refused(f"{header}.{other_claims}.{signature}", key_set).code == "signature"
    assert refused(f"{other_header}.{claims}.{signature}", key_set).code == "signature"
    assert refused(f"{header}.{claims}.{b64(bytes(256))}", key_set).code == "signature"
    assert refused(f"{header}.{claims}.{signature[:40]}", key_set).code == "signature"
    assert refused(other_signer.sign(CLAIMS, {"kid": "first"}), key_set).code == "signature"


def test_the_public_key_is_not_a_shared_secret(signer: Signer) -> None:
    """The classic confusion: an HS256 token made with the public key's text."""
    public = signer.key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    head = b64(json.dumps({"alg": "HS256", "kid": "first"}).encode())
    signed = f"{head}.{b64(json.dumps(CLAIMS).encode())}"
    forged = f"{signed}.{b64(hmac.digest(public, signed.encode(), 'sha256'))}"

    assert refused(forged, keys(signer.jwk())).code == "alg"


def test_another_padding_is_not_rs256(signer: Signer) -> None:
    """A PSS signature under an RS256 header does not hold."""
    signed = signer.sign(CLAIMS).rpartition(".")[0]
    pss = padding.PSS(mgf=padding.MGF1(hashes.SHA256()), salt_length=32)
    signature = signer.key.sign(signed.encode(), pss, hashes.SHA256())

    assert refused(f"{signed}.{b64(signature)}", keys(signer.jwk())).code == "signature"


def test_a_token_may_be_as_long_as_the_limit_and_no_longer(signer: Signer) -> None:
    """Checked before anything is parsed."""
    spare = jose.MAX_TOKEN - len(signer.sign({"x": ""}))
    longest = max(
        (signer.sign({"x": "y" * size}) for size in range(spare * 3 // 4 - 3, spare * 3 // 4 + 1)), key=len
    )
    assert len(longest) == jose.MAX_TOKEN

    jose.verify(Secret(longest), keys(signer.jwk()))
    assert refused(longest + "A", keys(signer.jwk())).code == "malformed"


def test_no_error_tells_the_token(signer: Signer) -> None:
    """Neither text nor context nor chain of an error shows what was in the token."""
    error = refused(signer.sign(CLAIMS, {"typ": "at+jwt", "kid": "hunter2"}), keys(signer.jwk()))

    assert "hunter2" not in f"{error} {error.context}"
    assert error.__context__ is None


# --- key sets ---------------------------------------------------------------------------------------------


def elliptic_jwk() -> dict[str, Any]:
    """Return a key of another kind, with the kid of the right one."""
    numbers = ec.generate_private_key(ec.SECP256R1()).public_key().public_numbers()
    return {"kty": "EC", "crv": "P-256", "kid": "first", "x": number(numbers.x), "y": number(numbers.y)}


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"kty": "oct", "k": "c2VjcmV0"}, id="oct"),
        pytest.param({"kty": "EC"}, id="ec"),
        pytest.param({"kty": None}, id="no-kty"),
        pytest.param({"kty": ["RSA"]}, id="kty-list"),
        pytest.param({"use": "enc"}, id="for-encryption"),
        pytest.param({"use": 1}, id="use-not-a-string"),
        pytest.param({"key_ops": ["sign"]}, id="not-for-verifying"),
        pytest.param({"key_ops": "verify"}, id="key-ops-not-a-list"),
        pytest.param({"alg": "RS384"}, id="for-another-algorithm"),
        pytest.param({"alg": "PS256"}, id="for-pss"),
        pytest.param({"kid": 7}, id="kid-not-a-string"),
        pytest.param({"n": None}, id="no-modulus"),
        pytest.param({"n": 7}, id="modulus-not-a-string"),
        pytest.param({"n": "!!"}, id="modulus-not-base64"),
        pytest.param({"n": "AQAB"}, id="modulus-tiny"),
        pytest.param({"n": number(1 << 2046)}, id="modulus-of-2047-bits"),
        pytest.param({"n": number(1 << 16_384)}, id="modulus-huge"),
        pytest.param({"n": "A" * 100_000}, id="modulus-long-zeros"),
        pytest.param({"e": None}, id="no-exponent"),
        pytest.param({"e": ["AQAB"]}, id="exponent-not-a-string"),
        pytest.param({"e": ""}, id="exponent-empty"),
        pytest.param({"e": number(1)}, id="exponent-one"),
        pytest.param({"e": number(1 << 64)}, id="exponent-huge"),
        pytest.param({"d": "AQAB"}, id="private-half-published"),
    ],
)
def test_an_unsuitable_key_is_passed_over(
    signer: Signer, other_signer: Signer, changes: dict[str, Any]
) -> None:
    """One odd key, of any kind, does not stop the others from working, and does not work itself."""
    odd = signer.jwk(**changes)
    token = other_signer.sign(CLAIMS, {"kid": None})
    assert jose.verify(Secret(token), keys(other_signer.jwk())) == CLAIMS

    assert jose.verify(Secret(token), keys(odd, other_signer.jwk())) == CLAIMS
    assert refused(signer.sign(CLAIMS), keys(odd, other_signer.jwk())).code == "kid"


@pytest.mark.parametrize("odd", [None, 7, "key", [], ["kty", "RSA"]])
def test_an_entry_that_is_not_a_key_is_passed_over(signer: Signer, odd: object) -> None:
    """Whatever the list holds."""
    assert keys(odd, signer.jwk()) == keys(signer.jwk())


@pytest.mark.parametrize(
    "changes", [{"use": None, "alg": None}, {"key_ops": ["verify"]}, {"x5c": ["AAAA"], "custom": 1}]
)
def test_optional_members_of_a_key_may_be_absent_or_unknown(signer: Signer, changes: dict[str, Any]) -> None:
    """A key without ``alg`` or ``use`` is usable (RFC 7517 §4.2, §4.4)."""
    assert jose.verify(Secret(signer.sign(CLAIMS)), keys(signer.jwk(**changes))) == CLAIMS


@pytest.mark.parametrize(
    "document", [{}, {"keys": None}, {"keys": {}}, {"keys": []}, {"keys": [{"kty": "oct", "k": "AA"}]}]
)
def test_a_document_without_a_usable_key_is_a_violation(document: dict[str, Any]) -> None:
    """So that it never replaces a good one in a cache."""
    with pytest.raises(ProtocolViolation) as caught:
        KeySet.from_document(document)

    assert caught.value.code == "jwks"


def test_the_kid_chooses_the_key(signer: Signer, other_signer: Signer) -> None:
    """During a rotation both keys are listed, with keys of other kinds under the same kid."""
    key_set = keys(elliptic_jwk(), other_signer.jwk(), signer.jwk())

    assert jose.verify(Secret(signer.sign(CLAIMS)), key_set) == CLAIMS
    assert jose.verify(Secret(other_signer.sign(CLAIMS)), key_set) == CLAIMS


def test_no_kid_and_several_keys_is_ambiguous(signer: Signer, other_signer: Signer) -> None:
    """oidcc-client-test-kid-absent-multiple-jwks allows trying all; refusing is the strict reading."""
    key_set = keys(signer.jwk(kid=None), other_signer.jwk(kid=None))

    assert refused(signer.sign(CLAIMS, {"kid": None}), key_set).code == "kid"


def test_keys_that_share_a_kid_are_all_tried_up_to_a_few(signer: Signer, other_signer: Signer) -> None:
    """Order does not matter; a flood of them does not cost a verification each."""
    namesake = other_signer.jwk(kid="first")

    assert jose.verify(Secret(signer.sign(CLAIMS)), keys(namesake, signer.jwk())) == CLAIMS
    flood = keys(*[namesake] * MAX_CANDIDATES, signer.jwk())
    assert refused(signer.sign(CLAIMS), flood).code == "kid"


def test_a_key_that_cryptography_refuses_verifies_nothing(
    signer: Signer, caplog: pytest.LogCaptureFixture
) -> None:
    """What raises inside, as an even exponent does, is a signature that does not hold."""
    (good,) = keys(signer.jwk()).keys
    assert jose.verify(Secret(signer.sign(CLAIMS)), KeySet(keys=(good,))) == CLAIMS
    broken = KeySet(keys=(replace(good, e=number(65536)),))

    assert refused(signer.sign(CLAIMS), broken).code == "signature"
    assert "can't be used: ValueError" in caplog.text
