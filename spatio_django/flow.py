"""
The walk through Spatio and back: begin a login, recall it, and complete it once.

Each step takes the request and gives values; views.py turns those into answers.
"""

import hashlib
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from django.core.exceptions import TooManyFieldsSent
from django.db import DatabaseError
from django.http import HttpRequest
from django.urls import reverse

from spatio_django import registration
from spatio_django.conf import conf
from spatio_django.exceptions import (
    InvalidToken,
    LoginNotFound,
    ProtocolViolation,
    ProviderRefused,
    ProviderUnavailable,
)
from spatio_django.links import Ask
from spatio_django.models import ConsumedState
from spatio_django.oidc import authorization
from spatio_django.oidc.responses import TokenResponse
from spatio_django.oidc.secret import Secret
from spatio_django.pending import LIFETIME, PendingLogin, cookie_name, flow_cookies
from spatio_django.provider import get_client

if TYPE_CHECKING:
    from spatio_django.oidc.client import Client

#: How a state's digest begins, in hexadecimal, whose callback clears expired ones away: one in sixteen.
CLEARING = "0"


@dataclass(frozen=True, slots=True, kw_only=True)
class CompletedLogin:
    """
    A sign-in that held: everything was verified.

    Attributes:
        claims: Userinfo's claims over the ID token's.
        id_token_claims: The verified ID token's, without the nonce, which has served.
        scopes: As granted.
    """

    issuer: str
    subject: str
    client_id: str
    claims: Mapping[str, Any] = field(repr=False)
    id_token_claims: Mapping[str, Any] = field(repr=False)
    tokens: TokenResponse
    scopes: tuple[str, ...]
    next_url: str | None


def redirect_uri_for(request: HttpRequest, registered: registration.Registration) -> str:
    """
    Choose the redirect URI for the host that *request* came to.

    ``SPATIO_BASE_URL`` fixes it. Otherwise the registered URI of that host, whose scheme is right even where
    a proxy speaks http to us; if there is none, the first registered. Only a client from the settings, whose
    redirect URIs nobody told us, makes it from the request.

    Raises:
        ConfigurationError: ``base_url``.
    """
    if conf.SPATIO_BASE_URL:
        return registration.redirect_uris([conf.SPATIO_BASE_URL])[0]
    if not registered.redirect_uris:
        return request.build_absolute_uri(reverse("spatio:callback"))
    here = [uri for uri in registered.redirect_uris if same_host(uri, request)]
    same_scheme = [uri for uri in here if urlsplit(uri).scheme == request.scheme]
    return (same_scheme or here or registered.redirect_uris)[0]


def same_host(url: str, request: HttpRequest) -> bool:
    """Tell whether *url* is on the host and port that *request* came to."""
    parts = urlsplit(url)
    default = {"http": ":80", "https": ":443"}.get(parts.scheme, "")
    return parts.netloc.lower().removesuffix(default) == request.get_host().lower().removesuffix(default)


def begin(
    registered: registration.Registration,
    *,
    redirect_uri: str,
    next_url: str | None,
    ask: Ask,
    extra: Mapping[str, str],
    connect_to: str | None = None,
) -> tuple[PendingLogin, str]:
    """
    Begin a login.

    Args:
        extra: Further parameters of the authorization request, from the site's code.
        connect_to: Whom to connect the account to, instead of signing somebody in; see
            :class:`~spatio_django.pending.PendingLogin`.

    Returns:
        The pending login, and the address at Spatio to send the browser to.

    Raises:
        SpatioError: The provider's metadata can't be had.

    OpenID Connect Core §3.1.2.1, RFC 7636 §4.3.
    """
    client = get_client()
    pending = PendingLogin(
        issuer=conf.SPATIO_ISSUER,
        client_id=registered.client_id,
        state=authorization.new_secret(),
        nonce=authorization.new_secret(),
        code_verifier=authorization.new_secret(),
        redirect_uri=redirect_uri,
        next_url=next_url,
        created=int(time.time()),
        ask=ask,
        connect_to=connect_to,
    )
    url = authorization.authorization_url(
        client.metadata(),
        client_id=registered.client_id,
        redirect_uri=redirect_uri,
        scopes=requested_scopes(ask),
        state=pending.state,
        nonce=pending.nonce,
        code_verifier=pending.code_verifier,
        prompt=ask.prompt,
        max_age=ask.max_age,
        extra=extra,
    )
    return pending, url


def requested_scopes(ask: Ask) -> tuple[str, ...]:
    """Give the scopes of the request that *ask* makes."""
    return tuple(dict.fromkeys((*conf.SPATIO_SCOPES, *ask.scopes)))


def recall(request: HttpRequest) -> tuple[PendingLogin, registration.Registration]:
    """
    Find the pending login that this callback belongs to, and the client that began it.

    Raises:
        LoginNotFound: ``state_missing``, ``state_repeated``, or ``state`` when this browser began no such
            login here, or too long ago.
        ConfigurationError: This site is not registered any more.
    """
    try:
        params = dict(request.GET.lists())
    except TooManyFieldsSent:
        params = {}
    state = authorization.callback_state(params)
    digest = hashlib.sha256(state.encode("utf-8", "replace")).hexdigest()
    cookies = flow_cookies(request)
    for secure in (True, False):
        name = cookie_name(digest, secure=secure)
        pending = PendingLogin.opened(name, cookies[name]) if name in cookies else None
        # The name holds only a part of a digest; the state itself is compared too, in constant time.
        if pending is None or pending.state != Secret(state) or pending.issuer != conf.SPATIO_ISSUER:
            continue
        registered = registration.of_client(pending.client_id)
        # Begun for this very address: a login begun at a host without https must not end at one with it, or
        # its cookie, which any subdomain may set, would be as good as one with the prefix.
        if registered and pending.redirect_uri != redirect_uri_for(request, registered):
            registered = registration.renewed(registered)  # by another process, a moment ago
        if registered and pending.redirect_uri == redirect_uri_for(request, registered):
            return pending, registered
    raise LoginNotFound("No login of this browser is waiting for this callback.", code="state")


def complete(
    request: HttpRequest, pending: PendingLogin, registered: registration.Registration
) -> CompletedLogin:
    """
    Judge the callback and, if it holds, redeem its code: once.

    Raises:
        SpatioError: Nothing was changed, but that the state is used up unless Spatio or this site could not
            even begin.

    OpenID Connect Core §3.1.2.5 to §3.1.3.7, §5.3.2; RFC 9207 §2.4.
    """
    if pending.done:
        raise LoginNotFound("This callback was used before.", code="state_used")
    client = get_client()
    try:
        return completed(request, pending, registered, client)
    except InvalidToken:
        raise
    except (ProviderUnavailable, ProtocolViolation):
        client.doubt_metadata()
        raise


def completed(
    request: HttpRequest, pending: PendingLogin, registered: registration.Registration, client: "Client"
) -> CompletedLogin:
    """Take the steps of :func:`complete`."""
    metadata = client.metadata()
    if not ConsumedState.consume(pending.digest, lifetime=LIFETIME + 60):
        raise LoginNotFound("This callback was used before.", code="state_used")
    if pending.digest.startswith(CLEARING):
        with suppress(DatabaseError):  # housekeeping: not worth a sign-in
            ConsumedState.forget_expired()
    code = authorization.read_callback(
        dict(request.GET.lists()),
        state=pending.state,
        issuer=pending.issuer,
        iss_required=metadata.authorization_response_iss_parameter_supported,
    )
    tokens = redeem(client, code, pending, registered)
    id_token_claims = client.verify_id_token(
        tokens.id_token,
        client_id=registered.client_id,
        nonce=pending.nonce,
        access_token=tokens.access_token,
        max_age=pending.ask.max_age,
    )
    del id_token_claims["nonce"]
    subject: str = id_token_claims["sub"]
    # RFC 6749 §5.1: an answer without scope grants what was asked for.
    scopes = requested_scopes(pending.ask) if tokens.scope is None else tokens.scope
    missing = set(pending.ask.scopes) - set(scopes)
    if missing:
        # Said here, once: the page that asked for them would ask again, in circles.
        raise ProviderRefused(
            "Spatio did not grant a scope that the page needs.",
            code="scope_not_granted",
            scopes=sorted(missing),
        )
    claims = dict(id_token_claims)
    if metadata.userinfo_endpoint and needs_userinfo(claims, scopes):
        claims = merged(claims, client.userinfo(tokens.access_token, subject=subject))
    return CompletedLogin(
        issuer=pending.issuer,
        subject=subject,
        client_id=registered.client_id,
        claims=claims,
        id_token_claims=id_token_claims,
        tokens=tokens,
        scopes=tuple(scopes),
        next_url=pending.next_url,
    )


def redeem(
    client: "Client", code: Secret, pending: PendingLogin, registered: registration.Registration
) -> TokenResponse:
    """
    Exchange the code of *pending* for tokens.

    A second time only if Spatio does not take the credentials, which another process has renewed since this
    one read them: a client that failed to authenticate has not used the code up.

    Raises:
        SpatioError: As :meth:`~spatio_django.oidc.client.Client.exchange_code`.

    RFC 6749 §4.1.3 and §5.2.
    """
    exchange = partial(
        client.exchange_code,
        code=code,
        redirect_uri=pending.redirect_uri,
        code_verifier=pending.code_verifier,
    )
    try:
        return exchange(registered.credentials)
    except ProviderRefused as error:
        renewed = registration.renewed(registered) if error.code == "invalid_client" else None
        if renewed is None:
            raise
    return exchange(renewed.credentials)


def merged(id_token_claims: Mapping[str, Any], userinfo: Mapping[str, Any]) -> dict[str, Any]:
    """Put userinfo's claims over the ID token's. What one says of an address, it says of its own address."""
    speaker = userinfo if "email" in userinfo else id_token_claims
    claims = {**id_token_claims, **userinfo}
    if "email_verified" in speaker:
        claims["email_verified"] = speaker["email_verified"]
    else:
        claims.pop("email_verified", None)
    return claims


#: Any one of them tells what to call the person.
NAME_CLAIMS = frozenset({"name", "given_name", "family_name", "preferred_username"})


def needs_userinfo(claims: Mapping[str, Any], scopes: Iterable[str]) -> bool:
    """Tell whether the ID token lacks what the granted scopes give, so that userinfo is worth a call."""
    granted = set(scopes)
    return ("email" in granted and "email" not in claims) or (
        "profile" in granted and NAME_CLAIMS.isdisjoint(claims)
    )
