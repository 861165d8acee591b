"""``manage.py spatio_register`` and the registration in force."""

from io import StringIO
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from spatio_django import registration
from spatio_django.exceptions import ConfigurationError
from spatio_django.models import SpatioClient
from spatio_django.oidc.secret import Secret
from spatio_django.testing import FakeSpatio
from tests.misbehaving import Misbehaviour

pytestmark = pytest.mark.django_db


def run(*arguments: str) -> str:
    """Run the command; give what it printed."""
    out = StringIO()
    call_command("spatio_register", *arguments, stdout=out)
    return out.getvalue()


@pytest.fixture(autouse=True)
def issuer(spatio: FakeSpatio, settings: Any) -> None:
    """Point the site to the provider."""
    settings.SPATIO_ISSUER = spatio.issuer


def test_registering_asks_for_what_a_site_needs(spatio: FakeSpatio) -> None:
    """Scopes by name and a confidential client: the provider's defaults are ``read:*`` and ``none``."""
    run("--base-url", "https://example.com")

    row = SpatioClient.objects.get()
    assert row.redirect_uris == ["https://example.com/spatio/callback/"]
    assert row.scope == "openid profile email"
    assert row.auth_method == "client_secret_basic"
    assert row.client_name == "example.com"
    assert row.client_secret


def test_secrets_are_stored_encrypted_and_never_printed() -> None:
    """Neither the client secret nor the registration access token."""
    printed = run("--base-url", "https://example.com", "--client-name", "Example")

    row = SpatioClient.objects.get()
    assert row.client_name == "Example"
    shown = printed + repr(list(SpatioClient.objects.values()))
    for secret in (row.client_secret, row.registration_access_token):
        assert secret is not None
        assert secret.reveal() not in shown


def test_running_again_calls_nothing(spatio: FakeSpatio) -> None:
    """Ten registrations an hour are all there are."""
    run("--base-url", "https://example.com")
    spatio.requests.clear()

    assert "nothing to do" in run("--base-url", "https://example.com")
    assert spatio.requests == []


def test_another_address_is_registered_only_when_told_to() -> None:
    """A stored client is not thrown away by a typing mistake."""
    run("--base-url", "https://example.com")

    with pytest.raises(CommandError, match="--force"):
        run("--base-url", "https://example.org")
    run("--base-url", "https://example.org", "--base-url", "https://www.example.org", "--force")

    assert SpatioClient.objects.count() == 2
    assert registration.current().redirect_uris == (
        "https://example.org/spatio/callback/",
        "https://www.example.org/spatio/callback/",
    )


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["--base-url", "example.com"],
        ["--base-url", "ftp://example.com"],
        ["--base-url", "https://"],
        ["--base-url", "https://example.com/?a=1"],
        ["--base-url", "https://example.com/app"],
        ["--base-url", "https://[x"],
        ["--base-url", "https://example.com:99999"],
        [word for number in range(11) for word in ("--base-url", f"https://{number}.example.com")],
    ],
)
def test_an_address_that_is_none_is_told(spatio: FakeSpatio, arguments: list[str]) -> None:
    """One sentence, before the provider is called."""
    with pytest.raises(CommandError, match=r"\[base_url\]"):
        run(*arguments)

    assert spatio.calls("/oauth2/register") == []


def test_the_base_url_setting_is_the_default(settings: Any) -> None:
    """Sites that set it need no argument."""
    settings.SPATIO_BASE_URL = "https://example.com/"

    run()

    assert registration.current().redirect_uris == ("https://example.com/spatio/callback/",)


@pytest.mark.parametrize(
    ("status", "body", "code"),
    [
        ("400 Bad", b'{"error": "invalid_redirect_uri", "error_description": "no"}', "invalid_redirect_uri"),
        ("429 Slow", b"", "rate_limited"),
        ("500 Oops", b"<h1>", "bad_status"),
        ("201 Created", b"[]", "not_json"),
        ("201 Created", b"{}", "client_id"),
    ],
)
def test_a_registration_that_fails_leaves_nothing(
    misbehaviour: Misbehaviour, status: str, body: bytes, code: str
) -> None:
    """One clear sentence with a stable code, and no half-stored row."""
    misbehaviour.answer("/oauth2/register", status, body)

    with pytest.raises(CommandError, match=rf"\[{code}\]"):
        run("--base-url", "https://example.com")

    assert SpatioClient.objects.count() == 0


def test_an_issuer_is_compared_letter_by_letter(settings: Any) -> None:
    """Some databases take …/Tenant for …/tenant."""
    SpatioClient.objects.create(issuer="https://i.example/Tenant", client_id="c", client_name="n")
    settings.SPATIO_ISSUER = "https://i.example/Tenant"
    assert registration.stored() is not None
    settings.SPATIO_ISSUER = "https://i.example/tenant"

    assert registration.stored() is None


def test_settings_win_over_the_row(settings: Any) -> None:
    """For sites that keep secrets in the environment."""
    run("--base-url", "https://example.com")
    settings.SPATIO_CLIENT_ID = "from-the-environment"

    public = registration.current()
    assert (public.client_id, public.client_secret, public.auth_method) == (
        "from-the-environment",
        None,
        "none",
    )
    settings.SPATIO_CLIENT_SECRET = "hush"
    assert registration.current().auth_method == "client_secret_basic"
    assert registration.current().client_secret == Secret("hush")
    settings.SPATIO_CLIENT_AUTH_METHOD = "client_secret_post"
    assert registration.current().credentials.auth_method == "client_secret_post"
    settings.SPATIO_CLIENT_AUTH_METHOD = "private_key_jwt"
    with pytest.raises(ConfigurationError) as caught:
        registration.current()
    assert caught.value.code == "auth_method"


def test_a_site_without_registration_is_told_the_command() -> None:
    """In the log and in the exception, never to visitors."""
    with pytest.raises(ConfigurationError, match="spatio_register") as caught:
        registration.current()
    assert caught.value.code == "not_registered"
