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

from spatio_django.models import GrantState, SpatioAccount, SpatioToken, TokenQuerySet, clock

# COALESCE keeps the planners from an index on the state: SQLite would go through everybody's active grants.
_LIVE = """
SELECT {columns}, {now}, a.issuer, a.sub
FROM {token} t JOIN {account} a ON a.id = t.account_id JOIN {user} u ON u.{user_key} = a.user_id
WHERE COALESCE(t.state, '') = {active} AND {is_active}
AND (a.reauth_after IS NULL OR t.reauth_after >= a.reauth_after) AND
"""

_NEWEST = "a.user_id = %s AND a.issuer = %s AND t.refresh_ciphertext <> '' ORDER BY t.id DESC LIMIT 1"
# MySQL and MariaDB would sort whole rows for that, and because of their texts in a table on disk.
_NEWEST_MYSQL = """
t.id = (
SELECT MAX(o.id) FROM {token} o JOIN {account} b ON b.id = o.account_id
WHERE b.user_id = %s AND b.issuer = %s AND o.refresh_ciphertext <> '' AND COALESCE(o.state, '') = {active}
AND (b.reauth_after IS NULL OR o.reauth_after >= b.reauth_after)
)
"""

_AGAIN = "t.id = %s AND t.handle = %s"

_LOOK = "SELECT 1 FROM {token} WHERE {as_read} AND lease_id = %s"

# Whoever held a lease that has run out did not say how it went. First, because MySQL goes from left to right.
_CLAIM = """
UPDATE {token} SET in_doubt = in_doubt OR lease_id <> '', lease_id = %s, lease_until_ms = {now} + %s
WHERE {as_read} AND lease_id = %s
AND (lease_id = '' OR lease_until_ms < {now} OR lease_until_ms > {now} + %s)
AND (retry_at_ms <= {now} OR retry_at_ms > {now} + %s) AND COALESCE(expires_ms - {now}, 0) <= %s
"""

#: Milliseconds until after any token's end.
_EVER = 10**15

# What did not come is kept as it is by now: keys may have been rotated meanwhile. The end is counted from the
# claim at the latest: "now" may be after a long wait for locks.
_STORE = """
UPDATE {token} SET access_ciphertext = %s, refresh_ciphertext = COALESCE(%s, refresh_ciphertext),
scope = COALESCE(%s, scope), ttl_ms = %s, expires_ms = {least}({now} + %s, lease_until_ms + %s),
generation = generation + 1, lease_id = '', retry_at_ms = 0, fails = 0, in_doubt = FALSE
WHERE {as_read}
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
    which = _NEWEST_MYSQL if connections[alias].vendor == "mysql" else _NEWEST
    return _grant(which, [key, issuer], alias)


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
        cursor.execute(_worded(_LOOK, grant.alias), [*_as_read(grant), grant.lease_id])
        return cursor.fetchone() is not None


def claim(grant: SpatioToken, lease: str, *, seconds: float, longest_pause: float, due: float) -> bool:
    """
    Put a lease on the row of *grant*, if it is as it was read, no lease on it runs, and it is due.

    The database judges that by its clock. By ours a token that was long in coming seems older than it is, and
    of many who ask one would always find that it is time.

    Args:
        lease: Who has it.
        seconds: How long it runs. One that seems to run longer is of a clock that was ahead, and is over.
        longest_pause: Seconds that nobody waits longer between attempts, for the same reason.
        due: Seconds that the access token may still live; it may be infinite.

    Returns:
        Whether it is ours.
    """
    lasts = int(seconds * 1000)
    limits = [lasts, int(longest_pause * 1000), int(min(due * 1000, _EVER))]
    return _changes(_CLAIM, [lease, lasts, *_as_read(grant), grant.lease_id, *limits], grant.alias)


def store(grant: SpatioToken, renewed: SpatioToken, *, age: float, lease: float) -> bool:
    """
    Put *renewed* over the generation of *grant*, if that is still there.

    Args:
        age: Seconds since its token was asked for.
        lease: Seconds for which the row was claimed then.

    Returns:
        Whether it is there now.
    """
    ttl_ms = renewed.ttl_ms
    ends = [None if ttl_ms is None else ttl_ms - int(seconds * 1000) for seconds in (age, lease)]
    pairs = [(renewed.refresh_ciphertext, grant.refresh_ciphertext), (renewed.scope, grant.scope)]
    came = [None if new == old else new for new, old in pairs]
    return _changes(_STORE, [renewed.access_ciphertext, *came, ttl_ms, *ends, *_as_read(grant)], grant.alias)


def _as_read(grant: SpatioToken) -> list[Any]:
    return [grant.pk, grant.handle, grant.generation]


def _changes(sql: str, values: list[Any], alias: str) -> bool:
    with connections[alias].cursor() as cursor:
        cursor.execute(_worded(sql, alias), values)
        return bool(cursor.rowcount)


def _grant(which: str, values: list[Any], alias: str) -> SpatioToken | None:
    began = time.monotonic()
    with connections[alias].cursor() as cursor:
        cursor.execute(_worded(_LIVE + which, alias), values)
        row = cursor.fetchone()
    if row is None:
        return None
    fields = SpatioToken._meta.concrete_fields
    compiler = SpatioToken.objects.using(alias).query.get_compiler(alias)
    converters = compiler.get_converters([field.get_col(field.model._meta.db_table) for field in fields])
    *columns, now_ms, issuer, sub = next(compiler.apply_converters([row], converters))
    grant = SpatioToken.from_db(alias, [field.attname for field in fields], columns)
    grant.__dict__["now_ms"], grant.read_at = now_ms, began
    grant.account = SpatioAccount.from_db(alias, ("id", "issuer", "sub"), (grant.account_id, issuer, sub))
    return grant


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
    quote, active = connection.ops.quote_name, f"'{GrantState.ACTIVE.value}'"
    return sql.strip().format(
        columns=", ".join(f"t.{quote(str(field.column))}" for field in SpatioToken._meta.concrete_fields),
        now=clock(alias),
        active=active,
        as_read=f"id = %s AND handle = %s AND state = {active} AND generation = %s",
        token=quote(SpatioToken._meta.db_table),
        account=quote(SpatioAccount._meta.db_table),
        user=quote(_user_key().model._meta.db_table),
        user_key=quote(str(_user_key().column)),
        least="MIN" if connection.vendor == "sqlite" else "LEAST",
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
