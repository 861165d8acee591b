"""spatio_django.oidc.keys: which keys of a document count. Rotation is in test_client."""

from typing import Any

import pytest

from spatio_django.exceptions import InvalidToken, ProtocolViolation, SpatioError
from spatio_django.oidc import keys
from spatio_django.oidc.jwks import KeySet
from spatio_django.oidc.secret import Secret
from tests.oidc.support import CLAIMS, Clock, FakeHttp, MemoryCache, Signer, documents, json_answer, number

JWKS_URI = "https://provider.example/keys"


def fetch(*jwks: dict[str, Any]) -> dict[str, Any]:
    """Fetch the document that lists *jwks*."""
    return keys.fetch_keys(JWKS_URI, http=FakeHttp({JWKS_URI: json_answer({"keys": jwks})}))


def refused(*jwks: dict[str, Any]) -> SpatioError:
    """Return the violation that this document is."""
    with pytest.raises(ProtocolViolation) as caught:
        fetch(*jwks)
    return caught.value


@pytest.mark.parametrize("exponent", [3, 17, 65537])
def test_a_key_has_an_odd_exponent(signer: Signer, exponent: int) -> None:
    """3 is small, and has been used."""
    jwk = signer.jwk(e=number(exponent))

    assert fetch(jwk) == {"keys": [jwk]}
    assert [key.e for key in KeySet.from_document({"keys": [jwk]}).keys] == [number(exponent)]


@pytest.mark.parametrize("exponent", [0, 1, 2, 4, 65536, 1 << 63])
def test_a_document_with_an_impossible_exponent_replaces_no_good_one(
    signer: Signer, other_signer: Signer, exponent: int
) -> None:
    """With 1 anybody signs; with an even one nobody does."""
    impossible = signer.jwk(e=number(exponent))
    good = other_signer.jwk()
    assert fetch(good) == {"keys": [good]}

    assert refused(impossible).code == "jwks"
    assert refused(impossible, impossible).code == "jwks"
    assert KeySet.from_document({"keys": [impossible, good]}) == KeySet.from_document({"keys": [good]})


def test_a_key_with_an_even_exponent_is_passed_over(signer: Signer, other_signer: Signer) -> None:
    """Beside a good one: it is no candidate, neither by its kid nor as the only key there is."""
    http = FakeHttp({JWKS_URI: json_answer({"keys": [signer.jwk(e=number(65536)), other_signer.jwk()]})})
    stored = documents(MemoryCache(), Clock())

    def verify(token: str) -> dict[str, Any]:
        return keys.verify(Secret(token), jwks_uri=JWKS_URI, documents=stored, http=http)

    assert verify(other_signer.sign(CLAIMS, {"kid": None})) == CLAIMS
    with pytest.raises(InvalidToken) as caught:
        verify(signer.sign(CLAIMS))
    assert caught.value.code == "kid"
