"""Any ID token, any key set: what holds here holds for a library that shares no code with this one."""

import base64
import hashlib
import json
import time
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import rsa
from hypothesis import example, given
from hypothesis import strategies as st

from spatio_django.exceptions import InvalidToken, ProtocolViolation
from spatio_django.oidc import jose
from spatio_django.oidc.id_token import LEEWAY, check_id_token
from spatio_django.oidc.jwks import MAX_BITS, MIN_BITS, KeySet
from spatio_django.oidc.secret import Secret
from tests.oidc.support import CLAIMS, CLIENT_ID, ISSUER, b64, number
from tests.properties.support import (
    RAW_TEXT,
    TEXT,
    always,
    as_bytes,
    changed,
    each,
    is_plain,
    json_values,
    judged,
    mutated,
    signer,
)

TOKEN = signer().sign(CLAIMS)
HEADER = {"alg": "RS256", "kid": "first", "typ": "JWT"}
KEYS = KeySet.from_document({"keys": [signer().jwk(), signer("second").jwk()]})
CODES = frozenset({"malformed", "header", "alg", "typ", "kid", "signature"})


def independent(token: str) -> Any:
    """Read the claims of *token* with another library, which raises unless the provider's key signed it."""
    payload = jwt.PyJWS().decode(token, signer().key.public_key(), algorithms=["RS256"])
    return json.loads(payload)


def verified(token: str, keys: KeySet = KEYS) -> dict[str, Any] | InvalidToken:
    """Verify *token*; its error is one of those of signatures."""
    result = judged(lambda: jose.verify(Secret(token), keys))
    if isinstance(result, dict):
        return result
    assert isinstance(result, InvalidToken)
    assert result.code in CODES
    return result


# Signatures


def test_any_character_of_a_token_counts() -> None:
    """Each one, replaced by its neighbours in the alphabet and by what lenient decoders skip or map."""
    assert verified(TOKEN) == CLAIMS

    for position, old in enumerate(TOKEN):
        for new in {chr(ord(old) ^ 1), "A", "_", ".", "=", "\n", ""} - {old}:
            assert isinstance(verified(TOKEN[:position] + new + TOKEN[position + 1 :]), InvalidToken)


@given(st.integers(0, len(TOKEN)), st.integers(0, 3), RAW_TEXT)
def test_any_other_text_than_the_one_that_was_signed_is_refused(position: int, cut: int, put: str) -> None:
    """There is one token per signature: no second spelling passes as another one."""
    text = TOKEN[:position] + put + TOKEN[position + cut :]

    assert verified(text) == CLAIMS if text == TOKEN else isinstance(verified(text), InvalidToken)


SEGMENTS = (
    mutated(as_bytes(HEADER)).map(b64)
    | mutated(as_bytes(CLAIMS)).map(b64)
    | st.sampled_from([*TOKEN.split("."), *signer("second").sign(CLAIMS).split("."), "", "e30"])
    | st.text(alphabet="AQab-_=+/ {}", max_size=12)
)


@given(st.lists(SEGMENTS, min_size=1, max_size=6).map(".".join) | RAW_TEXT)
@example("eyJhbGciOiJSUzI1NiJ9.e30.AAAA")
def test_any_segments_give_genuine_claims_or_an_error(text: str) -> None:
    """Put together from parts of good tokens and of bad ones."""
    result = verified(text)

    assert isinstance(result, InvalidToken) or result == CLAIMS


OFF = {
    "alg": ("none", "rs256", "HS256", "RS384", "RS512", "PS256", "ES256", "", None, 5, ["RS256"]),
    "typ": ("jwt", "JWT ", "at+jwt", "logout+jwt", None, 5),
    "kid": ("second", "third", "", "FIRST", None, 5, ["first"]),
    "crit": (["exp"], [], None),
    "jwk": (signer("second").jwk(), None),
    **dict.fromkeys(("jku", "x5u", "x5c", "zip", "b64", "enc"), ("https://evil.example/keys", None)),
}
HEADERS = changed(HEADER, wrong=OFF, names=("x5t",))


@given(
    HEADERS.map(as_bytes) | mutated(as_bytes(HEADER)), json_values().map(as_bytes) | mutated(as_bytes(CLAIMS))
)
@always((as_bytes(header), as_bytes(CLAIMS)) for header in each(HEADER, OFF))
def test_whatever_the_provider_signs_is_read_as_others_read_it(header: bytes, payload: bytes) -> None:
    """Signed with the right key, over a header or claims that are off: refused, or the same claims."""
    token = signer().sign(payload, header)
    result = verified(token)

    if not isinstance(result, dict):
        assert (header, payload) != (as_bytes(HEADER), as_bytes(CLAIMS))
    else:
        assert result == independent(token)
        read = json.loads(header)
        assert read["alg"] == "RS256"
        assert str(read.get("typ", "JWT")).upper() == "JWT"
        assert read.get("kid") == "first"
        assert {*OFF}.intersection(read) <= {"alg", "typ", "kid"}


@given(
    st.dictionaries(TEXT, json_values(), max_size=4),
    st.sampled_from(["JWT", "jwt", None]),
    st.sampled_from(["first", None]),
    st.booleans(),
)
def test_whatever_an_honest_provider_signs_is_accepted(
    claims: dict[str, Any], kind: str | None, kid: str | None, is_ascii: bool
) -> None:
    """Claims of any kind, in any alphabet, with the header members that may be missing."""
    payload = json.dumps(claims, ensure_ascii=is_ascii).encode()
    token = signer().sign(payload, {"typ": kind, "kid": kid})
    only = KeySet.from_document({"keys": [signer().jwk()]})

    if is_plain(claims):
        assert verified(token, only) == independent(token) == claims
    else:
        assert isinstance(verified(token, only), InvalidToken)


@given(json_values().map(as_bytes) | mutated(as_bytes(CLAIMS)), HEADERS.map(as_bytes))
@always((as_bytes(CLAIMS), as_bytes(header)) for header in each(HEADER, OFF))
def test_whatever_somebody_else_signs_is_refused(payload: bytes, header: bytes) -> None:
    """With a key of their own, whatever the header says of it."""
    keys = KeySet.from_document({"keys": [signer().jwk()]})

    assert isinstance(verified(signer("third").sign(payload, header), keys), InvalidToken)


# Keys

JWK = signer().jwk()
NUMBERS = (number(3), number(1), number(65536), number(2**64 - 1), number(2**64 + 1), "AQAB==", "AAEAAQ")
WRONG_KEYS = {
    "kty": ("EC", "oct", "rsa", None, 5),
    "use": ("enc", None, 5),
    "alg": ("RS512", "none", None, 5),
    "key_ops": (["sign"], [], ["verify"], ["verify", 5], "verify", None),
    "kid": ("second", "", None, 5),
    "n": (signer("second").jwk()["n"], *NUMBERS, "", None, 5),
    "e": (*NUMBERS, "", None, 5),
    "d": ("AQAB", None),
    "oth": ([],),
}
NEAR_KEYS = changed(JWK, wrong=WRONG_KEYS)
JWKS = st.lists(
    NEAR_KEYS | NEAR_KEYS | st.sampled_from([signer("second").jwk(), JWK]) | json_values(),
    max_size=6,
)


@given(JWKS.map(lambda keys: {"keys": keys}) | changed({"keys": []}))
@always(({"keys": [key, signer("second").jwk()]},) for key in each(JWK, WRONG_KEYS))
def test_any_key_set_has_fit_keys_or_is_refused(document: dict[str, Any]) -> None:
    """Every key that is kept verifies RS256 in the eyes of the library that does the arithmetic."""
    result = judged(lambda: KeySet.from_document(document))

    if not isinstance(result, KeySet):
        assert JWK not in (document["keys"] if isinstance(document.get("keys"), list) else [])
        assert isinstance(result, ProtocolViolation)
        assert result.code == "jwks"
        return
    assert 1 <= len(result.keys) <= len(document["keys"])
    for key in result.keys:
        n, e = (int.from_bytes(base64.urlsafe_b64decode(text + "==")) for text in (key.n, key.e))
        assert MIN_BITS <= n.bit_length() <= MAX_BITS
        assert e % 2 == 1
        assert n % 2 == 0 or rsa.RSAPublicNumbers(e, n).public_key().key_size == n.bit_length()
        listed = [jwk for jwk in document["keys"] if isinstance(jwk, dict) and jwk.get("n") == key.n]
        assert any(jwk.get("kid") == key.kid and "d" not in jwk for jwk in listed)


@given(JWKS, st.sampled_from([TOKEN, signer().sign(CLAIMS, {"kid": None})]))
@always(([key], TOKEN) for key in each(JWK, WRONG_KEYS))
def test_no_key_set_lets_another_keys_signature_hold(keys: list[Any], token: str) -> None:
    """The token holds only if the key that made it is in the set."""
    result = judged(lambda: jose.verify(Secret(token), KeySet.from_document({"keys": keys})))

    if isinstance(result, dict):
        assert result == CLAIMS
        assert any(isinstance(jwk, dict) and jwk.get("n") == JWK["n"] for jwk in keys)
    else:
        assert keys != [JWK]
        assert isinstance(result, ProtocolViolation)
        assert result.code in {"jwks", "kid", "signature"}


# Claims

AROUND_NOW = (-1e9, -86_400.0, -75.0, -45.0, 0.0, 45.0, 75.0, 86_400.0, 1e12)
CLAIM_NAMES = ("iss", "sub", "aud", "azp", "exp", "iat", "nbf", "nonce", "auth_time", "at_hash")
ACCESS_TOKEN = "tok_0123456789"
AT_HASH = b64(hashlib.sha256(ACCESS_TOKEN.encode()).digest()[:16])
WRONG_CLAIMS: dict[str, tuple[Any, ...]] = {
    "iss": (ISSUER + "/", ISSUER.upper(), [ISSUER], None),
    "sub": ("", " ", "x" * 255, "x" * 256, "\n", "\u96ea", 5, None),
    "aud": (
        [CLIENT_ID],
        [CLIENT_ID] * 2,
        [CLIENT_ID, "other"],
        ["other", CLIENT_ID],
        [],
        ["other"],
        "CLIENT",
        None,
    ),
    "azp": (CLIENT_ID, "other", "", None),
    "nonce": ("another", "", None, 5),
    "at_hash": (AT_HASH, AT_HASH[:-1], "", None),
    **dict.fromkeys(("exp", "iat", "nbf", "auth_time"), (True, "1", 1e300, -1, None)),
}


TIMELESS = {name: value for name, value in CLAIMS.items() if name not in {"iat", "exp"}}
TIMES = {"iat": -10.0, "exp": 3600.0}
TIME_NAMES = ("exp", "iat", "nbf", "auth_time")
DISTANCES = st.sampled_from(AROUND_NOW) | st.sampled_from(AROUND_NOW).map(lambda seconds: seconds + 0.5)


@given(
    changed(TIMELESS, wrong=WRONG_CLAIMS, names=CLAIM_NAMES),
    st.dictionaries(st.sampled_from(TIME_NAMES), DISTANCES, max_size=4).map(lambda times: TIMES | times),
    st.none() | st.integers(0, 10**6),
)
@always((claims, TIMES, None) for claims in each(TIMELESS, WRONG_CLAIMS))
@always((TIMELESS, {name: TIMES[name]}, None) for name in TIMES)
@always(
    (TIMELESS, TIMES | {name: seconds}, max_age)
    for name in TIME_NAMES
    for seconds in AROUND_NOW
    for max_age in (None, 0)
)
def test_claims_that_pass_are_claims_that_others_accept(
    claims: dict[str, Any], times: dict[str, float], max_age: int | None
) -> None:
    """Any others are refused with the name of one that doesn't hold. Times are seconds from now."""
    now = int(time.time())
    moments = {
        name: now + int(seconds) if seconds.is_integer() else now + seconds for name, seconds in times.items()
    }
    is_honest = (claims, times, max_age) == (TIMELESS, TIMES, None)
    claims = moments | claims
    result = judged(
        lambda: check_id_token(
            claims,
            issuer=ISSUER,
            client_id=CLIENT_ID,
            nonce=Secret(str(CLAIMS["nonce"])),
            access_token=Secret(ACCESS_TOKEN),
            max_age=max_age,
            now=time.time(),
        )
    )

    if result is not None:
        assert not is_honest
        assert isinstance(result, InvalidToken)
        assert result.code in CLAIM_NAMES
        return
    read = jwt.decode(
        signer().sign(claims),
        signer().key.public_key(),
        algorithms=["RS256"],
        audience=CLIENT_ID,
        issuer=ISSUER,
        leeway=LEEWAY,
        options={"require": ["iss", "sub", "aud", "exp", "iat", "nonce"], "strict_aud": False},
    )
    assert read == claims
    assert read["nonce"] == CLAIMS["nonce"]
    assert {
        *([read["aud"]] if isinstance(read["aud"], str) else read["aud"]),
        read.get("azp", CLIENT_ID),
    } == {CLIENT_ID}
    assert 1 <= len(read["sub"]) <= 255
    assert read.get("at_hash", AT_HASH) == AT_HASH
    assert max_age is None or read["auth_time"] >= now - max_age - LEEWAY
