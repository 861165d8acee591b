"""The ID token: its shape, header and algorithm, and each claim with everything that it can be instead."""

import base64
import hashlib
import hmac
import json
import time
from collections.abc import Callable
from typing import Any

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from joserfc.jwk import ECKey, OKPKey

from tests.conformance.forging import encoded, public, sign, unsigned
from tests.hostile.conftest import TOKEN, Hostile, claims_of
from tests.hostile.values import ABSENT, VALUES
from tests.oidc.support import Signer

# --- shape ------------------------------------------------------------------------------------------------


def parts(token: str) -> list[str]:
    """Give the three segments."""
    return token.split(".")


def flattened(token: str) -> str:
    """Give the token in JWS JSON serialisation (RFC 7515 §7.2.2)."""
    header, payload, signature = parts(token)
    return json.dumps({"protected": header, "payload": payload, "signature": signature})


def general(token: str) -> str:
    """Give it in the general one, with two signatures (RFC 7515 §7.2.1)."""
    header, payload, signature = parts(token)
    one = {"protected": header, "signature": signature}
    return json.dumps({"payload": payload, "signatures": [one, one]})


def other_spelling(segment: str) -> str:
    """Change surplus bits at the end of a segment: lenient readers decode it to the same bytes."""
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    assert len(segment) % 4 in {2, 3}
    return segment[:-1] + alphabet[alphabet.index(segment[-1]) ^ 1]


#: Texts that are no compact JWS, or not the one that was signed.
MISSHAPEN: dict[str, Callable[[str], str]] = {
    "one segment": lambda token: parts(token)[1],
    "two segments": lambda token: token.rpartition(".")[0],
    "two segments and a dot": lambda token: token.rpartition(".")[0] + ".",
    "four segments": lambda token: token + ".AAAA",
    "four, the last empty": lambda token: token + ".",
    "five segments": lambda token: token + ".AAAA.AAAA",
    "a JWE": lambda _: ".".join(
        [encoded(b'{"alg":"RSA-OAEP","enc":"A256GCM"}'), "AAAA", "AAAA", "AAAA", "AAAA"]
    ),
    "a JWE with direct encryption": lambda _: encoded(b'{"alg":"dir","enc":"A256GCM"}') + "..AAAA.AAAA.AAAA",
    "no header": lambda token: "." + token.partition(".")[2],
    "no payload": lambda token: f"{parts(token)[0]}..{parts(token)[2]}",
    "only dots": lambda _: "..",
    "flattened json": flattened,
    "general json": general,
    "padding": lambda token: token + "=" * (-len(parts(token)[2]) % 4),
    "padding everywhere": lambda token: ".".join(part + "=" * (-len(part) % 4) for part in parts(token)),
    "the other alphabet": lambda token: token.replace("-", "+").replace("_", "/") + "+",
    "a space before": lambda token: " " + token,
    "a space behind": lambda token: token + " ",
    "a space in it": lambda token: token[:50] + " " + token[50:],
    "Bearer before": lambda token: "Bearer " + token,
    "percent": lambda token: token.replace(".", "%2E"),
    "tilde": lambda token: token + "~",
    "surplus bits": lambda token: ".".join([*parts(token)[:2], other_spelling(parts(token)[2])]),
    "a character too many": lambda token: ".".join(
        part + "A" * ((1 - len(part)) % 4) for part in parts(token)
    ),
    "html": lambda _: "<html>.<body>.</html>",
}


@pytest.mark.parametrize("name", MISSHAPEN)
def test_a_text_that_is_no_compact_jws_is_malformed(hostile: Hostile, name: str) -> None:
    """There is one spelling of a token; whatever else decodes to the same bytes is another text."""
    hostile.replace_id_token(lambda token: token)
    hostile.accepts()
    hostile.replace_id_token(MISSHAPEN[name])

    hostile.refuses("malformed")


def test_a_token_of_more_than_16_kib_is_not_read(hostile: Hostile) -> None:
    """Its signature is in order; that is not looked at any more."""
    hostile.change_claims(filler="x" * 10_000)
    hostile.accepts()
    hostile.change_claims(filler="x" * 12_500)

    hostile.refuses("id_token")


@pytest.mark.parametrize(
    "text",
    ["", "é", "a.b.c\n", "a\r\nb", "\t", "\x7f", "\u202e"],
    ids=["empty", "umlaut", "line break", "two lines", "tab", "delete", "right to left"],
)
def test_a_text_that_no_token_can_be_is_no_id_token(hostile: Hostile, text: str) -> None:
    """RFC 6749 appendix A: printable ASCII."""
    hostile.accepts()
    hostile.replace_id_token(lambda _: text)

    hostile.refuses("id_token")


PART = {
    "not base64": "!!!!",
    "no json": encoded(b"hello"),
    "empty object": encoded(b"{}"),
    "list": encoded(b"[]"),
    "null": encoded(b"null"),
    "text": encoded(b'"x"'),
    "number": encoded(b"7"),
    "NaN": encoded(b'{"alg":"RS256","x":NaN}'),
    "1e400": encoded(b'{"alg":"RS256","x":1e400}'),
    "5000 digits": encoded(b'{"alg":"RS256","x":' + b"9" * 5000 + b"}"),
    "a member twice": encoded(b'{"alg":"none","alg":"RS256"}'),
    "deep": encoded(b'{"alg":"RS256","x":' + b"[" * 40 + b"]" * 40 + b"}"),
    "deeper than the stack": encoded(b'{"alg":"RS256","x":' + b"[" * 5000),
    "not utf-8": encoded(b'{"alg":"RS256","x":"\xff"}'),
    "byte order mark": encoded(b'\xef\xbb\xbf{"alg":"RS256"}'),
    "lone surrogate": encoded(b'{"alg":"RS256","x":"\\ud800"}'),
    "NUL": encoded(b'{"alg":"RS256","x":"\\u0000"}'),
    "utf-16": encoded('{"alg":"RS256"}'.encode("utf-16")),
    "trailing garbage": encoded(b'{"alg":"RS256"}x'),
}


@pytest.mark.parametrize("position", [0, 1], ids=["header", "payload"])
def test_header_and_claims_are_json_objects_with_one_reading(
    hostile: Hostile, position: int, subtests: pytest.Subtests
) -> None:
    """Both are signed as they are, by the right key; so only their reading is in question."""
    hostile.accepts()
    for name, segment in PART.items():
        with subtests.test(name):

            def forge(token: str, segment: str = segment) -> str:
                segments = parts(token)
                segments[position] = segment
                signed = ".".join(segments[:2])
                made = hostile.signer.key.sign(signed.encode(), padding.PKCS1v15(), hashes.SHA256())
                return f"{signed}.{encoded(made)}"

            hostile.replace_id_token(forge)
            if name == "empty object":
                hostile.refuses("alg" if position == 0 else "iss")
            else:
                hostile.refuses("malformed")


# --- header -----------------------------------------------------------------------------------------------

#: Members that let a token choose its key or its meaning: refused whatever they hold.
REFUSED = ("jwk", "jku", "x5u", "x5c", "crit", "b64", "zip", "enc")
#: Members that mean nothing here.
UNUSED = ("x5t", "x5t#S256", "cty", "x_unknown", "nonce", "iss", "p2c", "epk")


@pytest.mark.parametrize("name", [name for name, value in VALUES.items() if value is not ABSENT])
def test_members_of_the_header_that_mean_nothing_may_be_anything(hostile: Hostile, name: str) -> None:
    """RFC 7515 §4: what is not understood is ignored, unless ``crit`` says otherwise."""
    value = VALUES[name][:100] if isinstance(VALUES[name], str) else VALUES[name]
    hostile.change_claims(dict.fromkeys(UNUSED, value))

    hostile.accepts()


@pytest.mark.parametrize("member", [*REFUSED, "typ", "alg"])
def test_a_member_of_the_header_that_means_something_is_right_or_refused(
    hostile: Hostile, member: str, subtests: pytest.Subtests
) -> None:
    """Signed by the right key, so that only the header speaks against it."""
    hostile.accepts()
    for name, value in VALUES.items():
        if value is ABSENT or (value is None and member not in {"typ", "alg"}):
            continue
        with subtests.test(name):
            hostile.change_claims({member: value})  # None takes it away
            if isinstance(value, str) and len(value) > 10_000:
                hostile.refuses("id_token")
            elif member in REFUSED:
                hostile.refuses("header")
            elif member == "typ" and value is None:
                hostile.accepts()
            else:
                hostile.refuses(member)


@pytest.mark.parametrize("typ", ["JWT", "jwt", "jWt"])
def test_the_type_of_an_id_token_may_be_written_in_any_case(hostile: Hostile, typ: str) -> None:
    """RFC 7519 §5.1."""
    hostile.change_claims({"typ": typ})

    hostile.accepts()


@pytest.mark.parametrize(
    "typ",
    ["at+jwt", "application/at+jwt", "logout+jwt", "secevent+jwt", "dpop+jwt", "JOSE", "JWT ", "J\u0057T+"],
)
def test_a_token_for_another_purpose_is_no_id_token(hostile: Hostile, typ: str) -> None:
    """RFC 8725 §3.11: what the same key signed for somebody else's use."""
    hostile.accepts()
    hostile.change_claims({"typ": typ})

    hostile.refuses("typ")


# --- algorithm --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "alg",
    [
        *("none", "None", "NONE", "nOnE", "", "RS256 ", "rs256", "RS384", "RS512", "PS256", "ES256"),
        *("ES256K", "EdDSA", "HS256", "HS384", "HS512", "RS1", "dir", "RSA1_5", "RSA-OAEP", "ML-DSA-44"),
    ],
)
def test_no_algorithm_but_rs256_is_ever_used(hostile: Hostile, alg: str) -> None:
    """With the honest signature left in place, and with none: the token's word is not taken."""
    hostile.accepts()
    hostile.change_claims({"alg": alg})
    hostile.refuses("alg")
    hostile.replace_id_token(lambda token: unsigned({"alg": alg, "typ": "JWT"}, claims_of(token)) + ".")
    hostile.refuses("malformed")


def secrets_of(hostile: Hostile, client_secret: str) -> dict[str, bytes]:
    """Give what an attacker may take for the secret of HS256: everything about the key is public."""
    key = hostile.signer.key.public_key()
    jwk = hostile.spatio._provider.keys.public_jwks()["keys"][0]
    modulus = key.public_numbers().n
    pem = key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    return {
        "pem": pem,
        "pem without its last line break": pem.rstrip(),
        "pkcs1 pem": key.public_bytes(Encoding.PEM, PublicFormat.PKCS1),
        "der": key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo),
        "pkcs1 der": key.public_bytes(Encoding.DER, PublicFormat.PKCS1),
        "modulus": modulus.to_bytes(256, "big"),
        "modulus as text": jwk["n"].encode(),
        "modulus in decimal": str(modulus).encode(),
        "jwk": json.dumps(jwk).encode(),
        "jwk, compact": json.dumps(jwk, separators=(",", ":")).encode(),
        "kid": jwk["kid"].encode(),
        "client secret": client_secret.encode(),
        "nothing": b"",
    }


def test_what_is_public_is_no_shared_secret(
    hostile: Hostile, client_information: dict[str, Any], subtests: pytest.Subtests
) -> None:
    """HS256 with the public key as its secret, or with the client's, under either name of an algorithm."""
    hostile.accepts()
    for name, secret in secrets_of(hostile, client_information["client_secret"]).items():
        for alg, code in (("HS256", "alg"), ("RS256", "signature")):
            with subtests.test(name, alg=alg):

                def forge(token: str, alg: str = alg, secret: bytes = secret) -> str:
                    header = {"alg": alg, "typ": "JWT", "kid": hostile.signer.kid}
                    signed = unsigned(header, claims_of(token))
                    return f"{signed}.{encoded(hmac.digest(secret, signed.encode(), hashlib.sha256))}"

                hostile.replace_id_token(forge)
                hostile.refuses(code)


@pytest.mark.parametrize("alg", ["RS384", "RS512", "PS256", "PS384"])
@pytest.mark.parametrize("claimed", ["itself", "RS256"])
def test_another_signature_of_the_right_key_does_not_hold(hostile: Hostile, alg: str, claimed: str) -> None:
    """The provider's own key, with another hash or padding."""
    hostile.accepts()
    bits = {"256": hashes.SHA256(), "384": hashes.SHA384(), "512": hashes.SHA512()}[alg[2:]]
    scheme: Any = (
        padding.PKCS1v15() if alg[0] == "R" else padding.PSS(padding.MGF1(bits), padding.PSS.DIGEST_LENGTH)
    )

    def forge(token: str) -> str:
        header = {"alg": alg if claimed == "itself" else "RS256", "kid": hostile.signer.kid}
        signed = unsigned(header, claims_of(token))
        return f"{signed}.{encoded(hostile.signer.key.sign(signed.encode(), scheme, bits))}"

    hostile.replace_id_token(forge)

    hostile.refuses("alg" if claimed == "itself" else "signature")


@pytest.mark.parametrize("alg", ["ES256", "EdDSA"])
def test_a_published_key_of_another_kind_signs_nobody_in(hostile: Hostile, alg: str) -> None:
    """It is in the provider's key set, and its signature is in order: it is just not RS256."""
    key: Any = ECKey.generate_key("P-256") if alg == "ES256" else OKPKey.generate_key("Ed25519")
    other = public(key, kid="other", use="sig")
    hostile.answer_document("/.well-known/jwks.json", lambda document: {"keys": [*document["keys"], other]})
    hostile.accepts()
    hostile.replace_id_token(lambda token: sign(claims_of(token), key, alg=alg, kid="other"))

    hostile.refuses("alg")


@pytest.mark.parametrize(
    "signature", ["empty bytes", "zeros", "one bit", "short", "long", "of another token", "n"]
)
def test_a_signature_that_is_none_does_not_hold(hostile: Hostile, signature: str) -> None:
    """Blank, broken, too short or too long, the modulus itself, or honestly made for something else."""
    hostile.accepts()
    modulus = hostile.signer.key.public_key().public_numbers().n

    def forge(token: str) -> str:
        signed, _, honest = token.rpartition(".")
        raw = base64.urlsafe_b64decode(honest + "==")
        other = hostile.signer.sign({"x": 1}).rpartition(".")[2]
        bad = {
            "empty bytes": b"\0",
            "zeros": b"\0" * 256,
            "one bit": raw[:100] + bytes([raw[100] ^ 1]) + raw[101:],
            "short": raw[:-1],
            "long": raw + b"\0",
            "of another token": base64.urlsafe_b64decode(other + "=="),
            "n": modulus.to_bytes(256, "big"),
        }[signature]
        return f"{signed}.{encoded(bad)}"

    hostile.replace_id_token(forge)

    hostile.refuses("signature")


# --- claims -----------------------------------------------------------------------------------------------

#: Claims that are judged, and what they are refused as where that is another code than their name.
JUDGED = ("iss", "sub", "aud", "exp", "iat", "nonce")
IF_THERE = ("azp", "nbf", "at_hash", "auth_time")
#: Claims that this site does not use.
IGNORED = (
    "acr",
    "amr",
    "sid",
    "jti",
    "c_hash",
    "s_hash",
    "scope",
    "groups",
    "is_superuser",
    "is_staff",
    "id",
)


def is_time(value: Any) -> bool:
    """Tell whether *value* is a point of time after 1970 and before the year 10000."""
    return type(value) in {int, float} and 0 <= value <= 253_402_300_799


@pytest.mark.parametrize("claim", [*JUDGED, *IF_THERE])
def test_a_claim_that_is_not_what_it_should_be_is_named(
    hostile: Hostile, claim: str, subtests: pytest.Subtests
) -> None:
    """Each claim with a value of each type; where the type is right, the value is another."""
    hostile.accepts()
    for name, value in VALUES.items():
        with subtests.test(name):
            hostile.change_claims(**{claim: value})
            if isinstance(value, str) and len(value) > 10_000:
                hostile.refuses("id_token")
            elif claim in IF_THERE and value is ABSENT:
                hostile.accepts()
            elif claim in {"nbf", "auth_time", "iat"} and is_time(value):
                hostile.accepts()  # long ago
            elif claim == "sub" and isinstance(value, str) and value.strip() and value.isprintable():
                hostile.refuses("userinfo_sub")  # somebody, but not whom userinfo is about
            elif claim == "sub" and value == " ":
                hostile.refuses("userinfo_sub")
            else:
                hostile.refuses(claim)


NOW = time.time()
LIES: list[tuple[str, Any, str]] = [
    ("iss", lambda iss: iss + "/", "iss"),
    ("iss", lambda iss: iss.upper(), "iss"),
    ("iss", lambda iss: [iss], "iss"),
    ("iss", lambda iss: {"iss": iss}, "iss"),
    ("iss", lambda iss: f" {iss}", "iss"),
    ("iss", lambda iss: iss.replace("127.0.0.1", "localhost"), "iss"),
    ("iss", "https://evil.example", "iss"),
    ("sub", lambda sub: [sub], "sub"),
    ("sub", lambda sub: {"sub": sub}, "sub"),
    ("sub", lambda sub: sub + "\n", "sub"),
    ("sub", lambda sub: sub + "\x7f", "sub"),
    ("sub", lambda sub: sub + "\x85", "sub"),
    ("sub", lambda sub: sub + "\0", "malformed"),
    ("sub", lambda sub: sub + "\ud800", "malformed"),
    ("sub", "x" * 256, "sub"),
    ("sub", "雪" * 256, "sub"),
    ("sub", lambda sub: sub.upper(), "userinfo_sub"),
    ("sub", lambda sub: sub + " ", "userinfo_sub"),
    ("sub", lambda sub: sub + "\u200b", "userinfo_sub"),
    ("aud", lambda aud: [aud, "another"], "aud"),
    ("aud", lambda aud: ["another", aud], "aud"),
    ("aud", lambda aud: [aud, None], "aud"),
    ("aud", lambda aud: [aud, [aud]], "aud"),
    ("aud", lambda aud: [[aud]], "aud"),
    ("aud", lambda aud: {aud: True}, "aud"),
    ("aud", lambda aud: f"{aud} another", "aud"),
    ("aud", lambda aud: f"{aud},another", "aud"),
    ("aud", lambda aud: aud + "1", "aud"),
    ("aud", lambda aud: aud[:-1], "aud"),
    ("aud", lambda aud: aud.swapcase(), "aud"),
    ("azp", "another", "azp"),
    ("exp", 0, "exp"),
    ("exp", lambda exp: str(exp), "exp"),
    ("exp", lambda exp: exp * 1000, "exp"),  # milliseconds: the year 50000 and later
    ("exp", lambda exp: [exp], "exp"),
    ("exp", lambda exp: float(exp) * 1e290, "exp"),
    ("exp", lambda _: int(NOW) - 61, "exp"),
    ("exp", lambda _: -1, "exp"),
    ("iat", lambda iat: str(iat), "iat"),
    ("iat", lambda iat: iat + 120, "iat"),
    ("iat", lambda iat: iat * 1000, "iat"),
    ("nbf", lambda _: int(time.time()) + 120, "nbf"),
    ("nbf", lambda _: 253_402_300_799, "nbf"),
    ("auth_time", lambda now: now + 120, "auth_time"),
    ("nonce", lambda nonce: nonce + "x", "nonce"),
    ("nonce", lambda nonce: nonce[:-1], "nonce"),
    ("nonce", lambda nonce: nonce.swapcase(), "nonce"),
    ("nonce", lambda nonce: [nonce], "nonce"),
    ("nonce", lambda nonce: hashlib.sha256(nonce.encode()).hexdigest(), "nonce"),
    ("at_hash", lambda digest: digest + "=", "at_hash"),
    ("at_hash", lambda digest: digest + "==", "at_hash"),
    ("at_hash", lambda digest: digest[:-1], "at_hash"),
    ("at_hash", lambda digest: digest.swapcase(), "at_hash"),
    ("at_hash", lambda _: encoded(hashlib.sha256(b"another").digest()[:16]), "at_hash"),
    ("at_hash", lambda digest: [digest], "at_hash"),
]


def test_a_claim_that_is_almost_right_is_named(hostile: Hostile, subtests: pytest.Subtests) -> None:
    """Character by character, second by second."""
    hostile.accepts()
    for number, (claim, change, code) in enumerate(LIES):
        with subtests.test(f"{number} {claim}"):
            hostile.change_claims(**{claim: change})
            hostile.refuses(code)


def test_an_access_token_that_the_id_token_does_not_vouch_for_is_refused(hostile: Hostile) -> None:
    """Two answers mixed: the token of another sign-in beside this one's ID token (Core §3.1.3.8)."""
    hostile.accepts()
    hostile.change_members(TOKEN, access_token="tok_of_somebody_else")

    hostile.refuses("at_hash")


def test_an_id_token_of_another_sign_in_is_refused(hostile: Hostile) -> None:
    """Replayed as it was, with its own access token beside it: the nonce is another's."""
    kept: list[bytes] = []

    def remember(body: bytes) -> bytes:
        kept.append(body)
        return kept[0]

    hostile.answer_bytes(TOKEN, remember)
    hostile.accepts()

    hostile.refuses("nonce")


def test_an_id_token_for_another_site_is_refused(hostile: Hostile) -> None:
    """The provider signed it, for somebody else, who could sign in here as that person with it."""
    hostile.accepts()
    other = hostile.spatio.register(["http://elsewhere.example/callback"])
    hostile.change_claims(aud=other["client_id"], azp=other["client_id"])

    hostile.refuses("aud")


@pytest.mark.parametrize("name", [name for name, value in VALUES.items() if value is not ABSENT])
def test_claims_that_are_not_used_may_be_anything(hostile: Hostile, name: str) -> None:
    """And make nobody staff."""
    value = VALUES[name]
    if isinstance(value, str) and len(value) > 1000:
        value = value[:500]
    hostile.change_claims(**dict.fromkeys(IGNORED, value))

    hostile.accepts()


@pytest.mark.parametrize("kind", ["access token", "logout token", "userinfo", "registration"])
def test_a_jwt_that_the_provider_made_for_something_else_is_no_id_token(hostile: Hostile, kind: str) -> None:
    """Cross-JWT confusion: the right key and issuer, and another purpose (RFC 8725 §3.12)."""
    hostile.accepts()
    events: dict[str, Any] = {"http://schemas.openid.net/event/backchannel-logout": {}}
    changes: dict[str, tuple[dict[str, Any], dict[str, Any], str]] = {
        "access token": ({"typ": "at+jwt"}, {"scope": "openid", "nonce": ABSENT}, "typ"),
        "logout token": ({"typ": "logout+jwt"}, {"events": events, "nonce": ABSENT}, "typ"),
        "userinfo": ({}, {"nonce": ABSENT, "exp": ABSENT, "iat": ABSENT}, "exp"),
        "registration": ({}, {"nonce": ABSENT, "client_name": "x"}, "nonce"),
    }
    header, claims, code = changes[kind]
    hostile.change_claims(header, **claims)

    hostile.refuses(code)


def test_a_strangers_key_signs_nobody_in_whatever_else_is_right(hostile: Hostile) -> None:
    """All claims are the honest ones."""
    stranger = Signer(kid="x")
    hostile.replace_id_token(lambda token: token)
    hostile.accepts()
    kid = hostile.signer.kid
    hostile.replace_id_token(lambda token: stranger.sign(claims_of(token), {"kid": kid}))

    hostile.refuses("signature")
