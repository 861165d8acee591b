"""
Registration and sign-in at django-oauth-toolkit (PyPI), which many Django sites run as their provider.

Its issuer has a path, its ``sub`` is a number, and its ID tokens tell the name but not the e-mail address.
"""

from typing import Any

import pytest
from django.contrib.auth import get_user_model

from spatio_django.models import SpatioClient, SpatioToken
from tests.providers.person import Page, Person
from tests.providers.process import Calls, Provider
from tests.providers.steps import (
    METHODS,
    TAMPERINGS,
    changed,
    check_eight_at_the_expiry,
    check_refreshing,
    check_reuse,
    check_signing_out,
    check_tampering,
    check_what_is_left,
    lose_the_answer,
    newest,
    nobody_is_here,
    register,
    registered_metadata,
    sign_in_here,
)

pytestmark = [pytest.mark.independent, pytest.mark.django_db(transaction=True)]

DISCOVERY, JWKS = "GET /o/.well-known/openid-configuration", "GET /o/.well-known/jwks.json"
OAUTH_INSERTED = "GET /.well-known/oauth-authorization-server/o"
OAUTH_APPENDED = "GET /o/.well-known/oauth-authorization-server"
USERINFO = "GET /o/userinfo/ Bearer"


def sign_in(person: Person, page: Page, **decision: str) -> Page:
    """Say who you are, and decide: with ``allow``, or without."""
    page = person.submit(page, username="ada", password="correct horse")
    assert "Authorize The library?" in page.text
    return person.submit(page, **(decision or {"allow": "Authorize"}))


def use_from_settings(client: SpatioClient, method: str, settings: Any) -> None:
    """Move the client from the database to the settings, as sites do that keep secrets in the environment."""
    assert client.client_secret is not None
    settings.SPATIO_CLIENT_ID = client.client_id
    settings.SPATIO_CLIENT_SECRET = client.client_secret.reveal()
    settings.SPATIO_CLIENT_AUTH_METHOD = method
    client.delete()


@pytest.mark.parametrize("method", METHODS)
def test_a_site_registers_and_people_sign_in(
    django_oauth_toolkit: Provider, origin: str, settings: Any, method: str
) -> None:
    """Each way to authenticate; the second browser costs two calls, and neither discovery nor keys."""
    calls = Calls(django_oauth_toolkit)
    client = register(django_oauth_toolkit, origin, method, settings)
    # Its registration endpoint is in its OAuth metadata only, and these not where RFC 8414 looks for them.
    assert calls.take() == [DISCOVERY, OAUTH_INSERTED, OAUTH_APPENDED, "POST /o/register/"]
    # It registers who asked for client_secret_post as client_secret_basic, and takes both. We do as it says.
    answered = "none" if method == "none" else "client_secret_basic"
    assert client.auth_method == registered_metadata(client)["token_endpoint_auth_method"] == answered
    assert (client.client_secret is None) is (method == "none")
    if method == "client_secret_post":
        use_from_settings(client, method, settings)
    token = "POST /o/token/ Basic" if method == "client_secret_basic" else "POST /o/token/"

    person = Person()
    page = person.open(f"{origin}/other/?page=2")
    assert page.url.startswith(django_oauth_toolkit.issuer.removesuffix("/o") + "/accounts/login/")
    page = sign_in(person, page)

    assert (page.url, page.text) == (f"{origin}/other/?page=2", "other page of ada page=2")
    assert calls.take() == [DISCOVERY, token, JWKS, USERINFO]
    check_what_is_left(
        django_oauth_toolkit.issuer,
        {
            "sub": "1",
            "name": "Ada Lovelace",
            "preferred_username": "ada",
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
    django_oauth_toolkit: Provider,
    origin: str,
    settings: Any,
    change: dict[str, str | None],
    status: int,
    code: str,
) -> None:
    """It ends on a page of ours with a code that is stable; the same callback unchanged holds."""
    register(django_oauth_toolkit, origin, "client_secret_basic", settings)

    check_tampering(origin, sign_in, change, status, code)


def test_a_refusal_is_believed_with_the_issuer_that_was_promised(
    django_oauth_toolkit: Provider, origin: str, settings: Any
) -> None:
    """
    A choice, and no error; but without ``iss`` it could be another provider's, and is turned down.

    Version 3.4.1 promises ``iss`` and leaves it out of refusals, against RFC 9207 §2; §2.4 leaves no choice.
    """
    register(django_oauth_toolkit, origin, "client_secret_basic", settings)
    callbacks = []
    people = Person(), Person()
    for person in people:
        person.halt = f"{origin}/spatio/callback/"
        callbacks.append(sign_in(person, person.open(f"{origin}/me/"), cancel="Cancel").url)
        person.halt = None

    page = people[0].open(changed(callbacks[0], iss=django_oauth_toolkit.issuer))
    assert page.status == 200
    assert "Sign-in cancelled" in page.text

    page = people[1].open(changed(callbacks[1], iss=None))
    assert page.status == 502
    assert "<code>iss</code>" in page.text
    assert nobody_is_here()


def test_after_signing_out_the_provider_asks_again(
    django_oauth_toolkit: Provider, origin: str, settings: Any
) -> None:
    """It still knows the browser, so it is sent ``prompt=login``; the proof is then recent enough."""
    register(django_oauth_toolkit, origin, "client_secret_basic", settings)
    person = Person()
    page = person.submit(sign_in(person, person.open(f"{origin}/me/")))
    assert page.url == f"{origin}/"

    page = sign_in(person, person.open(f"{origin}/recent/"))

    assert (page.url, page.text) == (f"{origin}/recent/", "recent")


@pytest.fixture(params=["django_oauth_toolkit", "patient_django_oauth_toolkit"])
def either(request: pytest.FixtureRequest) -> Provider:
    """Give one that takes a refresh token once, then one that takes the last but one for a while, too."""
    provider: Provider = request.getfixturevalue(request.param)
    return provider


@pytest.mark.parametrize("method", ["client_secret_basic", "none"])
def test_tokens_are_refreshed(either: Provider, origin: str, settings: Any, method: str) -> None:
    """Twice in a row, each time with the newest refresh token."""
    register(either, origin, method, settings)
    token = "POST /o/token/ Basic" if method == "client_secret_basic" else "POST /o/token/"

    check_refreshing(origin, sign_in, Calls(either), token)


def test_eight_at_the_expiry_make_one_refresh(either: Provider, origin: str, settings: Any) -> None:
    """Whether two would end the grant or not."""
    register(either, origin, "client_secret_basic", settings)

    check_eight_at_the_expiry(origin, sign_in, Calls(either), "POST /o/token/ Basic")


def test_a_refresh_token_used_twice_ends_the_grant_and_this_session(
    django_oauth_toolkit: Provider, origin: str, settings: Any
) -> None:
    """Whoever used it: the provider can't know."""
    client = register(django_oauth_toolkit, origin, "client_secret_basic", settings)

    check_reuse(origin, sign_in, client)


def test_an_answer_that_was_lost_costs_nothing_where_the_provider_is_patient(
    patient_django_oauth_toolkit: Provider, origin: str, settings: Any
) -> None:
    """The refresh token before is taken once more: nobody notices."""
    register(patient_django_oauth_toolkit, origin, "client_secret_basic", settings)
    person, grant = sign_in_here(origin, sign_in)
    lose_the_answer(grant)

    assert person.open(f"{origin}/other/").text.startswith("other page of ada")

    assert (newest(grant).state, newest(grant).generation) == ("active", 1)


def test_an_answer_that_was_lost_costs_one_redirect(
    django_oauth_toolkit: Provider, origin: str, settings: Any
) -> None:
    """The session ends, and a sign-in without a page begins the next."""
    register(django_oauth_toolkit, origin, "client_secret_basic", settings)
    person, grant = sign_in_here(origin, sign_in)
    lose_the_answer(grant)

    page = person.open(f"{origin}/other/")

    assert (newest(grant).state, newest(grant).ended) == ("dead", "invalid_grant")
    assert page.url
    assert SpatioToken.objects.count() >= 1


def test_signing_out_revokes(either: Provider, origin: str, settings: Any) -> None:
    """Both tokens are worth nothing there afterwards."""
    client = register(either, origin, "client_secret_basic", settings)

    check_signing_out(origin, sign_in, Calls(either), client, "POST /o/revoke_token/ Basic")
