"""spatio_django.oidc.discovery: what a provider says about itself."""

from typing import Any

import pytest

from spatio_django.exceptions import ProtocolViolation, ProviderUnavailable, SpatioError
from spatio_django.oidc.answer import Answer
from spatio_django.oidc.discovery import (
    ProviderMetadata,
    fetch_metadata,
    fetch_oauth_metadata,
    optional_endpoint,
    well_known_urls,
)
from tests.oidc.support import ISSUER, METADATA, FakeHttp, json_answer

REQUIRED = ["authorization_endpoint", "token_endpoint", "jwks_uri"]
ENDPOINTS = [
    *REQUIRED,
    "userinfo_endpoint",
    "registration_endpoint",
    "introspection_endpoint",
    "revocation_endpoint",
]
ARRAYS = [
    "scopes_supported",
    "token_endpoint_auth_methods_supported",
    "code_challenge_methods_supported",
    "id_token_signing_alg_values_supported",
    "prompt_values_supported",
]


def read(**changes: Any) -> ProviderMetadata:
    """Read the usual document, with some members changed."""
    return ProviderMetadata.from_document(METADATA | changes, issuer=ISSUER)


def test_a_document_becomes_a_value() -> None:
    """Members keep their names; arrays become tuples; unknown members are dropped."""
    metadata = read(service_documentation="https://docs.example", custom=[1])

    assert metadata.token_endpoint == ISSUER + "/oauth2/token"
    assert metadata.revocation_endpoint == ISSUER + "/oauth2/revoke"
    assert metadata.prompt_values_supported == ("none", "login", "consent")
    assert metadata.authorization_response_iss_parameter_supported is False


def test_only_four_members_are_needed() -> None:
    """Spatio's schema lets even some be absent that OpenID Connect requires."""
    metadata = ProviderMetadata.from_document(
        {name: METADATA[name] for name in ["issuer", *REQUIRED]}, issuer=ISSUER
    )

    assert metadata.userinfo_endpoint is None
    assert metadata.scopes_supported == ()


@pytest.mark.parametrize("name", [*ENDPOINTS[3:], *ARRAYS, "authorization_response_iss_parameter_supported"])
def test_null_counts_as_absent(name: str) -> None:
    """Some serializers write it for every optional member."""
    absent = ProviderMetadata.from_document(
        {key: value for key, value in METADATA.items() if key != name}, issuer=ISSUER
    )

    assert read(**{name: None}) == absent


def test_endpoints_may_be_on_other_hosts() -> None:
    """The document came from the issuer over TLS: it may say so."""
    assert read(jwks_uri="https://cdn.example/keys").jwks_uri == "https://cdn.example/keys"


@pytest.mark.parametrize("url", ["http://127.0.0.1:6379/x", "http://[::1]/x", "http://localhost:8000/x"])
@pytest.mark.parametrize("name", ENDPOINTS)
def test_only_an_issuer_on_this_machine_has_endpoints_in_plain_http(name: str, url: str) -> None:
    """A remote one would have code and client secret handed to whatever listens on that port."""
    for issuer in ("http://localhost:9000", "https://127.0.0.1"):
        local = METADATA | {"issuer": issuer, name: url}
        assert getattr(ProviderMetadata.from_document(local, issuer=issuer), name) == url
    secure = url.replace("http:", "https:")
    assert getattr(read(**{name: secure}), name) == secure

    with pytest.raises(ProtocolViolation) as caught:
        read(**{name: url})

    assert (caught.value.code, caught.value.context) == ("insecure_url", {"member": name})


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        pytest.param({"issuer": None}, "issuer_mismatch", id="no-issuer"),
        pytest.param({"issuer": ISSUER + "INVALID"}, "issuer_mismatch", id="discovery-issuer-mismatch"),
        pytest.param({"issuer": ISSUER + "/"}, "issuer_mismatch", id="trailing-slash"),
        pytest.param({"issuer": ISSUER.upper()}, "issuer_mismatch", id="upper-case"),
        pytest.param({"issuer": [ISSUER]}, "issuer_mismatch", id="issuer-array"),
        *[pytest.param({name: None}, "missing_member", id=f"no-{name}") for name in REQUIRED],
        *[pytest.param({name: 7}, "insecure_url", id=f"{name}-number") for name in ENDPOINTS],
        *[
            pytest.param({name: "http://provider.example/x"}, "insecure_url", id=f"{name}-plain-http")
            for name in ENDPOINTS
        ],
        *[pytest.param({name: "S256 RS256"}, "bad_member", id=f"{name}-string") for name in ARRAYS],
        *[pytest.param({name: ["S256", "RS256", 7]}, "bad_member", id=f"{name}-mixed") for name in ARRAYS],
        pytest.param(
            {"authorization_response_iss_parameter_supported": "true"},
            "bad_member",
            id="iss-parameter-string",
        ),
        pytest.param({"code_challenge_methods_supported": ["plain"]}, "pkce_unsupported", id="plain-only"),
        pytest.param({"code_challenge_methods_supported": []}, "pkce_unsupported", id="no-pkce"),
        pytest.param(
            {"id_token_signing_alg_values_supported": ["HS256"]}, "alg_unsupported", id="hs256-only"
        ),
    ],
)
def test_a_document_is_rejected(changes: dict[str, Any], code: str) -> None:
    """A wrong member is not passed over: it is half of a misunderstanding."""
    read()

    with pytest.raises(ProtocolViolation) as caught:
        read(**changes)

    assert caught.value.code == code


def test_an_announced_iss_parameter_is_noted() -> None:
    """It makes the parameter required in the callback (RFC 9207 §2.3)."""
    metadata = read(authorization_response_iss_parameter_supported=True)

    assert metadata.authorization_response_iss_parameter_supported is True


@pytest.mark.parametrize(
    ("issuer", "urls"),
    [
        (
            "https://p.example",
            (
                "https://p.example/.well-known/openid-configuration",
                "https://p.example/.well-known/oauth-authorization-server",
            ),
        ),
        (
            "https://p.example/",
            (
                "https://p.example/.well-known/openid-configuration",
                "https://p.example/.well-known/oauth-authorization-server",
            ),
        ),
        (
            "https://p.example:8443/tenant/a/",
            (
                "https://p.example:8443/tenant/a/.well-known/openid-configuration",
                "https://p.example:8443/.well-known/oauth-authorization-server/tenant/a",
            ),
        ),
    ],
)
def test_the_well_known_places_follow_from_the_issuer(issuer: str, urls: tuple[str, str]) -> None:
    """Appended in OpenID Connect, inserted in RFC 8414."""
    assert well_known_urls(issuer) == urls


FIRST, SECOND = well_known_urls(ISSUER)


@pytest.mark.parametrize("status", [400, 401, 403, 404, 410])
def test_the_second_place_is_tried_when_the_first_is_empty(status: int) -> None:
    """Some providers have only one of the two."""
    http = FakeHttp({FIRST: Answer(status=status), SECOND: json_answer(METADATA)})

    assert fetch_metadata(ISSUER, http=http) == METADATA
    assert [url for _, url, _ in http.calls] == [FIRST, SECOND]


def test_one_call_is_enough_when_the_first_place_has_it() -> None:
    """Any other request would fail a conformance run."""
    http = FakeHttp({FIRST: json_answer(METADATA)})

    assert fetch_metadata(ISSUER, http=http) == METADATA


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        pytest.param(Answer(status=503), None, (ProviderUnavailable, "bad_status"), id="down"),
        pytest.param(Answer(status=429), None, (ProviderUnavailable, "rate_limited"), id="busy"),
        pytest.param(Answer(status=204), None, (ProtocolViolation, "bad_status"), id="no-content"),
        pytest.param(Answer(status=200), None, (ProtocolViolation, "not_json"), id="empty"),
        pytest.param(
            Answer(status=404), Answer(status=404), (ProtocolViolation, "bad_status"), id="in-neither-place"
        ),
        pytest.param(
            Answer(status=404), Answer(status=502), (ProviderUnavailable, "bad_status"), id="then-down"
        ),
    ],
)
def test_no_document_is_an_error_that_says_why(
    first: Answer, second: Answer | None, expected: tuple[type[SpatioError], str]
) -> None:
    """A provider that is down is another matter than a wrong issuer setting."""
    http = FakeHttp({FIRST: first} | ({SECOND: second} if second else {}))

    with pytest.raises(expected[0]) as caught:
        fetch_metadata(ISSUER, http=http)

    assert caught.value.code == expected[1]


TENANT = "https://provider.example/o"
INSERTED = "https://provider.example/.well-known/oauth-authorization-server/o"
APPENDED = "https://provider.example/o/.well-known/oauth-authorization-server"
OAUTH = {"issuer": TENANT, "registration_endpoint": "https://provider.example/o/register/"}


@pytest.mark.parametrize(("inserted", "appended"), [(OAUTH, None), (None, OAUTH), (None, None)])
def test_an_endpoint_is_looked_for_in_the_oauth_metadata(
    inserted: dict[str, Any] | None, appended: dict[str, Any] | None
) -> None:
    """Where RFC 8414 puts them, and where a provider below a path often has them instead."""
    places = {INSERTED: inserted, APPENDED: appended}
    http = FakeHttp(
        {
            url: Answer(status=404) if document is None else json_answer(document)
            for url, document in places.items()
        }
    )

    document = fetch_oauth_metadata(TENANT, http=http)

    assert document == (inserted or appended or {})
    assert optional_endpoint(document, "registration_endpoint", TENANT) == document.get(
        "registration_endpoint"
    )
    assert [url for _, url, _ in http.calls] == ([INSERTED] if inserted else [INSERTED, APPENDED])


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"issuer": "https://provider.example"}, "issuer_mismatch"),
        ({"registration_endpoint": "http://provider.example/o/register/"}, "insecure_url"),
        ({"registration_endpoint": 7}, "insecure_url"),
    ],
)
def test_oauth_metadata_are_judged_like_the_others(changes: dict[str, Any], code: str) -> None:
    """What we are registered as goes there, and the secret comes from there."""

    def fetch(document: dict[str, Any]) -> str | None:
        found = fetch_oauth_metadata(TENANT, http=FakeHttp({INSERTED: json_answer(document)}))
        return optional_endpoint(found, "registration_endpoint", TENANT)

    assert fetch(OAUTH)

    with pytest.raises(ProtocolViolation) as caught:
        fetch(OAUTH | changes)

    assert caught.value.code == code
