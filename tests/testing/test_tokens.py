"""The token endpoint: codes, refresh tokens, client authentication, ID tokens."""

import base64
import hashlib
import re
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from spatio_django.testing import PERSONAS, FakeSpatio
from tests.testing.relying_party import CALLBACK, RelyingParty, conforms, fetch, query_of


def test_a_code_gives_the_documented_tokens(rp: RelyingParty) -> None:
    """The whole answer keeps to the contract."""
    answer = rp.exchange(rp.authorize())

    assert answer.status == 200
    conforms("TokenResponse", answer.json)
    assert re.fullmatch(r"tok_[A-Za-z0-9_-]{43}", answer.json["access_token"])
    assert answer.json["token_type"] == "Bearer"
    assert answer.json["expires_in"] == 3600
    assert answer.json["scope"] == "openid profile email"
    assert answer.headers["Cache-Control"] == "no-store"


def test_the_id_token_says_what_is_known(rp: RelyingParty) -> None:
    """OpenID Connect Core 1.0 §2 and §3.1.3.6, and no profile unless that is switched on."""
    started = int(time.time())
    tokens = rp.sign_in()
    claims = rp.claims(tokens["id_token"])

    digest = hashlib.sha256(tokens["access_token"].encode()).digest()[:16]
    now = claims.pop("iat")
    assert started <= now <= time.time()
    assert started <= claims.pop("auth_time") <= now
    assert claims == {
        "iss": rp.spatio.issuer,
        "sub": PERSONAS[0].sub,
        "aud": rp.client_id,
        "exp": now + 3600,
        "nonce": "a nonce",
        "at_hash": base64.urlsafe_b64encode(digest).rstrip(b"=").decode(),
    }


def test_the_id_token_can_carry_the_profile(rp: RelyingParty) -> None:
    """``id_token_has_profile``: the claims of the granted scopes, and only those."""
    rp.spatio.id_token_has_profile = True
    claims = rp.claims(rp.sign_in(scope="openid email")["id_token"])

    assert claims["email"] == "ada@example.com"
    assert "name" not in claims


@pytest.mark.parametrize("nonce", [None, ""])
def test_no_nonce_was_sent_so_none_comes_back(rp: RelyingParty, nonce: str | None) -> None:
    """An empty parameter is an absent one (RFC 6749 §3.1)."""
    assert "nonce" not in rp.claims(rp.sign_in(nonce=nonce)["id_token"])


def test_without_openid_there_is_no_id_token(spatio: FakeSpatio) -> None:
    """The contract's trap: a client with the default scope signs nobody in."""
    rp = RelyingParty(spatio, scope="read:*")
    tokens = rp.sign_in(scope=None)

    conforms("TokenResponse", tokens)
    assert tokens["scope"] == "read:*"
    assert "id_token" not in tokens


def test_without_the_grant_type_there_is_no_refresh_token(spatio: FakeSpatio) -> None:
    """Refresh tokens follow from the registration."""
    rp = RelyingParty(spatio)
    body = {
        "client_id": rp.client_id,
        "client_name": "A site",
        "redirect_uris": [CALLBACK],
        "scope": "openid profile email",
        "token_endpoint_auth_method": "client_secret_basic",
        "grant_types": ["authorization_code"],
    }
    headers = {"Authorization": f"Bearer {rp.registration['registration_access_token']}"}
    fetch(rp.registration["registration_client_uri"], body=body, method="PUT", headers=headers)

    assert "refresh_token" not in rp.sign_in()
    assert rp.refresh("any").error == "unauthorized_client"


def test_the_access_token_lifetime_can_be_changed(rp: RelyingParty, later: Callable[[float], None]) -> None:
    """Tokens expire when they say; short ones make refreshing testable."""
    rp.spatio.access_token_lifetime = 2
    tokens = rp.sign_in()
    assert tokens["expires_in"] == 2
    assert rp.userinfo(tokens["access_token"]).status == 200

    later(2)
    assert rp.userinfo(tokens["access_token"]).status == 401
    assert rp.introspect(tokens["access_token"]) == {"active": False}
    later(60)
    rp.sign_in()  # sweeps
    assert rp.introspect(tokens["access_token"]) == {"active": False}


@pytest.mark.parametrize(
    ("change", "error"),
    [
        pytest.param({"code": "unknown"}, "invalid_grant", id="unknown-code"),
        pytest.param({"code": None}, "invalid_request", id="no-code"),
        pytest.param({"redirect_uri": CALLBACK + "?"}, "invalid_grant", id="another-redirect-uri"),
        pytest.param({"redirect_uri": None}, "invalid_grant", id="no-redirect-uri"),
        pytest.param({"code_verifier": "x" * 43}, "invalid_grant", id="wrong-verifier"),
        pytest.param({"code_verifier": "short"}, "invalid_request", id="malformed-verifier"),
        pytest.param({"code_verifier": None}, "invalid_request", id="no-verifier"),
        pytest.param({"grant_type": "password"}, "unsupported_grant_type", id="another-grant-type"),
        pytest.param({"grant_type": None}, "invalid_request", id="no-grant-type"),
    ],
)
def test_an_exchange_is_refused_and_the_code_stays_good(
    rp: RelyingParty, change: dict[str, Any], error: str
) -> None:
    """Each check answers 400 with its code; the right request still works afterwards."""
    code = rp.authorize()
    answer = rp.exchange(code, **change)

    assert (answer.status, answer.error) == (400, error)
    assert rp.exchange(code).status == 200


def test_a_code_lives_for_a_minute(rp: RelyingParty, later: Callable[[float], None]) -> None:
    """RFC 6749 §4.1.2: shortly."""
    code = rp.authorize()
    later(61)
    assert rp.exchange(code).error == "invalid_grant"
    later(600)
    rp.authorize()  # sweeps
    assert rp.exchange(code).error == "invalid_grant"


def test_a_code_used_twice_ends_what_the_first_use_gave(rp: RelyingParty) -> None:
    """RFC 6749 §4.1.2 and §10.5."""
    code = rp.authorize()
    tokens = rp.exchange(code).json

    assert rp.exchange(code).error == "invalid_grant"
    assert rp.introspect(tokens["access_token"]) == {"active": False}
    assert rp.refresh(tokens["refresh_token"]).error == "invalid_grant"


def test_a_code_sent_ten_times_at_once_is_exchanged_once(rp: RelyingParty) -> None:
    """Looking at a code and spending it are one move."""
    code, statuses = rp.authorize(), []
    threads = [threading.Thread(target=lambda: statuses.append(rp.exchange(code).status)) for _ in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sorted(statuses) == [200] + [400] * 9


def test_a_code_is_for_the_client_that_asked(rp: RelyingParty) -> None:
    """Another client can't use it, nor use it up."""
    other = RelyingParty(rp.spatio)
    code = rp.authorize()

    assert other.exchange(code, code_verifier=rp.verifier).error == "invalid_grant"
    assert rp.exchange(code).status == 200


def test_a_refresh_token_is_rotated(rp: RelyingParty) -> None:
    """New tokens with the same scope; the old access token lives on until it expires."""
    first = rp.sign_in()
    answer = rp.refresh(first["refresh_token"])

    conforms("TokenResponse", answer.json)
    assert answer.json["refresh_token"] != first["refresh_token"]
    assert answer.json["scope"] == first["scope"]
    assert rp.introspect(first["access_token"])["active"]
    assert rp.introspect(answer.json["access_token"])["active"]


def test_a_refreshed_id_token_is_about_the_same_sign_in(
    rp: RelyingParty, later: Callable[[float], None]
) -> None:
    """OpenID Connect Core 1.0 §12.2: the same subject and ``auth_time``, a new ``iat``, no nonce."""
    first = rp.sign_in()
    later(100)
    before, after = (
        rp.claims(first["id_token"]),
        rp.claims(rp.refresh(first["refresh_token"]).json["id_token"]),
    )

    assert {name: after[name] for name in ("iss", "sub", "aud", "auth_time")} == {
        name: before[name] for name in ("iss", "sub", "aud", "auth_time")
    }
    assert after["iat"] >= before["iat"] + 100
    assert "nonce" not in after


def test_a_refresh_token_used_twice_ends_the_grant(rp: RelyingParty) -> None:
    """RFC 9700 §4.14.2: one of the two holders is a thief."""
    first = rp.sign_in()
    second = rp.refresh(first["refresh_token"]).json

    assert rp.refresh(first["refresh_token"]).error == "invalid_grant"
    assert rp.refresh(second["refresh_token"]).error == "invalid_grant"
    assert rp.introspect(first["access_token"]) == {"active": False}
    assert rp.introspect(second["access_token"]) == {"active": False}


def test_one_grant_ends_alone(rp: RelyingParty) -> None:
    """The laptop's trouble is not the phone's."""
    laptop, phone = rp.sign_in(), rp.sign_in()
    rp.refresh(laptop["refresh_token"])
    rp.refresh(laptop["refresh_token"])

    assert rp.refresh(phone["refresh_token"]).status == 200


def test_within_the_leeway_the_previous_refresh_token_works(
    rp: RelyingParty, later: Callable[[float], None]
) -> None:
    """``refresh_leeway``, counted from the first use."""
    rp.spatio.refresh_leeway = 10
    first = rp.sign_in()
    assert rp.refresh(first["refresh_token"]).status == 200
    later(6)
    assert rp.refresh(first["refresh_token"]).status == 200
    later(6)
    assert rp.refresh(first["refresh_token"]).error == "invalid_grant"


def test_a_refresh_may_narrow_the_scope_but_not_widen_it(rp: RelyingParty) -> None:
    """RFC 6749 §6; a refused request spends nothing, and the grant keeps its scope."""
    first = rp.sign_in(scope="openid email")
    assert rp.refresh(first["refresh_token"], scope="openid profile").error == "invalid_scope"
    narrow = rp.refresh(first["refresh_token"], scope="email").json
    assert narrow["scope"] == "email"
    assert "id_token" not in narrow
    assert rp.refresh(narrow["refresh_token"]).json["scope"] == "openid email"


def test_another_clients_refresh_token_is_refused_and_not_spent(rp: RelyingParty) -> None:
    """Refresh tokens are bound to their client (RFC 6749 §6)."""
    tokens, other = rp.sign_in(), RelyingParty(rp.spatio)

    assert other.refresh(tokens["refresh_token"]).error == "invalid_grant"
    assert rp.refresh(tokens["refresh_token"]).status == 200
    assert rp.refresh("unknown").error == "invalid_grant"
    assert rp.token(grant_type="refresh_token").error == "invalid_request"


def test_a_persona_that_is_gone_has_no_tokens(rp: RelyingParty) -> None:
    """Codes, refresh tokens and access tokens of somebody who was taken from the list are worthless."""
    tokens, code = rp.sign_in(), rp.authorize()
    rp.spatio.personas = PERSONAS[1:]

    assert rp.exchange(code).error == "invalid_grant"
    assert rp.refresh(tokens["refresh_token"]).error == "invalid_grant"
    assert rp.introspect(tokens["access_token"]) == {"active": False}


def test_a_post_client_sends_its_secret_in_the_form(spatio: FakeSpatio) -> None:
    """``client_secret_post``, and no other way."""
    rp = RelyingParty(spatio, token_endpoint_auth_method="client_secret_post")
    code = rp.authorize()
    credentials = {"client_id": rp.client_id, "client_secret": rp.registration["client_secret"]}

    basic = rp.exchange(code)
    assert (basic.status, basic.error) == (401, "invalid_client")
    assert rp.exchange(code, headers={}, **(credentials | {"client_secret": "x"})).error == "invalid_client"
    assert rp.exchange(code, headers={}, **credentials).status == 200


def test_a_public_client_sends_its_id_only(spatio: FakeSpatio) -> None:
    """``none``, and no other way."""
    rp = RelyingParty(spatio, token_endpoint_auth_method="none")
    code = rp.authorize()
    assert "client_secret" not in rp.registration

    with_secret = rp.exchange(code, headers={}, client_id=rp.client_id, client_secret="any")
    assert (with_secret.status, with_secret.error) == (400, "invalid_client")
    assert rp.exchange(code, headers={}, client_id=rp.client_id).status == 200


@pytest.mark.parametrize(
    ("authorization", "form", "status", "error"),
    [
        pytest.param("Basic {id}:wrong", {}, 401, "invalid_client", id="wrong-secret"),
        pytest.param("Basic nobody:{secret}", {}, 401, "invalid_client", id="unknown-client"),
        pytest.param("Basic {id}", {}, 401, "invalid_client", id="no-secret"),
        pytest.param("Basic !", {}, 401, "invalid_client", id="not-base64"),
        pytest.param("Basic \xff:\xff", {}, 401, "invalid_client", id="not-utf-8"),
        pytest.param("Basic {id}:{secret}", {"client_id": "other"}, 401, "invalid_client", id="two-ids"),
        pytest.param(
            "Basic {id}:{secret}", {"client_secret": "{secret}"}, 400, "invalid_request", id="twice"
        ),
        pytest.param("", {"client_id": "{id}"}, 400, "invalid_client", id="none-instead-of-basic"),
        pytest.param("", {}, 400, "invalid_client", id="nothing"),
        pytest.param("Bearer {secret}", {}, 400, "invalid_client", id="another-scheme"),
    ],
)
def test_a_basic_client_is_refused(
    rp: RelyingParty, authorization: str, form: dict[str, str], status: int, error: str
) -> None:
    """RFC 6749 §2.3.1 and §5.2: a 401 with a challenge where Basic was tried, a 400 elsewhere."""
    facts = {"id": rp.client_id, "secret": rp.registration["client_secret"]}
    scheme, _, pair = authorization.format(**facts).partition(" ")
    if scheme == "Basic" and pair != "!":
        pair = base64.b64encode(pair.encode("latin-1")).decode()
    code = rp.authorize()
    changes = {name: value.format(**facts) for name, value in form.items()}
    answer = rp.exchange(code, headers={"Authorization": f"{scheme} {pair}"}, **changes)

    assert (answer.status, answer.error) == (status, error)
    assert (answer.headers["WWW-Authenticate"] or "").startswith("Basic realm=") is (status == 401)


def test_basic_credentials_are_form_decoded() -> None:
    """RFC 6749 §2.3.1: a plus is a space, a colon is encoded."""
    from spatio_django.testing.grants import basic_credentials

    header = "Basic " + base64.b64encode(b"an+id%3A1:se%2Bcret+%C3%A9").decode()
    assert basic_credentials(header) == ("an id:1", "se+cret é")


def test_a_repeated_parameter_is_refused(rp: RelyingParty) -> None:
    """RFC 6749 §3.2."""
    form = [("grant_type", "refresh_token"), ("refresh_token", "a"), ("refresh_token", "b")]
    assert fetch(rp.url("/oauth2/token"), form=form, headers=rp.basic()).error == "invalid_request"


def test_parameters_in_the_query_are_not_parameters(rp: RelyingParty) -> None:
    """Secrets in an address end up in logs, so they aren't looked for there (RFC 6749 §2.3.1)."""
    code = rp.authorize()
    answer = fetch(
        rp.url(f"/oauth2/token?grant_type=authorization_code&code={code}"), form={}, headers=rp.basic()
    )

    assert answer.error == "invalid_request"


def test_revoke_grants_ends_one_persona_or_all(rp: RelyingParty) -> None:
    """And forgets no consent: whoever is still signed in gets back without a question."""
    ada, bo = rp.sign_in(), rp.sign_in(persona="bo")
    rp.spatio.revoke_grants("bo")
    assert rp.introspect(ada["access_token"])["active"]
    assert rp.refresh(bo["refresh_token"]).error == "invalid_grant"

    rp.spatio.revoke_grants()
    assert rp.introspect(ada["access_token"]) == {"active": False}
    with pytest.raises(ValueError, match="nobody"):
        rp.spatio.revoke_grants("nobody")


def test_the_callback_keeps_the_query_of_the_redirect_uri(spatio: FakeSpatio) -> None:
    """RFC 6749 §3.1.2."""
    uri = "http://site.example/cb?kind=x"
    rp = RelyingParty(spatio)
    rp.client_id = spatio.register([uri])["client_id"]

    callback = spatio.sign_in(rp.authorization_url(redirect_uri=uri))
    assert callback.startswith(uri + "&code=")
    assert query_of(callback)["state"] == "a state"
