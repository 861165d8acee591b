"""Ends of grants while things fail: nothing comes back, and what could not be revoked is revoked later."""

import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.auth import get_user_model
from django.db import connections, transaction

from spatio_django import revocation, tokens
from spatio_django.models import GrantState, PendingRevocation, SpatioAccount, SpatioToken
from spatio_django.threads import close_connections
from tests.faults.conftest import REVOKE, TOKEN, Rig, settle
from tests.faults.test_table import after, answering, refusing, signed_out
from tests.hostile.front import Deed, hang

User = get_user_model()


@pytest.mark.parametrize("holds", ["revocation", "everything"])
def test_signing_out_does_not_wait_for_a_provider_that_hangs(
    rig: Rig, monkeypatch: pytest.MonkeyPatch, holds: str
) -> None:
    """No longer than a person does; what was not revoked is queued, and revoked when it is time."""
    monkeypatch.setattr(revocation, "TIMEOUT", 30.0)
    browser, grant = rig.person()
    held = [token.reveal() for token in (grant.refresh_token, grant.access_token) if token]
    gone = threading.Event()

    def hold(*_: Any) -> None:
        gone.wait(30)

    rig.line.instead[REVOKE] = hold
    if holds == "everything":
        rig.line.instead.update({TOKEN: hang, "/.well-known/openid-configuration": hang})
    began = time.monotonic()

    signed_out(browser)

    # Far from the three seconds of patience and from the thirty of the provider.
    assert time.monotonic() - began < 15
    gone.set()
    assert not rig.is_signed_in(browser)
    assert not SpatioToken.objects.exists()
    settle()
    (pending,) = PendingRevocation.objects.all()
    assert (pending.fails, pending.reason) == (1, "signed_out")
    assert all(map(rig.knows, held))
    assert not revocation.attempt(pending.pk), "not before it is time"
    rig.line.be_honest()
    rig.pass_time(90)
    assert revocation.attempt(pending.pk)
    assert rig.revoked == held
    assert not any(map(rig.knows, held))
    assert not PendingRevocation.objects.exists()


FAILURES: dict[str, Deed] = {
    "503": answering("503 Unavailable"),
    "429": answering("429 Too Many Requests"),
    "html": answering("404 Not Found", b"<html>", "Content-Type: text/html"),
    "invalid_client": refusing("invalid_client", "401 Unauthorized"),
    "redirect": answering("302 Found", b"", "Location: /elsewhere"),
    "closed": lambda *_: None,
}


def test_what_could_not_be_revoked_is_tried_again_until_it_is(rig: Rig, subtests: pytest.Subtests) -> None:
    """After each kind of failure; later each time, and never twice at once."""
    for name, failure in FAILURES.items():
        with subtests.test(name):
            rig.line.be_honest()
            browser, grant = rig.person()
            rig.line.instead[REVOKE] = failure
            signed_out(browser)
            settle()
            (pending,) = PendingRevocation.objects.all()
            assert pending.fails == 1
            rig.pass_time(90)
            assert not revocation.attempt(pending.pk)
            assert PendingRevocation.objects.get().fails == 2
            rig.pass_time(90)
            assert not revocation.attempt(pending.pk), "after the second time it waits longer"
            assert PendingRevocation.objects.get().fails == 2
            rig.line.be_honest()
            rig.pass_time(3600)
            assert revocation.attempt(pending.pk)
            assert not PendingRevocation.objects.exists()
            assert grant.refresh_token
            assert not rig.knows(grant.refresh_token.reveal())
            assert revocation.attempt(pending.pk) is False, "it is gone"


def test_a_revocation_that_got_half_way_goes_on_from_there(rig: Rig) -> None:
    """The refresh token went, the access token did not: only that is sent again."""
    browser, grant = rig.person()
    assert grant.refresh_token
    assert grant.access_token
    sent = 0

    def second_fails(connection: Any, answer: bytes) -> None:
        nonlocal sent
        sent += 1
        if sent == 1:
            connection.sendall(answer)

    rig.line.deeds[REVOKE] = second_fails
    signed_out(browser)
    settle()
    (pending,) = PendingRevocation.objects.all()
    assert (pending.refresh_token, pending.access_token) == (None, grant.access_token)
    rig.line.be_honest()
    rig.pass_time(90)
    assert revocation.attempt(pending.pk)
    assert rig.revoked == [grant.access_token.reveal()]


def deactivate(user: Any) -> None:
    """Take a user's right to sign in away."""
    user.is_active = False
    user.save()


ENDS: dict[str, Callable[[Any], Any]] = {
    "deactivated": deactivate,
    "user deleted": lambda user: user.delete(),
    "users deleted": lambda user: User.objects.filter(pk=user.pk).delete(),
    "account deleted": lambda user: user.spatio_accounts.get().delete(),
    "accounts deleted": lambda user: SpatioAccount.objects.filter(user=user).delete(),
    "grants deleted": lambda user: SpatioToken.objects.filter(account__user=user).delete(),
    "signed out everywhere": tokens.sign_out_everywhere,
}


@pytest.mark.parametrize("name", ENDS)
def test_whoever_ends_a_grant_has_its_tokens_revoked(rig: Rig, name: str) -> None:
    """The session ends with its next request, and both tokens of each grant are revoked."""
    browser, grant = rig.person()
    phone, _other = rig.person()
    stranger, _ = rig.person("p1")
    assert rig.is_signed_in(browser)
    user = grant.account.user

    ENDS[name](user)

    settle()
    assert not rig.is_signed_in(browser)
    assert not rig.is_signed_in(phone)
    assert rig.is_signed_in(stranger)
    assert len(rig.revoked) == 4
    assert not any(map(rig.knows, rig.revoked))
    assert not PendingRevocation.objects.exists()


@pytest.mark.parametrize("name", ENDS)
def test_an_end_that_is_rolled_back_revokes_nothing(rig: Rig, name: str) -> None:
    """The rows are as before, and so is everything at Spatio."""
    browser, grant = rig.person()
    rig.works(browser, grant)

    def undone() -> None:
        with transaction.atomic():
            ENDS[name](User.objects.get(pk=grant.account.user_id))
            raise LookupError

    with pytest.raises(LookupError):
        undone()

    settle()
    assert not rig.revoked
    assert not PendingRevocation.objects.exists()
    assert rig.is_signed_in(browser)
    rig.works(browser, grant)


@pytest.mark.parametrize("name", ENDS)
def test_an_end_while_the_provider_answers_has_the_successor_revoked(rig: Rig, name: str) -> None:
    """Whatever ends a grant during its refresh: nothing comes back to life, nothing issued is left."""
    browser, grant = rig.person()
    rig.works(browser, grant)
    user = grant.account.user
    rig.expire(grant)

    def end() -> None:
        ENDS[name](User.objects.get(pk=user.pk))
        connections.close_all()

    rig.lies.lies[TOKEN] = after(end)

    assert not rig.is_signed_in(browser)

    rig.lies.lies.clear()
    settle()
    store = rig.spatio._provider.store.tables
    assert not store.refresh_tokens
    assert not store.access_tokens
    assert not PendingRevocation.objects.exists()
    assert not SpatioToken.objects.filter(state=GrantState.ACTIVE).exists()


def test_a_successor_that_comes_too_late_and_can_not_be_revoked_is_queued(rig: Rig) -> None:
    """Signed out during the refresh, while revocation fails: both generations wait in the queue."""
    browser, grant = rig.person()
    rig.works(browser, grant)
    other = rig.twin(browser)
    rig.expire(grant)
    rig.line.instead[REVOKE] = answering("503 Unavailable")
    rig.lies.lies[TOKEN] = after(lambda: signed_out(other))

    assert not rig.is_signed_in(browser)

    rig.lies.lies.clear()
    settle()
    assert sorted(PendingRevocation.objects.values_list("reason", flat=True)) == ["discarded", "signed_out"]
    rig.line.be_honest()
    rig.pass_time(90)
    for pending in PendingRevocation.objects.all():
        assert revocation.attempt(pending.pk)
    store = rig.spatio._provider.store.tables
    assert not store.refresh_tokens
    assert not store.access_tokens


def test_two_who_revoke_the_same_send_it_once(rig: Rig) -> None:
    """Whoever claims the row sends; the other one leaves it alone."""
    browser, _grant = rig.person()
    rig.line.instead[REVOKE] = answering("503 Unavailable")
    signed_out(browser)
    settle()
    (pending,) = PendingRevocation.objects.all()
    rig.line.be_honest()
    rig.pass_time(90)
    results: list[bool] = []

    def attempt() -> None:
        try:
            results.append(revocation.attempt(pending.pk))
        finally:
            close_connections()

    threads = [threading.Thread(target=attempt) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert sorted(results) == [False, False, False, True]
    assert len(rig.revoked) == 2


def test_an_outage_longer_than_may_be_suspends_the_session(rig: Rig, settings: Any) -> None:
    """``SPATIO_MAX_STALE``: a session outlives its token by that much. Then it waits for Spatio."""
    settings.SPATIO_MAX_STALE = 100
    browser, grant = rig.person()
    rig.works(browser, grant)
    rig.line.instead[TOKEN] = answering("503 Unavailable")
    rig.expire(grant, left=-90)
    assert rig.is_signed_in(browser)
    rig.pass_time(20)

    assert not rig.is_signed_in(browser)

    rig.line.instead.clear()
    rig.pass_time(30)
    assert rig.is_signed_in(browser)
    assert rig.revoked == []


def test_a_blip_does_not_keep_a_refused_token_from_being_renewed(rig: Rig) -> None:
    """An API has refused the token: the next try comes in seconds, not in half an hour."""
    browser, grant = rig.person()
    url = {"url": rig.spatio.issuer + "/oauth2/userinfo"}
    assert browser.get("/api/", url).content == b"200"
    assert grant.access_token
    rig.spatio._provider.store.revoke(grant.access_token.reveal())
    rig.line.instead[TOKEN] = answering("503 Unavailable")
    assert browser.get("/api/", url).content == b"401"
    rig.line.be_honest()
    rig.pass_time(30)

    assert browser.get("/api/", url).content == b"200"
    assert len(rig.refreshes) == 1


def test_a_client_that_is_gone_does_not_stop_the_others(rig: Rig) -> None:
    """Grants of an earlier registration that Spatio has deleted fail alone."""
    from django.core.management import call_command

    old, old_grant = rig.person("p1")
    call_command("spatio_register", "--base-url", rig.origin, "--force", verbosity=0)
    new, new_grant = rig.person("p2")
    assert old_grant.client_id != new_grant.client_id
    rig.works(new, new_grant)
    rig.works(old, old_grant)
    rig.spatio._provider.store.forget_client(old_grant.client_id)
    for _ in range(3):
        rig.expire(old_grant)
        assert rig.is_signed_in(old)
        rig.works(new, new_grant)
        rig.pass_time(30)
