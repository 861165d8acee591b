"""Moving in: the ``sub`` that another package stored of a user becomes their Spatio account."""

import csv
import re
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from enum import Enum
from typing import Any, TextIO

from django.apps import apps
from django.conf import settings
from django.contrib.auth import get_user_model
from django.core.exceptions import FieldError, ValidationError
from django.db import IntegrityError, OperationalError, models, router, transaction
from django.utils.module_loading import import_string

from spatio_django.conf import conf
from spatio_django.exceptions import ConfigurationError
from spatio_django.models import SpatioAccount, authoritative, identity_digest
from spatio_django.oidc import base64url, strict_json
from spatio_django.oidc.discovery import well_known_urls

#: Rows that are decided and written in one transaction, whose users are locked that long.
BATCH = 500
#: Rows read from another package's table at a time.
PAGE = 2000
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


# Deciding and writing


def adopt(source: Source, *, apply: bool, batch: int = BATCH) -> Iterator[Verdict]:
    """
    Connect the users of *source* to their Spatio accounts; give what becomes of each row.

    The list is read to its end first, so that nothing is written if it breaks off, and so that a ``sub`` of
    two users goes to neither instead of to the first. Then each batch is one transaction with its users
    locked: safe beside sign-ins, people who connect, and a second run. What is there already never changes.

    Args:
        source: From one of the functions below.
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


# Lists


def from_allauth(provider: str | None) -> Source:
    """
    Read django-allauth's social accounts of *provider*, or of the only one that is at our issuer.

    Raises:
        ConfigurationError: ``adopt``.
    """
    _require_installed("allauth.socialaccount")
    found: dict[str, str] = {}
    for app in import_string("allauth.socialaccount.adapter.get_adapter")().list_apps(None):
        name = app.provider_id or app.provider
        found[name] = found.get(name) or _misfit_of_app(app)
    model = import_string("allauth.socialaccount.models.SocialAccount")
    return _stored(model, _choose(found, provider), _doubt_of_social_account)


def from_social_auth(provider: str | None) -> Source:
    """
    Read social-auth's associations of the backend *provider*, or of the only one that is at our issuer.

    Raises:
        ConfigurationError: ``adopt``.
    """
    _require_installed("social_django")
    strategy = import_string("social_django.utils.load_strategy")()
    load = import_string("social_core.backends.utils.load_backends")
    openid_connect = import_string("social_core.backends.open_id_connect.OpenIdConnectAuth")
    found = {
        name: _misfit_of_backend(backend(strategy))
        for name, backend in load(settings.AUTHENTICATION_BACKENDS, force_load=True).items()
        if issubclass(backend, openid_connect)
    }
    return _stored(strategy.storage.user, _choose(found, provider), _doubt_of_association)


def from_field(path: str, *, issuer: str | None) -> Source:
    """
    Read a field of the user, or of something that belongs to it, such as ``profile.oidc_sub``.

    Users in whom it is empty are not on the list.

    Args:
        path: With dots or double underscores.
        issuer: Whose identifiers these are, as the operator says; nothing stored does.

    Raises:
        ConfigurationError: ``adopt``.
    """
    _require_vouched(issuer)
    users = authoritative(get_user_model())
    try:
        values = users.order_by("pk").values_list("pk", path.replace(".", "__"))
    except FieldError as error:
        raise _unusable(f"Users have no field {path!r}.") from error

    def rows() -> Iterator[Row]:
        for page in _pages(users.only("pk")):
            for pk, sub in values.filter(pk__in=[user.pk for user in page]):
                if sub not in (None, ""):
                    yield Row(f"field {path}", str(pk), str(sub))

    return Source("pk", rows(), f"the field {path}")


def from_csv(stream: TextIO, *, issuer: str | None) -> Source:
    """
    Read lines of comma-separated values. The first names the columns: ``sub``, and ``pk`` or ``username``.

    A column ``issuer``, if there is one, says whose identifier it is; further columns don't matter.

    Args:
        stream: Opened with ``newline=""``.
        issuer: Whose identifiers these are, as the operator says, if no column does.

    Raises:
        ConfigurationError: ``adopt``; also while the rows are read.
    """
    reader = csv.DictReader(stream, strict=True)
    header = _read_csv(lambda: list(reader.fieldnames or ()), reader)
    keys = {"pk", "username"}.intersection(header)
    if len(keys) != 1 or "sub" not in header or len(set(header)) != len(header):
        raise _unusable('The first line must name the columns: "pk,sub" or "username,sub".')
    (key,) = keys
    if "issuer" not in header:
        _require_vouched(issuer)

    def rows() -> Iterator[Row]:
        while record := _read_csv(lambda: next(reader, None), reader):
            place = f"line {reader.line_num}"
            user, sub = record[key] or "", record["sub"] or ""
            if None in record or None in record.values():
                yield Row(place, user, sub, Outcome.MALFORMED)
            elif record.get("issuer", conf.SPATIO_ISSUER) != conf.SPATIO_ISSUER:
                yield Row(place, user, sub, Outcome.OTHER_ISSUER)
            else:
                known = _key_text(user, is_pk=key == "pk")
                yield Row(place, user, sub, Outcome.NO_USER) if known is None else Row(place, known, sub)

    return Source("pk" if key == "pk" else get_user_model().USERNAME_FIELD, rows())


# What the lists are made of


def _stored(model: type[models.Model], provider: str, doubt: Callable[[Any], Outcome | None]) -> Source:
    """Give the rows of another package's *model* for that provider."""
    if model._meta.get_field("user").related_model is not get_user_model():
        # Equal keys of two user models are two people.
        raise _unusable(f"{model._meta.label} doesn't belong to this site's users.")

    def rows() -> Iterator[Row]:
        for page in _pages(authoritative(model).filter(provider=provider)):
            for stored in page:
                if stored.provider == provider:  # to some databases "Spatio" is "spatio"
                    place = f"{model._meta.verbose_name} {stored.pk}"
                    yield Row(place, str(stored.user_id), stored.uid, doubt(stored))

    return Source("pk", rows(), f"{model._meta.verbose_name_plural} of {provider!r}")


def _pages(rows: models.QuerySet[Any]) -> Iterator[list[Any]]:
    """Give *rows* in pages. ``iterator()`` would have MySQL's client hold them all."""
    rows = rows.order_by("pk")
    page = list(rows[:PAGE])
    while page:
        yield page
        page = list(rows.filter(pk__gt=page[-1].pk)[:PAGE])


def _misfit_of_app(app: Any) -> str:
    """Say why an app of allauth's is not our issuer known by ``sub``; nothing if it is."""
    if app.provider != "openid_connect":
        return f"is {app.provider}, not openid_connect"
    if app.settings.get("uid_field", "sub") != "sub":
        return "knows people by another claim than sub (uid_field)"
    return _misfit_of_url(app.settings.get("server_url", ""))


def _misfit_of_backend(backend: Any) -> str:
    """Say why a backend of social-auth's is not our issuer known by ``sub``; nothing if it is."""
    if backend.setting("ID_KEY", backend.ID_KEY) != "sub":
        return "knows people by another claim than sub (ID_KEY)"
    # If it is set, it is what each "iss" was compared with, wherever the endpoints are.
    pinned = backend.setting("ID_TOKEN_ISSUER", backend.ID_TOKEN_ISSUER)
    if pinned:
        return "" if pinned == conf.SPATIO_ISSUER else f"is at {pinned}"
    return _misfit_of_url(backend.oidc_endpoint() or "")


def _misfit_of_url(url: str) -> str:
    """Say so unless *url* leads to the metadata of our issuer, as such packages write it."""
    place = url if "/.well-known/" in url else f"{url.rstrip('/')}/.well-known/openid-configuration"
    return "" if place in well_known_urls(conf.SPATIO_ISSUER) else f"is at {url or 'no known address'}"


def _choose(found: Mapping[str, str], wanted: str | None) -> str:
    """Give the provider to take, *wanted* or the only one without a misfit."""
    fitting = [name for name, misfit in found.items() if not misfit]
    if wanted in fitting:
        return str(wanted)
    if wanted is None and len(fitting) == 1:
        return fitting[0]
    known = "; ".join(f"{name!r} {misfit or 'fits'}" for name, misfit in sorted(found.items()))
    if wanted is not None:
        problem = f"{wanted!r} can't be taken"
    else:
        problem = "Say which with --provider" if fitting else "No provider can be taken"
    raise _unusable(f"{problem}. The issuer is {conf.SPATIO_ISSUER}. Configured: {known or 'none'}.")


def _doubt_of_social_account(stored: Any) -> Outcome | None:
    """Compare a row of allauth's with the claims that are kept beside it."""
    data = stored.extra_data
    parts = [data, data.get("userinfo"), data.get("id_token")] if isinstance(data, dict) else []
    return _doubt(stored.uid, parts)


def _doubt_of_association(stored: Any) -> Outcome | None:
    """Compare a row of social-auth's with what is kept beside it, where ``id`` means ``sub``."""
    if getattr(stored, "id_key", "") not in {"", "sub"}:  # since version 8
        return Outcome.NOT_SUB
    data = stored.extra_data
    if not isinstance(data, dict):
        return None
    former = {"sub": data["id"]} if "id" in data else None
    parts = [data, former, data.get("_oidc_id_token_context"), _payload(data.get("id_token"))]
    return _doubt(stored.uid, parts)


def _doubt(uid: str, parts: Iterable[object]) -> Outcome | None:
    """
    Let what was stored at a sign-in speak against a row.

    The settings say where a provider is today. A row may be older than them: from the days when the same name
    was another provider's, or when people were known by another claim.
    """
    for claims in parts:
        if isinstance(claims, dict):
            if claims.get("iss", conf.SPATIO_ISSUER) != conf.SPATIO_ISSUER:
                return Outcome.OTHER_ISSUER
            if claims.get("sub", uid) != uid:
                return Outcome.NOT_SUB
    return None


def _payload(token: object) -> dict[str, Any] | None:
    """Read the claims of a stored ID token, which is as true as the rest of its row."""
    parts = token.split(".") if isinstance(token, str) else []
    data = base64url.decode(parts[1]) if len(parts) == 3 else None
    return None if data is None else strict_json.parse_object(data)


def _key_text(text: str, *, is_pk: bool) -> str | None:
    """Give a key as the database will give it back ("007" is "7"), or ``None`` if it is none."""
    if not text or "\0" in text:  # PostgreSQL raises at NUL
        return None
    if not is_pk:
        return text
    pk = get_user_model()._meta.pk
    field = getattr(pk, "target_field", pk)
    try:
        value = field.to_python(text)
        field.run_validators(value)
    except ValidationError:
        return None
    return str(value)


def _read_csv(step: Callable[[], Any], reader: "csv.DictReader[str]") -> Any:
    """Take a step in a file that may be anything."""
    try:
        return step()
    except (UnicodeDecodeError, csv.Error) as error:
        place = f"after line {reader.line_num}"
        raise _unusable(f"This is no text in UTF-8 with comma-separated values ({place}).") from error


def _require_installed(app: str) -> None:
    if not apps.is_installed(app):
        raise _unusable(f"{app} is not in INSTALLED_APPS: adopt before you take it out.")


def _require_vouched(issuer: str | None) -> None:
    """Demand a word on whose identifiers these are: elsewhere, an equal ``sub`` is another person."""
    ours = conf.SPATIO_ISSUER
    if issuer != ours:
        raise _unusable(f"Nothing stored says who gave these identifiers. If it was {ours}: --issuer {ours}")


def _unusable(message: str) -> ConfigurationError:
    return ConfigurationError(message, code="adopt")
