"""The authorization endpoint and its consent page: who are you, and may this site know?"""

import hashlib
import secrets
import time
from typing import Any
from urllib.parse import urlencode, urlsplit

from authlib.oauth2.rfc6749 import OAuth2Error
from authlib.oidc.core.errors import ConsentRequiredError, LoginRequiredError
from flask import Blueprint, Response, make_response, redirect, render_template
from flask import request as flask_request
from itsdangerous import BadSignature, Signer
from werkzeug.datastructures import MultiDict
from werkzeug.wrappers import Response as AnyResponse

from spatio_django.testing.grants import Request, Server
from spatio_django.testing.provider import SCOPES, Provider
from spatio_django.testing.store import Browser, Client


class Consent:
    """The views, and what they need to know about the browser that asks."""

    def __init__(self, provider: Provider, server: Server) -> None:
        self.provider = provider
        self.server = server
        self.blueprint = Blueprint("consent", __name__)
        self.blueprint.add_url_rule("/oauth2/authorize", view_func=self.authorize, methods=["GET"])
        self.blueprint.add_url_rule("/consent", view_func=self.page, methods=["GET"])
        self.blueprint.add_url_rule("/oauth2/authorize/confirm", view_func=self.confirm, methods=["POST"])

    # The browser: a random id in a signed cookie. Who it is signed in as is kept here, so that a test can
    # make the provider forget it.

    @property
    def cookie(self) -> str:
        """Cookies are shared by all ports of a host, so the port is part of the name."""
        return f"spatio-provider-{urlsplit(self.provider.issuer).port}"

    def browser_id(self) -> str | None:
        """The id that this provider gave the browser, if it did."""
        signer = Signer(self.provider.store.tables.secret, salt="browser")
        try:
            return signer.unsign(flask_request.cookies.get(self.cookie, "")).decode()
        except BadSignature:
            return None

    def remember_browser(self, response: AnyResponse, browser_id: str) -> None:
        """Give the browser its id."""
        signed = Signer(self.provider.store.tables.secret, salt="browser").sign(browser_id).decode()
        response.set_cookie(self.cookie, signed, httponly=True, samesite="Lax")

    def signed_in(self, browser_id: str | None) -> Browser | None:
        """Who is signed in there, if that persona still exists."""
        with self.provider.store.lock:
            browser = self.provider.store.tables.browsers.get(browser_id or "")
        return browser if browser and self.provider.persona(browser.persona) else None

    # The views

    def authorize(self) -> AnyResponse:
        """``GET /oauth2/authorize``: straight back if nothing has to be asked, else to the consent page."""
        wire = self.server.create_oauth2_request(None)
        browser_id = self.browser_id() or secrets.token_urlsafe(16)
        browser = self.signed_in(browser_id)
        try:
            grant = self.server.get_consent_grant(wire)
            missing = self.what_to_ask(grant.request, browser)
            if missing and "none" in wire.payload.data.get("prompt", "").split():
                raise missing(redirect_uri=grant.redirect_uri, state=wire.payload.state)
        except OAuth2Error as error:
            return self.refuse(error)
        if missing is None and browser is not None:
            return self.finish(grant, browser)
        sealed = self.provider.keys.seal(
            {
                "request": wire.payload.data.to_dict(),
                "browser": fingerprint(browser_id),
                "choose": missing is LoginRequiredError,
            }
        )
        response = redirect(f"{self.provider.issuer}/consent?{urlencode({'request': sealed})}")
        self.remember_browser(response, browser_id)
        return response

    def what_to_ask(self, request: Request, browser: Browser | None) -> Any:
        """
        The error that ``prompt=none`` would get now, or ``None`` if nothing has to be asked.

        OpenID Connect Core 1.0 §3.1.2.1: ``login`` and ``consent`` ask again; so does a sign-in older than
        ``max_age`` seconds, of which 0 means "now".
        """
        data = request.payload.data
        prompts = data.get("prompt", "").split()
        max_age = data.get("max_age")
        if browser is None or "login" in prompts:
            return LoginRequiredError
        if max_age and (int(max_age) == 0 or time.time() - browser.auth_time > int(max_age)):
            return LoginRequiredError
        allowed = self.provider.store.consented(browser.persona, request.client.client_id)
        if "consent" in prompts or not set(request.scope.split()) <= allowed:
            return ConsentRequiredError
        return None

    def unseal(self, token: str) -> tuple[dict[str, Any], Any] | None:
        """The sealed request and its grant, if it was made for this browser and still holds."""
        sealed = self.provider.keys.unseal(token)
        browser_id = self.browser_id()
        if sealed is None or browser_id is None or sealed["browser"] != fingerprint(browser_id):
            return None
        wire = Request("GET", MultiDict(sealed["request"]), issuer=self.provider.issuer)
        try:
            return sealed, self.server.get_consent_grant(wire)
        except OAuth2Error:  # the registration changed while the page was open
            return None

    def page(self) -> AnyResponse:
        """``GET /consent``: ask."""
        token = flask_request.args.get("request", "")
        unsealed = self.unseal(token)
        if unsealed is None:
            return self.expired()
        sealed, grant = unsealed
        return self.ask(token, grant, choose=sealed["choose"] or "switch" in flask_request.args)

    def ask(self, token: str, grant: Any, *, choose: bool, status: int = 200) -> AnyResponse:
        """The page itself."""
        client: Client = grant.request.client
        browser = self.signed_in(self.browser_id())
        html = render_template(
            "consent.html",
            client=client.metadata,
            host=urlsplit(grant.redirect_uri).netloc or grant.redirect_uri,
            scopes=[(scope, SCOPES[scope]) for scope in grant.request.scope.split()],
            personas=self.provider.options.personas,
            signed_in=self.provider.persona(browser.persona) if browser else None,
            choose=choose or browser is None,
            token=token,
        )
        return make_response(html, status)

    def confirm(self) -> AnyResponse:
        """``POST /oauth2/authorize/confirm``: the person's decision."""
        form = flask_request.form
        token = form.get("request", "")
        unsealed = self.unseal(token)
        browser_id = self.browser_id()
        if unsealed is None or browser_id is None:
            return self.expired()
        sealed, grant = unsealed
        if form.get("decision") != "allow":
            return self.finish(grant, None)
        browser = self.signed_in(browser_id)
        if "persona" in form:
            persona = self.provider.persona(form["persona"])
            if persona is None:
                return self.ask(token, grant, choose=True, status=400)
            browser = Browser(browser_id=browser_id, persona=persona.key, auth_time=time.time())
            with self.provider.store.change() as tables:
                tables.browsers[browser_id] = browser
        # Another tab may have signed out or switched accounts since the page was shown.
        elif browser is None or sealed["choose"] or browser.persona != form.get("signed_in_as"):
            return self.ask(token, grant, choose=sealed["choose"], status=400)
        self.provider.store.remember_consent(
            browser.persona, grant.request.client.client_id, grant.request.scope
        )
        return self.finish(grant, browser)

    def finish(self, grant: Any, browser: Browser | None) -> AnyResponse:
        """Back to the site, with a code or with ``access_denied``."""
        response: Response = self.server.create_authorization_response(
            grant.request, grant_user=browser, grant=grant
        )
        if flask_request.method == "POST":
            response.status_code = 303  # what was posted here is not posted there (RFC 9700 §4.12)
        return self.sent_back(response)

    def refuse(self, error: Any) -> AnyResponse:
        """Send the error to the site if its redirect URI is known, else show it here."""
        if error.redirect_uri:
            return self.sent_back(self.server.handle_error_response(None, error))
        return make_response(render_template("error.html", message=error.description, stranded=True), 400)

    def expired(self) -> AnyResponse:
        """A sealed request that is too old, or another browser's."""
        message = (
            "This sign-in was begun too long ago, or in another browser. Please start again at the site."
        )
        return make_response(render_template("error.html", message=message), 400)

    def sent_back(self, response: AnyResponse) -> AnyResponse:
        """Add ``iss`` to an authorization response, if this provider does that (RFC 9207 §2)."""
        if self.provider.options.send_iss:
            location = response.headers["Location"]
            joint = "&" if urlsplit(location).query else "?"
            response.headers["Location"] = f"{location}{joint}{urlencode({'iss': self.provider.issuer})}"
        return response


def fingerprint(browser_id: str) -> str:
    """
    A digest of the browser's id, for the sealed request, whose address may be seen by others.

    Binding the two is what keeps another site from posting a decision (and with it a persona) in this
    browser's name.
    """
    return hashlib.sha256(browser_id.encode()).hexdigest()
