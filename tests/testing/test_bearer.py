"""Userinfo, introspection, revocation, personal access tokens, and the few API operations."""

import time
from collections.abc import Callable

import pytest

from spatio_django.testing import PERSONAS, FakeSpatio, Persona
from tests.testing.relying_party import RelyingParty, conforms, fetch

ADA = PERSONAS[0]


@pytest.mark.parametrize("persona", PERSONAS, ids=lambda persona: persona.key)
def test_userinfo_leaves_out_what_an_account_has_not(rp: RelyingParty, persona: Persona) -> None:
    """No nulls and no empty strings; the rest as the persona has it."""
    answer = rp.userinfo(rp.sign_in(persona=persona.key)["access_token"])

    conforms("UserInfoResponse", answer.json)
    assert answer.json["sub"] == persona.sub
    assert answer.json["email_verified"] is persona.email_verified
    for name in ("name", "given_name", "family_name", "preferred_username", "email"):
        assert answer.json.get(name) == getattr(persona, name)
    assert None not in answer.json.values()


@pytest.mark.parametrize(
    ("scope", "names"),
    [
        ("openid", {"sub"}),
        ("openid email", {"sub", "email", "email_verified"}),
        (
            "openid profile",
            {"sub", "name", "given_name", "family_name", "preferred_username", "picture", "updated_at"},
        ),
        (
            "profile",
            {"sub", "name", "given_name", "family_name", "preferred_username", "picture", "updated_at"},
        ),
    ],
)
def test_userinfo_gives_what_the_scopes_open(rp: RelyingParty, scope: str, names: set[str]) -> None:
    """OpenID Connect Core 1.0 §5.4; ``sub`` always."""
    assert set(rp.userinfo(rp.sign_in(scope=scope)["access_token"]).json) == names


def test_the_picture_is_served(rp: RelyingParty) -> None:
    """A picture that pages can show offline."""
    picture = rp.userinfo(rp.sign_in()["access_token"]).json["picture"]

    assert picture.startswith(rp.spatio.issuer)
    assert fetch(picture).headers.get_content_type() == "image/svg+xml"


def test_userinfo_takes_a_post_with_the_token_in_header_or_body(rp: RelyingParty) -> None:
    """RFC 6750 §2.1 and §2.2, one of them at a time."""
    token = rp.sign_in()["access_token"]
    url, header = rp.url("/oauth2/userinfo"), {"Authorization": f"Bearer {token}"}

    assert fetch(url, form={}, headers=header).json["sub"] == ADA.sub
    assert fetch(url, form={"access_token": token}).json["sub"] == ADA.sub
    assert fetch(url, form={"access_token": token}, headers=header).status == 401
    assert fetch(f"{url}?access_token={token}").status == 401


@pytest.mark.parametrize(
    ("authorization", "challenge"),
    [
        ("", 'Bearer realm="spatio"'),
        ("Basic eDp5", 'Bearer realm="spatio"'),
        ("Bearer wrong", 'error="invalid_token"'),
        ("Bearer ", 'error="invalid_token"'),
        ("bearer tok_unknown", 'error="invalid_token"'),
    ],
)
def test_userinfo_refuses_with_a_challenge_and_no_body(
    spatio: FakeSpatio, authorization: str, challenge: str
) -> None:
    """Contract §8, RFC 6750 §3; GET and POST alike."""
    for method in ("GET", "POST"):
        answer = fetch(
            spatio.issuer + "/oauth2/userinfo", method=method, headers={"Authorization": authorization}
        )
        assert (answer.status, answer.text) == (401, "")
        assert challenge in (answer.headers["WWW-Authenticate"] or "")


def test_a_personal_access_token_has_no_profile(spatio: FakeSpatio) -> None:
    """It opens userinfo as far as its scopes go: to ``sub``."""
    headers = {"Authorization": f"Bearer {spatio.issue_pat()}"}
    assert fetch(spatio.issuer + "/oauth2/userinfo", headers=headers).json == {"sub": ADA.sub}


def test_introspection_describes_an_access_token(rp: RelyingParty) -> None:
    """Contract §7: ``oauth``, and a ``user_id`` that is not the subject."""
    answer = rp.introspect(rp.sign_in()["access_token"])

    assert time.time() + 3500 < answer.pop("exp") <= time.time() + 3600
    assert answer == {
        "active": True,
        "token_type": "oauth",
        "client_id": rp.client_id,
        "user_id": ADA.user_id,
        "scope": "openid profile email",
    }
    assert ADA.sub not in (ADA.user_id, ADA.user_id.removeprefix("usr_"))
    assert len({persona.user_id for persona in PERSONAS}) == len(PERSONAS)


def test_introspection_describes_a_personal_access_token(
    rp: RelyingParty, later: Callable[[float], None]
) -> None:
    """``pat``, of no client; workspace and expiry if it has them."""
    plain = rp.spatio.issue_pat("bo")
    scoped = rp.spatio.issue_pat(scopes=["files:read", "read:*"], expires_in=60, workspace_id="wsp_1")

    assert plain.startswith("pat_")
    assert rp.introspect(plain) == {
        "active": True,
        "token_type": "pat",
        "user_id": PERSONAS[1].user_id,
        "scope": "read:*",
    }
    answer = rp.introspect(scoped)
    assert (answer["workspace_id"], answer["scope"]) == ("wsp_1", "files:read read:*")
    later(61)
    assert rp.introspect(scoped) == {"active": False}
    assert rp.introspect(plain)["active"]
    with pytest.raises(ValueError, match="nobody"):
        rp.spatio.issue_pat("nobody")


def test_introspection_knows_nothing_else(rp: RelyingParty) -> None:
    """Refresh tokens, ID tokens and nonsense: ``active: false`` and not a word more (RFC 7662 §2.2)."""
    tokens = rp.sign_in()
    for token in (tokens["refresh_token"], tokens["id_token"], "nonsense"):
        assert rp.introspect(token) == {"active": False}


@pytest.mark.parametrize("path", ["/oauth2/introspect", "/oauth2/revoke"])
def test_credentials_and_hints_are_accepted_and_not_looked_at(rp: RelyingParty, path: str) -> None:
    """The contract documents neither, RFC 7009 and 7662 do: a careful client sends them."""
    form = {"token": rp.sign_in()["access_token"], "token_type_hint": "unheard_of"}
    assert fetch(rp.url(path), form=form, headers=rp.basic(client_secret="wrong")).status == 200


@pytest.mark.parametrize("path", ["/oauth2/introspect", "/oauth2/revoke"])
@pytest.mark.parametrize("form", [{}, {"token": ""}])
def test_the_token_is_required(rp: RelyingParty, path: str, form: dict[str, str]) -> None:
    """It is the one documented field."""
    answer = fetch(rp.url(path), form=form)
    assert (answer.status, answer.error) == (400, "invalid_request")


def test_revoking_an_access_token_leaves_the_grant(rp: RelyingParty) -> None:
    """200 without a body, as often as it is asked."""
    tokens = rp.sign_in()
    for _ in range(2):
        answer = rp.revoke(tokens["access_token"])
        assert (answer.status, answer.text) == (200, "")

    assert rp.introspect(tokens["access_token"]) == {"active": False}
    assert rp.userinfo(tokens["access_token"]).status == 401
    assert rp.refresh(tokens["refresh_token"]).status == 200


def test_revoking_a_refresh_token_ends_the_grant(rp: RelyingParty) -> None:
    """RFC 7009 §2.1; an older one of the same grant does, too."""
    first = rp.sign_in()
    second = rp.refresh(first["refresh_token"]).json
    assert rp.revoke(first["refresh_token"]).status == 200

    assert rp.introspect(first["access_token"]) == {"active": False}
    assert rp.introspect(second["access_token"]) == {"active": False}
    assert rp.refresh(second["refresh_token"]).error == "invalid_grant"


def test_a_personal_access_token_can_be_revoked(rp: RelyingParty) -> None:
    """And something that never was a token, too: a no-op."""
    token = rp.spatio.issue_pat()
    assert rp.revoke(token).status == rp.revoke("nonsense").status == 200
    assert rp.introspect(token) == {"active": False}


def test_workspaces_can_be_listed(rp: RelyingParty) -> None:
    """An API call to try a token with; a token of one workspace sees one."""
    url = rp.url("/v1/workspaces")
    headers = {"Authorization": f"Bearer {rp.sign_in()['access_token']}"}
    everything = fetch(url, headers=headers).json
    assert everything["total"] == len(everything["workspaces"]) == 2

    token = rp.spatio.issue_pat(workspace_id=everything["workspaces"][1]["id"])
    one = fetch(url, headers={"Authorization": f"Bearer {token}"}).json
    assert one == {"workspaces": everything["workspaces"][1:], "total": 1}
    assert fetch(url).status == 401


def test_connected_apps_are_listed_and_ended(rp: RelyingParty) -> None:
    """Contract §10: ending one kills its tokens and its codes, and the next sign-in asks again."""
    other = RelyingParty(rp.spatio, client_name="Other")
    tokens, others, bos = rp.sign_in(), other.sign_in(), rp.sign_in(persona="bo")
    pending = rp.authorize()
    headers = {"Authorization": f"Bearer {others['access_token']}"}
    apps = rp.url("/v1/account/connected-apps")
    items = {item["client_id"]: item for item in fetch(apps, headers=headers).json["items"]}

    assert set(items) == {rp.client_id, other.client_id}
    assert items[other.client_id]["client_name"] == "Other"
    assert items[rp.client_id]["scopes"] == ["email", "openid", "profile"]
    assert len(items[rp.client_id]["scope_labels"]) == 3

    ended = fetch(f"{apps}/{rp.client_id}", method="DELETE", headers=headers)
    assert (ended.status, ended.text) == (200, "")
    assert fetch(f"{apps}/{rp.client_id}", method="DELETE", headers=headers).status == 404
    assert rp.introspect(tokens["access_token"]) == {"active": False}
    assert rp.exchange(pending).error == "invalid_grant"
    assert rp.introspect(others["access_token"])["active"]
    assert rp.introspect(bos["access_token"])["active"]
    assert fetch(apps).status == 401
