"""A relying party in a few lines, and the contract as JSON Schema. Uses nothing of the site's side."""

import base64
import hashlib
import json
import secrets
import urllib.request
from dataclasses import dataclass
from http.client import HTTPMessage
from http.cookiejar import CookieJar
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import yaml
from joserfc import jwt
from joserfc.jwk import KeySet
from openapi_schema_validator import OAS30Validator

from spatio_django.testing import FakeSpatio
from spatio_django.testing.browser import open_browser

CALLBACK = "http://site.example/spatio/callback/"
DOCUMENT = yaml.safe_load((Path(__file__).parent.parent / "spatio-openapi.yaml").read_text())


@dataclass(frozen=True)
class Answer:
    """What came back."""

    status: int
    headers: HTTPMessage
    text: str

    @property
    def json(self) -> Any:
        """The body as JSON, of the type that says so."""
        assert self.headers.get_content_type() == "application/json"
        return json.loads(self.text)

    @property
    def error(self) -> str:
        """The error code, of an answer that keeps to the contract's schema for errors."""
        conforms("OAuthError", self.json)
        return str(self.json["error"])


def conforms(schema: str, document: object) -> None:
    """Fail unless *document* keeps to the contract's schema of that name, and has no other members."""
    root = {"$ref": f"#/components/schemas/{schema}", "components": DOCUMENT["components"]}
    errors = [error.message for error in OAS30Validator(root).iter_errors(document)]
    assert not errors
    assert isinstance(document, dict)
    assert set(document) <= set(DOCUMENT["components"]["schemas"][schema]["properties"])


def fetch(
    url: str,
    *,
    form: dict[str, str] | list[tuple[str, str]] | None = None,
    body: object = None,
    method: str | None = None,
    headers: dict[str, str] | None = None,
    jar: CookieJar | None = None,
) -> Answer:
    """Make one HTTP request; redirects are answers."""
    data, headers = None, dict(headers or {})
    if form is not None:
        data = urlencode(form).encode()
    elif body is not None:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        headers.setdefault("Content-Type", "application/json")
    opener = open_browser(CookieJar() if jar is None else jar)
    request = urllib.request.Request(url, data, headers, method=method)  # noqa: S310
    with opener.open(request, timeout=10) as answer:
        return Answer(answer.status, answer.headers, answer.read().decode())


def query_of(url: str | None) -> dict[str, str]:
    """The query of an address, one value per name."""
    return {name: value for name, (value,) in parse_qs(urlsplit(url or "").query).items()}


class RelyingParty:
    """A client at the provider, that can do each step of a sign-in well; tests change one thing."""

    def __init__(self, spatio: FakeSpatio, **registration: Any) -> None:
        self.spatio = spatio
        self.registration = spatio.register([CALLBACK], **registration)
        self.client_id = self.registration["client_id"]
        self.verifier = secrets.token_urlsafe(32)

    def url(self, path: str) -> str:
        """An address at the provider."""
        return self.spatio.issuer + path

    def authorization_url(self, **changes: str | None) -> str:
        """Where the browser is sent; ``None`` leaves a parameter out."""
        digest = hashlib.sha256(self.verifier.encode()).digest()
        parameters: dict[str, str | None] = {
            "response_type": "code",
            "client_id": self.client_id,
            "redirect_uri": CALLBACK,
            "scope": "openid profile email",
            "state": "a state",
            "nonce": "a nonce",
            "code_challenge": base64.urlsafe_b64encode(digest).rstrip(b"=").decode(),
            "code_challenge_method": "S256",
        }
        return self.url("/oauth2/authorize?") + urlencode(
            {name: value for name, value in (parameters | changes).items() if value is not None}
        )

    def authorize(self, *, persona: str = "ada", jar: CookieJar | None = None, **changes: str | None) -> str:
        """Sign in at the provider; the code."""
        callback = self.spatio.sign_in(self.authorization_url(**changes), persona=persona, session=jar)
        assert callback.startswith(CALLBACK + "?")
        return query_of(callback)["code"]

    def refused(self, *, jar: CookieJar | None = None, **changes: Any) -> dict[str, str]:
        """What the site is told when the provider says no at once."""
        answer = fetch(self.authorization_url(**changes), jar=jar)
        assert answer.status == 302
        assert (answer.headers["Location"] or "").startswith(CALLBACK + "?")
        return query_of(answer.headers["Location"])

    def basic(self, client_id: str | None = None, client_secret: str | None = None) -> dict[str, str]:
        """The Authorization header of the client, or of another."""
        pair = f"{client_id or self.client_id}:{client_secret or self.registration.get('client_secret')}"
        return {"Authorization": "Basic " + base64.b64encode(pair.encode()).decode()}

    def token(self, headers: dict[str, str] | None = None, **form: str | None) -> Answer:
        """Ask the token endpoint, as a ``client_secret_basic`` client unless told otherwise."""
        parameters = {name: value for name, value in form.items() if value is not None}
        headers = self.basic() if headers is None else headers
        return fetch(self.url("/oauth2/token"), form=parameters, headers=headers)

    def exchange(self, issued: str, /, **changes: Any) -> Answer:
        """Exchange a code."""
        form = {
            "grant_type": "authorization_code",
            "code": issued,
            "redirect_uri": CALLBACK,
            "code_verifier": self.verifier,
        }
        return self.token(**(form | changes))

    def refresh(self, refresh_token: str, /, **changes: Any) -> Answer:
        """Exchange a refresh token."""
        return self.token(**({"grant_type": "refresh_token", "refresh_token": refresh_token} | changes))

    def sign_in(self, **options: Any) -> dict[str, Any]:
        """The whole walk; the token response."""
        answer = self.exchange(self.authorize(**options))
        assert answer.status == 200, answer.text
        tokens: dict[str, Any] = answer.json
        return tokens

    def claims(self, id_token: str) -> dict[str, Any]:
        """The claims of an ID token whose signature holds."""
        keys = KeySet.import_key_set(fetch(self.url("/.well-known/jwks.json")).json)
        return jwt.decode(id_token, keys, algorithms=["RS256"]).claims

    def introspect(self, token: str) -> Any:
        """What the provider says about a token."""
        answer = fetch(self.url("/oauth2/introspect"), form={"token": token})
        assert answer.status == 200
        conforms("IntrospectionResponse", answer.json)
        return answer.json

    def revoke(self, token: str) -> Answer:
        """Revoke a token."""
        return fetch(self.url("/oauth2/revoke"), form={"token": token})

    def userinfo(self, token: str) -> Answer:
        """Ask who the token is about."""
        return fetch(self.url("/oauth2/userinfo"), headers={"Authorization": f"Bearer {token}"})
