"""Who this site is at the provider: the registration in force, and making a new one."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast
from urllib.parse import urlsplit

from django.urls import reverse

from spatio_django.conf import conf
from spatio_django.exceptions import ConfigurationError
from spatio_django.models import SpatioClient, authoritative
from spatio_django.oidc.registration import AUTH_METHODS, ClientMetadata
from spatio_django.oidc.secret import Secret
from spatio_django.provider import get_client

if TYPE_CHECKING:
    from spatio_django.oidc.client import ClientCredentials
    from spatio_django.oidc.registration import AuthMethod

#: What the provider takes (the contract, section 5).
MAX_REDIRECT_URIS = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Registration:
    """
    The client this site acts as.

    Attributes:
        redirect_uris: As registered; empty when the client comes from the settings, which don't say.
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


def current() -> Registration:
    """
    Give the registration in force: the settings, or else what ``spatio_register`` stored.

    Raises:
        ConfigurationError: ``not_registered``, or ``undecryptable`` when the row was written under a key
            that this site no longer has.
    """
    if conf.SPATIO_CLIENT_ID:
        return Registration(
            client_id=conf.SPATIO_CLIENT_ID,
            client_secret=Secret(conf.SPATIO_CLIENT_SECRET) if conf.SPATIO_CLIENT_SECRET else None,
            auth_method=known_method(conf.SPATIO_CLIENT_AUTH_METHOD),
            redirect_uris=(),
        )
    row = stored()
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


def redirect_uris(base_urls: Iterable[str]) -> tuple[str, ...]:
    """
    Give the redirect URI of each base URL, from the URLconf.

    Args:
        base_urls: Origins such as ``https://example.com``; the URLconf adds the path, and a script prefix.

    Raises:
        ConfigurationError: ``base_url`` for anything but an http(s) origin, or none, or too many.
    """
    path = reverse("spatio:callback")
    found = []
    for base_url in base_urls:
        if not is_origin(base_url):
            raise ConfigurationError(
                f"{base_url!r} is no base URL: write it like https://example.com, without a path.",
                code="base_url",
            )
        found.append(base_url.rstrip("/") + path)
    if not found:
        raise ConfigurationError(
            "Say where the site is reached: --base-url https://example.com (or set SPATIO_BASE_URL).",
            code="base_url",
        )
    if len(found) > MAX_REDIRECT_URIS:
        raise ConfigurationError(f"Spatio takes {MAX_REDIRECT_URIS} redirect URIs at most.", code="base_url")
    return tuple(dict.fromkeys(found))


def is_origin(url: str) -> bool:
    """Tell whether *url* is http or https, a host, perhaps a port, and nothing more."""
    try:
        parts = urlsplit(url)
        port_is_sane = parts.port != 0
    except ValueError:
        return False
    rest = parts._replace(scheme="", netloc="").geturl()
    return parts.scheme in {"http", "https"} and bool(parts.hostname) and port_is_sane and rest in {"", "/"}


def register(uris: tuple[str, ...], *, client_name: str) -> SpatioClient:
    """
    Register this site as a confidential client and store what comes back.

    Scopes are asked for by name, since Spatio's default is ``read:*``, and so is the authentication method,
    since the default is a public client.

    Args:
        uris: Redirect URIs.
        client_name: What people read on the consent page.

    Raises:
        SpatioError: Nothing was stored.

    RFC 7591 §3.
    """
    answer = get_client().register(
        ClientMetadata(
            redirect_uris=uris,
            client_name=client_name,
            scope=conf.SPATIO_SCOPES,
            token_endpoint_auth_method="client_secret_basic",  # noqa: S106 - the name of a method
        )
    )
    row = SpatioClient(
        issuer=conf.SPATIO_ISSUER,
        client_id=answer.client_id,
        client_name=answer.client_name,
        auth_method=answer.token_endpoint_auth_method,
        redirect_uris=list(answer.redirect_uris),
        scope=" ".join(answer.scope),
        registration_client_uri=answer.registration_client_uri or "",
    )
    row.client_secret = answer.client_secret
    row.registration_access_token = answer.registration_access_token
    row.save(force_insert=True)
    return row
