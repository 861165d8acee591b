"""Refreshing: one call per expiry, whoever asks, and nothing lost."""

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from django.contrib.auth import get_user_model
from django.core.cache import cache
from django.core.management import call_command
from django.db import OperationalError, connection
from django.utils import timezone

from spatio_django import memo, provider, refreshing, registration, signals, statements, tokens
from spatio_django.exceptions import ProviderUnavailable, SessionEnded, TokenUnavailable
from spatio_django.models import PendingRevocation, SpatioAccount, SpatioClient, SpatioToken
from spatio_django.oidc.secret import Secret
from spatio_django.refreshing import Need
from spatio_django.testing import FakeSpatio
from tests.conftest import Site, run_async
from tests.misbehaving import Misbehaviour

User = get_user_model()


def age(grant: SpatioToken, *, left: float = -1.0) -> None:
    """Let time pass until *left* seconds are left of the access token."""
    now = SpatioToken.objects.with_clock().get(pk=grant.pk)
    SpatioToken.objects.filter(pk=grant.pk).update(expires_ms=int(1000 * (now.now + left)))
    memo.memo.clear()


def refreshes(site: Site) -> int:
    """Count the refreshes that the provider was asked for."""
    return len(site.spatio.calls("/oauth2/token"))


def signed_in(site: Site) -> tuple[Any, SpatioToken]:
    """Sign somebody in; give the browser and the grant."""
    browser = site.browser()
    site.sign_in(browser)
    site.spatio.requests.clear()
    return browser, SpatioToken.objects.get(handle=browser.session[tokens.SESSION_KEY])


def test_a_request_refreshes_an_expired_token_before_the_view(site: Site) -> None:
    """The session goes on with a new access token and a new refresh token."""
    browser, grant = signed_in(site)
    assert browser.get("/me/").status_code == 200
    assert refreshes(site) == 0
    age(grant)

    assert browser.get("/me/").status_code == 200

    after = SpatioToken.objects.with_clock().get(pk=grant.pk)
    assert refreshes(site) == 1
    assert (after.generation, after.lease_id, after.fails) == (1, "", 0)
    assert after.access_token != grant.access_token
    assert after.refresh_token != grant.refresh_token
    assert browser.get("/me/").status_code == 200
    assert refreshes(site) == 1


def test_a_grant_that_spatio_has_ended_ends_the_session(site: Site) -> None:
    """The request goes on as anonymous; the next sign-in tries without a page."""
    browser, grant = signed_in(site)
    site.spatio.revoke_grants()
    age(grant)

    response = browser.get("/me/")

    assert (response.status_code, response["Location"]) == (302, "/spatio/login/?next=/me/")
    assert "prompt=none" in browser.get(response["Location"])["Location"]
    assert "prompt=none" not in browser.get(response["Location"])["Location"]


def test_signing_out_revokes_both_tokens(site: Site) -> None:
    """First here, then there."""
    browser, _grant = signed_in(site)

    browser.post("/spatio/logout/")

    revoked = site.spatio.calls("/oauth2/revoke")
    assert len(revoked) == 2
    assert not PendingRevocation.objects.exists()
    assert not SpatioToken.objects.exists()


def test_for_user_gives_fresh_tokens_to_jobs(site: Site) -> None:
    """As long as there is a grant that lives."""
    _browser, grant = signed_in(site)
    user = User.objects.get()
    access = tokens.for_user(user)
    first = access.access_token
    age(grant)

    assert tokens.for_user(user).access_token != first
    assert access.get_token() == first, "by what it has read, it lasts"
    assert refreshes(site) == 1
    tokens.sign_out_everywhere(user)
    with pytest.raises(SessionEnded, match="no live grant"):
        tokens.for_user(user)


def expired(site: Site) -> SpatioToken:
    """Sign somebody in, let their token run out, and give the grant as it is read."""
    _browser, grant = signed_in(site)
    age(grant)
    return read(grant)


def read(grant: SpatioToken) -> SpatioToken:
    """Read *grant* as the package does."""
    return SpatioToken.objects.with_clock().select_related("account__user").get(pk=grant.pk)


def code_of(grant: SpatioToken, need: Need | None = None) -> str:
    """Ask for a token in vain; give the code."""
    with pytest.raises(TokenUnavailable) as caught:
        refreshing.fresh(grant, need or Need())
    return caught.value.code


class Flight(Future[SpatioToken]):
    """Another's refresh of *grant*: it lands with *outcome* when somebody waits for it, and not before."""

    def __init__(self, grant: SpatioToken, outcome: SpatioToken | TokenUnavailable) -> None:
        super().__init__()
        self.handle, self.outcome = grant.handle, outcome
        refreshing._flights[grant.handle] = self

    def result(self, timeout: float | None = None) -> SpatioToken:
        """Be waited for by a thread."""
        self.land()
        return super().result(timeout)

    def add_done_callback(self, fn: Callable[[Future[SpatioToken]], object]) -> None:
        """Be waited for by a task."""
        self.land()
        super().add_done_callback(fn)

    def land(self) -> None:
        """Land, as :func:`refreshing._lead` has it: it is forgotten first."""
        if self.done():
            return
        assert refreshing._flights.pop(self.handle) is self
        if isinstance(self.outcome, TokenUnavailable):
            self.set_exception(self.outcome)
        else:
            self.set_result(self.outcome)


def test_who_waits_for_another_thread_hears_what_it_heard(site: Site) -> None:
    """A failure is theirs, too; one that says "busy" is not, nor is a grant that is as old as before."""
    grant = expired(site)
    flight = Flight(grant, TokenUnavailable("Down.", code="unavailable"))
    assert code_of(grant) == "unavailable"
    assert flight.done()

    outcomes: list[SpatioToken | TokenUnavailable] = [TokenUnavailable("Busy.", code="busy"), read(grant)]
    for generation, outcome in enumerate(outcomes, 1):
        age(grant)
        flight = Flight(grant, outcome)

        assert refreshing.fresh(read(grant), Need()).generation == generation
        assert flight.done(), "it was waited for"
    assert refreshes(site) == 2


def test_a_flight_that_never_lands_is_given_up_and_forgotten(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else nobody in this process could ever refresh that grant again."""
    monkeypatch.setattr(refreshing, "WAIT", -0.9)
    grant = expired(site)
    refreshing._flights[grant.handle] = Future()
    assert code_of(grant, Need(wait=False)) == "busy"
    assert grant.handle in refreshing._flights

    assert code_of(grant) == "busy"

    assert grant.handle not in refreshing._flights
    monkeypatch.undo()
    assert refreshing.fresh(grant, Need()).generation == 1


def test_without_a_refresh_token_nothing_can_be_refreshed(site: Site) -> None:
    """A token that still lasts is as good as ever."""
    grant = expired(site)
    SpatioToken.objects.update(refresh_ciphertext="")
    assert code_of(read(grant)) == "expired"

    age(grant, left=30)

    assert refreshing.fresh(read(grant), Need()).generation == 0
    assert refreshes(site) == 0


def test_refusals_are_remembered_of_a_bounded_number_of_grants(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of the newest."""
    monkeypatch.setattr(refreshing, "MOST_REFUSED", 2)
    _browser, grant = signed_in(site)
    refreshing._refused.update({"one": 0.0, "two": 0.0})

    refreshing.note_refusal(grant)

    assert list(refreshing._refused) == [grant.handle]
    grant = read(grant)
    assert code_of(grant, Need(rejected=grant.access_token)) == "rejected"


def test_another_issuers_grant_is_over(site: Site) -> None:
    """Its refresh token is not sent to the new one."""
    grant = expired(site)
    SpatioAccount.objects.update(issuer="https://old.example")

    assert code_of(read(grant)) == "other_issuer"

    assert refreshes(site) == 0


def test_a_client_that_is_not_registered_any_more_refreshes_nothing(site: Site) -> None:
    """An operator's fault ends no session."""
    grant = expired(site)
    SpatioClient.objects.all().delete()
    assert code_of(grant) == "not_registered"
    SpatioToken.objects.update(client_id="another")

    assert code_of(read(grant)) == "not_registered"

    assert refreshes(site) == 0


def test_metadata_that_can_not_be_had_are_an_outage(site: Site) -> None:
    """After a restart while Spatio is down."""
    grant = expired(site)
    provider.close()
    cache.clear()
    site.spatio.stop()

    assert code_of(grant) == "unavailable"

    assert read(grant).lease_id == ""


def test_a_lease_that_ran_out_is_taken_over_in_doubt(site: Site) -> None:
    """Whoever held it did not say how it went: the refresh token may be used up."""
    grant = expired(site)
    SpatioToken.objects.update(lease_id="gone", lease_until_ms=1)
    site.spatio.stop()
    assert code_of(read(grant)) == "unavailable"
    assert read(grant).in_doubt

    site.spatio.start()
    SpatioToken.objects.update(retry_at_ms=0)

    assert not refreshing.fresh(read(grant), Need()).in_doubt


def test_anothers_lease_is_waited_for_only_by_who_waits(site: Site) -> None:
    """A page goes on at once."""
    grant = expired(site)
    SpatioToken.objects.update(lease_id="another", lease_until_ms=int(1000 * (grant.now + 25)))

    assert code_of(read(grant), Need(wait=False)) == "busy"

    assert refreshes(site) == 0


def test_who_waits_for_another_process_has_what_it_brought(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As soon as it is stored, and without a call."""
    grant = expired(site)
    soon = int(1000 * (grant.now + 25))
    SpatioToken.objects.update(lease_id="another", lease_until_ms=soon)
    looks: list[float] = []

    def sleep(seconds: float) -> None:
        looks.append(seconds)
        if len(looks) == 2:
            SpatioToken.objects.update(generation=1, lease_id="", expires_ms=soon + 3_600_000)

    waiting = read(grant)
    monkeypatch.setattr(time, "sleep", sleep)

    assert refreshing.fresh(waiting, Need()).generation == 1

    assert len(looks) == 2
    assert refreshes(site) == 0


@pytest.mark.parametrize("has_column", [True, False])
def test_jobs_get_no_token_of_somebody_who_may_not_be_here(
    site: Site, monkeypatch: pytest.MonkeyPatch, has_column: bool
) -> None:
    """Deactivated by a statement that sent no signal; in a column of the users' table, or however else."""
    _browser, grant = signed_in(site)
    user = grant.account.user
    if not has_column:
        monkeypatch.setattr(statements, "_activity", lambda: None)
    assert tokens.for_user(user).access_token
    held = tokens.for_user(user)

    User.objects.update(is_active=False)

    with pytest.raises(SessionEnded) as caught:
        tokens.for_user(user)
    assert caught.value.code == "no_grant"
    SpatioToken.objects.update(generation=5)  # somebody has refreshed it meanwhile
    held.grant.read_at -= 3600
    with pytest.raises(SessionEnded) as caught:
        held.get_token()
    assert caught.value.context["reason"] == "deactivated"


def test_what_jobs_get_knows_its_account(site: Site, django_assert_num_queries: Any) -> None:
    """One query tells whose it is; what else is asked of the account is read then."""
    _browser, grant = signed_in(site)
    user, account = grant.account.user, grant.account

    with django_assert_num_queries(1):
        access = tokens.for_user(user)
        assert access.get_token()
    with django_assert_num_queries(1):
        assert access.account is not None
        assert (access.account.pk, access.account.issuer, access.account.sub) == (
            account.pk,
            account.issuer,
            account.sub,
        )

    with django_assert_num_queries(0):
        assert (access.account.claims, access.account.user) == (account.claims, user)
    access = tokens.for_user(user)
    SpatioAccount.objects.all().delete()
    assert getattr(access.account, "sub", None) == account.sub, "of what was deleted, as much as was known"


def test_jobs_get_no_token_from_before_the_end_of_all_sessions(site: Site) -> None:
    """Whatever its row says: that may have been stored after it."""
    _browser, grant = signed_in(site)
    assert tokens.for_user(grant.account.user).access_token

    SpatioAccount.objects.update(reauth_after=timezone.now())

    with pytest.raises(SessionEnded):
        tokens.for_user(grant.account.user)


@pytest.mark.parametrize("way", ["session", "job"])
def test_a_token_that_expires_while_its_row_is_on_its_way_is_expired(
    site: Site, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    """The database's clock that comes with it is as old as the question, and not as the answer."""
    _browser, grant = signed_in(site)
    passed, monotonic = [0.0], time.monotonic
    monkeypatch.setattr(time, "monotonic", lambda: monotonic() + sum(passed))

    def left(wait: float) -> float:
        def slowly(execute: Any, *statement: Any) -> Any:
            found = execute(*statement)
            passed.append(wait)
            return found

        age(grant, left=30)
        with connection.execute_wrapper(slowly):
            found = (
                tokens.grant_of(grant.handle)
                if way == "session"
                else tokens.for_user(grant.account.user).grant
            )
        assert found is not None
        assert found.seconds_left is not None
        return found.seconds_left

    assert left(0) > 0
    assert left(60) < 0


def test_who_claims_in_vain_with_a_token_that_lasts_goes_on(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the database it is not time yet, or it was another's turn: no second claim, and no call."""
    _browser, grant = signed_in(site)
    age(grant, left=20)
    claims: list[SpatioToken] = []

    def claim(grant: SpatioToken, *args: Any, **kwargs: Any) -> bool:
        claims.append(grant)
        return False

    with monkeypatch.context() as patched:
        patched.setattr(statements, "claim", claim)
        assert refreshing.fresh(read(grant), Need()).generation == 0

    assert len(claims) == 1
    assert refreshes(site) == 0
    assert refreshing.fresh(read(grant), Need()).generation == 1


def test_whether_a_token_is_due_is_judged_by_the_databases_clock(site: Site) -> None:
    """Where many ask, the row of one is always long in coming, and the token seems older than it is."""
    _browser, grant = signed_in(site)
    late, life = read(grant), site.spatio.access_token_lifetime
    late.read_at -= life
    assert not Need().is_met_by(late), "or it would not be asked"

    found = refreshing.fresh(late, Need())

    assert (refreshes(site), found.access_token) == (0, grant.access_token)
    assert Need().is_met_by(found)
    assert read(grant).lease_id == ""
    # It is due when a caller wants more of it, and always when it was refused.
    assert refreshing.fresh(read(grant), Need(min_ttl=0.7 * life)).generation == 0
    age(grant, left=0.5 * life)
    assert refreshing.fresh(read(grant), Need(min_ttl=0.7 * life)).generation == 1
    assert refreshing.fresh(read(grant), Need(rejected=read(grant).access_token)).generation == 2


def test_a_refused_token_is_due_though_nobody_said_how_long_it_lives(site: Site) -> None:
    """Without an end it is never due by itself."""
    _browser, grant = signed_in(site)
    SpatioToken.objects.update(expires_ms=None, ttl_ms=None)
    assert refreshing.fresh(read(grant), Need(min_ttl=900)).generation == 0

    assert refreshing.fresh(read(grant), Need(rejected=grant.access_token)).generation == 1


#: What a plan must not have: an index on everybody's active grants, or rows of texts sorted on disk.
SLOW = {"sqlite": "spatio_grant_state", "postgresql": "spatio_grant_state", "mysql": "temporary"}


def test_ones_newest_grant_is_not_looked_for_among_everybodys(site: Site) -> None:
    """A site has many people, and each of them many sessions."""
    _browser, grant = signed_in(site)
    for _ in range(3):
        site.sign_in(site.browser())
    user = grant.account.user
    plans: list[str] = []

    def explain(execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
        plan = "EXPLAIN QUERY PLAN " if connection.vendor == "sqlite" else "EXPLAIN "
        execute(plan + sql, params, many, context)
        plans.append(str(context["cursor"].fetchall()))
        return execute(sql, params, many, context)

    with connection.execute_wrapper(explain):
        newest = tokens.for_user(user).grant

    (plan,) = plans
    assert newest.pk == SpatioToken.objects.latest("pk").pk
    assert "spatio_django_spatiotoken" in plan or "'t'" in plan or " t " in plan
    assert SLOW[connection.vendor] not in plan.lower()


def test_who_is_second_to_claim_goes_on_with_a_token_that_lasts(site: Site) -> None:
    """It is being refreshed; nobody need wait for that."""
    _browser, grant = signed_in(site)
    age(grant, left=5)
    read_before = read(grant)
    SpatioToken.objects.update(lease_id="another", lease_until_ms=int(1000 * (read_before.now + 25)))

    assert refreshing.fresh(read_before, Need()).access_token == grant.access_token
    assert refreshing.fresh(read(grant), Need()).access_token == grant.access_token, "who read that, too"

    assert refreshes(site) == 0
    SpatioToken.objects.update(lease_id="")
    assert refreshing.fresh(read(grant), Need()).generation == 1, "it was due"


def test_who_is_second_to_claim_hears_that_the_grant_is_over(site: Site) -> None:
    """The database was asked; its answer counts."""
    _browser, grant = signed_in(site)
    age(grant, left=5)
    read_before = read(grant)
    tokens.sign_out_everywhere(grant.account.user)

    with pytest.raises(SessionEnded):
        refreshing.fresh(read_before, Need())


def test_a_job_that_keeps_its_access_goes_on_with_what_another_process_has_refreshed(
    site: Site, django_assert_num_queries: Any
) -> None:
    """It asks once, and no more while that token lasts."""
    _browser, grant = signed_in(site)
    access = tokens.for_user(grant.account.user)
    tokens.for_user(grant.account.user)
    SpatioToken.objects.update(generation=1)
    life = access.grant.seconds_left
    assert life is not None
    access.grant.read_at -= life - 5

    access.get_token()

    assert access.grant.generation == 1
    with django_assert_num_queries(0):
        access.get_token()
    assert refreshes(site) == 0


def test_a_site_hears_of_a_refresh_and_of_the_end(site: Site) -> None:
    """Whose it is, with all that the account has, and no token; in a job as in a request."""
    _browser, grant = signed_in(site)
    heard: list[tuple[str, dict[str, Any]]] = []

    def refreshed(**values: Any) -> None:
        heard.append(("refreshed", values))

    def ended(**values: Any) -> None:
        heard.append(("ended", values))

    user = grant.account.user
    signals.grant_refreshed.connect(refreshed)
    signals.grant_ended.connect(ended)
    try:
        age(grant)
        token = tokens.for_user(user).get_token()
        tokens.sign_out_everywhere(user)
    finally:
        signals.grant_refreshed.disconnect(refreshed)
        signals.grant_ended.disconnect(ended)

    assert [name for name, _values in heard] == ["refreshed", "ended"]
    for _name, values in heard:
        assert values["account"].email == grant.account.email
        assert values["scopes"] == grant.scopes
        assert token not in repr(values)
    assert heard[0][1]["expires_in"] == site.spatio.access_token_lifetime
    assert heard[1][1]["reason"] == "signed_out_everywhere"


def test_async_jobs_get_the_whole_account(site: Site) -> None:
    """However little of it was needed so far."""
    _browser, grant = signed_in(site)
    expected, user = grant.account, grant.account.user

    async def job() -> tuple[str, Any, str]:
        account = await (await tokens.afor_user(user)).aaccount()
        assert account is not None
        return account.email, account.user, str(account)

    assert async_to_sync(job)() == (expected.email, user, str(expected))


def test_a_lease_that_runs_out_while_it_is_waited_for_is_taken_over(site: Site) -> None:
    """Whoever waits notices by themselves."""
    grant = expired(site)
    SpatioToken.objects.update(lease_id="another", lease_until_ms=int(1000 * (grant.now + 25)))
    assert code_of(read(grant), Need(wait=False)) == "busy"
    SpatioToken.objects.update(lease_until_ms=int(1000 * (grant.now + 0.3)))

    assert refreshing.fresh(read(grant), Need()).generation == 1

    assert refreshes(site) == 1


def test_a_request_that_would_leave_too_late_is_claimed_anew_once(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process was stopped, or a connection slow: what it knew may not hold any more."""
    grant = expired(site)
    monkeypatch.setattr(refreshing, "SEND_WITHIN", -1.0)
    assert code_of(grant) == "unavailable"
    assert refreshes(site) == 0
    after = read(grant)
    assert (after.lease_id, after.fails, after.in_doubt) == ("", 1, False)
    SpatioToken.objects.update(retry_at_ms=0)

    monkeypatch.undo()

    assert refreshing.fresh(read(grant), Need()).generation == 1


def test_a_claim_that_was_in_vain_is_no_request_that_was_late(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The one that is late after it is claimed anew as well."""
    grant = expired(site)
    claim, ask = refreshing._claim, refreshing._ask
    results: list[Any] = [False, True, True]

    def claimed(*arguments: Any) -> bool:
        return results.pop(0) and claim(*arguments)

    def asked(*arguments: Any) -> Any:
        if len(results) == 1:
            raise ProviderUnavailable("It took too long to connect.", code="late", sent=False)
        return ask(*arguments)

    monkeypatch.setattr(refreshing, "_claim", claimed)
    monkeypatch.setattr(refreshing, "_ask", asked)

    assert refreshing.fresh(grant, Need()).generation == 1

    assert (results, refreshes(site)) == ([], 1)


def test_an_early_look_costs_one_claim(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """However wrong a process is about the time, it believes the database."""
    _browser, grant = signed_in(site)
    ahead = site.spatio.access_token_lifetime - 10.0
    claims: list[bool] = []
    claim, reread = refreshing._claim, refreshing._reread

    def claimed(*arguments: Any) -> bool:
        claims.append(claim(*arguments))
        return claims[-1]

    def wrong(grant: SpatioToken) -> SpatioToken:
        again = reread(grant)
        again.read_at -= ahead
        return again

    monkeypatch.setattr(refreshing, "_claim", claimed)
    monkeypatch.setattr(refreshing, "_reread", wrong)
    early = read(grant)
    early.read_at -= ahead

    assert refreshing.fresh(early, Need()).generation == 0

    assert claims == [False]


def test_an_answer_without_scope_or_life_keeps_both(site: Site, misbehaviour: Misbehaviour) -> None:
    """RFC 6749 §5.1 and §6. Where nobody ever said how long a token lives, it lives on."""
    grant = expired(site)
    misbehaviour.json("/oauth2/token", scope=None, expires_in=None)
    after = refreshing.fresh(grant, Need())
    assert (after.scope, after.ttl_ms) == (grant.scope, grant.ttl_ms)

    SpatioToken.objects.update(ttl_ms=None)
    age(grant)

    assert refreshing.fresh(read(grant), Need()).seconds_left is None


def test_what_a_refresh_gives_is_what_is_stored(site: Site) -> None:
    """And the token is there though the database can't be read any more."""
    grant = expired(site)
    stored: list[str] = []

    def fail(execute: Any, sql: str, *rest: Any) -> Any:
        if stored and sql.startswith("SELECT"):
            raise OperationalError("gone")
        if "access_ciphertext" in sql and sql.startswith("UPDATE"):
            stored.append(sql)
        return execute(sql, *rest)

    with connection.execute_wrapper(fail):
        given = refreshing.fresh(grant, Need())

    row = read(grant)
    others = {
        "expires_ms",
        "lease_until_ms",
    }  # one is compared below, one says nothing where there is no lease
    names = {field.attname for field in SpatioToken._meta.concrete_fields} - others
    assert {name: getattr(given, name) for name in names} == {name: getattr(row, name) for name in names}
    assert (row.generation, row.access_token) == (1, given.access_token) != (0, grant.access_token)
    assert given.seconds_left == pytest.approx(row.seconds_left, abs=1)
    assert grant.generation == 0, "whoever holds the old one knows it as it was"


def test_a_refresh_token_that_stays_is_kept_as_it_is_by_then(site: Site, misbehaviour: Misbehaviour) -> None:
    """Its key may be rotated while the answer is on its way."""
    grant = expired(site)
    misbehaviour.json("/oauth2/token", refresh_token=None)
    rotated: list[str] = []

    def meanwhile(execute: Any, sql: str, *rest: Any) -> Any:
        if "access_ciphertext" in sql and sql.startswith("UPDATE") and not rotated:
            other = SpatioToken(handle=grant.handle)
            other.refresh_token = grant.refresh_token
            rotated.append(other.refresh_ciphertext)
            SpatioToken.objects.update(refresh_ciphertext=other.refresh_ciphertext)
        return execute(sql, *rest)

    with connection.execute_wrapper(meanwhile):
        assert refreshing.fresh(grant, Need()).generation == 1

    assert rotated == [read(grant).refresh_ciphertext] != [grant.refresh_ciphertext]


def test_claims_that_fail_at_once_are_not_repeated_without_a_pause(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A database that refuses is not to be asked as often as it can answer."""
    grant = expired(site)
    claims: list[str] = []

    def refuse(execute: Any, sql: str, *rest: Any) -> Any:
        if "lease_until_ms" in sql and sql.startswith("UPDATE"):
            claims.append(sql)
            raise OperationalError("refused")
        return execute(sql, *rest)

    pauses: list[float] = []
    began = time.monotonic()
    monkeypatch.setattr(time, "sleep", pauses.append)
    monkeypatch.setattr(time, "monotonic", lambda: began + sum(pauses))  # no other time passes
    with connection.execute_wrapper(refuse):
        assert code_of(grant) == "busy"

    assert len(claims) == len(pauses) + 1
    # 25 ms, doubled until 200, and at random half of that, for as long as somebody waits.
    longest = [min(0.025 * 2**number, 0.2) for number in range(len(pauses))]
    assert all(most / 2 <= pause <= most for pause, most in zip(pauses, longest, strict=True))
    assert sum(pauses) == pytest.approx(refreshing.WAIT, abs=0.2)
    monkeypatch.undo()
    assert refreshing.fresh(read(grant), Need()).generation == 1


def test_a_database_that_never_takes_the_successor_is_told_to_the_log(
    site: Site, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """There is nothing else that could be done."""
    grant = expired(site)
    stored: list[str] = []
    monotonic = time.monotonic

    def now() -> float:
        # The time for storing is over with the second one: the first may be tried again.
        return monotonic() + (refreshing.STORE_WITHIN if len(stored) > 1 else 0.0)

    monkeypatch.setattr(time, "monotonic", now)

    def refuse(execute: Any, sql: str, *rest: Any) -> Any:
        if "access_ciphertext" in sql and sql.startswith("UPDATE"):
            stored.append(sql)
            raise OperationalError("the disk is full")
        return execute(sql, *rest)

    with connection.execute_wrapper(refuse):
        assert code_of(grant) == "database"

    assert len(stored) == 2
    assert "was lost" in caplog.text
    assert "tried again" in caplog.text
    assert not refreshing._flights


def test_another_identity_that_can_not_even_be_ended_is_over_all_the_same(
    site: Site, misbehaviour: Misbehaviour, caplog: pytest.LogCaptureFixture
) -> None:
    """The next refresh judges it again."""
    grant = expired(site)
    misbehaviour.id_token(site.spatio.sign, sub="acc_other")

    def refuse(execute: Any, sql: str, *rest: Any) -> Any:
        if '"ended"' in sql.replace("`", '"') and sql.startswith("UPDATE"):
            raise OperationalError("the disk is full")
        return execute(sql, *rest)

    with connection.execute_wrapper(refuse):
        assert code_of(grant) == "other_identity"

    assert "could not be ended" in caplog.text


def test_a_fault_of_the_sites_in_the_middle_of_it_leaves_nobody_waiting(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever waits tries for themselves."""
    grant = expired(site)
    monkeypatch.setattr(refreshing, "get_client", lambda: 1 / 0)

    with pytest.raises(ZeroDivisionError):
        refreshing.fresh(grant, Need())

    assert not refreshing._flights
    monkeypatch.undo()
    assert refreshing.fresh(grant, Need()).generation == 1


def test_what_was_renewed_while_spatio_refused_the_old_token_counts(
    site: Site, misbehaviour: Misbehaviour
) -> None:
    """Somebody else was faster: the newest row is the truth, and not "invalid_grant"."""
    grant = expired(site)
    answers: list[int] = []

    def lie(status: str, headers: dict[str, str], body: bytes) -> tuple[str, dict[str, str], bytes]:
        answers.append(1)
        return "400 Bad Request", headers, b'{"error": "invalid_grant"}'

    def meanwhile(execute: Any, sql: str, *rest: Any) -> Any:
        if answers and '"ended"' in sql.replace("`", '"'):
            answers.clear()
            SpatioToken.objects.update(generation=7, expires_ms=int(1000 * (grant.now + 900)))
        return execute(sql, *rest)

    misbehaviour.lies["/oauth2/token"] = lie
    with connection.execute_wrapper(meanwhile):
        assert refreshing.fresh(grant, Need()).generation == 7


def test_a_successor_that_comes_after_another_gives_way(site: Site, misbehaviour: Misbehaviour) -> None:
    """Its lease had run out, and somebody else has refreshed the grant: their row goes on."""
    grant = expired(site)

    def meanwhile(execute: Any, sql: str, *rest: Any) -> Any:
        if "access_ciphertext" in sql and sql.startswith("UPDATE"):
            with connection.cursor() as cursor:
                cursor.execute(
                    "UPDATE spatio_django_spatiotoken SET generation = 9, expires_ms = %s",
                    [int(1000 * (grant.now + 900))],
                )
        return execute(sql, *rest)

    with connection.execute_wrapper(meanwhile):
        assert refreshing.fresh(grant, Need()).generation == 9


def test_an_expired_token_is_refreshed_in_async_code_inside_a_test_case(site: Site) -> None:
    """Only the thread of the test sees its rows."""
    grant = expired(site)
    access = tokens.for_user(grant.account.user)

    assert async_to_sync(access.aget_token)() != ""

    assert read(grant).generation == 1


@pytest.mark.django_db(transaction=True)
class TestBeside:
    """Where another thread does it, as on databases that have more than one writer."""

    @pytest.fixture
    def site(self, transactional_db: None, spatio: FakeSpatio, settings: Any) -> Site:
        """Register the site at a fresh provider."""
        settings.SPATIO_ISSUER = spatio.issuer
        call_command("spatio_register", "--base-url", Site.origin, verbosity=0)
        return Site(spatio)

    @pytest.fixture(autouse=True)
    def many_writers(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Let the database pass for one that lets more than one connection write."""
        monkeypatch.setattr(refreshing, "has_one_writer", lambda _: False)

    def test_in_the_main_thread_a_signal_can_not_reach_it(self, site: Site) -> None:
        """Such as the time limit of a job."""
        grant = expired(site)

        assert refreshing.fresh(grant, Need()).generation == 1

    def test_a_failure_there_is_a_failure_here(self, site: Site) -> None:
        """With its code."""
        grant = expired(site)
        site.spatio.revoke_grants()

        assert code_of(grant) == "invalid_grant"

    def test_without_a_thread_to_be_had_it_is_busy(self, site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
        """At the end of a process; nobody is left waiting."""
        grant = expired(site)

        def in_crew(work: Any) -> None:
            raise RuntimeError("cannot schedule new futures after shutdown")

        monkeypatch.setattr(refreshing, "in_crew", in_crew)

        assert code_of(grant) == "busy"
        assert not refreshing._flights

    def test_what_takes_too_long_goes_on_without_the_caller(
        self, site: Site, misbehaviour: Misbehaviour, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """And is there for the next."""
        grant = expired(site)
        monkeypatch.setattr(refreshing, "WAIT", -1.0)
        gone = threading.Event()

        def hold(*answer: Any) -> Any:
            assert gone.wait(30)
            return answer

        misbehaviour.lies["/oauth2/token"] = hold

        assert code_of(grant) == "busy"

        flights = list(refreshing._flights.values())
        gone.set()
        assert [flight.result(30).generation for flight in flights] == [1]
        assert read(grant).generation == 1

    @pytest.mark.parametrize("outcome", ["busy", "unavailable", "grant"])
    def test_tasks_wait_for_another_as_threads_do(self, site: Site, outcome: str) -> None:
        """Without a thread each."""
        grant = expired(site)
        flight = Flight(grant, read(grant) if outcome == "grant" else TokenUnavailable("Down.", code=outcome))

        if outcome == "unavailable":
            with pytest.raises(TokenUnavailable) as caught:
                run_async(refreshing.afresh(grant, Need()))
            assert caught.value.code == "unavailable"
        else:
            assert run_async(refreshing.afresh(grant, Need())).generation == 1
        assert flight.done(), "it was waited for"

    def test_tasks_give_up_as_threads_do(self, site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
        """And what never lands is forgotten."""
        grant = expired(site)
        monkeypatch.setattr(refreshing, "WAIT", -0.9)
        refreshing._flights[grant.handle] = Future()

        with pytest.raises(TokenUnavailable, match="elsewhere"):
            run_async(refreshing.afresh(grant, Need()))

        assert grant.handle not in refreshing._flights
        age(grant, left=600)
        refreshing._flights[grant.handle] = Future()
        need = Need(min_ttl=300)
        SpatioToken.objects.update(ttl_ms=3_600_000)
        assert run_async(refreshing.afresh(read(grant), need)).generation == 0

    def test_a_secret_that_was_renewed_by_another_process_is_read_again(self, site: Site) -> None:
        """A client that failed to authenticate has used nothing up."""
        grant = expired(site)
        secret = SpatioClient.objects.get().client_secret
        assert refreshing.fresh(grant, Need()).generation == 1
        wrong = SpatioClient.objects.get()
        wrong.client_secret = Secret("wrong")
        wrong.save()
        registration.current()
        right = SpatioClient.objects.get()
        right.client_secret = secret
        SpatioClient.objects.update(secret_ciphertext=right.secret_ciphertext)  # sends no signal
        age(grant)
        site.spatio.requests.clear()

        assert refreshing.fresh(read(grant), Need()).generation == 2

        assert refreshes(site) == 2

    def test_a_connection_that_died_meanwhile_is_not_left_to_the_caller(
        self, site: Site, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A refresh may take as long as a failover."""
        grant = expired(site)
        monkeypatch.setattr(connection, "is_usable", lambda: False)
        closed: list[int] = []
        monkeypatch.setattr(connection, "close", lambda: closed.append(1))

        assert refreshing.fresh(grant, Need()).generation == 1

        assert closed == [1]

    def test_async_code_makes_requests_without_a_thread_of_its_own(self, site: Site) -> None:
        """The token is refreshed on the way."""
        grant = expired(site)
        access = tokens.for_user(grant.account.user)

        answer = run_async(access.arequest("GET", site.spatio.issuer + "/oauth2/userinfo"))

        assert answer.status_code == 200
        assert read(grant).generation == 1

    @pytest.mark.parametrize("wait", [False, True])
    def test_a_task_that_needs_no_new_token_waits_for_none(self, site: Site, wait: bool) -> None:
        """Somebody else is at it."""
        _browser, grant = signed_in(site)
        age(grant, left=10)
        grant = read(grant)
        refreshing._flights[grant.handle] = Future()
        assert not Need().is_met_by(grant)

        assert run_async(refreshing.afresh(grant, Need(wait=wait))).generation == 0

    def test_a_task_goes_on_waiting_when_what_came_is_not_enough(self, site: Site) -> None:
        """Then it does it itself."""
        grant = expired(site)
        flight = Flight(grant, TokenUnavailable("Busy.", code="busy"))

        assert run_async(refreshing.afresh(grant, Need())).generation == 1
        assert flight.done(), "it was waited for"

    def test_a_task_takes_what_another_has_brought(self, site: Site) -> None:
        """Without a call of its own."""
        grant = expired(site)
        age(grant, left=900)
        brought = read(grant)
        age(grant)  # so that a call of its own would be one more refresh
        Flight(grant, brought)

        assert run_async(refreshing.afresh(grant, Need())) is brought

        assert refreshes(site) == 0
        assert run_async(refreshing.afresh(grant, Need())).generation == 1, "it was due"

    def test_what_was_refused_for_want_of_a_thread_is_not_done_later(self, site: Site) -> None:
        """The pool may have kept it: the caller was told otherwise."""
        grant = expired(site)
        mine: Future[SpatioToken] = Future()
        mine.set_exception(TokenUnavailable("No thread.", code="busy"))

        refreshing._lead_beside(mine, grant, Need())

        assert refreshes(site) == 0

    def test_a_fault_in_another_thread_is_logged(
        self, site: Site, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        """The caller hears that there is no token, and tries again if it likes."""
        grant = expired(site)
        monkeypatch.setattr(refreshing, "get_client", lambda: 1 / 0)

        assert code_of(grant) == "busy"

        for _ in range(500):
            if "A refresh failed" in caplog.text:
                break
            threading.Event().wait(0.01)
        assert "ZeroDivisionError" in caplog.text

    def test_a_slow_flight_clears_no_other_than_itself(self, site: Site) -> None:
        """It was given up, and another one has taken off."""
        grant = expired(site)
        slow: Future[SpatioToken] = Future()
        other = refreshing._flights[grant.handle] = Future()

        assert refreshing._lead(slow, grant, Need()).generation == 1

        assert refreshing._flights.pop(grant.handle) is other

    def test_credentials_that_can_not_be_read_again_change_nothing(
        self, site: Site, misbehaviour: Misbehaviour, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """What Spatio said about the ones that were sent counts."""
        grant = expired(site)
        misbehaviour.answer("/oauth2/token", "401 Unauthorized", b'{"error": "invalid_client"}')
        asked: list[str] = []

        def locked(execute: Any, sql: str, *rest: Any) -> Any:
            if "spatioclient" in sql:
                asked.append(sql)
                if len(asked) > 1:
                    raise OperationalError("the table is locked")
            return execute(sql, *rest)

        registration.forget()
        with connection.execute_wrapper(locked):
            failed: list[str] = []
            monkeypatch.setattr(refreshing, "has_one_writer", lambda _: True)
            failed.append(code_of(grant))

        assert failed == ["unavailable"]
        assert len(asked) == 2


def test_a_provider_that_sends_no_id_token_with_a_refresh_is_fine(
    site: Site, misbehaviour: Misbehaviour
) -> None:
    """OpenID Connect Core §12.1: it may leave it out."""
    grant = expired(site)
    misbehaviour.json("/oauth2/token", id_token=None)

    assert refreshing.fresh(grant, Need()).generation == 1
