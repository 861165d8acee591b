"""Who this site is at the provider: the registration in force, its redirect URIs, and whether it fits."""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, cast
from urllib.parse import urlsplit

from django.conf import settings
from django.http.request import split_domain_port, validate_host
from django.urls import get_script_prefix, reverse, set_script_prefix

from spatio_django.conf import conf
from spatio_django.exceptions import ConfigurationError, Undecryptable
from spatio_django.models import SpatioClient, authoritative
from spatio_django.oidc.registration import AUTH_METHODS
from spatio_django.oidc.secret import Secret

if TYPE_CHECKING:
    from spatio_django.oidc.client import ClientCredentials
    from spatio_django.oidc.registration import AuthMethod

#: What the provider takes (the contract, section 5).
MAX_REDIRECT_URIS = 10
#: Seconds before a client secret expires in which a check says so.
EXPIRES_SOON = 14 * 24 * 3600.0
#: Hosts that a site in development answers to although ``ALLOWED_HOSTS`` is empty, as Django does.
DEBUG_HOSTS = [".localhost", "127.0.0.1", "[::1]"]

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
    """Give the client that the settings name, as a row that is not in the database, or ``None``."""
    if not conf.SPATIO_CLIENT_ID:
        return None
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

    Raises:
        ConfigurationError: ``not_registered``, or ``undecryptable`` when the row was written under a key
            that this site no longer has.
    """
    row = in_force()
    if row is None:
        raise ConfigurationError(
            "This site is not registered at Spatio: run `manage.py spatio_register --base-url https://…`.",
            code="not_registered",
            issuer=conf.SPATIO_ISSUER,
        )
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


# Whether it fits


@dataclass(frozen=True, slots=True)
class Misfit:
    """
    Why sign-in will not work as registered, or not for long.

    Attributes:
        code: Short and stable.
        message: A sentence.
        hint: The fix, likewise.
        lost: Whether the client can't authenticate any more, so that nobody signs in.
    """

    code: str
    message: str
    hint: str
    lost: bool = False


def misfits(row: SpatioClient, *, now: float) -> Iterator[Misfit]:
    """
    Compare the registration *row* with the site: its settings and its URLconf. Calls nobody.

    Whoever tells an operator whether the registration fits asks here: ``spatio_register`` and the system
    checks.

    Args:
        now: Seconds since the epoch.

    Raises:
        ConfigurationError: ``base_url``, if ``SPATIO_BASE_URL`` is no origin.
    """
    yield from _misfits_of_addresses(row)
    # As they go over the wire, where a space separates them.
    wanted = " ".join(conf.SPATIO_SCOPES).split()
    if row.scope and (missing := [name for name in wanted if name not in row.scope.split()]):
        yield Misfit(
            "scope",
            f"SPATIO_SCOPES asks for {' '.join(missing)}, which is not registered.",
            f"Take out what is not needed, or: {how_to_mend(row)}",
        )
    yield from _misfits_of_secret(row, now)


def _misfits_of_addresses(row: SpatioClient) -> Iterator[Misfit]:
    uris = uris_of(row)
    path = callback_path()
    if strays := [uri for uri in uris if path_of(uri) != path]:
        yield Misfit(
            "callback",
            f"Registered is {', '.join(strays)}, but the callback is at {path} in the URLconf.",
            f"Include the addresses under the old prefix again, or: {how_to_mend(row)}",
        )
    if conf.SPATIO_BASE_URL:
        # The hosts are left alone: the browser is led there whatever Host a proxy makes of it.
        (uri,) = redirect_uris([conf.SPATIO_BASE_URL])
        # By origin: whether the path fits was said above.
        if uris and not any(each.startswith(uri.removesuffix(path) + "/") for each in uris):
            yield Misfit(
                "base_url",
                f"{uri} (SPATIO_BASE_URL) is not registered: Spatio knows {', '.join(uris)}.",
                f"Correct SPATIO_BASE_URL, or: {how_to_mend(row, [*uris, uri])}",
            )
        return
    hosts = list(dict.fromkeys(host_of(uri) for uri in uris))
    allowed = _allowed_hosts()
    if hosts and not any(validate_host(host, allowed) for host in hosts):
        own = ["http://localhost:8000"] if allowed is DEBUG_HOSTS else [f"https://{host}" for host in allowed]
        yield Misfit(
            "host",
            f"ALLOWED_HOSTS has none of the registered hosts: {', '.join(hosts)}.",
            f"ALLOWED_HOSTS = {hosts!r}, or register the host that it has: "
            f"{how_to_mend(row, [*uris, *filter(as_origin, own)])}",
        )
    if not (uris or is_stored(row)):
        yield Misfit(
            "redirect_uris",
            "SPATIO_REDIRECT_URIS does not say what SPATIO_CLIENT_ID is registered with: the redirect "
            "URI is what each request and its Host header make it.",
            "Set SPATIO_REDIRECT_URIS to the registered ones, or SPATIO_BASE_URL to the one origin.",
        )


def _misfits_of_secret(row: SpatioClient, now: float) -> Iterator[Misfit]:
    if row.auth_method not in AUTH_METHODS:
        yield unknown_method(row.auth_method)
        return
    try:
        has_secret = bool(row.client_secret)
    except Undecryptable:
        yield Misfit(
            "undecryptable",
            "The client secret was encrypted under a key that is gone.",
            "Bring the key back (SPATIO_ENCRYPTION_KEYS, SECRET_KEY_FALLBACKS), or: "
            f"{how_to_mend(row, again=True)}",
            lost=True,
        )
        return
    if not has_secret and row.auth_method != "none":
        anew = how_to_mend(row, again=True)
        yield Misfit(
            "client_secret",
            f"SPATIO_CLIENT_AUTH_METHOD is {row.auth_method!r}, which needs a secret, and there is none.",
            anew if is_stored(row) else f"Set SPATIO_CLIENT_SECRET, or: {anew}",
            lost=True,
        )
    expires_at = row.client_secret_expires_at
    if expires_at is not None and expires_at < now + EXPIRES_SOON:
        verb = "expired" if expires_at <= now else "expires"
        yield Misfit(
            "client_secret_expires_at",
            f"The client secret {verb} on {datetime.fromtimestamp(expires_at, tz=UTC):%Y-%m-%d %H:%M} UTC.",
            how_to_mend(row, again=True),
            lost=expires_at <= now,
        )


def unknown_method(name: str) -> Misfit:
    """Say that *name* is no way to authenticate that we know."""
    return Misfit(
        "auth_method",
        f"SPATIO_CLIENT_AUTH_METHOD can't be {name!r}.",
        f"Set it as the client was registered: {', '.join(map(repr, AUTH_METHODS))}.",
    )


def how_to_mend(row: SpatioClient, urls: Iterable[str] | None = None, *, again: bool = False) -> str:
    """
    Give the command that puts the registration *row* right, where that one is kept.

    Args:
        urls: Whose origins to register. Default: the registered ones.
        again: A change of the registration is not enough, or can't be asked for.
    """
    option = "--update" if row.registration_client_uri and not again else "--force"
    # What the settings name is not replaced by what is put into the database.
    place = [] if is_stored(row) else ["--env-file .env"]
    return command(uris_of(row) if urls is None else urls, option, *place)


def command(urls: Iterable[str], *options: str) -> str:
    """Give the command that registers the origins of *urls*; without any, those of an example."""
    parts = [urlsplit(url) for url in urls if host_of(url)]
    origins = dict.fromkeys(f"{part.scheme}://{part.netloc}" for part in parts) or ["https://example.com"]
    return " ".join(
        ["python manage.py spatio_register", *(f"--base-url {origin}" for origin in origins), *options]
    )


# What a row says, whoever wrote it


def is_stored(row: SpatioClient) -> bool:
    """Tell whether *row* is in the database; else it is what the settings, or a file for them, say."""
    return bool(row.pk)


def uris_of(row: SpatioClient) -> list[str]:
    """Give the redirect URIs of *row*: a list, if nobody else wrote into that column."""
    uris: object = row.redirect_uris
    return [uri for uri in uris if isinstance(uri, str)] if isinstance(uris, list) else []


def host_of(url: str) -> str:
    """Give the host of *url* as Django compares it; empty if there is none."""
    try:
        return split_domain_port(urlsplit(url).netloc)[0]
    except ValueError:
        return ""


def path_of(url: str) -> str:
    """Give the path of *url*; empty if there is none."""
    try:
        return urlsplit(url).path
    except ValueError:
        return ""


def _allowed_hosts() -> list[str]:
    return list(settings.ALLOWED_HOSTS or ()) or (DEBUG_HOSTS if settings.DEBUG else [])
