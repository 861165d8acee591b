"""Decorators for a site's views."""

from collections.abc import Callable, Sequence
from functools import partial, wraps
from typing import Any, TypeVar, overload

from asgiref.sync import iscoroutinefunction, sync_to_async
from django.http import HttpRequest, HttpResponseBase
from django.http.response import HttpResponseRedirect

from spatio_django.links import login_url
from spatio_django.tokens import access, satisfies

View = TypeVar("View", bound=Callable[..., Any])


@overload
def spatio_login_required(view: View) -> View: ...
@overload
def spatio_login_required(
    *, scopes: Sequence[str] = (), max_age: int | None = None
) -> Callable[[View], View]: ...
def spatio_login_required(
    view: Callable[..., Any] | None = None, *, scopes: Sequence[str] = (), max_age: int | None = None
) -> Any:
    """
    Let only people in who signed in with Spatio: recently enough, and with the scopes the view needs.

    Others are sent to sign in and come back. Works on sync and async views, with or without arguments::

        @spatio_login_required(max_age=300)
        def delete_everything(request): ...

    Args:
        scopes: Scopes that must have been granted, beyond ``SPATIO_SCOPES``.
        max_age: Seconds since the person proved their identity at Spatio, by the verified ``auth_time``
            (OpenID Connect Core §3.1.2.1).
    """
    if view is None:
        return partial(_guard, scopes=scopes, max_age=max_age)
    return _guard(view, scopes=scopes, max_age=max_age)


def _guard(view: Callable[..., Any], *, scopes: Sequence[str], max_age: int | None) -> Callable[..., Any]:

    def challenge(request: HttpRequest) -> HttpResponseBase | None:
        if satisfies(request, scopes=scopes, max_age=max_age):
            return None
        # With what was granted before, so that pages with different scopes don't push each other out.
        wanted = {*scopes, *access(request).scopes}
        return HttpResponseRedirect(login_url(request.get_full_path(), scopes=wanted, max_age=max_age))

    if iscoroutinefunction(view):

        @wraps(view)
        async def guarded_async(request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
            return await sync_to_async(challenge)(request) or await view(request, *args, **kwargs)

        return guarded_async

    @wraps(view)
    def guarded(request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
        return challenge(request) or view(request, *args, **kwargs)

    return guarded
