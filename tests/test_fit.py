"""Whether the registration fits the site, and the command that mends it."""

import time
from typing import Any

import pytest
from django.urls import include, path

from spatio_django import fit, registration
from spatio_django.exceptions import ConfigurationError
from spatio_django.models import SpatioClient
from tests.test_registration import NOW, URI, client

pytestmark = pytest.mark.django_db


def found(row: SpatioClient) -> list[str]:
    """Give the codes of what does not fit."""
    return [misfit.code for misfit in fit.misfits(row, now=NOW)]


@pytest.mark.parametrize(
    ("row", "changes", "codes"),
    [
        ({"redirect_uris": ["https://example.com/oidc/callback/"]}, {}, ["callback"]),
        ({"redirect_uris": [URI, "https://example.com/app/spatio/callback/"]}, {}, ["callback"]),
        ({}, {"ALLOWED_HOSTS": ["example.org"]}, ["host"]),
        ({}, {"ALLOWED_HOSTS": []}, ["host"]),
        ({}, {"ALLOWED_HOSTS": [], "DEBUG": True}, ["host"]),
        ({}, {"SPATIO_BASE_URL": "https://example.org"}, ["base_url"]),
        ({}, {"SPATIO_BASE_URL": "http://example.com"}, ["base_url"]),
        ({"redirect_uris": ["https://[broken"]}, {}, ["callback", "host"]),
        ({"redirect_uris": []}, {}, ["redirect_uris"]),
        ({"scope": "openid profile"}, {}, ["scope"]),
        ({"auth_method": "private_key_jwt"}, {}, ["auth_method"]),
        ({"client_secret": None}, {}, ["client_secret"]),
        ({"client_secret_expires_at": NOW}, {}, ["client_secret_expires_at"]),
        ({"client_secret_expires_at": NOW + 13 * 86_400}, {}, ["client_secret_expires_at"]),
    ],
)
def test_what_does_not_fit_is_named(
    settings: Any, row: dict[str, Any], changes: dict[str, Any], codes: list[str]
) -> None:
    """Each with a sentence and the fix."""
    settings.ALLOWED_HOSTS = ["example.com"]
    assert found(client()) == []
    for name, value in changes.items():
        setattr(settings, name, value)

    assert found(client(**row)) == codes
    assert all(misfit.message and misfit.hint for misfit in fit.misfits(client(**row), now=NOW))


@pytest.mark.parametrize(
    ("row", "changes"),
    [
        ({}, {"SPATIO_BASE_URL": "https://EXAMPLE.com/"}),
        ({}, {"SPATIO_BASE_URL": "https://example.com", "ALLOWED_HOSTS": ["behind.a.proxy"]}),
        ({}, {"SPATIO_SCOPES": ["profile email"]}),
        ({"redirect_uris": []}, {"SPATIO_BASE_URL": "https://example.com"}),
        ({"redirect_uris": [URI, "https://other.example/spatio/callback/"]}, {}),
        ({"scope": ""}, {}),
        ({"scope": "email openid profile read:notes"}, {}),
        ({"auth_method": "none", "client_secret": None}, {}),
        ({"client_secret_expires_at": NOW + 15 * 86_400}, {}),
        ({"redirect_uris": ["http://localhost:8000/spatio/callback/"]}, {"DEBUG": True, "ALLOWED_HOSTS": []}),
        ({"redirect_uris": ["http://[::1]:8000/spatio/callback/"]}, {"DEBUG": True, "ALLOWED_HOSTS": []}),
    ],
)
def test_what_fits_is_left_alone(settings: Any, row: dict[str, Any], changes: dict[str, Any]) -> None:
    """More than is needed is no fault, and what is not known is not guessed."""
    settings.ALLOWED_HOSTS = ["example.com"]
    for name, value in changes.items():
        setattr(settings, name, value)

    assert found(client(**row)) == []


def test_a_secret_under_a_key_that_is_gone_does_not_fit(settings: Any) -> None:
    """A copy of the database on a host with other keys."""
    row = client()
    assert found(row) == []
    settings.SECRET_KEY = "another"

    (misfit,) = fit.misfits(row, now=time.time())

    assert (misfit.code, misfit.lost) == ("undecryptable", True)


def test_a_base_url_that_is_no_origin_fits_nothing(settings: Any) -> None:
    """It is refused as it would be at the first sign-in."""
    settings.SPATIO_BASE_URL = "https://example.com"
    assert found(client()) == []
    settings.SPATIO_BASE_URL = "example.com"

    with pytest.raises(ConfigurationError) as caught:
        found(client())
    assert caught.value.code == "base_url"


COMMAND = "python manage.py spatio_register --base-url"


@pytest.mark.parametrize(
    ("row", "changes", "fix"),
    [
        ({"scope": "openid"}, {}, f"or: {COMMAND} https://example.com --force"),
        ({"scope": "openid"}, {"SPATIO_SCOPES": ["openid"]}, None),
        (
            {"scope": "openid", "redirect_uris": [URI, "http://localhost:8000/spatio/callback/"]},
            {},
            f"or: {COMMAND} https://example.com --base-url http://localhost:8000 --force",
        ),
        (
            {"scope": "openid", "registration_client_uri": "https://api.spatio.app/oauth2/register/abc"},
            {},
            f"or: {COMMAND} https://example.com --update",
        ),
        (
            {"client_secret": None, "registration_client_uri": "https://api.spatio.app/oauth2/register/abc"},
            {},
            f"{COMMAND} https://example.com --force",
        ),
        (
            {},
            {"SPATIO_BASE_URL": "https://www.example.com"},
            f"or: {COMMAND} https://example.com --base-url https://www.example.com --force",
        ),
        (
            {},
            {"ALLOWED_HOSTS": [".example.net", "*.example.net", "example.org"]},
            f"{COMMAND} https://example.com --base-url https://example.org --force",
        ),
        (
            {},
            {"ALLOWED_HOSTS": [], "DEBUG": True},
            f"{COMMAND} https://example.com --base-url http://localhost:8000 --force",
        ),
    ],
)
def test_the_fix_is_a_command_that_keeps_what_is_registered(
    settings: Any, row: dict[str, Any], changes: dict[str, Any], fix: str | None
) -> None:
    """A change where Spatio gave an address for it and that is enough, else a new registration."""
    settings.ALLOWED_HOSTS = ["example.com"]
    for name, value in changes.items():
        setattr(settings, name, value)
    stored = client(**row)
    stored.save()

    hints = [misfit.hint for misfit in fit.misfits(stored, now=NOW)]

    assert [hint[hint.find(fix or "") :] for hint in hints] == ([fix] if fix else [])


def test_the_fix_for_a_client_from_the_settings_is_made_there(settings: Any) -> None:
    """What is put into the database, the settings would win over."""
    settings.SPATIO_CLIENT_ID, settings.SPATIO_CLIENT_SECRET = "abc", "hush"
    settings.SPATIO_REDIRECT_URIS = [URI]
    row = registration.in_force()
    assert row is not None
    assert found(row) == []
    settings.ROOT_URLCONF = (path("sso/", include("spatio_django.urls")),)

    (misfit,) = fit.misfits(row, now=NOW)

    assert misfit.code == "callback"
    assert misfit.hint.endswith(f"{COMMAND} https://example.com --force --env-file .env")


def test_a_row_that_does_not_say_where_it_leads_is_believed() -> None:
    """Somebody else wrote it; there is no setting that would say more."""
    row = client(redirect_uris=[])
    row.save()
    assert found(row) == []
    row.redirect_uris = {URI: 1}

    assert found(row) == []
