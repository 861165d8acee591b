"""
The sites: Django's own new project, and in each what signs people in, set up as its documentation says.

Only data here: which packages are imported is what some of the measurements are about.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from benchmarks import people

#: The address that browsers know every site by.
HOST = "site.example"
#: Where a sign-in ends.
WELCOME = "/welcome/"

DJANGOS_BACKEND = "django.contrib.auth.backends.ModelBackend"


def nothing(issuer: str) -> dict[str, Any]:
    """Give the settings of a site that needs none."""
    return {}


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """
    A site.

    Attributes:
        module: Under ``benchmarks.sites``: its URLconf, and how its accounts are made.
        login: The address that begins a sign-in.
        method: How a browser gets there; with POST it brings a CSRF cookie and its token, as from a form.
        apps: Added to ``INSTALLED_APPS``; likewise ``middleware`` and ``backends``.
        settings: Further settings, for an issuer.
        tells_all: Whether the ID token tells name and address, so that a site may do without userinfo.
        asks_userinfo: Whether a sign-in calls userinfo: which of the two minima does the same work.
        distribution: The package that signs people in.
    """

    name: str
    module: str
    login: str
    method: str = "GET"
    apps: tuple[str, ...] = ()
    middleware: tuple[str, ...] = ()
    backends: tuple[str, ...] = ()
    settings: Callable[[str], dict[str, Any]] = field(default=nothing)
    tells_all: bool = True
    asks_userinfo: bool
    distribution: str | None = None


def spatio(issuer: str) -> dict[str, Any]:
    """Give the README's settings; the registration is in the database, as ``spatio_register`` puts it."""
    return {"SPATIO_ISSUER": issuer, "LOGIN_URL": "spatio:login"}


def authlib(issuer: str) -> dict[str, Any]:
    """Give the settings of its "Django OAuth client" page."""
    return {
        "AUTHLIB_OAUTH_CLIENTS": {
            "spatio": {
                "client_id": people.CLIENT_ID,
                "client_secret": people.CLIENT_SECRET,
                "server_metadata_url": f"{issuer}/.well-known/openid-configuration",
                "client_kwargs": {"scope": " ".join(people.SCOPES), "code_challenge_method": "S256"},
            }
        }
    }


def social(issuer: str) -> dict[str, Any]:
    """Give the settings of its page about OpenID Connect, with PKCE."""
    return {
        "SOCIAL_AUTH_OIDC_OIDC_ENDPOINT": issuer,
        "SOCIAL_AUTH_OIDC_KEY": people.CLIENT_ID,
        "SOCIAL_AUTH_OIDC_SECRET": people.CLIENT_SECRET,
        "SOCIAL_AUTH_OIDC_USE_PKCE": True,
    }


def mozilla(issuer: str) -> dict[str, Any]:
    """Give the settings of its quickstart, with PKCE and the algorithm of the provider."""
    return {
        "OIDC_RP_CLIENT_ID": people.CLIENT_ID,
        "OIDC_RP_CLIENT_SECRET": people.CLIENT_SECRET,
        "OIDC_OP_AUTHORIZATION_ENDPOINT": f"{issuer}/oauth2/authorize",
        "OIDC_OP_TOKEN_ENDPOINT": f"{issuer}/oauth2/token",
        "OIDC_OP_USER_ENDPOINT": f"{issuer}/oauth2/userinfo",
        "OIDC_OP_JWKS_ENDPOINT": f"{issuer}/oauth2/jwks",
        "OIDC_RP_SIGN_ALGO": "RS256",
        "OIDC_USE_PKCE": True,
    }


def allauth(issuer: str) -> dict[str, Any]:
    """Give the settings of its pages "Quickstart" and "OpenID Connect", with PKCE."""
    app = {
        "provider_id": "spatio",
        "name": "Spatio",
        "client_id": people.CLIENT_ID,
        "secret": people.CLIENT_SECRET,
        "settings": {"server_url": issuer},
    }
    return {"SOCIALACCOUNT_PROVIDERS": {"openid_connect": {"OAUTH_PKCE_ENABLED": True, "APPS": [app]}}}


_MINIMUM: dict[str, Any] = {
    "module": "minimum",
    "login": "/login/",
    "settings": lambda issuer: {"ISSUER": issuer},
}
_SPATIO: dict[str, Any] = {
    "module": "with_spatio",
    "login": "/spatio/login/",
    "apps": ("spatio_django",),
    "middleware": ("spatio_django.middleware.SpatioMiddleware",),
    "backends": ("spatio_django.backends.SpatioBackend",),
    "settings": spatio,
    "distribution": "spatio-django",
}

SITES = {
    site.name: site
    for site in (
        Site(name="minimum", asks_userinfo=False, **_MINIMUM),
        Site(name="minimum_userinfo", tells_all=False, asks_userinfo=True, **_MINIMUM),
        Site(name="spatio", asks_userinfo=False, **_SPATIO),
        Site(name="spatio_userinfo", tells_all=False, asks_userinfo=True, **_SPATIO),
        Site(
            name="authlib",
            module="with_authlib",
            login="/login/",
            settings=authlib,
            asks_userinfo=False,
            distribution="authlib",
        ),
        Site(
            name="social",
            module="with_social",
            login="/login/oidc/",
            method="POST",
            apps=("social_django",),
            backends=("social_core.backends.open_id_connect.OpenIdConnectAuth",),
            settings=social,
            asks_userinfo=True,
            distribution="social-auth-app-django",
        ),
        Site(
            name="mozilla",
            module="with_mozilla",
            login="/oidc/authenticate/",
            apps=("mozilla_django_oidc",),
            backends=("mozilla_django_oidc.auth.OIDCAuthenticationBackend",),
            settings=mozilla,
            asks_userinfo=True,
            distribution="mozilla-django-oidc",
        ),
        Site(
            name="allauth",
            module="with_allauth",
            login="/accounts/oidc/spatio/login/",
            method="POST",
            apps=(
                "allauth",
                "allauth.account",
                "allauth.socialaccount",
                "allauth.socialaccount.providers.openid_connect",
            ),
            middleware=("allauth.account.middleware.AccountMiddleware",),
            backends=("allauth.account.auth_backends.AuthenticationBackend",),
            settings=allauth,
            asks_userinfo=True,
            distribution="django-allauth",
        ),
    )
}


def installed() -> list[str]:
    """Give the names of the sites whose packages are there."""
    return [name for name, site in SITES.items() if site.distribution is None or is_there(site.distribution)]


def is_there(distribution: str) -> bool:
    """Tell whether a package is installed."""
    from importlib.metadata import PackageNotFoundError, version  # here: it imports much

    try:
        version(distribution)
    except PackageNotFoundError:
        return False
    return True


def django_settings(site: Site | None, *, issuer: str, database: dict[str, Any]) -> dict[str, Any]:
    """
    Give all settings of *site*: what ``startproject`` writes, and what the site adds.

    Args:
        site: ``None`` for the new project alone.
        database: Of ``DATABASES``.
    """
    site = site or Site(name="django", module="plain", login="/", asks_userinfo=False)
    return {
        "SECRET_KEY": "a key for measuring with, and for nothing else: " + "x" * 32,
        "ALLOWED_HOSTS": [HOST],
        "DEBUG": False,
        "DEBUG_PROPAGATE_EXCEPTIONS": True,  # a sign-in that fails says why
        "INSTALLED_APPS": [
            "django.contrib.admin",
            "django.contrib.auth",
            "django.contrib.contenttypes",
            "django.contrib.sessions",
            "django.contrib.messages",
            "django.contrib.staticfiles",
            *site.apps,
        ],
        "MIDDLEWARE": [
            "django.middleware.security.SecurityMiddleware",
            "django.contrib.sessions.middleware.SessionMiddleware",
            "django.middleware.common.CommonMiddleware",
            "django.middleware.csrf.CsrfViewMiddleware",
            "django.contrib.auth.middleware.AuthenticationMiddleware",
            "django.contrib.messages.middleware.MessageMiddleware",
            "django.middleware.clickjacking.XFrameOptionsMiddleware",
            *site.middleware,
        ],
        "ROOT_URLCONF": f"benchmarks.sites.{site.module}",
        "TEMPLATES": [
            {
                "BACKEND": "django.template.backends.django.DjangoTemplates",
                "APP_DIRS": True,
                "OPTIONS": {
                    "context_processors": [
                        "django.template.context_processors.request",
                        "django.contrib.auth.context_processors.auth",
                        "django.contrib.messages.context_processors.messages",
                    ]
                },
            }
        ],
        "DATABASES": {"default": database},
        "AUTHENTICATION_BACKENDS": [*site.backends, DJANGOS_BACKEND],
        "DEFAULT_AUTO_FIELD": "django.db.models.BigAutoField",
        "LOGIN_REDIRECT_URL": WELCOME,
        "STATIC_URL": "static/",
        "USE_TZ": True,
        # What a site on https turns on.
        "SESSION_COOKIE_SECURE": True,
        "CSRF_COOKIE_SECURE": True,
        **site.settings(issuer),
    }


def sqlite(path: str) -> dict[str, Any]:
    """Give a database in a file, as Django's documentation advises for sites that are used."""
    return {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": path,
        "CONN_MAX_AGE": None,
        "OPTIONS": {
            "transaction_mode": "IMMEDIATE",
            "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL",
        },
    }


def postgresql(name: str, *, host: str, user: str, password: str) -> dict[str, Any]:
    """Give a database of a PostgreSQL server."""
    return {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": name,
        "HOST": host,
        "USER": user,
        "PASSWORD": password,
        "CONN_MAX_AGE": None,
    }
