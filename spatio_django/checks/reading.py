"""Reading settings that may hold anything."""

from collections.abc import Iterator, Sequence

from django.conf import settings
from django.core import checks
from django.utils.module_loading import import_string

from spatio_django import registration
from spatio_django.exceptions import ProtocolViolation
from spatio_django.oidc.urls import require_safe_url

Found = Iterator[checks.CheckMessage]

BACKEND = "spatio_django.backends.SpatioBackend"


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


def is_issuer(issuer: object) -> bool:
    """Tell whether *issuer* can be one: https, or http on this machine, without a query."""
    try:
        return "?" not in require_safe_url(issuer, member="SPATIO_ISSUER")
    except ProtocolViolation:
        return False
