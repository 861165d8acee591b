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
        distributions: Whose versions the report names.
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
    distributions: tuple[str, ...] = ()


def spatio(issuer: str) -> dict[str, Any]:
    """Give the README's settings; the registration is in the database, as ``spatio_register`` puts it."""
    return {"SPATIO_ISSUER": issuer, "LOGIN_URL": "spatio:login"}


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
    "distributions": ("spatio-django",),
}

SITES = {
    site.name: site
    for site in (
        Site(name="minimum", asks_userinfo=False, **_MINIMUM),
        Site(name="minimum_userinfo", tells_all=False, asks_userinfo=True, **_MINIMUM),
        Site(name="spatio", asks_userinfo=False, **_SPATIO),
        Site(name="spatio_userinfo", tells_all=False, asks_userinfo=True, **_SPATIO),
    )
}


def django_settings(
    site: Site | None, *, issuer: str, database: dict[str, Any], debug: bool = False
) -> dict[str, Any]:
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
        "DEBUG": debug,
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


#: The client, for the settings of the others.
CLIENT = (people.CLIENT_ID, people.CLIENT_SECRET)
