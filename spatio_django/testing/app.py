"""The Flask application: one route per operation of the contract."""

import time
from collections import defaultdict
from typing import Any
from urllib.parse import urlsplit

from authlib.oauth2.rfc6749 import OAuth2Error
from flask import Flask, Response, abort, jsonify, render_template
from flask import request as flask_request
from werkzeug.exceptions import HTTPException
from werkzeug.wrappers import Response as AnyResponse

from spatio_django.testing.api import create_api
from spatio_django.testing.bearer import Introspection, Revocation, Validator, challenge
from spatio_django.testing.consent import Consent
from spatio_django.testing.grants import Server
from spatio_django.testing.provider import Provider
from spatio_django.testing.registration import ConfigurationEndpoint, RegistrationEndpoint

#: Registrations are counted over this many seconds.
HOUR = 3600

#: The pages need one stylesheet and one picture; nothing runs in them and nothing frames them.
PAGE_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; style-src 'self'; img-src 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
}


def create_app(provider: Provider) -> Flask:
    """Wire everything together."""
    app = Flask(__name__)
    server = Server(provider)
    validator = Validator(provider)
    server.register_endpoint(RegistrationEndpoint(provider))
    server.register_endpoint(ConfigurationEndpoint(provider))
    server.register_endpoint(Introspection(provider, validator))
    server.register_endpoint(Revocation(provider))
    app.register_blueprint(Consent(provider, server).blueprint)
    app.register_blueprint(create_api(provider, validator))
    add_protocol_routes(app, provider, server, validator)
    add_registration_routes(app, provider, server)

    @app.get("/")
    def index() -> str:
        return render_template("index.html", issuer=provider.issuer, personas=provider.options.personas)

    @app.before_request
    def refuse_foreign_names() -> None:
        # A page elsewhere can point its own name at 127.0.0.1; only our names are answered (DNS rebinding).
        try:
            name = urlsplit(f"//{flask_request.headers.get('Host', '')}").hostname
        except ValueError:
            name = None
        if name not in {"localhost", "127.0.0.1", "::1", provider.options.host}:
            abort(400, "This provider is not reached under that name.")

    @app.errorhandler(OAuth2Error)
    def refuse_token(error: Any) -> AnyResponse:
        return challenge(error)

    @app.errorhandler(HTTPException)
    def explain(error: HTTPException) -> AnyResponse:
        page = render_template("error.html", message=error.description or error.name)
        response = Response(page, status=error.code)
        if error.code == 405:
            response.headers["Allow"] = error.get_response().headers["Allow"]
        return response

    @app.after_request
    def harden(response: Response) -> Response:
        if response.mimetype == "text/html":
            response.headers.update(PAGE_HEADERS)
        elif flask_request.path.startswith(("/oauth2/", "/v1/")):
            response.headers["Cache-Control"] = "no-store"
        return response

    return app


def add_protocol_routes(app: Flask, provider: Provider, server: Server, validator: Validator) -> None:
    """Metadata, keys, tokens, userinfo."""

    @app.get("/.well-known/openid-configuration")
    @app.get("/.well-known/oauth-authorization-server")
    def metadata() -> AnyResponse:
        return jsonify(provider.metadata())

    @app.get("/.well-known/jwks.json")
    def jwks() -> AnyResponse:
        return jsonify(provider.keys.public_jwks())

    @app.post("/oauth2/token")
    def token() -> AnyResponse:
        return server.create_token_response()

    @app.post("/oauth2/introspect")
    def introspect() -> AnyResponse:
        response: Response = server.create_endpoint_response("introspection")
        return response

    @app.post("/oauth2/revoke")
    def revoke() -> AnyResponse:
        response: Response = server.create_endpoint_response("revocation")
        return response

    @app.get("/oauth2/userinfo")
    @app.post("/oauth2/userinfo")
    def userinfo() -> AnyResponse:
        token, persona = validator.authenticate(body=flask_request.method == "POST")
        return jsonify(persona.claims(token.scope, issuer=provider.issuer))


def add_registration_routes(app: Flask, provider: Provider, server: Server) -> None:
    """Client registration, ten an hour from one address."""
    registered: defaultdict[str, list[float]] = defaultdict(list)

    @app.post("/oauth2/register")
    def register() -> AnyResponse:
        limit = provider.options.registration_limit
        with provider.store.lock:
            recent = registered[flask_request.remote_addr or ""]
            recent[:] = [moment for moment in recent if moment > time.monotonic() - HOUR]
            if limit is not None and len(recent) >= limit:
                return Response(status=429)
            response: Response = server.create_endpoint_response("client_registration")
            if response.status_code == 201:
                recent.append(time.monotonic())
        return response

    @app.route("/oauth2/register/<client_id>", methods=["GET", "PUT", "DELETE"])
    def configure(client_id: str) -> AnyResponse:
        response: Response = server.create_endpoint_response("client_configuration")
        return response
