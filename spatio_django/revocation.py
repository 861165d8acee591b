"""
The end of a grant: first here, then at Spatio (RFC 7009), however long that takes.

What ends a grant moves its tokens to the queue, :class:`~spatio_django.models.PendingRevocation`, in one
transaction. From there they are revoked at once if Spatio answers, and otherwise whenever
``manage.py spatio_maintain`` runs. A refresh that is on its way finds the grant ended and hands its successor
to the queue, too: nothing comes back to life.
"""

import logging
import os
import random
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, wait
from contextlib import contextmanager, nullcontext
from functools import partial
from typing import TYPE_CHECKING, Any

from django.db import Error, OperationalError, close_old_connections, router

from spatio_django import registration
from spatio_django.conf import conf
from spatio_django.exceptions import (
    ConfigurationError,
    ProviderRefused,
    ProviderUnavailable,
    SpatioError,
    Undecryptable,
)
from spatio_django.memo import memo
from spatio_django.models import (
    DatabaseNow,
    GrantState,
    PendingRevocation,
    SpatioAccount,
    SpatioToken,
    from_now,
    writing,
)
from spatio_django.oidc.secret import Secret
from spatio_django.provider import get_client
from spatio_django.signals import grant_ended
from spatio_django.statements import whole_account
from spatio_django.threads import (
    beside,
    commit_each_statement,
    impatient,
    in_transaction,
    only_here,
    when_committed,
)

if TYPE_CHECKING:
    from django.db.models import QuerySet

logger = logging.getLogger("spatio_django")

#: Why a grant ended, as ``SpatioToken.ended`` and the signal ``grant_ended`` say it.
REASONS = {
    "signed_out": "The person signed out.",
    "signed_out_everywhere": "All sessions of the person were ended.",
    "replaced": "The session signed in again.",
    "deactivated": "The user was deactivated.",
    "deleted": "The grant, the account or the user was deleted.",
    "other_identity": "A refreshed ID token was about somebody else.",
    "unused": "Nobody came back for longer than a session lives.",
    "invalid_grant": "Spatio ended it.",
    "discarded": "Its tokens came too late, or for a sign-in that led nowhere.",
}

#: Reasons after which a sign-in must rest on a new proof of identity.
DISTRUST = frozenset({"signed_out_everywhere", "deactivated", "other_identity"})

#: What a provider says about this site, and not about a token: an operator must act.
OPERATOR_ERRORS = frozenset({"invalid_client", "unauthorized_client"})

#: Seconds to wait for somebody else's lock on a grant; a person waits for that.
LOCKED = 1
#: Seconds that a person waits for revocations, all together.
PATIENCE = 3.0
#: Seconds for one call: a refresh token and an access token fit into the patience.
TIMEOUT = 1.4
#: Seconds for which nobody else tries the same one.
CLAIM = 60.0
#: Seconds between attempts, at first and at most.
FIRST_PAUSE, LAST_PAUSE = 60.0, 3600.0
#: Attempts after which it is given up: with the pauses above, two weeks.
MAX_FAILS = 340


def end(grant_id: int, reason: str, *, delete: bool = False, using: str | None = None) -> bool:
    """
    End a grant here, and queue its tokens to be revoked; then try to, once the transaction is committed.

    Args:
        grant_id: Primary key.
        reason: One of :data:`REASONS`.
        delete: Nothing needs to know any more that there was one.
        using: The grant's database, where it is known.

    Returns:
        Whether it was still active.
    """
    return bool(_end([grant_id], reason, delete=delete, using=using, later=False))


def end_all(
    grant_ids: Iterable[int],
    reason: str,
    *,
    delete: bool = False,
    later: bool = False,
    using: str | None = None,
) -> int:
    """
    End grants as :func:`end` does, in one transaction.

    Args:
        later: Leave revoking to maintenance.

    Returns:
        How many were still active.
    """
    return len(_end(list(grant_ids), reason, delete=delete, using=using, later=later))


def _end(ids: list[int], reason: str, *, delete: bool, using: str | None, later: bool) -> list[SpatioToken]:
    """Give the grants that were still active."""
    try:
        over, queued = _ended(ids, reason, delete=delete, using=using)
    except OperationalError:
        # The victim of a deadlock. A transaction around us is lost; without one, it works the next time.
        if in_transaction(using or router.db_for_write(SpatioToken)):
            raise
        over, queued = _ended(ids, reason, delete=delete, using=using)
    for grant in over:
        announce(grant)
    for pending in () if later else queued:
        attempt_when_committed(pending)
    return over


def _ended(
    ids: list[int], reason: str, *, delete: bool, using: str | None
) -> tuple[list[SpatioToken], list[PendingRevocation]]:
    """Do so in one transaction."""
    # Inside the site's, a limit would go on to be in force.
    is_alone = not in_transaction(using or router.db_for_write(SpatioToken))
    queued: list[PendingRevocation] = []
    over: list[SpatioToken] = []
    with writing(SpatioToken, using=using) as alias:
        # Locked, so that a refresh is stored before we read, or finds the grant ended.
        rows = SpatioToken.objects.using(alias).select_for_update().filter(pk__in=ids)
        with impatient(alias, LOCKED) if is_alone else nullcontext():
            grants = list(rows.order_by("pk"))
        accounts = SpatioAccount.objects.using(alias).in_bulk({grant.account_id for grant in grants})
        for grant in grants:
            grant.account = accounts[grant.account_id]
            if grant.state == GrantState.ACTIVE:
                pending = queue(grant, reason)
                queued += [pending] if pending else []
                mark_ended(grant, reason)
                over.append(grant)
            if delete:
                grant.delete(using=alias)
    return over, queued


def mark_ended(grant: SpatioToken, reason: str, *, state: GrantState = GrantState.REVOKED) -> bool:
    """Take the tokens out of *grant*, if its row is active still and of that generation, and say why."""
    rows = SpatioToken.objects.using(grant.alias).filter(
        pk=grant.pk, handle=grant.handle, generation=grant.generation, state=GrantState.ACTIVE
    )
    if not rows.update(state=state, ended=reason, access_ciphertext="", refresh_ciphertext="", lease_id=""):
        return False
    grant.state, grant.ended = state, reason
    return True


def announce(grant: SpatioToken) -> None:
    """
    Let this process, the log and the site know that *grant* is over, once the transaction is committed.

    Once more then: who looks at the row until then finds it active, and would not look again for a while.
    """
    memo.forget(grant.handle)
    when_committed(grant.alias, partial(_tell, grant.handle, whole_account(grant), grant.scopes, grant.ended))


def _tell(handle: str, account: SpatioAccount, scopes: frozenset[str], reason: str) -> None:
    memo.forget(handle)
    logger.info(
        "Grant ended: %s",
        reason,
        extra={"spatio": {"event": "grant_ended", "account": account.pk, "reason": reason}},
    )
    grant_ended.send_robust(sender=SpatioToken, account=account, scopes=scopes, reason=reason)


def queue(grant: SpatioToken, reason: str) -> PendingRevocation | None:
    """
    Queue the tokens of *grant*, in its database; give the queue's row, or ``None`` if nothing is to revoke.

    Tokens that can't be decrypted are not: on a copy of another site's database they are not ours to revoke.
    """
    try:
        refresh_token, access_token = grant.refresh_token, grant.access_token
    except Undecryptable:
        logger.warning("The tokens of an ended grant can't be decrypted, and were not revoked.")
        return None
    return queue_tokens(
        grant,
        refresh_token=refresh_token,
        access_token=access_token,
        expires_ms=grant.expires_ms,
        reason=reason,
    )


def queue_tokens(
    grant: SpatioToken,
    *,
    refresh_token: Secret | None,
    access_token: Secret | None,
    expires_ms: Any,
    reason: str,
) -> PendingRevocation | None:
    """Queue tokens that belong, or would have belonged, to *grant*; as :func:`queue`."""
    pending = PendingRevocation(
        issuer=grant.account.issuer, client_id=grant.client_id, reason=reason, access_expires_ms=expires_ms
    )
    pending.refresh_token, pending.access_token = refresh_token, access_token
    if not (pending.refresh_ciphertext or pending.access_ciphertext):
        return None
    pending.save(using=grant.alias, force_insert=True)
    return pending


def discard(
    grant: SpatioToken, *, refresh_token: Secret | None, access_token: Secret | None, expires_ms: Any = None
) -> None:
    """Have tokens revoked that would have been stored in *grant*, which is over, or never came to be."""
    try:
        pending = queue_tokens(
            grant,
            refresh_token=refresh_token,
            access_token=access_token,
            expires_ms=expires_ms,
            reason="discarded",
        )
    except Error:
        logger.exception("Tokens that nobody needs could not be queued, and were not revoked.")
        return
    if pending:
        attempt_when_committed(pending)


def attempt_when_committed(pending: PendingRevocation) -> None:
    """Try to revoke once the transaction is committed: what is rolled back was not ended."""
    pending_id, alias = pending.pk, pending.alias
    waiting = _listeners.futures

    def committed() -> None:
        if only_here(alias):
            attempt(pending_id, using=alias)
            return
        future = _outbox.submit(partial(_attempt_beside, pending_id, alias))
        if waiting is None:
            _waiter.wait_for(future)
        else:
            waiting.append(future)

    when_committed(alias, committed)


def _attempt_beside(pending_id: int, alias: str) -> bool:
    commit_each_statement(alias)
    return attempt(pending_id, using=alias)


class _Listeners(threading.local):
    """Who in this thread wants to wait for revocations later, instead of right after the commit."""

    futures: "list[Future[bool]] | None" = None


_listeners = _Listeners()


@contextmanager
def waiting_later() -> Iterator["list[Future[bool]]"]:
    """
    Collect what is being revoked, instead of waiting for it.

    Give the list to :func:`wait_for` when everything that comes first is done.
    """
    before, _listeners.futures = _listeners.futures, []
    try:
        yield _listeners.futures
    finally:
        _listeners.futures = before


def wait_for(futures: "Sequence[Future[bool]]") -> None:
    """Wait for revocations, but not longer than a person would; the rest goes on without us."""
    wait(futures, timeout=PATIENCE)


class _Outbox:
    """Revocations that this process tries right now, in a few threads that exist only while there are any."""

    #: So that one slow answer does not keep everybody else waiting.
    THREADS = 4

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._entries: deque[tuple[Callable[[], bool], Future[bool]]] = deque()
        self._running = 0

    def submit(self, work: Callable[[], bool]) -> "Future[bool]":
        """Do *work* soon. What can't be done is left to maintenance: then the result is ``False``."""
        future: Future[bool] = Future()
        future.set_running_or_notify_cancel()
        with self._lock:
            self._entries.append((work, future))
            start = self._running < self.THREADS
            self._running += start
        if start:
            try:
                beside(self._run, daemon=True)
            except RuntimeError:
                with self._lock:
                    self._running -= 1
                    left = list(self._entries) if self._running == 0 else []
                    for _entry in left:
                        self._entries.popleft()
                for _work, given_up in left:
                    given_up.set_result(False)
        return future

    def _run(self) -> None:
        while True:
            with self._lock:
                if not self._entries:
                    self._running -= 1
                    return
                work, future = self._entries.popleft()
            try:
                done = work()
            except Exception:
                logger.exception("A revocation could not be tried.")
                done = False
            future.set_result(done)
            close_old_connections()  # one that broke must not fail the others


_outbox = _Outbox()


class _Waiter(threading.local):
    """The patience of one thread: who deletes thousands waits once in all."""

    _until = _last = 0.0  # monotonic seconds

    def wait_for(self, future: "Future[bool]") -> None:
        """Wait, unless this thread did so just now for as long as a person would."""
        now = time.monotonic()
        if now - self._last > 1:
            self._until = now + PATIENCE
        wait([future], timeout=max(self._until - now, 0))
        self._last = time.monotonic()


_waiter = _Waiter()


def attempt(
    pending_id: int,
    *,
    failed: Callable[[SpatioError], object] | None = None,
    using: str | None = None,
) -> bool:
    """
    Revoke what is queued in that row, unless somebody else is at it, or it is not time yet.

    Args:
        failed: Called with the error if it has to be tried again.
        using: The row's database, where it is known.

    Returns:
        Whether the row is done with.
    """
    alias = using or router.db_for_write(PendingRevocation)
    rows = PendingRevocation.objects.using(alias).filter(pk=pending_id)
    # One at a time; the claim lapses, should this process end now.
    if not rows.filter(retry_at_ms__lte=DatabaseNow()).update(retry_at_ms=from_now(CLAIM)):
        return False
    pending = rows.annotate(now_ms=DatabaseNow()).first()
    if pending is None:
        return True
    try:
        revoke(pending)
    except SpatioError as error:
        if error.code == "revocation_endpoint":
            logger.info("The provider has no revocation endpoint: tokens end when they expire.")
        elif pending.fails < MAX_FAILS:
            postpone(pending, error)
            if failed:
                failed(error)
            return False
        else:
            logger.error(  # noqa: TRY400 - no traceback: what matters is said
                "Tokens were not revoked: %s", error, extra={"spatio": {"code": error.code, **error.context}}
            )
    rows.delete()
    return True


def revoke(pending: PendingRevocation) -> None:
    """
    Have the refresh token revoked, and then the access token: a provider need not do the second by itself.

    Raises:
        SpatioError: What is left to do is still in the row.
    """
    if pending.issuer != conf.SPATIO_ISSUER:
        raise ConfigurationError("A grant of another issuer than SPATIO_ISSUER.", code="other_issuer")
    registered = registration.of_client(pending.client_id)
    if registered is None:
        raise ConfigurationError("The client of a grant is not registered any more.", code="not_registered")
    refresh_token, access_token = pending.refresh_token, pending.access_token
    client, refused = get_client(), None
    if refresh_token:
        try:
            client.revoke(registered.credentials, refresh_token, timeout=TIMEOUT)
        except ProviderRefused as error:
            # Whether Spatio takes refresh tokens here is not said. Access tokens it does.
            if error.code in OPERATOR_ERRORS:
                raise
            refused = error
        else:
            _row(pending).update(refresh_ciphertext="")
    expired = pending.access_expires_ms is not None and pending.access_expires_ms <= vars(pending)["now_ms"]
    if access_token and not expired:
        client.revoke(registered.credentials, access_token, timeout=TIMEOUT)
        _row(pending).update(access_ciphertext="")
    if refused:
        raise refused


def postpone(pending: PendingRevocation, error: SpatioError) -> None:
    """Try again later, when the provider said so, or later each time."""
    asked = error.retry_after if isinstance(error, ProviderUnavailable) else None
    pause = min(FIRST_PAUSE * 2 ** min(pending.fails, 10), LAST_PAUSE) * random.uniform(0.8, 1.2)  # noqa: S311
    _row(pending).update(retry_at_ms=from_now(max(pause, asked or 0.0)), fails=pending.fails + 1)
    logger.warning(
        "Tokens could not be revoked yet: %s",
        error,
        extra={"spatio": {"event": "revocation_postponed", "code": error.code, **error.context}},
    )


def _row(pending: PendingRevocation) -> "QuerySet[PendingRevocation]":
    return PendingRevocation.objects.using(pending.alias).filter(pk=pending.pk)


def forget_threads() -> None:
    """Begin afresh in a forked process: the parent's threads are not here."""
    global _outbox
    _outbox = _Outbox()


os.register_at_fork(after_in_child=forget_threads)
