"""``manage.py check``: each finding by one change to settings that give none."""

import ast
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.conf import global_settings
from django.conf.urls.i18n import i18n_patterns
from django.contrib.auth import get_user_model
from django.core.checks import CheckMessage, registry, run_checks
from django.db import connection, transaction
from django.http import HttpRequest
from django.test import override_settings
from django.urls import include, path, register_converter
from django.urls.converters import StringConverter
from django.utils import translation
from django.utils.functional import lazystr
from hypothesis import given
from hypothesis import strategies as st
from mozilla_django_oidc.auth import OIDCAuthenticationBackend
from mozilla_django_oidc.middleware import SessionRefresh

from spatio_django import checks
from spatio_django.backends import SpatioBackend
from spatio_django.checks.client import MISFITS
from spatio_django.checks.cookies import ATTRIBUTES
from spatio_django.checks.values import NUMBERS
from spatio_django.conf import Settings
from spatio_django.middleware import SpatioMiddleware
from spatio_django.models import SpatioClient
from spatio_django.oidc.secret import Secret
from spatio_django.testing import FakeSpatio
from spatio_django.urls import urlpatterns as spatio_urlpatterns
from spatio_django.views import LoginView

ROOT = Path(__file__).resolve().parent.parent
DOCS = (ROOT / "docs" / "checks.md").read_text()
NAMES = sorted(name for name, value in vars(Settings).items() if isinstance(value, property))

BACKENDS = ["spatio_django.backends.SpatioBackend", "django.contrib.auth.backends.ModelBackend"]
SESSION = "django.contrib.sessions.middleware.SessionMiddleware"
AUTHENTICATION = "django.contrib.auth.middleware.AuthenticationMiddleware"
LOGIN_REQUIRED = "django.contrib.auth.middleware.LoginRequiredMiddleware"
MESSAGES = "django.contrib.messages.middleware.MessageMiddleware"
OURS = "spatio_django.middleware.SpatioMiddleware"
MIDDLEWARE = [SESSION, AUTHENTICATION, MESSAGES, OURS]
KEY = "0123456789abcdef0123456789abcdef"


@pytest.fixture(autouse=True)
def language_of_commands() -> Iterator[None]:
    """Check in the site's language, as commands do, whatever a test before this one was asked in."""
    with translation.override(global_settings.LANGUAGE_CODE):
        yield


def found(*, deploy: bool = False) -> list[CheckMessage]:
    """Run the checks of this package."""
    return run_checks(tags=["spatio"], include_deployment_checks=deploy)


def ids(*, deploy: bool = False) -> list[str]:
    """Run the checks; give the ids of what they found."""
    return [str(message.id) for message in found(deploy=deploy)]


def register(**fields: Any) -> SpatioClient:
    """Store a registration as ``spatio_register`` does."""
    secret = fields.pop("client_secret", "hush")
    row = SpatioClient(
        **{
            "issuer": "https://api.spatio.app",
            "client_id": "client",
            "client_name": "Example",
            "auth_method": "client_secret_basic",
            "redirect_uris": ["https://example.com/spatio/callback/"],
            "scope": "openid profile email",
            **fields,
        }
    )
    row.client_secret = Secret("hush") if secret else None
    row.save()
    return row


def test_the_checks_are_registered_under_a_tag() -> None:
    """``manage.py check --tag spatio`` makes them all, and ``spatio_register`` those that it can't mend."""
    everything: set[Any] = {
        check
        for check in registry.registry.get_checks(include_deployment_checks=True)
        if "spatio" in check.tags
    }

    assert everything == {checks.check_site, checks.check_database, checks.check_for_deployment}
    assert {check for check in everything if "spatio_settings" in check.tags} == {checks.check_site}
    assert everything & registry.registry.deployment_checks == {checks.check_for_deployment}


# One change, one finding


class Another(SpatioBackend):
    """A subclass within the rules."""


class Closed(SpatioBackend):
    """A subclass that would go its own way through the protocol."""

    def get_token(self, payload: object) -> Any:  # type: ignore[override]  # the point of it
        """Never called."""

    def authenticate(self, request: HttpRequest | None, **kwargs: Any) -> Any:
        """Not to be overridden."""


class OldHooks(OIDCAuthenticationBackend):  # type: ignore[misc]  # the parent has no types
    """What a site had before."""

    def verify_token(self, token: object, **kwargs: object) -> Any:
        """Never called."""


class Inherited(OldHooks, SpatioBackend):  # type: ignore[misc]  # likewise
    """The same by inheritance."""


class OurMiddleware(SpatioMiddleware):
    """A subclass."""


class Refresh(SessionRefresh):  # type: ignore[misc]  # the parent has no types
    """A subclass that refreshes whom its parent does."""


class RefreshOthers(SessionRefresh):  # type: ignore[misc]  # the parent has no types
    """A subclass that leaves Spatio's sessions alone."""

    def is_refreshable_url(self, request: HttpRequest) -> Any:
        """Decide for itself."""


class Moody(StringConverter):
    """A part of a path that can't be read now."""

    def to_python(self, value: str) -> str:
        """Fail, as code of a site does that asks a service."""
        raise RuntimeError(value)


class LockedLogin(LoginView):
    """A login page that forgot to say that it is for guests."""

    def dispatch(self, request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
        """Lose the decorators."""


def page(request: HttpRequest) -> Any:
    """Be there."""


def here(name: str) -> str:
    """Give the path of something in this module."""
    return f"{__name__}.{name}"


register_converter(Moody, "moody")

INCLUDED = path("spatio/", include("spatio_django.urls"))
LOCKED = [path("login/", LockedLogin.as_view(), name="login"), *spatio_urlpatterns]
INCOMPLETE = [pattern for pattern in spatio_urlpatterns if pattern.name != "connect"]
NO_LOGOUT = [pattern for pattern in spatio_urlpatterns if pattern.name not in {"connect", "logout"}]

ONE_CHANGE = [
    # The backend
    ("E001", {"AUTHENTICATION_BACKENDS": BACKENDS[1:]}),
    ("E001", {"AUTHENTICATION_BACKENDS": []}),
    ("E001", {"AUTHENTICATION_BACKENDS": None}),
    ("E001", {"AUTHENTICATION_BACKENDS": BACKENDS[0]}),
    ("E001", {"AUTHENTICATION_BACKENDS": ["mysite.Backend", 5]}),
    ("E001", {"AUTHENTICATION_BACKENDS": [here("page"), here("OldHooks")]}),
    ("W002", {"AUTHENTICATION_BACKENDS": [*BACKENDS, here("Another")]}),
    ("W003", {"AUTHENTICATION_BACKENDS": [here("Closed")]}),
    ("W003", {"AUTHENTICATION_BACKENDS": [here("Inherited")]}),
    # The middleware
    ("E011", {"MIDDLEWARE": MIDDLEWARE[:-1]}),
    ("E012", {"MIDDLEWARE": [SESSION, OURS, AUTHENTICATION]}),
    ("E012", {"MIDDLEWARE": [AUTHENTICATION, here("OurMiddleware"), SESSION]}),
    ("E013", {"MIDDLEWARE": [SESSION, OURS]}),
    ("E013", {"MIDDLEWARE": [AUTHENTICATION, OURS]}),
    ("E014", {"MIDDLEWARE": [*MIDDLEWARE, "mozilla_django_oidc.middleware.SessionRefresh"]}),
    ("E014", {"MIDDLEWARE": [*MIDDLEWARE, here("RefreshOthers"), here("Refresh")]}),
    # The addresses
    ("E021", {"ROOT_URLCONF": (path("", page),)}),
    ("E021", {"ROOT_URLCONF": (path("spatio/", include(spatio_urlpatterns)),)}),
    ("E021", {"ROOT_URLCONF": (path("", include(([INCLUDED], "accounts"))),)}),
    ("E021", {"ROOT_URLCONF": (path("<slug:tenant>/", include([INCLUDED])),)}),
    ("E021", {"ROOT_URLCONF": (path("spatio/", include((NO_LOGOUT, "spatio"))),)}),
    ("W025", {"ROOT_URLCONF": (path("spatio/", include((INCOMPLETE, "spatio"))),)}),
    ("W022", {"LOGIN_URL": global_settings.LOGIN_URL}),
    ("W022", {"LOGIN_URL": "sign-in"}),
    ("W022", {"LOGIN_URL": lazystr("spatio:signin")}),
    ("W023", {"ROOT_URLCONF": tuple(i18n_patterns(INCLUDED, prefix_default_language=False))}),
    (
        "E024",
        {
            "ROOT_URLCONF": (path("spatio/", include((LOCKED, "spatio"))),),
            "MIDDLEWARE": [*MIDDLEWARE, LOGIN_REQUIRED],
        },
    ),
    # The registration
    ("W031", {"SPATIO_ISSUER": "https://other.example"}),
    ("W032", {"ROOT_URLCONF": (path("sso/", include("spatio_django.urls")),)}),
    ("W033", {"SPATIO_BASE_URL": "https://www.example.com"}),
    ("W034", {"ALLOWED_HOSTS": ["example.org"]}),
    ("W034", {"ALLOWED_HOSTS": []}),
    ("W034", {"ALLOWED_HOSTS": [], "DEBUG": True}),
    ("W034", {"ALLOWED_HOSTS": None}),
    ("W035", {"SPATIO_SCOPES": ["openid", "email", "files"]}),
    ("W036", {"SECRET_KEY": "another key than the one that it was encrypted under"}),
    ("W037", {"SPATIO_CLIENT_ID": "client"}),
    (
        "W032",
        {"SPATIO_CLIENT_ID": "client", "SPATIO_REDIRECT_URIS": ["https://example.com/old/callback/"]},
    ),
    (
        "E038",
        {
            "SPATIO_CLIENT_ID": "client",
            "SPATIO_CLIENT_AUTH_METHOD": "private_key_jwt",
            "SPATIO_BASE_URL": "https://example.com",
        },
    ),
    ("E038", {"SPATIO_CLIENT_AUTH_METHOD": "private_key_jwt"}),
    (
        "E038",
        {
            "SPATIO_CLIENT_ID": "client",
            "SPATIO_CLIENT_AUTH_METHOD": "client_secret_post",
            "SPATIO_BASE_URL": "https://example.com",
        },
    ),
    ("W039", {"SPATIO_CLIENT_SECRET": "hush"}),
    # Cookies
    ("W042", {"SESSION_COOKIE_DOMAIN": ".example.org"}),
    ("W042", {"SESSION_COOKIE_DOMAIN": "www.example.com"}),
    ("W042", {"CSRF_COOKIE_DOMAIN": "ample.com"}),
    ("W043", {"SESSION_COOKIE_PATH": "/app"}),
    ("W043", {"SESSION_COOKIE_PATH": "/spatio/call"}),
    ("W043", {"CSRF_COOKIE_PATH": "/app/"}),
    ("E044", {"SESSION_COOKIE_SAMESITE": "Laxest"}),
    ("E044", {"SESSION_COOKIE_SAMESITE": True}),
    ("W045", {"SESSION_COOKIE_SAMESITE": "None"}),
    ("W045", {"CSRF_COOKIE_SAMESITE": "None"}),
    ("W045", {"SESSION_COOKIE_NAME": "__Secure-session"}),
    ("W045", {"SESSION_COOKIE_NAME": "__Host-session"}),
    (
        "W045",
        {
            "SESSION_COOKIE_NAME": "__Host-session",
            "SESSION_COOKIE_SECURE": True,
            "SESSION_COOKIE_DOMAIN": "example.com",
        },
    ),
    # Keys
    ("E051", {"SPATIO_ENCRYPTION_KEYS": KEY}),
    ("E051", {"SPATIO_ENCRYPTION_KEYS": None}),
    ("E051", {"SPATIO_ENCRYPTION_KEYS": [KEY, None]}),
    ("E051", {"SPATIO_ENCRYPTION_KEYS": [KEY, ""]}),
    ("E051", {"SPATIO_ENCRYPTION_KEYS": [KEY.encode()]}),
    ("E051", {"SPATIO_ENCRYPTION_KEYS": [KEY + "\ud800"]}),
    ("W052", {"SPATIO_ENCRYPTION_KEYS": [KEY[1:], KEY]}),
    ("W053", {"SPATIO_ENCRYPTION_KEYS": (KEY, KEY)}),
    ("E054", {"SECRET_KEY": b""}),
    ("E054", {"SECRET_KEY": 5}),
    ("E054", {"SECRET_KEY": ""}),
    ("E054", {"SECRET_KEY_FALLBACKS": "taken apart into letters"}),
    ("E054", {"SECRET_KEY_FALLBACKS": [None]}),
    # Settings
    ("W061", {"SPATIO_SCOPE": ["openid"]}),
    ("W061", {"SPATIO_OF_OUR_OWN": 1}),
    *[("E062", {name: 5}) for name in NAMES if name not in {"SPATIO_ENCRYPTION_KEYS", *NUMBERS}],
    ("E062", {"SPATIO_CLIENT_ID": ("client",)}),
    ("E062", {"SPATIO_CLIENT_ID": "client", "SPATIO_CLIENT_SECRET": ("hush",)}),
    ("E062", {"SPATIO_ISSUER": None}),
    ("E062", {"SPATIO_BASE_TEMPLATE": None}),
    ("E062", {"SPATIO_CREATE_USERS": "False"}),
    ("E062", {"SPATIO_CREATE_USERS": None}),
    ("E062", {"SPATIO_LINK_VERIFIED_EMAIL": "False"}),
    ("E062", {"SPATIO_SCOPES": "openid profile"}),
    ("E062", {"SPATIO_SCOPES": None}),
    ("E062", {"SPATIO_SCOPES": ["openid", None]}),
    ("E062", {"SPATIO_SCOPES": [["openid"]]}),
    ("E062", {"SPATIO_HTTP_TIMEOUT": "5"}),
    ("E062", {"SPATIO_HTTP_TIMEOUT": True}),
    ("E062", {"SPATIO_HTTP_TIMEOUT": None}),
    ("E062", {"SPATIO_MAX_STALE": "28800"}),
    ("E062", {"SPATIO_MAX_STALE": False}),
    ("E062", {"SPATIO_MAX_STALE": None}),
    ("E062", {"SPATIO_API_ORIGINS": "https://api.spatio.app"}),
    ("E062", {"SPATIO_API_ORIGINS": b"https://api.spatio.app"}),
    ("E062", {"SPATIO_API_ORIGINS": None}),
    ("E062", {"SPATIO_API_ORIGINS": ["https://api.spatio.app", None]}),
    ("E063", {"SPATIO_ISSUER": "api.spatio.app"}),
    ("E063", {"SPATIO_ISSUER": "http://api.spatio.app"}),
    ("E063", {"SPATIO_ISSUER": "https://api.spatio.app?tenant=1"}),
    ("E063", {"SPATIO_ISSUER": ""}),
    ("E063", {"SPATIO_BASE_URL": "example.com"}),
    ("E063", {"SPATIO_BASE_URL": "https://example.com/app"}),
    ("E063", {"SPATIO_BASE_URL": "https://[example"}),
    ("E063", {"SPATIO_REDIRECT_URIS": "nonsense"}),
    ("E063", {"SPATIO_REDIRECT_URIS": ["https://example.com"]}),
    ("E063", {"SPATIO_SCOPES": ["openid profile"]}),
    ("E063", {"SPATIO_SCOPES": ["openid", ""]}),
    ("E063", {"SPATIO_HTTP_PROXY": ""}),
    ("E063", {"SPATIO_HTTP_PROXY": "proxy.example.com:3128"}),
    ("E063", {"SPATIO_HTTP_TIMEOUT": 0}),
    ("E063", {"SPATIO_HTTP_TIMEOUT": -1.5}),
    ("E063", {"SPATIO_HTTP_TIMEOUT": float("nan")}),
    ("E063", {"SPATIO_HTTP_TIMEOUT": float("inf")}),
    ("E063", {"SPATIO_HTTP_TIMEOUT": 10**400}),
    ("E063", {"SPATIO_MAX_STALE": -1}),
    ("E063", {"SPATIO_MAX_STALE": float("nan")}),
    ("E063", {"SPATIO_MAX_STALE": float("inf")}),
    ("E063", {"SPATIO_MAX_STALE": 10**400}),
    ("E063", {"SPATIO_API_ORIGINS": ["http://api.spatio.app"]}),
    ("E063", {"SPATIO_API_ORIGINS": ["api.spatio.app"]}),
    ("E063", {"SPATIO_API_ORIGINS": ["https://api.spatio.app", "https://api.spatio.app/v1"]}),
    ("E063", {"SPATIO_API_ORIGINS": ["https://api.spatio.app?"]}),
    ("E063", {"SPATIO_API_ORIGINS": ["https://user@api.spatio.app"]}),
    ("E063", {"SPATIO_API_ORIGINS": [""]}),
    ("E065", {"SPATIO_BASE_TEMPLATE": "no/such.html"}),
    ("E065", {"SPATIO_BASE_TEMPLATE": "broken.html"}),
    ("E065", {"TEMPLATES": []}),
]


@pytest.mark.django_db
@pytest.mark.parametrize(("expected", "changes"), ONE_CHANGE)
def test_one_change_is_one_finding(settings: Any, expected: str, changes: dict[str, Any]) -> None:
    """Settings that give none, one mistake, and its id; the hint is never left out."""
    settings.MIDDLEWARE, settings.ALLOWED_HOSTS = MIDDLEWARE, ["example.com"]
    register()
    assert ids(deploy=True) == []

    for name, value in changes.items():
        setattr(settings, name, value)

    messages = found(deploy=True)
    assert [message.id for message in messages] == [f"spatio.{expected}"]
    (message,) = messages
    assert message.hint
    # Whoever reads it must know what to change.
    named = [name.removeprefix("SESSION_").removeprefix("CSRF_") for name in changes]
    if expected not in {"E021", "W023", "W025", "E024", "W031", "W032", "W036"}:
        assert any(name in message.msg for name in named)


#: What the settings say about a registration that isn't there, or is another one.
OTHER_REGISTRATIONS = [
    ("W032", {"redirect_uris": ["https://example.com/old/callback/"]}, {}),
    ("W032", {"redirect_uris": ["https://[broken"]}, {}),
    ("W035", {"scope": "openid"}, {}),
    ("W036", {"auth_method": "private_key_jwt"}, {}),
    ("W036", {"client_secret": None}, {}),
    ("W040", {"client_secret_expires_at": 1_000_000_000}, {}),
    ("W041", {"redirect_uris": ["http://example.com/spatio/callback/"]}, {"SESSION_COOKIE_SECURE": True}),
    ("W041", {"redirect_uris": ["http://localhost:8000/spatio/callback/"]}, {"CSRF_COOKIE_SECURE": True}),
    ("W064", {"issuer": "https://api.spatio.app/"}, {"SPATIO_ISSUER": "https://api.spatio.app/"}),
]


@pytest.mark.django_db
@pytest.mark.parametrize(("expected", "fields", "changes"), OTHER_REGISTRATIONS)
def test_a_registration_that_does_not_fit_is_found(
    settings: Any, expected: str, fields: dict[str, Any], changes: dict[str, Any]
) -> None:
    """What is wrong between settings and database is a warning: ``spatio_register`` mends it."""
    register(client_id="older")
    assert ids() == []

    register(**fields)
    for name, value in changes.items():
        setattr(settings, name, value)

    (message,) = found()
    assert message.id == f"spatio.{expected}"
    assert not message.is_serious()


@pytest.mark.django_db
def test_a_base_url_over_plain_http_and_its_cookies(settings: Any) -> None:
    """``SPATIO_BASE_URL`` says where Spatio leads back to, whatever else is registered."""
    settings.SPATIO_CLIENT_ID, settings.SPATIO_BASE_URL = "client", "https://example.com"
    settings.SESSION_COOKIE_SECURE, settings.SESSION_COOKIE_DOMAIN = True, "example.com"
    assert ids(deploy=True) == []

    settings.SPATIO_BASE_URL = "http://localhost:8000"
    assert ids(deploy=True) == ["spatio.W042", "spatio.W041"]
    settings.SPATIO_BASE_URL = "http://example.com"
    assert ids(deploy=True) == ["spatio.W041", "spatio.W072"]


DEPLOYED = [
    ("W071", {"issuer": "http://127.0.0.1:8765"}, {"SPATIO_ISSUER": "http://127.0.0.1:8765"}),
    ("W072", {"redirect_uris": ["http://example.com/spatio/callback/"]}, {}),
]


@pytest.mark.django_db
@pytest.mark.parametrize(("expected", "fields", "changes"), DEPLOYED)
def test_plain_http_is_found_before_going_live(
    settings: Any, expected: str, fields: dict[str, Any], changes: dict[str, Any]
) -> None:
    """In development it is nobody's business; ``--deploy`` says so."""
    register(client_id="older")
    assert ids(deploy=True) == []

    register(**fields)
    for name, value in changes.items():
        setattr(settings, name, value)

    assert ids() == []
    assert ids(deploy=True) == [f"spatio.{expected}"]


# What is fine


FINE = [
    {"AUTHENTICATION_BACKENDS": [here("Another"), "mysite.NoSuchBackend"]},
    {"MIDDLEWARE": [SESSION, "mysite.no_such_middleware", AUTHENTICATION, here("OurMiddleware")]},
    {"MIDDLEWARE": [*MIDDLEWARE, LOGIN_REQUIRED]},
    {"MIDDLEWARE": [*MIDDLEWARE, here("RefreshOthers")]},
    {"ROOT_URLCONF": (path("spatio/", include("spatio_django.urls", namespace="other")),)},
    {"ROOT_URLCONF": "mysite.no_such_urls", "LOGIN_URL": "/login/"},
    {"LOGIN_URL": "/somewhere/else/"},
    {"LOGIN_URL": None},
    {"ROOT_URLCONF": (INCLUDED, path("accounts/login/", page)), "LOGIN_URL": global_settings.LOGIN_URL},
    {"ROOT_URLCONF": (INCLUDED, path("<moody:who>/login/", page)), "LOGIN_URL": global_settings.LOGIN_URL},
    {"SPATIO_BASE_URL": "https://example.com/", "ALLOWED_HOSTS": ["inside.example"]},
    {"ALLOWED_HOSTS": [".EXAMPLE.com"]},
    {"SPATIO_CLIENT_ID": None, "SPATIO_CLIENT_SECRET": None, "SPATIO_BASE_URL": None},
    {"SPATIO_CLIENT_AUTH_METHOD": None, "SPATIO_REDIRECT_URIS": None},
    {"SPATIO_CLIENT_AUTH_METHOD": "", "SPATIO_REDIRECT_URIS": ""},
    {"SPATIO_CLIENT_ID": "client", "SPATIO_BASE_URL": "https://example.com"},
    {"SPATIO_CLIENT_ID": "client", "SPATIO_REDIRECT_URIS": "https://example.com/spatio/callback/"},
    {
        "SPATIO_CLIENT_ID": "client",
        "SPATIO_CLIENT_SECRET": "hush",
        "SPATIO_CLIENT_AUTH_METHOD": "client_secret_post",
        "SPATIO_BASE_URL": "https://example.com",
    },
    {"SPATIO_SCOPES": ("email",)},
    {"SESSION_COOKIE_SAMESITE": "Strict"},
    {"SESSION_COOKIE_SAMESITE": "strict"},
    {"SESSION_COOKIE_SAMESITE": False},
    {"SESSION_COOKIE_SAMESITE": "None", "SESSION_COOKIE_SECURE": True},
    {"SESSION_COOKIE_SECURE": True, "SESSION_COOKIE_DOMAIN": "example.com", "CSRF_COOKIE_PATH": "/spatio"},
    {"SESSION_COOKIE_NAME": "__Host-session", "SESSION_COOKIE_SECURE": True},
    {"CSRF_COOKIE_SAMESITE": "None", "CSRF_USE_SESSIONS": True},
    {"SESSION_ENGINE": "django.contrib.sessions.backends.signed_cookies"},
    {"SPATIO_ENCRYPTION_KEYS": [KEY, "short, but it only decrypts"]},
    {"SPATIO_HTTP_TIMEOUT": 30, "SPATIO_HTTP_PROXY": "http://proxy.example.com:3128"},
    {"SPATIO_BASE_TEMPLATE": "front.html", "SPATIO_CREATE_USERS": False},
    {"SPATIO_MAX_STALE": 0, "SPATIO_API_ORIGINS": ["https://api.spatio.app", "https://files.spatio.app/"]},
    {"SPATIO_MAX_STALE": 0.5, "SPATIO_API_ORIGINS": ("http://127.0.0.1:8000", "http://localhost")},
    {"SPATIO_API_ORIGINS": []},
]


@pytest.mark.django_db
@pytest.mark.parametrize("changes", FINE)
def test_what_works_is_not_found_fault_with(settings: Any, changes: dict[str, Any]) -> None:
    """Ways to set a site up that are as good as the quickstart, and what is for Django to complain about."""
    register()

    for name, value in changes.items():
        setattr(settings, name, value)

    assert ids(deploy=True) == []


@pytest.mark.django_db
@pytest.mark.parametrize(
    "fields",
    [
        {"scope": ""},
        {"redirect_uris": []},
        {"redirect_uris": "https://example.com/"},
        {"redirect_uris": {"https://example.com/": 1}},
        {"redirect_uris": ["https://example.com/spatio/callback/", "http://localhost:8000/spatio/callback/"]},
    ],
)
def test_a_registration_that_does_not_say_is_believed(settings: Any, fields: dict[str, Any]) -> None:
    """Nobody is warned of what a row leaves out, nor of the laptop that is registered beside the site."""
    settings.SESSION_COOKIE_SECURE, settings.SESSION_COOKIE_DOMAIN = True, "example.com"
    settings.ALLOWED_HOSTS = ["example.com"]

    register(**fields)

    assert ids(deploy=True) == []


@pytest.mark.django_db
def test_without_spatio_nobody_is_warned_of_session_refresh(settings: Any) -> None:
    """A site that has not added the backend yet hears of that, and not of what it does beside it."""
    register()
    settings.AUTHENTICATION_BACKENDS = [here("OldHooks")]
    settings.MIDDLEWARE = [*MIDDLEWARE, "mozilla_django_oidc.middleware.SessionRefresh"]

    assert ids() == ["spatio.E001"]


# Hints


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"SPATIO_SCOPE": 1}, "Did you mean SPATIO_SCOPES?"),
        ({"SPATIO_ENCRYPTION_KEY": 1}, "Did you mean SPATIO_ENCRYPTION_KEYS?"),
        ({"SPATIO_RP_CLIENT_ID": 1}, "Did you mean SPATIO_CLIENT_ID?"),
        ({"SPATIO_TIMEOUT": 1}, "Did you mean SPATIO_HTTP_TIMEOUT?"),
        ({"SPATIO_OF_OUR_OWN": 1}, 'SILENCED_SYSTEM_CHECKS = ["spatio.W061"]'),
        ({"AUTHENTICATION_BACKENDS": ["mysite.Typo"]}, "These can't be imported: mysite.Typo."),
        ({"ROOT_URLCONF": (path("", page),)}, "urlpatterns += ["),
        ({"ROOT_URLCONF": (path("", include(([INCLUDED], "accounts"))),)}, '"accounts:spatio"'),
        ({"ROOT_URLCONF": (path("", include(spatio_urlpatterns)),)}, "without a namespace"),
        ({"ROOT_URLCONF": (path("spatio/", include((INCOMPLETE, "spatio"))),)}, "Include all of them"),
        ({"TEMPLATES": []}, '"APP_DIRS": True'),
        ({"SPATIO_BASE_TEMPLATE": "no/such.html"}, 'SPATIO_BASE_TEMPLATE = "base.html"'),
        ({"SPATIO_ISSUER": "https://other.example"}, "spatio_register --base-url https://example.com"),
        ({"SPATIO_BASE_URL": "http://localhost:8000"}, "--base-url http://localhost:8000 --force"),
        ({"SPATIO_SCOPES": ["files"]}, "--base-url https://site.example --base-url http://localhost --force"),
    ],
)
def test_a_hint_is_the_fix(settings: Any, changes: dict[str, Any], words: str) -> None:
    """The line to write, or the name that was meant."""
    origins = ("https://site.example", "http://localhost")
    register(redirect_uris=[f"{origin}/spatio/callback/" for origin in origins])

    for name, value in changes.items():
        setattr(settings, name, value)

    (message,) = found()
    assert words in str(message.hint)


@pytest.mark.django_db
def test_overridden_methods_are_named(settings: Any) -> None:
    """Whoever moves a backend here reads which of its methods are never asked."""
    settings.AUTHENTICATION_BACKENDS = [here("Closed"), here("Inherited")]
    register()

    texts = [message.msg for message in found() if message.id == "spatio.W003"]

    assert "overrides authenticate, get_token," in texts[0]
    assert "overrides verify_token," in texts[1]


@pytest.mark.django_db
def test_no_finding_shows_a_secret(settings: Any) -> None:
    """A report of checks is pasted into tickets."""
    register()
    secret = "sesame"
    settings.SECRET_KEY = secret.encode()
    settings.SECRET_KEY_FALLBACKS = secret
    settings.SPATIO_CLIENT_SECRET = (secret,)
    assert {"spatio.E054", "spatio.E062"} <= set(ids())

    shown = ""
    for keys in ([secret, secret], secret, [secret.encode()]):
        settings.SPATIO_ENCRYPTION_KEYS = keys
        shown += str(found(deploy=True))
    settings.SPATIO_HTTP_PROXY = f"user:{secret}@proxy"
    settings.SPATIO_CLIENT_SECRET = secret
    shown += str(found(deploy=True))

    assert "spatio.W039" in shown
    assert secret not in shown


# Nothing raises


class Odd:
    """Neither text nor list nor number."""


NONSENSE: list[Any] = [
    None,
    True,
    0,
    -1.5,
    float("nan"),
    "",
    "x",
    "/",
    b"x",
    [],
    {},
    [None],
    [[]],
    ("x",),
    {"x": {}},
    Odd(),
]
READ = [
    *(name for name in NAMES),
    *("AUTHENTICATION_BACKENDS", "MIDDLEWARE", "ROOT_URLCONF", "LOGIN_URL", "ALLOWED_HOSTS", "DEBUG"),
    *("SECRET_KEY", "SECRET_KEY_FALLBACKS", "TEMPLATES", "CSRF_USE_SESSIONS", "USE_I18N"),
    *(f"{cookie}_COOKIE_{part}" for cookie in ("SESSION", "CSRF") for part in ATTRIBUTES),
]


def is_sound(messages: list[CheckMessage]) -> bool:
    """Tell whether each is a message with an id of ours and a hint."""
    return all(re.fullmatch(r"spatio\.[EW][0-9]{3}", str(each.id)) and each.hint for each in messages)


@pytest.mark.django_db
@pytest.mark.parametrize("name", READ)
def test_nonsense_in_one_setting_raises_nothing(settings: Any, name: str) -> None:
    """Each setting that is read, with a registration beside it."""
    register()
    for value in NONSENSE:
        with override_settings(**{name: value}):
            assert is_sound(found(deploy=True))
    delattr(settings, name)
    assert is_sound(found(deploy=True))


values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text()
    | st.binary()
    | st.sampled_from(BACKENDS),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=2),
    max_leaves=5,
)


@given(changes=st.dictionaries(st.sampled_from(READ), values, max_size=6))
def test_nonsense_in_several_settings_raises_nothing(changes: dict[str, Any]) -> None:
    """Whatever it is, it is found or left to Django; no check stands in the way of the others."""
    with override_settings(**changes):
        assert is_sound(found(deploy=True))


@pytest.mark.django_db
@pytest.mark.parametrize("key", ["x" * 40, "\ud800", None])
def test_a_registration_under_keys_that_are_none_raises_nothing(settings: Any, key: object) -> None:
    """The keys are one finding; what can't be tried without them is none."""
    register()
    settings.SPATIO_ENCRYPTION_KEYS = [key]

    assert set(ids()) <= {"spatio.E051"}


# The database


def test_a_test_that_may_not_ask_the_database_is_left_in_peace() -> None:
    """pytest-django forbids queries here: the other checks go on, and nobody is called unregistered."""
    assert ids(deploy=True) == []


@pytest.mark.django_db
def test_who_is_not_registered_hears_of_it(settings: Any) -> None:
    """By a plain ``manage.py check``, as a warning: an error would keep other commands from running."""
    assert ids() == ["spatio.W031"]
    assert "--base-url https://example.com" in str(found()[0].hint)
    settings.SPATIO_ISSUER = "http://127.0.0.1:8765"
    assert "--base-url http://localhost:8000" in str(found()[0].hint)
    del settings.SPATIO_ISSUER

    register()

    assert ids() == []


@pytest.fixture
def no_table(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the table be missing, as before ``migrate``."""
    monkeypatch.setattr(SpatioClient._meta, "db_table", "no_such_table")


@pytest.mark.django_db
@pytest.mark.usefixtures("no_table")
def test_without_its_table_the_check_says_nothing_and_breaks_no_transaction() -> None:
    """The test's own transaction is one: PostgreSQL would refuse the next query in it."""
    assert ids(deploy=True) == []
    with transaction.atomic():
        assert ids(deploy=True) == []
        assert get_user_model()._default_manager.count() == 0


@pytest.mark.django_db(transaction=True)
@pytest.mark.usefixtures("no_table")
def test_a_transaction_that_somebody_holds_by_hand_goes_on(manual_commit: None) -> None:
    """Without autocommit there is a transaction too, if none of Django's."""
    assert get_user_model()._default_manager.count() == 0
    assert ids(deploy=True) == []

    assert get_user_model()._default_manager.count() == 0


@pytest.fixture
def manual_commit() -> Iterator[None]:
    """Turn autocommit off, as old code does."""
    transaction.set_autocommit(False)
    yield
    transaction.rollback()
    transaction.set_autocommit(True)


@pytest.mark.django_db
def test_a_transaction_that_is_broken_already_is_left_alone() -> None:
    """Nobody can ask the database in there, and that is not for us to say."""
    with transaction.atomic():
        transaction.set_rollback(True)
        assert ids(deploy=True) == []
        assert transaction.get_rollback()


@pytest.mark.django_db(transaction=True)
def test_the_price_is_one_query(settings: Any, django_assert_num_queries: Any) -> None:
    """Without a transaction around it, and none if the client is in the settings."""
    register()
    with django_assert_num_queries(1):
        assert ids() == []

    settings.SPATIO_CLIENT_ID, settings.SPATIO_BASE_URL = "client", "https://example.com"
    with django_assert_num_queries(0):
        assert ids(deploy=True) == []
    assert not connection.in_atomic_block


# From the command line


def run(folder: Path, *arguments: str, **environment: str) -> str:
    """Run Python there, where warnings are errors; give what it printed."""
    # On SQLite: Django's own checks connect to MariaDB, to a database that only this process has made.
    foreign = {"DJANGO_SETTINGS_MODULE", "SPATIO_TESTS_DATABASE"}
    inherited = {name: text for name, text in os.environ.items() if name not in foreign}
    done = subprocess.run(
        [sys.executable, "-W", "error", *arguments],
        cwd=folder,
        env={**inherited, "PYTHONPATH": str(ROOT), **environment},
        check=True,
        capture_output=True,
        text=True,
    )
    return done.stdout + done.stderr


def codes(output: str) -> list[str]:
    """Give the ids in what ``check`` printed."""
    return re.findall(r"\(([a-z]+\.[EW][0-9]{3})\)", output)


def test_a_fresh_site_with_the_quickstart_is_told_to_register(tmp_path: Path, spatio: FakeSpatio) -> None:
    """Before ``migrate`` nothing, after it one warning with the command, and after that nothing."""
    readme = (ROOT / "README.md").read_text()
    run(tmp_path, "-m", "django", "startproject", "mysite", ".")
    for file, language in (("settings.py", "settings"), ("urls.py", "urls")):
        (block,) = re.findall(rf"^```python\n# {language}\.py\n(.*?)^```$", readme, re.MULTILINE | re.DOTALL)
        with (tmp_path / "mysite" / file).open("a") as code:
            code.write(f"\nfrom django.urls import include\n{block}" if language == "urls" else block)
    with (tmp_path / "mysite" / "settings.py").open("a") as code:
        code.write(f'SPATIO_ISSUER = "{spatio.issuer}"\n')

    assert "no issues" in run(tmp_path, "manage.py", "check")
    run(tmp_path, "manage.py", "migrate", "--verbosity", "0")
    output = run(tmp_path, "manage.py", "check")
    assert codes(output) == ["spatio.W031"]
    assert "HINT: python manage.py spatio_register --base-url" in output
    registered = run(tmp_path, "manage.py", "spatio_register", "--base-url", "http://localhost:8000")
    assert codes(registered) == []
    assert "no issues" in run(tmp_path, "manage.py", "check")


@pytest.mark.parametrize(
    ("folder", "module", "deploy"),
    [(".", "tests.settings", []), ("example_project", "settings", ["spatio.W071"])],
)
def test_our_own_sites_pass(tmp_path: Path, folder: str, module: str, deploy: list[str]) -> None:
    """The tests' site and the example, whose provider on this machine is not for production."""
    environment = {"DJANGO_SETTINGS_MODULE": module, "EXAMPLE_DATABASE": str(tmp_path / "db.sqlite3")}

    assert "no issues" in run(ROOT / folder, "-m", "django", "check", **environment)
    output = run(ROOT / folder, "-m", "django", "check", "--deploy", **environment)
    assert [code for code in codes(output) if code.startswith("spatio")] == deploy


def test_checking_loads_no_http_or_jose_library() -> None:
    """The quickstart's site is checked without what the first sign-in brings."""
    program = (
        "import sys, django; django.setup()\n"
        "from django.core.checks import run_checks\n"
        "assert run_checks(tags=['spatio'], include_deployment_checks=True) == []\n"
        "heavy = {'requests', 'urllib3', 'josepy', 'cryptography', 'jwt'}\n"
        "print(sorted({m.split('.')[0] for m in sys.modules} & heavy))"
    )

    assert run(ROOT, "-c", program, DJANGO_SETTINGS_MODULE="tests.settings") == "[]\n"


# The paperwork


def ids_told() -> set[str]:
    """Give the ids that the source of the checks spells out."""
    trees = [ast.parse(file.read_text()) for file in Path(checks.__file__).parent.glob("*.py")]
    constants = (node for tree in trees for node in ast.walk(tree) if isinstance(node, ast.keyword))
    return {
        node.value.value
        for node in constants
        if node.arg == "id" and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
    } | set(MISFITS.values())


def test_every_finding_is_documented_and_no_other() -> None:
    """Whoever looks an id up finds it, and each that is documented can be met."""
    documented = re.findall(r"^\| `(spatio\.[EW][0-9]{3})`", DOCS, re.MULTILINE)

    assert sorted(documented) == sorted(ids_told())


def test_every_finding_has_a_test() -> None:
    """Each id is in one of the tables above."""
    tested = {f"spatio.{row[0]}" for row in [*ONE_CHANGE, *OTHER_REGISTRATIONS, *DEPLOYED]}

    assert tested == ids_told()


def test_a_number_is_given_once() -> None:
    """An id that becomes an error, or a warning, keeps its number."""
    numbers = [name[-3:] for name in ids_told()]

    assert len(numbers) == len(set(numbers))
