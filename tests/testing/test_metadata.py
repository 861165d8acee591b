"""Discovery and keys."""

from collections.abc import Callable

import pytest
from joserfc import jwt
from joserfc.jwk import KeySet, RSAKey

from spatio_django.testing import FakeSpatio
from tests.testing.relying_party import DOCUMENT, RelyingParty, conforms, fetch

PATHS = ["/.well-known/openid-configuration", "/.well-known/oauth-authorization-server"]


@pytest.mark.parametrize("path", PATHS)
def test_metadata_has_every_documented_member(spatio: FakeSpatio, path: str) -> None:
    """Both well-known paths serve one document, complete by the contract."""
    document = fetch(spatio.issuer + path).json

    conforms("DiscoveryDocument", document)
    assert set(document) == set(DOCUMENT["components"]["schemas"]["DiscoveryDocument"]["properties"])
    assert document == fetch(spatio.issuer + PATHS[0]).json
    assert document["issuer"] == spatio.issuer
    assert document["code_challenge_methods_supported"] == ["S256"]
    assert document["prompt_values_supported"] == ["none", "login", "consent"]


def test_every_endpoint_of_the_metadata_exists(spatio: FakeSpatio) -> None:
    """No endpoint is advertised that answers 404."""
    document = fetch(spatio.issuer + PATHS[0]).json
    endpoints = [url for name, url in document.items() if name.endswith(("_endpoint", "_uri"))]

    assert len(endpoints) == 7
    assert all(fetch(url).status != 404 for url in endpoints)


def test_keys_have_the_six_documented_members(spatio: FakeSpatio) -> None:
    """Only public members are published, for one RSA key of 2,048 bits."""
    document = fetch(spatio.issuer + "/.well-known/jwks.json").json

    conforms("JWKS", document)
    (key,) = document["keys"]
    assert set(key) == {"kty", "use", "alg", "kid", "n", "e"}
    assert (key["kty"], key["use"], key["alg"]) == ("RSA", "sig", "RS256")
    public = RSAKey.import_key(key).public_key
    assert public.key_size == 2048


def test_rotation_keeps_the_old_key_until_its_tokens_are_over(
    rp: RelyingParty, later: Callable[[float], None]
) -> None:
    """An ID token lives an hour; its key is published a little longer, and then not."""
    before = rp.sign_in()["id_token"]
    rp.spatio.rotate_keys()
    after = rp.sign_in()["id_token"]

    assert rp.claims(before)["sub"] == rp.claims(after)["sub"]
    keys = fetch(rp.url("/.well-known/jwks.json")).json["keys"]
    assert keys[0]["kid"] == rp.spatio.private_jwk["kid"]
    assert len(keys) == 2

    later(3600 + 301)
    rp.sign_in()
    assert [key["kid"] for key in fetch(rp.url("/.well-known/jwks.json")).json["keys"]] == [keys[0]["kid"]]


def test_sign_makes_whatever_a_test_needs(spatio: FakeSpatio) -> None:
    """Claims are signed as they are; header members can be changed, added and left out."""
    keys = KeySet.import_key_set(fetch(spatio.issuer + "/.well-known/jwks.json").json)
    plain = jwt.decode(spatio.sign({"iss": "anyone"}), keys, algorithms=["RS256"])
    odd = spatio.sign({}, kid=None, typ=None, alg="PS256", odd="yes")

    assert plain.claims == {"iss": "anyone"}
    assert plain.header == {"alg": "RS256", "typ": "JWT", "kid": spatio.private_jwk["kid"]}
    from joserfc import jws

    assert jws.extract_compact(odd.encode()).headers() == {"alg": "PS256", "odd": "yes"}
    assert RSAKey.import_key(spatio.private_jwk).is_private
