"""The few ``/v1`` operations that an app with an access token can try here."""

from datetime import UTC, datetime
from typing import Any

from flask import Blueprint, Response, jsonify
from werkzeug.wrappers import Response as AnyResponse

from spatio_django.testing.bearer import Validator
from spatio_django.testing.personas import Persona
from spatio_django.testing.provider import SCOPES, Provider


def workspaces_of(persona: Persona) -> list[dict[str, Any]]:
    """Two workspaces, made up from the persona, the same each time."""
    base = persona.user_id.removeprefix("usr_")[:12]
    return [
        {"id": f"wsp_{base}1", "name": f"{persona.label}'s notes", "slug": persona.key, "role": "owner"},
        {"id": f"wsp_{base}2", "name": "Analytical Engines", "slug": "engines", "role": "member"},
    ]


def create_api(provider: Provider, validator: Validator) -> Blueprint:
    """The blueprint; every operation wants a bearer token, whatever its scopes: Spatio names none."""
    api = Blueprint("api", __name__)
    store = provider.store

    @api.get("/v1/workspaces")
    def workspaces() -> AnyResponse:
        token, persona = validator.authenticate()
        rows = [row for row in workspaces_of(persona) if token.workspace_id in (None, row["id"])]
        return jsonify(workspaces=rows, total=len(rows))

    @api.get("/v1/account/connected-apps")
    def connected_apps() -> AnyResponse:
        _, persona = validator.authenticate()
        with store.lock:
            consents = [row for row in store.tables.consents.values() if row.persona == persona.key]
            clients = {row.client_id: store.tables.clients[row.client_id].metadata for row in consents}
        items = []
        for consent in consents:
            metadata = clients[consent.client_id]
            item = {
                "client_id": consent.client_id,
                "client_name": metadata["client_name"],
                "scopes": consent.scopes,
                "scope_labels": [SCOPES[scope] for scope in consent.scopes],
                "granted_at": datetime.fromtimestamp(consent.granted_at, UTC).isoformat(),
            }
            links = ("logo_uri", "client_uri", "policy_uri", "tos_uri")
            items.append(item | {name: metadata[name] for name in links if name in metadata})
        return jsonify(items=items)

    @api.delete("/v1/account/connected-apps/<client_id>")
    def revoke_connected_app(client_id: str) -> AnyResponse:
        _, persona = validator.authenticate()
        return Response(status=200 if store.forget_app(persona.key, client_id) else 404)

    return api
