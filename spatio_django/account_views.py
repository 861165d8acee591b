"""The page "Spatio account", and what is done there: connect an account, and disconnect it."""

import re
from urllib.parse import urlsplit

from django.conf import settings
from django.contrib import messages
from django.contrib.auth.views import redirect_to_login
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import resolve_url
from django.urls import get_script_prefix, reverse
from django.utils.translation import gettext_lazy as _

from spatio_django import flow, links, registration, tokens
from spatio_django.answers import CONNECT_HEADINGS, SpatioView, is_htmx
from spatio_django.exceptions import ConfigurationError, LoginRefused, SpatioError
from spatio_django.links import account_url
from spatio_django.models import SpatioAccount, SpatioToken, authoritative
from spatio_django.pending import remember
from spatio_django.tokens import user_key

#: A primary key that every database can look for.
_NUMBER = re.compile(r"[0-9]{1,18}")


class AccountView(SpatioView):
    """The page "Spatio account": what is connected to the user who is signed in, to change it."""

    http_method_names = ["get", "head"]
    account_template_name = "spatio_django/account.html"

    def get(self, request: HttpRequest) -> HttpResponse:
        """
        Show the page; to nobody it says how to begin.

        Where ``LOGIN_URL`` leads straight to Spatio, somebody who has a password here must not be sent there:
        they would come back as a new user.
        """
        from spatio_django.backends import configured  # here: its parent loads an HTTP and a JWT library

        here = request.get_full_path()
        leads_to_spatio = resolve_url(settings.LOGIN_URL) == reverse("spatio:login")
        if not (request.user.is_authenticated or leads_to_spatio):
            return redirect_to_login(here)
        try:
            _path, backend = configured()
        except ConfigurationError as error:
            return self.error_page(error, retry_url=here)
        return self.render(
            self.account_template_name,
            connected=backend.accounts_of(request.user),
            next_url=links.safe_next(request, request.GET.get("next")),
            login_url=links.login_url(here),
            home_url=get_script_prefix(),
        )


class ConnectView(SpatioView):
    """Begin to connect a Spatio account to the user who is signed in: POST, with the CSRF token."""

    http_method_names = ["post"]
    error_headings = CONNECT_HEADINGS

    def post(self, request: HttpRequest) -> HttpResponse:
        """Send the browser to Spatio."""
        next_url = links.safe_next(request, request.POST.get("next"))
        if not request.user.is_authenticated:
            return HttpResponseRedirect(account_url(next_url))
        try:
            registered = registration.current()
            redirect_uri = flow.redirect_uri_for(request, registered)
            if not is_here(redirect_uri, request):
                parts = urlsplit(redirect_uri)
                return self.error_page(
                    LoginRefused("Begun at a host that is not registered.", code="other_host"),
                    retry_url=f"{parts.scheme}://{parts.netloc}{account_url(next_url)}",
                )
            pending, url = flow.begin(
                registered,
                redirect_uri=redirect_uri,
                next_url=next_url,
                ask=self.get_ask(request),
                extra={},
                connect_to=user_key(request.user),
            )
        except SpatioError as error:
            return self.error_page(error, retry_url=account_url(next_url))
        # Not a redirect: browsers hold it against a policy of "form-action 'self'", which sites have.
        response = self.moving_on(url)
        if is_htmx(request):
            response["HX-Redirect"] = url
        remember(request, response, pending)
        return response

    def get_ask(self, request: HttpRequest) -> links.Ask:
        """
        Give what is asked for. Override to demand more.

        Default: consent, even if it was given before, so that the person sees whose account they connect: on
        a shared computer it may be another's who is still signed in at Spatio.
        """
        return links.Ask(prompt="consent", explicit=True)


class DisconnectView(SpatioView):
    """Take a Spatio account off the user who is signed in: POST, with the CSRF token."""

    http_method_names = ["post"]
    error_headings = (_("Disconnecting did not work"), _("Disconnecting did not work"))

    def post(self, request: HttpRequest) -> HttpResponse:
        """Disconnect the account that the form names, if it is this user's."""
        from spatio_django.backends import configured  # here: its parent loads an HTTP and a JWT library

        next_url = links.safe_next(request, request.POST.get("next"))
        number = request.POST.get("account", "")
        mine = authoritative(SpatioAccount).filter(user=request.user.pk)  # nobody's for nobody
        account = mine.filter(pk=number).first() if _NUMBER.fullmatch(number) else None
        if account is None:  # gone already, or never theirs
            return HttpResponseRedirect(account_url(next_url))
        handle = request.session.get(tokens.SESSION_KEY)
        holds_its_grant = authoritative(SpatioToken).filter(account=account, handle=handle).exists()
        try:
            _path, backend = configured()
            backend.disconnect(account)
        except SpatioError as error:
            return self.error_page(error, retry_url=account_url(next_url))
        if holds_its_grant:
            # The person stays signed in here; other sessions that came through this account end.
            del request.session[tokens.SESSION_KEY]
        messages.success(request, _("Your Spatio account is disconnected."), fail_silently=True)
        return HttpResponseRedirect(next_url or account_url())


def is_here(redirect_uri: str, request: HttpRequest) -> bool:
    """
    Tell whether the browser that posted *request* is on the host of *redirect_uri*.

    By ``Origin``, which browsers send with each form and no proxy rewrites; else by the request's host.
    """
    origin = request.headers.get("Origin", "null")
    parts = urlsplit(redirect_uri)
    return (
        flow.same_host(redirect_uri, request)
        if origin == "null"
        else origin == f"{parts.scheme}://{parts.netloc}"
    )
