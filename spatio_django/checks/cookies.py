"""Django's cookies: will browsers keep them, and send them to our addresses?"""

from collections.abc import Iterator, Sequence
from typing import Any

from django.conf import settings
from django.core import checks

from spatio_django import fit
from spatio_django.checks.addresses import addresses
from spatio_django.checks.reading import Found

#: What goes wrong when the browser does not keep or send the cookie.
COOKIES = {
    "SESSION": "whoever signed in is nobody again on the next page",
    "CSRF": "the buttons to sign out and to connect an account are refused",
}

#: What is read of each: ``SESSION_COOKIE_NAME`` and so on.
ATTRIBUTES = ("NAME", "DOMAIN", "PATH", "SECURE", "SAMESITE")


def check_cookies(app_configs: object, **kwargs: Any) -> list[checks.CheckMessage]:
    """Will browsers keep the session cookie, and send it and the CSRF cookie to our addresses?"""
    return list(_cookies())


def _cookies() -> Found:
    same_site = cookie("SESSION", "SAMESITE")
    known = isinstance(same_site, str) and same_site.lower() in {"lax", "none", "strict"}
    if same_site and not known:
        yield checks.Error(
            f"SESSION_COOKIE_SAMESITE is {same_site!r}: Django can't set such a cookie, so nobody signs in.",
            hint='SESSION_COOKIE_SAMESITE = "Lax"; "Strict" works too.',
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
    hosts = [host for uri in uris if (host := fit.host_of(uri))]
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
                hint=f"Serve https and register it: {fit.command([], '--force')}. In development: "
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
