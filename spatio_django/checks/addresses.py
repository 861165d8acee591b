"""The URLconf: are our addresses there, and can guests reach them?"""

from collections.abc import Iterator
from typing import Any

from django.conf import global_settings, settings
from django.core import checks
from django.urls import NoReverseMatch, Resolver404, URLPattern, URLResolver, get_resolver, resolve, reverse
from django.urls.resolvers import LocalePrefixPattern
from django.utils.functional import Promise

from spatio_django.checks.reading import Found, is_kind, position, texts

#: What signing in and out needs, and what only those need who connect an account.
NEEDED = ("login", "callback", "logout")
OPTIONAL = ("account", "connect", "disconnect")
INCLUDE = 'path("spatio/", include("spatio_django.urls"))'
LOGIN_REQUIRED = "django.contrib.auth.middleware.LoginRequiredMiddleware"


def check_urls(app_configs: object, **kwargs: Any) -> list[checks.CheckMessage]:
    """Are our addresses in the URLconf, where guests can reach them, and does ``LOGIN_URL`` lead anywhere?"""
    return list(_urls())


def _urls() -> Found:
    found = addresses()
    missing = [name for name, path in found.items() if path is None]
    patterns = list(included())
    spaces = {space for space, _by_language, pattern in patterns if shows(pattern, "CallbackView")}
    names = ", ".join(f"spatio:{name}" for name in missing)
    if not {*missing}.isdisjoint(NEEDED):
        yield checks.Error(f"The URLconf has no {names}.", hint=how_to_include(spaces), id="spatio.E021")
        return
    if missing:
        yield checks.Warning(
            f"The URLconf has no {names}: nobody can connect Spatio to a user of this site, or look at it.",
            hint=how_to_include(spaces),
            id="spatio.W025",
        )
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
    for name in (*NEEDED, *OPTIONAL):
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
        elif isinstance(each, URLPattern):  # anything else Django tells itself
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
