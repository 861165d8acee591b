"""The site of the tests, with views that need access tokens."""

import hashlib

from django.contrib.auth.models import Group
from django.db import transaction
from django.http import HttpRequest, HttpResponse
from django.urls import path

from spatio_django.exceptions import TokenUnavailable
from spatio_django.tokens import SpatioRequest
from tests.urls import urlpatterns as others

#: More than a token has left that the middleware lets alone.
LONG = 2700.0


def digest(token: str) -> str:
    """Give what can be compared, and shown."""
    return hashlib.sha256(token.encode()).hexdigest()


def token(request: SpatioRequest) -> HttpResponse:
    """Ask for an access token."""
    return HttpResponse(digest(request.spatio.access_token))


async def atoken(request: SpatioRequest) -> HttpResponse:
    """Ask for an access token from an async view."""
    return HttpResponse(digest(await request.spatio.aget_token()))


async def along(request: SpatioRequest) -> HttpResponse:
    """Ask for an access token that lasts long."""
    return HttpResponse(digest(await request.spatio.aget_token(min_ttl=LONG)))


def ping(request: HttpRequest) -> HttpResponse:
    """Use the session, and no token."""
    return HttpResponse(request.user.get_username())


def api(request: SpatioRequest) -> HttpResponse:
    """Call Spatio's API."""
    return HttpResponse(request.spatio.http.get(request.GET["url"]).status_code)


def fails(request: SpatioRequest) -> HttpResponse:
    """Write, have the token refreshed, write again, and fail."""
    Group.objects.create(name="before")
    request.spatio.get_token(min_ttl=LONG)
    Group.objects.create(name="after")
    raise LookupError


def writes(request: SpatioRequest) -> HttpResponse:
    """Write, ask for a token, and write again whether there is one or not."""
    number = request.GET["number"]
    Group.objects.create(name=f"before {number}")
    try:
        request.spatio.get_token(min_ttl=LONG)
        answer = "token"
    except TokenUnavailable as error:
        answer = error.code
    Group.objects.create(name=f"after {number}")
    assert transaction.get_connection().in_atomic_block
    return HttpResponse(answer)


urlpatterns = [
    path("token/", token),
    path("atoken/", atoken),
    path("along/", along),
    path("ping/", ping),
    path("api/", api),
    path("fails/", fails),
    path("writes/", writes),
    *others,
]
