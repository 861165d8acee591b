"""Every kind of session that Django has: sign in, refresh, be ended, sign out."""

import os
from pathlib import Path
from typing import Any

import pytest
from django.core.cache import cache

from spatio_django import memo
from spatio_django.models import GrantState, PendingRevocation, SpatioToken
from tests.faults.conftest import TOKEN, Rig, settle
from tests.faults.test_table import get, refusing

#: The address of a Redis, with a database of its own, if there is one: ``redis://127.0.0.1:6379/9``.
REDIS = os.environ.get("SPATIO_TESTS_REDIS")
ENGINES = ["db", "cached_db", "cache", "file", "signed_cookies"]
CASES = [(engine, "memory") for engine in ENGINES] + (
    [("cached_db", "redis"), ("cache", "redis")] if REDIS else []
)


@pytest.mark.parametrize(("engine", "caches"), CASES)
def test_a_session_of_any_kind_is_kept_fresh_and_ended(
    rig: Rig, settings: Any, tmp_path: Path, engine: str, caches: str
) -> None:
    """The middleware refreshes; ``invalid_grant`` ends the session; signing out revokes."""
    settings.SESSION_ENGINE = f"django.contrib.sessions.backends.{engine}"
    settings.SESSION_FILE_PATH = str(tmp_path)
    if caches == "redis":
        backend = "django.core.cache.backends.redis.RedisCache"
        settings.CACHES = {"default": {"BACKEND": backend, "LOCATION": REDIS}}
        cache.clear()
    browser, grant = rig.person()
    phone, _ = rig.person()
    assert rig.is_signed_in(browser)

    for _ in range(2):
        rig.works(browser, grant)
        assert get(browser)[0] == 200
    assert len(rig.refreshes) == 2

    settle()
    old = rig.twin(phone)
    assert phone.post("/spatio/logout/").status_code == 302
    settle()
    assert len(rig.revoked) == 2
    assert not any(map(rig.knows, rig.revoked))
    assert not PendingRevocation.objects.exists()
    assert not rig.is_signed_in(phone)
    memo.memo.clear()
    assert not rig.is_signed_in(old), "a cookie that somebody kept is worth nothing"

    rig.line.instead[TOKEN] = refusing("invalid_grant")
    rig.expire(grant)
    old = rig.twin(browser)
    assert not rig.is_signed_in(browser)
    assert SpatioToken.objects.get().state == GrantState.DEAD
    assert not rig.is_signed_in(old)
    for each in (browser, phone, old):
        for token in rig.secrets():
            assert all(token not in morsel.OutputString() for morsel in each.cookies.values())
    rig.line.be_honest()
    assert "prompt=none" in rig.begin(browser)
    rig.sign_in(browser)
    assert rig.is_signed_in(browser)
