"""spatio_django.oidc.client and keys: the steps of a sign-in, composed."""

import json
import logging
import time
import traceback
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Any

import pytest

from spatio_django.exceptions import (
    ConfigurationError,
    InvalidToken,
    ProtocolViolation,
    ProviderRefused,
    ProviderUnavailable,
    SpatioError,
)
from spatio_django.oidc import responses
from spatio_django.oidc.answer import Answer
from spatio_django.oidc.client import REFRESH_TIMEOUT, Client, ClientCredentials
from spatio_django.oidc.keys import KEY_REFETCH_INTERVAL
from spatio_django.oidc.registration import ClientMetadata, Management
from spatio_django.oidc.responses import (
    REFRESH_LIMIT,
    TOKEN_LIMIT,
    RefreshResponse,
    TokenResponse,
    judge_revocation,
)
from spatio_django.oidc.secret import Secret
from tests.oidc.support import (
    CLAIMS,
    CLIENT_ID,
    ISSUER,
    METADATA,
    Clock,
    FakeHttp,
    MemoryCache,
    Signer,
    documents,
    json_answer,
)

WELL_KNOWN = ISSUER + "/.well-known/openid-configuration"
OAUTH_METADATA = ISSUER + "/.well-known/oauth-authorization-server"
TOKENS = {"access_token": "tok_abc", "token_type": "Bearer", "id_token": "a.b.c"}
CONFIDENTIAL = ClientCredentials(
    client_id=CLIENT_ID, client_secret=Secret("hunter2"), auth_method="client_secret_basic"
)


class Provider:
    """A provider's answers, and a client of it on one host."""

    def __init__(self, *jwks: dict[str, Any], **metadata: Any) -> None:
        self.clock = Clock()
        self.cache = MemoryCache()
        self.http = FakeHttp(
            {
                WELL_KNOWN: json_answer({k: v for k, v in (METADATA | metadata).items() if v is not None}),
                ISSUER + "/keys": json_answer({"keys": jwks}),
                ISSUER + "/oauth2/token": json_answer(TOKENS),
                ISSUER + "/oauth2/userinfo": json_answer({"sub": "person"}),
                ISSUER + "/oauth2/revoke": Answer(status=200),
                ISSUER + "/oauth2/register": json_answer(
                    {"client_id": "new", "client_secret": "x"}, status=201
                ),
            }
        )
        self.client = self.host()

    def host(self) -> Client:
        """Start another process."""
        stored = documents(self.cache, self.clock)
        return Client(issuer=ISSUER, http=self.http, documents=stored, clock=self.clock)

    def rotate(self, *jwks: dict[str, Any]) -> None:
        """Sign with other keys from now on."""
        self.http.answers[ISSUER + "/keys"] = json_answer({"keys": jwks})

    def fetches(self, path: str = "/keys") -> int:
        """Count the calls to one endpoint."""
        return [url for _, url, _ in self.http.calls].count(ISSUER + path)

    def verify(self, token: str, **options: Any) -> dict[str, Any]:
        """Verify an ID token of the usual login."""
        options = {
            "nonce": "a nonce",
            "access_token": None,
            "max_age": None,
            "client_id": CLIENT_ID,
        } | options
        client = options.pop("client", self.client)
        return dict(client.verify_id_token(Secret(token), **options))

    def exchange(self, credentials: ClientCredentials = CONFIDENTIAL) -> dict[str, Any]:
        """Exchange a code; return what was sent."""
        tokens = self.client.exchange_code(
            credentials,
            code=Secret("the code"),
            redirect_uri="https://site.example/cb",
            code_verifier=Secret("v"),
        )
        assert tokens.access_token.reveal() == "tok_abc"
        return self.http.calls[-1][2]


@pytest.mark.parametrize(
    "issuer",
    ["", "api.spatio.app", "http://provider.example", "https://p.example/?a=1", "https://p.example/#a"],
)
def test_an_unusable_issuer_is_a_configuration_error(issuer: str) -> None:
    """Found when the client is made, which asks nobody anything."""
    provider = Provider()
    assert provider.client.issuer == ISSUER
    stored = documents(provider.cache, provider.clock)

    with pytest.raises(ConfigurationError) as caught:
        Client(issuer=issuer, http=provider.http, documents=stored)

    assert caught.value.code == "issuer"
    assert provider.http.calls == []


def test_metadata_is_fetched_and_parsed_once() -> None:
    """Every later step uses the same value."""
    provider = Provider()

    assert provider.client.metadata() is provider.client.metadata()
    assert provider.client.metadata().issuer == ISSUER
    assert len(provider.http.calls) == 1


def test_metadata_of_another_issuer_is_never_kept() -> None:
    """The next host must not find them in the shared cache."""
    provider = Provider(issuer="https://other.example")

    with pytest.raises(ProtocolViolation) as caught:
        provider.client.metadata()

    assert caught.value.code == "issuer_mismatch"
    assert provider.cache == {}


def test_bad_metadata_do_not_replace_good_ones() -> None:
    """A provider that breaks its document breaks nobody's sign-in for a day."""
    provider = Provider()
    provider.client.metadata()
    provider.http.answers[WELL_KNOWN] = json_answer(METADATA | {"token_endpoint": None})
    provider.clock.now += 7200

    for _ in range(2):
        assert provider.client.metadata().token_endpoint == ISSUER + "/oauth2/token"
    assert len(provider.http.calls) == 2


def test_metadata_that_led_nowhere_are_fetched_again_soon() -> None:
    """A minute later, instead of an hour."""
    provider = Provider()
    provider.client.metadata()
    provider.http.answers[WELL_KNOWN] = json_answer(METADATA | {"token_endpoint": ISSUER + "/moved"})
    provider.clock.now += 61
    assert provider.client.metadata().token_endpoint == ISSUER + "/oauth2/token"

    provider.client.doubt_metadata()

    provider.client.metadata()  # has them fetched, behind the visitor's back
    assert provider.client.metadata().token_endpoint == ISSUER + "/moved"


def test_a_code_is_exchanged_with_basic_authentication() -> None:
    """Credentials in the header, and nowhere else (oidcc-client-test-client-secret-basic)."""
    sent = Provider().exchange()

    assert sent["basic"] == (CLIENT_ID, Secret("hunter2"))
    assert sent["fields"] == {
        "grant_type": "authorization_code",
        "code": Secret("the code"),
        "redirect_uri": "https://site.example/cb",
        "code_verifier": Secret("v"),
    }


def test_a_code_is_exchanged_with_credentials_in_the_body() -> None:
    """``client_secret_post``: not in the header too."""
    sent = Provider().exchange(
        ClientCredentials(
            client_id=CLIENT_ID, client_secret=Secret("hunter2"), auth_method="client_secret_post"
        )
    )

    assert sent["basic"] is None
    assert sent["fields"]["client_id"] == CLIENT_ID
    assert sent["fields"]["client_secret"] == Secret("hunter2")


@pytest.mark.parametrize("secret", [None, Secret("hunter2")])
def test_a_public_client_sends_its_id_and_no_secret(secret: Secret | None) -> None:
    """Even if it was given one."""
    sent = Provider().exchange(
        ClientCredentials(client_id=CLIENT_ID, client_secret=secret, auth_method="none")
    )

    assert sent["basic"] is None
    assert sent["fields"]["client_id"] == CLIENT_ID
    assert "client_secret" not in sent["fields"]


@pytest.mark.parametrize("method", ["client_secret_basic", "client_secret_post"])
def test_a_confidential_client_without_its_secret_sends_nothing(method: Any) -> None:
    """The code stays unused."""
    provider = Provider()

    with pytest.raises(ConfigurationError) as caught:
        provider.exchange(ClientCredentials(client_id=CLIENT_ID, client_secret=None, auth_method=method))

    assert caught.value.code == "client_secret"
    assert provider.http.calls == []


def test_credentials_do_not_show_their_secret() -> None:
    """They are passed around, and end up in tracebacks."""
    assert "hunter2" not in repr(CONFIDENTIAL)


def test_a_sign_in_without_an_id_token_is_none() -> None:
    """Spatio sends none when ``openid`` was not granted."""
    with pytest.raises(ProtocolViolation) as caught:
        Provider().client.verify_id_token(None, client_id="rp", nonce="n", access_token=None, max_age=None)

    assert caught.value.code == "id_token"


def test_userinfo_is_asked_with_the_token_in_the_header() -> None:
    """oidcc-client-test-userinfo-bearer-header."""
    provider = Provider()

    assert provider.client.userinfo(Secret("tok_abc"), subject="person") == {"sub": "person"}
    assert provider.http.calls[-1][1] == ISSUER + "/oauth2/userinfo"
    assert provider.http.calls[-1][2]["bearer"] == Secret("tok_abc")
    with pytest.raises(ProtocolViolation):
        provider.client.userinfo(Secret("tok_abc"), subject="somebody else")


def test_registering_posts_the_request_to_the_endpoint() -> None:
    """And gives what was registered."""
    provider = Provider()
    request = ClientMetadata(redirect_uris=("https://s.example/cb",), client_name="S", scope=("openid",))

    assert provider.client.register(request).client_id == "new"
    assert provider.http.calls[-1][2]["document"] == request.to_document()


def test_a_registration_endpoint_may_be_in_the_oauth_metadata_only() -> None:
    """As at django-oauth-toolkit; and a provider that has none at all says so."""
    provider = Provider(registration_endpoint=None)
    request = ClientMetadata(redirect_uris=("https://s.example/cb",), client_name="S", scope=("openid",))
    provider.http.answers[OAUTH_METADATA] = json_answer(
        {"issuer": ISSUER, "registration_endpoint": ISSUER + "/oauth2/register"}
    )

    assert provider.client.register(request).client_id == "new"

    provider.http.answers[OAUTH_METADATA] = json_answer({"issuer": ISSUER})
    with pytest.raises(ProtocolViolation) as caught:
        provider.client.register(request)
    assert caught.value.code == "registration_endpoint"


def never(left: Management) -> None:
    """Keep what an answer that does not hold left; here there is none."""
    raise AssertionError("Nothing went wrong.")


def test_a_registration_is_changed_where_it_says_with_its_own_token() -> None:
    """RFC 7592 §2.2: everything again, with the client id, and never a secret in the body."""
    provider = Provider()
    uri = ISSUER + "/oauth2/register/abc"
    provider.http.answers[uri] = json_answer({"client_id": "abc", "client_secret": "x"})
    request = ClientMetadata(redirect_uris=("https://s.example/cb",), client_name="S", scope=("openid",))
    current = Management(
        client_id="abc", client_secret=Secret("old"), uri=uri, access_token=Secret("reg_abc")
    )

    assert provider.client.update_registration(request, current, keep=never).client_secret == Secret("x")
    method, url, options = provider.http.calls[-1]
    assert (method, url, options["bearer"]) == ("PUT", uri, Secret("reg_abc"))
    assert options["document"] == {"client_id": "abc", **request.to_document()}


def test_the_secrets_of_a_change_that_does_not_hold_are_handed_on() -> None:
    """The old ones may be worth nothing from now on."""
    provider = Provider()
    uri = ISSUER + "/oauth2/register/abc"
    document = {"client_id": "abc", "client_secret": "new", "registration_access_token": "reg_new"}
    request = ClientMetadata(redirect_uris=("https://s.example/cb",), client_name="S", scope=("openid",))
    current = Management(
        client_id="abc", client_secret=Secret("old"), uri=uri, access_token=Secret("reg_abc")
    )
    provider.http.answers[uri] = json_answer(document)
    assert provider.client.update_registration(request, current, keep=never).client_secret == Secret("new")
    provider.http.answers[uri] = json_answer(document | {"redirect_uris": ["https://evil.example/"]})
    left: list[Management] = []

    with pytest.raises(ProtocolViolation) as caught:
        provider.client.update_registration(request, current, keep=left.append)

    assert caught.value.code == "redirect_uris"
    assert [(each.client_secret, each.access_token) for each in left] == [(Secret("new"), Secret("reg_new"))]


@pytest.mark.parametrize("uri", ["https://elsewhere.example/r/abc", ISSUER + ":8443/r/abc"])
def test_the_registration_access_token_goes_nowhere_else(uri: str) -> None:
    """Whoever gets it can change where codes are sent."""
    provider = Provider()
    provider.http.answers |= {
        url: json_answer({"client_id": "abc", "client_secret": "x"}) for url in (ISSUER + "/r/abc", uri)
    }
    request = ClientMetadata(redirect_uris=("https://s.example/cb",), client_name="S", scope=("openid",))

    def change(at: str) -> None:
        current = Management(client_id="abc", client_secret=None, uri=at, access_token=Secret("reg_abc"))
        provider.client.update_registration(request, current, keep=never)

    change(ISSUER + "/r/abc")
    calls = len(provider.http.calls)
    with pytest.raises(ProtocolViolation) as caught:
        change(uri)

    assert caught.value.code == "registration_client_uri"
    assert len(provider.http.calls) == calls


# --- refreshing and revoking ------------------------------------------------------------------------------

POSTED = ClientCredentials(
    client_id=CLIENT_ID, client_secret=Secret("hunter2"), auth_method="client_secret_post"
)
PUBLIC = ClientCredentials(client_id=CLIENT_ID, client_secret=Secret("hunter2"), auth_method="none")
#: By the way a client authenticates: what is in the header, and what is in the form for that.
AUTHENTICATION: list[tuple[ClientCredentials, object, dict[str, str | Secret]]] = [
    (CONFIDENTIAL, (CLIENT_ID, Secret("hunter2")), {}),
    (POSTED, None, {"client_id": CLIENT_ID, "client_secret": Secret("hunter2")}),
    (PUBLIC, None, {"client_id": CLIENT_ID}),
]
#: Each call that takes a token to an endpoint with the client's credentials.
CALLS: dict[str, Callable[[Client, ClientCredentials], object]] = {
    "refresh": lambda client, credentials: client.refresh(credentials, Secret("ref"), send_by=7.5),
    "revoke": lambda client, credentials: client.revoke(credentials, Secret("ref")),
}


@pytest.mark.parametrize(
    ("credentials", "basic", "fields"), AUTHENTICATION, ids=lambda each: getattr(each, "auth_method", "")
)
def test_a_refresh_is_sent_once_on_a_connection_of_its_own(
    credentials: ClientCredentials, basic: object, fields: dict[str, str | Secret]
) -> None:
    """Credentials in one place, no scope (Spatio has no such field), and the caller's last moment to send."""
    provider = Provider()

    assert provider.client.refresh(credentials, Secret("ref"), send_by=7.5).access_token == Secret("tok_abc")

    assert provider.fetches("/oauth2/token") == 1
    assert provider.http.calls[-1][2] == {
        "fields": {"grant_type": "refresh_token", "refresh_token": Secret("ref")} | fields,
        "basic": basic,
        "limit": REFRESH_LIMIT,
        "timeout": REFRESH_TIMEOUT,
        "send_by": 7.5,
        "fresh": True,
        "inflate": True,
    }


def test_a_refresh_may_be_sent_whenever() -> None:
    """By whoever holds no lease."""
    provider = Provider()

    provider.client.refresh(CONFIDENTIAL, Secret("ref"))

    assert provider.http.calls[-1][2]["send_by"] is None


@pytest.mark.parametrize(
    ("credentials", "basic", "fields"), AUTHENTICATION, ids=lambda each: getattr(each, "auth_method", "")
)
def test_a_revocation_says_the_token_and_who_asks(
    credentials: ClientCredentials, basic: object, fields: dict[str, str | Secret]
) -> None:
    """RFC 7009 §2.1: with credentials, in one place. Without a hint, which Spatio has no field for."""
    provider = Provider()

    provider.client.revoke(credentials, Secret("ref"), timeout=2.0)

    method, url, sent = provider.http.calls[-1]
    assert (method, url) == ("POST", ISSUER + "/oauth2/revoke")
    assert sent == {
        "fields": {"token": Secret("ref")} | fields,
        "fresh": True,
        "basic": basic,
        "limit": TOKEN_LIMIT,
        "timeout": 2.0,
    }
    provider.client.revoke(credentials, Secret("ref"))
    assert provider.http.calls[-1][2]["timeout"] is None


def test_a_revocation_endpoint_may_be_in_the_oauth_metadata_only() -> None:
    """RFC 8414 knows it, OpenID Discovery doesn't. Looked for once an hour, also where there is none."""
    provider = Provider(revocation_endpoint=None)
    oauth = {"issuer": ISSUER, "revocation_endpoint": ISSUER + "/o/revoke"}
    provider.http.answers |= {OAUTH_METADATA: json_answer(oauth), ISSUER + "/o/revoke": Answer(status=200)}

    for _ in range(3):
        provider.client.revoke(CONFIDENTIAL, Secret("ref"))
        assert provider.http.calls[-1][:2] == ("POST", ISSUER + "/o/revoke")
    assert provider.fetches("/.well-known/oauth-authorization-server") == 1

    none = Provider(revocation_endpoint=None)
    none.http.answers[OAUTH_METADATA] = Answer(status=404)
    for _ in range(3):
        with pytest.raises(ProtocolViolation) as caught:
            none.client.revoke(CONFIDENTIAL, Secret("ref"))
        assert caught.value.code == "revocation_endpoint"
    assert none.fetches("/.well-known/oauth-authorization-server") == 1


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"issuer": "https://evil.example"}, "issuer_mismatch"),
        ({"revocation_endpoint": "http://evil.example/"}, "insecure_url"),
        ({"revocation_endpoint": 7}, "insecure_url"),
    ],
)
def test_oauth_metadata_lead_no_token_astray(changes: dict[str, Any], code: str) -> None:
    """Nothing is sent, and nothing of it is kept."""
    provider = Provider(revocation_endpoint=None)
    oauth = {"issuer": ISSUER, "revocation_endpoint": ISSUER + "/oauth2/revoke"}
    provider.http.answers[OAUTH_METADATA] = json_answer(oauth | changes)

    with pytest.raises(ProtocolViolation) as caught:
        provider.client.revoke(CONFIDENTIAL, Secret("ref"))

    assert caught.value.code == code
    assert [name for name in provider.cache if "oauth" in name and not name.endswith(":claim")] == []
    assert all(method == "GET" for method, _, _ in provider.http.calls)
    provider.http.answers[OAUTH_METADATA] = json_answer(oauth)
    provider.clock.now += 60
    provider.host().revoke(CONFIDENTIAL, Secret("ref"))


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("method", ["client_secret_basic", "client_secret_post"])
def test_a_client_without_its_secret_sends_no_token(call: str, method: Any) -> None:
    """Found before anybody is asked."""
    provider = Provider()
    CALLS[call](provider.client, CONFIDENTIAL)
    calls = len(provider.http.calls)

    with pytest.raises(ConfigurationError) as caught:
        CALLS[call](
            provider.client, ClientCredentials(client_id=CLIENT_ID, client_secret=None, auth_method=method)
        )

    assert caught.value.code == "client_secret"
    assert len(provider.http.calls) == calls


PLANTED = "ref_" + "Zk3v9QpX7mB2"  # in two parts: a traceback shows source lines too


def chained(error: BaseException | None) -> Iterator[BaseException]:
    """Give *error* and all that it came from, shown by default or not."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def told_by(error: BaseException) -> str:
    """Give what a tool could record: each error, its frames' variables, and the bodies in these."""
    told = []
    for each in chained(error):
        report = traceback.TracebackException.from_exception(each, capture_locals=True)
        told += [*report.format(), repr(each.args), repr(vars(each))]
        frames: TracebackType | None = each.__traceback__
        while frames is not None:
            values = frames.tb_frame.f_locals.values()
            told += [repr(value.body) for value in values if isinstance(value, Answer)]
            frames = frames.tb_next
    return "\n".join(told)


def raised_by(work: Callable[[], object]) -> BaseException:
    """Give what *work* raises; the frame of the test, which knows everything, is no part of it."""
    with pytest.raises(BaseException) as caught:  # noqa: PT011 - whatever it is
        work()
    return caught.value


#: Each call for or with tokens, and what judges its answer.
TOKEN_CALLS: dict[str, tuple[Callable[[Provider], object], Callable[[Answer], object]]] = {
    "exchange": (Provider.exchange, TokenResponse.from_answer),
    "refresh": (
        lambda provider: provider.client.refresh(CONFIDENTIAL, Secret("ref")),
        RefreshResponse.from_answer,
    ),
    "revoke": (lambda provider: provider.client.revoke(CONFIDENTIAL, Secret("ref")), judge_revocation),
}
#: Answers that nothing is made of, and that tell a secret.
SPILLING = {
    "no access token": json_answer({"refresh_token": PLANTED}),
    "error": json_answer({"refresh_token": PLANTED, "error": "invalid_grant"}),
    "array": json_answer([PLANTED]),
    "cut off": Answer(status=200, body=b'{"refresh_token": "' + PLANTED.encode()),
    "refused": json_answer({"a": PLANTED, "error": "invalid_grant"}, status=400),
    "another status": json_answer({"a": PLANTED}, status=404),
    "down": json_answer({"refresh_token": PLANTED}, status=503),
}


@pytest.mark.parametrize(
    ("call", "name"),
    [
        (call, name)
        for call in TOKEN_CALLS
        for name, answer in SPILLING.items()
        if call != "revoke" or answer.status != 200
    ],
)
def test_no_error_of_a_call_for_tokens_holds_one(call: str, name: str) -> None:
    """Error reports show the local variables of each frame, and of what an error came from."""
    provider, (ask, judge) = Provider(), TOKEN_CALLS[call]
    for path in ("/oauth2/token", "/oauth2/revoke"):
        provider.http.answers[ISSUER + path] = SPILLING[name]
    planted = raised_by(lambda: judge(SPILLING[name]))
    assert PLANTED in told_by(planted)

    error = raised_by(lambda: ask(provider))

    assert isinstance(error, SpatioError)
    assert isinstance(planted, SpatioError)
    assert (type(error), error.code, error.context) == (type(planted), planted.code, planted.context)
    assert "in _bare" in told_by(error)
    assert PLANTED not in told_by(error)


def test_neither_does_an_error_that_nobody_expects(monkeypatch: pytest.MonkeyPatch) -> None:
    """A job's time limit, or a lack of memory, may strike while an answer is read; with what it came from."""
    provider = Provider()
    answer = json_answer({"access_token": "tok_abc", "refresh_token": PLANTED})
    provider.http.answers[ISSUER + "/oauth2/token"] = answer

    def strike(document: dict[str, Any], *_: object) -> None:
        try:
            json.loads(document["refresh_token"])
        except ValueError as error:
            raise MemoryError from error

    monkeypatch.setattr(responses, "text", strike)
    planted = raised_by(lambda: RefreshResponse.from_answer(answer))
    assert all(PLANTED in told_by(each) for each in (planted, planted.__cause__) if each)

    error = raised_by(lambda: provider.client.refresh(CONFIDENTIAL, Secret("ref")))

    assert isinstance(error, MemoryError)
    assert list(chained(error)) == [error]
    assert PLANTED not in told_by(error)


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (json_answer({"error": "invalid_grant"}, status=400), (ProviderRefused, "invalid_grant")),
        (json_answer({"error": "invalid_client"}, status=401), (ProviderRefused, "invalid_client")),
        (Answer(status=503), (ProviderUnavailable, "bad_status")),
        (Answer(status=404), (ProtocolViolation, "bad_status")),
        (ProviderUnavailable("x", code="late", sent=False), (ProviderUnavailable, "late")),
    ],
)
def test_a_call_with_a_token_that_fails_is_told_as_it_is(
    call: str, answer: Answer | SpatioError, expected: tuple[type[SpatioError], str]
) -> None:
    """And never made again."""
    provider = Provider()
    path = {"refresh": "/oauth2/token", "revoke": "/oauth2/revoke"}[call]
    CALLS[call](provider.client, CONFIDENTIAL)
    provider.http.answers[ISSUER + path] = answer

    with pytest.raises(expected[0]) as caught:
        CALLS[call](provider.client, CONFIDENTIAL)

    assert caught.value.code == expected[1]
    assert provider.fetches(path) == 2


REFRESHED = {"iss": ISSUER, "sub": "person", "aud": CLIENT_ID}


def check(provider: Provider, token: str) -> None:
    """Check an ID token that came with a refresh of the usual login."""
    provider.client.check_refreshed_id_token(Secret(token), original=REFRESHED)


def test_a_refreshed_id_token_of_the_same_person_is_none_to_worry_about(
    signer: Signer, caplog: pytest.LogCaptureFixture
) -> None:
    """Of whatever age, and without a nonce (Core §12.2)."""
    provider = Provider(signer.jwk())

    check(provider, signer.sign(REFRESHED))
    check(provider, signer.sign(REFRESHED | {"exp": 1, "iat": 0, "azp": CLIENT_ID}))

    assert provider.fetches() == 1
    assert caplog.messages == []


@pytest.mark.parametrize(
    ("claims", "header", "code"),
    [
        ({"sub": "other"}, {}, "sub"),
        ({"iss": ISSUER + "/"}, {}, "iss"),
        ({"aud": "other"}, {}, "aud"),
        ({"azp": ["client"]}, {}, "azp"),
        ({}, {"alg": "none"}, "alg"),
        ({}, {"alg": "HS256"}, "alg"),
        ({}, {"typ": "at+jwt"}, "typ"),
        ({}, {"crit": []}, "header"),
        ({}, {"jwk": {}}, "header"),
    ],
)
def test_a_refreshed_id_token_that_does_not_hold_is_refused(
    signer: Signer, claims: dict[str, Any], header: dict[str, Any], code: str
) -> None:
    """Another identity, or what no provider with RS256 writes."""
    provider = Provider(signer.jwk())
    check(provider, signer.sign(REFRESHED))

    with pytest.raises(InvalidToken) as caught:
        check(provider, signer.sign(REFRESHED | claims, header))

    assert caught.value.code == code


@pytest.mark.parametrize("token", ["", "a.b.c", "a.b", "..", "e30.e30.", "é", "x" * 17_000])
def test_what_is_no_token_is_no_id_token_of_a_refresh(signer: Signer, token: str) -> None:
    """An unsecured one, without a signature, is none either; and nobody is asked for keys."""
    provider = Provider(signer.jwk())

    with pytest.raises(InvalidToken) as caught:
        check(provider, token)

    assert caught.value.code == "malformed"
    assert provider.http.calls == []


def test_another_identity_is_refused_whoever_signed(signer: Signer, other_signer: Signer) -> None:
    """What it says is looked at first: there is no need to know the key."""
    provider = Provider(signer.jwk())
    check(provider, other_signer.sign(REFRESHED))
    asked = provider.fetches()

    for who in (signer, other_signer):
        with pytest.raises(InvalidToken) as caught:
            check(provider, who.sign(REFRESHED | {"sub": "other"}))
        assert caught.value.code == "sub"
    assert provider.fetches() == asked


@pytest.mark.parametrize(
    "kid", [pytest.param("second", id="unknown"), pytest.param("first", id="signature"), None]
)
def test_a_refreshed_id_token_with_a_key_that_is_not_to_be_had_yet_is_let_pass(
    signer: Signer, other_signer: Signer, caplog: pytest.LogCaptureFixture, kid: str | None
) -> None:
    """The edge may have the old keys for minutes, and nothing is taken from the token: it is only noted."""
    provider = Provider(signer.jwk())
    check(provider, signer.sign(REFRESHED))

    for _ in range(3):
        check(provider, other_signer.sign(REFRESHED, {"kid": kid}))

    assert provider.fetches() == 2  # a minute has to pass for the next look
    assert {record.levelno for record in caplog.records} == {logging.WARNING}
    assert {record.args for record in caplog.records} == {("kid" if kid == "second" else "signature",)}


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        (Answer(status=503), "bad_status"),
        (Answer(status=404), "bad_status"),
        (json_answer({"keys": []}), "jwks"),
        (ProviderUnavailable("x", code="timeout"), "timeout"),
    ],
)
def test_keys_that_can_not_be_had_end_nothing(
    signer: Signer, caplog: pytest.LogCaptureFixture, answer: Answer | SpatioError, code: str
) -> None:
    """A provider whose keys are down is not another person."""
    provider = Provider()
    provider.http.answers[ISSUER + "/keys"] = answer

    check(provider, signer.sign(REFRESHED))

    assert caplog.messages == [f"The signature of a refreshed ID token can't be told: {code}"]
    with pytest.raises(InvalidToken):
        check(provider, signer.sign(REFRESHED | {"sub": "other"}))


@pytest.mark.parametrize("name", ["userinfo_endpoint", "registration_endpoint", "revocation_endpoint"])
def test_a_step_that_the_provider_does_not_offer_says_so(name: str) -> None:
    """These endpoints are optional."""
    provider = Provider(**{name: None})
    provider.http.answers[OAUTH_METADATA] = Answer(status=404)
    client = provider.client
    steps: dict[str, Callable[[], object]] = {
        "userinfo_endpoint": lambda: client.userinfo(Secret("x"), subject="person"),
        "registration_endpoint": lambda: client.register(
            ClientMetadata(redirect_uris=(), client_name="", scope=())
        ),
        "revocation_endpoint": lambda: client.revoke(CONFIDENTIAL, Secret("x")),
    }

    with pytest.raises(ProtocolViolation) as caught:
        steps[name]()

    assert caught.value.code == name


# --- ID tokens and key rotation ---------------------------------------------------------------------------


def test_a_warm_sign_in_fetches_neither_metadata_nor_keys(signer: Signer) -> None:
    """Two calls a sign-in: token and userinfo."""
    provider = Provider(signer.jwk())

    for _ in range(3):
        assert provider.verify(signer.sign(CLAIMS)) == CLAIMS
    assert provider.fetches() == 1
    assert provider.verify(signer.sign(CLAIMS), client=provider.host()) == CLAIMS
    assert provider.fetches() == 1


@pytest.mark.parametrize(
    ("options", "code"),
    [
        ({"client_id": "other"}, "aud"),
        ({"nonce": "other"}, "nonce"),
        ({"max_age": 300}, "auth_time"),
    ],
)
def test_a_genuine_token_of_another_login_is_refused(
    signer: Signer, options: dict[str, Any], code: str
) -> None:
    """A signature proves who speaks, not to whom."""
    provider = Provider(signer.jwk())

    with pytest.raises(InvalidToken) as caught:
        provider.verify(signer.sign(CLAIMS), **options)

    assert caught.value.code == code
    assert provider.fetches() == 1


def test_the_clock_is_the_clients(signer: Signer) -> None:
    """An expired token is expired."""
    provider = Provider(signer.jwk())
    provider.clock.now += 3600 + 60

    with pytest.raises(InvalidToken) as caught:
        provider.verify(signer.sign(CLAIMS))

    assert caught.value.code == "exp"


@pytest.mark.parametrize("kid", ["second", "first", None])
def test_a_token_signed_with_a_just_rotated_key_is_accepted(
    signer: Signer, other_signer: Signer, kid: str | None
) -> None:
    """oidcc-client-test-signing-key-rotation-just-before-signing; also if the kid stays, or there is none."""
    provider = Provider(signer.jwk(kid=None if kid is None else "first"))
    assert provider.verify(signer.sign(CLAIMS, {"kid": None})) == CLAIMS
    provider.clock.now += 1
    provider.rotate(other_signer.jwk(kid=kid))

    assert provider.verify(other_signer.sign(CLAIMS, {"kid": kid})) == CLAIMS
    assert provider.fetches() == 2


def test_unknown_kid_refetches_keys_once_then_waits(signer: Signer, other_signer: Signer) -> None:
    """A stream of forged tokens is not a stream of fetches, on one host or on many."""
    provider = Provider(signer.jwk())
    hosts = [provider.client, provider.host()]

    for _ in range(3):
        for host in hosts:
            provider.clock.now += 6
            with pytest.raises(InvalidToken) as caught:
                provider.verify(other_signer.sign(CLAIMS), client=host)
            assert caught.value.code == "kid"
    assert provider.fetches() == 2

    provider.clock.now += KEY_REFETCH_INTERVAL
    provider.cache.pop(next(key for key in provider.cache if key.endswith(":claim")))  # its timeout
    provider.rotate(other_signer.jwk())
    assert provider.verify(other_signer.sign(CLAIMS)) == CLAIMS
    assert provider.fetches() == 3


def test_a_malformed_token_is_no_reason_to_fetch_keys(signer: Signer) -> None:
    """Only what a rotation looks like is."""
    provider = Provider(signer.jwk())

    with pytest.raises(InvalidToken) as caught:
        provider.verify("a.b.c")

    assert caught.value.code == "malformed"
    assert provider.fetches() == 1


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (Answer(status=503), ProviderUnavailable),
        (Answer(status=404), ProtocolViolation),
        (json_answer([]), ProtocolViolation),
        (json_answer({"keys": []}), ProtocolViolation),
        (ProviderUnavailable("x", code="timeout"), ProviderUnavailable),
    ],
)
def test_keys_that_can_not_be_had_never_mean_accepted(
    signer: Signer, other_signer: Signer, answer: Answer | SpatioError, error: type[SpatioError]
) -> None:
    """Neither at first nor after a rotation; and known keys go on working meanwhile."""
    cold = Provider()
    cold.http.answers[ISSUER + "/keys"] = answer
    with pytest.raises(error):
        cold.verify(signer.sign(CLAIMS))

    warm = Provider(signer.jwk())
    warm.verify(signer.sign(CLAIMS))
    warm.http.answers[ISSUER + "/keys"] = answer
    with pytest.raises(error):
        warm.verify(other_signer.sign(CLAIMS))
    assert warm.verify(signer.sign(CLAIMS)) == CLAIMS


def test_a_refused_code_is_told_as_it_is() -> None:
    """The client adds nothing to what :mod:`~spatio_django.oidc.responses` judged."""
    provider = Provider()
    provider.http.answers[ISSUER + "/oauth2/token"] = json_answer({"error": "invalid_grant"}, status=400)

    with pytest.raises(ProviderRefused) as caught:
        provider.exchange()

    assert caught.value.code == "invalid_grant"


def test_the_default_clock_is_the_real_one(signer: Signer) -> None:
    """Nothing has to be passed in production."""
    provider = Provider(signer.jwk())
    stored = documents(provider.cache, provider.clock)
    client = Client(issuer=ISSUER, http=provider.http, documents=stored)
    claims = CLAIMS | {"iat": int(time.time()), "exp": int(time.time()) + 60}

    assert provider.verify(signer.sign(claims), client=client) == claims
