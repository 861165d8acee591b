"""``request.spatio``, and the end of a session whose grant or user is gone."""

from collections.abc import Awaitable, Callable

from asgiref.sync import iscoroutinefunction, markcoroutinefunction, sync_to_async
from django.core.exceptions import ImproperlyConfigured
from django.http import HttpRequest
from django.http.response import HttpResponseBase

from spatio_django import tokens


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
        return self.get_response(request)

    async def _answer(self, request: HttpRequest) -> HttpResponseBase:
        cookie = self._prepare(request)
        if cookie:
            # Only when a look is due: an async view pays for no thread otherwise.
            await sync_to_async(tokens.end_if_over)(request, cookie)
        response = self.get_response(request)
        assert isinstance(response, Awaitable)  # noqa: S101 - for the type checker: is_async says so
        return await response

    def _prepare(self, request: HttpRequest) -> str | None:
        """Put ``spatio`` on *request*; give its session cookie if the session is due for a look."""
        if not hasattr(request, "user"):
            raise ImproperlyConfigured(
                "Put spatio_django.middleware.SpatioMiddleware after "
                "django.contrib.auth.middleware.AuthenticationMiddleware in MIDDLEWARE."
            )
        request.spatio = tokens.SpatioAccess(request)  # type: ignore[attr-defined]
        return tokens.session_due(request)
