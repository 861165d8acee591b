"""
What has to be done now and then: revoke what could not be revoked yet, and clear away what is over.

``manage.py spatio_maintain`` is a doorway to :func:`maintain`; Celery or Django's tasks call the same. Any
number of processes may run it at once. All of it goes page by page along an index, so that ten million grants
take long, and not much memory; no transaction is longer than a page.
"""

import random
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import Any, TypeVar

from django.conf import settings
from django.contrib.auth import get_user_model
from django.core.exceptions import FieldDoesNotExist
from django.db import OperationalError, connections, models
from django.db.models import Q
from django.utils import timezone

from spatio_django import revocation, tokens
from spatio_django.exceptions import ProviderUnavailable, SpatioError
from spatio_django.models import (
    ConsumedState,
    GrantState,
    PendingRevocation,
    SpatioAccount,
    SpatioToken,
    authoritative,
    database_now,
    from_now,
    writing,
)

M = TypeVar("M", bound=models.Model)

#: Called after each page with what is being done, and how many rows were looked at so far.
Progress = Callable[[str, int], object]

#: Rows of a page.
BATCH_SIZE = 500
#: Days for which a grant outlives the longest session: clocks differ, and people are slow.
SPARE_DAYS = 7
#: Calls in a row that Spatio does not answer until the rest is left for later.
STOP_AFTER = 3
#: Attempts at a page that the database refuses, beside the first.
RETRIES = 4
#: How far pending revocations are counted.
MOST_COUNTED = 10_000


@dataclass(slots=True, kw_only=True)
class Summary:
    """
    What was done.

    Attributes:
        deactivated: Grants that ended because their user is inactive.
        unused: Grants that ended because nobody came back for longer than a session lives.
        dropped: Grants that were over, and are gone now.
        states: Consumed states that had expired, and are gone now.
        revoked: Grants whose tokens are revoked at Spatio now, or whose revocation was given up.
        left: Grants whose tokens are still to be revoked; counted up to :data:`MOST_COUNTED` and one more.
        unreachable: Whether the rest was left because Spatio did not answer.
    """

    deactivated: int = 0
    unused: int = 0
    dropped: int = 0
    states: int = 0
    revoked: int = 0
    left: int = 0
    unreachable: bool = False


def ignore(what: str, done: int) -> None:
    """Tell nobody."""


def maintain(
    *, batch_size: int = BATCH_SIZE, unused_days: int | None = None, progress: Progress = ignore
) -> Summary:
    """
    Do all of it. What ends here is revoked last, together with what was left from before.

    Args:
        batch_size: Rows of a page.
        unused_days: As :func:`end_unused` takes it.
        progress: Called after each page.
    """
    summary = Summary(
        deactivated=end_deactivated(batch_size=batch_size, progress=progress),
        unused=end_unused(batch_size=batch_size, days=unused_days, progress=progress),
        dropped=drop_ended(batch_size=batch_size, progress=progress),
        states=drop_consumed_states(batch_size=batch_size, progress=progress),
    )
    revoke_pending(summary, batch_size=batch_size, progress=progress)
    return summary


def end_deactivated(*, batch_size: int = BATCH_SIZE, progress: Progress = ignore) -> int:
    """
    End the grants of users who are inactive, by a statement that sent no signal.

    Goes through all accounts: sites have no index on ``is_active``. The next sign-in of such a person must
    rest on a new proof of identity, as if they had been deactivated one by one.

    Returns:
        How many grants ended.
    """
    try:
        get_user_model()._meta.get_field("is_active")
    except FieldDoesNotExist:
        return 0
    ended = looked_at = 0
    accounts = authoritative(SpatioAccount).values_list("pk", "user_id", "user__is_active")
    for page in by_primary_key(accounts, batch_size):
        inactive = [pk for pk, _user, is_active in page if not is_active]
        grants = authoritative(SpatioToken).filter(account__in=inactive, state=GrantState.ACTIVE)
        for user_id in grants.values_list("account__user_id", flat=True).distinct() if inactive else ():
            ended += retried(partial(tokens.distrust, user_id, "deactivated", later=True))
        looked_at += len(page)
        progress("accounts looked at for users who are inactive", looked_at)
    return ended


def end_unused(*, batch_size: int = BATCH_SIZE, days: int | None = None, progress: Progress = ignore) -> int:
    """
    End and drop the grants that nobody came back to for longer than a session lives.

    Neither a request nor a job has used them: their access token expired that long ago, too, if Spatio said
    when it does.

    Args:
        days: How long. Default: ``SESSION_COOKIE_AGE`` and a week. Give it where sessions live longer,
            by ``set_expiry()``.

    Returns:
        How many.
    """
    age = timedelta(seconds=settings.SESSION_COOKIE_AGE, days=SPARE_DAYS) if days is None else timedelta(days)
    before = database_now(SpatioToken) - int(age.total_seconds() * 1000)
    unused = Q(expires_ms=None) | Q(expires_ms__lt=before)
    unused &= Q(seen_ms__lt=before, created_at__lt=timezone.now() - age)
    ended = looked_at = 0
    for page in long_not_seen(before, batch_size):
        ended += retried(partial(end_those, unused, page))
        looked_at += len(page)
        progress("grants looked at that nobody came back to", looked_at)
    return ended


def end_those(unused: Q, page: list[int]) -> int:
    """
    End those of a page of which *unused* holds; give how many.

    Those that Spatio has ended go, too: their sessions are over, and nobody comes back for the reason.
    """
    with writing(SpatioToken) as alias:
        # Of a host that still runs the code from before such a day was noted: it begins now.
        grants = SpatioToken.objects.using(alias).filter(pk__in=page)
        grants.filter(seen_ms=0).update(seen_ms=from_now(0))
        # Asked of the page only: with a limit, the database might go through millions to find a few. Locked,
        # so that nobody who comes back this moment loses their grant.
        found = grants.filter(unused).exclude(state=GrantState.REVOKED)
        grant_ids = list(unlocked(found).order_by("pk").values_list("pk", flat=True))
        return revocation.end_all(grant_ids, "unused", delete=True, later=True)


def long_not_seen(before: int, batch_size: int) -> Iterator[list[int]]:
    """Give the primary keys of the grants last seen before that moment, page by page along their index."""
    rows = authoritative(SpatioToken).filter(seen_ms__lt=before).values_list("pk", "seen_ms")
    last_pk, last_seen = 0, -1
    while True:
        # Two questions, because no database uses an index for the one with "or" in it. Many may have been
        # seen in the same millisecond, if a statement wrote it.
        page = list(rows.filter(seen_ms=last_seen, pk__gt=last_pk).order_by("pk")[:batch_size])
        page = page or list(rows.filter(seen_ms__gt=last_seen).order_by("seen_ms", "pk")[:batch_size])
        if not page:
            return
        last_pk, last_seen = page[-1]
        yield [pk for pk, _seen in page]


def drop_ended(*, batch_size: int = BATCH_SIZE, progress: Progress = ignore) -> int:
    """
    Drop the grants that were ended here; their tokens are revoked, or in the queue.

    Those that Spatio ended stay for as long as unused ones do: their session, when it comes back, is told by
    them that it may be signed in again without a page.

    Returns:
        How many.
    """
    dropped = 0
    rows = authoritative(SpatioToken).filter(state=GrantState.REVOKED).order_by("pk")
    while number := retried(partial(drop_page, rows, batch_size)):
        dropped += number
        progress("grants dropped that were over", dropped)
    return dropped


def drop_consumed_states(*, batch_size: int = BATCH_SIZE, progress: Progress = ignore) -> int:
    """
    Drop the consumed states whose time is over. Callbacks do so as well, where there are any.

    Returns:
        How many.
    """
    dropped = 0
    rows = authoritative(ConsumedState).filter(expires_ms__lt=database_now(ConsumedState))
    rows = rows.order_by("expires_ms")
    while number := retried(partial(drop_page, rows, batch_size)):
        dropped += number
        progress("consumed states dropped", dropped)
    return dropped


def drop_page(rows: models.QuerySet[M], batch_size: int) -> int:
    """
    Delete the first of *rows*, except what another process is deleting right now.

    Returns:
        How many; 0 if there are none, or others see to them.
    """
    with writing(rows.model) as alias:
        page = list(unlocked(rows).values_list("pk", flat=True)[:batch_size])
        rows.model._default_manager.using(alias).filter(pk__in=page).delete()
    return len(page)


def retried(work: Callable[[], int]) -> int:
    """
    Do a page's work, and do it again if the database rolled it back to undo a deadlock.

    However rows are locked, a database locks their index entries besides, in an order of its own.
    """
    for _ in range(RETRIES):
        try:
            return work()
        except OperationalError:
            time.sleep(random.uniform(0.01, 0.1))  # noqa: S311
    return work()


def unlocked(rows: models.QuerySet[M]) -> models.QuerySet[M]:
    """Lock *rows*, and leave out those that another process has locked, where the database can."""
    skip = connections[rows.db].features.has_select_for_update_skip_locked
    return rows.select_for_update(skip_locked=skip)


def revoke_pending(
    summary: Summary | None = None, *, batch_size: int = BATCH_SIZE, progress: Progress = ignore
) -> Summary:
    """
    Try what is due of the queue, each row once, oldest first.

    Stops when Spatio does not answer several times in a row. Each row is claimed, so that processes share
    the work.

    Args:
        summary: Where to note what was done.
    """
    summary = summary or Summary()
    in_a_row = tried = 0
    # A number from here on: what is postponed comes later than that, so this comes to an end.
    now = database_now(PendingRevocation)
    due = authoritative(PendingRevocation).filter(retry_at_ms__lte=now).order_by("retry_at_ms", "pk")
    while not summary.unreachable and (page := list(due.values_list("pk", flat=True)[:batch_size])):
        for pending_id in page:
            failures: list[SpatioError] = []
            is_done = revocation.attempt(pending_id, failed=failures.append)
            summary.revoked += is_done
            in_a_row += any(isinstance(error, ProviderUnavailable) for error in failures)
            in_a_row *= not is_done
            tried += 1
            if in_a_row >= STOP_AFTER:
                summary.unreachable = True
                break
        progress("grants of which revoking the tokens was tried", tried)
    summary.left = authoritative(PendingRevocation)[: MOST_COUNTED + 1].count()
    return summary


def by_primary_key(rows: models.QuerySet[Any, Any], batch_size: int) -> Iterator[list[Any]]:
    """Give *rows*, tuples that begin with the primary key, page by page."""
    rows = rows.order_by("pk")
    page = list(rows[:batch_size])
    while page:
        yield page
        page = list(rows.filter(pk__gt=page[-1][0])[:batch_size])
