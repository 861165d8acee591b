"""A page for guests, and three for people who signed in."""

import requests
from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render

from spatio_django.conf import conf
from spatio_django.decorators import spatio_login_required
from spatio_django.tokens import SpatioRequest


def front(request: HttpRequest) -> HttpResponse:
    """Show the button to guests."""
    return render(request, "pages/front.html")


@login_required
def me(request: SpatioRequest) -> HttpResponse:
    """Show who signed in and what they granted: all from the database, without a call to Spatio."""
    grant = request.spatio.grant
    token = None
    if grant and grant.seconds_left is not None:
        token = {"life": (grant.ttl_ms or 0) // 1000, "left": round(grant.seconds_left)}
    return render(request, "pages/me.html", {"grant": grant, "token": token})


@spatio_login_required
def asked(request: SpatioRequest) -> HttpResponse:
    """Ask Spatio who this is, with the access token of their sign-in, which ``http`` keeps to itself."""
    try:
        answer = request.spatio.http.get(f"{conf.SPATIO_ISSUER}/oauth2/userinfo")
        answer.raise_for_status()
    except requests.RequestException as error:
        return render(request, "pages/asked.html", {"error": type(error).__name__}, status=503)
    return render(request, "pages/asked.html", {"claims": answer.json(), "grant": request.spatio.grant})


@spatio_login_required(max_age=60)
def careful(request: SpatioRequest) -> HttpResponse:
    """Show what only somebody may see who proved in the last minute who they are."""
    return render(request, "pages/careful.html")
