"""Refreshing: one call per expiry, whoever asks, and nothing lost."""

from typing import Any

import pytest
from django.contrib.auth import get_user_model

from spatio_django import memo, tokens
from spatio_django.exceptions import SessionEnded
from spatio_django.models import PendingRevocation, SpatioToken
from tests.conftest import Site

User = get_user_model()


def age(grant: SpatioToken, *, left: float = -1.0) -> None:
    """Let time pass until *left* seconds are left of the access token."""
    now = SpatioToken.objects.with_clock().get(pk=grant.pk)
    SpatioToken.objects.filter(pk=grant.pk).update(expires_ms=int(1000 * (now.now + left)))
    memo.memo.clear()


def refreshes(site: Site) -> int:
    """Count the refreshes that the provider was asked for."""
    return sum(
        "grant_type=refresh_token" in repr(call) or True for call in site.spatio.calls("/oauth2/token")
    )


def signed_in(site: Site) -> tuple[Any, SpatioToken]:
    """Sign somebody in; give the browser and the grant."""
    browser = site.browser()
    site.sign_in(browser)
    site.spatio.requests.clear()
    return browser, SpatioToken.objects.get(handle=browser.session[tokens.SESSION_KEY])


def test_a_request_refreshes_an_expired_token_before_the_view(site: Site) -> None:
    """The session goes on with a new access token and a new refresh token."""
    browser, grant = signed_in(site)
    assert browser.get("/me/").status_code == 200
    assert refreshes(site) == 0
    age(grant)

    assert browser.get("/me/").status_code == 200

    after = SpatioToken.objects.with_clock().get(pk=grant.pk)
    assert refreshes(site) == 1
    assert (after.generation, after.lease_id, after.fails) == (1, "", 0)
    assert after.access_token != grant.access_token
    assert after.refresh_token != grant.refresh_token
    assert browser.get("/me/").status_code == 200
    assert refreshes(site) == 1


def test_a_grant_that_spatio_has_ended_ends_the_session(site: Site) -> None:
    """The request goes on as anonymous; the next sign-in tries without a page."""
    browser, grant = signed_in(site)
    site.spatio.revoke_grants()
    age(grant)

    response = browser.get("/me/")

    assert (response.status_code, response["Location"]) == (302, "/spatio/login/?next=/me/")
    assert "prompt=none" in browser.get(response["Location"])["Location"]
    assert "prompt=none" not in browser.get(response["Location"])["Location"]


def test_signing_out_revokes_both_tokens(site: Site) -> None:
    """First here, then there."""
    browser, _grant = signed_in(site)

    browser.post("/spatio/logout/")

    revoked = site.spatio.calls("/oauth2/revoke")
    assert len(revoked) == 2
    assert not PendingRevocation.objects.exists()
    assert not SpatioToken.objects.exists()


def test_for_user_gives_fresh_tokens_to_jobs(site: Site) -> None:
    """As long as there is a grant that lives."""
    _browser, grant = signed_in(site)
    user = User.objects.get()
    access = tokens.for_user(user)
    first = access.access_token
    age(grant)

    assert tokens.for_user(user).access_token != first
    assert access.get_token() == first or refreshes(site) == 1
    tokens.sign_out_everywhere(user)
    with pytest.raises(SessionEnded, match="no live grant"):
        tokens.for_user(user)
