"""Every lie that the sign-in meets in ``tests/hostile``, told where tokens are refreshed and revoked."""

import json
import logging
import re
import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

import pytest
from django.test import Client

from spatio_django import memo, refreshing, revocation, tokens
from spatio_django.models import GrantState, PendingRevocation, SpatioToken
from spatio_django.oidc import client as oidc_client
from spatio_django.oidc.responses import TOKEN_LIMIT
from spatio_django.oidc.secret import Secret
from tests.faults.conftest import REVOKE, TOKEN, Rig, settle
from tests.hostile.conftest import Records, changed
from tests.hostile.front import Deed, body_of
from tests.hostile.test_bodies import HONEST, NO_OBJECT
from tests.hostile.test_statuses import BOMBS, JSON_TYPES, TYPES, line, telling
from tests.hostile.test_wire import BREAKS, closing, delays, floods, head
from tests.hostile.values import VALUES
from tests.oidc.wire import reply

JSON, CLOSE = "Content-Type: application/json", "Connection: close"
#: Seconds that a call may take here, and where the provider is slow.
PATIENT, IMPATIENT = 3.0, 0.6
#: Seconds that a page may take beyond its calls: none, but on a busy machine.
SLACK = 3.0
EVERY_STATUS = sorted(set(range(100, 600)))
NAMED = sorted({each.value for each in HTTPStatus} | {299, 399, 418, 499, 599})
MEMBERS = ("access_token", "token_type", "expires_in", "refresh_token", "scope", "id_token", "error")
#: What a member may hold that a database or a header can't.
TEXTS = {
    "NUL": "openid\0email",
    "half a character": "openid \ud800",
    "halves the wrong way round": "\udc08\ud83d",
    "beyond the first plane": "openid 🐈",
    "another alphabet": "openid почта",
    "control characters": "\x1b[2J\x7f",
    "line breaks": "openid\r\nX-Injected: 1",
    "right to left": "\u202eemail",
    "very long": "openid " + "x" * 40_000,
    "very many": "openid " + "x " * 20_000,
    "quotes": "openid '\"\\",
}


@dataclass
class Ward:
    """
    One person whose session has to live through it.

    The provider takes refresh tokens again that were used, so that one lie does not spoil the next.
    """

    rig: Rig
    browser: Client
    grant: SpatioToken
    #: Seconds that a refresh may take.
    deadline: float = PATIENT

    def honest(self) -> None:
        """See the honest case pass."""
        self.rig.line.be_honest()
        self.rig.lies.lies.clear()
        self.rest()
        self.rig.works(self.browser, self.grant)

    def rest(self) -> None:
        """Forget the failures so far."""
        refreshing.reset()
        memo.memo.clear()
        SpatioToken.objects.update(retry_at_ms=0, fails=0, in_doubt=False)

    def survives(self) -> bool:
        """
        See the session go on, whatever the provider says about its refresh token.

        Returns:
            Whether there is a new access token.
        """
        self.rest()
        self.rig.expire(self.grant)
        before = self.rig.row(self.grant)
        kept = before.refresh_ciphertext
        began = time.monotonic()
        with Records() as records:
            page = self.browser.get("/ping/")
            other = self.browser.get("/token/")
        assert time.monotonic() - began < self.deadline + SLACK
        assert page.status_code == 200
        assert page.content, "signed out"
        after = self.rig.row(self.grant)
        assert after.state == GrantState.ACTIVE
        assert after.lease_id == ""
        assert after.refresh_token is not None
        crashes = [each for each in records.found if each.exc_info and each.levelno > logging.DEBUG]
        crashes = [each for each in crashes if each.name != "django.request"]
        assert not crashes, records.text
        self.rig.see_no_secret(records.text + page.content.decode() + other.content.decode())
        assert "site_error" not in records.text
        if after.generation == before.generation:
            assert other.status_code == 503
            assert after.fails == 1
            assert (after.access_token, after.refresh_token) == (before.access_token, before.refresh_token)
            return False
        assert after.generation == before.generation + 1
        # Whatever came as the next one, this one is still taken.
        SpatioToken.objects.filter(pk=after.pk).update(refresh_ciphertext=kept)
        assert other.status_code == 200
        assert after.access_token != before.access_token
        return True


@pytest.fixture
def ward(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> Iterator[Ward]:
    """Sign somebody in at an impatient site and a provider with leeway."""
    monkeypatch.setattr(oidc_client, "REFRESH_TIMEOUT", PATIENT)
    monkeypatch.setattr(revocation, "TIMEOUT", IMPATIENT)
    rig.spatio.refresh_leeway = 1e9
    browser, grant = rig.person()
    browser.raise_request_exception = False
    ward = Ward(rig, browser, grant)
    ward.honest()
    yield ward
    ward.honest()


def telling_document(change: Callable[[dict[str, Any]], object]) -> Deed:
    """Answer with what *change* makes of the honest document."""
    return closing(lambda answer: reply(json.dumps(change(json.loads(body_of(answer)))).encode(), JSON))


# --- at refresh -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("hundreds", range(1, 6))
def test_no_status_of_a_refresh_ends_a_session(ward: Ward, hundreds: int, subtests: pytest.Subtests) -> None:
    """100 to 599 with the honest body: 2xx is an answer, whatever else is said is none."""
    for status in range(hundreds * 100, hundreds * 100 + 100):
        with subtests.test(status=status):
            ward.rig.line.deeds[TOKEN] = telling(status)
            # 204 has no body (RFC 9110 §15.3.5).
            assert ward.survives() == (200 <= status < 300 and status != 204)


@pytest.mark.parametrize("status", ["200 OK", "400 Bad Request", "401 Unauthorized"])
def test_no_body_of_a_refresh_ends_a_session(ward: Ward, status: str, subtests: pytest.Subtests) -> None:
    """Whatever is no JSON object; what only strict readers refuse is taken, or the token would be lost."""
    for name, change in (HONEST | NO_OBJECT).items():
        with subtests.test(name):
            ward.rig.line.deeds[TOKEN] = closing(
                lambda answer, change=change: reply(change(body_of(answer)), JSON, status=status)  # type: ignore[misc]
            )
            taken = ward.survives()
            assert taken or name not in HONEST or status != "200 OK"
            assert not taken or status == "200 OK"


@pytest.mark.parametrize("member", MEMBERS)
def test_no_value_of_a_member_ends_a_session(ward: Ward, member: str, subtests: pytest.Subtests) -> None:
    """All that a refresh needs is an access token; every other member may be anything."""
    for name, value in (VALUES | TEXTS).items():
        with subtests.test(name):
            ward.rig.line.deeds[TOKEN] = telling_document(
                lambda document, value=value: changed(document, **{member: value})  # type: ignore[misc]
            )
            if (
                member == "id_token"
                and isinstance(value, str)
                and re.fullmatch(r"[\x20-\x7e]{1,16384}", value)
            ):
                continue  # an ID token that is none ends it: see test_f23
            large = isinstance(value, str) and len(value) > TOKEN_LIMIT / 2
            assert ward.survives() or member == "access_token" or large
            ward.rig.line.be_honest()
            assert ward.survives()


def test_no_error_but_the_one_ends_a_session(ward: Ward, subtests: pytest.Subtests) -> None:
    """``invalid_grant`` under 400 or 401, in these words; all else is somebody's mistake, or a lie."""
    words: list[Any] = [
        *("invalid_client", "invalid_request", "invalid_scope", "unauthorized_client", "no_such_code"),
        *("server_error", "temporarily_unavailable", "INVALID_GRANT", "invalid_grant ", " invalid_grant"),
        *("invalid_grant\r\nX: y", "invalid_token", "<script>alert(1)</script>", "", "x" * 10_000),
        *(7, None, True, ["invalid_grant"], {"code": "invalid_grant"}),
    ]
    for status in ("400 Bad Request", "401 Unauthorized", "403 Forbidden", "404 Not Found", "418", "499"):
        for word in [*words, *(["invalid_grant"] if status[:3] not in {"400", "401"} else [])]:
            with subtests.test(status=status, word=word):
                body = json.dumps({"error": word}).encode()
                ward.rig.line.instead[TOKEN] = lambda connection, _, status=status, body=body: (  # type: ignore[misc]
                    connection.sendall(reply(body, JSON, status=status))
                )
                assert not ward.survives()


def test_no_content_type_of_a_refresh_matters(ward: Ward, subtests: pytest.Subtests) -> None:
    """The content is judged, and not its label."""
    for kind in TYPES + JSON_TYPES:
        with subtests.test(kind):
            ward.rig.line.deeds[TOKEN] = closing(
                lambda answer, kind=kind: reply(body_of(answer), f"Content-Type: {kind}")  # type: ignore[misc]
            )
            assert ward.survives()


def test_no_bomb_and_no_flood_at_a_refresh_ends_a_session(ward: Ward, subtests: pytest.Subtests) -> None:
    """Compressed, or without an end: refused, in time."""
    for coding, bomb in BOMBS.items():
        with subtests.test(coding):
            ward.rig.line.deeds[TOKEN] = closing(
                lambda _, bomb=bomb, coding=coding: reply(bomb, JSON, f"Content-Encoding: {coding}")  # type: ignore[misc]
            )
            assert not ward.survives()
    for name, (deed, _, _) in floods(ward.rig.line).items():
        with subtests.test(name):
            ward.rig.line.deeds[TOKEN] = deed
            assert not ward.survives()
            ward.rig.line.rest()


def test_no_break_of_the_wire_at_a_refresh_ends_a_session(ward: Ward, subtests: pytest.Subtests) -> None:
    """Wherever it breaks."""
    for name, deed in BREAKS.items():
        with subtests.test(name):
            ward.rig.line.deeds[TOKEN] = deed
            assert not ward.survives()


def test_no_delay_at_a_refresh_ends_a_session(
    ward: Ward, monkeypatch: pytest.MonkeyPatch, subtests: pytest.Subtests
) -> None:
    """However slowly it comes, the page is there in time."""
    monkeypatch.setattr(oidc_client, "REFRESH_TIMEOUT", IMPATIENT)
    ward.deadline = IMPATIENT
    for name, deed in delays(ward.rig.line).items():
        with subtests.test(name):
            ward.rig.line.deeds[TOKEN] = deed
            assert not ward.survives()
            ward.rig.line.rest()


# --- at revocation ----------------------------------------------------------------------------------------


@contextmanager
def signed_out(ward: Ward, browser: Client) -> Iterator[PendingRevocation | None]:
    """Sign somebody out; give what is left to do at Spatio. The page comes in time, without a secret."""
    grant = SpatioToken(account=ward.grant.account, client_id=ward.grant.client_id, scope="openid")
    # Unknown to the provider, which says that it has revoked them all the same.
    grant.access_token = Secret(f"tok_{secrets.token_urlsafe(32)}")
    grant.refresh_token = Secret(f"rfr_{secrets.token_urlsafe(32)}")
    grant.save()
    browser.force_login(ward.grant.account.user, backend="spatio_django.backends.SpatioBackend")
    session = browser.session
    session[tokens.SESSION_KEY] = grant.handle
    session.save()
    began = time.monotonic()
    with Records() as records:
        response = browser.post("/spatio/logout/")
        assert time.monotonic() - began < revocation.PATIENCE + SLACK
        settle()
    assert response.status_code == 302
    assert not browser.get("/ping/").content
    assert not SpatioToken.objects.filter(pk=grant.pk).exists()
    assert not [each for each in records.found if each.exc_info and each.levelno > logging.DEBUG], (
        records.text
    )
    ward.rig.see_no_secret(records.text)
    pending = PendingRevocation.objects.first()
    if pending is not None:
        assert (pending.fails, pending.reason) == (1, "signed_out")
    try:
        yield pending
    finally:
        PendingRevocation.objects.all().delete()


def cases(ward: Ward) -> Iterator[tuple[str, Deed, bool]]:
    """Give lies about revocation, and whether each says that it is done."""
    for status in NAMED:
        yield f"{status}", telling(status), 200 <= status < 300
        yield (
            f"{status} and an error",
            closing(lambda _, status=status: reply(b'{"error": "no"}', JSON, CLOSE, status=line(status))),  # type: ignore[misc]
            200 <= status < 300,
        )
    for error in ("invalid_request", "invalid_client", "unsupported_token_type", "invalid_token", "x"):
        yield (
            error,
            closing(
                lambda _, error=error: reply(  # type: ignore[misc]
                    json.dumps({"error": error}).encode(), JSON, CLOSE, status="400 Bad Request"
                )
            ),
            error == "unsupported_token_type",
        )
    for name, change in NO_OBJECT.items():
        yield f"{name}, 200", closing(lambda _, change=change: reply(change(b'{"a": 1}'), JSON, CLOSE)), True  # type: ignore[misc]
        yield (
            f"{name}, 400",
            closing(lambda _, change=change: reply(change(b'{"a": 1}'), JSON, CLOSE, status="400 No")),  # type: ignore[misc]
            False,
        )
    for name, (deed, _, _) in floods(ward.rig.line).items():
        yield name, deed, False
    for name, deed in BREAKS.items():
        if name.startswith(("closed in a chunk", "closed before the last", "a negative", "a chunk with")):
            deed = closing(lambda _: head("Transfer-Encoding: chunked") + b"5\r\n{")
        if "body" in name:
            deed = closing(lambda _: head("Content-Length: 5") + b"{")
        yield name, deed, False
    for name, deed in delays(ward.rig.line).items():
        if "body" in name or name in {"all but the last byte", "trailers", "all, and no end"}:
            continue  # the honest answer has no body to be late with
        yield name, deed, False


def test_no_answer_to_a_revocation_keeps_anybody_signed_in(ward: Ward, subtests: pytest.Subtests) -> None:
    """Signed out in any case, in time; and queued unless the provider said that it is done."""
    browser = ward.rig.browser()
    for name, deed, is_done in cases(ward):
        with subtests.test(name):
            ward.rig.line.deeds[REVOKE] = deed
            with signed_out(ward, browser) as pending:
                assert (pending is None) == is_done
            ward.rig.line.rest()
            ward.rig.line.be_honest()
            with signed_out(ward, browser) as pending:
                assert pending is None
