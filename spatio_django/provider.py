"""Composition root: settings and Django's cache become one :class:`~spatio_django.oidc.client.Client`."""

from functools import lru_cache
from typing import TYPE_CHECKING

from django.core import signing
from django.core.cache import cache

from spatio_django.conf import conf

if TYPE_CHECKING:
    from spatio_django.oidc.client import Client

#: Salt of the signature on what we keep in a cache that others can write to.
CACHE_SALT = "spatio_django.cache"


def seal(document: bytes) -> str:
    """Sign what goes into the shared cache: a planted key set would let its author sign in as anyone."""
    return signing.Signer(salt=CACHE_SALT).sign(document.decode())


def unseal(sealed: str) -> bytes | None:
    """Give what :func:`seal` signed, or ``None`` if somebody else wrote it."""
    try:
        return signing.Signer(salt=CACHE_SALT).unsign(sealed).encode()
    except signing.BadSignature:
        return None


@lru_cache(maxsize=4)
def _client(issuer: str, timeout: float, proxy: str | None) -> "Client":
    # Imported with the first sign-in, not with the site: requests, josepy and what they bring are slow.
    from spatio_django.oidc.client import Client
    from spatio_django.oidc.http import Http

    return Client(
        issuer=issuer, http=Http(timeout=timeout, proxy=proxy), cache=cache, seal=seal, unseal=unseal
    )


def get_client() -> "Client":
    """Give this process's client for the current settings. It keeps connections and documents between calls."""
    return _client(conf.SPATIO_ISSUER, conf.SPATIO_HTTP_TIMEOUT, conf.SPATIO_HTTP_PROXY)
