"""Who this site is at the provider: the registration in force, and its redirect URIs."""

import re
import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast
from urllib.parse import urlsplit

from django.conf import settings
from django.db import connections, router
from django.urls import get_script_prefix, reverse, set_script_prefix

from spatio_django.conf import conf
from spatio_django.exceptions import ConfigurationError
from spatio_django.models import SpatioClient, authoritative
from spatio_django.oidc.registration import AUTH_METHODS
from spatio_django.oidc.secret import Secret

if TYPE_CHECKING:
    from spatio_django.oidc.client import ClientCredentials
    from spatio_django.oidc.registration import AuthMethod

#: What the provider takes (the contract, section 5).
MAX_REDIRECT_URIS = 10
#: Seconds for which a process goes on with the stored registration that it read.
KNOWN_FOR = 10.0

_DEFAULT_PORTS = {"http": 80, "https": 443}
_HOST = re.compile(r"[a-z0-9_](?:[a-z0-9_.-]*[a-z0-9_])?|[0-9a-f:.]+")


@dataclass(frozen=True, slots=True, kw_only=True)
class Registration:
    """
    The client this site acts as.

    Attributes:
        redirect_uris: As registered; empty when the client comes from the settings and these don't say.
    """

    client_id: str
    client_secret: Secret | None
    auth_method: "AuthMethod"
    redirect_uris: tuple[str, ...]

    @property
    def credentials(self) -> "ClientCredentials":
        """What the client authenticates with at the token endpoint."""
        from spatio_django.oidc.client import ClientCredentials

        return ClientCredentials(
            client_id=self.client_id, client_secret=self.client_secret, auth_method=self.auth_method
        )


def stored() -> SpatioClient | None:
    """Give the newest registration of the configured issuer in the database, or ``None``."""
    rows = authoritative(SpatioClient).filter(issuer=conf.SPATIO_ISSUER).order_by("-pk")
    # Compared here too: some databases take …/Tenant for …/tenant.
    return next((row for row in rows if row.issuer == conf.SPATIO_ISSUER), None)


def from_settings() -> SpatioClient | None:
    """
    Give the client that the settings name, as a row that is not in the database, or ``None``.

    Raises:
        ConfigurationError: ``redirect_uris``.
    """
    if not conf.SPATIO_CLIENT_ID:
        return None
    if not all(map(is_redirect_uri, conf.SPATIO_REDIRECT_URIS)):
        raise ConfigurationError(
            "SPATIO_REDIRECT_URIS has an entry that is no redirect URI.", code="redirect_uris"
        )
    row = SpatioClient(
        issuer=conf.SPATIO_ISSUER,
        client_id=conf.SPATIO_CLIENT_ID,
        auth_method=conf.SPATIO_CLIENT_AUTH_METHOD,
        redirect_uris=list(conf.SPATIO_REDIRECT_URIS),
    )
    row.client_secret = Secret(conf.SPATIO_CLIENT_SECRET) if conf.SPATIO_CLIENT_SECRET else None
    return row


def in_force() -> SpatioClient | None:
    """Give the registration that counts: the settings', or else the newest stored, or ``None``."""
    return from_settings() or stored()


def current() -> Registration:
    """
    Give the registration in force: the settings, or else what ``spatio_register`` stored.

    A process asks its database every :data:`KNOWN_FOR` seconds at most. What another process registers
    meanwhile may be missing, so :func:`of_client` and :func:`renewed` look again.

    Raises:
        ConfigurationError: ``not_registered``, ``auth_method`` or ``redirect_uris``.
        Undecryptable: The row was written under a key that this site no longer has.
    """
    known = None if conf.SPATIO_CLIENT_ID else _known.get(conf.SPATIO_ISSUER)
    if known is not None and time.monotonic() - known[0] < KNOWN_FOR:
        return known[1]
    row = in_force()
    if row is None:
        raise ConfigurationError(
            "This site is not registered at Spatio: run `manage.py spatio_register --base-url https://…`.",
            code="not_registered",
            issuer=conf.SPATIO_ISSUER,
        )
    found = as_registration(row)
    # Not what a transaction read: it may be rolled back.
    if row.pk and not connections[router.db_for_write(SpatioClient)].in_atomic_block:
        _known[conf.SPATIO_ISSUER] = (time.monotonic(), found)
    return found


#: By issuer: when the stored registration was read, on the monotonic clock, and what it was.
_known: dict[str, tuple[float, Registration]] = {}


def forget() -> None:
    """Ask the database again the next time."""
    _known.clear()


def of_client(client_id: str) -> Registration | None:
    """
    Give the registration that has that client id, even if the site has registered anew since.

    Raises:
        ConfigurationError, Undecryptable: As :func:`current`.
    """
    registered = current()
    return registered if registered.client_id == client_id else stored_client(client_id)


def renewed(registered: Registration) -> Registration | None:
    """
    Give *registered* as the database has it now, or ``None`` if nothing changed, or it is gone.

    For a client that the provider does not know by these credentials, or an address that it does not have:
    another process may have changed them.

    Raises:
        ConfigurationError, Undecryptable: As :func:`current`.
    """
    forget()
    found = of_client(registered.client_id)
    return None if found == registered else found


def stored_client(client_id: str) -> Registration | None:
    """Give the stored registration of the configured issuer that has that client id, or ``None``."""
    rows = authoritative(SpatioClient).filter(issuer=conf.SPATIO_ISSUER, client_id=client_id)
    # Compared here too: as in stored().
    same = (row for row in rows if (row.issuer, row.client_id) == (conf.SPATIO_ISSUER, client_id))
    row = next(same, None)
    return None if row is None else as_registration(row)


def as_registration(row: SpatioClient) -> Registration:
    """
    Give *row* with its secret opened.

    Raises:
        ConfigurationError: ``auth_method``.
        Undecryptable: The row was written under a key that this site no longer has.
    """
    return Registration(
        client_id=row.client_id,
        client_secret=row.client_secret,
        auth_method=known_method(row.auth_method),
        redirect_uris=tuple(row.redirect_uris),
    )


def known_method(name: str) -> "AuthMethod":
    """
    Give *name* if it is a way to authenticate that we know.

    Raises:
        ConfigurationError: ``auth_method``.
    """
    if name in AUTH_METHODS:
        return cast("AuthMethod", name)
    raise ConfigurationError(f"SPATIO_CLIENT_AUTH_METHOD can't be {name!r}.", code="auth_method")


# Redirect URIs


def redirect_uris(base_urls: Iterable[str]) -> tuple[str, ...]:
    """
    Give the redirect URI of each base URL, from the URLconf.

    Args:
        base_urls: Origins such as ``https://example.com``; the URLconf adds the path, and a script prefix.

    Raises:
        ConfigurationError: ``base_url`` for anything but an http(s) origin, or none, or too many.
    """
    path = callback_path()
    found = []
    for base_url in base_urls:
        origin = as_origin(base_url)
        if origin is None:
            raise ConfigurationError(
                f"{base_url!r} is no base URL: write it like https://example.com, without a path.",
                code="base_url",
            )
        found.append(origin + path)
    unique = tuple(dict.fromkeys(found))
    if not unique:
        raise ConfigurationError(
            "Say where the site is reached: --base-url https://example.com (or set SPATIO_BASE_URL).",
            code="base_url",
        )
    if len(unique) > MAX_REDIRECT_URIS:
        raise ConfigurationError(f"Spatio takes {MAX_REDIRECT_URIS} redirect URIs at most.", code="base_url")
    return unique


def callback_path() -> str:
    """
    Give the path of the callback, with the prefix that requests will have.

    ``FORCE_SCRIPT_NAME`` is put where commands begin, but not in other threads or under changed settings.
    """
    if settings.FORCE_SCRIPT_NAME is None:
        return reverse("spatio:callback")
    before = get_script_prefix()
    set_script_prefix(settings.FORCE_SCRIPT_NAME)
    try:
        return reverse("spatio:callback")
    finally:
        set_script_prefix(before)


def is_redirect_uri(uri: str) -> bool:
    """Tell whether *uri* is http(s), a host and a path, and so could be one that was registered."""
    try:
        parts = urlsplit(uri)
    except ValueError:
        return False
    has_origin = as_origin(f"{parts.scheme}://{parts.netloc}") is not None
    # By the text itself: urlsplit drops line breaks, a space before it, and an empty query or fragment.
    is_plain = uri.isprintable() and {" ", "?", "#"}.isdisjoint(uri)
    return has_origin and parts.path.startswith("/") and is_plain


def as_origin(url: str) -> str | None:
    """
    Give *url* as browsers write an origin, or ``None`` unless it is http or https, a host, perhaps a port.

    In lower case, with a foreign alphabet as Punycode and without the default port: so do browsers send the
    host by which the redirect URI is chosen. Letters of which Python makes others, and browsers don't, are
    refused: straße.example would become strasse.example, which is somebody else's.
    """
    try:
        parts = urlsplit(url)
        name = parts.hostname or ""
        host = name.encode("idna").decode()
        is_same = name.isascii() or host.encode().decode("idna") == name
        port = parts.port
    except ValueError:
        return None
    rest = parts._replace(scheme="", netloc="").geturl()
    if (
        parts.scheme not in _DEFAULT_PORTS
        or not _HOST.fullmatch(host)
        or not is_same
        or port == 0
        or "@" in parts.netloc
        or rest not in {"", "/"}
        or not url.isprintable()  # urlsplit drops line breaks, and an empty query
        or not {"?", "#"}.isdisjoint(url)
    ):
        return None
    authority = f"[{host}]" if ":" in host else host
    if port not in {None, _DEFAULT_PORTS[parts.scheme]}:
        authority += f":{port}"
    return f"{parts.scheme}://{authority}"
