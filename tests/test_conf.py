"""The settings, read late."""

from typing import Any

import pytest
from django.core.exceptions import ImproperlyConfigured

from spatio_django.conf import conf


def test_defaults_need_no_setting() -> None:
    """A site that sets nothing talks to Spatio."""
    assert conf.SPATIO_ISSUER == "https://api.spatio.app"
    assert conf.SPATIO_SCOPES == ("openid", "profile", "email")
    assert conf.SPATIO_CLIENT_AUTH_METHOD == "none"
    assert conf.SPATIO_HTTP_TIMEOUT == 5.0
    assert (conf.SPATIO_CREATE_USERS, conf.SPATIO_LINK_VERIFIED_EMAIL) == (True, False)


def test_settings_are_read_when_asked(settings: Any) -> None:
    """``override_settings`` works, and ``openid`` can't be left out."""
    settings.SPATIO_SCOPES = ["email", "email"]
    settings.SPATIO_CLIENT_SECRET = "hush"
    settings.SPATIO_BASE_URL = "https://example.com"

    assert conf.SPATIO_SCOPES == ("openid", "email")
    assert conf.SPATIO_CLIENT_AUTH_METHOD == "client_secret_basic"
    assert conf.SPATIO_BASE_URL == "https://example.com"


@pytest.mark.parametrize("name", ["SPATIO_SCOPES", "SPATIO_ENCRYPTION_KEYS"])
def test_what_is_no_list_of_texts_is_refused(settings: Any, name: str) -> None:
    """A text would be taken apart into letters: one-letter keys, scopes that nobody knows."""
    setattr(settings, name, ["openid"])
    assert "openid" in getattr(conf, name)
    setattr(settings, name, "openid")

    with pytest.raises(ImproperlyConfigured, match=name) as caught:
        getattr(conf, name)
    assert "'openid'" not in str(caught.value)  # it may be a key
    for value in (None, b"openid", 5):
        setattr(settings, name, value)
        with pytest.raises(ImproperlyConfigured, match=f"{name} must be a list of texts"):
            getattr(conf, name)


def test_an_unset_environment_variable_is_no_setting(settings: Any) -> None:
    """``os.environ.get`` gives ``None``, which must not become the text "None"."""
    settings.SPATIO_BASE_URL = settings.SPATIO_CLIENT_ID = settings.SPATIO_CLIENT_SECRET = None

    assert (conf.SPATIO_BASE_URL, conf.SPATIO_CLIENT_ID, conf.SPATIO_CLIENT_SECRET) == ("", "", "")
