"""The settings, read late."""

from typing import Any

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
    settings.SPATIO_BASE_URL = "https://example.com/"

    assert conf.SPATIO_SCOPES == ("openid", "email")
    assert conf.SPATIO_CLIENT_AUTH_METHOD == "client_secret_basic"
    assert conf.SPATIO_BASE_URL == "https://example.com"
