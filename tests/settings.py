"""Settings of the site that the tests sign in to: the README's quickstart, and what tests need beside it."""

import os
from pathlib import Path
from tempfile import gettempdir
from typing import Any

SECRET_KEY = "not a secret: these settings serve the tests only"
ALLOWED_HOSTS = ["*"]
DEBUG = False
USE_TZ = True
ROOT_URLCONF = "tests.urls"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
STATIC_URL = "static/"

INSTALLED_APPS = [
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.messages",
    "django.contrib.sessions",
    "django.contrib.staticfiles",
    "spatio_django",
]
MIDDLEWARE = [
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.locale.LocaleMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "spatio_django.middleware.SpatioMiddleware",
]
AUTHENTICATION_BACKENDS = [
    "spatio_django.backends.SpatioBackend",
    "django.contrib.auth.backends.ModelBackend",
]
LOGIN_URL = "spatio:login"
LOGIN_REDIRECT_URL = "/me/"
LOGOUT_REDIRECT_URL = "/"
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]

TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [Path(__file__).parent / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ],
        },
    },
]

#: Which database the run uses: ``sqlite`` (default), ``postgresql`` or ``mariadb``.
_DATABASES: dict[str, dict[str, Any]] = {
    "sqlite": {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": ":memory:",
        # A file, because threads that share a database in memory lock each other out.
        "TEST": {"NAME": Path(gettempdir()) / f"spatio_tests_{os.getpid()}.sqlite3"},
        "OPTIONS": {"transaction_mode": "IMMEDIATE", "init_command": "PRAGMA synchronous=OFF"},
    },
    "postgresql": {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": "spatio_django",
        "USER": os.environ.get("PGUSER", "postgres"),
        "HOST": os.environ.get("PGHOST", "127.0.0.1"),
    },
    "mariadb": {
        "ENGINE": "django.db.backends.mysql",
        "NAME": "spatio_django",
        "USER": "root",
        "HOST": "127.0.0.1",
        "OPTIONS": {"charset": "utf8mb4"},
    },
}
DATABASES = {
    "default": _DATABASES[os.environ.get("SPATIO_TESTS_DATABASE", "sqlite")],
}
# Sites have more than one.
DATABASES["other"] = {**DATABASES["default"], "TEST": {"MIRROR": "default"}}
