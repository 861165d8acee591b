"""The observer itself: it has nothing to say about an honest walk, and notices each thing that is wrong."""

import base64
import hashlib
import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any
from urllib.parse import parse_qsl, urlencode

import pytest

from tests.conformance.observer import BROWSER, DISCOVERY, Exchange, complaints

ISSUER = "https://op.example"
CALLBACK = "https://site.example/callback/"
CLIENT_ID, CLIENT_SECRET, ACCESS_TOKEN = "the client", "its secret", "tok_of_the_walk"
STATE, NONCE, VERIFIER = (letter * 43 for letter in "snv")


def challenge(verifier: str) -> str:
    """Give the S256 challenge."""
    return base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).decode().rstrip("=")


def basic(user: str, password: str) -> dict[str, str]:
    """Give the header of HTTP Basic for what is form-encoded already."""
    return {"Authorization": "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()}


FORM = {"Content-Type": "application/x-www-form-urlencoded"}
REGISTRATION: dict[str, Any] = {
    "client_name": "A site",
    "redirect_uris": [CALLBACK],
    "grant_types": ["authorization_code", "refresh_token"],
    "response_types": ["code"],
    "scope": "openid email",
    "token_endpoint_auth_method": "client_secret_basic",
}
REQUEST = {
    "response_type": "code",
    "client_id": CLIENT_ID,
    "redirect_uri": CALLBACK,
    "scope": "openid email",
    "state": STATE,
    "nonce": NONCE,
    "code_challenge": challenge(VERIFIER),
    "code_challenge_method": "S256",
}
CODE = {"grant_type": "authorization_code", "code": "c", "redirect_uri": CALLBACK, "code_verifier": VERIFIER}

REFRESH_TOKENS = ["rfr_of_the_walk", "rfr_after_it"]
REFRESH = {"grant_type": "refresh_token", "refresh_token": REFRESH_TOKENS[0]}

METADATA, REGISTER, AUTHORIZE, CONSENT, TOKEN, KEYS, USERINFO, RENEWAL, REVOCATION = range(9)
WALK = [
    Exchange(
        method="GET",
        path=DISCOVERY,
        answer=json.dumps(
            {
                "issuer": ISSUER,
                "authorization_endpoint": f"{ISSUER}/authorize",
                "token_endpoint": f"{ISSUER}/token",
                "userinfo_endpoint": f"{ISSUER}/userinfo",
                "registration_endpoint": f"{ISSUER}/register",
                "revocation_endpoint": f"{ISSUER}/revoke",
                "jwks_uri": f"{ISSUER}/keys",
            }
        ),
    ),
    Exchange(
        method="POST",
        path="/register",
        body=json.dumps(REGISTRATION),
        answer=json.dumps(REGISTRATION | {"client_id": CLIENT_ID, "client_secret": CLIENT_SECRET}),
    ),
    Exchange(method="GET", path="/authorize", query=urlencode(REQUEST), headers={"User-Agent": BROWSER}),
    Exchange(
        method="POST",
        path="/oauth2/authorize/confirm",
        headers={"User-Agent": BROWSER},
        location=f"{CALLBACK}?code=c&state={STATE}",
    ),
    Exchange(
        method="POST",
        path="/token",
        headers=FORM | basic("the+client", "its+secret"),
        body=urlencode(CODE),
        answer=json.dumps(
            {"access_token": ACCESS_TOKEN, "id_token": "e30.e30.e30", "refresh_token": REFRESH_TOKENS[0]}
        ),
    ),
    Exchange(method="GET", path="/keys"),
    Exchange(method="GET", path="/userinfo", headers={"Authorization": f"Bearer {ACCESS_TOKEN}"}),
    Exchange(
        method="POST",
        path="/token",
        headers=FORM | basic("the+client", "its+secret"),
        body=urlencode(REFRESH),
        answer=json.dumps({"access_token": "tok_after_it", "refresh_token": REFRESH_TOKENS[1]}),
    ),
    Exchange(
        method="POST",
        path="/revoke",
        headers=FORM | basic("the+client", "its+secret"),
        body=urlencode({"token": REFRESH_TOKENS[1]}),
    ),
    Exchange(
        method="POST",
        path="/revoke",
        headers=FORM | basic("the+client", "its+secret"),
        body=urlencode({"token": "tok_after_it"}),
    ),
]

Edit = Callable[[Exchange], Exchange]


def asking(**changes: str | None) -> Edit:
    """Change parameters of the address; ``None`` takes one away."""
    return lambda exchange: replace(exchange, query=edited(exchange.query, changes))


def posting(**changes: str | None) -> Edit:
    """Change fields of the form."""
    return lambda exchange: replace(exchange, body=edited(exchange.body, changes))


def registering(**changes: Any) -> Edit:
    """Change members of the registration."""
    return lambda exchange: replace(exchange, body=json.dumps(json.loads(exchange.body) | changes))


def registered(**changes: Any) -> Edit:
    """Change what the client is."""
    return lambda exchange: replace(exchange, answer=json.dumps(json.loads(exchange.answer) | changes))


def saying(**headers: str) -> Edit:
    """Change headers."""
    return lambda exchange: replace(
        exchange,
        headers=exchange.headers | {name.replace("_", "-"): value for name, value in headers.items()},
    )


def edited(text: str, changes: dict[str, str | None]) -> str:
    """Change form-encoded text."""
    return urlencode({k: v for k, v in (dict(parse_qsl(text)) | changes).items() if v is not None})


WRONGS = [
    pytest.param(METADATA, saying(Authorization="Bearer x"), "something was sent along", id="metadata"),
    pytest.param(KEYS, lambda e: replace(e, body="x"), "something was sent along", id="keys"),
    pytest.param(KEYS, lambda e: replace(e, query="a=1"), "a call with a query", id="query"),
    pytest.param(KEYS, lambda e: replace(e, path="/logout"), "an unexpected call", id="other-path"),
    pytest.param(KEYS, lambda e: replace(e, method="HEAD"), "an unexpected call", id="other-method"),
    pytest.param(CONSENT, lambda e: replace(e, path="/logout"), "sent elsewhere", id="browser"),
    pytest.param(REGISTER, registering(redirect_uris=CALLBACK), "redirect_uris", id="uris-no-list"),
    pytest.param(REGISTER, registering(redirect_uris=[]), "redirect_uris", id="uris-none"),
    pytest.param(REGISTER, registering(redirect_uris=[CALLBACK + "#a"]), "redirect_uris", id="uris-fragment"),
    pytest.param(REGISTER, registering(redirect_uris=["/callback/"]), "redirect_uris", id="uris-relative"),
    pytest.param(REGISTER, registering(grant_types=["implicit"]), "grant_types", id="grant-types"),
    pytest.param(REGISTER, registering(response_types=["id_token"]), "response_types", id="response-types"),
    pytest.param(REGISTER, registering(jwks={}, jwks_uri="x"), "jwks together", id="jwks-twice"),
    pytest.param(REGISTER, registering(scope="email"), "without openid", id="registered-scope"),
    pytest.param(REGISTER, registering(tos_uri="terms"), "tos_uri", id="page"),
    pytest.param(REGISTER, saying(Authorization="Bearer x"), "with credentials", id="register"),
    pytest.param(AUTHORIZE, lambda e: replace(e, query=e.query + "&state=x"), "twice", id="parameter-twice"),
    pytest.param(AUTHORIZE, asking(login_hint="ada"), "does not have", id="parameter-unknown"),
    pytest.param(AUTHORIZE, asking(client_id="x"), "client_id is not ours", id="client"),
    pytest.param(AUTHORIZE, asking(response_type="token"), "response_type", id="response-type"),
    pytest.param(AUTHORIZE, asking(redirect_uri=CALLBACK[:-1]), "is not registered", id="redirect-uri"),
    pytest.param(AUTHORIZE, asking(scope="email"), "lacks openid", id="scope-openid"),
    pytest.param(AUTHORIZE, asking(scope="openid read:*"), "a scope that", id="scope-unregistered"),
    pytest.param(AUTHORIZE, asking(code_challenge_method="plain"), "not S256", id="pkce"),
    pytest.param(AUTHORIZE, asking(state=None), "state is short or missing", id="state-missing"),
    pytest.param(AUTHORIZE, asking(nonce="n"), "nonce is short or missing", id="nonce-short"),
    pytest.param(AUTHORIZE, asking(nonce=STATE), "nonce was used before", id="nonce-is-state"),
    pytest.param(TOKEN, saying(Content_Type="application/json"), "not a form", id="no-form"),
    pytest.param(TOKEN, lambda e: replace(e, body=e.body + "&code=c"), "twice", id="field-twice"),
    pytest.param(TOKEN, posting(grant_type="password"), "grant_type", id="grant-type"),
    pytest.param(TOKEN, posting(code="x"), "the code is not ours", id="code"),
    pytest.param(TOKEN, posting(redirect_uri=CALLBACK[:-1]), "redirect_uri is another", id="other-uri"),
    pytest.param(TOKEN, posting(code_verifier="v" * 44), "does not fit", id="verifier"),
    pytest.param(TOKEN, posting(code_verifier=NONCE), "was used before", id="verifier-is-nonce"),
    pytest.param(TOKEN, posting(code_verifier=None), "short or missing", id="verifier-missing"),
    pytest.param(TOKEN, saying(Authorization=""), "HTTP Basic is wrong", id="basic-missing"),
    pytest.param(TOKEN, posting(client_secret=CLIENT_SECRET), "a secret in the body", id="both-ways"),
    pytest.param(TOKEN, posting(client_id="x"), "client_id in the body", id="other-client"),
    pytest.param(TOKEN, saying(**basic("the client", "its secret")), "form-encoded", id="basic-raw"),
    pytest.param(TOKEN, saying(**basic("the+client", "x")), "are not ours", id="basic-wrong"),
    pytest.param(USERINFO, saying(Authorization="Bearer x"), "not in the header", id="bearer"),
    pytest.param(USERINFO, saying(Authorization=f"Basic {ACCESS_TOKEN}"), "not in the header", id="scheme"),
    pytest.param(USERINFO, lambda e: replace(e, body="x"), "a body", id="userinfo-body"),
    pytest.param(
        USERINFO, lambda e: replace(e, query=f"access_token={ACCESS_TOKEN}"), "a secret", id="token-in-query"
    ),
    pytest.param(AUTHORIZE, saying(Referer=f"https://x/?{VERIFIER}"), "a secret", id="verifier-in-address"),
    pytest.param(RENEWAL, posting(refresh_token="x"), "not the newest", id="refresh-token"),
    pytest.param(RENEWAL, posting(refresh_token=None), "not the newest", id="refresh-token-missing"),
    pytest.param(RENEWAL, posting(scope="openid email files"), "more than was granted", id="widened"),
    pytest.param(RENEWAL, posting(redirect_uri=CALLBACK), "belongs to a code", id="refresh-with-more"),
    pytest.param(RENEWAL, saying(Authorization=""), "token: HTTP Basic is wrong", id="refresh-basic"),
    pytest.param(RENEWAL, posting(client_secret="x"), "token: a secret in the body", id="refresh-both"),
    pytest.param(
        RENEWAL, lambda e: replace(e, query=REFRESH_TOKENS[0]), "a secret", id="refresh-token-in-query"
    ),
    pytest.param(REVOCATION, posting(token="x"), "no token of ours", id="revoked-token"),
    pytest.param(REVOCATION, posting(token=REFRESH_TOKENS[0]), "no token of ours", id="revoked-old-token"),
    pytest.param(REVOCATION, posting(token_type_hint="x"), "does not have", id="hint"),
    pytest.param(REVOCATION, saying(Content_Type=""), "revoke: not a form", id="revoke-no-form"),
    pytest.param(REVOCATION, lambda e: replace(e, body=e.body + "&token=x"), "twice", id="revoke-twice"),
    pytest.param(REVOCATION, saying(Authorization=""), "revoke: HTTP Basic", id="revoke-nobody"),
    pytest.param(REVOCATION + 1, saying(Authorization=""), "revoke: HTTP Basic", id="revoke-nobody-access"),
    pytest.param(REVOCATION, posting(client_secret="x"), "revoke: a secret", id="revoke-both-ways"),
]


@pytest.mark.parametrize(("place", "wrong", "complaint"), WRONGS)
def test_each_wrong_is_noticed(place: int, wrong: Edit, complaint: str) -> None:
    """An honest walk with one thing changed gives the complaint; unchanged, it gives none."""
    assert complaints(WALK) == []

    walk = [*WALK[:place], wrong(WALK[place]), *WALK[place + 1 :]]

    assert any(complaint in told for told in complaints(walk))


def test_a_walk_made_twice_is_noticed() -> None:
    """Nothing random comes twice, and no code is redeemed twice."""
    told = complaints([*WALK, *WALK[AUTHORIZE:]])

    assert {"authorize: state was used before", "authorize: nonce was used before"} <= set(told)
    assert "token: code_verifier was used before" in told
    assert "token: the code is not ours, or was used" in complaints([*WALK, WALK[TOKEN]])
    used = [*WALK[:REVOCATION], WALK[RENEWAL]]
    assert "token: the refresh token is not the newest of a grant" in complaints(used)


def test_a_refresh_that_failed_may_be_made_again() -> None:
    """The refresh token is used up by the answer that has another; a provider need not give one."""
    failed = replace(WALK[RENEWAL], status=503, answer="")
    assert complaints([*WALK[:RENEWAL], failed, *WALK[RENEWAL:]]) == []

    kept = replace(WALK[RENEWAL], answer=json.dumps({"access_token": "tok_after_it"}))
    revocations = [posting(token=REFRESH_TOKENS[0])(WALK[REVOCATION]), WALK[REVOCATION + 1]]
    assert complaints([*WALK[:RENEWAL], kept, kept, *revocations]) == []


@pytest.mark.parametrize(
    ("method", "secret", "fields"),
    [
        ("client_secret_post", CLIENT_SECRET, {"client_id": CLIENT_ID, "client_secret": CLIENT_SECRET}),
        ("none", None, {"client_id": CLIENT_ID}),
    ],
)
def test_each_way_to_authenticate_is_told_from_the_others(
    method: str, secret: str | None, fields: dict[str, str | None]
) -> None:
    """What is right for a client of one kind is wrong for the others."""
    walk = list(WALK)
    walk[REGISTER] = registered(token_endpoint_auth_method=method, client_secret=secret)(walk[REGISTER])
    assert complaints(walk) != []  # HTTP Basic is used
    for place in (TOKEN, *range(RENEWAL, len(WALK))):
        walk[place] = saying(Authorization="")(posting(**fields)(walk[place]))
    assert complaints(walk) == []

    for wrong in ({"client_id": None}, {"client_secret": "x"}, {"client_id": "x"}):
        assert complaints([*walk[:TOKEN], posting(**wrong)(walk[TOKEN]), *walk[TOKEN + 1 :]]) != []


def test_what_is_no_json_counts_for_nothing() -> None:
    """An answer that can't be read, as a lying provider's may be, teaches nothing and breaks nothing."""
    for answer in ("<h1>no</h1>", "[]", ""):
        walk = [*WALK[:REGISTER], replace(WALK[REGISTER], answer=answer), *WALK[AUTHORIZE:]]
        assert "authorize: client_id is not ours" in complaints(walk)
