"""What is in order on a developer's machine, and not on the internet."""

from typing import Any

from django.conf import settings
from django.core import checks

from spatio_django import fit
from spatio_django.checks.client import in_force
from spatio_django.checks.reading import Found, is_issuer, usable_base_url
from spatio_django.conf import conf
from spatio_django.oidc.urls import LOOPBACK_HOSTS


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
    uris = [f"{base_url}/"] if base_url else [uri for row in rows for uri in fit.uris_of(row)]
    exposed = [uri for uri in uris if uri.startswith("http:") and not is_local(uri)]
    if exposed:
        yield checks.Warning(
            f"Spatio leads back to {', '.join(exposed)}: over plain http, anybody on the way reads along.",
            hint=f"Serve https, and: {fit.command([], '--force')}. Mind SPATIO_BASE_URL, if it is set.",
            id="spatio.W072",
        )


def is_local(url: str) -> bool:
    """Tell whether *url* is on this machine."""
    return fit.host_of(url).strip("[]") in LOOPBACK_HOSTS
