"""``request.spatio``, and the end of a session whose grant or user is gone."""

from collections.abc import Awaitable, Callable

from asgiref.sync import iscoroutinefunction, markcoroutinefunction, sync_to_async
from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.http import HttpRequest
from django.http.response import HttpResponseBase

from spatio_django import links, tokens


class SpatioMiddleware:
    """
    Put ``spatio`` on each request and end sessions that are over.

    Most requests cost one look into a dictionary: no query, no call to Spatio, no use of the session. Stands
    after ``AuthenticationMiddleware``.
    """

    sync_capable = True
    async_capable = True

    def __init__(
        self, get_response: Callable[[HttpRequest], HttpResponseBase | Awaitable[HttpResponseBase]]
    ) -> None:
        self.get_response = get_response
        self.is_async = iscoroutinefunction(get_response)
        if self.is_async:
            markcoroutinefunction(self)

    def __call__(self, request: HttpRequest) -> HttpResponseBase | Awaitable[HttpResponseBase]:
        """Answer *request*."""
        if self.is_async:
            return self._answer(request)
        cookie = self._prepare(request)
        if cookie:
            tokens.end_if_over(request, cookie)
        response = self.get_response(request)
        assert isinstance(response, HttpResponseBase)  # noqa: S101 - for the type checker
        return self._finish(request, response)

    async def _answer(self, request: HttpRequest) -> HttpResponseBase:
        cookie = self._prepare(request)
        if cookie:
            # Only when a look is due: an async view pays for no thread otherwise.
            await sync_to_async(tokens.end_if_over)(request, cookie)
        response = self.get_response(request)
        assert isinstance(response, Awaitable)  # noqa: S101 - for the type checker
        return self._finish(request, await response)

    def _prepare(self, request: HttpRequest) -> str | None:
        """Put ``spatio`` on *request*; give its session cookie if the session is due for a look."""
        if not hasattr(request, "user"):
            raise ImproperlyConfigured(
                "Put spatio_django.middleware.SpatioMiddleware after "
                "django.contrib.auth.middleware.AuthenticationMiddleware in MIDDLEWARE."
            )
        request.spatio = tokens.SpatioAccess(request)  # type: ignore[attr-defined]
        return tokens.session_due(request)

    def _finish(self, request: HttpRequest, response: HttpResponseBase) -> HttpResponseBase:
        """
        Note a sign-out in the browser, whichever view it went through.

        Spatio has no sign-out of its own, so the next sign-in from this browser must ask who it is: on a
        shared computer, one click would otherwise bring the person back who just left.
        """
        if getattr(request, "spatio_signed_out", False):
            response.set_cookie(
                links.SIGNED_OUT_COOKIE,
                "1",
                max_age=links.SIGNED_OUT_LIFETIME,
                secure=settings.SESSION_COOKIE_SECURE,
                httponly=True,
                samesite="Lax",
            )
        return response
