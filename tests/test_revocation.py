"""The end of a grant: first here, then at Spatio, however long that takes."""

import threading
import time
from concurrent.futures import Future
from typing import Any

import pytest
from django.contrib.auth import get_user_model
from django.contrib.auth.models import AnonymousUser
from django.core.cache import cache
from django.core.management import call_command
from django.db import OperationalError, connection, transaction

from spatio_django import provider, revocation, tokens
from spatio_django.models import GrantState, PendingRevocation, SpatioAccount, SpatioToken
from spatio_django.oidc.secret import Secret
from spatio_django.signals import grant_ended
from spatio_django.testing import FakeSpatio
from tests.conftest import Site, run_async
from tests.faults.databases import threads_beside
from tests.misbehaving import Misbehaviour

User = get_user_model()


def grant_of(site: Site) -> SpatioToken:
    """Sign somebody in; give the grant."""
    site.sign_in(site.browser())
    site.spatio.requests.clear()
    return SpatioToken.objects.get()


def revoked(site: Site) -> int:
    """Count the revocations that the provider was asked for."""
    return len(site.spatio.calls("/oauth2/revoke"))


def queued(site: Site, misbehaviour: Misbehaviour) -> PendingRevocation:
    """End a grant while the provider is down; give what waits."""
    grant = grant_of(site)
    misbehaviour.answer("/oauth2/revoke", "503 Service Unavailable")
    assert revocation.end(grant.pk, "signed_out")
    misbehaviour.lies.clear()
    site.spatio.requests.clear()
    PendingRevocation.objects.update(retry_at_ms=0)
    return PendingRevocation.objects.get()


def test_a_grant_ends_once(site: Site) -> None:
    """Its row says why and holds no token any more, both are revoked; a second end finds nothing."""
    grant = grant_of(site)
    told: list[Any] = []
    grant_ended.connect(lambda **kwargs: told.append(kwargs), weak=False, dispatch_uid="test")
    try:
        assert revocation.end(grant.pk, "signed_out_everywhere")
        assert not revocation.end(grant.pk, "signed_out")
    finally:
        grant_ended.disconnect(dispatch_uid="test")

    grant.refresh_from_db()
    assert (grant.state, grant.ended) == (GrantState.REVOKED, "signed_out_everywhere")
    assert (grant.access_ciphertext, grant.refresh_ciphertext) == ("", "")
    assert revoked(site) == 2
    [event] = told
    assert (event["reason"], event["account"]) == ("signed_out_everywhere", grant.account)
    assert not any("tok_" in repr(value) for value in event.values())


def test_a_grant_without_a_row_is_over_already(db: None) -> None:
    """Somebody else was first."""
    assert not revocation.end(4711, "signed_out")


def test_what_can_not_be_decrypted_is_not_revoked(site: Site, settings: Any) -> None:
    """On a copy of another site's database it is not ours."""
    settings.SPATIO_ENCRYPTION_KEYS = ["production's"]
    grant = grant_of(site)
    settings.SPATIO_ENCRYPTION_KEYS = ["the staging host's"]

    assert revocation.end(grant.pk, "signed_out")

    grant.refresh_from_db()
    assert grant.state == GrantState.REVOKED
    assert revoked(site) == 0
    assert not PendingRevocation.objects.exists()


def test_what_fails_is_kept_and_tried_again(site: Site, misbehaviour: Misbehaviour) -> None:
    """Not at once, and later each time."""
    pending = queued(site, misbehaviour)
    assert pending.fails == 1
    assert (pending.refresh_token, pending.access_token) != (None, None)
    misbehaviour.answer("/oauth2/revoke", "503 Service Unavailable")
    assert not revocation.attempt(pending.pk)
    assert not revocation.attempt(pending.pk)
    assert revoked(site) == 1
    misbehaviour.lies.clear()
    PendingRevocation.objects.update(retry_at_ms=0)

    assert revocation.attempt(pending.pk)

    assert not PendingRevocation.objects.exists()
    assert not revocation.attempt(pending.pk)


def test_what_is_revoked_already_is_not_revoked_again(site: Site, misbehaviour: Misbehaviour) -> None:
    """The refresh token first; then the access token, unless it has expired by itself."""
    pending = queued(site, misbehaviour)
    pending.refresh_token = None
    pending.access_expires_ms = 1
    pending.save()

    assert revocation.attempt(pending.pk)

    assert revoked(site) == 0


def test_a_row_that_went_away_meanwhile_is_done_with(site: Site, misbehaviour: Misbehaviour) -> None:
    """Maintenance on another host was faster."""
    pending = queued(site, misbehaviour)

    def vanish(execute: Any, sql: str, *rest: Any) -> Any:
        result = execute(sql, *rest)
        if sql.startswith("UPDATE") and "pendingrevocation" in sql:
            with connection.cursor() as cursor:
                cursor.execute("DELETE FROM spatio_django_pendingrevocation")
        return result

    with connection.execute_wrapper(vanish):
        assert revocation.attempt(pending.pk)


@pytest.mark.parametrize("cause", ["other_issuer", "not_registered"])
def test_what_an_operator_must_mend_waits_for_them(
    site: Site, misbehaviour: Misbehaviour, caplog: pytest.LogCaptureFixture, cause: str
) -> None:
    """Nothing is sent, least of all to another provider."""
    pending = queued(site, misbehaviour)
    if cause == "other_issuer":
        PendingRevocation.objects.update(issuer="https://other.example")
    else:
        PendingRevocation.objects.update(client_id="gone")

    assert not revocation.attempt(pending.pk)

    assert revoked(site) == 0
    assert caplog.records[-1].spatio["code"] == cause  # type: ignore[attr-defined]


def test_after_two_weeks_it_is_given_up(
    site: Site, misbehaviour: Misbehaviour, caplog: pytest.LogCaptureFixture
) -> None:
    """And an operator is told."""
    pending = queued(site, misbehaviour)
    PendingRevocation.objects.update(client_id="gone", fails=revocation.MAX_FAILS)

    assert revocation.attempt(pending.pk)

    assert caplog.records[-1].levelname == "ERROR"
    assert not PendingRevocation.objects.exists()


def test_without_a_revocation_endpoint_tokens_end_when_they_expire(
    site: Site, misbehaviour: Misbehaviour
) -> None:
    """There is nothing to try again."""
    pending = queued(site, misbehaviour)
    for name in ("openid-configuration", "oauth-authorization-server"):
        misbehaviour.json(f"/.well-known/{name}", revocation_endpoint=None)
    provider.close()
    cache.clear()

    assert revocation.attempt(pending.pk)

    assert revoked(site) == 0


def test_a_refresh_that_comes_too_late_has_its_successor_revoked(site: Site) -> None:
    """And if even that can't be kept, the log says so."""
    grant = grant_of(site)
    revocation.discard(grant, refresh_token=Secret("late"), access_token=None)
    assert revoked(site) == 1

    revocation.discard(grant, refresh_token=None, access_token=None)

    assert revoked(site) == 1


def test_what_can_not_even_be_queued_is_told_to_the_log(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    """The person is signed out all the same."""
    grant = grant_of(site)

    def locked(execute: Any, sql: str, *rest: Any) -> Any:
        if "pendingrevocation" in sql:
            raise OperationalError("the table is locked")
        return execute(sql, *rest)

    with connection.execute_wrapper(locked):
        revocation.discard(grant, refresh_token=Secret("late"), access_token=None)

    assert "were not revoked" in caplog.text


@pytest.mark.django_db(transaction=True)
class TestBeside:
    """As on a site: rows are committed, and revocations are tried in threads."""

    @pytest.fixture
    def site(self, transactional_db: None, spatio: FakeSpatio, settings: Any) -> Site:
        """Register the site at a fresh provider."""
        settings.SPATIO_ISSUER = spatio.issuer
        call_command("spatio_register", "--base-url", Site.origin, verbosity=0)
        return Site(spatio)

    def test_the_caller_waits_until_both_tokens_are_revoked(self, site: Site) -> None:
        """A second at most, with a provider that answers."""
        grant = grant_of(site)

        revocation.end(grant.pk, "signed_out")

        assert revoked(site) == 2
        assert not PendingRevocation.objects.exists()

    def test_a_rollback_revokes_nothing(self, site: Site) -> None:
        """The grant goes on."""
        grant = grant_of(site)
        with transaction.atomic():
            revocation.end(grant.pk, "signed_out")
            transaction.set_rollback(True)

        grant.refresh_from_db()
        assert grant.state == GrantState.ACTIVE
        assert revoked(site) == 0

    def test_who_waits_later_gets_what_to_wait_for(self, site: Site) -> None:
        """First everything else."""
        grant = grant_of(site)

        with revocation.waiting_later() as revocations:
            revocation.end(grant.pk, "signed_out")
        revocation.wait_for(revocations)

        assert [future.result() for future in revocations] == [True]
        assert revoked(site) == 2

    def test_many_are_revoked_by_few_threads_and_waited_for_once(
        self, site: Site, misbehaviour: Misbehaviour, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Thousands that are deleted hold nobody up for thousands of seconds."""
        browsers = [site.browser() for _ in range(12)]
        for browser in browsers:
            site.sign_in(browser)
        site.spatio.requests.clear()
        let_go = threading.Event()
        futures: list[Future[bool]] = []
        waited: list[float] = []
        began, others = time.monotonic(), set(threads_beside())

        def hold(*answer: Any) -> Any:
            assert let_go.wait(30)
            return answer

        def waits(given: list[Future[bool]], timeout: float) -> None:
            futures.extend(given)
            waited.append(timeout)

        misbehaviour.lies["/oauth2/revoke"] = hold
        monkeypatch.setattr(revocation, "TIMEOUT", 30.0)
        with monkeypatch.context() as patch:
            patch.setattr(revocation, "_waiter", revocation._Waiter())
            patch.setattr(revocation, "wait", waits)
            patch.setattr(time, "monotonic", lambda: began + sum(waited))  # no other time passes
            SpatioAccount.objects.get().delete()
        threads = set(threads_beside()) - others

        assert waited == pytest.approx([revocation.PATIENCE, *[0.0] * 11])
        assert len(threads) == revocation._Outbox.THREADS < len(browsers)
        let_go.set()
        assert [future.result(30) for future in futures] == [True] * 12
        for thread in threads:
            thread.join(30)
        assert revoked(site) == 24
        assert not PendingRevocation.objects.exists()

    def test_without_a_thread_to_be_had_the_row_stays(
        self, site: Site, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Maintenance does it; nobody waits."""
        grant = grant_of(site)

        def beside(*_: Any, **__: Any) -> None:
            raise RuntimeError("can't start new thread")

        monkeypatch.setattr(revocation, "beside", beside)
        with revocation.waiting_later() as revocations:
            revocation.end(grant.pk, "signed_out")

        assert PendingRevocation.objects.count() == 1
        assert [future.result(0) for future in revocations] == [False]

    def test_a_fault_in_the_middle_of_it_is_logged_and_stops_no_other(
        self, site: Site, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        """The row stays, for maintenance."""
        grant = grant_of(site)
        monkeypatch.setattr(revocation, "get_client", lambda: 1 / 0)

        with revocation.waiting_later() as revocations:
            revocation.end(grant.pk, "signed_out")
        revocation.wait_for(revocations)

        assert [future.result(0) for future in revocations] == [False]
        assert "could not be tried" in caplog.text
        assert PendingRevocation.objects.count() == 1

    def test_while_others_are_at_it_a_thread_less_matters_to_nobody(
        self, site: Site, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """They do it."""
        first, let_go = threading.Event(), threading.Event()

        def hold() -> bool:
            first.set()
            return let_go.wait(20)

        outbox = revocation._Outbox()
        held = outbox.submit(hold)
        assert first.wait(20)

        def beside(*_: Any, **__: Any) -> None:
            raise RuntimeError("can't start new thread")

        monkeypatch.setattr(revocation, "beside", beside)
        later = outbox.submit(lambda: True)
        outbox.THREADS = 1
        last = outbox.submit(lambda: True)
        assert not later.done()
        assert not last.done()
        let_go.set()

        assert [future.result(20) for future in (held, later, last)] == [True, True, True]

    def test_a_forked_process_begins_afresh(self, site: Site) -> None:
        """Its parent's threads are not there."""
        grant = grant_of(site)
        before = revocation._outbox

        revocation.forget_threads()

        assert revocation._outbox is not before
        revocation.end(grant.pk, "signed_out")
        assert revoked(site) == 2

    @pytest.mark.parametrize("inside", [False, True])
    def test_the_victim_of_a_deadlock_tries_again(self, site: Site, inside: bool) -> None:
        """Unless its transaction is somebody else's, who has to begin it anew."""
        grant = grant_of(site)
        refused: list[str] = []

        def deadlock(execute: Any, sql: str, *rest: Any) -> Any:
            if '"ended"' in sql.replace("`", '"') and sql.startswith("UPDATE") and not refused:
                refused.append(sql)
                raise OperationalError("Deadlock found when trying to get lock")
            return execute(sql, *rest)

        with connection.execute_wrapper(deadlock):
            if not inside:
                assert revocation.end(grant.pk, "signed_out")
            else:
                with pytest.raises(OperationalError), transaction.atomic():
                    revocation.end(grant.pk, "signed_out")

        assert len(refused) == 1
        assert revoked(site) == (0 if inside else 2)


def test_a_refresh_token_that_is_refused_keeps_no_access_token_alive(
    site: Site, misbehaviour: Misbehaviour
) -> None:
    """Whether Spatio revokes refresh tokens is not said. What it refuses is tried again later, alone."""
    grant = grant_of(site)
    asked: list[int] = []

    def first(status: str, headers: dict[str, str], body: bytes) -> tuple[str, dict[str, str], bytes]:
        asked.append(1)
        refusal = ("400 Bad Request", headers, b'{"error": "invalid_request"}')
        return refusal if len(asked) == 1 else (status, headers, body)

    misbehaviour.lies["/oauth2/revoke"] = first

    revocation.end(grant.pk, "signed_out")

    pending = PendingRevocation.objects.get()
    assert (pending.fails, pending.access_ciphertext) == (1, "")
    assert len(asked) == 2
    PendingRevocation.objects.update(retry_at_ms=0)
    assert revocation.attempt(pending.pk)
    assert len(asked) == 3


def test_what_was_replaced_is_ended_as_far_as_that_can_be(
    site: Site, caplog: pytest.LogCaptureFixture
) -> None:
    """The sign-in does not fail for that."""
    grant = grant_of(site)
    user_id = str(grant.account.user_id)
    tokens.replaced((user_id, "nobody's"))
    tokens.replaced((None, None))
    assert SpatioToken.objects.exists()

    def locked(execute: Any, sql: str, *rest: Any) -> Any:
        raise OperationalError("the table is locked")

    with connection.execute_wrapper(locked):
        tokens.replaced((user_id, grant.handle))
    assert "could not be ended" in caplog.text

    tokens.replaced((user_id, grant.handle))
    assert not SpatioToken.objects.exists()


def test_a_user_without_grants_is_deactivated_as_ever(db: None) -> None:
    """There is nothing to end, and nothing to distrust."""
    user = User.objects.create_user("eve")
    user.is_active = False
    user.save()

    assert tokens.sign_out_everywhere(user) == 0
    assert tokens.sign_out_everywhere(AnonymousUser()) == 0
    assert run_async(tokens.asign_out_everywhere(User())) == 0
