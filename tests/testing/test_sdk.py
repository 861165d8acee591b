"""The official client, which knows nothing of this provider, against it."""

from collections.abc import Iterator
from typing import Any

import pytest
from spatio import ApiClient, Configuration
from spatio.api.account_api import AccountApi
from spatio.api.o_auth_api import OAuthApi
from spatio.api.workspaces_api import WorkspacesApi
from spatio.exceptions import BadRequestException, UnauthorizedException
from spatio.models.client_registration_request import ClientRegistrationRequest

from spatio_django.testing import PERSONAS, FakeSpatio
from tests.testing.relying_party import CALLBACK, RelyingParty, query_of


def client(spatio: FakeSpatio, token: str | None = None) -> ApiClient:
    """The SDK, pointed here."""
    return ApiClient(Configuration(host=spatio.issuer, access_token=token))


@pytest.fixture
def oauth(spatio: FakeSpatio) -> Iterator[OAuthApi]:
    """The SDK's OAuth operations."""
    api = OAuthApi(client(spatio))
    yield api
    api.api_client.rest_client.pool_manager.clear()


def calling(spatio: FakeSpatio, api: Any, token: str, call: str, *arguments: Any) -> Any:
    """Call one operation with a bearer token, and close the connection."""
    operations = api(client(spatio, token))
    try:
        return getattr(operations, call)(*arguments)
    finally:
        operations.api_client.rest_client.pool_manager.clear()


def test_the_sdk_discovers(oauth: OAuthApi, spatio: FakeSpatio) -> None:
    """Both metadata paths and the key set."""
    document = oauth.get_open_id_configuration()

    assert document == oauth.get_o_auth_discovery()
    assert document.issuer == spatio.issuer
    (key,) = oauth.get_jwks().keys
    assert key.kid == spatio.private_jwk["kid"]


@pytest.mark.parametrize("method", ["none", "client_secret_post"])
def test_the_sdk_walks_the_whole_way(oauth: OAuthApi, spatio: FakeSpatio, method: str) -> None:
    """Register, exchange, refresh, userinfo, introspect, revoke: the SDK's models take each answer."""
    registered = oauth.register_o_auth_client(
        ClientRegistrationRequest(
            client_name="SDK",
            redirect_uris=[CALLBACK],
            scope="openid profile email",
            token_endpoint_auth_method=method,
        )
    )
    assert bool(registered.client_secret) is (method != "none")
    rp = RelyingParty(spatio)
    rp.client_id = registered.client_id
    credentials: dict[str, Any] = {
        "client_id": registered.client_id,
        "client_secret": registered.client_secret,
    }

    callback = spatio.sign_in(rp.authorization_url())
    tokens = oauth.oauth_token(
        "authorization_code",
        code=query_of(callback)["code"],
        code_verifier=rp.verifier,
        redirect_uri=CALLBACK,
        **credentials,
    )
    assert rp.claims(tokens.id_token or "")["aud"] == registered.client_id

    refreshed = oauth.oauth_token("refresh_token", refresh_token=tokens.refresh_token, **credentials)
    assert refreshed.refresh_token != tokens.refresh_token
    assert calling(spatio, OAuthApi, refreshed.access_token, "get_user_info").sub == PERSONAS[0].sub
    assert calling(spatio, OAuthApi, refreshed.access_token, "post_user_info").email == PERSONAS[0].email

    assert oauth.oauth_introspect(refreshed.access_token).active
    oauth.oauth_revoke(refreshed.refresh_token or "")
    assert not oauth.oauth_introspect(refreshed.access_token).active


def test_the_sdk_understands_the_errors(oauth: OAuthApi, spatio: FakeSpatio) -> None:
    """It raises on codes outside the contract's list; these are inside."""
    with pytest.raises(BadRequestException, match="invalid_client"):
        oauth.oauth_token("authorization_code", code="x", client_id="unknown")
    with pytest.raises(BadRequestException, match="invalid_client_metadata"):
        oauth.register_o_auth_client(
            ClientRegistrationRequest(client_name="SDK", redirect_uris=[CALLBACK], scope="write:*")
        )
    with pytest.raises(UnauthorizedException):
        calling(spatio, OAuthApi, "tok_unknown", "get_user_info")


def test_the_sdk_calls_the_api_with_an_access_token(rp: RelyingParty) -> None:
    """Workspaces and connected apps, as an app of the site would."""
    token = rp.sign_in()["access_token"]
    workspaces = calling(rp.spatio, WorkspacesApi, token, "list_my_workspaces").workspaces
    (app,) = calling(rp.spatio, AccountApi, token, "list_connected_apps").items

    assert [workspace.role for workspace in workspaces] == ["owner", "member"]
    assert app.client_id == rp.client_id
    assert app.granted_at.tzinfo is not None
    calling(rp.spatio, AccountApi, token, "revoke_connected_app", rp.client_id)
    assert rp.introspect(token) == {"active": False}
