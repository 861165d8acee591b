"""spatio_django.oidc.authorization: the request, and the callback."""

import re
from typing import Any
from urllib.parse import parse_qs, parse_qsl, urlsplit

import pytest

from spatio_django.exceptions import (
    ConfigurationError,
    LoginNotFound,
    ProtocolViolation,
    ProviderRefused,
    SpatioError,
)
from spatio_django.oidc.authorization import (
    MAX_CODE,
    RESERVED,
    authorization_url,
    callback_state,
    code_challenge,
    new_secret,
    read_callback,
)
from spatio_django.oidc.discovery import ProviderMetadata
from spatio_django.oidc.secret import Secret
from tests.oidc.support import ISSUER, METADATA

STATE, NONCE, VERIFIER = Secret("the-state"), Secret("the-nonce"), Secret("the-verifier" * 4)


def url(endpoint: str = ISSUER + "/oauth2/authorize", **options: Any) -> str:
    """Build the usual request, with some things changed."""
    metadata = ProviderMetadata.from_document(METADATA | {"authorization_endpoint": endpoint}, issuer=ISSUER)
    usual: dict[str, Any] = {
        "client_id": "a client",
        "redirect_uri": "https://site.example/spatio/callback/",
        "scopes": ["openid", "email"],
        "state": STATE,
        "nonce": NONCE,
        "code_verifier": VERIFIER,
    }
    return authorization_url(metadata, **(usual | options))


def query(text: str) -> dict[str, str]:
    """Return a URL's parameters, of which none is there twice."""
    pairs = parse_qsl(urlsplit(text).query, keep_blank_values=True, strict_parsing=True)
    assert len(dict(pairs)) == len(pairs)
    return dict(pairs)


def test_secrets_are_long_random_and_fit_for_pkce() -> None:
    """256 bits, in the 43 to 128 unreserved characters of RFC 7636 §4.1."""
    made = [new_secret().reveal() for _ in range(100)]

    assert len(set(made)) == 100
    assert all(re.fullmatch(r"[A-Za-z0-9_-]{43}", text) for text in made)


def test_the_challenge_is_the_one_of_rfc_7636() -> None:
    """Appendix B."""
    verifier = Secret("dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk")

    assert code_challenge(verifier) == "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM"


def test_a_request_says_what_core_asks_for() -> None:
    """Each parameter once, and PKCE always."""
    assert url().startswith(ISSUER + "/oauth2/authorize?")
    assert query(url()) == {
        "response_type": "code",
        "client_id": "a client",
        "redirect_uri": "https://site.example/spatio/callback/",
        "scope": "openid email",
        "state": "the-state",
        "nonce": "the-nonce",
        "code_challenge": code_challenge(VERIFIER),
        "code_challenge_method": "S256",
    }


def test_a_request_never_holds_the_verifier() -> None:
    """Only its hash leaves before the code is exchanged."""
    assert VERIFIER.reveal() not in url()


def test_prompt_max_age_and_extras_are_added() -> None:
    """``max_age`` 0 means "ask again now", and is not left out."""
    parameters = query(url(prompt="login", max_age=0, extra={"ui_locales": "de fr", "login_hint": "a&b=c"}))

    assert parameters["prompt"] == "login"
    assert parameters["max_age"] == "0"
    assert parameters["ui_locales"] == "de fr"
    assert parameters["login_hint"] == "a&b=c"


@pytest.mark.parametrize(
    ("endpoint", "kept"),
    [
        ("https://p.example/authorize", {}),
        ("https://p.example/authorize?", {}),
        ("https://p.example/authorize?tenant=1", {"tenant": ["1"]}),
        ("https://p.example/authorize?tenant=1&", {"tenant": ["1"]}),
        ("https://p.example/authorize?&", {}),
        ("https://p.example/authorize?tenant=a%26b&x=", {"tenant": ["a&b"], "x": [""]}),
        ("https://p.example/authorize?tenant=%3F", {"tenant": ["?"]}),
    ],
)
def test_a_query_of_the_endpoint_is_kept(endpoint: str, kept: dict[str, list[str]]) -> None:
    """RFC 6749 §3.1."""
    text = url(endpoint)
    parameters = parse_qs(urlsplit(text).query, keep_blank_values=True, strict_parsing=True)

    assert text.count("?") == 1
    assert {name: values for name, values in parameters.items() if name not in RESERVED} == kept
    assert parameters["client_id"] == ["a client"]


@pytest.mark.parametrize("name", sorted(RESERVED))
def test_protocol_parameters_can_not_be_set_from_elsewhere(name: str) -> None:
    """Neither by the site's extras nor by the endpoint's own query, which would send them twice."""
    with pytest.raises(ConfigurationError) as ours:
        url(extra={name: "x"})
    with pytest.raises(ProtocolViolation) as theirs:
        url(f"https://p.example/authorize?{name}=")

    assert ours.value.code == theirs.value.code == "reserved_parameter"


@pytest.mark.parametrize(
    "scopes", [[], ["email"], ["openid", ""], ["openid", "a b"], ["openid", 'a"'], ["openid", "é"]]
)
def test_scopes_are_names_and_openid_is_one(scopes: list[str]) -> None:
    """Without ``openid`` it would not be a sign-in."""
    url(scopes=["openid", "read:*"])

    with pytest.raises(ConfigurationError) as caught:
        url(scopes=scopes)

    assert caught.value.code == "scope"


# --- the callback -----------------------------------------------------------------------------------------

CALLBACK = {"state": ["the-state"], "code": ["the code"]}


def read(params: dict[str, list[str]], *, iss_required: bool = False) -> Secret:
    """Read the callback of the usual login."""
    return read_callback(params, state=STATE, issuer=ISSUER, iss_required=iss_required)


@pytest.mark.parametrize(
    ("changes", "iss_required"),
    [
        ({}, False),
        ({"iss": [ISSUER]}, False),
        ({"iss": [ISSUER]}, True),
        ({"session_state": ["x"], "scope": ["a", "b"]}, False),
        ({"error": [""]}, False),
        ({"code": ["x" * MAX_CODE]}, False),
    ],
)
def test_an_honest_callback_gives_its_code(changes: dict[str, list[str]], iss_required: bool) -> None:
    """Unknown parameters are ignored; an empty one counts as left out (RFC 6749 §3.1)."""
    params = CALLBACK | changes

    assert read(params, iss_required=iss_required).reveal() == params["code"][0]
    assert callback_state(params) == "the-state"


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        pytest.param({"state": []}, (LoginNotFound, "state_missing"), id="missing-state"),
        pytest.param({"state": [""]}, (LoginNotFound, "state_missing"), id="empty-state"),
        pytest.param({"state": ["other"]}, (LoginNotFound, "state"), id="invalid-state"),
        pytest.param({"state": ["the-stat\u00e9"]}, (LoginNotFound, "state"), id="state-not-ascii"),
        pytest.param({"state": ["the-state"] * 2}, (LoginNotFound, "state_repeated"), id="state-twice"),
        pytest.param({"iss": ["https://other.example"]}, (ProtocolViolation, "iss"), id="invalid-iss"),
        pytest.param({"iss": [ISSUER + "/"]}, (ProtocolViolation, "iss"), id="iss-with-slash"),
        pytest.param({"iss": [""]}, (ProtocolViolation, "iss"), id="iss-empty"),
        pytest.param({"iss": [ISSUER, ISSUER]}, (ProtocolViolation, "iss"), id="iss-twice"),
        pytest.param({"code": []}, (ProtocolViolation, "code"), id="missing-code"),
        pytest.param({"code": [""]}, (ProtocolViolation, "code"), id="empty-code"),
        pytest.param({"code": ["a", "a"]}, (ProtocolViolation, "code"), id="code-twice"),
        pytest.param({"code": ["x" * (MAX_CODE + 1)]}, (ProtocolViolation, "code"), id="code-too-long"),
        pytest.param({"code": ["a\r\nb"]}, (ProtocolViolation, "code"), id="code-with-line-break"),
        pytest.param({"code": ["\ud800"]}, (ProtocolViolation, "code"), id="code-with-lone-surrogate"),
        pytest.param({"error": ["access_denied"]}, (ProviderRefused, "access_denied"), id="denied"),
        pytest.param(
            {"error": ["login_required"], "code": []}, (ProviderRefused, "login_required"), id="prompt"
        ),
        pytest.param({"error": ["<script>"]}, (ProviderRefused, "unknown_error"), id="unknown-error"),
        pytest.param({"error": ["access_denied"] * 2}, (ProviderRefused, "unknown_error"), id="error-twice"),
    ],
)
def test_a_callback_is_rejected(
    changes: dict[str, list[str]], expected: tuple[type[SpatioError], str]
) -> None:
    """Each wrong thing has its own code."""
    read(CALLBACK)

    with pytest.raises(expected[0]) as caught:
        read(CALLBACK | changes)

    assert caught.value.code == expected[1]


def test_an_announced_iss_is_required() -> None:
    """fapi2-...-remove-authorization-response-iss."""
    with pytest.raises(ProtocolViolation) as caught:
        read(CALLBACK, iss_required=True)

    assert caught.value.code == "iss"


def test_state_is_judged_before_iss_and_iss_before_error() -> None:
    """A forged error can't end another person's login, and another issuer's error isn't this one's."""
    wrong = {"state": ["x"], "iss": ["https://other.example"], "error": ["access_denied"], "code": []}

    with pytest.raises(LoginNotFound):
        read(wrong)
    with pytest.raises(ProtocolViolation):
        read(wrong | {"state": ["the-state"]})
    with pytest.raises(ProviderRefused):
        read(wrong | {"state": ["the-state"], "iss": [ISSUER]})


def test_a_description_is_kept_without_control_characters_and_cut() -> None:
    """It goes to a log, where a line break would forge a line and an escape would drive a terminal."""
    params = {
        "state": ["the-state"],
        "error": ["server_error"],
        "error_description": ["Zoë\r\n\x1b[31m: " + "x " * 9999],
    }

    with pytest.raises(ProviderRefused) as caught:
        read(params)

    assert caught.value.context["description"] == ("Zoë[31m: " + "x " * 9999)[:200]
    assert "Zoë" not in str(caught.value)


def test_no_error_tells_state_or_code() -> None:
    """Their holder could finish the login."""
    for params in (
        CALLBACK | {"state": ["hunter2"]},
        CALLBACK | {"code": ["hunter2", "hunter2"]},
        CALLBACK | {"code": ["hunter2\n"]},
    ):
        with pytest.raises(SpatioError) as caught:
            read(params)
        assert "hunter2" not in f"{caught.value} {caught.value.context}"
