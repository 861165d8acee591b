"""
What whoever wants an access token asks the database for again and again, in SQL.

Composing a query takes Django several times as long as the database needs to answer it, each time anew. Where
many want tokens at once, that is what they all wait for. These few are written down instead; everything else
is asked for as usual.
"""

import time
from functools import cache
from typing import Any

from django.db import connections, models

from spatio_django.models import DatabaseNow, GrantState, SpatioAccount, SpatioToken, TokenQuerySet

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
    """
    Give the newest grant of *user* from *issuer* that is live and can be refreshed, with the clock.

    Its account may have no more than was needed: :func:`whole_account` gives all of it.
    """
    if _activity() is None:
        grants = _composed(alias).filter(account__user=user.pk, account__issuer=issuer)
        return _judged(grants.exclude(refresh_ciphertext="").order_by("-pk"))
    key = _user_key().get_db_prep_value(user.pk, connections[alias])
    return _grant(_NEWEST, [key, issuer], alias)


def reread(grant: SpatioToken) -> SpatioToken | None:
    """Read *grant* again, as :func:`newest_grant`; ``None`` if it is over."""
    if _activity() is None:
        return _judged(_composed(grant.alias).filter(pk=grant.pk, handle=grant.handle))
    return _grant(_AGAIN, [grant.pk, grant.handle], grant.alias)


def whole_account(grant: SpatioToken) -> SpatioAccount:
    """Give the account of *grant* with all it has, and its user; of one that was deleted, what is known."""
    if grant.account.get_deferred_fields():
        # From where the grant is: a replica may not have it yet.
        accounts = SpatioAccount.objects.using(grant.alias).select_related("user")
        grant.account = accounts.filter(pk=grant.account_id).first() or grant.account
    return grant.account


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
        grant.read_at = began
        known = (grant.account_id, grant.__dict__["account_issuer"], grant.__dict__["account_sub"])
        grant.account = SpatioAccount.from_db(alias, ("id", "issuer", "sub"), known)
        return grant
    return None


def _composed(alias: str) -> TokenQuerySet:
    """Let Django compose the query: only the user model itself knows who is active."""
    return SpatioToken.objects.using(alias).with_clock().active().select_related("account__user")


def _judged(grants: TokenQuerySet) -> SpatioToken | None:
    began = time.monotonic()
    grant = grants.first()
    if grant is None or grant.why_over:
        return None
    grant.read_at = began
    return grant


@cache
def _worded(sql: str, alias: str) -> str:
    """Fill in names as the database *alias* quotes them, and its clock."""
    connection = connections[alias]
    quote = connection.ops.quote_name
    now, _ = SpatioToken.objects.using(alias).query.get_compiler(alias).compile(DatabaseNow())
    return sql.format(
        columns=", ".join(f"t.{quote(str(field.column))}" for field in SpatioToken._meta.concrete_fields),
        now=now,
        token=quote(SpatioToken._meta.db_table),
        account=quote(SpatioAccount._meta.db_table),
        user=quote(_user_key().model._meta.db_table),
        user_key=quote(str(_user_key().column)),
        is_active=f"u.{quote(str(_activity()))}",
    )


@cache
def _user_key() -> "models.Field[Any, Any]":
    """Give the column of the users' table that accounts point to."""
    key: models.Field[Any, Any] = SpatioAccount._meta.get_field("user").target_field
    return key


@cache
def _activity() -> str | None:
    """Give the column of the users' own table that tells whether somebody is active, if there is one."""
    fields = _user_key().model._meta.local_concrete_fields
    # No subclass: it may write "Y" and "N".
    columns = (
        field.column for field in fields if field.name == "is_active" and type(field) is models.BooleanField
    )
    return next(columns, None)
