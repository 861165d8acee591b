"""RFC 7591 and 7592."""

from collections.abc import Callable
from typing import Any

import pytest

from spatio_django.testing import FakeSpatio
from tests.testing.relying_party import CALLBACK, Answer, RelyingParty, conforms, fetch

MINIMAL = {"client_name": "A site", "redirect_uris": [CALLBACK]}


def register(spatio: FakeSpatio, body: object, **options: Any) -> Answer:
    """Ask the registration endpoint."""
    return fetch(spatio.issuer + "/oauth2/register", body=body, **options)


def test_defaults_are_those_of_the_contract(spatio: FakeSpatio) -> None:
    """Who doesn't ask for more gets a public client that may read but not sign anybody in."""
    answer = register(spatio, MINIMAL)

    assert answer.status == 201
    conforms("ClientRegistrationResponse", answer.json)
    assert answer.json["scope"] == "read:*"
    assert answer.json["token_endpoint_auth_method"] == "none"
    assert answer.json["grant_types"] == ["authorization_code", "refresh_token"]
    assert answer.json["response_types"] == ["code"]
    assert "client_secret" not in answer.json
    assert answer.headers["Cache-Control"] == "no-store"


@pytest.mark.parametrize("method", ["client_secret_basic", "client_secret_post"])
def test_a_confidential_client_gets_a_secret(spatio: FakeSpatio, method: str) -> None:
    """Everything that was asked for comes back, with a secret."""
    wanted = MINIMAL | {
        "token_endpoint_auth_method": method,
        "scope": "openid email",
        "grant_types": ["authorization_code"],
        "client_uri": "https://site.example/",
        "logo_uri": "https://site.example/logo.svg",
        "policy_uri": "https://site.example/privacy",
        "tos_uri": None,
        "software_id": "ignored",
    }
    answer = register(spatio, wanted).json

    conforms(
        "ClientRegistrationResponse", {name: answer[name] for name in answer if not name.endswith("_uri")}
    )
    assert len(answer["client_secret"]) >= 32
    assert {name: answer.get(name) for name in wanted} == wanted | {"software_id": None}


@pytest.mark.parametrize(
    ("change", "error"),
    [
        pytest.param({"client_name": None}, "invalid_client_metadata", id="no-name"),
        pytest.param({"client_name": " "}, "invalid_client_metadata", id="blank-name"),
        pytest.param({"client_name": 7}, "invalid_client_metadata", id="name-of-another-type"),
        pytest.param({"redirect_uris": None}, "invalid_redirect_uri", id="no-redirect-uris"),
        pytest.param({"redirect_uris": []}, "invalid_redirect_uri", id="empty-redirect-uris"),
        pytest.param({"redirect_uris": CALLBACK}, "invalid_redirect_uri", id="redirect-uris-not-a-list"),
        pytest.param({"redirect_uris": [7]}, "invalid_redirect_uri", id="redirect-uri-not-a-string"),
        pytest.param({"redirect_uris": [CALLBACK] * 11}, "invalid_redirect_uri", id="eleven-redirect-uris"),
        pytest.param({"redirect_uris": ["/cb"]}, "invalid_redirect_uri", id="relative"),
        pytest.param({"redirect_uris": [CALLBACK + "#x"]}, "invalid_redirect_uri", id="fragment"),
        pytest.param({"redirect_uris": ["javascript:alert(1)"]}, "invalid_redirect_uri", id="javascript"),
        pytest.param({"redirect_uris": ["https://a@b.example/"]}, "invalid_redirect_uri", id="userinfo"),
        pytest.param({"redirect_uris": ["https://site.example/ä"]}, "invalid_redirect_uri", id="not-ascii"),
        pytest.param({"redirect_uris": ["https://[::1/"]}, "invalid_redirect_uri", id="broken-host"),
        pytest.param({"redirect_uris": ["https:///cb"]}, "invalid_redirect_uri", id="no-host"),
        pytest.param({"response_types": ["token"]}, "invalid_client_metadata", id="implicit"),
        pytest.param({"grant_types": ["password"]}, "invalid_client_metadata", id="password-grant"),
        pytest.param({"grant_types": ["refresh_token"]}, "invalid_client_metadata", id="refresh-only"),
        pytest.param({"grant_types": "authorization_code"}, "invalid_client_metadata", id="grants-no-list"),
        pytest.param(
            {"token_endpoint_auth_method": "private_key_jwt"}, "invalid_client_metadata", id="method"
        ),
        pytest.param({"scope": "openid phone"}, "invalid_client_metadata", id="unknown-scope"),
        pytest.param({"scope": ["openid"]}, "invalid_client_metadata", id="scope-not-a-string"),
        pytest.param({"scope": " "}, "invalid_client_metadata", id="scope-blank"),
        pytest.param({"logo_uri": "com.example:/logo"}, "invalid_client_metadata", id="logo-not-on-the-web"),
    ],
)
def test_metadata_is_refused(spatio: FakeSpatio, change: dict[str, object], error: str) -> None:
    """Each rule of the contract answers 400 with the code that RFC 7591 §3.2.2 gives it."""
    answer = register(spatio, MINIMAL | change)

    assert (answer.status, answer.error) == (400, error)


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'"text"'])
def test_a_body_that_is_no_object_is_refused(spatio: FakeSpatio, body: bytes) -> None:
    """Not JSON, or JSON of another kind: a 400, not a 500."""
    assert register(spatio, body).error == "invalid_client_metadata"


def test_ten_redirect_uris_and_app_schemes_are_accepted(spatio: FakeSpatio) -> None:
    """The limit itself, loopback with a port, and an app's own scheme (RFC 8252 §7)."""
    uris = [f"{CALLBACK}{number}" for number in range(8)]
    uris += ["http://127.0.0.1:8000/cb?kind=x", "com.example.app:/callback"]

    assert register(spatio, MINIMAL | {"redirect_uris": uris}).json["redirect_uris"] == uris


def test_the_eleventh_registration_within_an_hour_gets_429_without_a_body(
    spatio: FakeSpatio, later: Callable[[float], None]
) -> None:
    """Spatio's limit; refused registrations don't count, and an hour later there is room again."""
    assert register(spatio, {}).status == 400
    assert {register(spatio, MINIMAL).status for _ in range(10)} == {201}

    eleventh = register(spatio, MINIMAL)
    assert (eleventh.status, eleventh.text) == (429, "")
    assert eleventh.headers["Retry-After"] is None

    later(3601)
    assert register(spatio, MINIMAL).status == 201


def test_the_limit_can_be_changed_and_switched_off(spatio: FakeSpatio) -> None:
    """Tests that register often need not wait."""
    spatio.registration_limit = 0
    assert register(spatio, MINIMAL).status == 429
    spatio.registration_limit = None
    assert register(spatio, MINIMAL).status == 201


def test_register_is_the_same_without_http_and_without_the_limit(spatio: FakeSpatio) -> None:
    """``FakeSpatio.register`` gives the documented answer, for a site that signs people in."""
    spatio.registration_limit = 0
    answer = spatio.register([CALLBACK], client_name="Named")

    conforms("ClientRegistrationResponse", answer)
    assert answer["client_name"] == "Named"
    assert answer["scope"] == "openid profile email"
    assert answer["token_endpoint_auth_method"] == "client_secret_basic"
    answer["redirect_uris"].append("https://elsewhere.example/")
    assert manage(spatio, answer).json["redirect_uris"] == [CALLBACK]


def manage(spatio: FakeSpatio, registration: dict[str, Any], **options: Any) -> Answer:
    """Use the registration access token at the registration's own address."""
    headers = {"Authorization": f"Bearer {registration['registration_access_token']}"}
    return fetch(registration["registration_client_uri"], **({"headers": headers} | options))


def test_a_registration_can_be_read(rp: RelyingParty) -> None:
    """RFC 7592 §2.1: the current registration, secret and all."""
    answer = manage(rp.spatio, rp.registration)

    assert (answer.status, answer.json) == (200, rp.registration)


@pytest.mark.parametrize("scheme", ["Bearer wrong", "Basic eDp5", ""])
def test_a_registration_is_for_its_own_token(rp: RelyingParty, scheme: str) -> None:
    """Another token, another scheme or none: 401 (RFC 7592 §2.1)."""
    answer = manage(rp.spatio, rp.registration, headers={"Authorization": scheme})

    assert (answer.status, answer.error) == (401, "invalid_token")
    assert (answer.headers["WWW-Authenticate"] or "").startswith("Bearer ")


def test_a_registration_can_be_replaced(rp: RelyingParty) -> None:
    """RFC 7592 §2.2: what is left out goes back to its default; a secret comes and goes with its method."""
    body = MINIMAL | {"client_id": rp.client_id, "client_name": "Renamed"}
    public = manage(rp.spatio, rp.registration, body=body, method="PUT").json
    assert (public["client_name"], public["scope"]) == ("Renamed", "read:*")
    assert "client_secret" not in public

    body["token_endpoint_auth_method"] = "client_secret_post"
    confidential = manage(rp.spatio, rp.registration, body=body, method="PUT").json
    assert confidential["client_secret"] != rp.registration["client_secret"]

    body["token_endpoint_auth_method"] = "client_secret_basic"
    same = manage(rp.spatio, rp.registration, body=body, method="PUT").json
    assert same["client_secret"] == confidential["client_secret"]


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"client_id": "another"}, "invalid_request"),
        ({"client_secret": "wrong"}, "invalid_request"),
        ({"client_id_issued_at": 1}, "invalid_request"),
        ({"redirect_uris": []}, "invalid_redirect_uri"),
    ],
)
def test_a_bad_replacement_is_refused(rp: RelyingParty, change: dict[str, Any], error: str) -> None:
    """And changes nothing."""
    body = MINIMAL | {"client_id": rp.client_id} | change
    answer = manage(rp.spatio, rp.registration, body=body, method="PUT")

    assert (answer.status, answer.error) == (400, error)
    assert manage(rp.spatio, rp.registration).json == rp.registration


def test_a_deleted_client_is_gone_with_its_tokens(rp: RelyingParty) -> None:
    """RFC 7592 §2.3; somebody else's grants stay."""
    other = RelyingParty(rp.spatio)
    tokens, others = rp.sign_in(), other.sign_in()
    pending = rp.authorize()

    answer = manage(rp.spatio, rp.registration, method="DELETE")
    assert (answer.status, answer.text) == (204, "")
    assert manage(rp.spatio, rp.registration).status == 401
    assert rp.introspect(tokens["access_token"]) == {"active": False}
    assert rp.exchange(pending).error == "invalid_client"
    assert rp.introspect(others["access_token"])["active"]
