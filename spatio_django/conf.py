"""Typed, lazy view of the ``SPATIO_*`` settings; nothing else reads them."""

from collections.abc import Iterable
from typing import Any

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured


class Settings:
    """
    The ``SPATIO_*`` settings, each a property whose docstring is its reference.

    Read on each access, so that ``override_settings`` works and importing this package never needs
    configured settings.
    """

    @property
    def SPATIO_ISSUER(self) -> str:
        """The provider's issuer, compared character by character. Default ``https://api.spatio.app``."""
        return getattr(settings, "SPATIO_ISSUER", "https://api.spatio.app")

    @property
    def SPATIO_CLIENT_ID(self) -> str:
        """Client id. Default: the registration in the database. Setting it makes the row unused."""
        return getattr(settings, "SPATIO_CLIENT_ID", None) or ""

    @property
    def SPATIO_CLIENT_SECRET(self) -> str:
        """Client secret that belongs to ``SPATIO_CLIENT_ID``. Default: none, a public client."""
        return getattr(settings, "SPATIO_CLIENT_SECRET", None) or ""

    @property
    def SPATIO_CLIENT_AUTH_METHOD(self) -> str:
        """
        How the client authenticates: ``client_secret_basic``, ``client_secret_post`` or ``none``.

        Default: ``client_secret_basic`` with a secret, ``none`` without.
        """
        default = "client_secret_basic" if self.SPATIO_CLIENT_SECRET else "none"
        return self.chosen_auth_method() or default

    def chosen_auth_method(self) -> str | None:
        """Give ``SPATIO_CLIENT_AUTH_METHOD`` if the site has set it: then it is what to register for, too."""
        return getattr(settings, "SPATIO_CLIENT_AUTH_METHOD", None) or None

    @property
    def SPATIO_REDIRECT_URIS(self) -> tuple[str, ...]:
        """
        The redirect URIs that ``SPATIO_CLIENT_ID`` is registered with, as a list or separated by commas.

        Default: none known; the redirect URI is then made from ``SPATIO_BASE_URL``, or from the request.
        """
        value = getattr(settings, "SPATIO_REDIRECT_URIS", None) or ()
        return tuple(filter(None, map(str.strip, value.split(",") if isinstance(value, str) else value)))

    @property
    def SPATIO_SCOPES(self) -> tuple[str, ...]:
        """Scopes asked for at sign-in and registration. ``openid`` is always there."""
        return tuple(dict.fromkeys(("openid", *_texts("SPATIO_SCOPES", ("openid", "profile", "email")))))

    @property
    def SPATIO_BASE_URL(self) -> str:
        """
        Origin of the redirect URI, such as ``https://example.com``: no path, which the URLconf adds.

        Default: none; the registered redirect URI whose host is the request's.
        """
        return getattr(settings, "SPATIO_BASE_URL", None) or ""

    @property
    def SPATIO_ENCRYPTION_KEYS(self) -> tuple[str, ...]:
        """
        Keys for tokens and pending logins: the first encrypts, all decrypt.

        Default: derived from ``SECRET_KEY`` and ``SECRET_KEY_FALLBACKS``; those go on decrypting when this
        is set.
        """
        return _texts("SPATIO_ENCRYPTION_KEYS", ())

    @property
    def SPATIO_HTTP_TIMEOUT(self) -> float:
        """Seconds for one whole call to the provider, first byte to last. Default 5."""
        return float(getattr(settings, "SPATIO_HTTP_TIMEOUT", 5.0))

    @property
    def SPATIO_HTTP_PROXY(self) -> str | None:
        """URL of the proxy for calls to the provider. Default none; the environment's is not read."""
        return getattr(settings, "SPATIO_HTTP_PROXY", None)

    @property
    def SPATIO_API_ORIGINS(self) -> tuple[str, ...]:
        """
        Origins that ``request.spatio.http`` may send the access token to, such as ``https://api.spatio.app``.

        Default: the issuer's.
        """
        return _texts("SPATIO_API_ORIGINS", (self.SPATIO_ISSUER,))

    @property
    def SPATIO_MAX_STALE(self) -> float:
        """
        Seconds that a session outlives its access token while Spatio is down. Default 28800, 8 hours.

        After that its requests are anonymous, until Spatio is back. 0: as soon as the token has expired.
        """
        return float(getattr(settings, "SPATIO_MAX_STALE", 28_800))

    @property
    def SPATIO_BASE_TEMPLATE(self) -> str:
        """The template that our pages extend. Default ``spatio_django/base.html``."""
        return getattr(settings, "SPATIO_BASE_TEMPLATE", "spatio_django/base.html")

    @property
    def SPATIO_CREATE_USERS(self) -> bool:
        """Whether a first sign-in creates a Django user. Default ``True``."""
        return bool(getattr(settings, "SPATIO_CREATE_USERS", True))

    @property
    def SPATIO_LINK_VERIFIED_EMAIL(self) -> bool:
        """
        Whether a first sign-in joins the one existing user with the same, verified e-mail address.

        Never staff or superusers. Default ``False``: an address proves less than an account.
        """
        return bool(getattr(settings, "SPATIO_LINK_VERIFIED_EMAIL", False))


def _texts(name: str, default: tuple[str, ...]) -> tuple[str, ...]:
    """Read a list of texts; a single one would be taken apart into its letters. It is not shown: see keys."""
    value: object = getattr(settings, name, default)
    if isinstance(value, str | bytes) or not isinstance(value, Iterable):
        raise ImproperlyConfigured(f"{name} must be a list of texts, and is of type {type(value).__name__}.")
    return tuple(value)


#: Their names.
NAMES = frozenset(name for name in vars(Settings) if name.startswith("SPATIO_"))

conf = Settings()


def get_settings(attr: str, *default: Any) -> Any:
    """
    Stand in for mozilla-django-oidc's reader of settings, on every class of ours that inherits from it.

    No ``OIDC_*`` setting is ever read: a site may use them for another provider, whose endpoints and
    secrets must not mix with Spatio's. Django's own (``LOGIN_REDIRECT_URL``...) are.
    """
    if not attr.startswith("OIDC_") and hasattr(settings, attr):
        return getattr(settings, attr)
    if default:
        return default[0]
    raise ImproperlyConfigured(f"Setting {attr} not found")
