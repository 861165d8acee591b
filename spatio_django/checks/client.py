"""The client, in the settings or in the database, and whether its registration fits this site."""

import time
from contextlib import nullcontext
from typing import Any

from django.conf import settings
from django.core import checks
from django.db import connections, router, transaction

from spatio_django import fit, registration
from spatio_django.checks.cookies import cookie_misfits
from spatio_django.checks.reading import Found, is_issuer, text, usable_base_url
from spatio_django.conf import conf
from spatio_django.models import SpatioClient
from spatio_django.oidc.registration import AUTH_METHODS
from spatio_django.oidc.urls import is_loopback

#: What :func:`spatio_django.fit.misfits` finds, by its codes.
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
    if method and isinstance(method, str) and method not in AUTH_METHODS:
        yield message_of(fit.unknown_method(method))
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
            hint=fit.command([base_url] if base_url else example_base_urls()),
            id="spatio.W031",
        )
    uris: list[str] = []
    for row in rows or ():
        uris = fit.uris_of(row)
        yield from misfits(row)
    yield from cookie_misfits([f"{base_url}/"] if base_url else uris)


def example_base_urls() -> list[str]:
    """Give what a site in development is reached at, if its provider is on this machine too."""
    return ["http://localhost:8000"] if is_loopback(conf.SPATIO_ISSUER) else []


def misfits(row: SpatioClient) -> Found:
    """Say what does not fit about *row*, as far as the settings can be read."""
    kept = fit.is_stored(row)
    try:
        for misfit in fit.misfits(row, now=time.time()):
            # Of the settings' method the check of the settings tells, which spatio_register waits for.
            if misfit.code != "auth_method" or kept:
                yield message_of(misfit, stored=kept)
    except Exception:  # noqa: BLE001 - settings that are none, or no callback: each is another check's finding
        return


def message_of(misfit: fit.Misfit, *, stored: bool = False) -> checks.CheckMessage:
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
