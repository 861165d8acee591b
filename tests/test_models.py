"""The database's clock, and the states that were used."""

import time
from typing import Any

import pytest
from django.db import connection, transaction

from spatio_django.models import ConsumedState, DatabaseNow, SpatioAccount, from_now

pytestmark = pytest.mark.django_db


def read(expression: Any) -> int:
    """Compute *expression* in the database."""
    ConsumedState.objects.create(digest="0" * 64, expires_ms=0)
    return int(ConsumedState.objects.annotate(value=expression).values_list("value", flat=True)[0])


def test_the_databases_clock_tells_milliseconds_since_the_epoch() -> None:
    """UTC, whatever the time zone of host, database and connection."""
    assert abs(read(DatabaseNow()) / 1000 - time.time()) < 5


def test_the_databases_clock_counts_from_now() -> None:
    """For an insert or a filter."""
    assert abs(read(from_now(90)) / 1000 - time.time() - 90) < 5


@pytest.mark.parametrize("vendor", ["sqlite", "postgresql", "mysql"])
def test_each_database_is_asked_in_its_own_words(vendor: str) -> None:
    """No function that depends on a time zone; that it runs is for a run on that database."""
    compiler = ConsumedState.objects.all().query.get_compiler(connection=connection)

    sql, params = getattr(DatabaseNow(), f"as_{vendor}")(compiler, connection)

    assert params == []
    assert "sysdate" not in sql
    assert getattr(from_now(2), f"as_{vendor}")(compiler, connection) == (f"({sql} + %s)", [2000])


def test_a_state_is_used_once() -> None:
    """Also inside a transaction of the site's, which stays whole."""
    assert ConsumedState.consume("a" * 64, lifetime=60)
    with transaction.atomic():
        assert not ConsumedState.consume("a" * 64, lifetime=60)
        assert ConsumedState.consume("b" * 64, lifetime=60)
    assert {str(state)[0] for state in ConsumedState.objects.all()} == {"a", "b"}


@pytest.mark.django_db(transaction=True)
def test_a_state_is_used_once_outside_transactions() -> None:
    """One insert in autocommit mode is the whole lock."""
    assert ConsumedState.consume("a" * 64, lifetime=60)
    assert not ConsumedState.consume("a" * 64, lifetime=60)


def test_accounts_made_in_bulk_are_unique_too(django_user_model: Any) -> None:
    """The digest is computed by the column, whichever way a row is written."""
    user = django_user_model.objects.create_user("ada")
    made = [SpatioAccount(user=user, issuer="https://i", sub=sub) for sub in ("a", "b")]

    SpatioAccount.objects.bulk_create(made)

    found = SpatioAccount.objects.identified_by("https://i", "b")
    assert found is not None
    assert found.sub == "b"


def test_an_account_without_a_name_is_shown_all_the_same() -> None:
    """By its address, or by what Spatio calls it."""
    assert str(SpatioAccount(sub="acc_1", claims={"email": "a@example.com"})) == "a@example.com"
    assert str(SpatioAccount(sub="acc_1")) == "acc_1"
