"""Pages that do next to nothing, so that what the middleware does is seen."""

from collections.abc import Awaitable, Callable
from importlib import import_module

from asgiref.sync import markcoroutinefunction
from django.conf import settings
from django.contrib.auth.middleware import auser, get_user
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.urls import include, path
from django.utils.functional import SimpleLazyObject


class Visitor:
    """
    Session and user, as Django's middleware put them on a request, for ASGI.

    Those would have each request wait for threads, which takes many times longer than what is measured, and
    never the same.
    """

    sync_capable = False
    async_capable = True

    def __init__(self, get_response: Callable[[HttpRequest], Awaitable[HttpResponseBase]]) -> None:
        self._get_response = get_response
        self._store = import_module(settings.SESSION_ENGINE).SessionStore
        markcoroutinefunction(self)

    async def __call__(self, request: HttpRequest) -> HttpResponseBase:
        """Answer *request*."""
        request.session = self._store(request.COOKIES.get(settings.SESSION_COOKIE_NAME))
        request.user = SimpleLazyObject(lambda: get_user(request))  # type: ignore[assignment]
        request.auser = lambda: auser(request)
        return await self._get_response(request)


def plain(request: HttpRequest) -> HttpResponse:
    """Answer everybody alike."""
    return HttpResponse(b"Hello.")


def who(request: HttpRequest) -> HttpResponse:
    """Look who it is, as most pages do."""
    return HttpResponse(b"Hello you." if request.user.is_authenticated else b"Hello.")


async def async_plain(request: HttpRequest) -> HttpResponse:
    """Answer everybody alike."""
    return HttpResponse(b"Hello.")


async def async_who(request: HttpRequest) -> HttpResponse:
    """Look who it is, as most pages do."""
    user = await request.auser()
    return HttpResponse(b"Hello you." if user.is_authenticated else b"Hello.")


urlpatterns = [
    path("plain/", plain),
    path("who/", who),
    path("async-plain/", async_plain),
    path("async-who/", async_who),
    path("spatio/", include("spatio_django.urls")),
    # Where its middleware would send somebody to.
    path("oidc/", include("mozilla_django_oidc.urls")),
]
