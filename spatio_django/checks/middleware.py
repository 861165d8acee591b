"""The middleware: is ours there, after those that it reads from?"""

from typing import Any

from django.core import checks

from spatio_django.checks.reading import BACKEND, Found, leads_to, loaded, position, texts

MIDDLEWARE = "spatio_django.middleware.SpatioMiddleware"
#: What ours needs before it, outermost first.
NEEDED_MIDDLEWARE = (
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
)
SESSION_REFRESH = "mozilla_django_oidc.middleware.SessionRefresh"


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
