"""The key set: keys that can't, must not or did not sign, and keys that come and go."""

import base64
import json
from collections.abc import Callable
from functools import cache, partial
from typing import Any

import pytest
from joserfc.jwk import ECKey, Key, OctKey, OKPKey

from tests.conformance.forging import public
from tests.hostile.conftest import KEYS, TOKEN, Hostile, changed, claims_of
from tests.hostile.values import ABSENT, VALUES, is_nothing
from tests.oidc.support import Signer, number

JWK = dict[str, Any]


@cache
def key(kind: str, size: Any) -> Key:
    """Make a key, once: that takes time."""
    makers: dict[str, Callable[[Any], Key]] = {
        "EC": ECKey.generate_key,
        "OKP": OKPKey.generate_key,
        "oct": OctKey.generate_key,
    }
    return makers[kind](size)


@cache
def stranger(number: int = 0, bits: int = 2048) -> Signer:
    """Make an RSA key that is not the provider's."""
    return Signer(kid=f"stranger {number}", bits=bits)


def small_numbers(bits: int) -> str:
    """Give a modulus of so many bits. No library makes keys of 512 bits any more; nobody has to sign here."""
    return number((1 << bits) - 1)


#: What becomes of the provider's own key: each makes it one that verifies no RS256.
UNUSABLE: dict[str, Callable[[JWK], object]] = {
    "512 bits": lambda jwk: jwk | {"n": small_numbers(512)},
    "1024 bits": lambda jwk: jwk | stranger(bits=1024).jwk(kid=jwk["kid"]),
    "2047 bits": lambda jwk: jwk | {"n": small_numbers(2047)},
    "16385 bits": lambda jwk: jwk | {"n": small_numbers(16_385)},
    "a quarter of a million bits": lambda jwk: jwk | {"n": "A" * 40_000},
    "exponent 1": lambda jwk: jwk | {"e": number(1)},
    "even exponent": lambda jwk: jwk | {"e": number(65536)},
    "exponent 0": lambda jwk: jwk | {"e": number(0)},
    "huge exponent": lambda jwk: jwk | {"e": number(2**65 + 1)},
    "n and e exchanged": lambda jwk: jwk | {"n": jwk["e"], "e": jwk["n"]},
    "n with padding": lambda jwk: jwk | {"n": jwk["n"] + "="},
    "n in the other alphabet": lambda jwk: jwk | {"n": "+" + jwk["n"][1:]},
    "n in hexadecimal": lambda jwk: jwk | {"n": "0x" + "f" * 512},
    "a symmetric key": lambda jwk: key("oct", 256).as_dict() | {"kid": jwk["kid"]},
    "oct with our modulus": lambda jwk: {"kty": "oct", "k": jwk["n"], "kid": jwk["kid"]},
    "P-256": lambda jwk: public(key("EC", "P-256")) | {"kid": jwk["kid"]},
    "P-521": lambda jwk: public(key("EC", "P-521")) | {"kid": jwk["kid"]},
    "secp256k1": lambda jwk: public(key("EC", "secp256k1")) | {"kid": jwk["kid"]},
    "Ed25519": lambda jwk: public(key("OKP", "Ed25519")) | {"kid": jwk["kid"]},
    "X25519": lambda jwk: public(key("OKP", "X25519")) | {"kid": jwk["kid"]},
    "unknown kind": lambda jwk: jwk | {"kty": "AKP"},
    "kind in small letters": lambda jwk: jwk | {"kty": "rsa"},
    "for encryption": lambda jwk: jwk | {"use": "enc"},
    "for something": lambda jwk: jwk | {"use": "tls"},
    "for RS384": lambda jwk: jwk | {"alg": "RS384"},
    "for PS256": lambda jwk: jwk | {"alg": "PS256"},
    "for HS256": lambda jwk: jwk | {"alg": "HS256"},
    "for none": lambda jwk: jwk | {"alg": "none"},
    "for encryption by alg": lambda jwk: jwk | {"alg": "RSA-OAEP"},
    "alg in small letters": lambda jwk: jwk | {"alg": "rs256"},
    "not to verify with": lambda jwk: jwk | {"key_ops": ["encrypt", "wrapKey"]},
    "to sign with": lambda jwk: jwk | {"key_ops": ["sign"]},
    "for nothing": lambda jwk: jwk | {"key_ops": []},
    **{
        f"with its private {name}": partial(dict, **{name: "AQAB"})
        for name in ("d", "p", "q", "dp", "dq", "qi", "oth")
    },
    "in a list": lambda jwk: [jwk],
    "as text": json.dumps,
    "as a certificate": lambda jwk: {"kty": "RSA", "kid": jwk["kid"], "x5c": ["MIIB"]},
    "by reference": lambda jwk: {"kty": "RSA", "kid": jwk["kid"], "x5u": "https://evil.example"},
}


def judged(member: str, value: Any) -> bool:
    """Tell whether the provider's key is still usable with that *value* of a *member*."""
    return {
        "kty": False,
        "n": False,
        "e": False,
        "use": value is ABSENT,
        "alg": value is ABSENT,
        "key_ops": value is ABSENT,
        "kid": is_nothing(value) or isinstance(value, str),
    }[member]


@pytest.mark.parametrize("name", UNUSABLE)
def test_a_key_that_can_not_verify_is_passed_over(hostile: Hostile, name: str) -> None:
    """Alone it is no key set; beside the right one, before or after it, it does no harm."""
    change = UNUSABLE[name]

    def lies(*positions: int) -> None:
        def keys(document: JWK) -> JWK:
            (*_, ours) = document["keys"][:1]
            entries = [ours, change(ours)]
            return {"keys": [entries[position] for position in positions]}

        hostile.answer_document(KEYS, keys)

    for positions in ((0,), (0, 1), (1, 0), (1, 1, 0, 1)):
        lies(*positions)
        hostile.new_process()
        hostile.accepts()
    lies(1)
    hostile.refuses("jwks", endpoint=KEYS)


def only_key(**changes: Any) -> Callable[[JWK], object]:
    """Show the provider's key alone, with other members."""
    return lambda document: {"keys": [changed(document["keys"][0], **changes)]}


@pytest.mark.parametrize("member", ["kty", "n", "e", "use", "alg", "key_ops", "kid"])
def test_a_member_of_a_key_has_its_type_or_the_key_is_none(
    hostile: Hostile, member: str, subtests: pytest.Subtests
) -> None:
    """A key whose meaning is unclear is passed over, however the rest of it looks."""
    hostile.accepts()
    for name, value in VALUES.items():
        with subtests.test(name):
            hostile.answer_document(KEYS, only_key(**{member: value}))
            if not judged(member, value):
                hostile.refuses("jwks", endpoint=KEYS)
            elif member == "kid":  # usable, and known under no name or another than the token's
                hostile.refuses("kid", endpoint=KEYS)
            else:
                hostile.new_process()
                hostile.accepts()


@pytest.mark.parametrize("name", VALUES)
def test_a_key_set_is_a_list_of_keys(hostile: Hostile, name: str) -> None:
    """Anything else in ``keys`` is no key set; other members don't matter."""
    hostile.change_members(KEYS, x_unknown=VALUES[name], d=VALUES[name], kty=VALUES[name])
    hostile.accepts()
    hostile.change_members(KEYS, keys=VALUES[name])

    hostile.refuses("jwks", endpoint=KEYS)


@pytest.mark.parametrize("name", [name for name, value in VALUES.items() if value is not ABSENT])
def test_an_entry_that_is_no_key_is_passed_over(hostile: Hostile, name: str) -> None:
    """The honest key beside it counts."""
    value = VALUES[name]
    hostile.answer_document(KEYS, lambda document: {"keys": [value, *document["keys"], value]})

    hostile.accepts()


def test_keys_of_other_kinds_beside_the_right_one_do_no_harm(hostile: Hostile) -> None:
    """A provider may sign other things in other ways; their ``kid`` may even be the same."""
    others = [public(key("EC", "P-256")), public(key("OKP", "Ed25519")), stranger(bits=1024).jwk()]

    def keys(document: JWK) -> JWK:
        ours = document["keys"]
        return {"keys": [*others, *({**other, "kid": ours[0]["kid"]} for other in others), *ours, *others]}

    hostile.answer_document(KEYS, keys)

    hostile.accepts()


@pytest.mark.parametrize("beside", range(6))
def test_a_kid_may_be_given_twice_but_not_without_end(hostile: Hostile, beside: int) -> None:
    """All keys of that name are tried, up to four: more of them only cost time."""
    hostile.accepts()
    others = [stranger(number).jwk() for number in range(beside)]
    hostile.answer_document(
        KEYS,
        lambda document: {
            "keys": [{**other, "kid": document["keys"][0]["kid"]} for other in others] + document["keys"][:1]
        },
    )
    if beside < 4:
        hostile.new_process()
        hostile.accepts()
    else:
        hostile.refuses("kid", endpoint=KEYS)


def test_a_key_that_is_listed_twice_is_one(hostile: Hostile) -> None:
    """The same entry again, as a merge of two lists leaves it."""
    hostile.answer_document(KEYS, lambda document: {"keys": document["keys"][:1] * 4})

    hostile.accepts()


@pytest.mark.parametrize("kid", [None, "same", "unknown", "", "another's", 7, ["x"], {"a": 1}, True])
@pytest.mark.parametrize("count", [1, 2])
def test_the_kid_of_the_token_chooses(hostile: Hostile, kid: Any, count: int) -> None:
    """Without one, the only key is meant, and of two neither (Core §10.1)."""
    hostile.accepts()
    others = [stranger().jwk(kid="another's")]
    hostile.answer_document(KEYS, lambda document: {"keys": (document["keys"][:1] + others)[:count]})
    header = {} if kid == "same" else {"kid": kid}
    hostile.change_claims(header)

    if kid == "same" or (kid is None and count == 1):
        hostile.new_process()
        hostile.accepts()
    elif kid == "another's" and count == 2:
        hostile.refuses("signature", endpoint=KEYS)
    else:
        hostile.refuses("kid", endpoint=KEYS)


def test_a_key_set_without_any_kid_serves_a_token_without_one(hostile: Hostile) -> None:
    """Both leave it out: what the one key set's one key signed."""
    hostile.answer_document(KEYS, only_key(kid=ABSENT, use=ABSENT, alg=ABSENT))
    hostile.change_claims({"kid": None})

    hostile.accepts()


def test_a_key_that_nobody_published_signs_nobody_in(hostile: Hostile) -> None:
    """Under its own name, and under the provider's."""
    hostile.accepts()
    hostile.replace_id_token(lambda token: stranger().sign(claims_of(token)))
    hostile.refuses("kid", endpoint=KEYS)
    kid = hostile.spatio.private_jwk["kid"]
    hostile.replace_id_token(lambda token: stranger().sign(claims_of(token), {"kid": kid}))
    hostile.refuses("signature", endpoint=KEYS)


# --- rotation ---------------------------------------------------------------------------------------------


def test_a_key_that_was_made_just_before_it_signed_is_fetched(hostile: Hostile) -> None:
    """The key set is asked for once more, and the person does not notice."""
    hostile.accepts()
    hostile.forget_calls()
    hostile.spatio.rotate_keys()

    hostile.accepts()

    assert len(hostile.front.calls[KEYS]) == 1
    hostile.forget_calls()
    hostile.accepts()
    assert KEYS not in hostile.front.calls


def test_a_key_that_was_replaced_under_its_own_name_is_fetched(hostile: Hostile) -> None:
    """A provider that knows one ``kid``, or none at all, rotates too."""
    hostile.answer_document(KEYS, lambda document: {"keys": [document["keys"][0] | {"kid": "one"}]})
    hostile.change_claims({"kid": "one"})
    hostile.accepts()
    hostile.spatio.rotate_keys()

    hostile.accepts()


def test_the_edge_may_serve_old_keys_for_five_minutes(hostile: Hostile) -> None:
    """Each minute one attempt for all, and when the edge has the new key, it is taken: no sign-in before."""
    hostile.accepts()
    old: list[bytes] = []

    def edge(body: bytes) -> bytes:
        old.append(body)
        return old[0]

    hostile.answer_bytes(KEYS, edge)
    hostile.new_process()
    hostile.accepts()
    hostile.spatio.rotate_keys()
    for minute in range(5):
        for attempt in range(3):
            hostile.refuses("kid")
            asked = len(hostile.front.calls.get(KEYS, ()))
            assert asked == (1 if attempt == 0 else 0), (minute, attempt)
        hostile.pass_time(61)
    hostile.lies.lies.clear()
    hostile.forget_calls()

    hostile.accepts()

    assert len(hostile.front.calls[KEYS]) == 1


def test_tokens_with_unknown_keys_are_not_turned_into_calls(hostile: Hostile) -> None:
    """Twenty different ``kid`` values ask the provider once."""
    hostile.accepts()
    for attempt in range(20):
        hostile.change_claims({"kid": f"made up {attempt}"})
        hostile.refuses("kid")
        assert len(hostile.front.calls.get(KEYS, ())) == (1 if attempt == 0 else 0)


def test_a_bad_key_set_replaces_no_good_one(hostile: Hostile) -> None:
    """While the provider is broken, people with the known key sign in; a rotated one waits for it."""
    hostile.accepts()
    hostile.answer_status(KEYS, "200 OK", b'{"keys": []}')
    hostile.change_claims({"kid": "rotated"})
    hostile.refuses("jwks")
    hostile.lies.lies.pop(TOKEN)
    hostile.accepts()
    hostile.pass_time(4000)
    hostile.accepts()


def signed_by_a_stranger(header: dict[str, Any]) -> Callable[[str], str]:
    """Sign the honest claims with a key that nobody published."""
    return lambda token: stranger().sign(claims_of(token), header)


def test_no_token_brings_its_own_key(hostile: Hostile, subtests: pytest.Subtests) -> None:
    """Whatever the header offers, the key is the provider's or none."""
    hostile.accepts()
    certificate = base64.b64encode(b"\x30\x82").decode()
    offers: dict[str, Any] = {
        "jwk": stranger().jwk(),
        "jku": f"{hostile.spatio.issuer}/.well-known/jwks.json",
        "x5u": "https://evil.example/cert.pem",
        "x5c": [certificate],
    }
    for name, offer in offers.items():
        with subtests.test(name):
            hostile.replace_id_token(signed_by_a_stranger({name: offer}))
            hostile.refuses("header", endpoint=KEYS)
