"""The table of faults: each with its number, what is done, and what is promised."""

import contextlib
import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from itertools import accumulate, count, takewhile
from typing import Any

import pytest
from django.contrib.auth.models import Group
from django.db import connections
from django.test import Client

from spatio_django import memo, refreshing
from spatio_django.exceptions import TokenUnavailable
from spatio_django.models import GrantState, PendingRevocation, SpatioToken
from tests.faults.conftest import (
    DISCOVERY,
    HURRY,
    TOKEN,
    USERINFO,
    Rig,
    complaints,
    hurried,
    settle,
    times,
)
from tests.faults.databases import (
    end_all_connections,
    outages,
    patience,
    row_locked,
    together,
    vendor,
)
from tests.hostile.conftest import Records
from tests.hostile.front import Deed, hang
from tests.oidc.wire import reply

JSON = "Content-Type: application/json"


def answering(status: str, body: bytes = b"", *headers: str) -> Deed:
    """Answer so, and close."""
    return lambda connection, _: connection.sendall(reply(body, *(headers or (JSON,)), status=status))


def refusing(error: str, status: str = "400 Bad Request") -> Deed:
    """Answer with an OAuth error."""
    return answering(status, json.dumps({"error": error}).encode())


def get(browser: Client, path: str = "/token/") -> tuple[int, str]:
    """Give status and page."""
    response = browser.get(path)
    return response.status_code, response.content.decode()


# --- F1, F2: at once --------------------------------------------------------------------------------------


def test_f1_sixteen_threads_at_the_same_expiry_make_one_call(rig: Rig) -> None:
    """F1: 16 threads, one process, same expiry: one token call; and all have the same, new token."""
    browser, grant = rig.person()
    before = get(browser)
    twins = [rig.twin(browser) for _ in range(16)]
    rig.expire(grant)

    answers = together(16, lambda number: get(twins[number]))

    assert len(rig.refreshes) == 1
    assert len(set(answers)) == 1
    assert answers[0][0] == 200
    assert answers[0] != before
    assert rig.row(grant).generation == 1
    assert rig.is_good(grant)


def test_f2_two_processes_make_one_call_per_generation(rig: Rig) -> None:
    """F2: several processes, one database: one call per generation."""
    _browser, grant = rig.person()
    for generation in range(1, times("SPATIO_TESTS_GENERATIONS", 1) + 1):
        rig.expire(grant)
        told = {
            "database": str(connections["default"].settings_dict["NAME"]),
            "issuer": rig.spatio.issuer,
            "grant": grant.pk,
        }
        environment = {
            **os.environ,
            "SPATIO_TESTS_PROCESS": json.dumps(told),
            "DJANGO_SETTINGS_MODULE": "tests.settings",
        }
        processes = [
            subprocess.Popen(
                [sys.executable, "-m", "tests.faults.process"],
                env=environment,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
            for _ in range(2)
        ]
        for process in processes:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
        for process in processes:
            assert process.stdin is not None
            process.stdin.write("\n")
            process.stdin.flush()
        assert [process.communicate(timeout=60)[0] for process in processes] == [f"{generation}\n"] * 2
        assert len(rig.refreshes) == generation
    assert rig.is_good(grant)


# --- F11 to F16: no answer, or none that says anything ----------------------------------------------------


def test_f11_a_provider_that_never_answers_costs_no_session(rig: Rig) -> None:
    """F11: the provider accepts and never answers: it ends with the deadline, and the session goes on."""
    browser, grant = rig.person()
    rig.works(browser, grant)
    rig.line.instead[TOKEN] = hang
    rig.expire(grant)

    with hurried():
        assert rig.is_signed_in(browser)
    rig.put_off()
    assert get(browser)[0] == 503

    assert len(rig.refreshes) == 2
    after = rig.row(grant)
    assert (after.state, after.lease_id, after.fails, after.in_doubt) == (GrantState.ACTIVE, "", 1, True)
    rig.line.be_honest()
    rig.pass_time(120)
    rig.works(browser, grant)


@pytest.mark.parametrize("part", ["head", "body"])
def test_f12_a_provider_that_drips_is_given_no_more_time(rig: Rig, part: str) -> None:
    """F12: one byte after the other: the deadline is for all of them, and the session goes on."""
    browser, grant = rig.person()
    rig.works(browser, grant)

    def drip(connection: socket.socket, _: bytes) -> None:
        whole = reply(b" " * 500, JSON)
        start = whole.index(b"\r\n\r\n") + 4 if part == "body" else 0
        connection.sendall(whole[:start])
        rig.line.drip(connection, whole[start:], every=HURRY / 6)

    rig.line.instead[TOKEN] = drip
    rig.expire(grant)

    with hurried():
        assert rig.is_signed_in(browser)

    assert len(rig.refreshes) == 2
    assert rig.row(grant).fails == 1
    rig.line.be_honest()
    rig.pass_time(60)
    rig.works(browser, grant)


@pytest.mark.parametrize("status", ["500 Internal Server Error", "502 Bad Gateway", "503 Unavailable", "504"])
def test_f13_a_status_of_the_servers_own_costs_no_session(
    rig: Rig, status: str, subtests: pytest.Subtests
) -> None:
    """F13: 500, 502, 503 with HTML, JSON or nothing: the session is kept, and the next call waits."""
    browser, grant = rig.person()
    for body in (
        b"<html>",
        b'{"error": "server_error"}',
        b'{"error": "invalid_grant"}',
        b"",
    ):
        with subtests.test(body=body):
            rig.line.be_honest()
            rig.works(browser, grant)
            rig.line.instead[TOKEN] = answering(status, body, "Content-Type: text/html")
            rig.expire(grant)
            assert rig.is_signed_in(browser)
            kept = rig.row(grant)
            assert (kept.state, kept.fails, kept.in_doubt) == (GrantState.ACTIVE, 1, True)
            rig.put_off()
            for _ in range(3):
                memo.memo.clear()
                assert get(browser)[0] == 503
                assert rig.is_signed_in(browser)
            assert len(rig.refreshes) == 2
            rig.line.be_honest()
            rig.pass_time(120)
            rig.works(browser, grant)


def test_f15_nobody_listening_costs_no_session(rig: Rig) -> None:
    """F15: refused: the session is kept, nothing is in doubt, and there is no other try within the pause."""
    browser, grant = rig.person()
    rig.works(browser, grant)
    rig.expire(grant)
    rig.line.hang_up()
    assert rig.is_signed_in(browser)
    rig.put_off()
    for _ in range(2):
        memo.memo.clear()
        assert rig.is_signed_in(browser)
    after = rig.row(grant)
    assert (after.state, after.fails, after.in_doubt) == (GrantState.ACTIVE, 1, False)

    rig.line.pick_up()
    memo.memo.clear()
    assert rig.is_signed_in(browser)
    assert len(rig.refreshes) == 1, "the pause is kept"
    rig.pass_time(120)
    rig.works(browser, grant)


def test_f15_a_name_that_nobody_knows_costs_no_session(rig: Rig) -> None:
    """F15: DNS: as refused."""
    browser, grant = rig.person()
    rig.works(browser, grant)
    rig.lies.json(DISCOVERY, token_endpoint=f"https://{'x' * 64}.invalid/")
    new_documents()
    rig.expire(grant)

    assert rig.is_signed_in(browser)

    after = rig.row(grant)
    assert (after.state, after.fails, after.in_doubt) == (GrantState.ACTIVE, 1, False)
    rig.lies.lies.clear()
    new_documents()
    rig.pass_time(60)
    rig.works(browser, grant)


def new_documents() -> None:
    """Have the metadata fetched anew, as after an hour."""
    from django.core.cache import cache

    from spatio_django import provider

    provider.close()
    cache.clear()


def test_f16_a_provider_that_asks_to_wait_is_left_alone(rig: Rig, subtests: pytest.Subtests) -> None:
    """F16: 429 with ``Retry-After``: honoured, but no more than five minutes; nothing is in doubt."""
    browser, grant = rig.person()
    usual = (1.6, 2.4)
    asked: dict[str | None, tuple[float, float]] = {
        "30": (30, 30),
        "99999999": (300, 300),
        **dict.fromkeys(["0", "soon", "-5", None], usual),
    }
    for value, (least, most) in asked.items():
        with subtests.test(value):
            rig.line.be_honest()
            rig.works(browser, grant)
            header = [] if value is None else [f"Retry-After: {value}"]
            rig.line.instead[TOKEN] = answering("429 Too Many Requests", b"{}", JSON, *header)
            rig.expire(grant)
            before = rig.row(grant)
            assert rig.is_signed_in(browser)
            kept = rig.row(grant)
            # By the database's clock, as it was before and is now: the pause began in between.
            began, now = vars(before)["now_ms"], 1000 * kept.now
            assert began + 1000 * least - 1 <= kept.retry_at_ms <= now + 1000 * most + 1
            assert (kept.state, kept.in_doubt) == (GrantState.ACTIVE, False)
            rig.line.be_honest()
            if least > 10:
                rig.pass_time(least / 2)
                memo.memo.clear()
                assert rig.is_signed_in(browser)
                assert not rig.refreshes
            rig.pass_time(most + 1)
            rig.works(browser, grant)


# --- F17 to F23: an answer that says something ------------------------------------------------------------


@pytest.mark.parametrize("status", ["400 Bad Request", "401 Unauthorized"])
def test_f17_a_genuine_invalid_grant_ends_this_session_and_no_other(rig: Rig, status: str) -> None:
    """F17: this session ends, others of the same person live; and the next sign-in is silent."""
    browser, grant = rig.person()
    phone, other = rig.person()
    rig.works(browser, grant)
    rig.line.instead[TOKEN] = refusing("invalid_grant", status)
    rig.expire(grant)

    assert not rig.is_signed_in(browser)

    after = rig.row(grant)
    assert (after.state, after.ended) == (GrantState.DEAD, "invalid_grant")
    assert (after.access_ciphertext, after.refresh_ciphertext) == ("", "")
    assert "prompt=none" in browser.get("/spatio/login/")["Location"]
    rig.line.be_honest()
    rig.works(phone, other)


@pytest.mark.parametrize("status", ["403 Forbidden", "404 Not Found", "200 OK", "500 Oh"])
def test_f17_an_invalid_grant_in_other_words_ends_no_session(rig: Rig, status: str) -> None:
    """F17: under another status it is not what RFC 6749 §5.2 says, and perhaps not Spatio."""
    browser, grant = rig.person()
    rig.works(browser, grant)
    rig.line.instead[TOKEN] = refusing("invalid_grant", status)
    rig.expire(grant)

    assert rig.is_signed_in(browser)

    rig.line.be_honest()
    rig.pass_time(60)
    rig.works(browser, grant)


@pytest.mark.parametrize(
    "error",
    [
        *("invalid_client", "unauthorized_client", "invalid_scope", "invalid_request"),
        *("unsupported_grant_type", "no_such_code"),
    ],
)
def test_f19_an_error_of_the_operators_signs_nobody_out(rig: Rig, error: str) -> None:
    """F19: for a minute, no session ends; few calls are made; then all recover by themselves."""
    people = [rig.person(f"p{number}") for number in range(3)]
    rig.works(*people[0])
    before = len(rig.refreshes)
    status = "401 Unauthorized" if error == "invalid_client" else "400 Bad Request"
    rig.line.instead[TOKEN] = refusing(error, status)
    began = time.monotonic()
    for _browser, grant in people:
        rig.expire(grant)
    for _ in range(12):
        rig.pass_time(5)
        for browser, _grant in people:
            assert rig.is_signed_in(browser)

    assert tries(60) == 6
    most = tries(60 + time.monotonic() - began)
    assert before < len(rig.refreshes) <= before + most * len(people)
    assert set(SpatioToken.objects.values_list("state", "in_doubt")) == {(GrantState.ACTIVE, False)}
    rig.line.be_honest()
    rig.pass_time(30)
    for browser, grant in people:
        rig.works(browser, grant)


def tries(seconds: float) -> int:
    """Give how often one grant is tried at most in that time: each pause as short as it may be."""
    pauses = (0.8 * min(2.0**fails, refreshing.LAST_PAUSE) for fails in count(1))
    return 1 + sum(1 for _ in takewhile(lambda moment: moment <= seconds, accumulate(pauses)))


def test_f21_an_answer_without_a_refresh_token_keeps_the_old_one(rig: Rig) -> None:
    """F21: RFC 6749 §6: the old one goes on, for as many refreshes as that happens."""
    browser, grant = rig.person()
    rig.lies.lies[TOKEN] = lambda *answer: answer
    rig.works(browser, grant)
    kept = rig.row(grant).refresh_token
    assert kept is not None
    rig.spatio.refresh_leeway = 600
    rig.lies.json(TOKEN, refresh_token=None)
    for _ in range(3):
        rig.expire(grant)
        assert rig.is_signed_in(browser)
        assert rig.row(grant).refresh_token == kept
    assert rig.refreshes[1:] == [kept.reveal()] * 3
    assert rig.row(grant).generation == 4


@pytest.mark.parametrize(
    "claims",
    [{"sub": "acc_other"}, {"iss": "https://evil.example"}, {"aud": "another"}, {"sub": None}],
)
def test_f23_tokens_of_somebody_else_end_the_session_and_are_revoked(
    rig: Rig, claims: dict[str, Any]
) -> None:
    """F23: Core §12.2: the session ends, and what came is revoked."""
    browser, grant = rig.person()
    rig.lies.id_token(rig.spatio.sign)
    rig.works(browser, grant)
    rig.lies.id_token(rig.spatio.sign, **claims)
    rig.expire(grant)

    assert not rig.is_signed_in(browser)

    settle()
    after = rig.row(grant)
    assert (after.state, after.ended, after.refresh_ciphertext) == (GrantState.REVOKED, "other_identity", "")
    assert not PendingRevocation.objects.exists()
    assert len(rig.revoked) == 2
    assert not any(rig.knows(token) for token in rig.revoked)
    assert "max_age=0" in browser.get("/spatio/login/")["Location"]


# --- F25 to F31: database and cache -----------------------------------------------------------------------


def test_f25_a_view_that_fails_after_a_refresh_loses_no_token(
    rig: Rig, atomic_requests: None, subtests: pytest.Subtests
) -> None:
    """F25: under ``ATOMIC_REQUESTS`` the site's writes are undone, and the successor is kept."""
    browser, grant = rig.person()
    rig.works(browser, grant)
    rig.expire(grant, left=1500)

    assert browser.get("/fails/").status_code == (503 if vendor() == "sqlite" else 500)

    assert not Group.objects.exists()
    assert rig.row(grant).generation == (1 if vendor() == "sqlite" else 2)
    assert rig.is_good(grant)
    rig.works(browser, grant)


def test_f28_a_connection_that_is_cut_when_it_is_to_be_stored_loses_no_token(rig: Rig) -> None:
    """F28: the server ends every connection while the provider answers: stored on a new one."""
    browser, grant = rig.person()
    rig.works(browser, grant)
    rig.expire(grant)
    rig.lies.lies[TOKEN] = after(end_all_connections)

    assert rig.is_signed_in(browser)

    rig.lies.lies.clear()
    assert rig.row(grant).generation == 2
    assert rig.is_good(grant)
    rig.works(browser, grant)


def after(deed: Callable[[], None]) -> Any:
    """Do *deed* when the provider has made its answer, before it is sent."""

    def lie(status: str, headers: dict[str, str], body: bytes) -> tuple[str, dict[str, str], bytes]:
        deed()
        return status, headers, body

    return lie


def test_g6_a_database_that_refuses_for_seconds_loses_no_token(rig: Rig) -> None:
    """G6: nothing can be written, or even reached, after the rotation: stored when it can."""
    browser, grant = rig.person()
    rig.works(browser, grant)
    rig.expire(grant)
    with patience(0.1), outages() as outage:
        rig.lies.lies[TOKEN] = after(lambda: outage.begin(1.5))
        assert browser.get("/plain/").status_code == 200  # the session in the database may not be writable
        rig.lies.lies.clear()
        outage.wait()
    settle()

    assert rig.row(grant).generation == 2
    assert rig.is_good(grant)
    rig.works(browser, grant)


@pytest.mark.parametrize("engine", ["cache", "signed_cookies"])
def test_a_dead_connection_stops_no_page_that_needs_none(rig: Rig, settings: Any, engine: str) -> None:
    """The database went away since the last request: what is due is looked at another time."""
    settings.SESSION_ENGINE = f"django.contrib.sessions.backends.{engine}"
    browser, grant = rig.person()
    rig.works(browser, grant)
    rig.expire(grant)
    for _ in range(2):
        memo.memo.clear()
        end_all_connections()
        assert browser.get("/plain/").status_code == 200
        assert browser.get("/plain/").status_code == 200
    connections.close_all()
    rig.works(browser, grant)


def test_g6_a_row_that_is_locked_for_seconds_loses_no_token(rig: Rig) -> None:
    """G6: somebody holds the grant's row after the rotation: stored when they let go."""
    browser, grant = rig.person()
    rig.works(browser, grant)
    rig.expire(grant)
    held, let_go = threading.Event(), threading.Event()

    def hold() -> None:
        with row_locked(grant):
            held.set()
            let_go.wait(1.0)

    def lie() -> None:
        threading.Thread(target=hold, daemon=True).start()
        assert held.wait(10)

    rig.lies.lies[TOKEN] = after(lie)
    assert rig.is_signed_in(browser)
    rig.lies.lies.clear()

    assert rig.row(grant).generation == 2
    assert rig.is_good(grant)
    rig.works(browser, grant)


def test_a_row_that_can_not_be_claimed_costs_no_call_and_no_time(
    rig: Rig, records: Records, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No claim, no call; and who has a token that lasts, or does not want to wait, goes on at once."""
    browser, grant = rig.person()
    rig.works(browser, grant)
    rig.expire(grant, left=20)
    lasting = rig.row(grant)
    rig.expire(grant)
    over = rig.row(grant)
    claims: list[object] = []
    claim = refreshing._claim

    def claimed(*arguments: Any) -> bool:
        claims.append(arguments)
        return claim(*arguments)

    monkeypatch.setattr(refreshing, "_claim", claimed)
    monkeypatch.setattr(refreshing, "PATIENCE", 1)
    with patience(0.1), row_locked(grant):
        assert refreshing.fresh(lasting, refreshing.Need()).access_token == lasting.access_token
        assert len(claims) == 1
        with pytest.raises(TokenUnavailable) as caught:
            refreshing.fresh(over, refreshing.Need(wait=False))
        assert caught.value.code == "database"
        assert len(claims) == 2, "each asks once, and does not wait for its turn"
        monkeypatch.setattr(refreshing, "WAIT", 0.2)
        with pytest.raises(TokenUnavailable) as caught:
            refreshing.fresh(over, refreshing.Need())
        assert caught.value.code == "busy"
        assert len(rig.refreshes) == 1
    settle()  # another thread may be at it still, and claim it now
    assert [line for line in complaints(records) if "could not be claimed" in line]
    rig.works(browser, grant)


def test_f31_a_cache_that_is_down_from_the_start_costs_nothing(rig: Rig, settings: Any) -> None:
    """F31: Redis does not listen: sign-in and refresh work."""
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    settings.CACHES = {
        "default": {
            "BACKEND": "django.core.cache.backends.redis.RedisCache",
            "LOCATION": f"redis://127.0.0.1:{port}",
        }
    }
    browser, grant = rig.person()

    rig.works(browser, grant)
    rig.works(browser, grant)


# --- F33 to F36: sign-out and the API ---------------------------------------------------------------------


def test_f33_a_refresh_that_comes_back_to_a_session_that_is_over_is_revoked(rig: Rig) -> None:
    """F33: signed out while the provider answers: the successor is revoked, and nothing comes back."""
    browser, grant = rig.person()
    rig.works(browser, grant)
    other = rig.twin(browser)
    rig.expire(grant)
    rig.lies.lies[TOKEN] = after(lambda: signed_out(other))

    assert not rig.is_signed_in(browser)

    settle()
    rig.lies.lies.clear()
    assert not SpatioToken.objects.exists()
    assert not PendingRevocation.objects.exists()
    store = rig.spatio._provider.store.tables
    assert not store.refresh_tokens
    assert not store.access_tokens
    assert not rig.is_signed_in(rig.twin(browser))
    assert not rig.is_signed_in(other)


def signed_out(browser: Client) -> None:
    """Sign out in another thread's browser, without waiting for Spatio longer than a person does."""
    assert browser.post("/spatio/logout/").status_code == 302
    connections.close_all()


def test_f35_an_api_that_refuses_a_token_once_has_it_refreshed_once(rig: Rig) -> None:
    """F35: 401 from the API: one forced refresh, and the request is made once more."""
    browser, grant = rig.person()
    url = {"url": rig.spatio.issuer + USERINFO}
    assert browser.get("/api/", url).content == b"200"
    rig.line.calls.clear()
    access_token = rig.row(grant).access_token
    assert access_token is not None
    rig.spatio._provider.store.revoke(access_token.reveal())

    assert browser.get("/api/", url).content == b"200"

    assert len(rig.refreshes) == 1
    assert len(rig.calls(USERINFO)) == 2
    assert rig.is_good(grant)


def test_f36_fifty_refusals_of_one_token_at_once_make_one_refresh(rig: Rig) -> None:
    """F36: 50 concurrent 401s for one token: one refresh."""
    browser, grant = rig.person()
    url = {"url": rig.spatio.issuer + USERINFO}
    access_token = rig.row(grant).access_token
    assert access_token is not None
    rig.spatio._provider.store.revoke(access_token.reveal())
    twins = [rig.twin(browser) for _ in range(50)]

    answers = together(50, lambda number: get(twins[number], f"/api/?url={url['url']}"))

    assert answers == [(200, "200")] * 50
    assert len(rig.refreshes) == 1
    assert rig.is_good(grant)


def test_f36_an_api_that_refuses_every_token_makes_no_loop(rig: Rig) -> None:
    """F36: 401 again with the new token: the view gets it, after one refresh per request."""
    browser, grant = rig.person()
    rig.line.calls.clear()
    rig.line.instead[USERINFO] = answering("401 Unauthorized", b"{}")

    answer = browser.get("/api/", {"url": rig.spatio.issuer + USERINFO})

    assert answer.content == b"401"
    assert len(rig.refreshes) == 1
    assert len(rig.calls(USERINFO)) == 2
    rig.line.be_honest()
    rig.works(browser, grant)


# --- F43 to F48 -------------------------------------------------------------------------------------------


def test_f43_a_key_that_is_rotated_with_a_fallback_costs_nothing(rig: Rig, settings: Any) -> None:
    """F43: the old key still decrypts; what is refreshed is encrypted with the new one."""
    browser, grant = rig.person()
    rig.works(browser, grant)
    settings.SPATIO_ENCRYPTION_KEYS = ["a new key, thirty-two characters and more"]
    rig.works(browser, grant)

    settings.SPATIO_ENCRYPTION_KEYS = [
        "a newer key, thirty-two characters",
        *settings.SPATIO_ENCRYPTION_KEYS,
    ]
    rig.works(browser, grant)
    assert len(rig.refreshes) == 3


def test_f43_without_the_key_spatio_is_not_asked(rig: Rig, settings: Any) -> None:
    """F43: a copy of the database: no call, which would use up the original's token; a way to sign in."""
    browser, grant = rig.person()
    settings.SPATIO_ENCRYPTION_KEYS = ["a new key, thirty-two characters and more"]
    rig.works(browser, grant)
    kept = settings.SPATIO_ENCRYPTION_KEYS
    settings.SPATIO_ENCRYPTION_KEYS = ["of somebody else, thirty-two characters"]
    rig.line.calls.clear()
    rig.expire(grant)
    twin = rig.twin(browser)

    assert not rig.is_signed_in(twin)
    assert twin.get("/me/").status_code == 302

    assert not rig.calls(TOKEN)
    assert not rig.revoked
    settings.SPATIO_ENCRYPTION_KEYS = kept
    assert rig.is_good(grant)


@pytest.mark.parametrize("moment", ["idle", "after reading"])
def test_f47_a_connection_that_is_closed_repeats_no_post(rig: Rig, moment: str) -> None:
    """F47: the provider closes idle connections, or closes after it has read: the POST is made once."""
    browser, grant = rig.person()
    rig.works(browser, grant)
    rig.line.calls.clear()
    if moment == "idle":
        for connection in rig.line._open:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        rig.works(browser, grant)
    else:
        rig.line.instead[TOKEN] = lambda connection, _: connection.shutdown(socket.SHUT_RDWR)
        rig.expire(grant)
        assert rig.is_signed_in(browser)
        assert rig.row(grant).in_doubt
    assert len(rig.refreshes) == 1
    assert rig.is_signed_in(browser)


def test_f48_a_provider_that_does_not_rotate_is_fine(rig: Rig) -> None:
    """F48: the same refresh token each time: stable."""
    browser, grant = rig.person()
    first = rig.row(grant).refresh_token
    assert first is not None
    rig.spatio.refresh_leeway = 600
    rig.lies.json(TOKEN, refresh_token=first.reveal())

    for generation in range(1, 5):
        rig.expire(grant)
        twins = [rig.twin(browser) for _ in range(4)]
        answers = together(4, lambda number, twins=twins: get(twins[number]))  # type: ignore[misc]
        assert {status for status, _ in answers} == {200}
        assert rig.row(grant).generation == generation
    assert rig.refreshes == [first.reveal()] * 4


def test_f48_two_successors_under_a_leeway_do_not_alternate(rig: Rig) -> None:
    """F48: an answer is lost, the same token is sent again: the second successor is the one that stays."""
    rig.spatio.refresh_leeway = 600
    browser, grant = rig.person()
    rig.works(browser, grant)
    rig.line.deeds[TOKEN] = lambda connection, _: connection.shutdown(socket.SHUT_RDWR)
    rig.expire(grant)
    assert rig.is_signed_in(browser)
    assert rig.row(grant).in_doubt
    rig.line.be_honest()
    for _ in range(3):
        rig.pass_time(60)
        rig.works(browser, grant)
    sent = rig.refreshes
    assert len(sent) == len(set(sent)) == 3
    assert not rig.row(grant).in_doubt


def test_an_outage_is_told_once_and_without_secrets(rig: Rig, records: Records) -> None:
    """One line a minute for what fails for everybody; none has a token in it."""
    people = [rig.person(f"p{number}") for number in range(3)]
    rig.line.instead[TOKEN] = answering("503 Unavailable")
    for browser, grant in people:
        rig.expire(grant)
        assert rig.is_signed_in(browser)
        get(browser)
    assert [line for line in complaints(records) if "refreshed" in line] == [
        "WARNING Tokens can't be refreshed: bad_status The provider answered 503."
    ]
    rig.see_no_secret(records.text)
