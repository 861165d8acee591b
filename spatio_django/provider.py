"""Composition root: settings and Django's cache become one :class:`~spatio_django.oidc.client.Client`."""

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from django.core import signing
from django.core.cache import cache
from django.db import connections

from spatio_django.conf import conf

if TYPE_CHECKING:
    from spatio_django.oidc.client import Client
    from spatio_django.oidc.http import Http

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


#: By settings; more than one only where a process changes them, as tests do.
_clients: dict[tuple[str, float, str | None], tuple["Client", "Http"]] = {}


def get_client() -> "Client":
    """Give this process's client for the current settings; it keeps connections and documents."""
    key = (conf.SPATIO_ISSUER, conf.SPATIO_HTTP_TIMEOUT, conf.SPATIO_HTTP_PROXY)
    found = _clients.get(key)
    if found is None:
        # setdefault is atomic: threads agree on one, without a lock that a fork could leave locked.
        found = _clients.setdefault(key, _new_client(*key))
    return found[0]


def _new_client(issuer: str, timeout: float, proxy: str | None) -> tuple["Client", "Http"]:
    # Imported with the first sign-in, not with the site: josepy, TLS and what they bring are slow.
    from spatio_django.oidc.cache import Documents, in_thread
    from spatio_django.oidc.client import Client
    from spatio_django.oidc.http import Http

    http = Http(timeout=timeout, proxy=proxy)
    documents = Documents(
        cache=cache,
        seal=seal,
        unseal=unseal,
        background=lambda work: in_thread(partial(_closing_connections, work)),
    )
    return Client(issuer=issuer, http=http, documents=documents), http


def _closing_connections(work: Callable[[], None]) -> None:
    """Do *work* in a thread that ends then; with a cache in the database it has a connection."""
    try:
        work()
    finally:
        connections.close_all()


def close() -> None:
    """Close connections and forget documents, as if the process were new."""
    for _, http in _clients.values():
        http.close()
    _clients.clear()
