"""The backend: is there one of ours, and does it keep to its hooks?"""

from typing import Any

from django.core import checks

from spatio_django.checks.reading import BACKEND, Found, leads_to, loaded, path_of, texts


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
