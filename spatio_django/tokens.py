"""Stored grants over time: kept at sign-in, used by ``request.spatio``, ended at sign-out."""

import asyncio
import logging
import time
from abc import ABC, abstractmethod
from collections.abc import Collection
from concurrent.futures import Future
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any, cast

from asgiref.sync import sync_to_async
from django.contrib import auth
from django.contrib.auth import get_user_model
from django.contrib.sessions.backends.base import SessionBase
from django.core.exceptions import ImproperlyConfigured
from django.db import Error, router
from django.http import HttpRequest
from django.utils import timezone
from django.utils.functional import cached_property

from spatio_django import links, revocation, statements
from spatio_django.conf import conf
from spatio_django.exceptions import (
    ConfigurationError,
    SessionEnded,
    TokenUnavailable,
    Undecryptable,
)
from spatio_django.models import GrantState, SpatioAccount, SpatioToken, authoritative, from_now
from spatio_django.oidc.id_token import LEEWAY
from spatio_django.oidc.secret import Secret
from spatio_django.oidc.urls import is_loopback
from spatio_django.refreshing import Need, afresh, fresh, note_refusal
from spatio_django.threads import beside, insist, only_here

if TYPE_CHECKING:
    from spatio import Configuration

    from spatio_django.flow import CompletedLogin
    from spatio_django.oidc.api import ApiSession, Response
    from spatio_django.pending import PendingLogin

logger = logging.getLogger("spatio_django")

#: Where the session keeps the handle of its grant: all it ever holds of ours.
SESSION_KEY = "_spatio_grant"

#: Seconds in which a sign-out that the database did not let happen is tried again.
SIGN_OUT_WITHIN = 600.0

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
        reauth_after=account.reauth_after,
    )
    grant.access_token = login.tokens.access_token
    grant.refresh_token = login.tokens.refresh_token
    if login.tokens.expires_in is not None:
        grant.ttl_ms = login.tokens.expires_in * 1000
        grant.expires_ms = from_now(login.tokens.expires_in)
    grant.save(force_insert=True)
    request.session[SESSION_KEY] = grant.handle
    return grant


Held = tuple[Any, str | None]


def held(session: SessionBase) -> Held:
    """Give the primary key of a session's user, as text, and its grant's handle; ``None`` without."""
    return session.get(auth.SESSION_KEY), session.get(SESSION_KEY)


def drop(before: Held, reason: str) -> None:
    """
    End the grant that a session holds, if there is one: others are not signed out.

    Args:
        before: From :func:`held`. Another's grant, planted there, is not the user's to end.
    """
    user_id, handle = before
    if user_id and handle:
        grants = authoritative(SpatioToken).filter(handle=handle, account__user=user_id)
        grant_id = grants.values_list("pk", flat=True).first()
        if grant_id is not None:
            revocation.end(grant_id, reason, delete=True)


def replaced(before: Held) -> None:
    """End the grant that a session held before it signed in again. The sign-in does not fail for that."""
    try:
        with revocation.waiting_later():  # nobody waits for it
            drop(before, "replaced")
    except Error:
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
    return distrust(user, "signed_out_everywhere") if getattr(user, "pk", user) else 0


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
    return revocation.end_all(list(grants.values_list("pk", flat=True)), reason, later=later)


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

    def _failed(self, error: TokenUnavailable) -> TokenUnavailable:
        """Take note of it."""
        return error

    def _required(self, grant: SpatioToken | None) -> SpatioToken:
        """Give *grant*, if there is one."""
        return _required(grant)

    async def agrant(self) -> SpatioToken | None:
        """Give :attr:`grant`."""
        return await sync_to_async(lambda: self.grant)()

    @property
    def account(self) -> SpatioAccount | None:
        """The Spatio account, or ``None``."""
        return statements.whole_account(self.grant) if self.grant else None

    async def aaccount(self) -> SpatioAccount | None:
        """Give :attr:`account`."""
        return await sync_to_async(lambda: self.account)()

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
            grant = await afresh(self._required(grant), Need(min_ttl=min_ttl))
            token = _opened(grant)
        except TokenUnavailable as error:
            raise self._failed(error) from None
        self._renewed(grant)
        return token.reveal()

    def _token(self, need: Need) -> Secret:
        try:
            grant = fresh(self._required(self.grant), need)
            token = _opened(grant)
        except TokenUnavailable as error:
            raise self._failed(error) from None
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

        def refused() -> None:
            note_refusal(_required(self.grant))

        return ApiSession(
            token=token, refused=refused, origins=conf.SPATIO_API_ORIGINS, proxy=conf.SPATIO_HTTP_PROXY
        )

    async def arequest(self, method: str, url: str, **kwargs: Any) -> "Response":
        """
        Make a request as :attr:`http` does, in a thread.

        Args:
            kwargs: As for :meth:`requests.Session.request`.
        """
        grant = await self.agrant()

        def request() -> "Response":
            return self.http.request(method, url, **kwargs)

        if grant is not None and await sync_to_async(only_here)(grant.alias):
            return await sync_to_async(request)()
        return await asyncio.wrap_future(beside(request))

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
        self._key: tuple[Any, str | None] | None = None
        self._grant: SpatioToken | None = None
        #: Why a view got no token, each time that it asked for one in vain.
        self.failures: list[TokenUnavailable] = []
        #: Whether this request is nobody's because Spatio has not answered for too long. The session goes on.
        self.is_suspended = False

    @property
    def grant(self) -> SpatioToken | None:
        """
        The grant of this session, if its user is signed in; else ``None``. One query, then remembered.

        Django is asked who that is, so whatever ends a session for it (a changed password, an inactive user,
        a backend's own rule) ends this too.
        """
        user = self._request.user
        handle = self._request.session.get(SESSION_KEY) if user.is_authenticated else None
        key = (user.pk, handle)
        if self._key != key:
            self._key, self._grant = key, live_grant(self._request.session.get(auth.SESSION_KEY), handle)
        return self._grant

    def _renewed(self, grant: SpatioToken) -> None:
        # Another caller may have brought it, who needed less of the account; async code can't read the rest.
        grant.account = _required(self._grant).account
        self._grant = grant

    def _failed(self, error: TokenUnavailable) -> TokenUnavailable:
        self.failures.append(error)
        return error

    def _required(self, grant: SpatioToken | None) -> SpatioToken:
        if grant is None and self.is_suspended:
            raise TokenUnavailable("Spatio has not answered for too long.", code="unavailable")
        return super()._required(grant)


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
    grant = statements.newest_grant(user, issuer=conf.SPATIO_ISSUER, alias=router.db_for_write(SpatioToken))
    if grant is None:
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
    #: The session was ended, or is not counted, while something was being sent.
    spatio_interrupted: bool
    #: Its session is being ended by us: nobody signs out.
    spatio_ending: bool


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
    began = time.monotonic()
    grant = grants.select_related("account__user").filter(handle=handle).first()
    if grant is not None:
        grant.read_at = began
    return grant


def is_live(grant: SpatioToken, user_id: str | None) -> bool:
    """Tell whether *grant* may be used by the user with that primary key."""
    return not grant.why_over and user_key(grant.account.user) == user_id


def user_key(user: Any) -> str:
    """Give the primary key of *user* as the session holds it."""
    return str(user._meta.pk.value_to_string(user))


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
    if request is None or not hasattr(request, "session") or getattr(request, "spatio_ending", False):
        return
    signing_out = cast(SpatioRequest, request)
    if not request.session.get(SESSION_KEY):
        # Or the session has ended by itself, with this request or before the button was pressed: whoever
        # wants to be signed out is not to be signed in again without a word.
        if hasattr(request, "spatio_interrupted") or request.COOKIES.get(links.AGAIN_COOKIE):
            signing_out.spatio_signed_out, signing_out.spatio_interrupted = True, False
        return
    try:
        # Django empties the session after this. With our middleware nobody waits for Spatio before that.
        with revocation.waiting_later() as revocations:
            drop(held(request.session), "signed_out")
    except Error:
        # Better that a row stays than that the person does.
        logger.exception("The grant of a session that signed out could not be ended. It is tried again.")
        if not only_here(router.db_for_write(SpatioToken)):
            again = partial(drop, held(request.session), "signed_out")
            with suppress(RuntimeError):  # there is no thread to be had
                insist(again, seconds=SIGN_OUT_WITHIN, daemon=True)
    else:
        signing_out.spatio_revocations = revocations
    signing_out.spatio_signed_out = True


def user_saved(*, instance: Any, created: bool, raw: bool = False, **kwargs: Any) -> None:
    """
    Revoke what a user has who was deactivated (receiver of ``post_save``).

    Of every model's: a proxy of the user model, or a child, sends it under its own name.
    """
    if isinstance(instance, get_user_model()) and not (
        created or raw or getattr(instance, "is_active", True)
    ):
        grants = authoritative(SpatioToken).filter(account__user=instance.pk, state=GrantState.ACTIVE)
        if grants.exists():
            distrust(instance, "deactivated")


def grant_to_be_deleted(*, instance: SpatioToken, **kwargs: Any) -> None:
    """Queue the tokens of a grant that is being deleted, by whatever way (receiver of ``pre_delete``)."""
    if instance.state == GrantState.ACTIVE:
        revocation.end(instance.pk, "deleted", using=instance.alias)
