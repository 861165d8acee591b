"""The key ring, and ciphertext that opens in its own place only."""

from typing import Any

import pytest
from django.contrib.auth import get_user_model
from django.core import serializers
from django.core.exceptions import ImproperlyConfigured

from spatio_django.encryption import KeyRing, key_ring
from spatio_django.exceptions import Undecryptable
from spatio_django.models import SpatioAccount, SpatioClient, SpatioToken
from spatio_django.oidc.secret import Secret

RING = KeyRing(("first", "second"))


def test_sealing_twice_looks_different() -> None:
    """Equal tokens can't be told from the database."""
    assert RING.seal(Secret("token"), context="place") != RING.seal(Secret("token"), context="place")


def test_the_first_key_seals_and_every_key_opens() -> None:
    """Rotation: put the new key in front."""
    old = KeyRing(("second",)).seal(Secret("token"), context="place")

    assert RING.open(old, context="place") == Secret("token")
    with pytest.raises(Undecryptable):
        KeyRing(("second",)).open(RING.seal(Secret("token"), context="place"), context="place")


def test_django_keys_are_the_default_and_go_on_opening(settings: Any) -> None:
    """``SECRET_KEY``, its fallbacks, and both still open after ``SPATIO_ENCRYPTION_KEYS`` is set."""
    settings.SECRET_KEY = "one"
    sealed = key_ring().seal(Secret("token"), context="place")

    settings.SECRET_KEY, settings.SECRET_KEY_FALLBACKS = "two", ["one"]
    assert key_ring().open(sealed, context="place") == Secret("token")
    settings.SPATIO_ENCRYPTION_KEYS = ["own"]
    assert key_ring().open(sealed, context="place") == Secret("token")
    settings.SECRET_KEY_FALLBACKS = []
    with pytest.raises(Undecryptable) as caught:
        key_ring().open(sealed, context="place")
    assert caught.value.code == "undecryptable"


def test_a_ring_shows_no_key() -> None:
    """In no traceback."""
    assert repr(KeyRing(("a", "b", "a"))) == "<KeyRing of 2>"


def test_a_secret_key_in_bytes_is_the_same_key(settings: Any) -> None:
    """Django takes both, and a site that goes from one to the other loses nothing."""
    settings.SECRET_KEY, settings.SECRET_KEY_FALLBACKS = "grün", ["before"]
    sealed = key_ring().seal(Secret("token"), context="place")
    assert key_ring().open(sealed, context="place") == Secret("token")

    settings.SECRET_KEY = "grün".encode()
    assert key_ring().open(sealed, context="place") == Secret("token")
    settings.SECRET_KEY, settings.SECRET_KEY_FALLBACKS = b"another", ["grün".encode()]
    assert key_ring().open(sealed, context="place") == Secret("token")


@pytest.mark.parametrize("fallbacks", ["before", b"bytes before", None])
def test_fallbacks_that_are_no_list_are_refused(settings: Any, fallbacks: object) -> None:
    """Each letter of a text would be a key, which anybody can guess."""
    settings.SECRET_KEY_FALLBACKS = ["before"]
    sealed = key_ring().seal(Secret("token"), context="place")
    assert key_ring().open(sealed, context="place") == Secret("token")
    settings.SECRET_KEY_FALLBACKS = fallbacks

    with pytest.raises(ImproperlyConfigured, match="SECRET_KEY_FALLBACKS") as caught:
        key_ring()
    assert "before" not in str(caught.value)


@pytest.mark.parametrize("key", ["", None, 5])
def test_a_key_that_is_none_is_refused(settings: Any, key: object) -> None:
    """An environment variable that is not set must not become a key that everybody knows."""
    settings.SECRET_KEY_FALLBACKS = ["before"]
    assert repr(key_ring()) == "<KeyRing of 2>"
    settings.SECRET_KEY_FALLBACKS = [key]

    with pytest.raises(ImproperlyConfigured, match="A key is a text or bytes"):
        key_ring()


@pytest.fixture
def grant(db: None) -> SpatioToken:
    """Give a stored grant."""
    user = get_user_model().objects.create_user("ada")
    account = SpatioAccount.objects.create(user=user, issuer="https://i", sub="a")
    grant = SpatioToken(account=account, client_id="c", scope="openid")
    grant.access_token = Secret("tok_access")
    grant.save()
    return grant


def test_a_grants_tokens_are_bound_to_row_and_column(grant: SpatioToken) -> None:
    """Copied into another row or column, ciphertext does not open (confused rows, swapped columns)."""
    assert SpatioToken.objects.get().access_token == Secret("tok_access")
    assert SpatioToken.objects.get().refresh_token is None

    swapped = SpatioToken.objects.get()
    swapped.refresh_ciphertext = swapped.access_ciphertext
    with pytest.raises(Undecryptable):
        _ = swapped.refresh_token
    moved = SpatioToken(account=grant.account, access_ciphertext=grant.access_ciphertext)
    with pytest.raises(Undecryptable):
        _ = moved.access_token


def test_the_attribute_names_its_column() -> None:
    """On the class it is itself, as fields are."""
    assert SpatioToken.access_token.column == "access_ciphertext"


def test_a_dump_holds_ciphertext(grant: SpatioToken) -> None:
    """``dumpdata`` and ``repr`` show no token."""
    shown = serializers.serialize("json", [grant]) + repr(grant) + str(grant) + repr(vars(grant))

    assert "tok_access" not in shown


def test_a_clients_secret_is_bound_to_the_client(db: None) -> None:
    """Its row is named by issuer and client id."""
    row = SpatioClient(issuer="https://i", client_id="c", client_name="site")
    row.client_secret = Secret("hush")
    row.save()

    assert SpatioClient.objects.get().client_secret == Secret("hush")
    assert str(row) == "site (c)"
    row.client_id = "d"
    with pytest.raises(Undecryptable):
        _ = row.client_secret
