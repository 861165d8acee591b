"""The client registration, the account (issuer, sub, user), its grants, what to revoke, and used states."""

import hashlib
import json
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any, TypeVar

from django.conf import settings
from django.db import IntegrityError, connections, models, router, transaction
from django.utils.translation import gettext_lazy as _

from spatio_django.encryption import Encrypted

M = TypeVar("M", bound=models.Model)


class DatabaseNow(models.Func):
    """
    The database's clock, in whole milliseconds since the epoch.

    One clock for every host, and a number that no time zone, daylight-saving change or skewed host moves.

    Args:
        plus: Milliseconds to add; a sum of expressions would cost as much as the insert it is for.
    """

    output_field: Any = models.BigIntegerField()
    arity = 0

    def __init__(self, plus: int = 0) -> None:
        super().__init__()
        self.plus = plus

    def as_sqlite(self, compiler: Any, connection: Any, **context: Any) -> Any:
        """Give it in SQLite's words."""
        return self.sum("CAST((julianday('now') - 2440587.5) * 86400000 AS integer)")

    def as_postgresql(self, compiler: Any, connection: Any, **context: Any) -> Any:
        """Give it in PostgreSQL's words."""
        # Not clock_timestamp(), which may change from row to row, so that no index could be used with it.
        return self.sum("(extract(epoch from statement_timestamp()) * 1000)::bigint")

    def as_mysql(self, compiler: Any, connection: Any, **context: Any) -> Any:
        """Give it in the words of MySQL and MariaDB."""
        # unix_timestamp(sysdate()) would jump by an hour in a zone with daylight-saving time.
        return self.sum("timestampdiff(microsecond, '1970-01-01', utc_timestamp(6)) div 1000")

    def sum(self, now: str) -> tuple[str, list[int]]:
        """Give SQL for *now* and what is added to it."""
        return (f"({now} + %s)", [self.plus]) if self.plus else (now, [])


def clock(alias: str) -> str:
    """Give the SQL for the clock of the database *alias*, in milliseconds."""
    sql, _ = SpatioToken.objects.using(alias).query.get_compiler(alias).compile(DatabaseNow())
    return str(sql)


def database_now(model: type[models.Model]) -> int:
    """Ask the database that *model* is written to for its clock, in milliseconds."""
    alias = router.db_for_write(model)
    with connections[alias].cursor() as cursor:
        cursor.execute(f"SELECT {clock(alias)}")
        return int(cursor.fetchone()[0])


def from_now(seconds: float) -> DatabaseNow:
    """Give the moment *seconds* from now on the database's clock, in milliseconds."""
    return DatabaseNow(plus=int(seconds * 1000))


class SpatioClient(models.Model):
    """
    What ``spatio_register`` got from the provider (RFC 7591 §3.2.1). The newest row per issuer counts.

    Older rows stay: grants made under them are refreshed and revoked with their credentials.
    """

    issuer = models.CharField(_("issuer"), max_length=255)
    client_id = models.CharField(_("client id"), max_length=255)
    client_name = models.CharField(_("client name"), max_length=255)
    secret_ciphertext = models.TextField(editable=False, default="")
    access_ciphertext = models.TextField(editable=False, default="")
    registration_client_uri = models.TextField(editable=False, default="")
    auth_method = models.CharField(_("client authentication"), max_length=32)
    redirect_uris = models.JSONField(_("redirect URIs"), default=list)
    scope = models.TextField(_("scopes"), default="")
    requested = models.JSONField(editable=False, default=dict)
    client_secret_expires_at = models.BigIntegerField(
        _("secret expires, seconds since the epoch"), null=True, blank=True
    )
    created_at = models.DateTimeField(_("registered at"), auto_now_add=True)

    client_secret = Encrypted("secret_ciphertext", row="place")
    registration_access_token = Encrypted("access_ciphertext", row="place")

    class Meta:
        verbose_name = _("Spatio client")
        verbose_name_plural = _("Spatio clients")
        constraints = [models.UniqueConstraint(fields=["issuer", "client_id"], name="spatio_client")]

    def __str__(self) -> str:
        return f"{self.client_name} ({self.client_id})"

    @property
    def place(self) -> str:
        """What the secrets of this row are bound to."""
        return f"{self.issuer} {self.client_id}"

    @property
    def request(self) -> dict[str, Any]:
        """What was asked for, as sent; where that was not kept, what is known of what was registered."""
        known = {
            "redirect_uris": self.redirect_uris,
            "client_name": self.client_name,
            "scope": self.scope,
            "token_endpoint_auth_method": self.auth_method,
        }
        return self.requested or {name: value for name, value in known.items() if value}


def identity_digest(issuer: str, subject: str) -> str:
    """
    Digest of the one thing that identifies a person: issuer and ``sub`` (OpenID Connect Core §5.7).

    A digest, because it is compared byte by byte on every database; under MySQL's default collation the text
    itself would match another person's whose ``sub`` differs in case only.
    """
    return hashlib.sha256(json.dumps([issuer, subject]).encode()).hexdigest()


def authoritative(model: type[M]) -> models.QuerySet[M]:
    """
    Give a query on the database that *model* is written to.

    Who is signed in is not asked of a replica: it may not have heard of the sign-in yet, or of its end.
    """
    return model._default_manager.using(router.db_for_write(model))


@contextmanager
def writing(model: type[models.Model], *, using: str | None = None) -> Iterator[str]:
    """
    Begin a transaction that will write rows of *model*, and give the alias of their database.

    SQLite has one lock for writing, and a transaction that takes it after reading is refused at once if
    another one has it, whatever the timeout. Taken first, it is waited for.
    """
    alias = using or router.db_for_write(model)
    with transaction.atomic(using=alias):
        if not connections[alias].features.has_select_for_update:
            key = model._meta.pk.attname
            # No row; the lock is what is wanted.
            model._default_manager.using(alias).filter(pk=-1).update(**{key: -1})
        yield alias


class IdentityDigest(models.CharField):  # type: ignore[type-arg]
    """The column that makes (issuer, sub) unique: computed whenever a row is written."""

    def pre_save(self, model_instance: models.Model, add: bool) -> str:
        """Compute it."""
        digest = identity_digest(*(getattr(model_instance, name) for name in ("issuer", "sub")))
        setattr(model_instance, self.attname, digest)
        return digest


class AccountQuerySet(models.QuerySet["SpatioAccount"]):
    """Accounts."""

    def identified_by(self, issuer: str, subject: str) -> "SpatioAccount | None":
        """Give the account of that person with its user, or ``None``."""
        accounts = self.using(router.db_for_write(SpatioAccount)).select_related("user")
        return next(iter(accounts.filter(identity_digest=identity_digest(issuer, subject))), None)


class SpatioAccount(models.Model):
    """A person at Spatio, joined to a user of this site."""

    user = models.ForeignKey(
        settings.AUTH_USER_MODEL, models.CASCADE, related_name="spatio_accounts", verbose_name=_("user")
    )
    issuer = models.CharField(_("issuer"), max_length=255)
    sub = models.CharField(_("subject"), max_length=255)
    identity_digest = IdentityDigest(max_length=64, unique=True, editable=False)
    claims = models.JSONField(_("claims"), default=dict)
    reauth_after = models.DateTimeField(
        _("proof of identity needed after"),
        null=True,
        blank=True,
        help_text=_("A sign-in must rest on a proof of identity at Spatio that is newer than this."),
    )
    created_at = models.DateTimeField(_("connected at"), auto_now_add=True)

    objects = AccountQuerySet.as_manager()

    class Meta:
        verbose_name = _("Spatio account")
        verbose_name_plural = _("Spatio accounts")

    def __str__(self) -> str:
        return self.name or self.email or self.sub

    @property
    def name(self) -> str:
        """The person's name as of the last sign-in; empty when Spatio gave none."""
        return str(self.claims.get("name", ""))

    @property
    def email(self) -> str:
        """The e-mail address as of the last sign-in; empty when Spatio gave none. Not an identifier."""
        return str(self.claims.get("email", ""))

    @property
    def email_verified(self) -> bool:
        """Whether Spatio said that it verified the address. Missing means no."""
        return self.claims.get("email_verified") is True


class TokenQuerySet(models.QuerySet["SpatioToken"]):
    """Grants."""

    def with_clock(self) -> "TokenQuerySet":
        """Read the database's clock along, so that :attr:`SpatioToken.seconds_left` can tell."""
        return self.annotate(now_ms=DatabaseNow())

    def active(self) -> "TokenQuerySet":
        """Leave out the grants that are over."""
        return self.filter(state=GrantState.ACTIVE)


class GrantState(models.TextChoices):
    """What can be said of a grant without asking Spatio."""

    ACTIVE = "active", _("active")
    #: Spatio refused its refresh token.
    DEAD = "dead", _("ended at Spatio")
    #: This site ended it, and has had its tokens revoked.
    REVOKED = "revoked", _("signed out")


class Placed(models.Model):
    """A row that knows where it is."""

    class Meta:
        abstract = True

    @property
    def alias(self) -> str:
        """The database that this row is in, or will be: another thread may be routed to another one."""
        return self._state.db or router.db_for_write(type(self))


class SpatioToken(Placed):
    """
    One grant: what one sign-in gave.

    The session holds only :attr:`handle`, so that signing out of the laptop leaves the phone alone and a
    leaked session store leaks no token.

    A grant is refreshed by whoever holds its lease, and what that brought is stored only over the generation
    that it was made from: see :mod:`spatio_django.refreshing`.

    Columns that came later have a default in the database, too: hosts that still run the code from before go
    on inserting rows.
    """

    account = models.ForeignKey(
        SpatioAccount, models.CASCADE, related_name="tokens", verbose_name=_("account")
    )
    handle = models.CharField(max_length=43, unique=True, editable=False, default=secrets.token_urlsafe)
    client_id = models.CharField(_("client id"), max_length=255)
    access_ciphertext = models.TextField(editable=False)
    refresh_ciphertext = models.TextField(editable=False, default="")
    scope = models.TextField(_("scopes"))
    id_token_claims = models.JSONField(_("ID token claims"), default=dict)
    expires_ms = models.BigIntegerField(_("expires, ms since the epoch"), null=True)
    ttl_ms = models.BigIntegerField(_("life of an access token, ms"), null=True)
    state = models.CharField(
        _("state"), max_length=8, choices=GrantState, default=GrantState.ACTIVE, db_default="active"
    )
    ended = models.CharField(_("why it ended"), max_length=32, default="", db_default="", blank=True)
    generation = models.BigIntegerField(_("times refreshed"), default=0, db_default=0)
    lease_id = models.CharField(max_length=32, editable=False, default="", db_default="")
    lease_until_ms = models.BigIntegerField(editable=False, default=0, db_default=0)
    retry_at_ms = models.BigIntegerField(
        _("not refreshed before, ms since the epoch"), default=0, db_default=0
    )
    fails = models.PositiveIntegerField(_("failures in a row"), default=0, db_default=0)
    in_doubt = models.BooleanField(_("refresh token may be used up"), default=False, db_default=False)
    seen_ms = models.BigIntegerField(_("last seen, ms since the epoch"), default=0, db_default=0)
    #: The account's, when the sign-in was judged.
    reauth_after = models.DateTimeField(null=True, editable=False)
    created_at = models.DateTimeField(_("signed in at"), auto_now_add=True)

    access_token = Encrypted("access_ciphertext", row="handle")
    refresh_token = Encrypted("refresh_ciphertext", row="handle")
    #: When the row was asked for, in monotonic seconds. A busy process may have had the answer long after:
    #: better that a token seems older than it is.
    read_at: float

    objects = TokenQuerySet.as_manager()

    class Meta:
        verbose_name = _("Spatio grant")
        verbose_name_plural = _("Spatio grants")
        # For maintenance, which goes through millions of rows page by page.
        indexes = [
            models.Index(fields=["state", "id"], name="spatio_grant_state"),
            models.Index(fields=["seen_ms", "id"], name="spatio_grant_seen"),
        ]

    def __str__(self) -> str:
        return f"{self.account} {self.created_at:%Y-%m-%d %H:%M}"

    @property
    def scopes(self) -> frozenset[str]:
        """The scopes that were granted."""
        return frozenset(self.scope.split())

    @property
    def why_over(self) -> str:
        """
        Why this grant may not be used, as :data:`spatio_django.revocation.REASONS` says it; empty if it may.

        Also of one whose sign-in was judged before all of the person's sessions were ended, and stored after.
        """
        if self.state != GrantState.ACTIVE:
            return self.ended
        if not self.account.user.is_active:
            return "deactivated"
        newest = self.account.reauth_after
        is_late = newest is not None and (self.reauth_after is None or self.reauth_after < newest)
        return "signed_out_everywhere" if is_late else ""

    @classmethod
    def from_db(cls, *args: Any, **kwargs: Any) -> "SpatioToken":
        """Note when the row was read: the clock that was read along goes on from there."""
        grant = super().from_db(*args, **kwargs)
        grant.read_at = time.monotonic()
        return grant

    @property
    def now(self) -> float:
        """The database's clock now, seconds since the epoch. It was read along with this row."""
        moment: int = self.__dict__["now_ms"]
        return moment / 1000 + time.monotonic() - self.read_at

    @property
    def seconds_left(self) -> float | None:
        """Seconds until the access token expires, negative when it has; ``None`` if Spatio did not say."""
        return None if self.expires_ms is None else self.expires_ms / 1000 - self.now


class PendingRevocation(Placed):
    """
    Tokens of a grant that is over here, until Spatio has heard of it (RFC 7009).

    Written in the same transaction that ends the grant, so that a crash in between forgets nothing.
    """

    issuer = models.CharField(_("issuer"), max_length=255)
    client_id = models.CharField(_("client id"), max_length=255)
    place = models.CharField(max_length=43, unique=True, editable=False, default=secrets.token_urlsafe)
    refresh_ciphertext = models.TextField(editable=False, default="")
    access_ciphertext = models.TextField(editable=False, default="")
    reason = models.CharField(_("why it ended"), max_length=32)
    access_expires_ms = models.BigIntegerField(editable=False, null=True)
    retry_at_ms = models.BigIntegerField(_("not tried before, ms since the epoch"), default=0, db_index=True)
    fails = models.PositiveIntegerField(_("failures in a row"), default=0)
    created_at = models.DateTimeField(_("ended at"), auto_now_add=True)

    refresh_token = Encrypted("refresh_ciphertext", row="place")
    access_token = Encrypted("access_ciphertext", row="place")

    class Meta:
        verbose_name = _("pending revocation")
        verbose_name_plural = _("pending revocations")

    def __str__(self) -> str:
        return f"{self.client_id} {self.created_at:%Y-%m-%d %H:%M}"


class ConsumedState(models.Model):
    """A ``state`` that a callback has used: the unique key makes "once" hold across processes and hosts."""

    digest = models.CharField(max_length=64, primary_key=True)
    expires_ms = models.BigIntegerField(db_index=True)

    class Meta:
        verbose_name = _("consumed state")
        verbose_name_plural = _("consumed states")

    def __str__(self) -> str:
        return self.digest

    @classmethod
    def consume(cls, digest: str, *, lifetime: float) -> bool:
        """
        Use up a state. The one insert is the lock.

        Args:
            digest: SHA-256 of the state, in hexadecimal.
            lifetime: Seconds to remember it; at least as long as a pending login lives.

        Returns:
            ``False`` if it was used before, by whichever process.
        """
        alias = router.db_for_write(cls)
        try:
            # The savepoint is for callers inside a transaction, which a failed insert would break.
            with transaction.atomic(using=alias) if connections[alias].in_atomic_block else nullcontext():
                cls.objects.using(alias).create(digest=digest, expires_ms=from_now(lifetime))
        except IntegrityError:
            return False
        return True

    @classmethod
    def forget_expired(cls) -> None:
        """Delete the states whose time is over, in one statement unless a receiver wants to see each."""
        cls.objects.using(router.db_for_write(cls)).filter(expires_ms__lt=DatabaseNow()).delete()
