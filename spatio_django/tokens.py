"""Stored grants over time: kept at sign-in, used by ``request.spatio``, ended at sign-out."""

import asyncio
import hashlib
import logging
import secrets
import time
from abc import ABC, abstractmethod
from collections.abc import Collection
from concurrent.futures import Future
from functools import partial
from typing import TYPE_CHECKING, Any, cast

from asgiref.sync import sync_to_async
from django.conf import settings
from django.contrib import auth
from django.contrib.sessions.backends.base import SessionBase
from django.core.exceptions import ImproperlyConfigured
from django.db import DatabaseError, router
from django.http import HttpRequest
from django.middleware.csrf import CSRF_SESSION_KEY
from django.utils import timezone
from django.utils.functional import cached_property

from spatio_django import links, revocation
from spatio_django.conf import conf
from spatio_django.exceptions import ConfigurationError, SessionEnded, TokenUnavailable, Undecryptable
from spatio_django.models import GrantState, SpatioAccount, SpatioToken, authoritative, from_now
from spatio_django.oidc.id_token import LEEWAY
from spatio_django.oidc.secret import Secret
from spatio_django.oidc.urls import is_loopback
from spatio_django.refreshing import Need, afresh, fresh, window
from spatio_django.threads import beside

if TYPE_CHECKING:
    from spatio import Configuration

    from spatio_django.flow import CompletedLogin
    from spatio_django.oidc.api import ApiSession, Response
    from spatio_django.pending import PendingLogin

logger = logging.getLogger("spatio_django")

#: Where the session keeps the handle of its grant: all it ever holds of ours.
SESSION_KEY = "_spatio_grant"

#: Seconds between notes that a grant is in use.
SEEN_EVERY = 24 * 3600

#: Members of the ID token that a refreshed one is compared with (OpenID Connect Core §12.2).
KEPT_CLAIMS = ("iss", "sub", "aud", "azp", "auth_time", "iat")


def store(request: HttpRequest, login: "CompletedLogin", account: SpatioAccount) -> SpatioToken:
    """
    Keep what *login* gave, and let the session of *request* point to it.

    Called after ``auth.login``, which may have thrown the session's old contents away.
    """
    grant = SpatioToken(
        account=account,
        client_id=login.client_id,
        scope=" ".join(login.scopes),
        id_token_claims={
            name: login.id_token_claims[name] for name in KEPT_CLAIMS if name in login.id_token_claims
        },
        seen_ms=from_now(0),
    )
    grant.access_token = login.tokens.access_token
    grant.refresh_token = login.tokens.refresh_token
    if login.tokens.expires_in is not None:
        grant.ttl_ms = login.tokens.expires_in * 1000
        grant.expires_ms = from_now(login.tokens.expires_in)
    grant.save(force_insert=True)
    request.session[SESSION_KEY] = grant.handle
    return grant


def drop(handle: str | None, reason: str) -> None:
    """End the grant with that handle, if there is one: its session is signed out, others are not."""
    if handle:
        grant_id = authoritative(SpatioToken).filter(handle=handle).values_list("pk", flat=True).first()
        if grant_id is not None:
            revocation.end(grant_id, reason, delete=True)


def replaced(handle: str | None) -> None:
    """End the grant that a session held before it signed in again. The sign-in does not fail for that."""
    try:
        with revocation.waiting_later():  # nobody waits for it
            drop(handle, "replaced")
    except DatabaseError:
        logger.exception("A grant that was replaced could not be ended.")


def is_trusted(account: SpatioAccount, login: "CompletedLogin", pending: "PendingLogin") -> bool:
    """
    Tell whether a sign-in rests on a proof of identity newer than the end of all the person's sessions.

    Either it was asked for, and so checked; or the ID token says when it was.
    """
    if account.reauth_after is None or pending.ask.max_age == 0:
        return True
    auth_time = login.id_token_claims.get("auth_time")
    return auth_time is not None and auth_time > account.reauth_after.timestamp()


def discard(login: "CompletedLogin", account: SpatioAccount) -> None:
    """Have the tokens of a sign-in that leads nowhere revoked."""
    grant = SpatioToken(account=account, client_id=login.client_id)
    with revocation.waiting_later():  # nobody does
        revocation.discard(
            grant, refresh_token=login.tokens.refresh_token, access_token=login.tokens.access_token
        )


def sign_out_everywhere(user: Any) -> int:
    """
    End all sessions and grants that *user* has from Spatio, and have their tokens revoked.

    The next sign-in of that person must rest on a new proof of identity at Spatio, whatever browser it is in.
    Sessions that were signed in with a password go on, without Spatio. Another process may take a minute to
    notice.

    Returns:
        How many grants ended.
    """
    return distrust(user, "signed_out_everywhere")


async def asign_out_everywhere(user: Any) -> int:
    """Do as :func:`sign_out_everywhere`."""
    return await sync_to_async(sign_out_everywhere)(user)


def distrust(user: Any, reason: str, *, later: bool = False) -> int:
    """
    End all grants of *user* (or of whom has that primary key), and demand a new proof of identity.

    Args:
        later: Leave revoking to maintenance.
    """
    authoritative(SpatioAccount).filter(user=user).update(reauth_after=timezone.now())
    grants = authoritative(SpatioToken).filter(account__user=user, state=GrantState.ACTIVE)
    handles = dict(grants.values_list("pk", "handle"))
    revocation.end_all(handles, reason, later=later)
    for handle in handles.values():
        memo.forget(handle)
    return len(handles)


def peek(request: HttpRequest) -> tuple[str | None, str | None]:
    """
    Read the session's user and grant without counting as a use of the session.

    Otherwise every page looked at here would be answered with ``Vary: Cookie``, and no cache could share it.

    Returns:
        The user's primary key as text and the grant's handle; ``None`` for what the session doesn't hold.
    """
    session: SessionBase = request.session
    accessed = session.accessed
    try:
        return session.get(auth.SESSION_KEY), session.get(SESSION_KEY)
    finally:
        session.accessed = accessed


class SpatioAccess(ABC):
    """
    What a person has at Spatio: who they are there, and access tokens to act for them.

    Lazy: no query until something is asked. What needs the database or Spatio has a twin with an ``a`` before
    its name, to be awaited in async code.
    """

    def __repr__(self) -> str:
        return f"<{type(self).__name__}>"

    @property
    @abstractmethod
    def grant(self) -> SpatioToken | None:
        """The grant behind this, or ``None``."""

    @abstractmethod
    def _renewed(self, grant: SpatioToken) -> None:
        """Go on with *grant*, which was refreshed."""

    def _ended(self, error: SessionEnded) -> SessionEnded:
        """Take note that the grant is over."""
        return error

    async def agrant(self) -> SpatioToken | None:
        """Give :attr:`grant`."""
        return await sync_to_async(lambda: self.grant)()

    @property
    def account(self) -> SpatioAccount | None:
        """The Spatio account, or ``None``."""
        return self.grant.account if self.grant else None

    async def aaccount(self) -> SpatioAccount | None:
        """Give :attr:`account`."""
        grant = await self.agrant()
        return grant.account if grant else None

    @property
    def scopes(self) -> frozenset[str]:
        """The scopes that were granted; empty without a grant."""
        return self.grant.scopes if self.grant else frozenset()

    async def ascopes(self) -> frozenset[str]:
        """Give :attr:`scopes`."""
        grant = await self.agrant()
        return grant.scopes if grant else frozenset()

    @property
    def access_token(self) -> str:
        """The access token, as :meth:`get_token` gives it."""
        return self.get_token()

    def get_token(self, *, min_ttl: float = 0.0) -> str:
        """
        Give the access token, to send to Spatio and nowhere else. Refreshed before it expires.

        Args:
            min_ttl: Seconds that it must still live, for work that takes long; as far as Spatio's tokens live
                that long: no more than three quarters of their life is waited for.

        Raises:
            SessionEnded: ``no_grant``: there is none; sign in with Spatio. ``invalid_grant``, ``signed_out``,
                ``other_identity``: it is over. ``undecryptable``: the key is gone, or this is a copy of
                another site's database. ``other_issuer``: ``SPATIO_ISSUER`` was changed.
            TokenUnavailable: ``unavailable``, ``busy``, ``database``, ``in_transaction``, ``not_registered``,
                ``expired``: not now.
        """
        return self._token(Need(min_ttl=min_ttl)).reveal()

    async def aget_token(self, *, min_ttl: float = 0.0) -> str:
        """Give the access token, as :meth:`get_token`. A cancelled task does not cancel a refresh."""
        grant = await self.agrant()
        try:
            grant = await afresh(_required(grant), Need(min_ttl=min_ttl))
            token = _opened(grant)
        except SessionEnded as error:
            raise self._ended(error) from None
        self._renewed(grant)
        return token.reveal()

    def _token(self, need: Need) -> Secret:
        try:
            grant = fresh(_required(self.grant), need)
            token = _opened(grant)
        except SessionEnded as error:
            raise self._ended(error) from None
        self._renewed(grant)
        return token

    @cached_property
    def http(self) -> "ApiSession":
        """
        A :class:`requests.Session` for Spatio's API.

        It sends the access token to ``SPATIO_API_ORIGINS`` and nowhere else. An answer of 401 has it
        refreshed and the request sent once more.

        Raises:
            ConfigurationError: ``api_origins``.
        """
        from spatio_django.oidc.api import ApiSession  # here: requests is slow to import

        def token(rejected: Secret | None) -> Secret:
            return self._token(Need(rejected=rejected))

        return ApiSession(token=token, origins=conf.SPATIO_API_ORIGINS, proxy=conf.SPATIO_HTTP_PROXY)

    async def arequest(self, method: str, url: str, **kwargs: Any) -> "Response":
        """
        Make a request as :attr:`http` does, in a thread.

        Args:
            kwargs: As for :meth:`requests.Session.request`.
        """
        await self.agrant()
        return await asyncio.wrap_future(beside(partial(self.http.request, method, url, **kwargs)))

    def sdk_configuration(self, **options: Any) -> "Configuration":
        """
        Give a ``Configuration`` of the official SDK, ``spatio-sdk``, that always has a fresh token.

        The SDK asks it with each call, so it may be kept as long as this object. A call raises what
        :meth:`get_token` does.

        Args:
            options: As for ``spatio.Configuration``. By default ``host`` is the first of
                ``SPATIO_API_ORIGINS``, and ``proxy`` is ``SPATIO_HTTP_PROXY``.

        Raises:
            ConfigurationError: ``api_origins``: the token may not be sent to that host.
            ImportError: The SDK is not installed.
        """
        from spatio import Configuration  # here: few sites have it

        from spatio_django.oidc.api import checked_origin

        access, origins = self, conf.SPATIO_API_ORIGINS
        host = str(options.setdefault("host", origins[0].rstrip("/")))
        if checked_origin(host) not in map(checked_origin, origins):
            raise ConfigurationError("host is not one of SPATIO_API_ORIGINS.", code="api_origins")
        if not is_loopback(host):
            options.setdefault("proxy", conf.SPATIO_HTTP_PROXY)

        class Fresh(Configuration):
            @property
            def access_token(self) -> str:
                return access.get_token()

            @access_token.setter
            def access_token(self, value: object) -> None:
                """Keep nothing: whatever is set here would grow old."""

        return Fresh(**options)


def _required(grant: SpatioToken | None) -> SpatioToken:
    if grant is None:
        raise SessionEnded("This session was not signed in with Spatio.", code="no_grant")
    return grant


def _opened(grant: SpatioToken) -> Secret:
    try:
        token = grant.access_token
    except Undecryptable as error:
        raise SessionEnded(str(error), code=error.code) from None
    return token or _required(None).access_token  # type: ignore[return-value]  # never an empty one


class RequestAccess(SpatioAccess):
    """
    ``request.spatio``: what the person behind a request has at Spatio.

    Read from the grant that this session's sign-in gave; for anyone else (not signed in, or signed in with a
    password) there is no account and no token.
    """

    def __init__(self, request: HttpRequest) -> None:
        self._request = request
        self._known: tuple[tuple[Any, str | None], SpatioToken | None] | None = None
        #: The grant's end, if a view met it.
        self.failure: SessionEnded | None = None

    @property
    def grant(self) -> SpatioToken | None:
        """
        The grant of this session, if its user is signed in; else ``None``. One query, then remembered.

        Django is asked who that is, so whatever ends a session for it (a changed password, an inactive user,
        a backend's own rule) ends this too.
        """
        user = self._request.user
        handle = self._request.session.get(SESSION_KEY) if user.is_authenticated else None
        if self._known is None or self._known[0] != (user.pk, handle):
            self._known = ((user.pk, handle), live_grant(self._request.session.get(auth.SESSION_KEY), handle))
        return self._known[1]

    def _renewed(self, grant: SpatioToken) -> None:
        if self._known is not None:
            self._known = (self._known[0], grant)

    def _ended(self, error: SessionEnded) -> SessionEnded:
        self.failure = error
        return error


class UserAccess(SpatioAccess):
    """What :func:`for_user` gives."""

    def __init__(self, grant: SpatioToken) -> None:
        self._grant = grant

    @property
    def grant(self) -> SpatioToken:
        """The grant that was the newest when this was made."""
        return self._grant

    def _renewed(self, grant: SpatioToken) -> None:
        self._grant = grant


def for_user(user: Any) -> UserAccess:
    """
    Give what *user* has at Spatio outside a request: in a job, in a command.

    The newest grant that is live and can be refreshed, whichever session it came from. It may be kept for
    long: its tokens are refreshed as they are asked for.

    Raises:
        SessionEnded: ``no_grant``: the person has signed out everywhere, or never signed in with Spatio.
    """
    grants = SpatioToken.objects.using(router.db_for_write(SpatioToken)).with_clock().active()
    grant = (
        grants.select_related("account__user")
        .filter(account__user=user, account__issuer=conf.SPATIO_ISSUER)
        .exclude(refresh_ciphertext="")
        .order_by("-pk")
        .first()
    )
    if grant is None or not grant.account.user.is_active:
        raise SessionEnded("This user has no live grant from Spatio.", code="no_grant")
    return UserAccess(grant)


async def afor_user(user: Any) -> UserAccess:
    """Do as :func:`for_user`."""
    return await sync_to_async(for_user)(user)


class SpatioRequest(HttpRequest):
    """A request as ``SpatioMiddleware`` hands it on, to annotate views with."""

    spatio: RequestAccess
    #: Somebody who had signed in with Spatio signs out with this request.
    spatio_signed_out: bool
    #: What is being revoked because of that.
    spatio_revocations: "list[Future[bool]]"
    #: What the next sign-in of this browser asks for, because its session was ended.
    spatio_again: str
    #: The session was ended while something was being sent.
    spatio_interrupted: bool


def live_grant(user_id: str | None, handle: str | None) -> SpatioToken | None:
    """
    Give the grant with that handle while it may be used: same user, and active. One query.

    Args:
        user_id: Primary key of the session's user, as the session holds it.
    """
    grant = grant_of(handle) if user_id and handle else None
    return grant if grant is not None and is_live(grant, user_id) else None


def grant_of(handle: str | None) -> SpatioToken | None:
    """Give the grant with that handle, over or not."""
    grants = SpatioToken.objects.using(router.db_for_write(SpatioToken)).with_clock()
    return grants.select_related("account__user").filter(handle=handle).first()


def is_live(grant: SpatioToken, user_id: str | None) -> bool:
    """Tell whether *grant* may be used by the user with that primary key."""
    user = grant.account.user
    return grant.state == GrantState.ACTIVE and user_key(user) == user_id and user.is_active


def user_key(user: Any) -> str:
    """Give the primary key of *user* as the session holds it."""
    return str(user._meta.pk.value_to_string(user))


class Memo:
    """
    When to look at which session again: a bounded note per process, so that most requests look at nothing.

    A session is known by a keyed digest of its cookie; the cookie itself stays out of memory dumps.

    Args:
        seconds: How long a look stays good, and so how long a sign-out made on another host may take.
        most: Sessions remembered; when full it starts afresh.
    """

    def __init__(self, *, seconds: float, most: int) -> None:
        self._seconds, self._most = seconds, most
        self._salt = secrets.token_bytes(16)
        self._until: dict[bytes, float] = {}
        self._cookies: dict[str, bytes] = {}

    def _digest(self, cookie: str) -> bytes:
        return hashlib.blake2b(
            cookie.encode("utf-8", "surrogatepass"), key=self._salt, digest_size=16
        ).digest()

    def due(self, cookie: str) -> bool:
        """Tell whether the session behind *cookie* is to be looked at."""
        return self._until.get(self._digest(cookie), 0.0) <= time.monotonic()

    def looked(self, cookie: str, handle: str | None, *, again_in: float = float("inf")) -> None:
        """
        Note that the session behind *cookie*, which holds *handle*, was found in order.

        Args:
            again_in: Seconds after which to look again, if that is before all the others.
        """
        if len(self._until) >= self._most:
            self.clear()
        digest = self._digest(cookie)
        self._until[digest] = time.monotonic() + min(self._seconds, again_in)
        if handle:
            self._cookies[handle] = digest

    def forget(self, handle: str) -> None:
        """Look at the session that holds *handle* with its next request."""
        digest = self._cookies.pop(handle, None)
        if digest is not None:
            self._until.pop(digest, None)

    def clear(self) -> None:
        """Look at every session with its next request."""
        self._until.clear()
        self._cookies.clear()


memo = Memo(seconds=60, most=20_000)


def session_due(request: HttpRequest) -> str | None:
    """Give the session cookie of *request* if its session is to be looked at, else ``None``. No query."""
    cookie = request.COOKIES.get(settings.SESSION_COOKIE_NAME)
    return cookie if cookie is not None and memo.due(cookie) else None


def tend(request: HttpRequest, cookie: str) -> None:
    """
    Look after the session of *request*: refresh its grant if it is time, and end it if its grant is over.

    A session that was signed in some other way, and only connected to Spatio, goes on without the grant. The
    request goes on as anonymous: the view's own rules decide what that means. While Spatio can't be reached
    the session goes on, for ``SPATIO_MAX_STALE``.

    Args:
        cookie: Its session cookie, from :func:`session_due`.
    """
    grant = due_grant(request, cookie)
    if grant is not None:
        try:
            result: SpatioToken | TokenUnavailable = fresh(grant, NO_WAIT)
        except TokenUnavailable as error:
            result = error
        tended(request, cookie, grant, result)


async def atend(request: HttpRequest, cookie: str) -> None:
    """Do as :func:`tend`; what a client that went away leaves behind is finished without it."""
    grant = await sync_to_async(due_grant)(request, cookie)
    if grant is not None:
        try:
            result: SpatioToken | TokenUnavailable = await afresh(grant, NO_WAIT)
        except TokenUnavailable as error:
            result = error
        await sync_to_async(tended)(request, cookie, grant, result)


#: A page does not wait for another's refresh; only what asks for the token does.
NO_WAIT = Need(wait=False)


def due_grant(request: HttpRequest, cookie: str) -> SpatioToken | None:
    """Look at the session and its grant: end what is over, and give the grant if it is to be refreshed."""
    user_id, handle = peek(request)
    if handle is None:
        memo.looked(cookie, None)
        return None
    try:
        grant = grant_of(handle)
        if grant is None or not is_live(grant, user_id):
            end_session(request, reason_of_end(grant))
            return None
        note_seen(grant)
    except DatabaseError:
        # Looked at again with the next request. Stopping this one would also stop a sign-out.
        logger.exception("The grant of a session could not be looked at.")
        return None
    if not grant.refresh_ciphertext or Need().is_met_by(grant):
        memo.looked(cookie, handle, again_in=seconds_to_window(grant))
        return None
    return grant


def reason_of_end(grant: SpatioToken | None) -> str:
    """Say why a grant that is not live is over; end what nobody has ended yet."""
    if grant is None:
        return "deleted"
    user = grant.account.user
    if grant.state == GrantState.ACTIVE and not user.is_active:
        distrust(user, "deactivated")  # by a statement that sent no signal
        return "deactivated"
    return grant.ended


def seconds_to_window(grant: SpatioToken) -> float:
    """Give the seconds until *grant* is to be refreshed."""
    left = grant.seconds_left
    return float("inf") if left is None or not grant.refresh_ciphertext else left - window(grant)


def note_seen(grant: SpatioToken) -> None:
    """Keep the day on which somebody was here: what nobody comes back to can be cleared away."""
    if grant.now * 1000 - grant.seen_ms > SEEN_EVERY * 1000:
        authoritative(SpatioToken).filter(pk=grant.pk).update(seen_ms=from_now(0))


def tended(
    request: HttpRequest, cookie: str, grant: SpatioToken, result: SpatioToken | TokenUnavailable
) -> None:
    """Draw the conclusions from a refresh, or from one that did not happen."""
    if isinstance(result, SpatioToken):
        memo.looked(cookie, grant.handle, again_in=seconds_to_window(result))
        return
    if isinstance(result, SessionEnded):
        end_session(request, str(result.context.get("reason", result.code)))
        return
    left = grant.seconds_left
    if result.code in OUTAGES and left is not None and left <= -conf.SPATIO_MAX_STALE:
        try:
            revocation.end(grant.pk, "stale", delete=True)
        except DatabaseError:
            logger.exception("The grant of a session that ends could not be ended.")
        end_session(request, "stale")
        return
    memo.looked(cookie, grant.handle, again_in=max(1.0, grant.retry_at_ms / 1000 - grant.now))


#: Codes of ``TokenUnavailable`` that mean an outage, and not only that somebody else is at it.
OUTAGES = frozenset({"unavailable", "not_registered"})


def end_session(request: HttpRequest, reason: str) -> None:
    """
    End the local session of *request*, and let the next sign-in of its browser know what to ask for.

    Args:
        reason: One of :data:`spatio_django.revocation.REASONS`, or a code of :class:`SessionEnded`.
    """
    # Nobody signed out here, so the next sign-in need not ask who it is: see grant_signed_out.
    if request.session.pop(SESSION_KEY, None) is None or not came_from_spatio(request):
        return
    # Where the CSRF token is kept in the session, a form that was on its way would meet an error page, and
    # not what explains it.
    csrf_token = request.session.get(CSRF_SESSION_KEY) if settings.CSRF_USE_SESSIONS else None
    auth.logout(request)
    if csrf_token:
        request.session[CSRF_SESSION_KEY] = csrf_token
    # Django 5.2 leaves what request.auser() found before.
    vars(request).pop("_acached_user", None)
    ended = cast(SpatioRequest, request)
    if reason in revocation.DISTRUST:
        ended.spatio_again = links.FRESH
    elif reason == "invalid_grant":
        ended.spatio_again = links.SILENT
    ended.spatio_interrupted = request.method not in {"GET", "HEAD", "OPTIONS", "TRACE"}


def came_from_spatio(request: HttpRequest) -> bool:
    """Tell whether our backend signed this session in; one that can't be loaded any more counts as ours."""
    from spatio_django.backends import SpatioBackend  # here: only a session that is over pays for it

    try:
        return isinstance(auth.load_backend(request.session[auth.BACKEND_SESSION_KEY]), SpatioBackend)
    except (ImportError, KeyError):
        return True


def satisfies(request: HttpRequest, *, scopes: Collection[str], max_age: int | None) -> bool:
    """
    Tell whether the sign-in of this session is good enough.

    Args:
        scopes: Scopes that must have been granted.
        max_age: Seconds since the person proved their identity at Spatio, by the ID token's ``auth_time``.
    """
    grant = access(request).grant
    if grant is None or not grant.scopes.issuperset(scopes):
        return False
    auth_time = grant.id_token_claims.get("auth_time")
    # The same leeway as for the ID token itself, or a sign-in that just passed there would fail here.
    return max_age is None or (auth_time is not None and grant.now - auth_time <= max_age + LEEWAY)


def access(request: HttpRequest) -> RequestAccess:
    """
    Give ``request.spatio``.

    Raises:
        ImproperlyConfigured: The middleware is missing.
    """
    found: RequestAccess | None = getattr(request, "spatio", None)
    if found is None:
        raise ImproperlyConfigured("Add spatio_django.middleware.SpatioMiddleware to MIDDLEWARE.")
    return found


def grant_signed_out(*, request: HttpRequest | None, **kwargs: Any) -> None:
    """End the grant of a session that signs out, anywhere (receiver of ``user_logged_out``)."""
    if request is None or not hasattr(request, "session"):
        return
    handle = request.session.get(SESSION_KEY)
    signing_out = cast(SpatioRequest, request)
    if not handle:
        # Or the session has ended by itself, with this request or before the button was pressed: whoever
        # wants to be signed out is not to be signed in again without a word.
        if hasattr(request, "spatio_interrupted") or request.COOKIES.get(links.AGAIN_COOKIE):
            signing_out.spatio_signed_out, signing_out.spatio_interrupted = True, False
        return
    try:
        # Django empties the session after this. With our middleware nobody waits for Spatio before that.
        with revocation.waiting_later() as revocations:
            drop(handle, "signed_out")
    except DatabaseError:
        # Better that a row stays than that the person does.
        logger.exception("The grant of a session that signed out could not be ended.")
    else:
        signing_out.spatio_revocations = revocations
    signing_out.spatio_signed_out = True


def user_saved(*, instance: Any, created: bool, raw: bool = False, **kwargs: Any) -> None:
    """Revoke what a user has who was deactivated (receiver of ``post_save`` of the user model)."""
    if not (created or raw or getattr(instance, "is_active", True)):
        grants = authoritative(SpatioToken).filter(account__user=instance.pk, state=GrantState.ACTIVE)
        if grants.exists():
            distrust(instance, "deactivated")


def grant_to_be_deleted(*, instance: SpatioToken, **kwargs: Any) -> None:
    """Queue the tokens of a grant that is being deleted, by whatever way (receiver of ``pre_delete``)."""
    if instance.state == GrantState.ACTIVE:
        revocation.end(instance.pk, "deleted")


def grant_deleted(*, instance: SpatioToken, **kwargs: Any) -> None:
    """Let a deleted grant's session end with its next request here (receiver of ``post_delete``)."""
    memo.forget(instance.handle)
