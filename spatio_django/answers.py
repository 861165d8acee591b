"""What our views share: the pages that they answer with, and the log."""

import logging
import secrets
import traceback
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

from django.contrib.auth.decorators import login_not_required
from django.db import connections, transaction
from django.http import HttpRequest, HttpResponse, HttpResponseBase, HttpResponseNotAllowed, JsonResponse
from django.shortcuts import render
from django.urls import get_script_prefix
from django.utils.cache import add_never_cache_headers
from django.utils.functional import Promise
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _
from django.views import View
from django.views.generic.base import ContextMixin

from spatio_django import explanations, links
from spatio_django.conf import conf, get_settings
from spatio_django.exceptions import (
    ConfigurationError,
    LoginNotFound,
    LoginRefused,
    ProtocolViolation,
    ProviderRefused,
    ProviderUnavailable,
    SiteFailure,
    SpatioError,
    TokenUnavailable,
    Undecryptable,
)

logger = logging.getLogger("spatio_django")

#: See :attr:`SpatioView.error_headings`.
CONNECT_HEADINGS: tuple[Promise, Promise] = (_("Connecting did not work"), _("Nothing was connected"))

#: HTTP status of the page that explains an error, by class. A site that is not set up counts as unavailable.
STATUSES: tuple[tuple[type[SpatioError], int], ...] = (
    (LoginNotFound, 400),
    (LoginRefused, 403),
    (ProviderRefused, 403),
    (ProviderUnavailable, 503),
    (ConfigurationError, 503),
    (ProtocolViolation, 502),
)


def outside_transactions(view: Callable[..., Any]) -> Callable[..., Any]:
    """
    Keep *view* out of ``ATOMIC_REQUESTS`` on every database.

    A transaction must not be held open while Spatio answers, and a used state must stay used whatever
    happens after.
    """
    for alias in connections:
        view = transaction.non_atomic_requests(using=alias)(view)
    return view


class SpatioView(ContextMixin, View):
    """What our views share: headers, settings, and the page that explains an error."""

    get_settings = staticmethod(get_settings)
    error_template_name = "spatio_django/login_error.html"
    continue_template_name = "spatio_django/continue.html"
    #: Headings of that page: for a failure, and for a person who said no.
    error_headings: tuple[Promise, Promise] = (_("Signing in did not work"), _("Sign-in cancelled"))

    @classmethod
    def as_view(cls, **initkwargs: Any) -> Callable[..., HttpResponseBase]:
        """Make the view function."""
        return outside_transactions(super().as_view(**initkwargs))

    @login_not_required  # for LoginRequiredMiddleware: as_view() hands the mark on
    def dispatch(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        """Answer, never to be cached, and keep addresses with ``code`` and ``state`` out of others' logs."""
        response = super().dispatch(request, *args, **kwargs)
        add_never_cache_headers(response)
        # Not no-referrer: browsers would send "Origin: null" with our pages' forms, which Django refuses.
        response["Referrer-Policy"] = "same-origin"
        return response

    def http_method_not_allowed(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        """Refuse other methods, without Django's log record: the address may hold an unused code."""
        return unlogged(HttpResponseNotAllowed([name.upper() for name in self.http_method_names]))

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        """Give the context of our templates. Override to add to it."""
        return super().get_context_data(base_template=conf.SPATIO_BASE_TEMPLATE, **kwargs)

    def render(self, template: str, *, status: int = 200, **context: Any) -> HttpResponse:
        """Render one of our pages."""
        return render(self.request, template, self.get_context_data(**context), status=status)

    def moving_on(self, url: str) -> HttpResponse:
        """Show a page that goes to *url* by itself, without script: a navigation of its own, no redirect."""
        response = self.render(self.continue_template_name, next_url=url)
        response["Refresh"] = f"0;url={url}"
        return response

    def error_page(self, error: SpatioError, *, retry_url: str) -> HttpResponse:
        """
        Explain *error* to the person, and log it under the reference that the page shows.

        Override to present it your way. ``error.code`` is stable; its text is for developers.
        """
        choice, reference = is_choice(error), log(error)
        status = 200 if choice else next((code for kind, code in STATUSES if isinstance(error, kind)), 503)
        page = self.render(
            self.error_template_name,
            status=status,
            code=error.code,
            reference=reference,
            explanation=explanations.explanation(error),
            heading=self.error_headings[choice],
            choice=choice,
            retry_url=retry_url,
            retry_label=retry_label(error, retry_url),
            home_url=get_script_prefix(),
            # Where an existing user connects the account that could not become a user of its own.
            account_url=links.own_url("account") if error.code == "email_taken" else None,
            sign_out=error.code == "account_taken",
        )
        # Once is enough; and Django's record of a 503 would be mailed for every click, while Spatio is down.
        return page if level(error) == logging.ERROR else unlogged(page)


def unavailable(request: HttpRequest, error: TokenUnavailable) -> HttpResponse:
    """Say that a page needs Spatio, which does not answer: a page to a person, JSON to a script."""
    if not is_navigation(request):
        log(error)
        return unlogged(JsonResponse({"error": error.code}, status=503))
    view = SpatioView()
    view.setup(request)
    view.error_headings = (_("This page needs Spatio"), _("This page needs Spatio"))
    page = view.error_page(error, retry_url=request.get_full_path())
    add_never_cache_headers(page)
    return page


def retry_label(error: SpatioError, retry_url: str) -> str:
    """Name what *retry_url* is good for: the same once more, or something else first."""
    if error.code == "other_host":
        return gettext("Go to %(host)s") % {"host": urlsplit(retry_url).netloc}
    if isinstance(error, LoginRefused) and urlsplit(retry_url).path == links.own_url("account"):
        return gettext("Your Spatio account")
    return gettext("Try again")


def is_choice(error: SpatioError) -> bool:
    """Tell whether the person declined at Spatio; from the token endpoint the same code would be a fault."""
    return error.code == "access_denied" and "status" not in error.context


def level(error: SpatioError) -> int:
    """Give the level to log *error* at: what an operator must mend is an error."""
    if isinstance(error, SiteFailure | ConfigurationError | Undecryptable):
        return logging.ERROR
    # Why there is no token was logged where it failed, once a minute; this is told for each click.
    is_usual = is_choice(error) or isinstance(error, TokenUnavailable)
    return logging.INFO if is_usual else logging.WARNING


def log(error: SpatioError) -> str:
    """Log *error* once, and give the reference under which it is found."""
    reference = secrets.token_hex(4)
    logger.log(
        level(error),
        "%s: %s [%s] %s",
        "There was no access token" if isinstance(error, TokenUnavailable) else "Sign-in ended",
        error.code,
        reference,
        error,
        extra={"spatio": {"code": error.code, "reference": reference, **error.context}},
    )
    return reference


def traceback_of(error: Exception) -> str:
    """
    Give the traceback of *error* as text.

    A traceback object would carry the request, and with it ``code`` and ``state``, into error reports that
    show local variables.
    """
    return "".join(traceback.format_exception(error))


def unlogged(response: HttpResponse) -> HttpResponse:
    """Keep Django from logging *response* together with its request."""
    response._has_been_logged = True  # type: ignore[attr-defined]  # noqa: SLF001 - there is no public way
    return response


def is_htmx(request: HttpRequest) -> bool:
    """Tell whether htmx asks, which follows a header and not a redirect to another site."""
    asker: str | None = request.META.get("HTTP_HX_REQUEST")
    return asker == "true"


def is_navigation(request: HttpRequest) -> bool:
    """
    Tell whether a browser is about to show the answer as a page, rather than a script to read it.

    By ``Sec-Fetch-Mode``, which scripts can't set; by what older clients send where it is absent.
    """
    mode: str | None = request.META.get("HTTP_SEC_FETCH_MODE")
    if mode:
        return mode == "navigate"
    if request.META.get("HTTP_X_REQUESTED_WITH") == "XMLHttpRequest":
        return False
    accept = request.META.get("HTTP_ACCEPT", "*/*")
    return "text/html" in accept or "application/json" not in accept
