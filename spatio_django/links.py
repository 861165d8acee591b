"""Where a sign-in begins, what it asks for, and where it may lead."""

import posixpath
import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import lru_cache
from urllib.parse import unquote

from django.conf import global_settings, settings
from django.conf.urls.i18n import is_language_prefix_patterns_used
from django.core import signing
from django.http import HttpRequest
from django.shortcuts import resolve_url
from django.urls import (
    NoReverseMatch,
    Resolver404,
    get_resolver,
    get_script_prefix,
    get_urlconf,
    resolve,
    reverse,
)
from django.utils.http import url_has_allowed_host_and_scheme, urlencode
from django.utils.translation import get_language

MAX_NEXT = 2048
#: Our addresses that lead on, so that none of them can be what a sign-in leads to.
OWN_PAGES = ("login", "callback", "logout", "connect", "disconnect")
ASK_SALT = "spatio_django.ask"
SIGNED_OUT_COOKIE = "spatio_signed_out"
#: Seconds after a sign-out for which the next sign-in of that browser asks who it is.
SIGNED_OUT_LIFETIME = 14 * 24 * 3600

#: Tells the next sign-in of a browser whose session was ended what to ask for: :data:`SILENT` or
#: :data:`FRESH`.
AGAIN_COOKIE = "spatio_again"
#: Try first whether the person is still signed in at Spatio (``prompt=none``).
SILENT = "silent"
#: Have them prove who they are (``max_age=0``).
FRESH = "fresh"
#: Tells it that something which was being sent did not arrive.
INTERRUPTED_COOKIE = "spatio_interrupted"
#: Seconds for which that is worth telling.
INTERRUPTED_LIFETIME = 120

_NEXT = re.compile(r"/(?![/\\])[\x21-\x5b\x5d-\x7e]*")
#: What browsers take off the ends of an address, and tabs and line breaks anywhere in it (WHATWG URL §4.4).
_TRIMMED = "".join(map(chr, range(0x21)))
_DROPPED = re.compile(r"[\t\n\r]")


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """
    What a sign-in asks for beyond the ordinary. It comes from the site's code, never from the query string.

    Attributes:
        scopes: Beyond ``SPATIO_SCOPES``. If Spatio doesn't grant them, the sign-in fails and says so.
        prompt: ``none``, ``login`` or ``consent`` (OpenID Connect Core §3.1.2.1).
        max_age: Seconds since the person last proved their identity at Spatio; checked in ``auth_time``.
        explicit: Someone means this sign-in: a person clicked, or the site demands it. Otherwise Django sent
            the browser here because a page is not for everyone.
    """

    scopes: tuple[str, ...] = ()
    prompt: str | None = None
    max_age: int | None = None
    explicit: bool = False

    def login_url(self, next_url: str | None) -> str:
        """Give the path that begins a sign-in asking for this."""
        return login_url(next_url, scopes=self.scopes, prompt=self.prompt, max_age=self.max_age)

    def with_parameters(self, extra: dict[str, str]) -> "Ask":
        """Take ``prompt`` and ``max_age`` out of *extra*, where mozilla-django-oidc's users put them."""
        ask = self
        if "prompt" in extra:
            ask = replace(ask, prompt=extra.pop("prompt"))
        if "max_age" in extra:
            ask = replace(ask, max_age=int(extra.pop("max_age")))
        return ask


def login_url(
    next_url: str | None = None,
    *,
    scopes: Iterable[str] = (),
    prompt: str | None = None,
    max_age: int | None = None,
) -> str:
    """
    Give the path that begins a sign-in, to link or redirect to.

    What is asked for travels signed, so that nobody can add to it in the address bar.

    Args:
        next_url: The page to land on; checked when it is used.
        scopes: Scopes beyond ``SPATIO_SCOPES``.
        prompt: ``login`` or ``consent``; ``none`` signs in only if no page needs to be shown.
        max_age: Seconds since the last active sign-in at Spatio that are still good enough.
    """
    query = {}
    if next_url:
        query = {"next": next_url, "explicit": "1"}
    if scopes or prompt or max_age is not None:
        query["ask"] = signing.dumps([sorted(scopes), prompt, max_age], salt=ASK_SALT)
    return reverse("spatio:login") + (f"?{urlencode(query)}" if query else "")


def account_url(next_url: str | None = None) -> str:
    """Give the path of the page "Spatio account", which hands *next_url* on to what is done there."""
    url = own_url("account")
    if url is None:  # a site that wants no such page: what follows is on the page that was wanted
        return next_url or get_script_prefix()
    return url + (f"?{urlencode({'next': next_url})}" if next_url else "")


def asked(request: HttpRequest) -> Ask:
    """Read what :func:`login_url` said; what it did not sign asks for nothing."""
    try:
        scopes, prompt, max_age = signing.loads(request.GET.get("ask", ""), salt=ASK_SALT)
    except (signing.BadSignature, UnicodeEncodeError):  # in UTF-7 or such, it can hold what UTF-8 can't
        return Ask(explicit="explicit" in request.GET)
    return Ask(scopes=tuple(scopes), prompt=prompt, max_age=max_age, explicit=True)


def safe_next(request: HttpRequest, value: str | None) -> str | None:
    """
    Give *value* if it is a page of this site to go to after signing in or out, else ``None``.

    Stricter than Django's own check, which accepts what a careless proxy or an extra decoding step turns
    into another site: a path from the root, printable ASCII without backslash, and none of our own pages,
    which would lead in circles. Decoded once more, it must still be a page of this site.
    """
    if (
        not value
        or len(value) > MAX_NEXT
        or not _NEXT.fullmatch(value)
        or not url_has_allowed_host_and_scheme(value, {request.get_host()})
    ):
        return None
    own = own_pages(get_resolver(get_urlconf()), get_script_prefix(), get_language())
    # Judged decoded too (/%2Fevil.example); what is given back is never decoded.
    return None if any(goes_astray(reading, own) for reading in (value, unquote(value))) else value


def goes_astray(address: str, own: frozenset[str]) -> bool:
    """Tell whether *address*, which begins with a slash, is another site to a browser, or one of *own*."""
    read = _DROPPED.sub("", address.strip(_TRIMMED)).replace("\\", "/")
    path = unquote(re.split("[?#]", read, maxsplit=1)[0])  # as the URLconf will see it
    # The path of /.//evil.example is //evil.example: whoever redirects to the path of a request leads there.
    has_dots = not {".", ".."}.isdisjoint(path.split("/"))
    return read.startswith("//") or (has_dots and "//" in path) or posixpath.normpath(path) in own


@lru_cache(maxsize=64)
def own_pages(*where: object) -> frozenset[str]:
    """
    Give the paths of :data:`OWN_PAGES`.

    Args:
        where: What they depend on, in force now: the URLconf, the prefix, and the language.
    """
    return frozenset(posixpath.normpath(url) for name in OWN_PAGES if (url := own_url(name)))


def own_url(name: str) -> str | None:
    """Give the path of an address of ours; ``None`` if the site, whose URLconf is its own, left it out."""
    try:
        return reverse(f"spatio:{name}")
    except NoReverseMatch:
        return None


def landing_page() -> str:
    """
    Give the page to land on after a sign-in that began on none.

    ``LOGIN_REDIRECT_URL``; while that leads nowhere the front page; while there is none either, the page
    "Spatio account", which says who is signed in.
    """
    front = get_script_prefix()
    return login_redirect_url() or (None if has_front_page() else own_url("account")) or front


def login_redirect_url() -> str | None:
    """
    Give ``LOGIN_REDIRECT_URL`` as an address.

    ``None`` if it is still Django's default and the site has no such page: a first sign-in must not end in a
    404 because a setting was not thought of.
    """
    url = resolve_url(settings.LOGIN_REDIRECT_URL)
    is_default = settings.LOGIN_REDIRECT_URL == global_settings.LOGIN_REDIRECT_URL
    return None if is_default and not is_served(url) else url


def has_front_page() -> bool:
    """Tell whether the site has a page at its root, or one for each language that the root leads to."""
    by_language, _for_default = is_language_prefix_patterns_used(get_urlconf() or settings.ROOT_URLCONF)
    return is_served("/") or (by_language and is_served(f"/{get_language()}/"))


def is_served(path: str) -> bool:
    """Tell whether the URLconf has something for *path*."""
    try:
        resolve(path)
    except Resolver404:
        return False
    return True


def session_cookie_is_strict() -> bool:
    """Tell whether browsers keep the session cookie back on the way from Spatio. Django takes any case."""
    return str(settings.SESSION_COOKIE_SAMESITE).lower() == "strict"
