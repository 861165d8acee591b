"""spatio_django.oidc.registration: RFC 7591."""

from dataclasses import replace
from typing import Any

import pytest

from spatio_django.exceptions import ProtocolViolation, ProviderRefused, ProviderUnavailable, SpatioError
from spatio_django.oidc.answer import Answer
from spatio_django.oidc.registration import ClientInformation, ClientMetadata, Management
from spatio_django.oidc.secret import Secret
from tests.oidc.support import json_answer

REQUEST = ClientMetadata(
    redirect_uris=("https://site.example/spatio/callback/",),
    client_name="Site",
    scope=("openid", "email"),
)
REGISTERED = {
    "client_id": "abc",
    "client_secret": "hunter2",
    "client_id_issued_at": 1_800_000_000,
    "client_secret_expires_at": 0,
    "client_name": "Site",
    "redirect_uris": ["https://site.example/spatio/callback/"],
    "scope": "openid email",
    "token_endpoint_auth_method": "client_secret_basic",
    "registration_access_token": "reg",
    "registration_client_uri": "https://provider.example/oauth2/register/abc",
}
ABSENT = object()
ISSUER = "https://provider.example"
NOW = 1_800_000_000


def read(request: ClientMetadata = REQUEST, **changes: Any) -> ClientInformation:
    """Read the usual answer, with some members changed."""
    document = {name: value for name, value in (REGISTERED | changes).items() if value is not ABSENT}
    return ClientInformation.from_answer(
        json_answer(document, status=201), request=request, issuer=ISSUER, now=NOW
    )


def test_a_request_leaves_nothing_to_defaults() -> None:
    """Spatio's defaults are a client without a secret, and ``read:*`` instead of ``openid``."""
    assert REQUEST.to_document() == {
        "client_name": "Site",
        "redirect_uris": ["https://site.example/spatio/callback/"],
        "grant_types": ["authorization_code", "refresh_token"],
        "response_types": ["code"],
        "scope": "openid email",
        "token_endpoint_auth_method": "client_secret_basic",
    }


def test_optional_uris_are_sent_when_given() -> None:
    """They are what the consent page links to."""
    document = replace(
        REQUEST, client_uri="https://site.example", tos_uri="https://site.example/tos"
    ).to_document()

    assert document["client_uri"] == "https://site.example"
    assert document["tos_uri"] == "https://site.example/tos"
    assert "logo_uri" not in document


def test_an_answer_becomes_a_value() -> None:
    """Secrets are secrets at once; an expiry of 0 means never."""
    client = read()

    assert client.client_id == "abc"
    assert client.client_secret is not None
    assert client.client_secret.reveal() == "hunter2"
    assert client.registration_access_token is not None
    assert client.registration_access_token.reveal() == "reg"
    assert client.registration_client_uri == REGISTERED["registration_client_uri"]
    assert client.client_id_issued_at == 1_800_000_000
    assert client.client_secret_expires_at is None
    assert "hunter2" not in repr(client)


def test_what_was_registered_counts_and_not_what_was_asked() -> None:
    """RFC 7591 §3.2.1: the provider may replace anything but where codes go."""
    client = read(
        replace(REQUEST, redirect_uris=(*REQUEST.redirect_uris, "https://site.example/other/")),
        redirect_uris=["https://site.example/other/"],
        scope="openid",
        client_name="Site\x1b[31m\r\n2",
        token_endpoint_auth_method="client_secret_post",
        client_secret_expires_at=1_900_000_000,
    )

    assert client.redirect_uris == ("https://site.example/other/",)
    assert client.scope == ("openid",)
    assert client.client_name == "Site[31m2"
    assert client.token_endpoint_auth_method == "client_secret_post"
    assert client.client_secret_expires_at == 1_900_000_000


def test_a_client_id_may_be_as_long_as_its_column() -> None:
    """And not a character more, see below."""
    assert read(client_id="a" * 255).client_id == "a" * 255


@pytest.mark.parametrize("uri", ["http://127.0.0.1:6379/x", "http://[::1]/x", "http://localhost:8000/x"])
def test_only_an_issuer_on_this_machine_is_managed_in_plain_http(uri: str) -> None:
    """The registration access token would go there."""
    answer = json_answer(REGISTERED | {"registration_client_uri": uri}, status=201)
    client = ClientInformation.from_answer(answer, request=REQUEST, issuer="http://localhost:9000", now=NOW)
    assert client.registration_client_uri == uri
    usual = ClientInformation.from_answer(json_answer(REGISTERED), request=REQUEST, issuer=ISSUER, now=NOW)
    assert usual.registration_client_uri == REGISTERED["registration_client_uri"]

    with pytest.raises(ProtocolViolation) as caught:
        ClientInformation.from_answer(answer, request=REQUEST, issuer=ISSUER, now=NOW)

    assert (caught.value.code, caught.value.context) == (
        "insecure_url",
        {"member": "registration_client_uri"},
    )


@pytest.mark.parametrize("absent", [ABSENT, None])
def test_what_the_answer_leaves_out_is_as_asked(absent: object) -> None:
    """Spatio's schema makes most members optional; some serializers write ``null`` for those."""
    optional = [name for name in REGISTERED if name not in {"client_id", "client_secret"}]
    client = read(REQUEST, **dict.fromkeys(optional, absent))

    assert client.redirect_uris == REQUEST.redirect_uris
    assert client.scope == REQUEST.scope
    assert client.client_name == REQUEST.client_name
    assert client.token_endpoint_auth_method == "client_secret_basic"
    assert client.registration_access_token is None
    assert client.registration_client_uri is None
    assert client.client_id_issued_at is None


def test_a_public_client_needs_no_secret() -> None:
    """If that is what was asked for."""
    client = read(
        replace(REQUEST, token_endpoint_auth_method="none"),
        token_endpoint_auth_method="none",
        client_secret=ABSENT,
    )

    assert client.client_secret is None
    assert client.token_endpoint_auth_method == "none"


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        pytest.param({"client_id": ABSENT}, "client_id", id="no-client-id"),
        pytest.param({"client_id": ""}, "client_id", id="empty-client-id"),
        pytest.param({"client_id": 7}, "client_id", id="client-id-number"),
        pytest.param({"client_id": "a\nb"}, "client_id", id="client-id-with-line-break"),
        pytest.param({"client_id": "a" * 256}, "client_id", id="client-id-too-long-to-store"),
        pytest.param({"client_secret": ABSENT}, "client_secret", id="no-secret"),
        pytest.param({"client_secret": ""}, "client_secret", id="empty-secret"),
        pytest.param({"client_secret": ["x"]}, "client_secret", id="secret-array"),
        pytest.param(
            {"client_secret": ABSENT, "token_endpoint_auth_method": "none"},
            "token_endpoint_auth_method",
            id="made-public",
        ),
        pytest.param(
            {"token_endpoint_auth_method": "none"}, "token_endpoint_auth_method", id="made-public-with-secret"
        ),
        pytest.param(
            {"token_endpoint_auth_method": "private_key_jwt"},
            "token_endpoint_auth_method",
            id="unknown-method",
        ),
        pytest.param(
            {"token_endpoint_auth_method": ["none"]}, "token_endpoint_auth_method", id="method-array"
        ),
        pytest.param({"redirect_uris": []}, "redirect_uris", id="no-redirect-uri"),
        pytest.param({"redirect_uris": "https://site.example"}, "redirect_uris", id="redirect-uris-string"),
        pytest.param({"redirect_uris": [7]}, "redirect_uris", id="redirect-uri-number"),
        pytest.param({"redirect_uris": [["x"]]}, "redirect_uris", id="redirect-uri-array"),
        pytest.param({"redirect_uris": ["https://evil.example/x"]}, "redirect_uris", id="redirect-uri-other"),
        pytest.param(
            {"redirect_uris": [*REQUEST.redirect_uris, "https://evil.example/x"]},
            "redirect_uris",
            id="redirect-uri-added",
        ),
        pytest.param(
            {"redirect_uris": [REQUEST.redirect_uris[0].rstrip("/")]}, "redirect_uris", id="redirect-uri-cut"
        ),
        pytest.param({"redirect_uris": ["http://[::1"]}, "redirect_uris", id="redirect-uri-unreadable"),
        pytest.param({"scope": ["openid"]}, "scope", id="scope-array"),
        pytest.param({"scope": "read:*"}, "scope", id="scope-without-openid"),
        pytest.param({"scope": ""}, "scope", id="scope-empty"),
        pytest.param({"grant_types": ["refresh_token"]}, "grant_types", id="no-code-grant"),
        pytest.param({"grant_types": "authorization_code"}, "grant_types", id="grant-types-string"),
        pytest.param({"response_types": ["token"]}, "response_types", id="no-code-response"),
        pytest.param({"grant_types": ["authorization_code", {}]}, "grant_types", id="grant-type-no-text"),
        pytest.param({"response_types": ["code", 1]}, "response_types", id="response-type-no-text"),
        pytest.param({"client_name": 7}, "client_name", id="name-number"),
        pytest.param(
            {"registration_access_token": "a b"}, "registration_access_token", id="token-with-space"
        ),
        pytest.param({"registration_client_uri": "http://x.example"}, "insecure_url", id="plain-http"),
        pytest.param({"client_id_issued_at": "1"}, "client_id_issued_at", id="time-as-string"),
        pytest.param({"client_id_issued_at": True}, "client_id_issued_at", id="time-true"),
        pytest.param({"client_secret_expires_at": -1}, "client_secret_expires_at", id="time-negative"),
        pytest.param({"client_secret_expires_at": 10**15}, "client_secret_expires_at", id="time-huge"),
        pytest.param({"client_secret_expires_at": NOW}, "client_secret_expires_at", id="expired"),
    ],
)
def test_an_answer_is_rejected(changes: dict[str, Any], code: str) -> None:
    """A client that could not be used, or stored, is an error now and not at the first sign-in."""
    read()

    with pytest.raises(ProtocolViolation) as caught:
        read(**changes)

    assert caught.value.code == code


def test_a_secret_that_nobody_asked_for_is_none() -> None:
    """Some providers make one for every client; a public client never sends it, and it never runs out."""
    public = replace(REQUEST, token_endpoint_auth_method="none")
    client = read(public, token_endpoint_auth_method="none", client_secret_expires_at=1)

    assert (client.client_secret, client.client_secret_expires_at) == (None, None)
    assert client.surprises(public) == []


def test_what_is_as_asked_is_no_surprise() -> None:
    """And neither is more than that, or another order."""
    assert read().surprises(REQUEST) == []
    assert read(scope="email openid profile").surprises(REQUEST) == []


def test_each_surprise_is_a_sentence() -> None:
    """For an operator, who decides whether it is good enough."""
    request = replace(REQUEST, redirect_uris=(*REQUEST.redirect_uris, "https://www.site.example/x/"))
    client = read(
        request,
        redirect_uris=list(REQUEST.redirect_uris),
        scope="openid",
        token_endpoint_auth_method="client_secret_post",
        grant_types=["authorization_code"],
        client_secret_expires_at=1_900_000_000,
    )

    assert client.surprises(request) == [
        "Spatio did not grant the scope email.",
        "Spatio did not register the redirect URI https://www.site.example/x/.",
        "The client authenticates with client_secret_post, not with client_secret_basic.",
        "Spatio will give no refresh tokens.",
        "The client secret expires on 2030-03-17 17:46 UTC: register again before.",
    ]


CURRENT = Management(
    client_id="abc",
    client_secret=Secret("known"),
    uri="https://provider.example/oauth2/register/abc",
    access_token=Secret("reg"),
)


def changed(**changes: Any) -> ClientInformation:
    """Read the answer to a change."""
    document = {name: value for name, value in (REGISTERED | changes).items() if value is not ABSENT}
    return ClientInformation.from_answer(
        json_answer(document, status=200), request=REQUEST, issuer=ISSUER, now=NOW, current=CURRENT
    )


def test_a_change_keeps_the_secret_that_the_answer_does_not_repeat() -> None:
    """RFC 7592 §3: it may come again, or anew, or not."""
    assert changed(client_secret=ABSENT).client_secret == Secret("known")
    assert changed(client_secret="rotated").client_secret == Secret("rotated")


def test_a_change_is_of_this_client() -> None:
    """Another's registration in the answer would be taken for ours."""
    assert changed().client_id == "abc"

    with pytest.raises(ProtocolViolation) as caught:
        changed(client_id="other")

    assert caught.value.code == "client_id"


@pytest.mark.parametrize("retry_after", [None, "60"])
def test_too_many_registrations_says_when_to_try_again(retry_after: str | None) -> None:
    """Spatio's 429 has no ``Retry-After``; its limit is by the hour."""
    headers = {} if retry_after is None else {"retry-after": retry_after}

    with pytest.raises(ProviderUnavailable) as caught:
        ClientInformation.from_answer(
            Answer(status=429, headers=headers), request=REQUEST, issuer=ISSUER, now=NOW
        )

    assert caught.value.code == "rate_limited"
    assert caught.value.retry_after == (3600 if retry_after is None else 60)


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        pytest.param(
            json_answer({"error": "invalid_redirect_uri"}, status=400),
            (ProviderRefused, "invalid_redirect_uri"),
            id="refused",
        ),
        pytest.param(Answer(status=404), (ProtocolViolation, "bad_status"), id="404"),
        pytest.param(Answer(status=204), (ProtocolViolation, "bad_status"), id="204"),
        pytest.param(Answer(status=500), (ProviderUnavailable, "bad_status"), id="500"),
        pytest.param(Answer(status=201, body=b"[]"), (ProtocolViolation, "not_json"), id="array"),
    ],
)
def test_every_other_answer_has_its_error(answer: Answer, expected: tuple[type[SpatioError], str]) -> None:
    """RFC 7591 §3.2.2, and what is no answer to a registration at all."""
    with pytest.raises(expected[0]) as caught:
        ClientInformation.from_answer(answer, request=REQUEST, issuer=ISSUER, now=NOW)

    assert caught.value.code == expected[1]
