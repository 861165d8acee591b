"""``request.spatio``, a grant that stays fresh, and the end of a session whose grant or user is gone."""

import asyncio
from collections.abc import Awaitable, Callable
from urllib.parse import parse_qs, urlsplit

from asgiref.sync import iscoroutinefunction, markcoroutinefunction
from django.conf import settings
from django.contrib.auth import REDIRECT_FIELD_NAME
from django.core.exceptions import ImproperlyConfigured
from django.http import HttpRequest
from django.http.response import HttpResponseBase, HttpResponseRedirect
from django.shortcuts import resolve_url

from spatio_django import links, revocation, tending, tokens
from spatio_django.exceptions import SessionEnded, TokenUnavailable


class SpatioMiddleware:
    """
    Put ``spatio`` on each request, keep the session's grant fresh, and end sessions that are over.

    Most requests cost one look into a dictionary: no query, no call to Spatio, no use of the session. A token
    near its end is refreshed before the view, outside of ``ATOMIC_REQUESTS``. Stands after
    ``AuthenticationMiddleware``.
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
            tending.tend(request, cookie)
        response = self.get_response(request)
        assert isinstance(response, HttpResponseBase)  # noqa: S101 - for the type checker
        revocations = getattr(request, "spatio_revocations", ())
        if revocations:
            revocation.wait_for(revocations)
        return self._finish(request, response)

    async def _answer(self, request: HttpRequest) -> HttpResponseBase:
        cookie = self._prepare(request)
        if cookie:
            # Only when a look is due: an async view pays for no thread otherwise.
            await tending.atend(request, cookie)
        response = self.get_response(request)
        assert isinstance(response, Awaitable)  # noqa: S101 - for the type checker
        response = await response
        revocations = getattr(request, "spatio_revocations", ())
        if revocations:
            await asyncio.wait(map(asyncio.wrap_future, revocations), timeout=revocation.PATIENCE)
        return self._finish(request, response)

    def _prepare(self, request: HttpRequest) -> str | None:
        """Put ``spatio`` on *request*; give its session cookie if the session is due for a look."""
        if not hasattr(request, "user"):
            raise ImproperlyConfigured(
                "Put spatio_django.middleware.SpatioMiddleware after "
                "django.contrib.auth.middleware.AuthenticationMiddleware in MIDDLEWARE."
            )
        request.spatio = tokens.RequestAccess(request)  # type: ignore[attr-defined]
        return tending.session_due(request)

    def process_exception(self, request: HttpRequest, exception: Exception) -> HttpResponseBase | None:
        """
        Answer for a view that asked for an access token and got none.

        If the grant of this session is over, or can't be refreshed for want of a refresh token, the person
        signs in again; if Spatio does not answer, a page says so. A view that knows better catches the
        exception itself.
        """
        if not isinstance(exception, TokenUnavailable):
            return None
        from spatio_django import answers  # here: few requests need it

        is_ours = any(exception is failure for failure in tokens.access(request).failures)
        if is_ours and isinstance(exception, SessionEnded):
            tending.end_session(request, str(exception.context.get("reason", exception.code)))
        if is_ours and (isinstance(exception, SessionEnded) or exception.code == "expired"):
            tending.note_interruption(request)
            return HttpResponseRedirect(links.login_url(request.get_full_path()))
        return answers.unavailable(request, exception)

    def _finish(self, request: HttpRequest, response: HttpResponseBase) -> HttpResponseBase:
        """
        Leave the browser a note for its next sign-in, if its session ended with this request.

        Spatio has no sign-out of its own, so the next sign-in from a browser in which somebody signed out,
        through whichever view, must ask who it is: on a shared computer, one click would otherwise bring the
        person back who just left.
        """
        if getattr(request, "spatio_signed_out", False):
            self._note(response, links.SIGNED_OUT_COOKIE, "1", links.SIGNED_OUT_LIFETIME)
        again = getattr(request, "spatio_again", None)
        if again:
            self._note(response, links.AGAIN_COOKIE, again, links.SIGNED_OUT_LIFETIME)
        # Of a session that another request ended, while the form was open, there is only the note.
        was_ended = request.method not in tending.SAFE and links.AGAIN_COOKIE in request.COOKIES
        if getattr(request, "spatio_interrupted", was_ended) and refuses(response):
            self._note(response, links.INTERRUPTED_COOKIE, "1", links.INTERRUPTED_LIFETIME)
        return response

    @staticmethod
    def _note(response: HttpResponseBase, name: str, value: str, max_age: int) -> None:
        response.set_cookie(
            name,
            value,
            max_age=max_age,
            secure=settings.SESSION_COOKIE_SECURE,
            httponly=True,
            samesite="Lax",
        )


def refuses(response: HttpResponseBase) -> bool:
    """
    Tell whether *response* sends somebody away who is not signed in.

    Any other is the view's own to a stranger: what was sent did arrive.
    """
    if response.status_code in {302, 303}:
        try:
            parts = urlsplit(response.get("Location", ""))
        except ValueError:
            return False
        return REDIRECT_FIELD_NAME in parse_qs(parts.query) or parts.path == resolve_url(settings.LOGIN_URL)
    return response.status_code in {401, 403}
