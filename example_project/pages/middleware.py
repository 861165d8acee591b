"""A strict content security policy, to show that sign-in needs no script and no inline style."""

from collections.abc import Callable

from django.http import HttpRequest, HttpResponse

from spatio_django.conf import conf


def content_security_policy(
    get_response: Callable[[HttpRequest], HttpResponse],
) -> Callable[[HttpRequest], HttpResponse]:
    """Let pages load what this site serves, and pictures of people from Spatio."""
    policy = (
        f"default-src 'self'; img-src 'self' {conf.SPATIO_ISSUER}; "
        # A form that signs out and comes back to sign in again ends up at Spatio.
        f"form-action 'self' {conf.SPATIO_ISSUER}; "
        "base-uri 'none'; frame-ancestors 'none'; object-src 'none'"
    )

    def add_policy(request: HttpRequest) -> HttpResponse:
        response = get_response(request)
        response.headers.setdefault("Content-Security-Policy", policy)
        return response

    return add_policy
