"""One client per process, and a shared cache that others can write to."""

import queue
import time
from typing import Any

import pytest
from django.core import signing
from django.core.cache import cache
from django.db import connection, connections

from spatio_django import provider
from tests.conftest import Site


def cached_keys() -> list[str]:
    """Give the keys of the shared cache that are ours."""
    return [key.split(":", 2)[2] for key in cache._cache if "spatio:" in key]  # type: ignore[attr-defined]


def test_one_client_serves_all_calls_of_a_process(settings: Any) -> None:
    """Connections and documents are kept; other settings get another client."""
    first = provider.get_client()

    assert provider.get_client() is first
    settings.SPATIO_HTTP_TIMEOUT = 2
    assert provider.get_client() is not first


def test_another_process_takes_the_documents_from_the_shared_cache(site: Site) -> None:
    """A new worker makes no discovery and no key call."""
    site.sign_in(site.browser())
    provider.close()
    site.spatio.requests.clear()

    site.sign_in(site.browser())

    paths = {request.path for request in site.spatio.requests}
    assert paths.isdisjoint({"/.well-known/openid-configuration", "/.well-known/jwks.json"})


def test_a_planted_document_is_not_believed(site: Site) -> None:
    """Who can write to the cache could forge anyone, with keys of their own."""
    site.sign_in(site.browser())
    keys = cached_keys()
    assert len(keys) >= 2
    for key in keys:
        if isinstance(cache.get(key), str):
            cache.set(key, signing.Signer(salt="another").sign(provider.unseal(cache.get(key)).decode()))  # type: ignore[union-attr]
    provider.close()
    site.spatio.requests.clear()

    site.sign_in(site.browser())

    assert len(site.spatio.calls("/.well-known/openid-configuration")) == 1
    assert len(site.spatio.calls("/.well-known/jwks.json")) == 1


def test_a_cache_that_is_down_stops_nobody(site: Site, settings: Any) -> None:
    """Processes then keep their own copies."""
    settings.CACHES = {
        "default": {
            "BACKEND": "django.core.cache.backends.redis.RedisCache",
            "LOCATION": "redis://127.0.0.1:1",
        }
    }
    provider.close()

    assert site.sign_in(site.browser()).status_code == 302


@pytest.mark.django_db(transaction=True)
def test_work_beside_a_request_leaves_no_database_connection() -> None:
    """Documents are fetched again in a thread, and the shared cache may be in the database."""
    used: queue.Queue[Any] = queue.Queue()

    def work() -> None:
        connection.ensure_connection()
        used.put(connections["default"])

    provider.get_client()._documents._background(work)

    of_thread = used.get(timeout=5)
    deadline = time.monotonic() + 5
    while of_thread.connection is not None and time.monotonic() < deadline:
        time.sleep(0.01)
    assert of_thread.connection is None
