"""The registration in force, and its redirect URIs."""

import time
from typing import Any

import pytest
from django.db import transaction

from spatio_django import registration
from spatio_django.exceptions import ConfigurationError
from spatio_django.models import SpatioClient
from spatio_django.oidc.secret import Secret

pytestmark = pytest.mark.django_db

NOW = 1_800_000_000.0
URI = "https://example.com/spatio/callback/"


def client(**changes: Any) -> SpatioClient:
    """Make a registration that fits the site of the tests."""
    fields = {
        "issuer": "https://api.spatio.app",
        "client_id": "abc",
        "client_name": "Example",
        "auth_method": "client_secret_basic",
        "redirect_uris": [URI],
        "scope": "openid profile email",
    }
    secret = changes.pop("client_secret", "hush")
    row = SpatioClient(**(fields | changes))
    row.client_secret = Secret(secret) if secret else None
    return row


# In force


def test_an_issuer_is_compared_letter_by_letter(settings: Any) -> None:
    """Some databases take …/Tenant for …/tenant."""
    client(issuer="https://i.example/Tenant").save()
    settings.SPATIO_ISSUER = "https://i.example/Tenant"
    assert registration.stored() is not None
    settings.SPATIO_ISSUER = "https://i.example/tenant"

    assert registration.stored() is None


def test_settings_win_over_the_row(settings: Any) -> None:
    """For sites that keep secrets in the environment."""
    client().save()
    assert registration.current().client_id == "abc"
    settings.SPATIO_CLIENT_ID = "from-the-environment"

    public = registration.current()
    assert (public.client_id, public.client_secret, public.auth_method, public.redirect_uris) == (
        "from-the-environment",
        None,
        "none",
        (),
    )
    settings.SPATIO_CLIENT_SECRET = "hush"
    settings.SPATIO_REDIRECT_URIS = f"{URI}, https://www.example.com/spatio/callback/"
    assert registration.current().auth_method == "client_secret_basic"
    assert registration.current().client_secret == Secret("hush")
    assert registration.current().redirect_uris == (URI, "https://www.example.com/spatio/callback/")
    settings.SPATIO_REDIRECT_URIS = [URI]
    assert registration.current().redirect_uris == (URI,)
    settings.SPATIO_CLIENT_AUTH_METHOD = "client_secret_post"
    assert registration.current().credentials.auth_method == "client_secret_post"
    for unset in ("", None):  # an environment variable that isn't there
        settings.SPATIO_CLIENT_AUTH_METHOD = unset
        assert registration.current().auth_method == "client_secret_basic"
    settings.SPATIO_CLIENT_AUTH_METHOD = "private_key_jwt"
    with pytest.raises(ConfigurationError) as caught:
        registration.current()
    assert caught.value.code == "auth_method"


def test_a_site_without_registration_is_told_the_command() -> None:
    """In the log and in the exception, never to visitors."""
    with pytest.raises(ConfigurationError, match="spatio_register") as caught:
        registration.current()
    assert caught.value.code == "not_registered"


# Remembered


@pytest.mark.django_db(transaction=True)
def test_a_process_reads_the_row_every_ten_seconds_at_most(
    django_assert_num_queries: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A busy site would read the same row for each click, and for each callback."""
    client().save()
    with django_assert_num_queries(1):
        first = registration.current()
        assert registration.current() is first

    later = time.monotonic() + 9
    monkeypatch.setattr(time, "monotonic", lambda: later)
    with django_assert_num_queries(0):
        registration.current()
    later += 2
    with django_assert_num_queries(1):
        registration.current()


@pytest.mark.django_db(transaction=True)
def test_a_row_that_this_process_changes_is_read_at_once() -> None:
    """Saved by hand, or deleted, as in a shell, or by the next test of a site."""
    row = client()
    row.save()
    assert registration.current().client_id == "abc"
    row.delete()
    with pytest.raises(ConfigurationError):
        registration.current()

    client(client_id="new").save()
    assert registration.current().client_id == "new"


def test_what_a_transaction_reads_is_not_remembered() -> None:
    """It may be rolled back; then the client never was."""
    with transaction.atomic():
        client().save()
        assert registration.current().client_id == "abc"
        transaction.set_rollback(True)

    with pytest.raises(ConfigurationError) as caught:
        registration.current()
    assert caught.value.code == "not_registered"


@pytest.mark.django_db(transaction=True)
def test_what_another_process_changed_is_found_when_it_matters() -> None:
    """``current()`` may be seconds old; asked for a certain client, or after a refusal, the row is read."""
    client().save()
    old = registration.current()
    SpatioClient.objects.bulk_create([client(client_id="new")])  # no signal comes from another process
    SpatioClient.objects.filter(client_id="abc").update(auth_method="client_secret_post")

    assert registration.current() == old
    assert registration.of_client("abc") == old
    assert registration.of_client("ABC") is None  # some databases take it for "abc"
    newest = registration.of_client("new")
    assert newest is not None
    assert newest.client_id == "new"
    changed = registration.renewed(old)
    assert changed is not None
    assert (changed.client_id, changed.auth_method) == ("abc", "client_secret_post")
    assert registration.renewed(changed) is None
    assert registration.current() == newest


# Redirect URIs


@pytest.mark.parametrize(
    ("url", "origin"),
    [
        ("https://example.com", "https://example.com"),
        ("https://example.com/", "https://example.com"),
        ("HTTPS://Example.COM:443", "https://example.com"),
        ("http://localhost:80", "http://localhost"),
        ("http://localhost:8000", "http://localhost:8000"),
        ("http://127.0.0.1:8000", "http://127.0.0.1:8000"),
        ("http://[::1]:8000", "http://[::1]:8000"),
        ("https://bücher.example", "https://xn--bcher-kva.example"),
        ("http://my_host", "http://my_host"),
    ],
)
def test_an_origin_is_written_as_browsers_write_it(url: str, origin: str) -> None:
    """So that the host of a request finds it."""
    assert registration.as_origin(url) == origin


@pytest.mark.parametrize(
    "url",
    [
        "",
        "example.com",
        "//example.com",
        "ftp://example.com",
        "https://",
        "https://example.com/app",
        "https://example.com/?a=1",
        "https://example.com#a",
        "https://example.com?",
        "https://user@example.com",
        "https://user:pw@example.com",
        "https://example.com:0",
        "https://example.com:99999",
        "https://example.com:port",
        "https://[x",
        "https://ex ample.com",
        "https://example.com\n",
        "https://exam\tple.com",
        "https://example..com",
        "https://example.com\\@evil.example",
        "https://%65xample.com",
        "https://straße.example",  # Python: strasse.example, browsers: xn--strae-oqa.example
        "https://Σίσυφος.example",
        "javascript:alert(1)",
    ],
)
def test_what_is_no_origin_is_none(url: str) -> None:
    """Codes would be sent there."""
    assert registration.as_origin(url) is None


@pytest.mark.parametrize(
    "uri",
    [
        "",
        "https://example.com",
        "https://example.com/spatio/callback/?",
        "https://example.com/spatio/callback/?x=1",
        "https://example.com/spatio/callback/#",
        " https://example.com/spatio/callback/",
        "https://example.com/spatio callback/",
        "https://example.com/spatio/callback/\n",
        "https://[/spatio/callback/",
        "ftp://example.com/spatio/callback/",
    ],
)
def test_what_is_no_redirect_uri_is_none(uri: str) -> None:
    """A provider compares character by character, and allows no fragment (RFC 6749 §3.1.2)."""
    assert registration.is_redirect_uri(URI)

    assert not registration.is_redirect_uri(uri)
