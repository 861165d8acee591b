"""Signed-in sessions over time: looked at now and then, kept fresh, and ended when they are over."""

import logging
from typing import cast

from asgiref.sync import sync_to_async
from django.conf import settings
from django.contrib import auth
from django.contrib.auth.models import AnonymousUser
from django.contrib.sessions.backends.base import SessionBase
from django.db import Error, connections
from django.http import HttpRequest
from django.middleware.csrf import CSRF_SESSION_KEY

from spatio_django import links, revocation
from spatio_django.conf import conf
from spatio_django.exceptions import SessionEnded, TokenUnavailable
from spatio_django.memo import memo
from spatio_django.models import GrantState, SpatioToken, from_now
from spatio_django.refreshing import Need, afresh, fresh, window
from spatio_django.threads import has_one_writer, impatient
from spatio_django.tokens import (
    SESSION_KEY,
    Held,
    SpatioRequest,
    access,
    distrust,
    grant_of,
    held,
    is_live,
)

logger = logging.getLogger("spatio_django")

#: Methods that bring nothing that could be lost (RFC 9110 §9.2.1).
SAFE = frozenset({"GET", "HEAD", "OPTIONS", "TRACE"})
#: Seconds between notes that a grant is in use.
SEEN_EVERY = 24 * 3600


def session_due(request: HttpRequest) -> str | None:
    """Give the session cookie of *request* if its session is to be looked at, else ``None``. No query."""
    cookie = request.COOKIES.get(settings.SESSION_COOKIE_NAME)
    return cookie if cookie is not None and memo.due(cookie) else None


def peek(request: HttpRequest) -> Held:
    """
    Read the session's user and grant without counting as a use of the session.

    Otherwise every page looked at here would be answered with ``Vary: Cookie``, and no cache could share it.

    Returns:
        The user's primary key as text and the grant's handle; ``None`` for what the session doesn't hold.
    """
    session: SessionBase = request.session
    accessed, key = session.accessed, session.session_key
    try:
        return held(session)
    finally:
        session.accessed = accessed
        if session.session_key != key:
            # The store has none of that key and has let go of it, so that Django would take the cookie away.
            request.session = type(session)(key)


def tend(request: HttpRequest, cookie: str) -> None:
    """
    Look after the session of *request*: refresh its grant if it is time, and end it if its grant is over.

    A session that was signed in some other way, and only connected to Spatio, goes on without the grant. The
    request goes on as anonymous: the view's own rules decide what that means. While Spatio can't be reached
    the session goes on, for ``SPATIO_MAX_STALE``; see :func:`suspend`.

    Args:
        cookie: Its session cookie, from :func:`session_due`.
    """
    grant = due_grant(request, cookie)
    if grant is not None:
        try:
            result: SpatioToken | TokenUnavailable = fresh(grant, patience(request, grant))
        except TokenUnavailable as error:
            result = error
        tended(request, cookie, grant, result)


async def atend(request: HttpRequest, cookie: str) -> None:
    """Do as :func:`tend`; what a client that went away leaves behind is finished without it."""
    grant = await sync_to_async(due_grant)(request, cookie)
    if grant is not None:
        try:
            need = await sync_to_async(patience)(request, grant)
            result: SpatioToken | TokenUnavailable = await afresh(grant, need)
        except TokenUnavailable as error:
            result = error
        await sync_to_async(tended)(request, cookie, grant, result)


def patience(request: HttpRequest, grant: SpatioToken) -> Need:
    """
    Give what a page needs: not to wait for another's refresh. Only what asks for the token does.

    Unless nobody knows any more whether the person may be here; or what asks for it can't wait, because on
    SQLite nothing is refreshed inside the transaction of ``ATOMIC_REQUESTS``.
    """
    is_atomic = connections[grant.alias].settings_dict["ATOMIC_REQUESTS"]
    return Need(wait=is_stale(request, grant) or (is_atomic and has_one_writer(grant.alias)))


def due_grant(request: HttpRequest, cookie: str) -> SpatioToken | None:
    """Look at the session and its grant: end what is over, and give the grant if it is to be refreshed."""
    try:
        user_id, handle = peek(request)
        grant = None if handle is None else grant_of(handle)
    except Exception:  # any session store, any of its errors: pages that need no session go on
        # Looked at again with the next request. Stopping this one would also stop a sign-out.
        logger.exception("The grant of a session could not be looked at.")
        return None
    if handle is None:
        memo.looked(cookie, None)
        return None
    if grant is None or not is_live(grant, user_id):
        reason = "deleted" if grant is None else grant.why_over
        if grant is not None and grant.state == GrantState.ACTIVE:
            end_what_is_over(grant, reason)
        end_session(request, reason)
        return None
    note_seen(grant)
    if not grant.refresh_ciphertext or Need().is_met_by(grant):
        memo.looked(cookie, handle, again_in=seconds_to_window(grant))
        return None
    return grant


def end_what_is_over(grant: SpatioToken, reason: str) -> None:
    """End a grant that nobody has ended yet. The session is over, whether that works or not."""
    try:
        if reason == "deactivated":
            distrust(grant.account.user, reason)  # by a statement that sent no signal
        elif reason:  # else it is another user's, and goes on for them
            revocation.end(grant.pk, reason, using=grant.alias)
    except Error:
        logger.exception("A grant that is over could not be ended.")


def seconds_to_window(grant: SpatioToken) -> float:
    """Give the seconds until *grant* is to be refreshed."""
    left = grant.seconds_left
    return float("inf") if left is None or not grant.refresh_ciphertext else left - window(grant)


def note_seen(grant: SpatioToken) -> None:
    """Keep the day on which somebody was here: what nobody comes back to can be cleared away."""
    if grant.now * 1000 - grant.seen_ms <= SEEN_EVERY * 1000:
        return
    try:
        with impatient(grant.alias, 1):
            SpatioToken.objects.using(grant.alias).filter(pk=grant.pk).update(seen_ms=from_now(0))
    except Error:
        logger.warning("When a grant was last seen could not be noted.")


def tended(
    request: HttpRequest, cookie: str, grant: SpatioToken, result: SpatioToken | TokenUnavailable
) -> None:
    """Draw the conclusions from a refresh, or from one that did not happen."""
    if isinstance(result, SpatioToken) and result.generation > grant.generation:
        memo.looked(cookie, grant.handle, again_in=seconds_to_window(result))
        return
    if isinstance(result, SessionEnded):
        end_session(request, str(result.context.get("reason", result.code)))
        return
    if isinstance(result, TokenUnavailable) and is_stale(request, grant):
        access(request).is_suspended = True
        suspend(request)
        return
    is_down = isinstance(result, TokenUnavailable) and result.code == "unavailable"
    # Not again with each request, as long as it can't be refreshed.
    pause = max(grant.retry_at_ms / 1000 - grant.now, 5.0 if is_down else 1.0)
    memo.looked(cookie, grant.handle, again_in=pause)


def is_stale(request: HttpRequest, grant: SpatioToken) -> bool:
    """
    Tell whether the session stands on an access token that has been over for ``SPATIO_MAX_STALE``.

    One that was signed in with a password, and only connected, stands on that.
    """
    left = grant.seconds_left
    return left is not None and left <= -conf.SPATIO_MAX_STALE and came_from_spatio(request)


def suspend(request: HttpRequest) -> None:
    """
    Let *request* go on as nobody's. The session stays as it is: when Spatio is back, so is the person.

    Nobody knows any more whether they may still be here, and nobody has said that they may not.
    """
    request.user = AnonymousUser()
    vars(request).update(_cached_user=request.user, _acached_user=request.user)
    # What the page shows depends on the cookie all the same: no cache may show it to the others.
    request.session.accessed = True
    note_interruption(request)


def note_interruption(request: HttpRequest) -> None:
    """Have the person told, if *request* sends something, and is answered by sending them away."""
    cast(SpatioRequest, request).spatio_interrupted = request.method not in SAFE


def end_session(request: HttpRequest, reason: str) -> None:
    """
    End the local session of *request*, and let the next sign-in of its browser know what to ask for.

    Args:
        reason: One of :data:`spatio_django.revocation.REASONS`, or a code of :class:`SessionEnded`.
    """
    # Nobody signed out here, so the next sign-in need not ask who it is: see grant_signed_out.
    handle = request.session.pop(SESSION_KEY, None)
    if handle is None or not came_from_spatio(request):
        return
    # Where the CSRF token is kept in the session, a form that was on its way would meet an error page, and
    # not what explains it.
    csrf_token = request.session.get(CSRF_SESSION_KEY) if settings.CSRF_USE_SESSIONS else None
    ended = cast(SpatioRequest, request)
    ended.spatio_ending = True
    try:
        auth.logout(request)
    except Exception:
        # A receiver of the site's, or the session store. The next request tries again; this one is nobody's.
        logger.exception("A session that is over could not be ended.")
        request.session[SESSION_KEY] = handle
        suspend(request)
        return
    finally:
        ended.spatio_ending = False
    if csrf_token:
        request.session[CSRF_SESSION_KEY] = csrf_token
    # Django 5.2 leaves what request.auser() found before.
    vars(request).pop("_acached_user", None)
    if reason in revocation.DISTRUST:
        ended.spatio_again = links.FRESH
    elif reason == "invalid_grant":
        ended.spatio_again = links.SILENT
    note_interruption(request)


def came_from_spatio(request: HttpRequest) -> bool:
    """Tell whether our backend signed this session in; one that can't be loaded any more counts as ours."""
    from spatio_django.backends import SpatioBackend  # here: only a session that is over pays for it

    try:
        return isinstance(auth.load_backend(request.session[auth.BACKEND_SESSION_KEY]), SpatioBackend)
    except (ImportError, KeyError):
        return True
