"""Whether the registration fits the site, and the command that mends it."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from urllib.parse import urlsplit

from django.conf import settings
from django.http.request import split_domain_port, validate_host

from spatio_django.conf import conf
from spatio_django.exceptions import Undecryptable
from spatio_django.models import SpatioClient
from spatio_django.oidc.registration import AUTH_METHODS
from spatio_django.registration import as_origin, callback_path, redirect_uris

#: Seconds before a client secret expires in which a check says so.
EXPIRES_SOON = 14 * 24 * 3600.0
#: Hosts that a site in development answers to although ``ALLOWED_HOSTS`` is empty, as Django does.
DEBUG_HOSTS = [".localhost", "127.0.0.1", "[::1]"]


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
