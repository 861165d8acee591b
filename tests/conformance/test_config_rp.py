"""The plan "Config RP", metadata and keys over time: modules 15 to 19 of the table in docs/conformance.md."""

import pytest
from django.core.management import CommandError

from tests.conformance import op as at
from tests.conformance.conftest import KEYS, METADATA, TOKEN, USERINFO, Suite


def test_oidcc_client_test_discovery_openid_config(suite: Suite) -> None:
    """Every endpoint is somewhere else than at Spatio: the site goes where the metadata say."""
    suite.accepts(TOKEN, KEYS, USERINFO)
    moves = {
        path: f"/elsewhere{path}" for path in (at.AUTHORIZE, at.TOKEN, at.KEYS, at.USERINFO, at.REGISTER)
    }
    suite.move(moves)
    suite.new_process()
    suite.register_again()
    suite.new_process()

    suite.accepts(
        METADATA, f"POST /elsewhere{at.TOKEN}", f"GET /elsewhere{at.KEYS}", f"GET /elsewhere{at.USERINFO}"
    )

    assert len(suite.observer.requests(f"GET /elsewhere{at.AUTHORIZE}")) == 1
    assert len(suite.observer.requests(f"POST /elsewhere{at.REGISTER}")) == 1


def test_oidcc_client_test_discovery_jwks_uri_keys(suite: Suite) -> None:
    """``jwks_uri`` is another one each time: the keys come from where the metadata of the day say."""
    for path in ("/keys/1", "/keys/two.json", "/.well-known/3"):
        suite.move({at.KEYS: path})
        suite.new_process()

        suite.accepts(METADATA, TOKEN, f"GET {path}", USERINFO)


def test_oidcc_client_test_discovery_issuer_mismatch(suite: Suite) -> None:
    """
    The metadata are another issuer's: the site stops before it sends anybody anywhere.

    It says so to whoever clicks, and to the operator who registers.
    """
    suite.accepts(TOKEN, KEYS, USERINFO)
    suite.op.json(at.METADATA, issuer=suite.spatio.issuer + "INVALID")

    suite.refuses_to_begin("issuer_mismatch", METADATA)
    suite.new_process()
    with pytest.raises(CommandError, match=r"\[issuer_mismatch\]"):
        suite.register_again()
    assert suite.observer.calls() == [METADATA]


@pytest.mark.parametrize("old_keys", ["stay", "go"])
def test_oidcc_client_test_signing_key_rotation_just_before_signing(suite: Suite, old_keys: str) -> None:
    """The provider makes a new key, and signs with it at once: the key set is fetched anew, and it holds."""
    suite.accepts(TOKEN, KEYS, USERINFO)
    if old_keys == "go":
        suite.publish_only_the_newest()
    suite.op.before[at.TOKEN] = suite.spatio.rotate_keys

    suite.accepts(TOKEN, KEYS, USERINFO)


def test_oidcc_client_test_signing_key_rotation(suite: Suite) -> None:
    """
    The provider rotates its keys between two sign-ins: both hold, with a second look at the key set.

    A third key within the minute has to wait: tokens with unknown keys must not become fetches, or whoever
    makes them makes the site hammer its provider.
    """
    suite.accepts(TOKEN, KEYS, USERINFO)
    suite.spatio.rotate_keys()
    suite.accepts(TOKEN, KEYS, USERINFO)
    suite.accepts(TOKEN, USERINFO)
    suite.spatio.rotate_keys()

    suite.refuses("kid", TOKEN)
