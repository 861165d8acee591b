"""What every provider is put through."""

import copy
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

import pytest
import requests
from django.contrib.auth import get_user_model
from django.core.cache import cache
from django.core.management import call_command
from django.db import connections

from spatio_django import memo, tokens
from spatio_django import provider as site_side
from spatio_django.models import PendingRevocation, SpatioAccount, SpatioClient, SpatioToken
from tests.providers.person import Page, Person
from tests.providers.process import Calls, Provider

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


# Refreshing and revoking

SignIn = Callable[[Person, Page], Page]


def sign_in_here(origin: str, sign_in: SignIn) -> tuple[Person, SpatioToken]:
    """Sign a new person in; give them and the grant."""
    person = Person()
    assert sign_in(person, person.open(f"{origin}/me/")).url == f"{origin}/me/"
    return person, SpatioToken.objects.select_related("account__user").latest("pk")


def expire(grant: SpatioToken) -> None:
    """Let the access token be over here, whatever the provider thinks."""
    now_ms = int(1000 * SpatioToken.objects.with_clock().get(pk=grant.pk).now)
    SpatioToken.objects.filter(pk=grant.pk).update(expires_ms=now_ms - 1000)
    memo.memo.clear()


def newest(grant: SpatioToken) -> SpatioToken:
    """Read the grant again."""
    return SpatioToken.objects.with_clock().select_related("account__user").get(pk=grant.pk)


def use_refresh_token(grant: SpatioToken, client: SpatioClient) -> int:
    """Use the refresh token that *grant* had, past the site; give the status."""
    assert grant.refresh_token is not None
    assert client.client_secret is not None
    return requests.post(
        site_side.get_client().metadata().token_endpoint,
        data={"grant_type": "refresh_token", "refresh_token": grant.refresh_token.reveal()},
        auth=(client.client_id, client.client_secret.reveal()),
        timeout=30,
    ).status_code


def use_access_token(grant: SpatioToken) -> int:
    """Ask userinfo with the access token that *grant* had, past the site; give the status."""
    assert grant.access_token is not None
    return requests.get(
        site_side.get_client().metadata().userinfo_endpoint or "",
        headers={"Authorization": f"Bearer {grant.access_token.reveal()}"},
        timeout=30,
    ).status_code


def check_refreshing(origin: str, sign_in: SignIn, calls: Calls, token: str) -> None:
    """See two refreshes in a row, with one call each, and new tokens that the provider knows."""
    person, grant = sign_in_here(origin, sign_in)
    calls.take()
    seen = [copy.copy(grant)]
    for generation in (1, 2):
        expire(grant)

        assert person.open(f"{origin}/other/").text.startswith("other page of ada")

        assert calls.take() == [token]
        seen.append(newest(grant))
        assert (seen[-1].generation, seen[-1].lease_id, seen[-1].fails) == (generation, "", 0)
        assert use_access_token(seen[-1]) == 200
    for name in ("access_token", "refresh_token"):
        assert len({getattr(each, name).reveal() for each in seen}) == 3
    assert seen[-1].scopes == {"openid", "profile", "email"}
    assert calls.take() == []
    assert (
        tokens.for_user(grant.account.user)
        .http.get(site_side.get_client().metadata().userinfo_endpoint or "")
        .json()["sub"]
    )


def check_eight_at_the_expiry(origin: str, sign_in: SignIn, calls: Calls, token: str) -> None:
    """See one refresh, by eight requests at once, and by eight threads that need the token."""
    person, grant = sign_in_here(origin, sign_in)
    calls.take()
    expire(grant)

    def look(_: int) -> str:
        return person.open(f"{origin}/other/").text

    with ThreadPoolExecutor(8) as pool:
        assert all(text.startswith("other page of ada") for text in pool.map(look, range(8)))
    assert calls.take() == [token]
    expire(grant)

    def ask(_: int) -> str:
        try:
            return tokens.for_user(grant.account.user).get_token()
        finally:
            connections.close_all()

    with ThreadPoolExecutor(8) as pool:
        given = set(pool.map(ask, range(8)))
    refreshed = newest(grant)
    assert refreshed.access_token is not None
    assert given == {refreshed.access_token.reveal()}
    assert calls.take() == [token]
    assert refreshed.generation == 2


def check_reuse(origin: str, sign_in: SignIn, client: SpatioClient) -> None:
    """See a stolen refresh token, used a second time, end the grant there and the session here; no other."""
    other, _ = sign_in_here(origin, sign_in)
    person, grant = sign_in_here(origin, sign_in)
    stolen = copy.copy(grant)
    expire(grant)
    assert "other page of ada" in person.open(f"{origin}/other/").text

    assert use_refresh_token(stolen, client) == 400

    expire(grant)
    person.halt = site_side.get_client().metadata().authorization_endpoint
    assert "prompt=none" in person.open(f"{origin}/other/").url
    person.halt = None
    ended = newest(grant)
    assert (ended.state, ended.ended, ended.refresh_ciphertext) == ("dead", "invalid_grant", "")
    assert "other page of ada" in other.open(f"{origin}/other/").text


def lose_the_answer(grant: SpatioToken) -> None:
    """Refresh, and then be as if the process had died before it could store what came."""
    before = {
        name: getattr(newest(grant), name)
        for name in ("access_ciphertext", "refresh_ciphertext", "generation", "ttl_ms")
    }
    expire(grant)
    tokens.for_user(grant.account.user).get_token()
    SpatioToken.objects.filter(pk=grant.pk).update(**before)
    expire(grant)


def check_signing_out(origin: str, sign_in: SignIn, calls: Calls, client: SpatioClient, revoke: str) -> None:
    """See both tokens dead at the provider after a sign-out, also those of a refresh."""
    person, grant = sign_in_here(origin, sign_in)
    expire(grant)
    assert "other page of ada" in person.open(f"{origin}/other/").text
    held = newest(grant)
    assert use_access_token(held) == 200
    calls.take()

    person.submit(person.open(f"{origin}/me/"))

    assert calls.take() == [revoke, revoke]
    assert not PendingRevocation.objects.exists()
    assert not SpatioToken.objects.filter(pk=grant.pk).exists()
    assert use_access_token(held) in {401, 403}
    assert use_refresh_token(held, client) == 400
