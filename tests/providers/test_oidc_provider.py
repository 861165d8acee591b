"""
Registration and sign-in at oidc-provider (npm), an OpenID Certified implementation in another language.

It holds clients to what they registered: who registered ``client_secret_post`` can't use HTTP Basic.
"""

from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth import get_user_model

from spatio_django.models import SpatioToken
from tests.providers.person import Page, Person
from tests.providers.process import Calls, Provider
from tests.providers.steps import (
    METHODS,
    TAMPERINGS,
    check_eight_at_the_expiry,
    check_refreshing,
    check_reuse,
    check_signing_out,
    check_tampering,
    check_what_is_left,
    expire,
    lose_the_answer,
    newest,
    nobody_is_here,
    register,
    registered_metadata,
    sign_in_here,
)
from tests.test_browser import PATIENCE, chromium, strict_policy

__all__ = ["chromium"]  # a fixture

pytestmark = [pytest.mark.independent, pytest.mark.django_db(transaction=True)]

DISCOVERY, JWKS = "GET /.well-known/openid-configuration", "GET /jwks"
USERINFO = "GET /me Bearer"


def sign_in(person: Person, page: Page, *, decision: str = "allow") -> Page:
    """Say who you are, and decide."""
    page = person.submit(page, username="ada", password="correct horse")
    assert "The library asks" in page.text
    return person.submit(page, decision=decision)


@pytest.mark.parametrize("method", METHODS)
def test_a_site_registers_and_people_sign_in(
    oidc_provider: Provider, origin: str, settings: Any, method: str
) -> None:
    """Each way to authenticate; the second browser costs two calls, and neither discovery nor keys."""
    calls = Calls(oidc_provider)
    client = register(oidc_provider, origin, method, settings)
    assert calls.take() == [DISCOVERY, "POST /reg"]
    assert client.auth_method == registered_metadata(client)["token_endpoint_auth_method"] == method
    assert (client.client_secret is None) is (method == "none")
    token = "POST /token Basic" if method == "client_secret_basic" else "POST /token"

    person = Person()
    page = person.open(f"{origin}/other/?page=2")
    assert page.url.startswith(f"{oidc_provider.issuer}/interaction/")
    page = sign_in(person, page)

    assert (page.url, page.text) == (f"{origin}/other/?page=2", "other page of ada page=2")
    assert calls.take() == [DISCOVERY, token, JWKS, USERINFO]
    check_what_is_left(
        oidc_provider.issuer,
        {
            "sub": "ada",
            "name": "Ada Lovelace",
            "email": "ada@example.com",
            "email_verified": True,
        },
    )

    person = Person()
    page = sign_in(person, person.open(f"{origin}/me/"))

    assert "Ada Lovelace" in page.text
    assert calls.take() == [token, USERINFO]
    assert (get_user_model().objects.count(), SpatioToken.objects.count()) == (1, 2)


@pytest.mark.parametrize(("change", "status", "code"), TAMPERINGS)
def test_a_tampered_callback_signs_nobody_in(
    oidc_provider: Provider, origin: str, settings: Any, change: dict[str, str | None], status: int, code: str
) -> None:
    """It ends on a page of ours with a code that is stable; the same callback unchanged holds."""
    register(oidc_provider, origin, "client_secret_basic", settings)

    check_tampering(origin, sign_in, change, status, code)


def test_who_refuses_reads_a_friendly_page(oidc_provider: Provider, origin: str, settings: Any) -> None:
    """A choice, and no error: the provider's ``access_denied`` comes back with state and issuer."""
    register(oidc_provider, origin, "client_secret_basic", settings)
    person = Person()

    page = sign_in(person, person.open(f"{origin}/me/"), decision="deny")

    assert page.status == 200
    assert "Sign-in cancelled" in page.text
    assert nobody_is_here()


def test_after_signing_out_the_provider_asks_again(
    oidc_provider: Provider, origin: str, settings: Any
) -> None:
    """It still knows the browser, so it is sent ``prompt=login``; the revoked grant is given anew."""
    register(oidc_provider, origin, "client_secret_basic", settings)
    person = Person()
    page = person.submit(sign_in(person, person.open(f"{origin}/me/")))
    assert page.url == f"{origin}/"

    page = person.open(f"{origin}/recent/")
    assert "Who are you?" in page.text
    page = sign_in(person, page)

    assert (page.url, page.text) == (f"{origin}/recent/", "recent")


@pytest.mark.parametrize("method", METHODS)
def test_tokens_are_refreshed(oidc_provider: Provider, origin: str, settings: Any, method: str) -> None:
    """Twice in a row, each time with the newest refresh token: here one that is used again ends the grant."""
    register(oidc_provider, origin, method, settings)
    token = "POST /token Basic" if method == "client_secret_basic" else "POST /token"

    check_refreshing(origin, sign_in, Calls(oidc_provider), token)


def test_eight_at_the_expiry_make_one_refresh(oidc_provider: Provider, origin: str, settings: Any) -> None:
    """Two would end the grant."""
    register(oidc_provider, origin, "client_secret_basic", settings)

    check_eight_at_the_expiry(origin, sign_in, Calls(oidc_provider), "POST /token Basic")


def test_a_refresh_token_used_twice_ends_the_grant_and_this_session(
    oidc_provider: Provider, origin: str, settings: Any
) -> None:
    """Whoever used it: the provider can't know."""
    client = register(oidc_provider, origin, "client_secret_basic", settings)

    check_reuse(origin, sign_in, client)


def test_an_answer_that_was_lost_costs_one_sign_in(
    oidc_provider: Provider, origin: str, settings: Any
) -> None:
    """Nothing that a client could cure; nothing but this session ends, and the next sign-in holds."""
    register(oidc_provider, origin, "client_secret_basic", settings)
    person, grant = sign_in_here(origin, sign_in)
    lose_the_answer(grant)

    page = person.open(f"{origin}/other/")

    assert (newest(grant).state, newest(grant).ended) == ("dead", "invalid_grant")
    # The provider took the consent back along with the grant, and asks for it again.
    assert "The library asks" in page.text
    assert person.submit(page, decision="allow").url == f"{origin}/other/"
    again = SpatioToken.objects.latest("pk")
    expire(again)
    assert "other page of ada" in person.open(f"{origin}/other/").text
    assert newest(again).generation == 1


def test_signing_out_revokes(oidc_provider: Provider, origin: str, settings: Any) -> None:
    """Both tokens are worth nothing there afterwards."""
    client = register(oidc_provider, origin, "client_secret_basic", settings)

    check_signing_out(origin, sign_in, Calls(oidc_provider), client, ["POST /token/revocation Basic"] * 2)


@pytest.mark.browser
def test_a_person_signs_in_with_a_real_browser(
    oidc_provider: Provider, origin: str, settings: Any, chromium: Any, tmp_path: Path
) -> None:
    """Chromium, from the button to the name, under a content security policy that allows nothing inline."""
    register(oidc_provider, origin, "client_secret_basic", settings)
    settings.MIDDLEWARE = [f"{strict_policy.__module__}.{strict_policy.__name__}", *settings.MIDDLEWARE]
    calls = Calls(oidc_provider)
    context = chromium.new_context(locale="en-GB")
    context.set_default_timeout(PATIENCE)
    faults: list[str] = []
    context.on("console", lambda message: faults.append(message.text))
    context.on("weberror", lambda error: faults.append(str(error.error)))
    page = context.new_page()

    page.goto(origin)
    page.get_by_role("link", name="Sign in with Spatio").click()
    page.get_by_label("Name").fill("ada")
    page.get_by_label("Password").fill("correct horse")
    page.get_by_role("button", name="Sign in").click()
    page.get_by_role("heading", name="The library asks").wait_for()
    page.get_by_role("button", name="Agree").click()

    page.wait_for_url(f"{origin}/me/")
    page.get_by_text("Ada Lovelace").wait_for()
    page.screenshot(path=tmp_path / "signed-in.png")
    assert calls.take() == [DISCOVERY, "POST /token Basic", JWKS, USERINFO]
    context.close()
    # Chromium asks the provider for an icon, and notes that there is none.
    assert [fault for fault in faults if "the server responded with a status of 404" not in fault] == []
