"""
One refresh at a time per grant, on any number of threads, processes and hosts, and no successor lost.

A rotating refresh token works once. Used twice it may end the grant; used once and its successor not stored,
it ends as well. So the row decides who may send it:

1. **Claim.** One conditional ``UPDATE``, committed by itself, puts a lease on the row. Whoever changed one
   row may send; everybody else, and everybody whose database failed, may not.
2. **Send**, within :data:`SEND_WITHIN` of the claim, so that a process that was stopped in between can't send
   what somebody else has sent meanwhile. The lease outlives the call and the storing.
3. **Store first, judge later**, over the generation that was claimed, again and again on new connections
   until :data:`STORE_WITHIN`. A grant that was ended meanwhile has the successor revoked.

Times are the database's. Nothing here holds a transaction open while a socket is; inside a transaction of the
caller all of it happens in another thread, on another connection, because a rollback would lose the
successor. What can't be known (no answer came) is tried again after a pause, and then told by Spatio.
"""

import asyncio
import logging
import math
import os
import random
import secrets
import threading
import time
import zlib
from collections.abc import Callable
from concurrent.futures import Future, wait
from copy import copy
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

from asgiref.sync import sync_to_async
from django.db import Error, connections

from spatio_django import registration, revocation, statements
from spatio_django.breaker import Breaker
from spatio_django.conf import conf
from spatio_django.exceptions import (
    ConfigurationError,
    InvalidToken,
    ProtocolViolation,
    ProviderRefused,
    ProviderUnavailable,
    SessionEnded,
    SpatioError,
    TokenUnavailable,
    Undecryptable,
)
from spatio_django.models import GrantState, SpatioToken, TokenQuerySet, from_now
from spatio_django.oidc.client import REFRESH_TIMEOUT
from spatio_django.oidc.responses import RefreshResponse
from spatio_django.oidc.secret import Secret
from spatio_django.provider import get_client
from spatio_django.signals import grant_refreshed
from spatio_django.threads import (
    commit_each_statement,
    has_one_writer,
    impatient,
    in_crew,
    in_test_case,
    in_transaction,
    insist,
    only_here,
    signals_later,
)

if TYPE_CHECKING:
    from spatio_django.oidc.client import Client

logger = logging.getLogger("spatio_django")

#: Seconds before its end from which a token is refreshed; a quarter of its life if that is less.
MAX_WINDOW = 120.0
#: By how much of it that differs from grant to grant, so that they don't all come at once.
JITTER = 0.2
#: Part of a token's life that a caller may ask to be left; of more, each call would refresh.
MAX_MIN_TTL = 0.75
#: Seconds after the claim in which the request must leave.
SEND_WITHIN = 3.0
#: Seconds in which the successor must be stored; then the caller is let go, and it is tried for so long more.
STORE_WITHIN = 12.0
STORE_LATE = 600.0
#: Seconds to wait for a lock on the row, or the table: whoever holds it must not hold up pages. And for which
#: nobody waits, who takes a place in the line before those that would claim it.
PATIENCE, LONG_PATIENCE = 2, 60
#: Seconds that a caller waits for the site's receivers in another thread.
RECEIVERS = 1.0
#: Seconds of a lease: the call's deadline (10), the storing, and a guard of 3.
LEASE = 25.0
#: Seconds to wait for another's refresh.
WAIT = 12.0
#: Seconds between looks at a row that another holds, at first and at most.
FIRST_LOOK, LAST_LOOK = 0.025, 0.2
#: Seconds for which a refusal is no reason to refresh, after a new token was refused as well; and of how many
#: grants that is known.
REFUSED_FOR, MOST_REFUSED = 10.0, 1000
#: Seconds between attempts at most. It bounds how long an outage is felt after its end, and with the doubling
#: from 2 on it means six attempts in a minute.
LAST_PAUSE = 24.0
#: Seconds of a provider's ``Retry-After`` that are honoured: the longest pause there is.
MAX_RETRY_AFTER = 300.0
#: Seconds that an async request waits for a thread that begins its refresh, if it can do without.
BEGINS = 0.1

LOST = "A refresh token was lost: it could not be stored."


@dataclass(frozen=True, slots=True, kw_only=True)
class Need:
    """
    What a caller needs of an access token.

    Attributes:
        min_ttl: Seconds that it must still live.
        rejected: A token that an API did not take, so that it is no good whatever its expiry says.
        wait: Whether to wait for another's refresh.
        generation: Of the grant when it was rejected. If the provider gives the same token again, that one is
            new.
    """

    min_ttl: float = 0.0
    rejected: Secret | None = None
    wait: bool = True
    generation: int = 0

    def at(self, grant: SpatioToken) -> "Need":
        """Give the need of a caller who has *grant*."""
        return self if self.rejected is None else replace(self, generation=grant.generation)

    def is_met_by(self, grant: SpatioToken) -> bool:
        """Tell whether there is no reason to refresh."""
        return self._lasts(grant, self.margin(grant))

    def margin(self, grant: SpatioToken) -> float:
        """Give the seconds before its token's end at which there is a reason; infinite if it is no good."""
        return math.inf if self.refuses(grant) else max(window(grant), self._min_ttl(grant))

    def can_do_with(self, grant: SpatioToken) -> bool:
        """Tell whether the token can be used, though it would better be refreshed."""
        return self._lasts(grant, self._min_ttl(grant))

    def waits_with(self, grant: SpatioToken) -> bool:
        """Tell whether there is a reason to wait for somebody else."""
        return self.wait and not self.can_do_with(grant)

    def refuses(self, grant: SpatioToken) -> bool:
        """Tell whether its token is the one that was rejected."""
        is_old = grant.generation <= self.generation
        return self.rejected is not None and is_old and grant.access_token == self.rejected

    def _min_ttl(self, grant: SpatioToken) -> float:
        most = self.min_ttl if grant.ttl_ms is None else MAX_MIN_TTL * grant.ttl_ms / 1000
        return min(self.min_ttl, most)

    def _lasts(self, grant: SpatioToken, seconds: float) -> bool:
        if self.refuses(grant):
            return False
        return grant.seconds_left is None or grant.seconds_left > seconds


def window(grant: SpatioToken) -> float:
    """Give the seconds before the token's end in which to refresh it; the same for all who look at it."""
    longest = MAX_WINDOW if grant.ttl_ms is None else min(MAX_WINDOW, grant.ttl_ms / 4000)
    spread = zlib.crc32(f"{grant.pk}:{grant.generation}".encode()) / 0xFFFFFFFF
    return longest * (1 - JITTER + 2 * JITTER * spread)


def fresh(grant: SpatioToken, need: Need) -> SpatioToken:
    """
    Give *grant* with an access token as needed, refreshed if it is time.

    No query and no call if it is not. Safe inside a transaction.

    Args:
        grant: Active, read with the clock of the database that it is written to.

    Raises:
        SessionEnded: ``invalid_grant``, ``signed_out``, ``other_identity``, ``other_issuer`` or
            ``undecryptable``: it is over.
        TokenUnavailable: ``unavailable``, ``busy``, ``database``, ``in_transaction``, ``not_registered`` or
            ``expired`` or ``rejected``: perhaps later.
    """
    need = need.at(grant)
    try:
        return grant if need.is_met_by(grant) else _flown(grant, need)
    except SpatioError as error:
        return _forgiven(error, grant, need)


async def afresh(grant: SpatioToken, need: Need) -> SpatioToken:
    """
    Do as :func:`fresh` in an event loop: a refresh is done in a thread, which a cancelled task leaves alone.

    Raises:
        SessionEnded, TokenUnavailable: As :func:`fresh`.
    """
    need = need.at(grant)
    try:
        return grant if need.is_met_by(grant) else await _aflown(grant, need)
    except SpatioError as error:
        return _forgiven(error, grant, need)


def _forgiven(error: SpatioError, grant: SpatioToken, need: Need) -> SpatioToken:
    """Give *grant* as it is if *error* does not matter that much, or raise it."""
    if isinstance(error, Undecryptable):
        # Spatio is not called: on a copy of the database, that would use up the original's refresh token.
        raise SessionEnded(str(error), code=error.code) from None
    if (
        isinstance(error, TokenUnavailable)
        and not isinstance(error, SessionEnded)
        and need.can_do_with(grant)
    ):
        return grant
    raise error


#: Refreshes of this process that are under way, by the grant's handle. Others wait for what they bring.
_flights: "dict[str, Future[SpatioToken]]" = {}


def _flown(grant: SpatioToken, need: Need) -> SpatioToken:
    """Refresh *grant*, or wait for somebody in this process who does."""
    _require_hope(grant, need)
    aside = _is_endangered(grant)
    gives_up = time.monotonic() + WAIT + 1
    while True:
        mine: Future[SpatioToken] = Future()
        flight = _flights.setdefault(grant.handle, mine)
        if flight is mine:
            if not aside:
                return _lead(mine, grant, need)
            work = _departed(mine, grant, need)
            result = _result(mine, WAIT + 1)
            wait([work], timeout=RECEIVERS)
            _mend(grant.alias)
            return result
        if need.can_do_with(grant):
            return grant
        _require_patience(need, gives_up, flight, grant)
        try:
            grant = _result(flight, gives_up - time.monotonic())
        except TokenUnavailable as error:
            if error.code != "busy":  # one that did not want to wait says nothing about us
                raise
        if need.can_do_with(grant):  # the best that could be had a moment ago
            return grant


async def _aflown(grant: SpatioToken, need: Need) -> SpatioToken:
    _require_hope(grant, need)
    if await sync_to_async(_is_for_this_thread)(grant):
        return await sync_to_async(_flown)(grant, need)
    gives_up = time.monotonic() + WAIT + 1
    while True:
        mine: Future[SpatioToken] = Future()
        flight = _flights.setdefault(grant.handle, mine)
        if flight is mine:
            work = _departed(mine, grant, need)
            if need.can_do_with(grant):
                await asyncio.wait([_watched(mine)], timeout=BEGINS)
                if not (work.running() or work.done()):  # it stands in line behind others' refreshes
                    return grant
            result = await _aresult(mine, WAIT + 1)
            await asyncio.wait([asyncio.wrap_future(work)], timeout=RECEIVERS)
            return result
        if need.can_do_with(grant):
            return grant
        _require_patience(need, gives_up, flight, grant)
        try:
            grant = await _aresult(flight, gives_up - time.monotonic())
        except TokenUnavailable as error:
            if error.code != "busy":
                raise
        if need.can_do_with(grant):
            return grant


def _require_hope(grant: SpatioToken, need: Need) -> None:
    """
    Return if a refresh can help.

    Raises:
        TokenUnavailable: ``expired``, ``rejected``.
    """
    if not grant.refresh_ciphertext:
        raise TokenUnavailable("The access token is used up, and there is no refresh token.", code="expired")
    if grant.handle in _late:
        raise _busy()  # what a refresh brought is still to be stored: another would use up a used token
    if need.rejected is not None and _refused.get(grant.handle, 0.0) > time.monotonic():
        # Another one would not be better: the API wants something else. Each call would use one up.
        raise TokenUnavailable("An API refuses even a token that is new.", code="rejected")


def _require_patience(need: Need, gives_up: float, flight: "Future[SpatioToken]", grant: SpatioToken) -> None:
    """
    Return if *flight* is to be waited for.

    Raises:
        TokenUnavailable: ``busy``.
    """
    if need.wait and time.monotonic() < gives_up:
        return
    if need.wait:
        # One that never takes off must not be waited for by all others. If it is only slow, the row's lease
        # keeps a second one from being sent.
        _clear(flight, grant)
    raise _busy()


#: Handles of grants that this process could not store in time, and goes on trying to.
_late: set[str] = set()

#: By handle: until when, on the monotonic clock, a refusal is no reason to refresh.
_refused: dict[str, float] = {}


def note_refusal(grant: SpatioToken) -> None:
    """Note that an API has refused a token that was refreshed because of a refusal."""
    if len(_refused) >= MOST_REFUSED:
        _refused.clear()
    _refused[grant.handle] = time.monotonic() + REFUSED_FOR


def _is_endangered(grant: SpatioToken) -> bool:
    """
    Tell whether this thread must not refresh *grant* itself.

    In a transaction, a rollback would lose the successor; in the main thread, a signal's exception would (a
    job's time limit).

    Raises:
        TokenUnavailable: ``in_transaction``.
    """
    alias = grant.alias
    if not has_one_writer(alias):
        in_main_thread = threading.current_thread() is threading.main_thread()
        return in_transaction(alias) or (in_main_thread and not in_test_case(alias))
    if in_transaction(alias):
        # A second connection would wait for the first, which waits for us; and its commit would make the
        # first one's next write fail.
        raise TokenUnavailable(
            "With SQLite, tokens are not refreshed inside a transaction.", code="in_transaction"
        )
    return False  # one connection: another would wait for what this one reads


def _is_for_this_thread(grant: SpatioToken) -> bool:
    _is_endangered(grant)  # async code may have been called from a transaction
    return only_here(grant.alias)


def _departed(mine: "Future[SpatioToken]", grant: SpatioToken, need: Need) -> "Future[None]":
    """
    Lead in another thread. A transaction here may not see what it stores, so what lands in *mine* counts.

    Returns:
        Done when the site's receivers have heard of it, too. Not waited for long: one may wait for a lock of
        the caller's.
    """
    try:
        return in_crew(partial(_lead_beside, mine, grant, need))
    except RuntimeError:
        _land(mine, grant, _no_thread())
        done: Future[None] = Future()
        done.set_result(None)
        return done


def _lead_beside(mine: "Future[SpatioToken]", grant: SpatioToken, need: Need) -> None:
    if mine.done():  # there was no thread a moment ago, and the caller has been told so
        return
    try:
        _lead(mine, grant, need)
    except SpatioError:
        return  # it is in the flight
    except Exception:
        logger.exception("A refresh failed.")


def _result(flight: "Future[SpatioToken]", seconds: float) -> SpatioToken:
    try:
        return flight.result(max(seconds, 0.0))
    except TimeoutError:
        raise _busy() from None
    except TokenUnavailable as error:
        raise copy(error) from None  # the traceback is another thread's


async def _aresult(flight: "Future[SpatioToken]", seconds: float) -> SpatioToken:
    try:
        # Shielded: whoever goes away does not take the flight along.
        return await asyncio.wait_for(asyncio.shield(_watched(flight)), max(seconds, 0.0))
    except TimeoutError:
        raise _busy() from None
    except TokenUnavailable as error:
        raise copy(error) from None  # the traceback is another thread's


def _watched(flight: "Future[SpatioToken]") -> "asyncio.Future[SpatioToken]":
    """Let this event loop wait for *flight*, and not complain if whoever waited has gone away."""
    future = asyncio.wrap_future(flight)
    future.add_done_callback(lambda done: done.cancelled() or done.exception())
    return future


def _lead(flight: "Future[SpatioToken]", grant: SpatioToken, need: Need) -> SpatioToken:
    """Do the work that others of this process wait for."""
    try:
        result, is_new = _advance(grant, need)
    except Error:
        failure = TokenUnavailable("The database can't be used.", code="database")
        _land(flight, grant, failure)
        logger.exception("The database failed around a refresh.")
        raise failure from None
    except BaseException as error:
        # What only concerns this caller (an interrupt, a fault of the site's) has the others try themselves.
        _land(flight, grant, error if isinstance(error, SpatioError) else _busy())
        raise
    _clear(flight, grant)
    flight.set_result(result)
    if is_new:  # told when others can have it: a receiver may ask for the token
        _tell(result)
    return result


def _land(flight: "Future[SpatioToken]", grant: SpatioToken, error: SpatioError) -> None:
    """Let those who wait know that nothing came of it."""
    _clear(flight, grant)
    flight.set_exception(error)


def _clear(flight: "Future[SpatioToken]", grant: SpatioToken) -> None:
    if _flights.get(grant.handle) is flight:
        _flights.pop(grant.handle, None)


class _Late(Exception):
    """A request was not sent: too much time had passed since the claim, which was given back."""


def _advance(grant: SpatioToken, need: Need) -> tuple[SpatioToken, bool]:
    """Refresh *grant*, or wait for another process that does; tell whether it was us."""
    gives_up = time.monotonic() + WAIT
    look = FIRST_LOOK
    may_be_late = need.wait
    while not need.is_met_by(grant):
        is_held, must_pause = _is_held(grant), _must_pause(grant)
        # Judged by the newest reading: the one that the caller has may have run out while this one waited.
        if (is_held or must_pause) and need.can_do_with(grant):
            return grant, False
        if must_pause:
            raise TokenUnavailable("Spatio did not answer a moment ago.", code="unavailable")
        if is_held and not need.wait:
            raise _busy()
        refreshed = None
        try:
            if not is_held:
                with signals_later():
                    refreshed = _attempt(grant, need, may_be_late=may_be_late)
        except _Late:
            may_be_late = False
        except TokenUnavailable as error:
            if isinstance(error, SessionEnded) or not need.can_do_with(grant):
                raise
            return grant, False
        if refreshed is not None:
            return refreshed, True
        if time.monotonic() >= gives_up:
            raise _busy()
        if is_held:
            _await_news(grant, gives_up)
        elif not need.can_do_with(grant):  # else it is known now by whom it is refreshed, or was
            time.sleep(random.uniform(look / 2, look))  # noqa: S311
            look = min(2 * look, LAST_LOOK)
        grant = _reread(grant)
        if not is_held and need.can_do_with(grant):  # it is another's turn, or not yet anybody's
            return grant, False
    return grant, False


def _is_held(grant: SpatioToken) -> bool:
    """Tell whether somebody's lease runs. One that lasts too long is of a clock that was ahead."""
    return grant.lease_id != "" and 0 <= grant.lease_until_ms / 1000 - grant.now <= LEASE


def _must_pause(grant: SpatioToken) -> bool:
    """Tell whether an attempt failed just now."""
    return 0 < grant.retry_at_ms / 1000 - grant.now <= MAX_RETRY_AFTER


def _await_news(grant: SpatioToken, gives_up: float) -> None:
    """
    Wait as long as another holds the lease that *grant* was read with.

    Many may wait for one, so they only look whether there is something to read.

    Args:
        gives_up: Monotonic seconds; then it is waited no longer.
    """
    commit_each_statement(grant.alias)  # or each look would see what the first one saw
    look = FIRST_LOOK
    while True:
        time.sleep(random.uniform(look / 2, look))  # noqa: S311
        look = min(2 * look, LAST_LOOK)
        is_over = time.monotonic() >= gives_up or grant.lease_until_ms < 1000 * grant.now
        if is_over or not statements.is_as_read(grant):
            return


def _busy() -> TokenUnavailable:
    return TokenUnavailable("The access token is being refreshed elsewhere.", code="busy")


def _no_thread() -> TokenUnavailable:
    return TokenUnavailable("There is no thread to refresh the access token in.", code="busy")


def _reread(grant: SpatioToken) -> SpatioToken:
    """Read the row again, from where it is written."""
    again = statements.reread(grant)
    if again is not None:
        return again
    over = _row(grant).select_related("account__user").first()
    reason = (over and over.why_over) or "deleted"
    code = reason if reason in {"invalid_grant", "other_identity"} else "signed_out"
    raise SessionEnded("The grant is over.", code=code, reason=reason)


def _attempt(grant: SpatioToken, need: Need, *, may_be_late: bool) -> SpatioToken | None:
    """
    Claim, send, store.

    Args:
        may_be_late: Whether there is another attempt if this one is not sent in time.

    Returns:
        The refreshed grant; ``None`` if the row has to be looked at again.

    Raises:
        _Late: The row may be claimed anew.
        SessionEnded, TokenUnavailable: As :func:`fresh`.
    """
    if grant.account.issuer != conf.SPATIO_ISSUER:
        raise SessionEnded("The grant is another issuer's than SPATIO_ISSUER.", code="other_issuer")
    refresh_token = grant.refresh_token
    assert refresh_token is not None  # noqa: S101 - asked before: for the type checker
    breaker = _breaker(grant.client_id)
    if not breaker.allows():
        raise TokenUnavailable("Spatio does not answer right now.", code="unavailable")
    # What may take long comes before the claim.
    try:
        client = get_client()
        client.metadata()
        registered = registration.of_client(grant.client_id)
    except (ProviderUnavailable, ProtocolViolation) as error:
        breaker.failed()
        _log_failure(grant, error)
        raise TokenUnavailable("Spatio's metadata can't be had.", code="unavailable") from None
    except SpatioError as error:
        _log_failure(grant, error)
        registered = None
    if registered is None:
        breaker.unused()
        raise TokenUnavailable("The client of this grant is not registered.", code="not_registered")
    lease, claimed_at = secrets.token_hex(16), time.monotonic()
    try:
        is_ours = _claim(grant, lease, need)
    except Error as error:
        logger.warning("A refresh could not be claimed: %s", type(error).__name__)
        _mend(grant.alias)
        breaker.unused()
        if need.waits_with(grant):
            return None
        raise TokenUnavailable("The database can't be written.", code="database") from None
    if not is_ours:
        breaker.unused()
        return None
    try:
        answer = _ask(client, registered, refresh_token, claimed_at)
    except SpatioError as error:
        _note(breaker, client, error)
        if error.code == "late" and may_be_late:
            with impatient(grant.alias, PATIENCE):
                _row(grant).filter(lease_id=lease).update(lease_id="")
            raise _Late from None
        _failed(grant, lease, error, spare=need.can_do_with(grant))
        return None
    breaker.succeeded()
    return _store(grant, answer, client=client, claimed_at=claimed_at)


def _claim(grant: SpatioToken, lease: str, need: Need) -> bool:
    """Put a lease on the row; ``False`` if it is not ours, and if this fails, we can't know."""
    commit_each_statement(grant.alias)
    with impatient(grant.alias, PATIENCE):
        return statements.claim(
            grant, lease, seconds=LEASE, longest_pause=MAX_RETRY_AFTER, due=need.margin(grant)
        )


def _mend(alias: str) -> None:
    """Close a connection that has died meanwhile, so that the next statement opens a new one."""
    connection = connections[alias]
    if connection.connection is not None and not (connection.in_atomic_block or connection.is_usable()):
        connection.close()


def _ask(
    client: "Client", registered: registration.Registration, token: Secret, claimed_at: float
) -> RefreshResponse:
    """
    Send the refresh token.

    A second time only if Spatio does not take the client's credentials, which another process has renewed: a
    client that failed to authenticate has used nothing up (RFC 6749 §5.2). Both within the time of one.
    """
    send_by = claimed_at + SEND_WITHIN
    try:
        return client.refresh(registered.credentials, token, send_by=send_by)
    except ProviderRefused as error:
        renewed = _renewed(registered) if error.code == "invalid_client" else None
        if renewed is None:
            raise
    left = claimed_at + REFRESH_TIMEOUT - time.monotonic()
    return client.refresh(renewed.credentials, token, send_by=send_by, timeout=left)


def _renewed(registered: registration.Registration) -> registration.Registration | None:
    try:
        return registration.renewed(registered)
    except (Error, SpatioError):  # then what Spatio said is what there is
        return None


def _note(breaker: Breaker, client: "Client", error: SpatioError) -> None:
    """Let the process know what one call told about the provider."""
    if isinstance(error, ProviderUnavailable | ProtocolViolation):
        breaker.failed()
        client.doubt_metadata()
    elif error.code in revocation.OPERATOR_ERRORS or isinstance(error, ConfigurationError):
        breaker.failed(at_once=True)
    else:
        breaker.succeeded()


def _failed(grant: SpatioToken, lease: str, error: SpatioError, *, spare: bool) -> None:
    """
    Give the lease back, and say when to try again. What a client can survive ends no session.

    Args:
        spare: Whether the caller can do with the access token that there is.

    Raises:
        SessionEnded: ``invalid_grant``, if that is what Spatio says about the newest refresh token.
        TokenUnavailable: ``unavailable``.
    """
    status = error.context.get("status")
    if error.code == "invalid_grant" and isinstance(error, ProviderRefused) and status in {400, 401}:
        with impatient(grant.alias, PATIENCE):
            is_over = revocation.mark_ended(grant, "invalid_grant", state=GrantState.DEAD)
        # No row: somebody has refreshed it meanwhile, or ended it. What is there counts.
        if is_over:
            logger.info(
                "Spatio refused a refresh token.",
                extra={
                    "spatio": {
                        "event": "invalid_grant",
                        "account": grant.account_id,
                        # A crash or an outage may have used it up, and not the person have ended the grant.
                        "in_doubt": grant.in_doubt or bool(grant.lease_id),
                    }
                },
            )
            revocation.announce(grant)
            raise SessionEnded("Spatio has ended the grant.", code="invalid_grant")
        return
    _log_failure(grant, error)
    was_sent = not isinstance(error, ConfigurationError) and error.context.get("sent", True)
    ambiguous = bool(was_sent) and not isinstance(error, ProviderRefused) and error.code != "rate_limited"
    fails = grant.fails + 1
    pause = min(2.0 ** min(fails, 10), LAST_PAUSE) * random.uniform(0.8, 1.2)  # noqa: S311
    if isinstance(error, ProviderUnavailable) and error.retry_after is not None:
        pause = max(pause, min(error.retry_after, MAX_RETRY_AFTER))
    if ambiguous and spare and grant.seconds_left is not None:
        # It may be used up. There is no hurry to find out while its access token is good; one that an API
        # has refused is not, however long it would live.
        pause = max(pause, min(grant.seconds_left, window(grant)) / 2)
    grant.retry_at_ms = int(1000 * (grant.now + pause))  # for who decides when to look again
    with impatient(grant.alias, PATIENCE):
        _row(grant).filter(lease_id=lease).update(
            lease_id="",
            retry_at_ms=from_now(pause),
            fails=fails,
            in_doubt=ambiguous or grant.in_doubt or bool(grant.lease_id),
        )
    raise TokenUnavailable("Spatio could not renew the access token.", code="unavailable")


def _store(
    grant: SpatioToken, answer: RefreshResponse, *, client: "Client", claimed_at: float
) -> SpatioToken | None:
    """Keep what a refresh brought, then judge it; ``None`` if the row has to be looked at again."""
    renewed = _renewed_by(answer, grant, claimed_at=claimed_at)
    settle = partial(_settled, grant, renewed, answer, client=client)
    try:
        is_stored = _stored(grant, renewed, claimed_at=claimed_at)
    except Error:
        _store_late(grant, renewed, settle, claimed_at=claimed_at)
        raise
    return settle(is_stored=is_stored)


def _store_late(
    grant: SpatioToken,
    renewed: SpatioToken,
    settle: Callable[..., SpatioToken | None],
    *,
    claimed_at: float,
) -> None:
    """
    Go on in a thread, however long somebody locks the table or the database is away.

    While it is locked, nobody else can claim the row either; and over another generation nothing is stored.
    """

    def store() -> SpatioToken | None:
        commit_each_statement(grant.alias)
        age = time.monotonic() - claimed_at
        with impatient(grant.alias, LONG_PATIENCE):
            is_stored = statements.store(grant, renewed, age=age, lease=LEASE)
        return settle(is_stored=is_stored)

    def done(future: "Future[SpatioToken | None]") -> None:
        _late.discard(grant.handle)
        if isinstance(future.exception(), Error):
            logger.critical(LOST)

    if only_here(grant.alias):
        logger.critical(LOST)
        return
    _late.add(grant.handle)
    try:
        insist(store, seconds=STORE_LATE, daemon=False).add_done_callback(done)
    except RuntimeError:  # there is no thread to be had
        _late.discard(grant.handle)
        logger.critical(LOST)


def _settled(
    grant: SpatioToken, renewed: SpatioToken, answer: RefreshResponse, *, client: "Client", is_stored: bool
) -> SpatioToken | None:
    """Draw the conclusions from an attempt to store *renewed*, as :func:`_store` gives them."""
    if not is_stored:
        try:
            # A commit whose answer was lost has stored it all the same.
            is_stored = _reread(grant).access_ciphertext == renewed.access_ciphertext
        except SessionEnded:
            # Signed out while it was on its way: the successor must not outlive that.
            ttl_ms = renewed.ttl_ms
            revocation.discard(
                grant,
                refresh_token=answer.refresh_token,
                access_token=answer.access_token,
                expires_ms=None if ttl_ms is None else from_now(ttl_ms / 1000),
            )
            raise
    if not is_stored:
        return None
    if answer.id_token:
        _judge(grant, answer.id_token, client)
    return renewed


def _renewed_by(answer: RefreshResponse, grant: SpatioToken, *, claimed_at: float) -> SpatioToken:
    """Give *grant* as it will be; what is stored need not be read again, which could fail."""
    renewed = copy(grant)
    renewed.access_token = answer.access_token
    if answer.refresh_token:
        renewed.refresh_token = answer.refresh_token
    if answer.scope:
        renewed.scope = " ".join(answer.scope)
    if answer.expires_in is not None:
        renewed.ttl_ms = answer.expires_in * 1000
    at_claim = 1000 * (grant.now - time.monotonic() + claimed_at)
    renewed.expires_ms = None if renewed.ttl_ms is None else int(at_claim) + renewed.ttl_ms
    renewed.generation += 1
    renewed.lease_id, renewed.retry_at_ms, renewed.fails, renewed.in_doubt = "", 0, 0, False
    return renewed


def _tell(grant: SpatioToken) -> None:
    """Tell the log and the site that *grant* has a new access token."""
    logger.debug(
        "Grant refreshed.", extra={"spatio": {"event": "grant_refreshed", "account": grant.account_id}}
    )
    if grant_refreshed.has_listeners(SpatioToken):  # only they need the account
        grant_refreshed.send_robust(
            sender=SpatioToken,
            account=statements.whole_account(grant),
            scopes=grant.scopes,
            expires_in=None if grant.ttl_ms is None else grant.ttl_ms / 1000,
        )


def _stored(grant: SpatioToken, renewed: SpatioToken, *, claimed_at: float) -> bool:
    """Write *renewed* over the generation it was made from, whatever it takes."""
    gives_up, pause = time.monotonic() + STORE_WITHIN, 0.05
    while True:
        # Counted from before the question: how long the answer took is not known better.
        age = time.monotonic() - claimed_at
        try:
            commit_each_statement(grant.alias)
            with impatient(grant.alias, PATIENCE):
                return statements.store(grant, renewed, age=age, lease=LEASE)
        except Error as error:
            if time.monotonic() >= gives_up:
                raise
            logger.warning("Storing a refreshed grant is tried again: %s", type(error).__name__)
        _mend(grant.alias)
        time.sleep(pause)
        pause = min(2 * pause, 1.0)


def _judge(grant: SpatioToken, id_token: Secret, client: "Client") -> None:
    """
    End *grant* if its refreshed ID token is about somebody else (OpenID Connect Core §12.2).

    Raises:
        SessionEnded: ``other_identity``.
    """
    try:
        client.check_refreshed_id_token(id_token, original=grant.id_token_claims)
    except InvalidToken as error:
        logger.error(  # noqa: TRY400 - no traceback: what matters is said
            "A refreshed ID token does not hold: %s",
            error.code,
            extra={"spatio": {"event": "other_identity", "account": grant.account_id, "code": error.code}},
        )
        try:
            revocation.end(grant.pk, "other_identity", using=grant.alias)
        except Error:
            logger.exception("A grant that must end could not be ended.")
        raise SessionEnded("A refreshed ID token is about somebody else.", code="other_identity") from None


#: When a failure was last logged, by what it was: an outage is told once a minute, and not once per person.
_logged: dict[str, float] = {}


def _log_failure(grant: SpatioToken, error: SpatioError) -> None:
    now = time.monotonic()
    if now - _logged.get(error.code, float("-inf")) < 60:
        return
    _logged[error.code] = now
    needs_operator = isinstance(error, ConfigurationError | ProviderRefused)
    logger.log(
        logging.ERROR if needs_operator else logging.WARNING,
        "Tokens can't be refreshed: %s %s",
        error.code,
        error,
        extra={
            "spatio": {
                "event": "refresh_failed",
                "account": grant.account_id,
                "code": error.code,
                **error.context,
            }
        },
    )


#: By issuer and client: one that Spatio does not take any more must not keep the others from asking.
_breakers: dict[tuple[str, str], Breaker] = {}


def _breaker(client_id: str) -> Breaker:
    return _breakers.setdefault((conf.SPATIO_ISSUER, client_id), Breaker())


def _row(grant: SpatioToken) -> TokenQuerySet:
    return SpatioToken.objects.using(grant.alias).filter(pk=grant.pk, handle=grant.handle)


def reset() -> None:
    """Forget what is under way and who did not answer, as a new process does."""
    _flights.clear()
    _breakers.clear()
    _logged.clear()
    _refused.clear()
    _late.clear()


os.register_at_fork(after_in_child=reset)
