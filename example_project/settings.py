"""Settings of the example: what every Django site has, and the quickstart. For development only."""

import os
from pathlib import Path

BASE_DIR = Path(__file__).resolve().parent

# What every Django site has

SECRET_KEY = "not a secret: this site runs on your own machine"  # noqa: S105
DEBUG = True
ROOT_URLCONF = "urls"
STATIC_URL = "static/"
TIME_ZONE = "UTC"
USE_TZ = True

INSTALLED_APPS = [
    "pages",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.staticfiles",
]
MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "pages.middleware.content_security_policy",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
            ],
        },
    },
]
DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": os.environ.get("EXAMPLE_DATABASE", BASE_DIR / "db.sqlite3"),
        "OPTIONS": {"transaction_mode": "IMMEDIATE"},
    }
}

# The quickstart

INSTALLED_APPS += ["spatio_django"]
AUTHENTICATION_BACKENDS = [
    "spatio_django.backends.SpatioBackend",
    "django.contrib.auth.backends.ModelBackend",
]
MIDDLEWARE += ["spatio_django.middleware.SpatioMiddleware"]  # after AuthenticationMiddleware
LOGIN_URL = "spatio:login"

# What a site decides for itself

LOGIN_REDIRECT_URL = "me"
LOGOUT_REDIRECT_URL = "front"
SPATIO_BASE_TEMPLATE = "pages/base.html"
# The development provider that `manage.py demo` starts, unless you say otherwise.
SPATIO_ISSUER = os.environ.get("SPATIO_ISSUER", "http://127.0.0.1:8765")
