"""Migrations: on a site that is up, and back again."""

from typing import Any

import pytest
from django.core.management import call_command
from django.db import connection

from spatio_django.models import SpatioToken

pytestmark = pytest.mark.django_db(transaction=True)


class Nowhere:
    """A router that wants none of our tables anywhere."""

    def allow_migrate(self, *args: Any, **hints: Any) -> bool:
        """Say so."""
        return False


def indexes() -> set[str]:
    """Name the indexes of the grants."""
    with connection.cursor() as cursor:
        found = connection.introspection.get_constraints(cursor, SpatioToken._meta.db_table)
    return {name for name in found if name.startswith("spatio_grant_")}


def migrate(name: str) -> None:
    """Migrate to there."""
    call_command("migrate", "spatio_django", name, verbosity=0)


def test_indexes_come_and_go_beside_the_site(settings: Any) -> None:
    """On PostgreSQL nobody waits for them; a router may want none."""
    both = {"spatio_grant_state", "spatio_grant_seen"}
    assert indexes() == both
    migrate("0003")
    assert indexes() == set()
    migrate("0004")
    assert indexes() == both

    settings.DATABASE_ROUTERS = ["tests.test_migrations.Nowhere"]
    migrate("0003")
    migrate("0004")

    assert indexes() == both


def test_code_from_before_goes_on_inserting_rows(db: None) -> None:
    """Hosts are upgraded one after the other: what they do not know has a default in the database."""
    fields = [field for field in SpatioToken._meta.concrete_fields if field.has_default()]
    later = {field.name for field in fields if field.has_db_default()}

    assert {"state", "ended", "generation", "lease_id", "lease_until_ms", "retry_at_ms"} <= later
    assert {"fails", "in_doubt", "seen_ms"} <= later
