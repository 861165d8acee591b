"""
Making and changing the registration.

What is wanted, what differs from it, asking the provider, and keeping the answer in the database or a file.
"""

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlsplit

from django.db import DatabaseError, router, transaction

from spatio_django import registration
from spatio_django.conf import conf
from spatio_django.env_file import EnvFile
from spatio_django.exceptions import ConfigurationError, ProtocolViolation
from spatio_django.models import SpatioClient, authoritative
from spatio_django.oidc.authorization import SCOPE_NAME
from spatio_django.oidc.registration import (
    MAX_NAME,
    MAX_TIME,
    URI_MEMBERS,
    AuthMethod,
    ClientInformation,
    ClientMetadata,
    Management,
)
from spatio_django.oidc.secret import Secret
from spatio_django.oidc.strict_json import parse_object
from spatio_django.oidc.urls import require_safe_url
from spatio_django.provider import get_client

Keep = Callable[[SpatioClient], None]


# What is wanted


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """
    What an operator said; ``None``, or nothing, where they said nothing.

    Attributes:
        base_urls: Origins, see :func:`spatio_django.registration.redirect_uris`.
        scope: Names separated by spaces.
        public: Be a client without a secret.
        uris: Of ``client_uri`` and its kin, by name; an empty text takes one away.
    """

    base_urls: tuple[str, ...] = ()
    client_name: str | None = None
    scope: str | None = None
    public: bool | None = None
    uris: Mapping[str, str | None] = field(default_factory=dict)


def wanted(wish: Wish, known: SpatioClient | None) -> ClientMetadata:
    """
    Give the registration that the site should have.

    What the wish leaves open stays as it was asked for before, and what the settings need is added.

    Raises:
        ConfigurationError: ``base_url``, ``client_name``, ``scope``, ``auth_method`` or ``client_uri``.
    """
    before = known.request if known else {}
    uris = registration.redirect_uris(wish.base_urls or _base_urls(before))
    return ClientMetadata(
        redirect_uris=uris,
        client_name=_name(wish, before, uris),
        scope=_scope(wish, before),
        token_endpoint_auth_method=_auth_method(wish, before),
        **{member: _uri(member, wish, before) for member in URI_MEMBERS},
    )


def _base_urls(before: Mapping[str, Any]) -> list[str]:
    """Give the origins that are registered, which keep their places, and the settings' one."""
    origins = [_origin(uri) for uri in before.get("redirect_uris", ())]
    return origins + ([conf.SPATIO_BASE_URL] if conf.SPATIO_BASE_URL else [])


def _origin(uri: str) -> str:
    parts = urlsplit(uri)
    return f"{parts.scheme}://{parts.netloc}"


def _name(wish: Wish, before: Mapping[str, Any], uris: tuple[str, ...]) -> str:
    name = wish.client_name
    if name is None:
        name = before.get("client_name", "")
        if not name or name in {urlsplit(uri).hostname for uri in before.get("redirect_uris", ())}:
            name = str(urlsplit(uris[0]).hostname)  # nobody chose that name, so it moves along
    if not name.strip() or not name.isprintable() or len(name) > MAX_NAME:
        raise ConfigurationError(
            f"A client name is 1 to {MAX_NAME} printable characters.", code="client_name"
        )
    return name


def _scope(wish: Wish, before: Mapping[str, Any]) -> tuple[str, ...]:
    said = before.get("scope", "") if wish.scope is None else wish.scope
    needed = conf.SPATIO_SCOPES if wish.scope is None else ("openid",)
    scope = tuple(dict.fromkeys((*needed, *said.split())))
    if strays := [name for name in scope if not SCOPE_NAME.fullmatch(name)]:
        raise ConfigurationError(f"{strays[0]!a} is no name of a scope.", code="scope")
    return scope


def _auth_method(wish: Wish, before: Mapping[str, Any]) -> AuthMethod:
    if wish.public:
        return "none"
    if chosen := conf.chosen_auth_method():
        return registration.known_method(chosen)
    usual = before.get("token_endpoint_auth_method", "client_secret_basic")
    return "client_secret_basic" if wish.public is False and usual == "none" else usual


def _uri(member: str, wish: Wish, before: Mapping[str, Any]) -> str | None:
    uri = wish.uris.get(member)
    if uri is None:
        return before.get(member)
    if not uri:
        return None
    try:
        return require_safe_url(uri, member=f"--{member.replace('_', '-')}")
    except ProtocolViolation as error:
        raise ConfigurationError(str(error), code="client_uri") from None


# What differs


def differences(known: SpatioClient, request: ClientMetadata) -> list[str]:
    """Say how *request* differs from what was asked for before, a member to a line."""
    before, after = (
        {**document, "scope": document["scope"].split()} if "scope" in document else document
        for document in (known.request, request.to_document())
    )
    # Of a client that the settings name, and the like, not all is known.
    unknown = set() if known.requested else after.keys() - before.keys() - set(URI_MEMBERS)
    names = [name for name in dict.fromkeys((*after, *before)) if name not in unknown]
    lines = [(name, _difference(*map(_values, (before.get(name), after.get(name))))) for name in names]
    return [f"{name}: {line}" for name, line in lines if line]


def _values(value: Any) -> list[str]:
    """Give the values of a member, of which most have one."""
    return value if isinstance(value, list) else [] if value is None else [value]


def _difference(before: list[str], after: list[str]) -> str:
    """Say what is gone and what has come; nothing if only the order differs."""
    gone = [f"-{value}" for value in before if value not in after]
    return " ".join([*gone, *(f"+{value}" for value in after if value not in before)])


# Asking the provider, and keeping the answer


class Keeper(Protocol):
    """Where registrations are kept."""

    def known(self) -> SpatioClient | None:
        """
        Give the registration that is kept there for ``SPATIO_ISSUER``.

        Raises:
            ConfigurationError: ``database`` or ``env_file``.
        """

    def keeping(self) -> AbstractContextManager[Keep]:
        """
        Make sure that something can be kept, and give the function that does it.

        Raises:
            ConfigurationError: ``database`` or ``env_file``; also from the function.
        """


def register(
    request: ClientMetadata, keeper: Keeper, *, any_method: bool = False
) -> tuple[SpatioClient, list[str]]:
    """
    Register this site, and keep what comes back before anything else can fail.

    Args:
        any_method: Nobody chose how the client authenticates: let the provider's offer decide.

    Returns:
        The registration, and how it differs from what was asked for: see
        :meth:`~spatio_django.oidc.registration.ClientInformation.surprises`.

    Raises:
        SpatioError: Nothing was kept.

    RFC 7591 §3.
    """
    with keeper.keeping() as keep:
        if any_method:
            request = suited(request)
        answer = get_client().register(request)
        row = SpatioClient(issuer=conf.SPATIO_ISSUER, client_id=answer.client_id)
        fill(row, request, answer)
        keep(row)
    return row, answer.surprises(request)


def update(row: SpatioClient, request: ClientMetadata, keeper: Keeper) -> tuple[SpatioClient, list[str]]:
    """
    Ask the provider to change the registration *row*, and keep what comes back.

    Returns:
        As :func:`register`.

    Raises:
        ConfigurationError: ``not_manageable``, if the provider gave no address and token for that.
        SpatioError: Nothing was kept, but new secrets if the answer brought any.

    RFC 7592 §2.2.
    """
    token = row.registration_access_token
    if not row.registration_client_uri or token is None:
        raise ConfigurationError(
            "Spatio gave no way to change this registration; --force makes a new one.", code="not_manageable"
        )
    current = Management(
        client_id=row.client_id,
        client_secret=row.client_secret,
        client_secret_expires_at=row.client_secret_expires_at,
        uri=row.registration_client_uri,
        access_token=token,
    )
    with keeper.keeping() as keep:

        def salvage(left: Management) -> None:
            if left != current:
                row.client_secret, row.registration_access_token = left.client_secret, left.access_token
                keep(row)

        answer = get_client().update_registration(request, current, keep=salvage)
        fill(row, request, answer)
        keep(row)
    return row, answer.surprises(request)


def fill(row: SpatioClient, request: ClientMetadata, answer: ClientInformation) -> None:
    """Put *answer* into *row*. What is shown once, and not again, stays."""
    row.client_name = answer.client_name
    row.auth_method = answer.token_endpoint_auth_method
    row.redirect_uris = list(answer.redirect_uris)
    row.scope = " ".join(answer.scope)
    row.requested = request.to_document()
    row.client_secret = answer.client_secret
    row.client_secret_expires_at = answer.client_secret_expires_at
    row.registration_client_uri = answer.registration_client_uri or row.registration_client_uri
    row.registration_access_token = answer.registration_access_token or row.registration_access_token


def suited(request: ClientMetadata) -> ClientMetadata:
    """
    Give *request* with a way to authenticate that the provider has, if it says what it has.

    OpenID Connect Discovery 1.0 §3.
    """
    offered = get_client().metadata().token_endpoint_auth_methods_supported
    post: AuthMethod = "client_secret_post"
    if offered and request.token_endpoint_auth_method not in offered and post in offered:
        return replace(request, token_endpoint_auth_method=post)
    return request


class Database:
    """Keeps registrations in the table."""

    def known(self) -> SpatioClient | None:
        """Give the newest one."""
        with _told():
            return registration.stored()

    @contextmanager
    def keeping(self) -> Iterator[Keep]:
        """Try the table out first: what Spatio gives is shown once."""
        alias = router.db_for_write(SpatioClient)
        with _told(), transaction.atomic(using=alias):
            SpatioClient(issuer="", client_id="").save(using=alias)
            transaction.set_rollback(True, using=alias)

        def keep(row: SpatioClient) -> None:
            # Some providers know a site again, and give it the same client. The newest row counts, so it has
            # to be this one. Compared here too, as some databases take "Ab" for "aB".
            rows = authoritative(SpatioClient).filter(issuer=row.issuer, client_id=row.client_id)
            with _told(), transaction.atomic(using=alias):
                same = [other.pk for other in rows.exclude(pk=row.pk) if other.place == row.place]
                authoritative(SpatioClient).filter(pk__in=same).delete()
                row.save(using=alias)

        yield keep


@contextmanager
def _told() -> Iterator[None]:
    """Tell that the database refuses, without its own words, which may quote the row."""
    try:
        yield
    except DatabaseError as error:
        raise ConfigurationError(
            f"The database can't keep registrations ({type(error).__name__}): is it migrated, and writable?",
            code="database",
        ) from None


class Environment:
    """Keeps one registration as environment variables in a file, for the settings to read."""

    def __init__(self, path: Path) -> None:
        self._file = EnvFile(path, note="spatio_register")

    def known(self) -> SpatioClient | None:
        """Give the file's, unless it is another issuer's."""
        values, note = self._file.read()
        uris = tuple(filter(None, map(str.strip, values.get("SPATIO_REDIRECT_URIS", "").split(","))))
        if not all(values.get(name, "").isprintable() for name in _VARIABLES):
            raise self._wrong("a variable of ours with a character that can't be printed")
        if not all(map(registration.is_redirect_uri, uris)):
            raise self._wrong("an entry in SPATIO_REDIRECT_URIS that is no redirect URI")
        notes = _notes(note)
        issuer = notes.get("issuer", conf.SPATIO_ISSUER)
        if not values.get("SPATIO_CLIENT_ID") or issuer != conf.SPATIO_ISSUER:
            return None
        secret = values.get("SPATIO_CLIENT_SECRET")
        row = SpatioClient(
            issuer=issuer,
            client_id=values["SPATIO_CLIENT_ID"],
            auth_method=values.get("SPATIO_CLIENT_AUTH_METHOD", "client_secret_basic" if secret else "none"),
            redirect_uris=list(uris),
            scope=notes.get("scope", ""),
            requested=notes.get("request") or {},
            client_secret_expires_at=notes.get("client_secret_expires_at"),
            registration_client_uri=notes.get("registration_client_uri", ""),
        )
        row.client_secret = Secret(secret) if secret else None
        token = notes.get("registration_access_token")
        row.registration_access_token = Secret(token) if token else None
        return row

    @contextmanager
    def keeping(self) -> Iterator[Keep]:
        """Make the file's successor first."""
        with self._file.replacing() as write:

            def keep(row: SpatioClient) -> None:
                token = row.registration_access_token
                notes = {
                    "issuer": row.issuer,
                    "scope": row.scope,
                    "request": row.requested,
                    "client_secret_expires_at": row.client_secret_expires_at,
                    "registration_client_uri": row.registration_client_uri,
                    "registration_access_token": token.reveal() if token else None,
                }
                write(_variables(row), json.dumps(notes))

            yield keep

    def _wrong(self, what: str) -> ConfigurationError:
        """Give the error for what somebody wrote into the file. It is not shown: it may be a secret."""
        return ConfigurationError(f"{self._file.path} has {what}.", code="env_file")

    def variables(self, row: SpatioClient) -> list[str]:
        """Name those that the file has for *row*: a public client has no secret."""
        return [name for name, value in _variables(row).items() if value is not None]


_VARIABLES = (
    "SPATIO_CLIENT_ID",
    "SPATIO_CLIENT_SECRET",
    "SPATIO_CLIENT_AUTH_METHOD",
    "SPATIO_REDIRECT_URIS",
)


def _variables(row: SpatioClient) -> dict[str, str | None]:
    secret = row.client_secret
    return {
        "SPATIO_CLIENT_ID": row.client_id,
        "SPATIO_CLIENT_SECRET": secret.reveal() if secret else None,
        "SPATIO_CLIENT_AUTH_METHOD": row.auth_method,
        "SPATIO_REDIRECT_URIS": ",".join(row.redirect_uris),
    }


#: What our comment holds.
_NOTES = {
    "issuer": str,
    "scope": str,
    "request": dict,
    "client_secret_expires_at": int | None,
    "registration_client_uri": str,
    "registration_access_token": str | None,
}


def _notes(text: str) -> dict[str, Any]:
    """Read our comment; one that somebody wrote into counts for nothing."""
    notes = parse_object(text.encode("utf-8", "replace")) or {}
    return notes if _are_ours(notes) else {}


def _are_ours(notes: dict[str, Any]) -> bool:
    if not all(name in notes and isinstance(notes[name], kind) for name, kind in _NOTES.items()):
        return False
    if uri := notes["registration_client_uri"]:
        try:
            require_safe_url(uri, member="registration_client_uri")
        except ProtocolViolation:
            return False
    return 0 <= (notes["client_secret_expires_at"] or 0) < MAX_TIME and _is_request(notes["request"])


def _is_request(document: dict[str, Any]) -> bool:
    """Tell whether *document* is what :meth:`ClientMetadata.to_document` gives, or less."""
    lists = ("redirect_uris", "grant_types", "response_types")
    return all(
        isinstance(value, list) and all(isinstance(each, str) for each in value)
        if name in lists
        else isinstance(value, str)
        for name, value in document.items()
    ) and all(map(registration.is_redirect_uri, document.get("redirect_uris", ())))
