"""G5: views that refresh and then fail, in a transaction that is undone."""

import pytest
from django.contrib.auth.models import Group
from django.db import connections, transaction

from spatio_django import refreshing
from spatio_django.exceptions import TokenUnavailable
from tests.faults.conftest import Rig, times
from tests.faults.databases import together, vendor


def test_no_view_that_fails_loses_a_token(rig: Rig, atomic_requests: None) -> None:
    """A hundred of them, one after the other; a thousand in the long run. SQLite refreshes in none."""
    browser, grant = rig.person()
    rig.works(browser, grant)
    count = times("SPATIO_TESTS_ROLLBACKS", 100)

    for _ in range(count):
        rig.expire(grant, left=1500)
        assert browser.get("/fails/").status_code == (503 if vendor() == "sqlite" else 500)

    assert not Group.objects.exists()
    assert rig.is_good(grant)
    assert rig.row(grant).generation == (1 if vendor() == "sqlite" else count + 1)
    assert len(rig.refreshes) == len(set(rig.refreshes)) == rig.row(grant).generation
    rig.works(browser, grant)


def test_no_write_of_the_sites_own_is_broken(rig: Rig, atomic_requests: None) -> None:
    """A view has written before it asks, and writes after, while others do the same: none is refused."""
    browser, grant = rig.person()
    rig.works(browser, grant)
    each = times("SPATIO_TESTS_ROLLBACKS", 100) // 4
    twins = [rig.twin(browser) for _ in range(4)]
    rig.expire(grant, left=1500)

    def visit(thread: int) -> set[tuple[int, bytes]]:
        answers = set()
        for number in range(each):
            response = twins[thread].get("/writes/", {"number": f"{thread} {number}"})
            answers.add((response.status_code, response.content))
        return answers

    answers = together(4, visit)

    expected = b"in_transaction" if vendor() == "sqlite" else b"token"
    assert answers == [{(200, expected)}] * 4
    assert Group.objects.count() == 2 * 4 * each
    assert len(rig.refreshes) == (1 if vendor() == "sqlite" else 2)
    rig.works(browser, grant)


def test_what_a_transaction_can_not_see_it_is_given(rig: Rig) -> None:
    """In a snapshot taken before, the token is the new one all the same, and asked for once."""
    browser, grant = rig.person()
    rig.works(browser, grant)
    rig.expire(grant)
    if vendor() == "sqlite":
        with transaction.atomic(), pytest.raises(TokenUnavailable, match="SQLite"):
            refreshing.fresh(rig.row(grant), refreshing.Need())
        rig.works(browser, grant)
        return
    with transaction.atomic():
        if vendor() == "postgresql":
            with connections["default"].cursor() as cursor:
                cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        old = rig.row(grant)
        tokens = {refreshing.fresh(rig.row(grant), refreshing.Need()).access_token for _ in range(3)}
        assert rig.row(grant).access_token == old.access_token, "the snapshot is older"

    stored = rig.row(grant)
    assert stored.access_token in tokens
    assert old.access_token not in tokens
    assert len(rig.refreshes) == stored.generation
    assert rig.is_good(grant)


def test_a_token_that_lasts_is_given_in_any_transaction(rig: Rig) -> None:
    """No call, no thread, no query: on SQLite too, also inside its window."""
    _browser, grant = rig.person()
    rig.expire(grant, left=60)
    with transaction.atomic():
        Group.objects.create(name="before")
        given = refreshing.fresh(rig.row(grant), refreshing.Need())
        Group.objects.create(name="after")
    assert given.access_token is not None
    if vendor() == "sqlite":
        assert given.access_token == grant.access_token
        assert not rig.refreshes
