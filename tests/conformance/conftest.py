"""
One conformance run: the site, the provider that does something wrong, and the observer between them.

Nothing is patched. What a case changes, it changes between the provider and the wire.
"""

import base64
import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.contrib.auth import get_user_model
from django.core.cache import cache
from django.core.management import call_command
from django.test import Client

from spatio_django import memo, provider, tokens
from spatio_django.exceptions import SessionEnded
from spatio_django.models import SpatioAccount, SpatioClient, SpatioToken
from spatio_django.testing import FakeSpatio
from tests.conformance import op as at
from tests.conformance.observer import Observer, complaints
from tests.conformance.op import Op
from tests.conftest import Site

User = get_user_model()

#: The site's calls, as the observer names them.
METADATA, KEYS = f"GET {at.METADATA}", f"GET {at.KEYS}"
REGISTER, TOKEN, USERINFO = f"POST {at.REGISTER}", f"POST {at.TOKEN}", f"GET {at.USERINFO}"
REVOKE = f"POST {at.REVOKE}"
#: The browser's.
AUTHORIZE = f"GET {at.AUTHORIZE}"

#: Changes claims; ``None`` takes one away, and a function makes the new value from the old.
Change = Any
#: Makes an ID token of claims, and of the honest token if need be.
Sign = Callable[[dict[str, Any]], str]


class Suite(Site):
    """What a conformance case does and sees. Each walk is another browser's."""

    def __init__(self, spatio: FakeSpatio, op: Op, observer: Observer) -> None:
        super().__init__(spatio)
        self.op = op
        self.observer = observer

    # What the provider does wrong

    def lie_about_claims(self, *, sign: Sign | None = None, **changes: Change) -> None:
        """Change claims of the ID token, and sign what comes out with the provider's key, or with *sign*."""

        def relate(token: str) -> str:
            claims = json.loads(base64.urlsafe_b64decode(token.split(".")[1] + "=="))
            for name, change in changes.items():
                claims[name] = change(claims[name]) if callable(change) else change
            kept = {name: value for name, value in claims.items() if value is not None}
            return (sign or self.spatio.sign)(kept)

        self.replace_id_token(relate)

    def replace_id_token(self, replace: Callable[[str], str]) -> None:
        """Answer with another ID token, made from the honest one."""

        def lie(status: str, headers: dict[str, str], body: bytes) -> tuple[str, dict[str, str], bytes]:
            document = json.loads(body)
            return (
                status,
                headers,
                json.dumps(document | {"id_token": replace(document["id_token"])}).encode(),
            )

        self.op.lies[at.TOKEN] = lie

    @property
    def public_jwk(self) -> dict[str, Any]:
        """What the key set shows of the provider's own key."""
        key = self.spatio.private_jwk
        return {name: key[name] for name in ("kty", "use", "alg", "kid", "n", "e")}

    def publish(self, *keys: dict[str, Any]) -> None:
        """Show these keys in the key set, and no others."""
        self.op.json(at.KEYS, keys=list(keys))

    def publish_only_the_newest(self) -> None:
        """Show none of the keys that were retired."""

        def lie(status: str, headers: dict[str, str], body: bytes) -> tuple[str, dict[str, str], bytes]:
            return status, headers, json.dumps({"keys": json.loads(body)["keys"][:1]}).encode()

        self.op.lies[at.KEYS] = lie

    def move(self, moves: dict[str, str]) -> None:
        """Serve endpoints at other paths, and say so in the metadata: a call to an old one is unexpected."""
        self.op.moved = moves

        def lie(status: str, headers: dict[str, str], body: bytes) -> tuple[str, dict[str, str], bytes]:
            issuer = self.spatio.issuer
            urls = {issuer + here: issuer + there for here, there in moves.items()}
            document = {
                name: urls.get(value, value) if isinstance(value, str) else value
                for name, value in json.loads(body).items()
            }
            return status, headers, json.dumps(document).encode()

        self.op.lies[at.METADATA] = lie

    def rewrite_registrations(self, **changes: Any) -> None:
        """Register clients otherwise than they ask, and answer truly."""

        def rewrite(document: dict[str, Any]) -> dict[str, Any]:
            return document | changes

        self.op.rewrite[at.REGISTER] = rewrite

    def name_clients(self, client_id: str, client_secret: str) -> None:
        """Give clients this id and this secret, instead of tame ones."""

        def lie(status: str, headers: dict[str, str], body: bytes) -> tuple[str, dict[str, str], bytes]:
            document = json.loads(body)
            with self.spatio._provider.store.change() as tables:
                client = tables.clients.pop(document["client_id"])
                client.client_id, client.client_secret = client_id, client_secret
                tables.clients[client_id] = client
            names = {"client_id": client_id, "client_secret": client_secret}
            return status, headers, json.dumps(document | names).encode()

        self.op.lies[at.REGISTER] = lie

    # What the site does

    def new_process(self) -> None:
        """Begin anew: the site remembers neither metadata nor keys."""
        cache.clear()
        provider.close()

    def forget_people(self) -> None:
        """Leave the site as it was before anybody signed in."""
        User.objects.all().delete()

    def expire(self, grant: SpatioToken) -> None:
        """Let the access token of *grant* be over, so that the next one who needs it refreshes it."""
        now_ms = int(1000 * SpatioToken.objects.with_clock().get(pk=grant.pk).now)
        SpatioToken.objects.filter(pk=grant.pk).update(expires_ms=now_ms - 1000)
        memo.memo.clear()

    def ask_userinfo(self, grant: SpatioToken) -> int:
        """Ask on behalf of the person, as code of a site does; give the status."""
        status: int = (
            tokens.for_user(grant.account.user).http.get(self.spatio.issuer + at.USERINFO).status_code
        )
        return status

    def register_again(self, *options: str) -> None:
        """Become another client."""
        call_command("spatio_register", "--base-url", self.origin, "--force", *options, verbosity=0)

    @property
    def client_secret(self) -> str:
        """The secret that the site was registered with."""
        secret = SpatioClient.objects.latest("pk").client_secret
        assert secret is not None
        return secret.reveal()

    # What is to be seen

    def accepts(self, *calls: str) -> SpatioToken:
        """See somebody sign in, with exactly these calls; give the grant."""
        self.observer.calls()
        browser = self.browser()

        response = self.sign_in(browser)

        assert (response.status_code, response.get("Location")) == (302, "/me/"), response.content.decode()
        assert self.observer.calls() == list(calls)
        grant = SpatioToken.objects.select_related("account__user").with_clock().latest("pk")
        assert user_of(browser) == grant.account.user.get_username() != ""
        assert browser.session["_spatio_grant"] == grant.handle
        assert grant.account.sub == "acc_2Yh7QmVxK0aDaLovelace"
        return grant

    def refuses(self, code: str, *calls: str, status: int = 502) -> None:
        """See a page of ours instead, after exactly these calls, and nothing that is left of the walk."""
        self.forget_people()
        self.observer.calls()
        browser = self.browser()

        response = self.sign_in(browser)

        self.see_refusal(response, browser, code, status)
        assert self.observer.calls() == list(calls)

    def refuses_to_go_on(self, code: str, claim: str, caplog: pytest.LogCaptureFixture) -> None:
        """
        See a session end that goes on honestly, when a refresh of it comes with another ID token.

        Its tokens are revoked, userinfo is not called, nobody can go on with the grant, and the next sign-in
        of that browser must rest on a new proof of identity.
        """
        lies = dict(self.op.lies)
        self.op.lies.clear()
        browser = self.browser()
        self.sign_in(browser)
        grant = SpatioToken.objects.select_related("account__user").latest("pk")
        self.expire(grant)
        self.observer.calls()
        assert browser.get("/me/").status_code == 200
        assert self.observer.calls() == [TOKEN]
        self.op.lies |= lies
        self.expire(grant)

        response = browser.get("/me/")

        assert (response.status_code, response["Location"]) == (302, "/spatio/login/?next=/me/")
        assert self.observer.calls() == [TOKEN, REVOKE, REVOKE]
        assert user_of(browser) == ""
        grant.refresh_from_db()
        assert (grant.state, grant.ended) == ("revoked", code)
        assert (grant.access_token, grant.refresh_token) == (None, None)
        (told,) = (record for record in caplog.records if record.levelname == "ERROR")
        assert getattr(told, "spatio", {})["code"] == claim
        with pytest.raises(SessionEnded):
            self.ask_userinfo(grant)
        assert self.observer.calls() == []
        assert "max_age=0" in browser.get(response["Location"])["Location"]

    def refuses_to_begin(self, code: str, *calls: str) -> None:
        """See a page of ours at the click already, in a new process: nobody is sent to the provider."""
        self.forget_people()
        self.new_process()
        self.observer.calls()
        browser = self.browser()

        response = browser.get("/spatio/login/")

        self.see_refusal(response, browser, code, 502)
        assert self.observer.calls() == list(calls)

    def see_refusal(self, response: Any, browser: Client, code: str, status: int) -> None:
        """See the page that explains *code*, and nobody signed in: not now, and nobody new."""
        assert (response.status_code, response.context["code"]) == (status, code)
        assert code in response.content.decode()
        assert response.context["reference"] in response.content.decode()
        assert "sessionid" not in browser.cookies
        assert user_of(browser) == ""
        rows = (User.objects.count(), SpatioAccount.objects.count(), SpatioToken.objects.count())
        assert rows == (0, 0, 0)


def user_of(browser: Client) -> str:
    """Give the name that the site knows this browser's user by; empty for nobody."""
    return str(browser.get("/state/").json()["user"])


@pytest.fixture
def observer() -> Observer:
    """Keep what the provider sees."""
    return Observer()


@pytest.fixture
def op() -> Op:
    """Give what makes the provider do wrong, when a test says so."""
    return Op()


@pytest.fixture
def spatio(op: Op, observer: Observer) -> Iterator[FakeSpatio]:
    """Serve a fresh provider; and at the end of each case, hold against the site whatever it did wrong."""
    with FakeSpatio(wrap=lambda app: observer.wrap(op.wrap(app))) as provider:
        yield provider
    assert complaints(observer.exchanges) == []


@pytest.fixture
def suite(db: None, spatio: FakeSpatio, op: Op, observer: Observer, settings: Any) -> Suite:
    """Register the site, and know the metadata from there on."""
    settings.SPATIO_ISSUER = spatio.issuer
    call_command("spatio_register", "--base-url", Suite.origin, verbosity=0)
    return Suite(spatio, op, observer)
