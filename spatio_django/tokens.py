"""Stored grants over time: kept at sign-in, used by ``request.spatio``, dropped at sign-out."""

import hashlib
import logging
import secrets
import time
from collections.abc import Collection
from typing import TYPE_CHECKING, Any, cast

from django.conf import settings
from django.contrib import auth
from django.contrib.sessions.backends.base import SessionBase
from django.core.exceptions import ImproperlyConfigured
from django.db import DatabaseError, router
from django.http import HttpRequest

from spatio_django.exceptions import SessionEnded, TokenUnavailable, Undecryptable
from spatio_django.models import SpatioAccount, SpatioToken, authoritative, from_now
from spatio_django.oidc.id_token import LEEWAY

if TYPE_CHECKING:
    from spatio_django.flow import CompletedLogin

logger = logging.getLogger("spatio_django")

#: Where the session keeps the handle of its grant: all it ever holds of ours.
SESSION_KEY = "_spatio_grant"

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
    )
    grant.access_token = login.tokens.access_token
    grant.refresh_token = login.tokens.refresh_token
    if login.tokens.expires_in is not None:
        grant.expires_ms = from_now(login.tokens.expires_in)
    grant.save(force_insert=True)
    request.session[SESSION_KEY] = grant.handle
    return grant


def drop(handle: str | None) -> None:
    """Delete the grant with that handle, if there is one: its session is signed out, others are not."""
    if handle:
        authoritative(SpatioToken).filter(handle=handle).delete()


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


class SpatioAccess:
    """
    ``request.spatio``: what the person behind a request has at Spatio. Lazy: no query until it is asked.

    Attributes are read from the grant that this session's sign-in gave; for anyone else (not signed in, or
    signed in with a password) there is no account and no token.
    """

    def __init__(self, request: HttpRequest) -> None:
        self._request = request
        self._known: tuple[tuple[Any, str | None], SpatioToken | None] | None = None

    def __repr__(self) -> str:
        return "<SpatioAccess>"

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

    @property
    def account(self) -> SpatioAccount | None:
        """The Spatio account that this session signed in with, or ``None``."""
        return self.grant.account if self.grant else None

    @property
    def scopes(self) -> frozenset[str]:
        """The scopes that were granted; empty without a grant."""
        return self.grant.scopes if self.grant else frozenset()

    @property
    def access_token(self) -> str:
        """
        The access token, to send to Spatio and nowhere else.

        Raises:
            SessionEnded: ``no_grant``: this session holds none; sign in with Spatio. ``undecryptable``: the
                key is gone, or this is a copy of another site's database.
            TokenUnavailable: ``expired``.
        """
        grant = self.grant
        try:
            token = grant.access_token if grant else None
        except Undecryptable as error:
            raise SessionEnded(str(error), code=error.code) from None
        if grant is None or token is None:
            raise SessionEnded("This session was not signed in with Spatio.", code="no_grant")
        left = grant.seconds_left
        if left is not None and left <= 0:
            raise TokenUnavailable("The access token has expired.", code="expired")
        return token.reveal()


class SpatioRequest(HttpRequest):
    """A request as ``SpatioMiddleware`` hands it on, to annotate views with."""

    spatio: SpatioAccess
    #: Somebody who had signed in with Spatio signs out with this request.
    spatio_signed_out: bool


def live_grant(user_id: str | None, handle: str | None) -> SpatioToken | None:
    """
    Give the grant with that handle while it may be used: same user, and active. One query.

    Args:
        user_id: Primary key of the session's user, as the session holds it.
    """
    if not (user_id and handle):
        return None
    grants = SpatioToken.objects.using(router.db_for_write(SpatioToken)).with_clock()
    grant = grants.select_related("account__user").filter(handle=handle).first()
    if grant is None:
        return None
    user = grant.account.user
    return grant if user_key(user) == user_id and user.is_active else None


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

    def looked(self, cookie: str, handle: str | None) -> None:
        """Note that the session behind *cookie*, which holds *handle*, was found in order."""
        if len(self._until) >= self._most:
            self.clear()
        digest = self._digest(cookie)
        self._until[digest] = time.monotonic() + self._seconds
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


def end_if_over(request: HttpRequest, cookie: str) -> None:
    """
    End the local session of *request* if it came from a grant that is gone, or whose user is.

    A session that was signed in some other way, and only connected to Spatio, goes on without the grant. The
    request goes on as anonymous: the view's own rules decide what that means.

    Args:
        cookie: Its session cookie, from :func:`session_due`.
    """
    user_id, handle = peek(request)
    try:
        over = handle is not None and live_grant(user_id, handle) is None
    except DatabaseError:
        # Looked at again with the next request. Stopping this one would also stop a sign-out.
        logger.exception("The grant of a session could not be looked at.")
        return
    if over:
        # Nobody signed out here, so the next sign-in need not ask who it is: see grant_signed_out.
        del request.session[SESSION_KEY]
        if not came_from_spatio(request):
            return
        auth.logout(request)
        # Django 5.2 leaves what request.auser() found before.
        vars(request).pop("_acached_user", None)
        return
    memo.looked(cookie, handle)


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


def access(request: HttpRequest) -> SpatioAccess:
    """
    Give ``request.spatio``.

    Raises:
        ImproperlyConfigured: The middleware is missing.
    """
    found: SpatioAccess | None = getattr(request, "spatio", None)
    if found is None:
        raise ImproperlyConfigured("Add spatio_django.middleware.SpatioMiddleware to MIDDLEWARE.")
    return found


def grant_signed_out(*, request: HttpRequest | None, **kwargs: Any) -> None:
    """Drop the grant of a session that signs out, anywhere (receiver of ``user_logged_out``)."""
    handle = request.session.get(SESSION_KEY) if request is not None and hasattr(request, "session") else None
    if request is not None and handle:
        try:
            drop(handle)
        except DatabaseError:
            # Django empties the session after this: better that a row stays than that the person does.
            logger.exception("The grant of a session that signed out could not be deleted.")
        cast(SpatioRequest, request).spatio_signed_out = True


def grant_deleted(*, instance: SpatioToken, **kwargs: Any) -> None:
    """Let a deleted grant's session end with its next request here (receiver of ``post_delete``)."""
    memo.forget(instance.handle)
