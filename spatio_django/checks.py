"""
What ``manage.py check`` says about this package: each finding has an id, and a hint that is the fix.

What ``migrate`` or ``spatio_register`` mends is a warning, since an error would keep those from running.
Nothing here calls Spatio, and nothing raises, whatever the settings hold: what can't be read is another
check's finding, or Django's own to tell. The ids are explained in docs/checks.md.
"""

import re
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from difflib import get_close_matches
from typing import Any

from django.conf import global_settings, settings
from django.core import checks
from django.db import connections, router, transaction
from django.template import TemplateDoesNotExist, TemplateSyntaxError
from django.template.loader import get_template
from django.urls import NoReverseMatch, Resolver404, URLPattern, URLResolver, get_resolver, resolve, reverse
from django.urls.resolvers import LocalePrefixPattern
from django.utils.functional import Promise
from django.utils.module_loading import import_string

from spatio_django import registration
from spatio_django.conf import Settings, conf
from spatio_django.exceptions import ProtocolViolation
from spatio_django.models import SpatioClient
from spatio_django.oidc.registration import AUTH_METHODS
from spatio_django.oidc.urls import LOOPBACK_HOSTS, require_safe_url

Found = Iterator[checks.CheckMessage]

BACKEND = "spatio_django.backends.SpatioBackend"
MIDDLEWARE = "spatio_django.middleware.SpatioMiddleware"
#: What ours needs before it, outermost first.
NEEDED_MIDDLEWARE = (
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
)
LOGIN_REQUIRED = "django.contrib.auth.middleware.LoginRequiredMiddleware"
SESSION_REFRESH = "mozilla_django_oidc.middleware.SessionRefresh"

#: All are needed: even where a site links to none of the last three, signing in asks for their addresses.
NAMES = ("login", "callback", "logout", "account", "connect", "disconnect")
INCLUDE = 'path("spatio/", include("spatio_django.urls"))'

#: Characters of a key. 256 random bits are 43 in base64; fewer than this hold too little, however written.
MIN_KEY = 32

#: What goes wrong when the browser does not keep or send the cookie.
COOKIES = {
    "SESSION": "whoever signed in is nobody again on the next page",
    "CSRF": "the buttons to sign out and to connect an account are refused",
}

#: What is read of each: ``SESSION_COOKIE_NAME`` and so on.
ATTRIBUTES = ("NAME", "DOMAIN", "PATH", "SECURE", "SAMESITE")

#: Settings that are text, and whether ``None`` (an environment variable that is not set) counts as unset.
TEXTS = {
    "SPATIO_ISSUER": False,
    "SPATIO_CLIENT_ID": True,
    "SPATIO_CLIENT_SECRET": True,
    "SPATIO_CLIENT_AUTH_METHOD": False,
    "SPATIO_BASE_URL": True,
    "SPATIO_HTTP_PROXY": True,
    "SPATIO_BASE_TEMPLATE": False,
}
FLAGS = ("SPATIO_CREATE_USERS", "SPATIO_LINK_VERIFIED_EMAIL")

#: As the transport takes it.
_PROXY = re.compile(r"https?://[\x21-\x7e]+")
_SCOPE = re.compile(r"[\x21\x23-\x5b\x5d-\x7e]+")  # RFC 6749 §3.3


# The backend


def check_backend(app_configs: object, **kwargs: Any) -> list[checks.CheckMessage]:
    """Is there one backend of ours, and does it keep to its hooks?"""
    return list(_backend())


def _backend() -> Found:
    paths = texts("AUTHENTICATION_BACKENDS")
    ours = [path for path in paths if leads_to(path, BACKEND)]
    if not ours:
        broken = [path for path in paths if loaded(path) is None]
        yield checks.Error(
            "AUTHENTICATION_BACKENDS has no SpatioBackend: nobody can sign in with Spatio.",
            hint=f'Add "{BACKEND}", or your subclass of it.'
            + (f" (These can't be imported: {', '.join(broken)}.)" if broken else ""),
            id="spatio.E001",
        )
    for path in ours[1:]:
        yield checks.Warning(
            f"AUTHENTICATION_BACKENDS has {path} after {ours[0]}: only the first is used for signing in.",
            hint=f'Take "{path}" out of AUTHENTICATION_BACKENDS, or put it first.',
            id="spatio.W002",
        )
    for path in ours:
        if path != BACKEND and (names := closed_overrides(loaded(path))):
            yield checks.Warning(
                f"{path} in AUTHENTICATION_BACKENDS overrides {', '.join(names)}, which must not be.",
                hint="Take it out: the protocol is spatio_django's own. What it decided about people belongs "
                "into verify_claims, filter_users_by_claims, create_user or update_user.",
                id="spatio.W003",
            )


def closed_overrides(backend: Any) -> list[str]:
    """Give the methods that a subclass of ours overrides although they are closed, or not to be called."""
    mro = backend.__mro__
    base = next(kind for kind in mro if path_of(kind) == BACKEND)
    shut = vars(base)["_closed"]
    closed = {name for name, value in vars(base).items() if value is shut and name != "_closed"}
    above = mro[: mro.index(base)]
    return sorted(
        name
        for name in closed | {"authenticate", "aauthenticate"}
        if any(name in vars(kind) for kind in above)
    )


# The middleware


def check_middleware(app_configs: object, **kwargs: Any) -> list[checks.CheckMessage]:
    """Is our middleware there, after those that it reads from, and not beside one that gets in its way?"""
    return list(_middleware())


def _middleware() -> Found:
    paths = texts("MIDDLEWARE")
    ours = position(paths, MIDDLEWARE)
    for needed in NEEDED_MIDDLEWARE:
        theirs = position(paths, needed)
        if theirs is None:
            yield checks.Error(
                f"MIDDLEWARE has no {needed.rpartition('.')[2]}, which signing in needs.",
                hint=f'Add "{needed}" before "{MIDDLEWARE}".',
                id="spatio.E013",
            )
        elif ours is not None and ours < theirs:
            yield checks.Error(
                f"MIDDLEWARE has {paths[ours]} before {paths[theirs]}, which it reads from.",
                hint=f'Move "{paths[ours]}" behind "{paths[theirs]}".',
                id="spatio.E012",
            )
    if ours is None:
        yield checks.Error(
            "MIDDLEWARE has no SpatioMiddleware: no request.spatio, and no end for sessions that are over.",
            hint=f'MIDDLEWARE += ["{MIDDLEWARE}"]  # after AuthenticationMiddleware',
            id="spatio.E011",
        )
    if position(texts("AUTHENTICATION_BACKENDS"), BACKEND) is None:
        return
    for path in paths:
        if leads_to(path, SESSION_REFRESH) and not decides_itself(loaded(path)):
            yield checks.Error(
                f"MIDDLEWARE has {path}, which takes SpatioBackend for one of its own: it would send whoever "
                "signed in with Spatio to the other provider.",
                hint=f'Take "{path}" out of MIDDLEWARE. To keep it for another provider, override '
                "is_refreshable_url in a subclass, so that it leaves the sessions of SpatioBackend alone.",
                id="spatio.E014",
            )


def decides_itself(middleware: object) -> bool:
    """Tell whether a subclass of ``SessionRefresh`` has its own idea of whose sessions it refreshes."""
    judge = getattr(middleware, "is_refreshable_url", None)
    return getattr(judge, "__module__", "") != SESSION_REFRESH.rpartition(".")[0]


# The addresses


def check_urls(app_configs: object, **kwargs: Any) -> list[checks.CheckMessage]:
    """Are our addresses in the URLconf, where guests can reach them, and does ``LOGIN_URL`` lead anywhere?"""
    return list(_urls())


def _urls() -> Found:
    found = addresses()
    missing = [f"spatio:{name}" for name, path in found.items() if path is None]
    patterns = list(included())
    if missing:
        spaces = {space for space, _by_language, pattern in patterns if shows(pattern, "CallbackView")}
        yield checks.Error(
            f"The URLconf has no {', '.join(missing)}.", hint=how_to_include(spaces), id="spatio.E021"
        )
        return
    if found and leads_nowhere(getattr(settings, "LOGIN_URL", None)):
        yield checks.Warning(
            f"LOGIN_URL is {str(settings.LOGIN_URL)!r}, and the URLconf has no such address: login_required "
            "leads nowhere.",
            hint='LOGIN_URL = "spatio:login"',
            id="spatio.W022",
        )
    if any(by_language and shows(pattern, "CallbackView") for _space, by_language, pattern in patterns):
        yield checks.Warning(
            "The address of spatio:callback begins with the visitor's language, but Spatio leads back to the "
            "registered one only.",
            hint=f"Move this line out of i18n_patterns(), into urlpatterns itself: {INCLUDE}",
            id="spatio.W023",
        )
    if position(texts("MIDDLEWARE"), LOGIN_REQUIRED) is None:
        return
    for name, view in (("login", "LoginView"), ("callback", "CallbackView")):
        served = [pattern.callback for _space, _by_language, pattern in patterns if shows(pattern, view)]
        if served and getattr(served[0], "login_required", True):
            yield checks.Error(
                f"LoginRequiredMiddleware keeps guests from spatio:{name}, which is where they sign in.",
                hint="Decorate dispatch() of your view, or what wraps it in the URLconf, with "
                "django.contrib.auth.decorators.login_not_required.",
                id="spatio.E024",
            )


def addresses() -> dict[str, str | None]:
    """Give the path of each of our addresses, ``None`` if it is missing; nothing if the URLconf is broken."""
    found: dict[str, str | None] = {}
    for name in NAMES:
        try:
            found[name] = reverse(f"spatio:{name}")
        except NoReverseMatch:
            found[name] = None
        except Exception:  # noqa: BLE001 - whatever importing a site's URLconf raises; Django tells that itself
            return {}
    return found


def included() -> list[tuple[str, bool, URLPattern]]:
    """Give all addresses of the site: namespace, whether the language is in the path, pattern."""
    try:
        return list(_walk(get_resolver(), (), by_language=False))
    except Exception:  # noqa: BLE001 - as above
        return []


def _walk(
    resolver: URLResolver, spaces: tuple[str, ...], *, by_language: bool
) -> Iterator[tuple[str, bool, URLPattern]]:
    for each in resolver.url_patterns:
        if isinstance(each, URLResolver):
            inside = (*spaces, each.namespace) if each.namespace else spaces
            prefixed = by_language or isinstance(each.pattern, LocalePrefixPattern)
            yield from _walk(each, inside, by_language=prefixed)
        else:
            yield ":".join(spaces), by_language, each


def shows(pattern: URLPattern, view: str) -> bool:
    """Tell whether *pattern* leads to that view of ours, or the site's subclass of it."""
    return is_kind(getattr(pattern.callback, "view_class", None), f"spatio_django.views.{view}")


def how_to_include(spaces: set[str]) -> str:
    """
    Say what to write into the URLconf, and why what is there already doesn't serve.

    Args:
        spaces: The namespaces under which our addresses are included.
    """
    if not spaces:
        return f"urlpatterns += [{INCLUDE}]"
    if "spatio" in spaces:
        return f"Include all of them, and below a path without arguments: {INCLUDE}"
    space = min(spaces)
    where = f'in the namespace "{space}"' if space else "without a namespace"
    return f'They are included {where}, and looked for in "spatio". In ROOT_URLCONF: {INCLUDE}'


def leads_nowhere(login_url: object) -> bool:
    """Tell whether ``LOGIN_URL`` is a name that the URLconf lacks, or Django's default where nothing is."""
    if not isinstance(login_url, str | Promise):
        return False
    text = str(login_url)
    try:
        if text == global_settings.LOGIN_URL:
            resolve(text)
        elif not {"/", "."} & set(text):  # as django.shortcuts.resolve_url tells names from addresses
            reverse(text)
    except (NoReverseMatch, Resolver404):
        return True
    except Exception:  # noqa: BLE001 - as above
        return False
    return False


# The client, in the settings or in the database

#: What :func:`spatio_django.registration.misfits` finds, by its codes.
MISFITS = {
    "callback": "spatio.W032",
    "base_url": "spatio.W033",
    "host": "spatio.W034",
    "scope": "spatio.W035",
    "undecryptable": "spatio.W036",
    "redirect_uris": "spatio.W037",
    "auth_method": "spatio.E038",
    "client_secret": "spatio.E038",
    "client_secret_expires_at": "spatio.W040",
}


def check_client(app_configs: object, **kwargs: Any) -> list[checks.CheckMessage]:
    """Are the settings of the client ones that could be used, for signing in or for registering?"""
    return list(_client())


def _client() -> Found:
    method = getattr(settings, "SPATIO_CLIENT_AUTH_METHOD", None)
    if isinstance(method, str) and method not in AUTH_METHODS:
        yield message_of(registration.unknown_method(method))
    if text("SPATIO_CLIENT_SECRET") and not text("SPATIO_CLIENT_ID"):
        yield checks.Warning(
            "SPATIO_CLIENT_SECRET is set without SPATIO_CLIENT_ID, and is not used.",
            hint='SPATIO_CLIENT_ID = os.environ["SPATIO_CLIENT_ID"], or take SPATIO_CLIENT_SECRET out.',
            id="spatio.W039",
        )


def check_registration(app_configs: object, **kwargs: Any) -> list[checks.CheckMessage]:
    """
    Is this site registered, and does the registration fit its addresses, hosts, scopes and cookies?

    One query, unless the client is in the settings: only the database knows. Not one of Django's database
    checks all the same, because a plain ``manage.py check`` leaves those out.
    """
    return list(_registration())


def _registration() -> Found:
    base_url = usable_base_url()
    rows = in_force()
    if rows == []:
        yield checks.Warning(
            f"This site is not registered at {conf.SPATIO_ISSUER}: nobody can sign in yet.",
            hint=registration.command([base_url] if base_url else []),
            id="spatio.W031",
        )
    uris: list[str] = []
    for row in rows or ():
        uris = registration.uris_of(row)
        yield from misfits(row)
    yield from cookie_misfits([f"{base_url}/"] if base_url else uris)


def misfits(row: SpatioClient) -> Found:
    """Say what does not fit about *row*, as far as the settings can be read."""
    kept = registration.is_stored(row)
    try:
        for misfit in registration.misfits(row, now=time.time()):
            # Of the settings' method the check of the settings tells, which spatio_register waits for.
            if misfit.code != "auth_method" or kept:
                yield message_of(misfit, stored=kept)
    except Exception:  # noqa: BLE001 - settings that are none, or no callback: each is another check's finding
        return


def message_of(misfit: registration.Misfit, *, stored: bool = False) -> checks.CheckMessage:
    """
    Give *misfit* as a finding.

    Args:
        stored: In the database. Whatever is wrong there is a warning, since an error would keep ``migrate``
            from running.
    """
    number = MISFITS[misfit.code]
    if stored and number == "spatio.E038":
        number = MISFITS["undecryptable"]
    kind = checks.Error if number.startswith("spatio.E") else checks.Warning
    return kind(misfit.message, hint=misfit.hint, id=number)


def in_force() -> list[SpatioClient] | None:
    """Give the client that counts, if any; ``None`` where that can't be known."""
    if not getattr(settings, "SPATIO_CLIENT_ID", None):
        return stored()
    try:
        row = registration.from_settings() if text("SPATIO_CLIENT_ID") else None
    except Exception:  # noqa: BLE001 - settings of other types, which are told once
        return None
    return None if row is None else [row]


def stored() -> list[SpatioClient] | None:
    """Give the registration in the database, if any; ``None`` where the database can't be asked for it."""
    if not is_issuer(getattr(settings, "SPATIO_ISSUER", conf.SPATIO_ISSUER)):
        return None
    try:
        connection = connections[router.db_for_write(SpatioClient)]
        # A query that fails would break the transaction around it. Where there is none, none is begun: on
        # SQLite it may lock the database.
        inside = connection.in_atomic_block or not connection.get_autocommit()
        with transaction.atomic(using=connection.alias) if inside else nullcontext():
            row = registration.stored()
    except Exception:  # noqa: BLE001 - no server, no table yet, a test that may not ask: each in its own words
        return None
    return [] if row is None else [row]


# Cookies


def check_cookies(app_configs: object, **kwargs: Any) -> list[checks.CheckMessage]:
    """Will browsers keep the session cookie, and send it and the CSRF cookie to our addresses?"""
    return list(_cookies())


def _cookies() -> Found:
    same_site = cookie("SESSION", "SAMESITE")
    known = isinstance(same_site, str) and same_site.lower() in {"lax", "none", "strict"}
    if same_site and (not known or (same_site.lower() == "strict" and same_site != "Strict")):
        yield checks.Error(
            f"SESSION_COOKIE_SAMESITE is {same_site!r}: the last step of a sign-in goes wrong.",
            hint='SESSION_COOKIE_SAMESITE = "Lax"; "Strict" works too, written like this.',
            id="spatio.E044",
        )
    paths = [path for path in addresses().values() if path]
    for prefix, consequence in cookies():
        if refusal := refused(cookie(prefix, "NAME"), prefix):
            yield checks.Warning(
                f"Browsers refuse the cookie of {refusal}: {consequence}.",
                hint=f"{prefix}_COOKIE_SECURE = True; and for a name that begins with __Host-, "
                f'{prefix}_COOKIE_PATH = "/" and no {prefix}_COOKIE_DOMAIN.',
                id="spatio.W045",
            )
        scope = cookie(prefix, "PATH")
        missed = [path for path in paths if isinstance(scope, str) and not covers_path(scope, path)]
        if missed:
            yield checks.Warning(
                f"{prefix}_COOKIE_PATH is {scope!r}, so that cookie isn't sent to {missed[0]}: "
                f"{consequence}.",
                hint=f'{prefix}_COOKIE_PATH = "/", or include spatio_django.urls below {scope}. (Is the '
                "whole site there? Then FORCE_SCRIPT_NAME has to say so.)",
                id="spatio.W043",
            )


def refused(name: object, prefix: str) -> str:
    """Name what browsers refuse a cookie for (RFC 6265bis §4.1.2.7, §4.1.3); empty if they keep it."""
    secure = bool(cookie(prefix, "SECURE"))
    same_site = cookie(prefix, "SAMESITE")
    if isinstance(same_site, str) and same_site.lower() == "none" and not secure:
        return f"{prefix}_COOKIE_SAMESITE = {same_site!r} without {prefix}_COOKIE_SECURE"
    text = name if isinstance(name, str) else ""
    confined = not cookie(prefix, "DOMAIN") and cookie(prefix, "PATH") == "/"
    if (text.startswith(("__Secure-", "__Host-")) and not secure) or (
        text.startswith("__Host-") and not confined
    ):
        return f"{prefix}_COOKIE_NAME = {text!r} with these attributes"
    return ""


def cookie_misfits(uris: Sequence[str]) -> Found:
    """Judge the cookies' attributes by where Spatio leads back to; nothing is known without *uris*."""
    hosts = [host for uri in uris if (host := registration.host_of(uri))]
    for prefix, consequence in cookies():
        domain = cookie(prefix, "DOMAIN")
        confined = hosts and domain and isinstance(domain, str)
        if confined and not any(covers_host(domain, host) for host in hosts):
            yield checks.Warning(
                f"{prefix}_COOKIE_DOMAIN is {domain!r}, and Spatio leads back to {', '.join(hosts)}: "
                f"{consequence}.",
                hint=f"{prefix}_COOKIE_DOMAIN = None, or a domain that {hosts[0]} belongs to.",
                id="spatio.W042",
            )
        if cookie(prefix, "SECURE") and uris and not any(uri.startswith("https:") for uri in uris):
            yield checks.Warning(
                f"{prefix}_COOKIE_SECURE is on, and Spatio leads back to plain http, where browsers hold "
                f"that cookie back (on localhost, some of them): {consequence}.",
                hint=f"Serve https and register it: {registration.command([], '--force')}. In development: "
                f"{prefix}_COOKIE_SECURE = False",
                id="spatio.W041",
            )


def cookies() -> Iterator[tuple[str, str]]:
    """Give the prefixes of the settings of the cookies that matter, with what fails without each."""
    for prefix, consequence in COOKIES.items():
        if not (prefix == "CSRF" and getattr(settings, "CSRF_USE_SESSIONS", False)):
            yield prefix, consequence


def cookie(prefix: str, attribute: str) -> Any:
    """Give a setting of a cookie."""
    return getattr(settings, f"{prefix}_COOKIE_{attribute}", None)


def covers_path(scope: str, path: str) -> bool:
    """Tell whether a cookie of that path is sent to *path* (RFC 6265 §5.1.4)."""
    return path == scope or path.startswith(scope if scope.endswith("/") else f"{scope}/")


def covers_host(domain: str, host: str) -> bool:
    """Tell whether a host may set a cookie of that domain (RFC 6265 §5.1.3)."""
    bare = domain.lower().removeprefix(".")
    return host == bare or host.endswith(f".{bare}")


# Keys


def check_keys(app_configs: object, **kwargs: Any) -> list[checks.CheckMessage]:
    """Are the keys usable? None is ever shown."""
    return list(_keys())


def _keys() -> Found:
    keys = getattr(settings, "SPATIO_ENCRYPTION_KEYS", ())
    if not are_keys(keys):
        yield checks.Error(
            "SPATIO_ENCRYPTION_KEYS is no list of texts, or one of them is empty.",
            hint='SPATIO_ENCRYPTION_KEYS = [os.environ["SPATIO_ENCRYPTION_KEY"]]',
            id="spatio.E051",
        )
    else:
        if keys and len(keys[0]) < MIN_KEY:
            # Only the first: one that was too short goes on decrypting behind a better one.
            yield checks.Warning(
                f"The first of SPATIO_ENCRYPTION_KEYS has less than {MIN_KEY} characters: it can be guessed.",
                hint="Put a new one in front, and keep this one behind it: "
                'python -c "import secrets; print(secrets.token_urlsafe(32))"',
                id="spatio.W052",
            )
        if len(set(keys)) < len(keys):
            yield checks.Warning(
                "SPATIO_ENCRYPTION_KEYS has the same key twice.",
                hint="Take one out. To rotate, put a new key in front.",
                id="spatio.W053",
            )
    try:
        derived = are_keys([settings.SECRET_KEY]) and are_keys(settings.SECRET_KEY_FALLBACKS)
    except Exception:  # noqa: BLE001 - Django's own complaint about an empty one
        derived = False
    if not derived:
        yield checks.Error(
            "Keys are derived from SECRET_KEY and SECRET_KEY_FALLBACKS: a text, and a list of texts, none of "
            "which may be empty.",
            hint='SECRET_KEY = os.environ["SECRET_KEY"]; SECRET_KEY_FALLBACKS = []',
            id="spatio.E054",
        )


def are_keys(value: object) -> bool:
    """Tell whether *value* is a list of texts that keys can be derived from."""
    return isinstance(value, list | tuple) and all(is_key(key) for key in value)


def is_key(value: object) -> bool:
    """Tell whether *value* is a text, not empty, and without lone surrogates, which have no bytes."""
    return isinstance(value, str) and bool(value) and value == value.encode(errors="ignore").decode()


# The other settings


def check_settings(app_configs: object, **kwargs: Any) -> list[checks.CheckMessage]:
    """Is each ``SPATIO_*`` setting one that we have, and of the kind that it should be?"""
    return [*_unknown(), *_types(), *_values()]


def _unknown() -> Found:
    known = {name for name, value in vars(Settings).items() if isinstance(value, property)}
    # Without what they all begin with, which would make any two of them look alike.
    ends = {name.removeprefix("SPATIO_"): name for name in known}
    for name in dir(settings):
        if name.startswith("SPATIO_") and name.isupper() and name not in known:
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
    listed = isinstance(uris, list | tuple) and all(isinstance(uri, str) for uri in uris)
    if not (listed or uris is None or isinstance(uris, str)):
        yield wrong_type(
            "SPATIO_REDIRECT_URIS",
            "a list of texts, or one with commas",
            uris,
            hint='SPATIO_REDIRECT_URIS = ["https://example.com/spatio/callback/"]',
        )
    timeout = getattr(settings, "SPATIO_HTTP_TIMEOUT", 5.0)
    if isinstance(timeout, bool) or not isinstance(timeout, int | float):
        yield wrong_type("SPATIO_HTTP_TIMEOUT", "a number", timeout, hint="SPATIO_HTTP_TIMEOUT = 5.0")


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
    proxy = getattr(settings, "SPATIO_HTTP_PROXY", None)
    if isinstance(proxy, str) and not _PROXY.fullmatch(proxy):
        yield wrong_value(
            "SPATIO_HTTP_PROXY",
            "is no http or https address",
            hint='SPATIO_HTTP_PROXY = "http://proxy.example.com:3128", or None',
        )
    scopes = texts("SPATIO_SCOPES")
    if not all(_SCOPE.fullmatch(scope) for scope in scopes):
        yield wrong_value(
            "SPATIO_SCOPES",
            "has an entry that is no scope name",
            hint='One name per entry: SPATIO_SCOPES = ["openid", "profile", "email"]',
        )
    timeout = getattr(settings, "SPATIO_HTTP_TIMEOUT", 5.0)
    # Nothing waits longer than that maximum; and no NaN is between two numbers.
    if (
        isinstance(timeout, int | float)
        and not isinstance(timeout, bool)
        and not 0 < timeout <= threading.TIMEOUT_MAX
    ):
        yield wrong_value(
            "SPATIO_HTTP_TIMEOUT", "is no number of seconds to wait", hint="SPATIO_HTTP_TIMEOUT = 5.0"
        )
    yield from _template(getattr(settings, "SPATIO_BASE_TEMPLATE", conf.SPATIO_BASE_TEMPLATE))


def wrong_value(name: str, what: str, *, hint: str) -> checks.CheckMessage:
    """Say that a setting is of the right type and can't be used."""
    return checks.Error(f"{name} {what}.", hint=hint, id="spatio.E063")


def is_issuer(issuer: object) -> bool:
    """Tell whether *issuer* can be one: https, or http on this machine, without a query."""
    try:
        return "?" not in require_safe_url(issuer, member="SPATIO_ISSUER")
    except ProtocolViolation:
        return False


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


# Before going live


def check_deployment(app_configs: object, **kwargs: Any) -> list[checks.CheckMessage]:
    """With ``--deploy``: does everything go over https?"""
    return list(_deployment())


def _deployment() -> Found:
    issuer = getattr(settings, "SPATIO_ISSUER", conf.SPATIO_ISSUER)
    if is_issuer(issuer) and not issuer.startswith("https:"):
        yield checks.Warning(
            f"SPATIO_ISSUER is {issuer!r}: a provider on this machine, over plain http.",
            hint='Take it out, or SPATIO_ISSUER = "https://api.spatio.app"',
            id="spatio.W071",
        )
    base_url = usable_base_url()
    rows = () if base_url else in_force() or ()
    uris = [f"{base_url}/"] if base_url else [uri for row in rows for uri in registration.uris_of(row)]
    exposed = [uri for uri in uris if uri.startswith("http:") and not is_local(uri)]
    if exposed:
        yield checks.Warning(
            f"Spatio leads back to {', '.join(exposed)}: over plain http, anybody on the way reads along.",
            hint=f"Serve https, and: {registration.command([], '--force')}. Mind SPATIO_BASE_URL, if it "
            "is set.",
            id="spatio.W072",
        )


def is_local(url: str) -> bool:
    """Tell whether *url* is on this machine."""
    return registration.host_of(url).strip("[]") in LOOPBACK_HOSTS


# Reading settings that may hold anything


def text(name: str) -> str:
    """Give a setting that is text; empty if it isn't, which is said once, by :func:`check_settings`."""
    value = getattr(settings, name, "")
    return value if isinstance(value, str) else ""


def texts(name: str) -> list[str]:
    """Give the texts of a setting that is a list; none if it isn't."""
    value = getattr(settings, name, ())
    return [each for each in value if isinstance(each, str)] if isinstance(value, list | tuple) else []


def usable_base_url() -> str:
    """Give ``SPATIO_BASE_URL`` as browsers write it, if it is an origin."""
    base_url = text("SPATIO_BASE_URL")
    return registration.as_origin(base_url) or "" if base_url else ""


def position(paths: Sequence[str], wanted: str) -> int | None:
    """Give the index of the first path that leads to that class or a subclass of it."""
    return next((index for index, path in enumerate(paths) if leads_to(path, wanted)), None)


def leads_to(path: str, wanted: str) -> bool:
    """Tell whether *path* names the class *wanted* or a subclass; the class itself need not be imported."""
    return path == wanted or is_kind(loaded(path), wanted)


def loaded(path: str) -> object:
    """Import what *path* names; ``None`` if that fails, which Django tells itself."""
    try:
        return import_string(path)
    except Exception:  # noqa: BLE001 - whatever a module of the site raises
        return None


def is_kind(candidate: object, wanted: str) -> bool:
    """Tell whether *candidate* is the class at the path *wanted*, or a subclass, without importing that."""
    return isinstance(candidate, type) and any(path_of(kind) == wanted for kind in candidate.__mro__)


def path_of(kind: type) -> str:
    """Give the dotted path of a class."""
    return f"{kind.__module__}.{kind.__qualname__}"


#: What ``manage.py check`` runs: what the settings and the URLconf know, and what the database knows.
SETTINGS_CHECKS = (
    check_backend,
    check_middleware,
    check_urls,
    check_client,
    check_cookies,
    check_keys,
    check_settings,
)
DATABASE_CHECKS = (check_registration,)
#: What ``--deploy`` adds.
DEPLOYMENT_CHECKS = (check_deployment,)
