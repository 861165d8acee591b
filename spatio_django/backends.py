"""A verified sign-in becomes a user of this site."""

import logging
import re
import unicodedata
from collections.abc import Mapping
from typing import Any, NoReturn

from asgiref.sync import sync_to_async
from django.conf import settings
from django.contrib.auth import get_user_model
from django.contrib.auth.backends import ModelBackend
from django.contrib.auth.base_user import BaseUserManager
from django.core.exceptions import FieldDoesNotExist, SuspiciousOperation, ValidationError
from django.db import IntegrityError, OperationalError, models, router
from django.http import HttpRequest
from django.utils.crypto import get_random_string
from django.utils.module_loading import import_string
from mozilla_django_oidc.auth import OIDCAuthenticationBackend

from spatio_django.conf import conf, get_settings
from spatio_django.exceptions import ConfigurationError, LoginRefused
from spatio_django.flow import CompletedLogin
from spatio_django.models import SpatioAccount, authoritative, writing
from spatio_django.oidc.id_token import CONTROL

logger = logging.getLogger("spatio_django")

#: Claims that are kept with the account: those of OpenID Connect Core §5.1 that Spatio has.
KEPT_CLAIMS = (
    "sub",
    "name",
    "given_name",
    "family_name",
    "preferred_username",
    "email",
    "email_verified",
    "picture",
    "updated_at",
)
#: Characters of a text claim that are kept; more is no name.
MAX_CLAIM = 2048
#: Times that joining an account to a user is tried, if another request is in the way.
ATTEMPTS = 3
#: RFC 5321 §4.5.3.1.3, and Django's ``EmailField``.
MAX_EMAIL = 254


def clean_text(value: object, *, most: int = MAX_CLAIM) -> str:
    """Give a claim as text that every database and page takes: no control characters, no lone surrogates."""
    if not isinstance(value, str):
        return ""
    return CONTROL.sub("", value[: most * 2]).strip()[:most].rstrip()


def same_address(one: str, other: str) -> bool:
    """Tell whether two addresses are the same, ASCII letter case aside: a long s is not an s."""
    return one == other or (one.isascii() and other.isascii() and one.lower() == other.lower())


def clean_claims(claims: Mapping[str, Any]) -> dict[str, Any]:
    """Give what is kept of *claims*: known members of the type that the specification gives them."""
    kept: dict[str, Any] = {}
    for name in KEPT_CLAIMS:
        value = claims.get(name)
        if name == "sub":
            # As it is: it was judged before, and without the space around it, it would name somebody else.
            if isinstance(value, str) and value and not CONTROL.search(value):
                kept[name] = value
        elif name == "email_verified":
            if isinstance(value, bool):
                kept[name] = value
        elif name == "updated_at":
            if isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**53:
                kept[name] = value
        elif text := clean_text(value):
            kept[name] = text
    return kept


class SpatioBackend(OIDCAuthenticationBackend):  # type: ignore[misc]  # the parent has no types
    """
    Django's authentication backend for Spatio, on mozilla-django-oidc's.

    Its hooks keep their names and meaning, so a subclass of that backend moves over: override
    :meth:`verify_claims`, :meth:`filter_users_by_claims`, :meth:`get_username`, :meth:`create_user` and
    :meth:`update_user`. What that backend does with tokens and the network is replaced: nothing that comes
    from outside reaches it, and it reads no ``OIDC_*`` setting.
    """

    get_settings = staticmethod(get_settings)

    #: The account of the last :meth:`authenticate`. Django makes a backend per use, so it is nobody else's.
    account: SpatioAccount | None = None
    #: Others keep taking what this sign-in wants in the same moment: names are not counted up any more.
    crowded = False

    def __init__(self) -> None:
        # Django builds a backend for every request that touches request.user: nothing may happen here, and
        # the parent's constructor reads endpoints that only discovery knows.
        self.UserModel: Any = get_user_model()

    def authenticate(  # the keyword is ours alone, so no password login is ever tried here
        self, request: HttpRequest | None, *, spatio_login: CompletedLogin
    ) -> Any:
        """
        Give the user of a completed login.

        Only our callback view calls this, directly: through ``auth.authenticate`` another site-wide OpenID
        Connect backend could be handed the login, or ours another's.

        Raises:
            LoginRefused: ``claims_refused``, ``no_account``, ``inactive``, ``email_missing``,
                ``email_unverified``, ``email_taken`` or ``ambiguous``.
        """
        self.request = request
        self.account = self.get_account(spatio_login)
        logger.info("Signed in: %s", self.describe_user_by_claims(dict(spatio_login.claims)))
        return self.account.user

    async def aauthenticate(self, request: HttpRequest | None, *, spatio_login: CompletedLogin) -> Any:
        """Do the same as :meth:`authenticate`; the parent would take password logins here."""
        return await sync_to_async(self.authenticate)(request, spatio_login=spatio_login)

    def get_user(self, user_id: Any) -> Any:
        """Give the user of a session while they are active; the parent's forgets to look."""
        return ModelBackend.get_user(self, user_id)

    def get_account(self, login: CompletedLogin) -> SpatioAccount:
        """
        Give the account of *login*, with its user; a first sign-in makes it.

        Raises:
            LoginRefused: As :meth:`authenticate` says.
        """
        claims = dict(login.claims)
        if not self.verify_claims(claims):
            raise LoginRefused("verify_claims() said no.", code="claims_refused")
        account = SpatioAccount.objects.identified_by(login.issuer, login.subject)
        if account is None:
            account = self.new_account(login, claims)
        else:
            account.user = self.updated(account.user, claims)
        kept = clean_claims(claims)
        if account.claims != kept:
            account.claims = kept
            account.save(update_fields=["claims"])
        return account

    def new_account(self, login: CompletedLogin, claims: dict[str, Any]) -> SpatioAccount:
        """
        Make the account of a first sign-in, with a user found by :meth:`filter_users_by_claims` or created.

        Two first sign-ins of one person at the same time end with one user: the unique identity decides, and
        the loser takes the winner's account. Both rows are written in one transaction.
        """
        attempt = 1
        while True:
            try:
                with writing(SpatioAccount) as alias:
                    user = self.user_for_new_account(claims)
                    account = SpatioAccount(
                        user=user, issuer=login.issuer, sub=login.subject, claims=clean_claims(claims)
                    )
                    account.save(force_insert=True, using=alias)
                    return account
            except (IntegrityError, OperationalError) as error:  # MariaDB ends one of two with a deadlock
                winner = SpatioAccount.objects.identified_by(login.issuer, login.subject)
                if winner is not None:
                    return winner
                if attempt == ATTEMPTS:
                    if isinstance(error, IntegrityError):
                        self.explain_conflict(claims)
                    raise
                attempt += 1
                self.crowded = attempt == ATTEMPTS and isinstance(error, IntegrityError)

    def user_for_new_account(self, claims: dict[str, Any]) -> Any:
        """Find or create the user that a first sign-in joins."""
        found = list(self.filter_users_by_claims(claims)[:2])
        if len(found) > 1:
            raise LoginRefused("More than one user matches.", code="ambiguous")
        if found:
            return self.updated(found[0], claims)
        if not conf.SPATIO_CREATE_USERS:
            raise LoginRefused("This site creates no users at sign-in.", code="no_account")
        user = self.create_user(claims)
        if user is None:
            raise LoginRefused("create_user() made no user.", code="no_account")
        return user

    def updated(self, user: Any, claims: dict[str, Any]) -> Any:
        """Let an existing user in, after :meth:`update_user`."""
        if not self.user_can_authenticate(user):
            raise LoginRefused("The user is not active.", code="inactive")
        fresh = self.update_user(user, claims)
        if fresh is None or fresh.pk != user.pk:
            raise LoginRefused("update_user() did not give the user back.", code="claims_refused")
        return fresh

    def connect(self, user: Any, login: CompletedLogin) -> SpatioAccount:
        """
        Join the Spatio account of *login* to *user*, who is signed in to this site and asked for it.

        Args:
            user: Primary key and nothing else is relied on: the row is read anew, and locked, so that two
                requests at once can't connect two accounts.

        Raises:
            LoginRefused: ``claims_refused``, ``connect_user``, ``inactive``, ``account_taken`` or
                ``already_connected``.
        """
        claims = dict(login.claims)
        if not self.verify_claims(claims):
            raise LoginRefused("verify_claims() said no.", code="claims_refused")
        attempt = 1
        while True:
            try:
                with writing(SpatioAccount):
                    account = self.connected(self.locked(user.pk), login)
                    account.user = self.updated(account.user, claims)
                    account.claims = clean_claims(claims)
                    account.save(update_fields=["claims"])
                break
            except (IntegrityError, OperationalError):
                # Somebody signed in with this very account a moment ago: seen the next time round. Or MariaDB
                # ended one of two at once with a deadlock.
                if attempt == ATTEMPTS:
                    raise
                attempt += 1
        logger.info("Connected: %s", self.describe_user_by_claims(claims))
        return account

    def connected(self, user: Any, login: CompletedLogin) -> SpatioAccount:
        """Give the account of *login*, which is *user*'s already or is made theirs now."""
        if user is None:
            raise LoginRefused("The user who began to connect is gone.", code="connect_user")
        account = SpatioAccount.objects.identified_by(login.issuer, login.subject)
        if account is not None:
            if account.user_id != user.pk:  # never changes hands in silence
                raise LoginRefused("Another user has this Spatio account.", code="account_taken")
            return account
        if authoritative(SpatioAccount).filter(user=user, issuer=login.issuer).exists():
            # One account per user keeps it plain whose name and tokens a page is about.
            raise LoginRefused("The user has another Spatio account.", code="already_connected")
        account = SpatioAccount(user=user, issuer=login.issuer, sub=login.subject)
        account.save(force_insert=True, using=router.db_for_write(SpatioAccount))
        return account

    def disconnect(self, account: SpatioAccount) -> None:
        """
        Take *account* and its grants off its user.

        Raises:
            LoginRefused: ``last_way_in``, if :meth:`may_disconnect` says no.
        """
        with writing(SpatioAccount):
            user = self.locked(account.user_id)
            if user is None:
                return  # and the account with them
            account.user = user
            if not self.may_disconnect(account):
                raise LoginRefused("The user could not sign in any more.", code="last_way_in")
            account.delete()
        logger.info("Disconnected: sub %s", clean_text(account.sub, most=255))

    def accounts_of(self, user: Any) -> list[tuple[SpatioAccount, bool]]:
        """Give the Spatio accounts of *user*, each with whether :meth:`may_disconnect` says so."""
        accounts = authoritative(SpatioAccount).filter(user=user.pk, issuer=conf.SPATIO_ISSUER)
        return [(each, self.may_disconnect(each)) for each in accounts.select_related("user").order_by("pk")]

    def locked(self, pk: Any) -> Any:
        """Read a user anew and hold the row until the transaction ends; ``None`` if they are gone."""
        # Without what a manager or an order may join: PostgreSQL locks no row that an outer join may lack.
        users = self.users().select_related(None).order_by("pk")
        return users.select_for_update().filter(pk=pk).first()

    def users(self) -> models.QuerySet[Any]:
        """Give all users, as the database has them that is written to."""
        return authoritative(self.UserModel)

    # Hooks: override these. Claims are userinfo's over the ID token's, exactly as Spatio sent them.

    def verify_claims(self, claims: dict[str, Any]) -> bool:
        """Decide whether a person with these claims may sign in. Override to refuse; default: everyone."""
        return True

    def describe_user_by_claims(self, claims: dict[str, Any]) -> str:
        """Name the person in a log: by ``sub``, which tells nobody else who it is."""
        return f"sub {clean_text(claims.get('sub'), most=255)}"

    def filter_users_by_claims(self, claims: dict[str, Any]) -> models.QuerySet[Any]:
        """
        Find the existing user that a first sign-in should join. Override to match by something of yours.

        Default: nobody; with ``SPATIO_LINK_VERIFIED_EMAIL`` the one user with the same verified e-mail
        address, unless it is staff or a superuser, or belongs to a Spatio account already: whoever signed in
        with that one first may have given an address that was never theirs.
        """
        users = self.users()
        email, field = self.email(claims), self.email_field()
        # Exactly what was verified: an address that had to be cleaned first is another one.
        proven = email == claims.get("email") and claims.get("email_verified") is True
        if not (conf.SPATIO_LINK_VERIFIED_EMAIL and email and field and proven):
            return users.none()
        matches = list(users.filter(**{f"{field}__iexact": email})[:2])
        # The database's idea of "same letters" can be wider than ours.
        safe = [
            user.pk
            for user in matches
            if same_address(getattr(user, field), email)
            and not self.is_privileged(user)
            and not authoritative(SpatioAccount).filter(user=user).exists()
        ]
        return users.filter(pk__in=safe) if len(matches) == 1 else users.none()

    def create_user(self, claims: dict[str, Any]) -> Any:
        """
        Create the user of a first sign-in. Override to fill fields of yours (call this, then save again).

        The password is unusable. Names and e-mail are filled where the user model has the usual fields;
        claims never make anyone staff.
        """
        model = self.UserModel
        values = self.profile_fields(claims)
        email_field = self.email_field()
        email = BaseUserManager.normalize_email(self.email(claims))
        unique = email_field is not None and self.UserModel._meta.get_field(email_field).unique
        if email_field and email:
            if email_field == model.USERNAME_FIELD and claims.get("email_verified") is not True:
                raise LoginRefused("Users here are known by verified e-mail.", code="email_unverified")
            if unique and self.is_taken(email_field, email):
                # Joining that user would hand an account to whoever controls the address at Spatio.
                raise LoginRefused("A user with this e-mail address exists.", code="email_taken")
            values[email_field] = email
        elif unique:
            raise LoginRefused("Users here need an e-mail address, and there is none.", code="email_missing")
        # A model that signs in by e-mail often still has Django's unique "username" beside it.
        for name in {model.USERNAME_FIELD, "username"} - {email_field}:
            if self.has_field(name):
                values[name] = self.get_username(claims)
        user = model(**values)
        user.set_unusable_password()
        user.save()
        return user

    def get_username(self, claims: dict[str, Any]) -> str:
        """
        Make a username that is readable and not taken. Override to name people your way.

        Tried in this order: ``preferred_username``, the part of ``email`` before the @, ``name``; made to fit
        the field, with a number added if somebody has it, or letters if many want it at once.
        """
        name = self.UserModel.USERNAME_FIELD
        if name == self.email_field():
            name = "username"
        field: models.Field[Any, Any] = self.UserModel._meta.get_field(name)
        most = getattr(field, "max_length", None) or 150
        email = self.email(claims)
        candidates = (claims.get("preferred_username"), email.partition("@")[0], claims.get("name"), "spatio")
        base = next(filter(None, (self.clean_username(text, field, most) for text in candidates)), "spatio")
        for suffix in () if self.crowded else ("", *"23456789"):
            username: str = base[: most - len(suffix)] + suffix
            if not self.is_username_taken(name, username):
                return username
        return base[: most - 9] + "-" + get_random_string(8, "abcdefghijkmnpqrstuvwxyz23456789")

    def update_user(self, user: Any, claims: dict[str, Any]) -> Any:
        """Bring an existing *user* up to date, and give it back. Override; default: nothing changes."""
        return user

    def may_disconnect(self, account: SpatioAccount) -> bool:
        """
        Decide whether *account* can be taken off its user, who must keep a way to sign in.

        Default: with a usable password, where a backend takes passwords, or with another Spatio account.
        Override if your site has other ways, such as a directory.
        """
        user = account.user
        others = authoritative(SpatioAccount).filter(user=user, issuer=conf.SPATIO_ISSUER)
        # An empty password counts as usable for Django, and nobody can sign in with it.
        by_password = bool(user.password and user.has_usable_password()) and takes_passwords()
        return by_password or others.exclude(pk=account.pk).exists()

    # What the hooks are made of.

    @staticmethod
    def clean_username(text: object, field: "models.Field[Any, Any]", most: int) -> str:
        """Make *text* fit the username field, or give nothing."""
        plain = unicodedata.normalize("NFKC", clean_text(text))
        # No "@": on a site whose usernames are addresses, it could be somebody else's.
        username = re.sub(r"[^\w.+-]+", "-", plain).strip("-.")[:most]
        try:
            field.run_validators(username)
        except ValidationError:
            return ""
        return username

    @staticmethod
    def email(claims: Mapping[str, Any]) -> str:
        """Give the e-mail address, or nothing: cut to a length it would be another one."""
        email = clean_text(claims.get("email"))
        return email if len(email) <= MAX_EMAIL else ""

    def email_field(self) -> str | None:
        """Give the name of the user model's e-mail field, or ``None`` if it has none."""
        name = str(getattr(self.UserModel, "EMAIL_FIELD", "email"))
        return name if self.has_field(name) else None

    def has_field(self, name: str) -> bool:
        """Tell whether the user model has a column of that name."""
        try:
            return bool(self.UserModel._meta.get_field(name).concrete)
        except FieldDoesNotExist:
            return False

    def profile_fields(self, claims: dict[str, Any]) -> dict[str, Any]:
        """Give first and last name for the fields that the user model has."""
        pairs = (("first_name", "given_name"), ("last_name", "family_name"))
        values = {}
        for name, claim in pairs:
            if self.has_field(name):
                most = getattr(self.UserModel._meta.get_field(name), "max_length", None) or MAX_CLAIM
                values[name] = clean_text(claims.get(claim), most=most)
        return values

    def is_taken(self, field: str, text: str) -> bool:
        """Tell whether a user has that text, in any letter case."""
        return self.users().filter(**{f"{field}__iexact": text}).exists()

    def is_username_taken(self, field: str, username: str) -> bool:
        """
        Tell whether a user has that name. Override to compare in any letter case.

        Default: as written, and in the ways that it is commonly written, because that uses the column's
        index. For any letter case, most databases would read through all users at each first sign-in.
        """
        ways = {way(username) for way in (str, str.lower, str.upper, str.capitalize, str.title)}
        return bool(self.users().filter(**{f"{field}__in": ways}).exists())

    def explain_conflict(self, claims: dict[str, Any]) -> None:
        """
        Say which claim the database would not take twice, as far as that can be known.

        A model's constraints can be of any kind (``UniqueConstraint(Lower("email"))``): they are met, not
        read.

        Raises:
            LoginRefused: ``email_taken``.
        """
        field, email = self.email_field(), self.email(claims)
        if field and email and self.is_taken(field, email):
            raise LoginRefused("A user with this e-mail address exists.", code="email_taken")

    @staticmethod
    def is_privileged(user: Any) -> bool:
        """Tell whether *user* is staff or a superuser: never joined by e-mail alone."""
        return bool(getattr(user, "is_staff", False) or getattr(user, "is_superuser", False))

    # The parent's own way through the protocol: closed, so that it can't become a second, weaker one.

    def _closed(self, *args: object, **kwargs: object) -> NoReturn:
        raise SuspiciousOperation("Spatio tokens are judged in spatio_django.oidc only.")

    get_or_create_user = _closed
    get_payload_data = _closed
    get_token = _closed
    get_userinfo = _closed
    raise_token_response_error = _closed
    retrieve_matching_jwk = _closed
    store_tokens = _closed
    verify_token = _closed
    _verify_jws = _closed


def configured() -> tuple[str, SpatioBackend]:
    """
    Give the configured :class:`SpatioBackend`, or the subclass of it that the site uses, and its path.

    Raises:
        ConfigurationError: ``backend_missing``, also if one before it can't be imported.
    """
    for path in settings.AUTHENTICATION_BACKENDS:
        try:
            kind = import_string(path)
        except ImportError as error:
            raise ConfigurationError(
                f"{path} in AUTHENTICATION_BACKENDS can't be imported: {error}", code="backend_missing"
            ) from error
        if is_ours(kind):
            return path, kind()
    raise ConfigurationError(
        "Add spatio_django.backends.SpatioBackend to AUTHENTICATION_BACKENDS.", code="backend_missing"
    )


def is_ours(kind: Any) -> bool:
    """Tell whether *kind*, an authentication backend's class, is :class:`SpatioBackend` or one made of it."""
    return isinstance(kind, type) and issubclass(kind, SpatioBackend)


def takes_passwords() -> bool:
    """Tell whether there is another backend than ours; only by asking it could one know what it takes."""
    return not all(is_ours(import_string(path)) for path in settings.AUTHENTICATION_BACKENDS)
