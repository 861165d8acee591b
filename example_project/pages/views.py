"""A page for guests, and three for people who signed in."""

from datetime import UTC, datetime

from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render

from spatio_django.decorators import spatio_login_required
from spatio_django.exceptions import SpatioError
from spatio_django.oidc.secret import Secret
from spatio_django.provider import get_client
from spatio_django.tokens import SpatioAccess, SpatioRequest


def front(request: HttpRequest) -> HttpResponse:
    """Show the button to guests."""
    return render(request, "pages/front.html")


@login_required
def me(request: SpatioRequest) -> HttpResponse:
    """Show who signed in and what they granted: all from the database, without a call to Spatio."""
    grant = request.spatio.grant
    expires_ms = grant.expires_ms if grant else None
    expires_at = datetime.fromtimestamp(expires_ms / 1000, UTC) if expires_ms else None
    return render(request, "pages/me.html", {"grant": grant, "expires_at": expires_at})


@spatio_login_required
def asked(request: SpatioRequest) -> HttpResponse:
    """Ask Spatio who this is, with the access token of their sign-in."""
    try:
        claims = userinfo(request.spatio)
    except SpatioError as error:
        return render(request, "pages/asked.html", {"error": error}, status=503)
    return render(request, "pages/asked.html", {"claims": claims})


@spatio_login_required(max_age=60)
def careful(request: SpatioRequest) -> HttpResponse:
    """Show what only somebody may see who proved in the last minute who they are."""
    return render(request, "pages/careful.html")


def userinfo(access: SpatioAccess) -> dict[str, object]:
    """Make one call with the access token, which stays in here."""
    token = Secret(access.access_token)
    return get_client().userinfo(token, subject=access.account.sub if access.account else "")
