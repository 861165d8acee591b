"""The other settings: of the right kind, and with a value that can be used?"""

import re
import threading
from difflib import get_close_matches
from typing import Any, TypeGuard

from django.conf import settings
from django.core import checks
from django.template import TemplateDoesNotExist, TemplateSyntaxError
from django.template.loader import get_template

from spatio_django import registration
from spatio_django.checks.reading import Found, is_issuer, text, texts
from spatio_django.conf import NAMES, conf
from spatio_django.oidc.authorization import SCOPE_NAME

#: Settings that are text, and whether ``None`` (an environment variable that is not set) counts as unset.
TEXTS = {
    "SPATIO_ISSUER": False,
    "SPATIO_CLIENT_ID": True,
    "SPATIO_CLIENT_SECRET": True,
    "SPATIO_CLIENT_AUTH_METHOD": True,
    "SPATIO_BASE_URL": True,
    "SPATIO_HTTP_PROXY": True,
    "SPATIO_BASE_TEMPLATE": False,
}

FLAGS = ("SPATIO_CREATE_USERS", "SPATIO_LINK_VERIFIED_EMAIL")

#: Settings that are a number of seconds, with their defaults.
NUMBERS = {"SPATIO_HTTP_TIMEOUT": 5.0, "SPATIO_MAX_STALE": 28800}

#: As the transport takes it.
_PROXY = re.compile(r"https?://[\x21-\x7e]+")


def check_settings(app_configs: object, **kwargs: Any) -> list[checks.CheckMessage]:
    """Is each ``SPATIO_*`` setting one that we have, and of the kind that it should be?"""
    return [*_unknown(), *_types(), *_values()]


def _unknown() -> Found:
    # Without what they all begin with, which would make any two of them look alike.
    ends = {name.removeprefix("SPATIO_"): name for name in NAMES}
    for name in dir(settings):
        if name.startswith("SPATIO_") and name.isupper() and name not in NAMES:
            close = get_close_matches(name.removeprefix("SPATIO_"), ends, n=1)
            yield checks.Warning(
                f"This version of spatio_django has no setting {name}: it does nothing.",
                hint=f"Did you mean {ends[close[0]]}?"
                if close
                else 'Take it out. If it is your own: SILENCED_SYSTEM_CHECKS = ["spatio.W061"]',
                id="spatio.W061",
            )


def _types() -> Found:
    for name, may_be_none in TEXTS.items():
        value = getattr(settings, name, "")
        if not (isinstance(value, str) or (value is None and may_be_none)):
            # Of what type, and not what: it may be a secret with a comma behind it.
            yield wrong_type(name, "a text", value, hint=f'{name} = "…", without a comma behind it')
    for name in FLAGS:
        value = getattr(settings, name, True)
        if not isinstance(value, bool):
            yield wrong_type(name, "True or False", value, hint=f'{name} = False ("False" counts as true)')
    scopes = getattr(settings, "SPATIO_SCOPES", ())
    if not (isinstance(scopes, list | tuple) and all(isinstance(scope, str) for scope in scopes)):
        yield wrong_type(
            "SPATIO_SCOPES", "a list of texts", scopes, hint='SPATIO_SCOPES = ["openid", "profile", "email"]'
        )
    uris = getattr(settings, "SPATIO_REDIRECT_URIS", None)
    if readable_redirect_uris() is None:
        yield wrong_type(
            "SPATIO_REDIRECT_URIS",
            "a list of texts, or one with commas",
            uris,
            hint='SPATIO_REDIRECT_URIS = ["https://example.com/spatio/callback/"]',
        )
    origins = getattr(settings, "SPATIO_API_ORIGINS", ())
    if not (isinstance(origins, list | tuple) and all(isinstance(origin, str) for origin in origins)):
        yield wrong_type(
            "SPATIO_API_ORIGINS",
            "a list of texts",
            origins,
            hint='SPATIO_API_ORIGINS = ["https://api.spatio.app"]',
        )
    for name, default in NUMBERS.items():
        value = getattr(settings, name, default)
        if not is_number(value):
            yield wrong_type(name, "a number", value, hint=f"{name} = {default}")


def is_number(value: object) -> TypeGuard[float]:
    """Tell whether *value* is a number; ``True`` is none."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def readable_redirect_uris() -> tuple[str, ...] | None:
    """Give ``SPATIO_REDIRECT_URIS``, or ``None`` if it is neither a text nor a list of texts."""
    try:
        return conf.SPATIO_REDIRECT_URIS
    except (AttributeError, TypeError):
        return None


def wrong_type(name: str, kind: str, value: object, *, hint: str) -> checks.CheckMessage:
    """Say that a setting is of the wrong type, without showing it."""
    return checks.Error(
        f"{name} must be {kind}, and is of type {type(value).__name__}.", hint=hint, id="spatio.E062"
    )


def _values() -> Found:
    issuer = getattr(settings, "SPATIO_ISSUER", conf.SPATIO_ISSUER)
    if isinstance(issuer, str) and not is_issuer(issuer):
        yield wrong_value(
            "SPATIO_ISSUER",
            "is no https address without a query (plain http is for this machine only)",
            hint='Take it out for Spatio itself: SPATIO_ISSUER = "https://api.spatio.app"',
        )
    elif isinstance(issuer, str) and issuer.endswith("/"):
        yield checks.Warning(
            "SPATIO_ISSUER ends with a slash, which makes it another issuer than the one without.",
            hint=f"SPATIO_ISSUER = {issuer.rstrip('/')!r}, unless the provider's metadata have the slash.",
            id="spatio.W064",
        )
    base_url = text("SPATIO_BASE_URL")
    if base_url and registration.as_origin(base_url) is None:
        yield wrong_value(
            "SPATIO_BASE_URL",
            "is no origin: the path comes from the URLconf",
            hint='SPATIO_BASE_URL = "https://example.com"',
        )
    if not all(map(registration.is_redirect_uri, readable_redirect_uris() or ())):
        yield wrong_value(
            "SPATIO_REDIRECT_URIS",
            "has an entry that is no redirect URI",
            hint='In full, as registered: SPATIO_REDIRECT_URIS = ["https://example.com/spatio/callback/"]',
        )
    proxy = getattr(settings, "SPATIO_HTTP_PROXY", None)
    if isinstance(proxy, str) and not _PROXY.fullmatch(proxy):
        yield wrong_value(
            "SPATIO_HTTP_PROXY",
            "is no http or https address",
            hint='SPATIO_HTTP_PROXY = "http://proxy.example.com:3128", or None',
        )
    scopes = texts("SPATIO_SCOPES")
    if not all(SCOPE_NAME.fullmatch(scope) for scope in scopes):
        yield wrong_value(
            "SPATIO_SCOPES",
            "has an entry that is no scope name",
            hint='One name per entry: SPATIO_SCOPES = ["openid", "profile", "email"]',
        )
    if not all(map(is_api_origin, texts("SPATIO_API_ORIGINS"))):
        yield wrong_value(
            "SPATIO_API_ORIGINS",
            "has an entry that is no https origin (plain http is for this machine only)",
            hint='Without a path: SPATIO_API_ORIGINS = ["https://api.spatio.app"]',
        )
    timeout = getattr(settings, "SPATIO_HTTP_TIMEOUT", 5.0)
    # Nothing waits longer than that maximum; and no NaN is between two numbers.
    if is_number(timeout) and not 0 < timeout <= threading.TIMEOUT_MAX:
        yield wrong_value(
            "SPATIO_HTTP_TIMEOUT", "is no number of seconds to wait", hint="SPATIO_HTTP_TIMEOUT = 5.0"
        )
    stale = getattr(settings, "SPATIO_MAX_STALE", 28_800)
    if is_number(stale) and not 0 <= stale <= threading.TIMEOUT_MAX:
        yield wrong_value(
            "SPATIO_MAX_STALE",
            "is no number of seconds, 0 or more",
            hint="SPATIO_MAX_STALE = 28800, eight hours; 0 ends a session with its access token",
        )
    yield from _template(getattr(settings, "SPATIO_BASE_TEMPLATE", conf.SPATIO_BASE_TEMPLATE))


def is_api_origin(url: str) -> bool:
    """Tell whether the access token may be sent there: https, or http on this machine, and no path."""
    return is_issuer(url) and registration.as_origin(url) is not None


def wrong_value(name: str, what: str, *, hint: str) -> checks.CheckMessage:
    """Say that a setting is of the right type and can't be used."""
    return checks.Error(f"{name} {what}.", hint=hint, id="spatio.E063")


def _template(name: object) -> Found:
    if not isinstance(name, str):
        return
    try:
        get_template(name)
    except (TemplateDoesNotExist, TemplateSyntaxError) as error:
        reason = f"{type(error).__name__}: {error}"
        backend = '"BACKEND": "django.template.backends.django.DjangoTemplates", "APP_DIRS": True'
        if hasattr(settings, "SPATIO_BASE_TEMPLATE"):
            message = f"SPATIO_BASE_TEMPLATE is {name!r}, which can't be loaded ({reason})."
            hint = 'SPATIO_BASE_TEMPLATE = "base.html": a template of yours that has a block "content".'
        else:
            message = f"TEMPLATES leads to no template of this package ({reason})."
            hint = f"TEMPLATES = [{{{backend}, …}}]"
        yield checks.Error(message, hint=hint, id="spatio.E065")
    except Exception:  # noqa: BLE001 - TEMPLATES that Django can't use, which it tells itself
        return
