"""Refresh tokens and the end of a session: led elsewhere, swapped, planted, about somebody else, spilled."""

import base64
import gc
import hashlib
import hmac
import json
import logging
import pickle
import re
import sys
import threading
import time
from collections.abc import Callable, Iterator
from io import StringIO
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any

import pytest
from django.contrib.auth import get_user_model
from django.contrib.auth.decorators import login_required
from django.core.management import call_command
from django.http import HttpResponse
from django.test import Client
from django.urls import path

from spatio_django import memo, refreshing, tokens
from spatio_django.exceptions import SessionEnded, SpatioError, TokenUnavailable
from spatio_django.models import PendingRevocation, SpatioClient, SpatioToken
from spatio_django.oidc.call import Call
from spatio_django.oidc.secret import Secret
from spatio_django.tokens import SpatioRequest
from tests import urls
from tests.attacks.conftest import Live, cookies
from tests.attacks.judge import Addresses
from tests.conftest import Site
from tests.misbehaving import Misbehaviour
from tests.oidc.support import Signer, b64
from tests.oidc.wire import Wire
from tests.test_leaks import Witness, database, records, text_of

__all__ = ["records"]  # a fixture

User = get_user_model()

TOKEN, REVOKE = "/oauth2/token", "/oauth2/revoke"


@pytest.fixture
def trap() -> Iterator[Wire]:
    """Listen where nothing of ours should ever come."""
    with Wire() as wire:
        yield wire


@pytest.fixture(autouse=True)
def new_to_refreshing() -> Iterator[None]:
    """Let each test begin like a process that has refreshed nothing."""
    refreshing.reset()
    yield
    refreshing.reset()


def signed_in(site: Site, persona: str = "ada") -> tuple[Client, SpatioToken]:
    """Sign somebody in, in a new browser; give that and the grant."""
    browser = site.browser()
    site.sign_in(browser, persona=persona)
    grant = SpatioToken.objects.select_related("account__user").get(
        handle=browser.session[tokens.SESSION_KEY]
    )
    return browser, grant


def expire(grant: SpatioToken) -> None:
    """Let the access token be over, whatever failed before forgotten, and each session due for a look."""
    now_ms = int(1000 * SpatioToken.objects.with_clock().get(pk=grant.pk).now)
    SpatioToken.objects.filter(pk=grant.pk).update(expires_ms=now_ms - 1000, retry_at_ms=0)
    memo.memo.clear()


def user(browser: Client) -> str:
    """Name who is signed in; empty for nobody."""
    return str(browser.get("/state/").json()["user"])


def asked(site: Site) -> list[str]:
    """Give what the provider was asked since this was asked last."""
    found = [call.path for call in site.spatio.requests]
    site.spatio.requests.clear()
    return found


# Led elsewhere


@pytest.mark.parametrize(
    "status",
    ["301 Moved", "302 Found", "303 See Other", "307 Temporary Redirect", "308 Permanent Redirect"],
)
def test_no_redirect_takes_a_refresh_token_elsewhere(
    site: Site, misbehaviour: Misbehaviour, trap: Wire, status: str
) -> None:
    """Neither that of a refresh, which ends no session, nor that of a revocation, which is kept."""
    browser, grant = signed_in(site)
    expire(grant)
    assert user(browser) == "ada"
    grant.refresh_from_db()
    for endpoint in (TOKEN, REVOKE):
        misbehaviour.lies[endpoint] = lambda *_: (status, {"Location": trap.url}, b"")
    expire(grant)
    asked(site)

    assert user(browser) == "ada"
    with pytest.raises(TokenUnavailable) as caught:
        tokens.for_user(User.objects.get()).get_token()
    assert caught.value.code == "unavailable"
    assert browser.post("/spatio/logout/").status_code == 302

    assert user(browser) == ""
    assert asked(site) == [TOKEN, REVOKE]
    assert trap.connections == 0
    assert PendingRevocation.objects.get().refresh_token == grant.refresh_token


def test_a_moved_token_endpoint_of_another_issuer_gets_no_refresh_token(
    site: Site, misbehaviour: Misbehaviour, trap: Wire, settings: Any
) -> None:
    """A grant belongs to its issuer: with another ``SPATIO_ISSUER`` nothing of it is sent to anybody."""
    browser, grant = signed_in(site)
    expire(grant)
    assert user(browser) == "ada"
    settings.SPATIO_ISSUER = trap.url.removesuffix("/path")
    expire(grant)

    assert user(browser) == ""

    assert trap.connections == 0
    grant.refresh_from_db()
    assert grant.refresh_ciphertext != ""


# Swapped and planted


@pytest.mark.parametrize("how", ["another row", "another column", "the queue", "cut", "made up"])
def test_a_ciphertext_that_was_moved_opens_nothing(site: Site, how: str) -> None:
    """Whoever can write to the database can't have Zoë's token sent for Ada: the session ends, unheard of."""
    browser, grant = signed_in(site)
    _, zoes = signed_in(site, "zoe")
    expire(grant)
    assert user(browser) == "ada"
    grant.refresh_from_db()
    pending = PendingRevocation(issuer=site.spatio.issuer, client_id=grant.client_id, reason="x")
    pending.refresh_token = zoes.refresh_token
    moved = {
        "another row": zoes.refresh_ciphertext,
        "another column": grant.access_ciphertext,
        "the queue": pending.refresh_ciphertext,
        "cut": grant.refresh_ciphertext[:-4],
        "made up": "AQ" * 40,
    }
    SpatioToken.objects.filter(pk=grant.pk).update(refresh_ciphertext=moved[how])
    expire(grant)
    asked(site)

    with pytest.raises(SessionEnded) as caught:
        tokens.for_user(grant.account.user).get_token()

    assert caught.value.code == "undecryptable"
    assert user(browser) == ""
    assert asked(site) == []


def test_an_access_token_that_was_moved_is_not_given(site: Site) -> None:
    """Nor is one sent to an API, or to the revocation endpoint."""
    browser, grant = signed_in(site)
    _, zoes = signed_in(site, "zoe")
    access = tokens.for_user(grant.account.user)
    assert access.access_token
    SpatioToken.objects.filter(pk=grant.pk).update(access_ciphertext=zoes.access_ciphertext)
    asked(site)

    with pytest.raises(SessionEnded) as caught:
        tokens.for_user(grant.account.user).http.get(site.spatio.issuer + "/oauth2/userinfo")
    browser.post("/spatio/logout/")

    assert caught.value.code == "undecryptable"
    assert asked(site) == []
    zoes.refresh_from_db()
    assert zoes.access_token is not None


def test_a_handle_planted_in_another_session_opens_nothing(site: Site) -> None:
    """Whoever can write to their own session has no use of somebody else's grant, and does it no harm."""
    browser, grant = signed_in(site)
    evil, own = signed_in(site, "zoe")
    assert browser.get("/state/").json()["account"] == grant.account.sub
    session = evil.session
    session[tokens.SESSION_KEY] = grant.handle
    session.save()
    expire(grant)
    asked(site)

    told = evil.get("/state/").json()

    assert (told["user"], told["account"], told["scopes"]) == ("", None, [])
    assert asked(site) == []
    assert user(browser) == "ada"  # refreshed by her own request
    assert asked(site) == [TOKEN]
    grant.refresh_from_db()
    assert grant.state == "active"
    assert SpatioToken.objects.filter(pk=own.pk).exists()


# Told of somebody else


def unsigned(claims: dict[str, Any]) -> str:
    """Say it, and sign nothing."""
    return f"{b64(json.dumps({'alg': 'none'}).encode())}.{b64(json.dumps(claims).encode())}."


def shared(secret: Secret | None) -> Callable[[dict[str, Any]], str]:
    """Sign with the client's secret."""
    assert secret is not None
    key = secret.reveal().encode()

    def sign(claims: dict[str, Any]) -> str:
        head = f"{b64(json.dumps({'alg': 'HS256'}).encode())}.{b64(json.dumps(claims).encode())}"
        return f"{head}.{b64(hmac.digest(key, head.encode(), hashlib.sha256))}"

    return sign


@pytest.mark.parametrize("signed", ["by the provider", "by nobody", "with the secret", "with another key"])
@pytest.mark.parametrize("whose", ["somebody else's", "their own"])
def test_a_refreshed_id_token_makes_nobody_somebody_else(
    site: Site, misbehaviour: Misbehaviour, signed: str, whose: str
) -> None:
    """
    Another identity ends the session, however it is signed, and its tokens are revoked.

    The right one without a signature, or with one that is no provider's way, ends it as well; with a key that
    may just have been made, it goes on, because nothing is taken from it.
    """
    browser, grant = signed_in(site)
    zoe, _ = signed_in(site, "zoe")
    sub = zoe.get("/state/").json()["account"]
    other_key = Signer(kid="other").sign
    sign: Callable[[dict[str, Any]], str] = {
        "by the provider": site.spatio.sign,
        "by nobody": unsigned,
        "with the secret": shared(SpatioClient.objects.get().client_secret),
        "with another key": other_key,
    }[signed]
    expire(grant)
    assert browser.get("/state/").json()["account"] == grant.account.sub
    misbehaviour.id_token(sign, **({"sub": sub} if whose == "somebody else's" else {}))
    expire(grant)
    asked(site)

    told = browser.get("/state/").json()

    grant.refresh_from_db()
    if whose == "their own" and signed in {"by the provider", "with another key"}:
        assert (told["user"], told["account"], grant.ended) == ("ada", grant.account.sub, "")
    else:
        assert (told["user"], told["account"], grant.ended) == ("", None, "other_identity")
        assert asked(site) == [TOKEN, REVOKE, REVOKE]
    assert user(zoe) != ""
    assert User.objects.count() == 2


@pytest.mark.parametrize(
    ("told", "kept"),
    [
        ("openid", {"openid"}),
        ("openid files admin", {"openid", "files", "admin"}),
        *(
            (value, {"openid", "profile", "email"})
            for value in ("", ["files"], {"files": 1}, 7, "files\0", None)
        ),
    ],
)
def test_a_scope_told_in_a_refresh_is_spatios_word_or_none(
    site: Site, misbehaviour: Misbehaviour, told: Any, kept: set[str]
) -> None:
    """What Spatio grants now counts, be it less; what is no list of names changes nothing."""
    browser, grant = signed_in(site)
    assert browser.get("/files/").status_code == 302
    document = {"access_token": "tok_new", "refresh_token": "rfr_new", "token_type": "Bearer", "scope": told}
    misbehaviour.answer(TOKEN, "200 OK", json.dumps(document).encode())
    expire(grant)

    assert set(browser.get("/state/").json()["scopes"]) == kept

    grant.refresh_from_db()
    assert grant.refresh_token == Secret("rfr_new")
    assert (browser.get("/files/").status_code == 200) == ("files" in kept)


# Signing out


def test_a_forged_sign_out_revokes_nothing(site: Site) -> None:
    """No link, picture or form elsewhere has tokens revoked."""
    browser = Client(enforce_csrf_checks=True, headers={"Sec-Fetch-Mode": "navigate", "Accept": "text/html"})
    site.sign_in(browser)
    asked(site)

    for method in ("get", "head", "put", "delete", "options"):
        assert getattr(browser, method)("/spatio/logout/").status_code in {403, 405}
    assert browser.post("/spatio/logout/", {"csrfmiddlewaretoken": "a" * 32}).status_code == 403
    assert browser.post("/spatio/logout/", headers={"Origin": "https://evil.example"}).status_code == 403

    assert (user(browser), asked(site)) == ("ada", [])
    token = str(browser.get("/me/").context["csrf_token"])
    assert browser.post("/spatio/logout/", {"csrfmiddlewaretoken": token}).status_code == 302
    assert (user(browser), asked(site)) == ("", [REVOKE, REVOKE])


def test_signing_out_comes_first_while_the_provider_hangs(live: Live, misbehaviour: Misbehaviour) -> None:
    """The session is over before Spatio is asked, and the person waits for three seconds at most."""
    browser, thief = live.browser(), live.browser()
    browser.session.get(f"{live.url}{live.callback(browser)}", allow_redirects=False, timeout=20)
    thief.session.cookies.update(browser.session.cookies)
    assert live.user(thief) == "ada"
    page = browser.session.get(f"{live.url}/me/", timeout=20).text
    form = f"csrfmiddlewaretoken={Addresses(page).hidden['csrfmiddlewaretoken']}".encode()
    hanging, released = threading.Event(), threading.Event()

    def hang(*_: object) -> tuple[str, dict[str, str], bytes]:
        hanging.set()
        released.wait(30)
        return "200 OK", {}, b""

    misbehaviour.lies[REVOKE] = hang
    header = ("Content-Type", "application/x-www-form-urlencoded")
    took: list[float] = []

    def sign_out() -> None:
        began = time.monotonic()
        reply = live.ask("/spatio/logout/", header, method="POST", body=form, browser=browser)
        took.append(time.monotonic() - began)
        assert reply.status == 302

    leaving = threading.Thread(target=sign_out)
    leaving.start()
    try:
        assert hanging.wait(20)
        assert live.user(thief) == ""
        assert not SpatioToken.objects.exists()
        assert took == []
        leaving.join(20)
        assert took
        assert took[0] < 3 + 2  # and what a busy machine needs for the rest
        assert PendingRevocation.objects.exists()
    finally:
        released.set()
        leaving.join()
    deadline = time.monotonic() + 20
    while any(each.name == "spatio-beside" for each in threading.enumerate()):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert cookies(browser)


# A copy of the database


def test_a_copy_of_the_database_with_other_keys_calls_nobody(
    site: Site, settings: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """Whatever happens on a staging host: the original's refresh tokens are neither used up nor revoked."""
    settings.SPATIO_ENCRYPTION_KEYS = ["the original's"]
    people = [signed_in(site) for _ in range(4)]
    for browser, grant in people:
        expire(grant)
        assert user(browser) == "ada"
    asked(site)

    settings.SPATIO_ENCRYPTION_KEYS = ["the copy's"]
    for _, grant in people:
        expire(grant)
    (first, _), (second, _), (third, _), (_, fourth) = people
    assert user(first) == ""
    with pytest.raises(SessionEnded) as caught:
        tokens.for_user(User.objects.get()).get_token()
    assert caught.value.code == "undecryptable"
    memo.memo.looked(second.cookies["sessionid"].value, None)
    second.post("/spatio/logout/")
    fourth.delete()
    tokens.sign_out_everywhere(User.objects.get())
    assert user(third) == ""

    assert asked(site) == []
    assert not PendingRevocation.objects.exists()


# Spilled


@login_required
def failing(request: SpatioRequest) -> HttpResponse:
    """Fail like code of a site, with what it has from us among its locals."""
    access, grant, http = request.spatio, request.spatio.grant, request.spatio.http
    everywhere = tokens.for_user(request.user)
    everywhere.get_token()
    answer = http.get(request.GET["api"])
    raise RuntimeError(f"{access} {grant} {everywhere} {answer.status_code}")


urlpatterns = [*urls.urlpatterns, path("failing/", failing)]


def locals_of(traceback: TracebackType | None) -> str:
    """Give each local variable of each frame, as an error report shows it."""
    told = []
    while traceback is not None:
        frame: FrameType = traceback.tb_frame
        if Path(frame.f_code.co_filename).parts[-2] != "attacks":
            told.append(repr(dict(frame.f_locals)))
        traceback = traceback.tb_next
    return "\n".join(told)


LIES: dict[str, tuple[str, bytes] | None] = {
    "refreshed": None,
    "refused": ("400 Bad", b'{"error": "invalid_grant", "error_description": "not %s"}'),
    "not this client": ("401 No", b'{"error": "invalid_client", "error_description": "Basic %s"}'),
    "down": ("503 Down", b"%s"),
    "cut off": ("200 OK", b'{"access_token": "%s'),
    "no token": ("200 OK", b'{"refresh_token": "%s"}'),
}


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("outcome", LIES)
def test_a_refresh_and_a_sign_out_leave_no_secret_anywhere(
    site: Site,
    misbehaviour: Misbehaviour,
    records: list[logging.LogRecord],
    settings: Any,
    outcome: str,
) -> None:
    """
    Not in a log down to DEBUG, a repr, an error page with ``DEBUG = True``, a pickle, an exception or a dump.

    Also where the provider quotes what it was sent.
    """
    settings.ROOT_URLCONF = sys.modules[__name__]
    settings.DEBUG = True
    witness = Witness()
    browser, grant = signed_in(site)
    browser.raise_request_exception = False
    client = SpatioClient.objects.get()
    first = (grant.access_token, grant.refresh_token)
    assert all(first)
    assert client.client_secret is not None
    secrets = [each.reveal() for each in first if each]
    basic = base64.b64encode(f"{client.client_id}:{client.client_secret.reveal()}".encode()).decode()
    lie = LIES[outcome]
    answers: list[dict[str, Any]] = []

    def listen(status: str, headers: dict[str, str], body: bytes) -> tuple[str, dict[str, str], bytes]:
        answers.append(json.loads(body))
        return (lie[0], headers, lie[1] % secrets[1].encode()) if lie else (status, headers, body)

    misbehaviour.lies[TOKEN] = listen
    misbehaviour.answer(REVOKE, "503 Down", secrets[1].encode())
    expire(grant)

    page = browser.get("/failing/", {"api": site.spatio.issuer + "/oauth2/userinfo"})
    expected = {"refreshed": 500, "refused": 302}
    assert page.status_code == expected.get(outcome, 503)
    told = [page, browser.get("/me/")]
    raised = ""
    if outcome != "refused":
        expire(grant)
        access = tokens.for_user(User.objects.get())
        try:
            access.get_token()
        except TokenUnavailable as error:
            raised = repr(error) + repr(vars(error)) + locals_of(error.__traceback__)
        witness.seen["a pickle"] = repr(pickle.dumps(access))
        witness.seen["a repr"] = f"{access!r} {access} {access.grant!r} {vars(access)}"
    told.append(browser.post("/spatio/logout/"))
    dumped = StringIO()
    call_command("dumpdata", stdout=dumped)

    for number, answer in enumerate(answers):
        for name in ("access_token", "refresh_token", "id_token"):
            witness.secrets[f"{name} {number}"] = answer.get(name, f"no {name}: what was used up is refused")
    witness.secrets |= {
        "access token": secrets[0],
        "refresh token": secrets[1],
        "client secret": client.client_secret.reveal(),
        "basic": basic,
        **{f"filler {number}": f"never said {number}" for number in range(5)},
    }
    witness.seen |= {
        "the log": "\n".join(
            text_of(record) for record in records if not record.name.startswith(("werkzeug", "authlib"))
        ),
        "a page": "\n".join(each.content.decode() + str(each.headers) for each in told),
        "an exception": raised,
        "the database": database(),
        "a dump": dumped.getvalue(),
    }
    witness.assert_silent()
    assert ("RuntimeError" in witness.seen["a page"]) == (outcome == "refreshed")
    sealed = re.findall(r'"(?:access|refresh)_ciphertext": "A[\w-]{40,}"', witness.seen["a dump"])
    assert len(sealed) >= (1 if outcome == "refused" else 3)  # the registration's, and those to be revoked


# Growth


def alive(*kinds: type) -> dict[str, int]:
    """Count what is still there of each kind. (Finished calls are forgotten when their time is up.)"""
    gc.collect()
    there = [each for each in gc.get_objects() if issubclass(type(each), kinds)]
    there = [each for each in there if not (isinstance(each, Call) and each.finished)]
    return {kind.__name__: sum(isinstance(each, kind) for each in there) for kind in kinds}


def test_failing_refreshes_leave_nothing_behind(site: Site, misbehaviour: Misbehaviour) -> None:
    """A thousand of them: no thread, descriptor, row, note, or object more than after the first few."""
    browser, grant = signed_in(site)
    lies = ["503 Down", "400 Bad", "200 OK", "429 Slow"]
    expire(grant)
    assert user(browser) == "ada"

    def fail(number: int) -> None:
        misbehaviour.answer(TOKEN, lies[number % len(lies)], b'{"error": "invalid_scope"}')
        SpatioToken.objects.update(retry_at_ms=0, fails=0, expires_ms=1)
        refreshing._breaker(grant.client_id).succeeded()
        with pytest.raises(TokenUnavailable):
            tokens.for_user(grant.account.user).get_token()

    def standing() -> dict[str, int]:
        site.spatio.requests.clear()
        misbehaviour.sent.clear()
        return {
            **alive(SpatioToken, SpatioError, Call, threading.Thread),
            "descriptors": len(list(Path("/proc/self/fd").iterdir())),
            "rows": SpatioToken.objects.count() + PendingRevocation.objects.count(),
            "flights": len(refreshing._flights),
            "notes": len(refreshing._logged) + len(refreshing._breakers),
        }

    for number in range(20):
        fail(number)
    calls = len(site.spatio.calls(TOKEN))
    before = standing()
    for number in range(1000):
        fail(number)
    assert len(site.spatio.calls(TOKEN)) == 1000 > calls
    after = standing()

    assert {name: count for name, count in after.items() if count > before[name] + 10} == {}
    assert after["flights"] == 0
    assert after["rows"] == before["rows"]
