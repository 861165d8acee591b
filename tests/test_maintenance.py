"""What cron does: revoke what could not be revoked, and clear away what is over."""

import json
import subprocess
import sys
from argparse import ArgumentTypeError
from datetime import timedelta
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth import get_user_model
from django.core.management import CommandError, call_command
from django.db import OperationalError, connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from spatio_django import maintenance, revocation
from spatio_django.maintenance import Summary
from spatio_django.management.commands.spatio_maintain import positive
from spatio_django.memo import memo
from spatio_django.models import (
    ConsumedState,
    GrantState,
    PendingRevocation,
    SpatioAccount,
    SpatioClient,
    SpatioToken,
    database_now,
)
from spatio_django.oidc.secret import Secret
from spatio_django.signals import grant_ended
from tests.conftest import Site
from tests.misbehaving import Misbehaviour

User = get_user_model()
ROOT = Path(__file__).resolve().parents[1]
DAY_MS = 24 * 3600 * 1000


def people(number: int, *, issuer: str, client_id: str = "client") -> list[SpatioToken]:
    """Make that many people with an account and a grant each, seen just now."""
    start = User.objects.count()
    users = User.objects.bulk_create(User(username=f"user{start + each}") for each in range(number))
    accounts = SpatioAccount.objects.bulk_create(
        SpatioAccount(user=user, issuer=issuer, sub=f"acc_{user.username}") for user in users
    )
    now = database_now(SpatioToken)
    grants = [
        SpatioToken(account=account, client_id=client_id, seen_ms=now, expires_ms=now + 3600_000)
        for account in accounts
    ]
    for grant in grants:
        grant.access_token, grant.refresh_token = Secret("tok_access"), Secret("tok_refresh")
    return SpatioToken.objects.bulk_create(grants)


def ago(days: float) -> int:
    """Give the moment so many days ago, in milliseconds."""
    return database_now(SpatioToken) - int(days * DAY_MS)


def abandon(grants: list[SpatioToken], *, days: float = 30) -> None:
    """Let these be forgotten for so long."""
    SpatioToken.objects.filter(pk__in=[grant.pk for grant in grants]).update(
        seen_ms=ago(days), expires_ms=ago(days), created_at=timezone.now() - timedelta(days)
    )


def queue(number: int, site: Site) -> list[int]:
    """End that many grants, and leave revoking to maintenance."""
    grants = people(number, issuer=site.spatio.issuer, client_id=SpatioClient.objects.get().client_id)
    assert revocation.end_all([grant.pk for grant in grants], "signed_out", later=True) == number
    queued = PendingRevocation.objects.order_by("pk").values_list("pk", flat=True)
    return list(queued)[-number:]


def revocations(site: Site) -> int:
    """Count the revocations that the provider was asked for."""
    return len(site.spatio.calls("/oauth2/revoke"))


def run(*arguments: str, verbosity: int = 1) -> str:
    """Run the command; give what it prints."""
    out = StringIO()
    call_command("spatio_maintain", *arguments, stdout=out, verbosity=verbosity)
    return out.getvalue()


# Revoking


def test_what_is_due_is_revoked(site: Site) -> None:
    """Both tokens of each, in more than one page; a second run has nothing to do."""
    queue(5, site)
    assert revocations(site) == 0

    assert "Revoked: 5." in run("--batch-size", "2")

    assert revocations(site) == 10
    assert not PendingRevocation.objects.exists()
    assert "Revoked: 0." in run()
    assert revocations(site) == 10


def test_what_is_not_due_waits(site: Site) -> None:
    """A provider that asked for patience gets it; the operator reads what is left."""
    queue(2, site)
    PendingRevocation.objects.update(retry_at_ms=ago(-1))

    told = run()

    assert revocations(site) == 0
    assert "Left to be revoked, and not due yet or refused: 2." in told


def test_a_provider_that_is_down_is_left_alone_after_three_calls(
    site: Site, misbehaviour: Misbehaviour
) -> None:
    """Not one call for each of many; the command says what is left, and does not fail."""
    queue(8, site)
    misbehaviour.answer("/oauth2/revoke", "503 Service Unavailable")

    told = run("--batch-size", "2")

    assert revocations(site) == maintenance.STOP_AFTER == 3
    assert "Spatio does not answer. Left to be revoked: 8. The next run goes on with them." in told
    misbehaviour.lies.clear()
    assert "Revoked: 5." in run()  # the three that were tried have to wait a minute
    PendingRevocation.objects.update(retry_at_ms=0)
    assert "Revoked: 3." in run()


def test_failures_with_successes_between_them_are_no_outage(site: Site, misbehaviour: Misbehaviour) -> None:
    """Only several in a row stop it."""
    queue(8, site)
    answered: list[int] = []

    def every_third(status: str, headers: dict[str, str], body: bytes) -> tuple[str, dict[str, str], bytes]:
        answered.append(1)
        return ("503 Busy" if len(answered) % 3 == 0 else status), headers, body

    misbehaviour.lies["/oauth2/revoke"] = every_third

    summary = maintenance.revoke_pending()

    assert not summary.unreachable
    assert summary.revoked + summary.left == 8
    assert summary.left > 1


def test_refusals_are_no_outage(site: Site, misbehaviour: Misbehaviour) -> None:
    """Each of the two tokens is tried once, and again later: the provider did answer."""
    queue(5, site)
    misbehaviour.answer("/oauth2/revoke", "400 Bad Request", b'{"error": "invalid_request"}')

    summary = maintenance.revoke_pending()

    assert revocations(site) == 10
    assert (summary.revoked, summary.left, summary.unreachable) == (0, 5, False)


def test_what_another_process_is_at_is_not_tried(site: Site) -> None:
    """A row that is claimed counts for whoever claimed it."""
    (pending, _other) = queue(2, site)

    def claim(execute: Any, sql: str, *rest: Any) -> Any:
        # Between looking what is due and the first attempt.
        if sql.startswith("UPDATE") and not claimed:
            claimed.append(sql)
            PendingRevocation.objects.filter(pk=pending).update(retry_at_ms=ago(-1))
        return execute(sql, *rest)

    claimed: list[str] = []
    with connection.execute_wrapper(claim):
        summary = maintenance.revoke_pending()

    assert claimed
    assert (summary.revoked, summary.left) == (1, 1)


def test_what_is_left_is_counted_up_to_a_bound(site: Site) -> None:
    """Counting millions takes longer than the rest."""
    now = ago(-1)
    PendingRevocation.objects.bulk_create(
        PendingRevocation(issuer="https://i", client_id="c", reason="unused", retry_at_ms=now)
        for _ in range(maintenance.MOST_COUNTED + 5)
    )

    assert f"Left to be revoked, and not due yet or refused: more than {maintenance.MOST_COUNTED}." in run()


# Grants


def test_grants_that_are_over_are_dropped(db: None) -> None:
    """Those that ended here; the others stay."""
    *_revoked, active = people(3, issuer="https://i")
    SpatioToken.objects.exclude(pk=active.pk).update(state=GrantState.REVOKED)

    assert "2 grants that were over" in run("--batch-size", "1")

    assert SpatioToken.objects.get() == active
    assert not PendingRevocation.objects.exists()


def test_a_grant_that_spatio_ended_stays_until_nobody_comes_back_to_it(db: None) -> None:
    """Its session is told by it that it may be signed in again without a page. Nothing is to revoke then."""
    recent, old = people(2, issuer="https://i")
    abandon([old])
    SpatioToken.objects.update(state=GrantState.DEAD, ended="invalid_grant")

    summary = maintenance.maintain()

    assert SpatioToken.objects.get() == recent
    assert summary == Summary()
    assert not PendingRevocation.objects.exists()


def test_after_maintenance_a_grant_that_spatio_ended_still_costs_one_redirect(
    site: Site, django_capture_on_commit_callbacks: Any
) -> None:
    """A job hears of the end first, and the scheduler comes before the person does."""
    browser = site.browser()
    site.sign_in(browser)
    revocation.mark_ended(SpatioToken.objects.get(), "invalid_grant", state=GrantState.DEAD)
    memo.clear()

    maintenance.maintain()

    response = browser.get("/me/")
    assert response.status_code == 302
    assert response.cookies["spatio_again"].value == "silent"


def test_grants_from_before_such_a_day_was_noted_begin_to_be_unused_now(db: None) -> None:
    """An upgrade signs nobody out who was here an hour ago."""
    grants = people(3, issuer="https://i")
    abandon(grants)
    SpatioToken.objects.update(seen_ms=0)

    assert maintenance.end_unused(batch_size=2) == 0
    assert min(SpatioToken.objects.values_list("seen_ms", flat=True)) > ago(1)

    abandon(grants)
    assert maintenance.end_unused(batch_size=2) == 3


def test_a_grant_that_nobody_came_back_to_is_ended_and_revoked(
    site: Site, django_capture_on_commit_callbacks: Any
) -> None:
    """With reason "unused", once, and the site is told."""
    told: list[Any] = []
    used, *unused = people(4, issuer=site.spatio.issuer, client_id=SpatioClient.objects.get().client_id)
    abandon(unused)
    grant_ended.connect(lambda **kwargs: told.append(kwargs["reason"]), weak=False, dispatch_uid="test")
    try:
        with django_capture_on_commit_callbacks(execute=True):
            out = run("--batch-size", "2")
    finally:
        grant_ended.disconnect(dispatch_uid="test")

    assert "3 unused" in out
    assert "Revoked: 3." in out
    assert revocations(site) == 3  # their access tokens have expired
    assert told == ["unused"] * 3
    assert SpatioToken.objects.get() == used


@pytest.mark.parametrize("sign", ["seen_ms", "expires_ms", "created_at"])
def test_one_sign_of_use_is_enough_to_stay(db: None, sign: str) -> None:
    """A person who was here; a job that had the token refreshed; a grant that is new."""
    (grant,) = people(1, issuer="https://i")
    abandon([grant])
    now = timezone.now() if sign == "created_at" else ago(1)
    SpatioToken.objects.filter(pk=grant.pk).update(**{sign: now})

    assert maintenance.end_unused() == 0

    abandon([grant])
    assert maintenance.end_unused() == 1


def test_how_long_is_the_life_of_a_session_and_a_week(db: None, settings: Any) -> None:
    """Or what the caller says, for sites that let some sessions live longer."""
    settings.SESSION_COOKIE_AGE = 10 * 24 * 3600
    younger, older = people(2, issuer="https://i")
    abandon([younger], days=16.9)
    abandon([older], days=17.1)

    assert maintenance.end_unused(days=18) == 0
    assert maintenance.end_unused() == 1
    assert SpatioToken.objects.get() == younger
    assert "1 unused" in run("--unused-days", "16")


def test_a_grant_whose_tokens_expire_at_no_known_time_is_unused_by_the_others(db: None) -> None:
    """Nobody was here for that long."""
    (grant,) = people(1, issuer="https://i")
    SpatioToken.objects.update(expires_ms=None)
    assert maintenance.end_unused() == 0
    abandon([grant])
    SpatioToken.objects.update(expires_ms=None)

    assert maintenance.end_unused() == 1


def test_grants_seen_in_the_same_moment_are_all_found(db: None) -> None:
    """Page after page, among some that stay: a statement, or an upgrade, gave them one moment."""
    grants = people(11, issuer="https://i")
    abandon(grants)
    SpatioToken.objects.update(seen_ms=1)
    SpatioToken.objects.filter(pk__in=[grant.pk for grant in grants[::3]]).update(expires_ms=ago(-1))

    assert maintenance.end_unused(batch_size=2) == 7
    assert SpatioToken.objects.count() == 4


# People


def test_grants_of_users_who_were_deactivated_by_a_statement_end(site: Site) -> None:
    """No signal told us. Their next sign-in needs a new proof of identity; everybody else's doesn't."""
    grants = people(5, issuer=site.spatio.issuer, client_id=SpatioClient.objects.get().client_id)
    User.objects.filter(username__in=["user1", "user4"]).update(is_active=False)

    out = run("--batch-size", "2")

    assert "Ended: 2 of inactive users, 0 unused." in out
    assert "Revoked: 2." in out
    assert set(SpatioToken.objects.all()) == {grants[0], grants[2], grants[3]}
    distrusted = SpatioAccount.objects.exclude(reauth_after=None)
    assert {account.user.get_username() for account in distrusted} == {"user1", "user4"}
    assert "Ended: 0 of inactive users" in run()


def test_an_inactive_user_without_a_grant_is_left_alone(db: None) -> None:
    """Each run would write their rows otherwise."""
    people(1, issuer="https://i")
    SpatioToken.objects.all().delete()
    User.objects.update(is_active=False)

    assert maintenance.end_deactivated() == 0

    assert SpatioAccount.objects.get().reauth_after is None


def test_a_user_model_without_such_a_column_has_nobody_inactive(
    db: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Django's bare ``AbstractBaseUser`` says that all are active."""
    people(1, issuer="https://i")
    # Any model without that column; swapping the user model takes a process of its own.
    monkeypatch.setattr(maintenance, "get_user_model", lambda: SpatioClient)

    assert maintenance.end_deactivated() == 0


# States


def test_states_that_have_expired_are_dropped(db: None) -> None:
    """The others are still needed: a callback could come twice."""
    for number in range(5):
        ConsumedState.objects.create(digest=f"{number}", expires_ms=ago(number - 1.5))

    assert "3 consumed states" in run("--batch-size", "2")

    assert sorted(ConsumedState.objects.values_list("digest", flat=True)) == ["0", "1"]


# The command


def test_long_work_tells_how_far_it_is(db: None) -> None:
    """Each five thousand rows; with more verbosity after each batch; with none nothing at all."""
    ConsumedState.objects.bulk_create(ConsumedState(digest=f"{each}", expires_ms=0) for each in range(10_001))

    told = run("--batch-size", "1000").splitlines()

    assert told[:-1] == ["5000 consumed states dropped …", "10000 consumed states dropped …"]
    assert "10001 consumed states" in told[-1]
    ConsumedState.objects.create(digest="1", expires_ms=0)
    assert "1 consumed states dropped …" in run(verbosity=2)
    assert run(verbosity=0) == ""


@pytest.mark.parametrize("text", ["0", "-1", "1.5", "", "ten", "10001", "²"])
def test_a_batch_is_a_whole_number_of_rows(text: str) -> None:
    """From 1 to 10,000."""
    assert positive("10000") == 10_000

    with pytest.raises(ArgumentTypeError):
        positive(text)


def test_a_database_that_refuses_is_told_in_a_sentence(db: None) -> None:
    """And not by a traceback, which cron would mail; what was done before stays done."""

    def refuse(execute: Any, sql: str, *rest: Any) -> Any:
        if "spatioaccount" in sql:
            raise OperationalError("deadlock detected")
        return execute(sql, *rest)

    with connection.execute_wrapper(refuse), pytest.raises(CommandError, match="safe to run again"):
        run()


def test_tasks_call_the_same_functions(site: Site) -> None:
    """What Celery calls needs no command; without rows, nothing was done."""
    assert maintenance.maintain() == Summary()


def test_no_page_costs_more_queries_than_another(db: None) -> None:
    """What a page costs does not depend on how many pages there are."""

    def queries(number: int) -> int:
        people(number, issuer="https://i")
        SpatioToken.objects.update(state=GrantState.DEAD, access_ciphertext="", refresh_ciphertext="")
        with CaptureQueriesContext(connection) as captured:
            maintenance.drop_ended(batch_size=10)
        return len(captured)

    one, four = queries(10), queries(40)

    assert four - one == 3 * (queries(20) - one)


# Two hosts


@pytest.mark.django_db(transaction=True)
def test_two_hosts_at_once_do_the_work_once(transactional_db: None, site: Site) -> None:
    """Each grant ends once, each token is revoked once, and nobody fails."""
    client_id = SpatioClient.objects.get().client_id
    grants = people(120, issuer=site.spatio.issuer, client_id=client_id)
    abandon(grants[:40])
    User.objects.filter(pk__in=[grant.account.user_id for grant in grants[40:60]]).update(is_active=False)
    SpatioToken.objects.filter(pk__in=[grant.pk for grant in grants[60:100]]).update(
        state=GrantState.REVOKED, access_ciphertext="", refresh_ciphertext=""
    )
    ConsumedState.objects.bulk_create(ConsumedState(digest=f"{each}", expires_ms=0) for each in range(200))
    order = {
        "database": str(connection.settings_dict["NAME"]),
        "issuer": site.spatio.issuer,
        "options": {"batch_size": 7},
    }
    hosts = [
        subprocess.Popen(
            [sys.executable, "-m", "tests.maintainer"],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]
    for host in hosts:
        assert host.stdin is not None
        host.stdin.write(json.dumps(order) + "\n")
        host.stdin.flush()
    for host in hosts:
        assert host.stdout is not None
        assert host.stdout.readline() == "ready\n"

    results = []
    for host in hosts:
        assert host.stdin is not None
        host.stdin.write("go\n")
        host.stdin.flush()
    for host in hosts:
        out, err = host.communicate(timeout=60)
        assert host.returncode == 0, err
        results.append(Summary(**json.loads(out)))

    done = {name: sum(getattr(each, name) for each in results) for name in ("unused", "revoked", "states")}
    PendingRevocation.objects.update(retry_at_ms=0)
    done["revoked"] += maintenance.maintain().revoked  # what one claimed when the other looked
    assert done == {"unused": 40, "revoked": 60, "states": 200}
    assert revocations(site) == 40 + 2 * 20  # the access tokens of the first have expired
    assert set(SpatioToken.objects.all()) == set(grants[100:])
    assert not PendingRevocation.objects.exists()
    assert not ConsumedState.objects.exists()


def test_a_page_that_was_rolled_back_to_undo_a_deadlock_is_done_again(db: None) -> None:
    """Other hosts, and sign-ins, touch the same rows."""
    ConsumedState.objects.create(digest="1", expires_ms=0)
    deadlocks: list[str] = []

    def refuse(execute: Any, sql: str, *rest: Any) -> Any:
        if sql.startswith("DELETE") and len(deadlocks) < 2:
            deadlocks.append(sql)
            raise OperationalError("deadlock detected")
        return execute(sql, *rest)

    with connection.execute_wrapper(refuse):
        assert maintenance.drop_consumed_states() == 1

    assert len(deadlocks) == 2
    assert not ConsumedState.objects.exists()


def test_a_page_that_fails_each_time_fails(db: None) -> None:
    """Nothing is tried for ever."""
    ConsumedState.objects.create(digest="1", expires_ms=0)
    attempts: list[str] = []

    def refuse(execute: Any, sql: str, *rest: Any) -> Any:
        if sql.startswith("DELETE"):
            attempts.append(sql)
            raise OperationalError("deadlock detected")
        return execute(sql, *rest)

    with connection.execute_wrapper(refuse), pytest.raises(OperationalError):
        maintenance.drop_consumed_states()

    assert len(attempts) == maintenance.RETRIES + 1
    assert ConsumedState.objects.exists()
