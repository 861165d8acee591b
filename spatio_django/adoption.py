"""Moving in: the ``sub`` that another package stored of a user becomes their Spatio account."""

import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from enum import Enum
from typing import Any

from django.contrib.auth import get_user_model
from django.db import IntegrityError, OperationalError, router, transaction

from spatio_django.conf import conf
from spatio_django.models import SpatioAccount, authoritative, identity_digest

#: Rows that are decided and written in one transaction, whose users are locked that long.
BATCH = 500
ATTEMPTS = 3

# OpenID Connect Core §2: at most 255 ASCII characters. A space at an end is a slip of whoever made the list.
_SUB = re.compile(r"(?! )[\x20-\x7e]{1,255}(?<! )")


class Outcome(Enum):
    """What becomes of a row; all but the first two are reasons to leave it out."""

    NEW = "connected"
    KNOWN = "connected already"
    MALFORMED = "this line has more or fewer cells than the first"
    OTHER_ISSUER = "another issuer gave this identifier"
    NOT_SUB = "what is stored to know the person by is not their sub"
    BAD_SUB = "this is no sub: 1 to 255 printable ASCII characters"
    NO_USER = "no user, or more than one, has this key"
    TAKEN = "another user here has this Spatio account"
    SHARED = "the list gives this sub to several users"
    SEVERAL = "the list gives this user several subs"
    CONNECTED = "the user is connected to another Spatio account"

    @property
    def is_problem(self) -> bool:
        """Whether the row is left out."""
        return self not in {Outcome.NEW, Outcome.KNOWN}


@dataclass(frozen=True, slots=True)
class Row:
    """
    One line of a list: that user, that identifier.

    Attributes:
        place: Where the row stands, for people.
        user: The user's key, as text.
        sub: As stored.
        doubt: Why it should be left out, as far as the list alone tells.
    """

    place: str
    user: str
    sub: str
    doubt: Outcome | None = None


@dataclass(frozen=True, slots=True)
class Source:
    """
    A list.

    Attributes:
        key: The field of the user model that the rows' keys are of.
        rows: To be read once.
        title: What it is, for people.
    """

    key: str
    rows: Iterator[Row]
    title: str = "a list"


@dataclass(frozen=True, slots=True)
class Verdict:
    """A row, what becomes of it, and what its user is called if there is one."""

    row: Row
    outcome: Outcome
    username: str = ""


def adopt(source: Source, *, apply: bool, batch: int = BATCH) -> Iterator[Verdict]:
    """
    Connect the users of *source* to their Spatio accounts; give what becomes of each row.

    The list is read to its end first, so that nothing is written if it breaks off, and so that a ``sub`` of
    two users goes to neither instead of to the first. Then each batch is one transaction with its users
    locked: safe beside sign-ins, people who connect, and a second run. What is there already never changes.

    Args:
        source: From one of the functions in adoption_lists.py.
        apply: Write. Otherwise only look.
        batch: Rows to a transaction.
    """
    with closing(Spool()) as spool:
        for row in source.rows:
            doubt = row.doubt or (None if _SUB.fullmatch(row.sub) else Outcome.BAD_SUB)
            if doubt is None:
                spool.add(row)
            else:
                yield Verdict(row, doubt)
        for rows in spool.batches(batch):
            yield from _settle(rows, source.key, apply=apply)


class Spool:
    """
    The list on disk, since ten million rows don't belong in memory.

    A database without a name: private to this connection, and deleted by SQLite itself. It compares text
    byte by byte, which the site's own may not.
    """

    def __init__(self) -> None:
        self._db = sqlite3.connect("", isolation_level=None)
        self._db.execute("CREATE TABLE list (number INTEGER PRIMARY KEY, place TEXT, user TEXT, sub TEXT)")
        self._db.execute("BEGIN")

    def close(self) -> None:
        """Delete it."""
        self._db.close()

    def add(self, row: Row) -> None:
        """Put *row* at the end."""
        values = (row.place, row.user, row.sub)
        self._db.execute("INSERT INTO list (place, user, sub) VALUES (?, ?, ?)", values)

    def batches(self, size: int) -> Iterator[list[Row]]:
        """Give the rows in their order, each pair once, in lists of *size*; ambiguous ones say so."""
        self._db.execute("CREATE INDEX by_user ON list (user, sub)")
        self._db.execute("CREATE INDEX by_sub ON list (sub, user)")
        cursor = self._db.execute(
            """
            SELECT place, user, sub,
                EXISTS (SELECT 1 FROM list o WHERE o.sub = list.sub AND o.user <> list.user),
                EXISTS (SELECT 1 FROM list o WHERE o.user = list.user AND o.sub <> list.sub)
            FROM list
            WHERE NOT EXISTS (
                SELECT 1 FROM list o WHERE o.user = list.user AND o.sub = list.sub AND o.number < list.number
            )
            ORDER BY number
            """
        )
        while found := cursor.fetchmany(size):
            yield [
                Row(place, user, sub, Outcome.SHARED if shared else Outcome.SEVERAL if several else None)
                for place, user, sub, shared, several in found
            ]


def _settle(rows: list[Row], key: str, *, apply: bool) -> list[Verdict]:
    """Decide about *rows* and write, in one transaction; look again if somebody was faster."""
    alias = router.db_for_write(SpatioAccount)
    attempt = 1
    while True:
        try:
            with transaction.atomic(using=alias):
                verdicts, accounts = _judge(rows, key, lock=apply)
                if apply:
                    SpatioAccount.objects.using(alias).bulk_create(accounts)
                return verdicts
        except (IntegrityError, OperationalError):  # a sign-in made the account; MariaDB ended a deadlock
            if attempt == ATTEMPTS:
                raise
            attempt += 1


def _judge(rows: list[Row], key: str, *, lock: bool) -> tuple[list[Verdict], list[SpatioAccount]]:
    """Decide about each of *rows* as the database is now; give the accounts to make."""
    users = authoritative(get_user_model()).filter(**{f"{key}__in": [row.user for row in rows]})
    if lock:
        users = users.order_by("pk").select_for_update()
    found: dict[str, list[tuple[Any, str]]] = {}
    for value, pk, username in users.values_list(key, "pk", get_user_model().USERNAME_FIELD):
        # By the exact text: to some databases "ADA" is "ada", and here it would be somebody else.
        found.setdefault(str(value), []).append((pk, str(username)))

    issuer = conf.SPATIO_ISSUER
    digests = [identity_digest(issuer, row.sub) for row in rows]
    pks = [pk for several in found.values() for pk, _ in several]
    # A query per index: with an OR it is up to the planner's statistics, which a long run outdates.
    accounts_here = authoritative(SpatioAccount)
    owners = dict(accounts_here.filter(identity_digest__in=digests).values_list("identity_digest", "user_id"))
    others = accounts_here.filter(user__in=pks).values_list("user_id", "issuer")
    connected = {pk for pk, account_issuer in others if account_issuer == issuer}

    verdicts, accounts = [], []
    for row, digest in zip(rows, digests, strict=True):
        matches = found.get(row.user, [])
        if len(matches) != 1:
            verdicts.append(Verdict(row, Outcome.NO_USER))
            continue
        ((pk, username),) = matches
        owner = owners.get(digest)
        if owner is not None:
            outcome = Outcome.KNOWN if owner == pk else Outcome.TAKEN
        elif row.doubt is not None:
            outcome = row.doubt
        elif pk in connected:
            outcome = Outcome.CONNECTED
        else:
            outcome = Outcome.NEW
            accounts.append(SpatioAccount(user_id=pk, issuer=issuer, sub=row.sub))
        verdicts.append(Verdict(row, outcome, username))
    return verdicts, accounts
