"""Lists to adopt from: other packages' tables, a field of the user, a file."""

import csv
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, TextIO
from uuid import UUID

from django.apps import apps
from django.conf import settings
from django.contrib.auth import get_user_model
from django.core.exceptions import FieldError, ValidationError
from django.db import models
from django.utils.module_loading import import_string

from spatio_django.adoption import Outcome, Row, Source
from spatio_django.conf import conf
from spatio_django.exceptions import ConfigurationError
from spatio_django.models import authoritative
from spatio_django.oidc import base64url, strict_json
from spatio_django.oidc.discovery import well_known_urls

#: Rows read from another package's table at a time.
PAGE = 2000

#: Columns of a file that mean something.
COLUMNS = ("pk", "username", "sub", "issuer")

#: A number or a UUID as people write it: Python would also read "1_0", and digits of every script.
_KEY = re.compile(r"[0-9A-Fa-f-]+")


def from_allauth(provider: str | None) -> Source:
    """
    Read django-allauth's social accounts of *provider*, or of the only one that is at our issuer.

    Raises:
        ConfigurationError: ``adopt``.
    """
    # By name, here and below: this package imports nothing that it doesn't depend on.
    _require_installed("allauth.socialaccount")
    adapter = import_string("allauth.socialaccount.adapter.get_adapter")()
    found: dict[str, str] = {}
    for app in adapter.list_apps(None):
        name = app.provider_id or app.provider
        # One that doesn't fit is enough: the settings and the database may both have an app of that name.
        found[name] = found.get(name) or _misfit_of_app(app)
    model = import_string("allauth.socialaccount.models.SocialAccount")
    return _stored(model, _choose(found, provider), _doubt_of_social_account)


def from_social_auth(provider: str | None) -> Source:
    """
    Read social-auth's associations of the backend *provider*, or of the only one that is at our issuer.

    Raises:
        ConfigurationError: ``adopt``.
    """
    _require_installed("social_django")
    strategy = import_string("social_django.utils.load_strategy")()
    load_backends = import_string("social_core.backends.utils.load_backends")
    openid_connect = import_string("social_core.backends.open_id_connect.OpenIdConnectAuth")
    found = {
        name: _misfit_of_backend(kind(strategy))
        for name, kind in load_backends(settings.AUTHENTICATION_BACKENDS, force_load=True).items()
        if issubclass(kind, openid_connect)
    }
    return _stored(strategy.storage.user, _choose(found, provider), _doubt_of_association)


def from_field(path: str, *, issuer: str | None) -> Source:
    """
    Read a field of the user, or of something that belongs to it, such as ``profile.oidc_sub``.

    Users in whom it is empty are not on the list.

    Args:
        path: With dots or double underscores.
        issuer: Whose identifiers these are, as the operator says; nothing stored does.

    Raises:
        ConfigurationError: ``adopt``.
    """
    _require_vouched(issuer)
    users = authoritative(get_user_model())
    try:
        values = users.order_by("pk").values_list("pk", path.replace(".", "__"))
    except FieldError as error:
        raise _unusable(f"Users have no field {path!r}.") from error

    def rows() -> Iterator[Row]:
        for page in _pages(users.only("pk")):
            for pk, sub in values.filter(pk__in=[user.pk for user in page]):
                if sub not in (None, ""):
                    doubt = None if _is_identifier(sub) else Outcome.BAD_SUB
                    yield Row(f"field {path}", str(pk), str(sub), doubt)

    return Source("pk", rows(), f"the field {path}")


def from_csv(stream: TextIO, *, issuer: str | None) -> Source:
    """
    Read lines of comma-separated values. The first names the columns: ``sub``, and ``pk`` or ``username``.

    A column ``issuer``, if there is one, says whose identifier it is; further columns don't matter.

    Args:
        stream: Opened with ``newline=""``.
        issuer: Whose identifiers these are, as the operator says, if no column does.

    Raises:
        ConfigurationError: ``adopt``; also while the rows are read.
    """
    reader = csv.DictReader(stream, strict=True)
    header = _read_csv(lambda: list(reader.fieldnames or ()), reader)
    keys = {"pk", "username"}.intersection(header)
    if len(keys) != 1 or "sub" not in header or any(header.count(name) > 1 for name in COLUMNS):
        raise _unusable('The first line must name the columns: "pk,sub" or "username,sub".')
    (key,) = keys
    if "issuer" not in header:
        _require_vouched(issuer)

    def rows() -> Iterator[Row]:
        while record := _read_csv(lambda: next(reader, None), reader):
            place = f"line {reader.line_num}"
            user, sub = record[key] or "", record["sub"] or ""
            if None in record or None in record.values():
                yield Row(place, user, sub, Outcome.MALFORMED)
            elif record.get("issuer", conf.SPATIO_ISSUER) != conf.SPATIO_ISSUER:
                yield Row(place, user, sub, Outcome.OTHER_ISSUER)
            else:
                known = _key_text(user, is_pk=key == "pk")
                yield Row(place, user, sub, Outcome.NO_USER) if known is None else Row(place, known, sub)

    return Source("pk" if key == "pk" else get_user_model().USERNAME_FIELD, rows())


# What the lists are made of


def _stored(model: type[models.Model], provider: str, doubt: Callable[[Any], Outcome | None]) -> Source:
    """Give the rows of another package's *model* for that provider."""
    if model._meta.get_field("user").related_model is not get_user_model():
        # Equal keys of two user models are two people.
        raise _unusable(f"{model._meta.label} doesn't belong to this site's users.")

    def rows() -> Iterator[Row]:
        for page in _pages(authoritative(model).filter(provider=provider)):
            for stored in page:
                if stored.provider == provider:  # to some databases "Spatio" is "spatio"
                    place = f"{model._meta.verbose_name} {stored.pk}"
                    yield Row(place, str(stored.user_id), stored.uid, doubt(stored))

    return Source("pk", rows(), f"{model._meta.verbose_name_plural} of {provider!r}")


def _pages(rows: models.QuerySet[Any]) -> Iterator[list[Any]]:
    """Give *rows* in pages. ``iterator()`` would have MySQL's client hold them all."""
    rows = rows.order_by("pk")
    page = list(rows[:PAGE])
    while page:
        yield page
        page = list(rows.filter(pk__gt=page[-1].pk)[:PAGE])


def _misfit_of_app(app: Any) -> str:
    """Say why an app of allauth's is not our issuer known by ``sub``; nothing if it is."""
    if app.provider != "openid_connect":
        return f"is {app.provider}, not openid_connect"
    if app.settings.get("uid_field", "sub") != "sub":
        return "knows people by another claim than sub (uid_field)"
    return _misfit_of_url(app.settings.get("server_url", ""))


def _misfit_of_backend(backend: Any) -> str:
    """Say why a backend of social-auth's is not our issuer known by ``sub``; nothing if it is."""
    if backend.setting("ID_KEY", backend.ID_KEY) != "sub":
        return "knows people by another claim than sub (ID_KEY)"
    # If it is set, it is what each "iss" was compared with, wherever the endpoints are.
    pinned = backend.setting("ID_TOKEN_ISSUER", backend.ID_TOKEN_ISSUER)
    if pinned:
        return "" if pinned == conf.SPATIO_ISSUER else f"is at {pinned}"
    return _misfit_of_url(backend.oidc_endpoint() or "")


def _misfit_of_url(url: str) -> str:
    """Say so unless *url* leads to the metadata of our issuer, as such packages write it."""
    place = url if "/.well-known/" in url else f"{url.rstrip('/')}/.well-known/openid-configuration"
    return "" if place in well_known_urls(conf.SPATIO_ISSUER) else f"is at {url or 'no known address'}"


def _choose(found: Mapping[str, str], wanted: str | None) -> str:
    """Give the provider to take, *wanted* or the only one without a misfit."""
    fitting = [name for name, misfit in found.items() if not misfit]
    if wanted in fitting:
        return str(wanted)
    if wanted is None and len(fitting) == 1:
        return fitting[0]
    known = "; ".join(f"{name!r} {misfit or 'fits'}" for name, misfit in sorted(found.items()))
    if wanted is not None:
        problem = f"{wanted!r} can't be taken"
    else:
        problem = "Say which with --provider" if fitting else "No provider can be taken"
    raise _unusable(f"{problem}. The issuer is {conf.SPATIO_ISSUER}. Configured: {known or 'none'}.")


def _doubt_of_social_account(stored: Any) -> Outcome | None:
    """Compare a row of allauth's with the claims that are kept beside it."""
    data = _object(stored.extra_data)
    return _doubt(stored.uid, [data, data.get("userinfo"), data.get("id_token")])


def _doubt_of_association(stored: Any) -> Outcome | None:
    """Compare a row of social-auth's with what is kept beside it, where ``id`` means ``sub``."""
    if getattr(stored, "id_key", "") not in {"", "sub"}:  # since version 8
        return Outcome.NOT_SUB
    data = _object(stored.extra_data)
    former = {"sub": data["id"]} if "id" in data else None
    parts = [data, former, data.get("_oidc_id_token_context"), _payload(data.get("id_token"))]
    return _doubt(stored.uid, parts)


def _object(data: object) -> dict[str, Any]:
    """Read what a row keeps: an object, or its text, where the column was one of text once."""
    if isinstance(data, str):
        data = strict_json.parse_object(data.encode("utf-8", "replace"))
    return data if isinstance(data, dict) else {}


def _doubt(uid: str, parts: Iterable[object]) -> Outcome | None:
    """
    Let what was stored at a sign-in speak against a row.

    The settings say where a provider is today. A row may be older than them: from the days when the same name
    was another provider's, or when people were known by another claim.
    """
    for claims in parts:
        if isinstance(claims, dict):
            if claims.get("iss", conf.SPATIO_ISSUER) != conf.SPATIO_ISSUER:
                return Outcome.OTHER_ISSUER
            if claims.get("sub", uid) != uid:
                return Outcome.NOT_SUB
    return None


def _payload(token: object) -> dict[str, Any] | None:
    """Read the claims of a stored ID token, which is as true as the rest of its row."""
    parts = token.split(".") if isinstance(token, str) else []
    data = base64url.decode(parts[1]) if len(parts) == 3 else None
    return None if data is None else strict_json.parse_object(data)


def _key_text(text: str, *, is_pk: bool) -> str | None:
    """Give a key as the database will give it back ("007" is "7"), or ``None`` if it is none."""
    if not text or "\0" in text:  # PostgreSQL raises at NUL
        return None
    if not is_pk:
        return text
    pk = get_user_model()._meta.pk
    field = getattr(pk, "target_field", pk)
    try:
        value = field.to_python(text)
        field.run_validators(value)
    except ValidationError:
        return None
    return str(value) if value == text or _KEY.fullmatch(text) else None


def _is_identifier(value: object) -> bool:
    """Tell whether a field may hold identifiers, and not dates, say, which are unique texts, too."""
    return isinstance(value, str | int | UUID) and not isinstance(value, bool)


def _read_csv(step: Callable[[], Any], reader: "csv.DictReader[str]") -> Any:
    """Take a step in a file that may be anything."""
    try:
        return step()
    except (UnicodeDecodeError, csv.Error) as error:
        place = f"after line {reader.line_num}"
        raise _unusable(f"This is no text in UTF-8 with comma-separated values ({place}).") from error


def _require_installed(app: str) -> None:
    if not apps.is_installed(app):
        raise _unusable(f"{app} is not in INSTALLED_APPS: adopt before you take it out.")


def _require_vouched(issuer: str | None) -> None:
    """Demand a word on whose identifiers these are: elsewhere, an equal ``sub`` is another person."""
    ours = conf.SPATIO_ISSUER
    if issuer != ours:
        raise _unusable(f"Nothing stored says who gave these identifiers. If it was {ours}: --issuer {ours}")


def _unusable(message: str) -> ConfigurationError:
    return ConfigurationError(message, code="adopt")
