"""Nothing secret in logs, pages, sessions, exceptions or the database."""

import json
import logging
import traceback
from collections.abc import Iterator
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from django.apps import apps
from django.contrib.sessions.models import Session
from django.core import serializers

from spatio_django.models import SpatioClient
from spatio_django.pending import PendingLogin
from tests.conftest import Site
from tests.misbehaving import Misbehaviour


class Witness:
    """Collects the secrets of a walk, and everything that somebody could read."""

    def __init__(self) -> None:
        self.secrets: dict[str, str] = {}
        self.seen: dict[str, str] = {}

    def assert_silent(self) -> None:
        """See that no secret is in anything seen, and that there were secrets to see."""
        assert len(self.secrets) >= 9, sorted(self.secrets)
        for place, text in self.seen.items():
            for name, secret in self.secrets.items():
                assert secret not in text, f"{name} is in {place}"


@pytest.fixture
def records() -> Iterator[list[logging.LogRecord]]:
    """Collect every log record of every logger, down to DEBUG."""
    found: list[logging.LogRecord] = []

    class Collect(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            found.append(record)

    handler, root = Collect(), logging.getLogger()
    level = root.level
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    for name in ("django", "spatio_django", "urllib3", "requests", "mozilla_django_oidc"):
        logging.getLogger(name).setLevel(logging.DEBUG)
    yield found
    root.removeHandler(handler)
    root.setLevel(level)
    for name in ("django", "spatio_django", "urllib3", "requests", "mozilla_django_oidc"):
        logging.getLogger(name).setLevel(logging.NOTSET)


def text_of(record: logging.LogRecord) -> str:
    """Give all that a handler could write of *record*: message, arguments, extras, traceback with locals."""
    parts = [record.getMessage(), repr({k: v for k, v in vars(record).items() if k != "exc_info"})]
    if record.exc_info and record.exc_info[1]:
        told = traceback.TracebackException.from_exception(record.exc_info[1], capture_locals=True)
        parts.extend(told.format())
    return "\n".join(parts)


def database() -> str:
    """Give everything in every table of ours, and the sessions as a reader would decode them."""
    models: list[Any] = [*apps.get_app_config("spatio_django").get_models(), Session]
    rows: str = serializers.serialize(
        "json", [row for model in models for row in model._default_manager.all()]
    )
    return rows + repr([session.get_decoded() for session in Session.objects.all()])


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("outcome", ["signed in", "bad token", "refused", "broken", "site error"])
def test_a_walk_leaves_no_secret_anywhere(
    site: Site,
    misbehaviour: Misbehaviour,
    records: list[logging.LogRecord],
    settings: Any,
    outcome: str,
) -> None:
    """Whether it ends well or badly: tokens, code, state, nonce, verifier and client secret stay unseen."""
    witness = Witness()
    answers: list[dict[str, Any]] = []
    sign = site.spatio.sign
    if outcome == "bad token":
        misbehaviour.id_token(sign, aud="somebody else")
    if outcome == "site error":
        settings.AUTHENTICATION_BACKENDS = ["tests.test_backends.Crashing"]
    told = misbehaviour.lies.get("/oauth2/token")

    def listen(status: str, headers: dict[str, str], body: bytes) -> tuple[str, dict[str, str], bytes]:
        if told:
            status, headers, body = told(status, headers, body)
        answers.append(json.loads(body))
        if outcome == "refused":
            quoted = misbehaviour.sent[-1][2].decode()  # some providers do
            refused = {"error": "invalid_grant", "error_description": f"can't take {quoted}"}
            return "400 Bad", headers, json.dumps(refused).encode()
        return status, headers, body if outcome != "broken" else body[:-1]

    misbehaviour.lies["/oauth2/token"] = listen
    browser = site.browser()
    url = site.begin(browser)
    sent = parse_qs(urlsplit(url).query)
    ((name, cookie),) = ((n, c) for n, c in browser.cookies.items() if "spatio_flow" in n)
    pending = PendingLogin.opened(name, cookie.value)
    callback = site.authorize(url)
    assert pending is not None
    client = SpatioClient.objects.get()
    assert client.client_secret is not None
    assert client.registration_access_token is not None

    response = browser.get(callback)

    assert response.status_code == {"signed in": 302, "refused": 403, "site error": 503}.get(outcome, 502)
    witness.secrets = {
        "state": sent["state"][0],
        "nonce": sent["nonce"][0],
        "verifier": pending.code_verifier.reveal(),
        "code": parse_qs(urlsplit(callback).query)["code"][0],
        "client secret": client.client_secret.reveal(),
        "registration token": client.registration_access_token.reveal(),
        **{f"{n}": answers[0][n] for n in ("access_token", "refresh_token", "id_token")},
    }
    pages = [response, browser.get("/me/"), browser.get("/state/")]
    site_side = [record for record in records if not record.name.startswith(("werkzeug", "authlib"))]
    witness.seen = {
        "the log": "\n".join(text_of(record) for record in site_side),
        "our pages": "\n".join(page.content.decode() + str(page.headers) for page in pages),
        "the database": database(),
        "the pending login's repr": repr(pending),
        "the cookie": "".join(morsel.value for morsel in browser.cookies.values()),
    }
    witness.assert_silent()


def test_the_witness_sees_a_leak(site: Site, records: list[logging.LogRecord]) -> None:
    """A check that can't fail proves nothing: a token that is logged is found."""
    witness = Witness()
    witness.secrets = {str(number): f"secret-{number}" for number in range(9)}
    logging.getLogger("spatio_django").debug("told %s", "secret-3")
    witness.seen = {"the log": "\n".join(text_of(record) for record in records)}

    with pytest.raises(AssertionError, match="3 is in the log"):
        witness.assert_silent()
