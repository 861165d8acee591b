"""Login, callback and logout: HTTP in, HTTP out."""

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, cast
from urllib.parse import urlsplit

from django.conf import settings
from django.contrib import auth, messages
from django.contrib.auth.models import AnonymousUser
from django.contrib.auth.signals import user_login_failed
from django.core.exceptions import PermissionDenied, SuspiciousOperation
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect, JsonResponse
from django.shortcuts import resolve_url
from django.urls import get_script_prefix
from django.utils.http import url_has_allowed_host_and_scheme
from django.utils.translation import gettext_lazy as _
from django.views import View
from mozilla_django_oidc.views import (
    OIDCAuthenticationCallbackView,
    OIDCAuthenticationRequestView,
    OIDCLogoutView,
)

from spatio_django import explanations, flow, links, registration, sessions, tokens
from spatio_django.answers import (
    CONNECT_HEADINGS,
    SpatioView,
    is_choice,
    is_htmx,
    is_navigation,
    log,
    traceback_of,
    unlogged,
)
from spatio_django.exceptions import LoginRefused, SiteFailure, SpatioError
from spatio_django.links import account_url
from spatio_django.models import SpatioAccount
from spatio_django.pending import PendingLogin, remember, used_up
from spatio_django.signals import signed_in
from spatio_django.tokens import SpatioRequest, user_key

logger = logging.getLogger("spatio_django")

#: Errors that ``prompt=none`` gives when a page has to be shown after all (OpenID Connect Core §3.1.2.6).
INTERACTION_NEEDED = frozenset(
    {"login_required", "consent_required", "interaction_required", "account_selection_required"}
)

PLAIN = "text/plain; charset=utf-8"

#: Marks a callback that our own page leads to: the session cookie is not sent a second time in vain.
ONCE_MORE = "once_more"


class LoginView(SpatioView, OIDCAuthenticationRequestView):  # type: ignore[misc]  # the parent has no types
    """
    Begin a sign-in and send the browser to Spatio. OpenID Connect Core §3.1.2.1.

    Subclass and override :meth:`get_extra_params` or :meth:`get_ask` to change what is asked for.
    """

    http_method_names = ["get"]
    not_allowed_template_name = "spatio_django/not_allowed.html"
    interrupted_template_name = "spatio_django/interrupted.html"

    def __init__(self, **kwargs: Any) -> None:
        # Not the parent's, which reads endpoint settings before any error could be answered.
        View.__init__(self, **kwargs)

    def get(self, request: HttpRequest) -> HttpResponse:
        """Answer each caller in its own way: a page is sent on, a script is told."""
        next_url = links.safe_next(request, request.GET.get("next"))
        extra = dict(self.get_extra_params(request))
        ask = self.get_ask(request).with_parameters(extra)
        if request.user.is_authenticated and next_url and not ask.explicit:
            return self.not_allowed(request, next_url)
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
        if request.COOKIES.get(links.INTERRUPTED_COOKIE):
            return self.interrupted(request)
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
        if request.COOKIES.get(links.AGAIN_COOKIE) == links.SILENT:
            response.delete_cookie(links.AGAIN_COOKIE, samesite="Lax")  # once
        remember(request, response, pending)
        return response

    def interrupted(self, request: HttpRequest) -> HttpResponse:
        """Tell somebody whose session ended under a form that it did not arrive, before they go on."""
        response = self.render(self.interrupted_template_name, continue_url=request.get_full_path())
        response.delete_cookie(links.INTERRUPTED_COOKIE, samesite="Lax")
        return response

    def not_allowed(self, request: HttpRequest, next_url: str) -> HttpResponse:
        """
        Say to somebody who is signed in that *next_url* is not for them.

        Django sent them here, and signing in again won't help: a script that is told to would come by each
        time that its page loads.
        """
        if not (is_htmx(request) or is_navigation(request)):
            return JsonResponse({"error": "not_allowed"}, status=403)
        return self.render(
            self.not_allowed_template_name,
            status=403,
            next_url=next_url,
            retry_url=links.login_url(next_url),
            home_url=get_script_prefix(),
        )

    def get_extra_params(self, request: HttpRequest) -> Mapping[str, str]:
        """Give further parameters of the authorization request, ``prompt`` and ``max_age`` among them."""
        return {}

    def get_ask(self, request: HttpRequest) -> links.Ask:
        """
        Give what this sign-in asks for beyond the ordinary. Override to demand more.

        Default: what :func:`spatio_django.links.login_url` signed. Beside that, after a sign-out in this
        browser a fresh proof of identity, because the person is still signed in at Spatio, and after a
        session that ended by itself what is fit for its end.
        """
        ask = links.asked(request)
        if request.COOKIES.get(links.SIGNED_OUT_COOKIE):
            return replace(ask, prompt="login")
        again = request.COOKIES.get(links.AGAIN_COOKIE)
        if again == links.FRESH and ask.max_age is None:
            return replace(ask, max_age=0)
        if again == links.SILENT and ask.prompt is None and ask.max_age is None:
            return replace(ask, prompt="none")
        return ask

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
        # The query as it came: written anew, in an encoding that the request names, it can be impossible.
        here = request.get_full_path()
        mark = "&" if "?" in here else "?"
        return HttpResponseRedirect(f"{parts.scheme}://{parts.netloc}{here}{mark}moved=1")


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
        assert self.pending is not None  # noqa: S101 - for the type checker
        if not tokens.is_trusted(self.account, self.login, self.pending):
            return self.prove_again(self.pending)
        self.user.backend = backend_path
        return self.login_success()

    def prove_again(self, pending: PendingLogin) -> HttpResponse:
        """
        Send somebody back to Spatio to prove who they are, whose sessions were all ended.

        Whoever sits before another browser that is still signed in at Spatio must not come in by that.
        """
        tokens.discard(self.login, self.account)
        return HttpResponseRedirect(replace(pending.ask, prompt=None, max_age=0).login_url(pending.next_url))

    def login_success(self) -> HttpResponse:
        """
        Sign the user in and go on. Always with a new session key, whoever was signed in here before.

        The grant is stored after ``auth.login``, which empties the session when another user held it, and the
        grant that this session held before is revoked.
        """
        self.signing_in = True
        before = self.request.session.get(tokens.SESSION_KEY)
        sessions.log_in(self.request, self.user)
        tokens.store(self.request, self.login, self.account)
        sessions.write(self.request.session)
        tokens.replaced(before)
        signed_in.send_robust(
            sender=SpatioAccount,
            request=self.request,
            user=self.user,
            account=self.account,
            scopes=frozenset(self.login.scopes),
        )
        response = self.onward()
        for name in (links.SIGNED_OUT_COOKIE, links.AGAIN_COOKIE, links.INTERRUPTED_COOKIE):
            if name in self.request.COOKIES:
                response.delete_cookie(name, samesite="Lax")
        return response

    def connect(self, request: HttpRequest) -> HttpResponse:
        """
        Join the account to the user who is signed in, and give their session the grant.

        With a new session key: from here on the session opens more than it did before.
        """
        from spatio_django.backends import configured  # here: as above

        self.require_session(request)
        _path, backend = configured()
        with refusals():
            self.account = backend.connect(request.user, self.login)
        before = request.session.get(tokens.SESSION_KEY)
        grant = tokens.store(request, self.login, self.account)
        try:
            sessions.renew_key(request.session)
        except Exception:
            tokens.drop(grant.handle, "replaced")  # the session goes on as it was
            raise
        tokens.replaced(before)
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

    def require_session(self, request: HttpRequest) -> None:
        """
        Look whether the session is still there, after all the seconds that Spatio took.

        Giving it a new key would bring back one that was signed out meanwhile in another tab.

        Raises:
            LoginRefused: ``connect_user``.
        """
        stored = type(request.session)(request.session.session_key)
        if stored.get(auth.SESSION_KEY) != user_key(request.user):
            request.user = AnonymousUser()
            raise LoginRefused("The user who began to connect has signed out.", code="connect_user")

    def login_failure(self) -> HttpResponse:
        """Answer a sign-in that failed with :attr:`error`. Override to present it your way."""
        # That page is for people who are not signed in, and can't tell why nothing was connected.
        if self.failure_url and not self.connecting:
            log(self.error)
            return HttpResponseRedirect(self.failure_url)
        return self.error_page(self.error, retry_url=self.retry_url)

    @property
    def connecting(self) -> bool:
        """Whether somebody who is signed in connects an account, instead of signing in."""
        return self.pending is not None and self.pending.connect_to is not None

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
        # Nobody signed out, so the next sign-in need not ask who it is.
        cast(SpatioRequest, request).spatio_signed_out = False

    def failed(self, request: HttpRequest) -> HttpResponse:
        """Tell a reload, and a silent sign-in that needs a page after all, from an error."""
        if self.error.code == "state_used" and request.user.is_authenticated:
            return HttpResponseRedirect(self.success_url)
        if self.pending and self.pending.ask.prompt == "none" and self.error.code in INTERACTION_NEEDED:
            return HttpResponseRedirect(self.retry_url)
        if not (self.connecting or is_choice(self.error)):
            # Without credentials: those of an OpenID Connect login are secrets, and receivers log them.
            user_login_failed.send(sender=__name__, credentials={}, request=request)
        return self.login_failure()


class LogoutView(SpatioView, OIDCLogoutView):  # type: ignore[misc]  # the parent has no types
    """Sign out of this site: POST, with the CSRF token."""

    http_method_names = ["post"]

    def post(self, request: HttpRequest) -> HttpResponse:
        """End the local session, and have its grant revoked."""
        auth.logout(request)
        if "page_between" in request.POST:
            # Leads to a page that leads on to Spatio: as one chain of redirects, browsers hold it against a
            # policy of "form-action 'self'".
            return self.moving_on(self.redirect_url)
        return HttpResponseRedirect(self.redirect_url)

    @property
    def redirect_url(self) -> str:
        """Where signing out leads: ``next`` from the form, or ``LOGOUT_REDIRECT_URL``, or the front page."""
        next_url = links.safe_next(self.request, self.request.POST.get("next"))
        return next_url or resolve_url(settings.LOGOUT_REDIRECT_URL or get_script_prefix())


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
