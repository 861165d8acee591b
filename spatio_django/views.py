"""Login, callback and logout, and the account to connect and disconnect: HTTP in, HTTP out."""

import logging
import re
import secrets
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any
from urllib.parse import urlsplit

from django.conf import settings
from django.contrib import auth, messages
from django.contrib.auth.decorators import login_not_required
from django.contrib.auth.models import AnonymousUser
from django.contrib.auth.signals import user_login_failed
from django.contrib.auth.views import redirect_to_login
from django.core.exceptions import PermissionDenied, SuspiciousOperation
from django.db import connections, transaction
from django.http import (
    HttpRequest,
    HttpResponse,
    HttpResponseBase,
    HttpResponseNotAllowed,
    HttpResponseRedirect,
    JsonResponse,
)
from django.shortcuts import render, resolve_url
from django.urls import get_script_prefix, reverse
from django.utils.decorators import method_decorator
from django.utils.functional import Promise
from django.utils.http import url_has_allowed_host_and_scheme, urlencode
from django.utils.translation import gettext_lazy as _
from django.views import View
from django.views.decorators.cache import never_cache
from django.views.generic.base import ContextMixin
from mozilla_django_oidc.views import (
    OIDCAuthenticationCallbackView,
    OIDCAuthenticationRequestView,
    OIDCLogoutView,
)

from spatio_django import explanations, flow, links, registration, tokens
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
    Undecryptable,
)
from spatio_django.models import SpatioAccount
from spatio_django.pending import PendingLogin, remember, used_up

logger = logging.getLogger("spatio_django")

#: Errors that ``prompt=none`` gives when a page has to be shown after all (OpenID Connect Core §3.1.2.6).
INTERACTION_NEEDED = frozenset({"login_required", "consent_required", "interaction_required"})

PLAIN = "text/plain; charset=utf-8"

#: See :attr:`SpatioView.error_headings`.
CONNECT_HEADINGS: tuple[Promise, Promise] = (_("Connecting did not work"), _("Nothing was connected"))
#: Marks a callback that our own page leads to: the session cookie is not sent a second time in vain.
ONCE_MORE = "once_more"
#: A primary key that every database can look for.
_NUMBER = re.compile(r"[0-9]{1,18}")

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


@method_decorator([login_not_required, never_cache], name="dispatch")
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

    def dispatch(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        """Answer, with headers that keep addresses with ``code`` and ``state`` out of other sites' logs."""
        response = super().dispatch(request, *args, **kwargs)
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
        """Show a page that goes to *url* by itself, without script. Unlike a redirect, it begins anew."""
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
        return self.render(
            self.error_template_name,
            status=status,
            code=error.code,
            reference=reference,
            explanation=explanations.explanation(error),
            heading=self.error_headings[choice],
            choice=choice,
            retry_url=retry_url,
            home_url=get_script_prefix(),
            # Where an existing user connects the account that could not become a user of its own.
            account_url=links.own_url("account") if error.code == "email_taken" else None,
        )


class LoginView(SpatioView, OIDCAuthenticationRequestView):  # type: ignore[misc]  # the parent has no types
    """
    Begin a sign-in and send the browser to Spatio. OpenID Connect Core §3.1.2.1.

    Subclass and override :meth:`get_extra_params` or :meth:`get_ask` to change what is asked for.
    """

    http_method_names = ["get"]
    not_allowed_template_name = "spatio_django/not_allowed.html"

    def __init__(self, **kwargs: Any) -> None:
        # Not the parent's, which reads endpoint settings before any error could be answered.
        View.__init__(self, **kwargs)

    def get(self, request: HttpRequest) -> HttpResponse:
        """Answer each caller in its own way: a page is sent on, a script is told."""
        next_url = links.safe_next(request, request.GET.get("next"))
        if is_htmx(request):
            response = HttpResponse()
            response["HX-Redirect"] = self.page_login_url(request, request.headers.get("HX-Current-URL"))
            return response
        if not is_navigation(request):
            return JsonResponse(
                {
                    "error": "login_required",
                    "login_url": self.page_login_url(request, request.headers.get("Referer")),
                },
                status=401,
            )
        extra = dict(self.get_extra_params(request))
        ask = self.get_ask(request).with_parameters(extra)
        if request.user.is_authenticated and next_url and not ask.explicit:
            # Sent here by Django for a page that this person may not see: signing in again won't help.
            return self.render(
                self.not_allowed_template_name,
                status=403,
                next_url=next_url,
                retry_url=links.login_url(next_url),
                home_url=get_script_prefix(),
            )
        try:
            registered = registration.current()
            redirect_uri = flow.redirect_uri_for(request, registered)
            if not flow.same_host(redirect_uri, request) and "moved" not in request.GET:
                return self.to_registered_host(request, redirect_uri)
            pending, url = flow.begin(
                registered,
                redirect_uri=redirect_uri,
                next_url=next_url,
                ask=ask,
                extra=extra,
            )
        except SpatioError as error:
            return self.error_page(error, retry_url=request.get_full_path())
        response = HttpResponseRedirect(url)
        remember(request, response, pending)
        return response

    def get_extra_params(self, request: HttpRequest) -> Mapping[str, str]:
        """Give further parameters of the authorization request, ``prompt`` and ``max_age`` among them."""
        return {}

    def get_ask(self, request: HttpRequest) -> links.Ask:
        """
        Give what this sign-in asks for beyond the ordinary. Override to demand more.

        Default: what :func:`spatio_django.links.login_url` signed; and after a sign-out in this browser a
        fresh proof of identity, because the person is still signed in at Spatio.
        """
        ask = links.asked(request)
        return replace(ask, prompt="login") if request.COOKIES.get(links.SIGNED_OUT_COOKIE) else ask

    def page_login_url(self, request: HttpRequest, page: str | None) -> str:
        """Give the address that signs in and leads back to *page*, not to the fragment a script asked for."""
        next_url = None
        if page and url_has_allowed_host_and_scheme(page, {request.get_host()}):
            parts = urlsplit(page)
            next_url = links.safe_next(request, parts.path + (f"?{parts.query}" if parts.query else ""))
        return links.asked(request).login_url(next_url)

    def to_registered_host(self, request: HttpRequest, redirect_uri: str) -> HttpResponse:
        """
        Send the browser to the registered host, before a cookie is set where the callback won't see it.

        Once: behind a proxy that hides the host from us, the browser is there already.
        """
        parts = urlsplit(redirect_uri)
        query = request.GET.copy()
        query["moved"] = "1"
        return HttpResponseRedirect(f"{parts.scheme}://{parts.netloc}{request.path}?{query.urlencode()}")


class CallbackView(SpatioView, OIDCAuthenticationCallbackView):  # type: ignore[misc]  # the parent has no types
    """
    Where Spatio sends the browser back to. OpenID Connect Core §3.1.2.5 to §3.1.3.

    Every outcome is a redirect or a page of ours; nothing is raised, because an error report would show the
    address, and ``code`` and ``state`` in it.

    Attributes:
        error: Why the sign-in failed, for :meth:`login_failure`.
        login: What was verified, for :meth:`login_success`.
        user: Who signed in, likewise.
        account: Their account, likewise.
    """

    http_method_names = ["get"]
    pending: PendingLogin | None = None
    signing_in = False
    error: SpatioError
    login: flow.CompletedLogin
    user: Any
    account: SpatioAccount

    def get(self, request: HttpRequest) -> HttpResponse:
        """Complete the pending login that the callback belongs to."""
        try:
            response = self.answer(request)
            if self.pending is not None:
                remember(request, response, used_up(self.pending))
        except Exception as error:  # noqa: BLE001 - a template, a receiver, or everything is down
            logger.error("Sign-in ended: site_error %s", traceback_of(error))  # noqa: TRY400 - see there
            # No template, no user, no session: whatever failed may be needed for those.
            response = HttpResponse(str(explanations.BY_CODE["site_error"]), status=503, content_type=PLAIN)
        # A failure was logged above. Django's own record would carry the request along, and error mails would
        # show "code" and "state" in its address.
        return unlogged(response)

    def answer(self, request: HttpRequest) -> HttpResponse:
        """Sign in, or say why not."""
        try:
            pending, registered = flow.recall(request)
            if self.lacks_session(request, pending):
                return self.once_more(request)
            self.pending = pending
            if pending.connect_to is not None:
                self.error_headings = CONNECT_HEADINGS
                self.require_same_user(request, pending)
            self.login = flow.complete(request, pending, registered)
            return self.sign_in(request) if pending.connect_to is None else self.connect(request)
        except SpatioError as error:
            self.error = error
        except Exception as error:  # noqa: BLE001 - whatever a site's hook, receiver or database raises
            self.error = SiteFailure(traceback_of(error), code="site_error")
        if self.signing_in:
            self.abandon(request)
        return self.failed(request)

    def sign_in(self, request: HttpRequest) -> HttpResponse:
        """Turn what was verified into a user and a session."""
        from spatio_django.backends import configured  # here: its parent loads an HTTP and a JWT library

        backend_path, backend = configured()
        with refusals():
            self.user = backend.authenticate(request, spatio_login=self.login)
        if self.user is None:
            raise LoginRefused("The backend gave no user.", code="refused")
        if backend.account is None or backend.account.user_id != self.user.pk:
            raise LoginRefused("The backend gave no account with the user.", code="refused")
        self.account = backend.account
        self.user.backend = backend_path
        return self.login_success()

    def login_success(self) -> HttpResponse:
        """
        Sign the user in and go on. Always with a new session key, whoever was signed in here before.

        The grant is stored after ``auth.login``, which empties the session when another user held it, and the
        grant that this session held before is dropped.
        """
        self.signing_in = True
        session = self.request.session
        before, key = session.get(tokens.SESSION_KEY), session.session_key
        auth.login(self.request, self.user)
        if key is not None and session.session_key == key:
            # Django keeps the key when the same user signs in again; a planted one must not survive that.
            session.cycle_key()
        tokens.store(self.request, self.login, self.account)
        tokens.drop(before)
        response = self.onward()
        if self.request.COOKIES.get(links.SIGNED_OUT_COOKIE):
            response.delete_cookie(links.SIGNED_OUT_COOKIE, samesite="Lax")
        return response

    def connect(self, request: HttpRequest) -> HttpResponse:
        """
        Join the account to the user who is signed in, and give their session the grant.

        With a new session key: from here on the session opens more than it did before.
        """
        from spatio_django.backends import configured  # here: as above

        _path, backend = configured()
        with refusals():
            self.account = backend.connect(request.user, self.login)
        before = request.session.get(tokens.SESSION_KEY)
        request.session.cycle_key()
        tokens.store(request, self.login, self.account)
        tokens.drop(before)
        messages.success(request, _("Your Spatio account is connected."), fail_silently=True)
        return self.onward()

    def onward(self) -> HttpResponse:
        """Lead to :attr:`success_url`."""
        if not links.session_cookie_is_strict():
            return HttpResponseRedirect(self.success_url)
        # The redirect would still belong to the navigation from Spatio, so the browser would not send the new
        # session cookie along. A page of our own that moves on by itself begins a new one.
        return self.moving_on(self.success_url)

    def lacks_session(self, request: HttpRequest, pending: PendingLogin) -> bool:
        """Tell whether the browser kept a ``Strict`` session cookie back, which connecting needs."""
        return (
            pending.connect_to is not None
            and links.session_cookie_is_strict()
            and settings.SESSION_COOKIE_NAME not in request.COOKIES
            and ONCE_MORE not in request.GET
        )

    def once_more(self, request: HttpRequest) -> HttpResponse:
        """Come here again from a page of our own, so that the cookie is sent. Nothing is used up yet."""
        return self.moving_on(f"{request.get_full_path()}&{ONCE_MORE}=1")

    def require_same_user(self, request: HttpRequest, pending: PendingLogin) -> None:
        """
        Let nobody's account be connected to another than the user who asked for it.

        On a shared computer somebody else may have signed in here meanwhile.

        Raises:
            LoginRefused: ``connect_user``.
        """
        if not request.user.is_authenticated or user_key(request.user) != pending.connect_to:
            raise LoginRefused("The user who began to connect is not signed in.", code="connect_user")

    def login_failure(self) -> HttpResponse:
        """Answer a sign-in that failed with :attr:`error`. Override to present it your way."""
        if self.failure_url:
            log(self.error)
            return HttpResponseRedirect(self.failure_url)
        return self.error_page(self.error, retry_url=self.retry_url)

    @property
    def retry_url(self) -> str:
        """Where the same sign-in begins anew: same page, same demands, and no longer silently."""
        if self.pending is None:
            return links.login_url()
        if self.pending.connect_to is not None:
            return account_url(self.pending.next_url)
        ask = self.pending.ask
        return replace(ask, prompt=None if ask.prompt == "none" else ask.prompt).login_url(
            self.pending.next_url
        )

    @property
    def success_url(self) -> str:
        """Where it leads: the page it began at, or ``LOGIN_REDIRECT_URL``, or a page that is there."""
        next_url = self.pending.next_url if self.pending else None
        if self.pending and self.pending.connect_to is not None:
            return next_url or account_url()
        return next_url or links.landing_page()

    @property
    def failure_url(self) -> str | None:
        """Where a failed sign-in leads instead of our page: ``LOGIN_REDIRECT_URL_FAILURE``, if set."""
        url = self.get_settings("LOGIN_REDIRECT_URL_FAILURE", None)
        return resolve_url(url) if url else None

    def abandon(self, request: HttpRequest) -> None:
        """Leave nobody half signed in, even when the session store is what failed."""
        try:
            auth.logout(request)
        except Exception:  # noqa: BLE001 - the error that led here is the one to report
            request.session = type(request.session)()
            request.user = AnonymousUser()

    def failed(self, request: HttpRequest) -> HttpResponse:
        """Tell a reload, and a silent sign-in that needs a page after all, from an error."""
        if self.error.code == "state_used" and request.user.is_authenticated:
            return HttpResponseRedirect(self.success_url)
        if self.pending and self.pending.ask.prompt == "none" and self.error.code in INTERACTION_NEEDED:
            return HttpResponseRedirect(self.retry_url)
        connecting = self.pending is not None and self.pending.connect_to is not None
        if not (connecting or is_choice(self.error)):
            # Without credentials: those of an OpenID Connect login are secrets, and receivers log them.
            user_login_failed.send(sender=__name__, credentials={}, request=request)
        return self.login_failure()


class LogoutView(SpatioView, OIDCLogoutView):  # type: ignore[misc]  # the parent has no types
    """Sign out of this site: POST, with the CSRF token."""

    http_method_names = ["post"]

    def post(self, request: HttpRequest) -> HttpResponse:
        """End the local session; its grant is dropped with it."""
        auth.logout(request)
        return HttpResponseRedirect(self.redirect_url)

    @property
    def redirect_url(self) -> str:
        """Where signing out leads: ``next`` from the form, or ``LOGOUT_REDIRECT_URL``, or the front page."""
        next_url = links.safe_next(self.request, self.request.POST.get("next"))
        return next_url or resolve_url(settings.LOGOUT_REDIRECT_URL or get_script_prefix())


class AccountView(SpatioView):
    """The page "Spatio account": what is connected to the user who is signed in, to change it."""

    http_method_names = ["get"]
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
        mine = SpatioAccount.objects.filter(user=request.user.pk)  # nobody's for nobody
        account = mine.filter(pk=number).first() if _NUMBER.fullmatch(number) else None
        if account is None:  # gone already, or never theirs
            return HttpResponseRedirect(account_url(next_url))
        handle = request.session.get(tokens.SESSION_KEY)
        holds_its_grant = account.tokens.filter(handle=handle).exists()
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


def account_url(next_url: str | None = None) -> str:
    """Give the path of the page "Spatio account", which hands *next_url* on to what is done there."""
    url = links.own_url("account")
    if url is None:  # a site that wants no such page: what follows is on the page that was wanted
        return next_url or get_script_prefix()
    return url + (f"?{urlencode({'next': next_url})}" if next_url else "")


def user_key(user: Any) -> str:
    """Give the primary key of *user* as the session holds it."""
    return str(user._meta.pk.value_to_string(user))


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


@contextmanager
def refusals() -> Iterator[None]:
    """
    Turn the ways in which Django's backends say no into ours.

    Raises:
        LoginRefused: ``refused``.
    """
    try:
        yield
    except (PermissionDenied, SuspiciousOperation) as error:
        raise LoginRefused("The backend refused.", code="refused") from error


def is_choice(error: SpatioError) -> bool:
    """Tell whether the person declined at Spatio; from the token endpoint the same code would be a fault."""
    return error.code == "access_denied" and "status" not in error.context


def level(error: SpatioError) -> int:
    """Give the level to log *error* at: what an operator must mend is an error."""
    if isinstance(error, SiteFailure | ConfigurationError | Undecryptable):
        return logging.ERROR
    return logging.INFO if is_choice(error) else logging.WARNING


def log(error: SpatioError) -> str:
    """Log *error* once, and give the reference under which it is found."""
    reference = secrets.token_hex(4)
    logger.log(
        level(error),
        "Sign-in ended: %s [%s] %s",
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
    return request.headers.get("HX-Request") == "true"


def is_navigation(request: HttpRequest) -> bool:
    """
    Tell whether a browser is about to show the answer as a page, rather than a script to read it.

    By ``Sec-Fetch-Mode``, which scripts can't set; by what older clients send where it is absent.
    """
    mode = request.headers.get("Sec-Fetch-Mode")
    if mode:
        return mode == "navigate"
    if request.headers.get("X-Requested-With") == "XMLHttpRequest":
        return False
    accept = request.headers.get("Accept", "*/*")
    return "text/html" in accept or "application/json" not in accept
