"""
What each access token asks the database for, in SQL.

Composing a query takes Django several times as long as the database needs to answer it, each time anew. Where
many want tokens at once, that is what they all wait for. These few are written down instead; everything else
is asked for as usual.
"""

import time
from functools import cache
from typing import Any

from django.contrib.auth import get_user_model
from django.db import connections, models

from spatio_django.models import DatabaseNow, GrantState, SpatioAccount, SpatioToken

_LIVE = """
SELECT {columns}, {now} AS now_ms, a.issuer AS account_issuer, a.sub AS account_sub
FROM {token} t JOIN {account} a ON a.id = t.account_id JOIN {user} u ON u.{user_key} = a.user_id
WHERE t.state = %s AND {is_active} AND (a.reauth_after IS NULL OR t.reauth_after >= a.reauth_after) AND
"""

_NEWEST = "a.user_id = %s AND a.issuer = %s AND t.refresh_ciphertext <> '' ORDER BY t.id DESC LIMIT 1"
_AGAIN = "t.id = %s AND t.handle = %s"

_SAME = """
SELECT 1 FROM {token}
WHERE id = %s AND handle = %s AND state = %s AND generation = %s AND lease_id = %s
"""

# Whoever held a lease that has run out did not say how it went. First, because MySQL goes from left to right.
_CLAIM = """
UPDATE {token} SET in_doubt = in_doubt OR lease_id <> '', lease_id = %s, lease_until_ms = {now} + %s
WHERE id = %s AND handle = %s AND state = %s AND generation = %s AND lease_id = %s
AND (lease_id = '' OR lease_until_ms < {now}) AND retry_at_ms <= {now}
"""


def newest_grant(user: Any, *, issuer: str, alias: str) -> SpatioToken | None:
    """Give the newest grant of *user* from *issuer* that is live and can be refreshed, with the clock."""
    key = SpatioAccount._meta.get_field("user").target_field.get_db_prep_value(user.pk, connections[alias])
    return _grant(_NEWEST, [key, issuer], alias)


def reread(grant: SpatioToken) -> SpatioToken | None:
    """Read *grant* again, with the clock; ``None`` if it is over."""
    again = _grant(_AGAIN, [grant.pk, grant.handle], grant.alias)
    if again is not None:
        again.account = grant.account  # which may have been read whole
    return again


def is_as_read(grant: SpatioToken) -> bool:
    """Tell whether the row of *grant* has the lease and the tokens that it had when it was read."""
    with connections[grant.alias].cursor() as cursor:
        cursor.execute(_worded(_SAME, grant.alias), _read(grant))
        return cursor.fetchone() is not None


def claim(grant: SpatioToken, lease: str, *, seconds: float) -> bool:
    """
    Put a lease on the row of *grant*, if it is as it was read and no lease on it runs any more.

    Args:
        lease: Who has it.
        seconds: How long it runs.

    Returns:
        Whether it is ours.
    """
    with connections[grant.alias].cursor() as cursor:
        cursor.execute(_worded(_CLAIM, grant.alias), [lease, int(seconds * 1000), *_read(grant)])
        return bool(cursor.rowcount)


def _read(grant: SpatioToken) -> list[Any]:
    return [grant.pk, grant.handle, GrantState.ACTIVE.value, grant.generation, grant.lease_id]


def _grant(which: str, values: list[Any], alias: str) -> SpatioToken | None:
    sql, began = _worded(_LIVE + which, alias), time.monotonic()
    for grant in SpatioToken.objects.using(alias).raw(sql, [GrantState.ACTIVE.value, *values]):
        grant.read_since(began)
        # As much of the account as a refresh needs. The rest is read if somebody asks for it.
        known = (grant.account_id, grant.__dict__["account_issuer"], grant.__dict__["account_sub"])
        grant.account = SpatioAccount.from_db(alias, ("id", "issuer", "sub"), known)
        if _is_active(grant):
            return grant
    return None


def _is_active(grant: SpatioToken) -> bool:
    return _activity() is not None or grant.account.user.is_active


@cache
def _worded(sql: str, alias: str) -> str:
    """Fill in names as the database *alias* quotes them, and its clock."""
    connection = connections[alias]
    quote = connection.ops.quote_name
    user, activity = get_user_model()._meta, _activity()
    now, _ = SpatioToken.objects.using(alias).query.get_compiler(alias).compile(DatabaseNow())
    return sql.format(
        columns=", ".join(f"t.{quote(str(field.column))}" for field in SpatioToken._meta.concrete_fields),
        now=now,
        token=quote(SpatioToken._meta.db_table),
        account=quote(SpatioAccount._meta.db_table),
        user=quote(user.db_table),
        user_key=quote(str(user.pk.column)),
        is_active="1 = 1" if activity is None else f"u.{quote(activity)}",
    )


@cache
def _activity() -> str | None:
    """Give the column of the users' own table that tells whether somebody is active, if there is one."""
    fields = get_user_model()._meta.local_concrete_fields
    columns = (
        field.column
        for field in fields
        if field.name == "is_active" and isinstance(field, models.BooleanField)
    )
    return next(columns, None)
