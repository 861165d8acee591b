"""The members of the discovery document, each with everything that it can be instead."""

from typing import Any

import pytest

from tests.hostile.conftest import DISCOVERY, SECOND_DISCOVERY, Hostile
from tests.hostile.values import ABSENT, VALUES, is_nothing
from tests.oidc.wire import Wire

REQUIRED = ("authorization_endpoint", "token_endpoint", "jwks_uri")
OPTIONAL = ("userinfo_endpoint", "registration_endpoint", "introspection_endpoint", "revocation_endpoint")
LISTS = (
    "scopes_supported",
    "token_endpoint_auth_methods_supported",
    "code_challenge_methods_supported",
    "id_token_signing_alg_values_supported",
    "prompt_values_supported",
)
#: What these two have to name, and the code if they don't.
NEEDED = {
    "code_challenge_methods_supported": "pkce_unsupported",
    "id_token_signing_alg_values_supported": "alg_unsupported",
}
FLAG = "authorization_response_iss_parameter_supported"
#: Members that are of no use to a relying party of this kind, or to nobody.
UNUSED = (
    "response_types_supported",
    "grant_types_supported",
    "subject_types_supported",
    "claims_supported",
    "service_documentation",
    "end_session_endpoint",
    "mtls_endpoint_aliases",
    "signed_metadata",
    "x_unknown",
)


def judged(member: str, value: Any) -> str | None:
    """Give the code that *value* is refused with, or ``None`` if it does not matter."""
    if member == "issuer":
        return "issuer_mismatch"
    if is_nothing(value):
        return "missing_member" if member in REQUIRED else None
    if member in REQUIRED + OPTIONAL:
        return "insecure_url"
    if member == FLAG:
        return None if isinstance(value, bool) else "bad_member"
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        return "bad_member"
    return NEEDED.get(member)  # a list of texts, none of which is the one that is needed


@pytest.mark.parametrize("member", ["issuer", *REQUIRED, *OPTIONAL, *LISTS, FLAG])
def test_a_member_is_what_it_should_be_or_is_named(
    hostile: Hostile, member: str, subtests: pytest.Subtests
) -> None:
    """What is used has the right type, or the sign-in does not begin."""
    hostile.accepts()
    for name, value in VALUES.items():
        if (member, value) == (FLAG, True):
            continue  # a promise: see test_callback_parameters.py
        with subtests.test(name):
            hostile.change_members(DISCOVERY, **{member: value})
            code = judged(member, value)
            if code is None:
                hostile.new_process()
                person: dict[str, Any] = {}
                if member == "userinfo_endpoint":
                    person = {"name": None, "email": None, "email_verified": None}
                hostile.accepts(**person)
            else:
                hostile.refuses(code, endpoint=DISCOVERY)


@pytest.mark.parametrize("name", VALUES)
def test_what_is_not_used_does_not_matter(hostile: Hostile, name: str) -> None:
    """Members for other clients than this, and unknown ones, may be anything."""
    value = VALUES[name][:1000] if isinstance(VALUES[name], str) else VALUES[name]
    hostile.change_members(DISCOVERY, **dict.fromkeys(UNUSED, value))

    hostile.accepts()


@pytest.mark.parametrize("member", [*REQUIRED, *OPTIONAL])
def test_an_endpoint_where_no_secret_may_go_is_refused(
    hostile: Hostile, member: str, subtests: pytest.Subtests
) -> None:
    """Plain http elsewhere, other schemes, and whatever two readers of URLs read differently."""
    hostile.accepts()
    urls = [
        "http://api.spatio.app/x",
        "http://169.254.169.254/latest/meta-data/",
        "http://127.1/x",
        "http://2130706433/x",
        "http://0/x",
        "http://[::ffff:127.0.0.1]/x",
        "http://localhost.evil.example/x",
        "//api.spatio.app/x",
        "/oauth2/x",
        "oauth2/x",
        "https:",
        "https://",
        "https:///x",
        "https:/api.spatio.app/x",
        "https:api.spatio.app",
        "https://user@api.spatio.app/x",
        "https://user:password@api.spatio.app/x",
        "https://api.spatio.app#fragment",
        "https://api.spatio.app/x#",
        "https://api.spatio.app\\@evil.example/",
        "https://api.spatio.app /x",
        " https://api.spatio.app/x",
        "https://api.spatio.app/x\n",
        "https://api.spatio.app/x y",
        "https://api.spatio.app/\u00e9",
        "https://\u0430pi.spatio.app/x",
        "https://api%2espatio.app/x",
        "https://api.spatio.app:99999/x",
        "https://api.spatio.app:x/",
        "https://api.spatio.app:-1/",
        "https://[::1/x",
        "https://[v1.x]/x",
        "javascript:alert(1)",
        "data:application/json,{}",
        "file:///etc/passwd",
        "ftp://api.spatio.app/x",
        "gopher://127.0.0.1:11211/x",
        "unix:///run/x",
        "https+unix://x",
        "https://api.spatio.app/" + "x" * 2048,
    ]
    for url in urls:
        with subtests.test(url[:60]):
            hostile.change_members(DISCOVERY, **{member: url})
            hostile.refuses("insecure_url", endpoint=DISCOVERY)


def test_metadata_of_another_issuer_begin_nothing(hostile: Hostile, subtests: pytest.Subtests) -> None:
    """Character by character: not a letter's case, not a slash, not what resolves to the same."""
    hostile.accepts()
    issuer = hostile.spatio.issuer
    for other in (
        issuer + "/",
        issuer + "?",
        issuer + "#",
        issuer.upper(),
        issuer.replace("127.0.0.1", "localhost"),
        issuer.replace("127.0.0.1", "127.0.0.01"),
        issuer.replace("http:", "https:"),
        f" {issuer}",
        f"{issuer} ",
        f"{issuer}\u200b",
        [issuer],
        {issuer: issuer},
        "https://evil.example",
    ):
        with subtests.test(str(other)):
            hostile.change_members(DISCOVERY, issuer=other)
            hostile.refuses("issuer_mismatch", endpoint=DISCOVERY)


def test_an_endpoint_may_set_none_of_our_parameters(hostile: Hostile, subtests: pytest.Subtests) -> None:
    """A query of its own is kept; one that would be a second ``state`` or ``redirect_uri`` is refused."""
    endpoint = f"{hostile.spatio.issuer}/oauth2/authorize"
    for fair in ("?", "?tenant=1", "?a=b&c=%26state=x"):
        with subtests.test(fair):
            hostile.change_members(DISCOVERY, authorization_endpoint=endpoint + fair)
            hostile.new_process()
            hostile.accepts()
    for name in (
        "state",
        "nonce",
        "redirect_uri",
        "client_id",
        "scope",
        "response_type",
        "response_mode",
        "code_challenge",
        "code_challenge_method",
        "prompt",
        "max_age",
        "request",
        "request_uri",
        "registration",
        "stat%65",
    ):
        with subtests.test(name):
            hostile.change_members(DISCOVERY, authorization_endpoint=f"{endpoint}?a=b&{name}=x")
            hostile.refuses("reserved_parameter", endpoint=DISCOVERY)


def test_endpoints_may_be_elsewhere_over_tls(hostile: Hostile) -> None:
    """What is named by the issuer's own metadata is trusted to be its; but only its certificate proves it."""
    hostile.accepts()
    with Wire() as elsewhere:
        url = elsewhere.url.replace("http:", "https:")
        hostile.change_members(DISCOVERY, registration_endpoint=url, revocation_endpoint=url)
        hostile.new_process()
        hostile.accepts()
        assert elsewhere.connections == 0


def test_a_bad_document_replaces_no_good_one(hostile: Hostile) -> None:
    """Nor is it remembered: when the provider is itself again, so are sign-ins."""
    hostile.change_members(DISCOVERY, token_endpoint=ABSENT)
    hostile.refuses("missing_member", endpoint=DISCOVERY)
    hostile.lies.lies.clear()
    hostile.pass_time(6)
    hostile.accepts()
    hostile.change_members(DISCOVERY, token_endpoint=ABSENT)
    hostile.pass_time(4000)
    hostile.accepts()


def test_a_failure_is_remembered_for_a_moment_only(hostile: Hostile) -> None:
    """An outage is not hammered: within seconds the provider is asked once, however many people click."""
    hostile.change_members(DISCOVERY, issuer="https://evil.example")
    hostile.refuses("issuer_mismatch", endpoint=DISCOVERY)
    hostile.forget_calls()
    for _ in range(5):
        response = hostile.browser().get("/spatio/login/")
        assert (response.status_code, response.context["code"]) == (502, "issuer_mismatch")
    assert hostile.calls == 0
    hostile.be_honest()
    hostile.pass_time(6)

    hostile.accepts()

    assert SECOND_DISCOVERY not in hostile.front.calls
