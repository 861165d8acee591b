"""
A sign-in written by hand, with no more than it takes: what the others are compared with.

State, nonce and PKCE in a signed cookie; the code exchanged over a connection that is kept; the ID token's
signature and claims checked; the user read, signed in, and the session written. Userinfo is asked if the ID
token does not tell who the person is. It keeps no tokens and no claims, knows one kind of key, takes the
provider at its word, and nobody should use it.
"""

import base64
import hashlib
import hmac
import http.client
import json
import secrets
import ssl
import time
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

import certifi
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from django.conf import settings
from django.contrib import auth
from django.contrib.auth.models import User
from django.core import signing
from django.http import HttpRequest, HttpResponse, HttpResponseForbidden, HttpResponseRedirect
from django.middleware.csrf import rotate_token
from django.urls import path

from benchmarks import people
from benchmarks.sites.catalogue import DJANGOS_BACKEND, HOST

COOKIE = "pending"
REDIRECT_URI = f"https://{HOST}/callback/"
BASIC = base64.b64encode(f"{quote(people.CLIENT_ID)}:{quote(people.CLIENT_SECRET)}".encode()).decode()


def decode(text: str) -> bytes:
    """Undo base64url without padding."""
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


class Provider:
    """One kept connection, and what the provider said about itself; for one thread."""

    def __init__(self, issuer: str) -> None:
        parts = urlsplit(issuer)
        host, port = parts.hostname or "", parts.port
        self.issuer = issuer
        self._connection = (
            http.client.HTTPSConnection(
                host, port, context=ssl.create_default_context(cafile=certifi.where())
            )
            if parts.scheme == "https"
            else http.client.HTTPConnection(host, port)
        )
        self.metadata = self.call("GET", f"{issuer}/.well-known/openid-configuration")
        self.keys = {
            key["kid"]: rsa.RSAPublicNumbers(
                e=int.from_bytes(decode(key["e"])), n=int.from_bytes(decode(key["n"]))
            ).public_key()
            for key in self.call("GET", self.metadata["jwks_uri"])["keys"]
        }

    def call(
        self, method: str, url: str, *, body: str | None = None, headers: dict[str, str] | None = None
    ) -> dict[str, Any]:
        """Give the JSON object that *url* answers with."""
        self._connection.request(method, urlsplit(url).path, body, headers or {})
        answer = self._connection.getresponse()
        document: dict[str, Any] = json.loads(answer.read())
        if answer.status != 200:
            raise RuntimeError(f"{url} answered {answer.status}: {document}")
        return document

    def verified(self, id_token: str, *, nonce: str) -> dict[str, Any]:
        """Give the claims of an ID token that holds."""
        signed, _, signature = id_token.rpartition(".")
        header, _, payload = signed.partition(".")
        fields = json.loads(decode(header))
        if fields["alg"] != "RS256":
            raise ValueError("alg")
        self.keys[fields["kid"]].verify(
            decode(signature), signed.encode(), padding.PKCS1v15(), hashes.SHA256()
        )
        claims: dict[str, Any] = json.loads(decode(payload))
        if (
            claims["iss"] != self.issuer
            or claims["aud"] != people.CLIENT_ID
            or claims["exp"] <= time.time()
            or not hmac.compare_digest(claims["nonce"], nonce)
        ):
            raise ValueError("claims")
        return claims


_known: list[Provider] = []


def provider() -> Provider:
    """Give the provider, asked about itself once."""
    if not _known:
        _known.append(Provider(settings.ISSUER))  # type: ignore[misc]  # ours
    return _known[0]


def login(request: HttpRequest) -> HttpResponse:
    """Send the browser to the provider."""
    state, nonce, verifier = (secrets.token_urlsafe(32) for _ in range(3))
    challenge = base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=").decode()
    query = urlencode(
        {
            "response_type": "code",
            "client_id": people.CLIENT_ID,
            "redirect_uri": REDIRECT_URI,
            "scope": " ".join(people.SCOPES),
            "state": state,
            "nonce": nonce,
            "code_challenge": challenge,
            "code_challenge_method": "S256",
        }
    )
    response = HttpResponseRedirect(f"{provider().metadata['authorization_endpoint']}?{query}")
    value = signing.dumps([state, nonce, verifier], salt=COOKIE)
    response.set_cookie(COOKIE, value, max_age=600, secure=True, httponly=True, samesite="Lax")
    return response


def callback(request: HttpRequest) -> HttpResponse:
    """Sign the person in."""
    state, nonce, verifier = signing.loads(request.COOKIES[COOKIE], salt=COOKIE, max_age=600)
    if not hmac.compare_digest(request.GET["state"], state):
        return HttpResponseForbidden()
    form = {
        "grant_type": "authorization_code",
        "code": request.GET["code"],
        "redirect_uri": REDIRECT_URI,
        "code_verifier": verifier,
    }
    headers = {"Authorization": f"Basic {BASIC}", "Content-Type": "application/x-www-form-urlencoded"}
    issuer = provider()
    tokens = issuer.call("POST", issuer.metadata["token_endpoint"], body=urlencode(form), headers=headers)
    claims = issuer.verified(tokens["id_token"], nonce=nonce)
    if "email" not in claims:
        bearer = {"Authorization": f"Bearer {tokens['access_token']}"}
        info = issuer.call("GET", issuer.metadata["userinfo_endpoint"], headers=bearer)
        if info["sub"] != claims["sub"]:
            return HttpResponseForbidden()
    sign_in(request, User.objects.get(username=claims["sub"]))
    response = HttpResponseRedirect(settings.LOGIN_REDIRECT_URL)
    response.delete_cookie(COOKIE)
    return response


def sign_in(request: HttpRequest, user: User) -> None:
    """
    Do what ``auth.login`` does, with one write of the session instead of two.

    That one writes an empty session first, for its key. Here a session that was there is thrown away, and the
    new one written once, by the middleware.
    """
    if request.session.session_key is not None:
        request.session.flush()
    request.session[auth.SESSION_KEY] = str(user.pk)
    request.session[auth.BACKEND_SESSION_KEY] = DJANGOS_BACKEND
    request.session[auth.HASH_SESSION_KEY] = user.get_session_auth_hash()
    request.user = user
    rotate_token(request)
    auth.user_logged_in.send(sender=User, request=request, user=user)


urlpatterns = [path("login/", login), path("callback/", callback)]
