"""What every provider is put through."""

from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

import pytest
import requests
from django.contrib.auth import get_user_model
from django.core.cache import cache
from django.core.management import call_command

from spatio_django import provider as site_side
from spatio_django.models import SpatioAccount, SpatioClient, SpatioToken
from tests.providers.person import Page, Person
from tests.providers.process import Provider

#: What somebody might do to a callback on its way, and how the site answers: status and code.
TAMPERINGS = [
    pytest.param({"code": "tampered"}, 403, "invalid_grant", id="code"),
    pytest.param({"iss": "https://op.example"}, 502, "iss", id="another-issuer"),
    pytest.param({"iss": None}, 502, "iss", id="no-issuer-though-promised"),
    pytest.param({"state": "tampered"}, 400, "state", id="state"),
]
METHODS = ("client_secret_basic", "client_secret_post", "none")


def register(provider: Provider, origin: str, method: str, settings: Any) -> SpatioClient:
    """Run ``spatio_register`` for a client that authenticates with *method*; then be a new process."""
    settings.SPATIO_ISSUER = provider.issuer
    options = {"none": ["--public"]}.get(method, [])
    if method == "client_secret_post":
        settings.SPATIO_CLIENT_AUTH_METHOD = method
    call_command(
        "spatio_register", "--base-url", origin, "--client-name", "The library", *options, verbosity=0
    )
    forget()
    return SpatioClient.objects.get()


def forget() -> None:
    """Keep no document and no connection, as after a restart."""
    cache.clear()
    site_side.close()


def registered_metadata(client: SpatioClient) -> dict[str, Any]:
    """Read the registration back from the provider, with the token that was stored. RFC 7592 §2.1."""
    assert client.registration_access_token is not None
    bearer = client.registration_access_token.reveal()
    answer = requests.get(
        client.registration_client_uri, headers={"Authorization": f"Bearer {bearer}"}, timeout=30
    )
    assert answer.status_code == 200, answer.text
    document: dict[str, Any] = answer.json()
    return document


def changed(url: str, **parameters: str | None) -> str:
    """Give *url* with those parameters of its query replaced, or taken out."""
    parts = urlsplit(url)
    query = dict(parse_qsl(parts.query, keep_blank_values=True, strict_parsing=True)) | parameters
    kept = {name: value for name, value in query.items() if value is not None}
    return parts._replace(query=urlencode(kept)).geturl()


def check_tampering(
    origin: str,
    sign_in: Callable[[Person, Page], Page],
    change: dict[str, str | None],
    status: int,
    code: str,
) -> None:
    """Bring one callback home as it is, and another one changed, which must sign nobody in."""
    honest, robbed = Person(), Person()
    honest.halt = robbed.halt = f"{origin}/spatio/callback/"
    callbacks = [sign_in(person, person.open(f"{origin}/me/")).url for person in (honest, robbed)]
    honest.halt = robbed.halt = None
    assert honest.open(changed(callbacks[0])).url == f"{origin}/me/"

    page = robbed.open(changed(callbacks[1], **change))

    assert page.status == status
    assert f"<code>{code}</code>" in page.text
    assert '"user": ""' in robbed.open(f"{origin}/state/").text
    assert '"user": "ada"' in honest.open(f"{origin}/state/").text
    assert SpatioToken.objects.count() == 1


def nobody_is_here() -> bool:
    """Tell whether no sign-in has left anything behind."""
    users, accounts = get_user_model().objects, SpatioAccount.objects
    return not (users.exists() or accounts.exists() or SpatioToken.objects.exists())


def check_what_is_left(issuer: str, claims: dict[str, Any]) -> None:
    """See the account, the user and the grant of the first sign-in."""
    account = SpatioAccount.objects.get()
    assert (account.issuer, account.sub) == (issuer, claims["sub"])
    assert account.claims == claims
    user = get_user_model().objects.get()
    assert (user.get_username(), user.email) == ("ada", "ada@example.com")
    grant = SpatioToken.objects.get()
    assert grant.scopes == {"openid", "profile", "email"}
    assert grant.access_token
    assert grant.refresh_token
