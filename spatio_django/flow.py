"""
A pending login: begun, remembered in one cookie, and completed once.

The cookie, not the session: an anonymous click writes no database row, two tabs can't overwrite each other,
and the flow works with every session engine and with ``SESSION_COOKIE_SAMESITE = "Strict"``.
"""

import hashlib
import json
import posixpath
import re
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import unquote, urlsplit

from django.conf import global_settings, settings
from django.core import signing
from django.core.exceptions import TooManyFieldsSent
from django.db import DatabaseError
from django.http import HttpRequest, HttpResponse
from django.shortcuts import resolve_url
from django.urls import Resolver404, resolve, reverse
from django.utils.http import url_has_allowed_host_and_scheme, urlencode

from spatio_django import registration
from spatio_django.conf import conf
from spatio_django.encryption import key_ring
from spatio_django.exceptions import LoginNotFound, ProviderRefused, Undecryptable
from spatio_django.models import ConsumedState
from spatio_django.oidc import authorization
from spatio_django.oidc.responses import TokenResponse
from spatio_django.oidc.secret import Secret
from spatio_django.provider import get_client

#: Seconds a pending login lives: long enough to find a password, short enough to be of no use later.
LIFETIME = 600
#: Pending logins kept per browser, and the bytes of their cookies together: web servers cap headers at 8 KB.
MAX_FLOWS = 8
MAX_COOKIE_BYTES = 4096
#: Expired states that one callback clears away: more than it adds, so that the table stays small.
CLEARED_PER_CALLBACK = 10
MAX_NEXT = 2048
#: Names the layout of what is sealed, so that an older release's cookie is not misread.
COOKIE_CONTEXT = "flow.1:"
ASK_SALT = "spatio_django.ask"
SIGNED_OUT_COOKIE = "spatio_signed_out"
#: Seconds after a sign-out for which the next sign-in of that browser asks who it is.
SIGNED_OUT_LIFETIME = 14 * 24 * 3600

_NEXT = re.compile(r"/(?![/\\])[\x21-\x5b\x5d-\x7e]*")
_NAME = re.compile(r"(?:__Host-)?spatio_flow_[0-9a-f]{16}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """
    What a sign-in asks for beyond the ordinary. It comes from the site's code, never from the query string.

    Attributes:
        scopes: Beyond ``SPATIO_SCOPES``. If Spatio doesn't grant them, the sign-in fails and says so.
        prompt: ``none``, ``login`` or ``consent`` (OpenID Connect Core §3.1.2.1).
        max_age: Seconds since the person last proved their identity at Spatio; checked in ``auth_time``.
        explicit: Someone means this sign-in: a person clicked, or the site demands it. Otherwise Django sent
            the browser here because a page is not for everyone.
    """

    scopes: tuple[str, ...] = ()
    prompt: str | None = None
    max_age: int | None = None
    explicit: bool = False

    def login_url(self, next_url: str | None) -> str:
        """Give the path that begins a sign-in asking for this."""
        return login_url(next_url, scopes=self.scopes, prompt=self.prompt, max_age=self.max_age)

    def with_parameters(self, extra: dict[str, str]) -> "Ask":
        """Take ``prompt`` and ``max_age`` out of *extra*, where mozilla-django-oidc's users put them."""
        ask = self
        if "prompt" in extra:
            ask = replace(ask, prompt=extra.pop("prompt"))
        if "max_age" in extra:
            ask = replace(ask, max_age=int(extra.pop("max_age")))
        return ask


@dataclass(frozen=True, slots=True, kw_only=True)
class PendingLogin:
    """
    One login on its way through Spatio.

    Attributes:
        created: Seconds since the epoch.
        done: The callback came. What is left of the flow leads a replayed callback to its page.
    """

    issuer: str
    state: Secret
    nonce: Secret
    code_verifier: Secret
    redirect_uri: str
    next_url: str | None
    created: int
    ask: Ask = field(default_factory=Ask)
    done: bool = False

    @property
    def secure(self) -> bool:
        """Whether the browser is on https; the registered URI knows, whatever a proxy says."""
        return self.redirect_uri.startswith("https:")

    @property
    def digest(self) -> str:
        """What names this flow where its state must not be read: the cookie's name, the consumed states."""
        return hashlib.sha256(self.state.reveal().encode()).hexdigest()

    @property
    def cookie(self) -> str:
        """Name of its cookie."""
        return cookie_name(self.digest, secure=self.secure)

    def sealed(self) -> str:
        """Encrypt it for its cookie."""
        parts = [
            self.issuer,
            self.state.reveal(),
            self.nonce.reveal(),
            self.code_verifier.reveal(),
            self.redirect_uri,
            self.next_url,
            self.created,
            [self.ask.scopes, self.ask.prompt, self.ask.max_age],
            self.done,
        ]
        return key_ring().seal(
            Secret(json.dumps(parts, separators=(",", ":"))), context=COOKIE_CONTEXT + self.cookie
        )

    @classmethod
    def opened(cls, name: str, value: str) -> "PendingLogin | None":
        """Read what :meth:`sealed` gave, or ``None`` if it isn't ours, isn't this cookie's, or is too old."""
        try:
            text = key_ring().open(value, context=COOKIE_CONTEXT + name).reveal()
        except Undecryptable:
            return None
        issuer, state, nonce, verifier, redirect_uri, next_url, created, (scopes, prompt, max_age), done = (
            json.loads(text)
        )
        if not -60 <= time.time() - created < LIFETIME:
            return None
        return cls(
            issuer=issuer,
            state=Secret(state),
            nonce=Secret(nonce),
            code_verifier=Secret(verifier),
            redirect_uri=redirect_uri,
            next_url=next_url,
            created=created,
            ask=Ask(scopes=tuple(scopes), prompt=prompt, max_age=max_age),
            done=done,
        )


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


def cookie_name(digest: str, *, secure: bool) -> str:
    """
    Name the cookie of the flow whose state has that digest.

    ``__Host-`` makes browsers refuse it from a sibling subdomain, which could otherwise plant its own
    pending login (login CSRF).
    """
    return f"{'__Host-' if secure else ''}spatio_flow_{digest[:16]}"


def safe_next(request: HttpRequest, value: str | None) -> str | None:
    """
    Give *value* if it is a page of this site to go to after signing in or out, else ``None``.

    Stricter than Django's own check, which accepts what a careless proxy or an extra decoding step turns
    into another site: a path from the root, printable ASCII without backslash, and none of our own pages,
    which would lead in circles.
    """
    if (
        not value
        or len(value) > MAX_NEXT
        or not _NEXT.fullmatch(value)
        or not url_has_allowed_host_and_scheme(value, {request.get_host()})
    ):
        return None
    own = {posixpath.normpath(reverse(f"spatio:{name}")) for name in ("login", "callback", "logout")}
    # Compared as the URLconf will see it; the value itself is never decoded again.
    return None if posixpath.normpath(unquote(urlsplit(value).path)) in own else value


def landing_page() -> str | None:
    """
    Give ``LOGIN_REDIRECT_URL`` as an address.

    ``None`` if it is still Django's default and the site has no such page: a first sign-in must not end in a
    404 because a setting was not thought of.
    """
    url = resolve_url(settings.LOGIN_REDIRECT_URL)
    if settings.LOGIN_REDIRECT_URL == global_settings.LOGIN_REDIRECT_URL:
        try:
            resolve(url)
        except Resolver404:
            return None
    return url


def login_url(
    next_url: str | None = None,
    *,
    scopes: Iterable[str] = (),
    prompt: str | None = None,
    max_age: int | None = None,
) -> str:
    """
    Give the path that begins a sign-in, to link or redirect to.

    What is asked for travels signed, so that nobody can add to it in the address bar.

    Args:
        next_url: The page to land on; checked when it is used.
        scopes: Scopes beyond ``SPATIO_SCOPES``.
        prompt: ``login`` or ``consent``; ``none`` signs in only if no page needs to be shown.
        max_age: Seconds since the last active sign-in at Spatio that are still good enough.
    """
    query = {}
    if next_url:
        query = {"next": next_url, "explicit": "1"}
    if scopes or prompt or max_age is not None:
        query["ask"] = signing.dumps([sorted(scopes), prompt, max_age], salt=ASK_SALT)
    return reverse("spatio:login") + (f"?{urlencode(query)}" if query else "")


def asked(request: HttpRequest) -> Ask:
    """Read what :func:`login_url` said; what it did not sign asks for nothing."""
    try:
        scopes, prompt, max_age = signing.loads(request.GET.get("ask", ""), salt=ASK_SALT)
    except signing.BadSignature:
        return Ask(explicit="explicit" in request.GET)
    return Ask(scopes=tuple(scopes), prompt=prompt, max_age=max_age, explicit=True)


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
) -> tuple[PendingLogin, str]:
    """
    Begin a login.

    Args:
        extra: Further parameters of the authorization request, from the site's code.

    Returns:
        The pending login, and the address at Spatio to send the browser to.

    Raises:
        SpatioError: The provider's metadata can't be had.

    OpenID Connect Core §3.1.2.1, RFC 7636 §4.3.
    """
    client = get_client()
    pending = PendingLogin(
        issuer=conf.SPATIO_ISSUER,
        state=authorization.new_secret(),
        nonce=authorization.new_secret(),
        code_verifier=authorization.new_secret(),
        redirect_uri=redirect_uri,
        next_url=next_url,
        created=int(time.time()),
        ask=ask,
    )
    if len(pending.cookie) + len(pending.sealed()) > MAX_COOKIE_BYTES:
        # Browsers would not keep it. Better to land on the usual page than nowhere.
        pending = replace(pending, next_url=None)
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


def remember(request: HttpRequest, response: HttpResponse, pending: PendingLogin) -> None:
    """Put *pending* into its cookie; the oldest flows make room, and cookies that are not ours go."""
    value = pending.sealed()
    response.set_cookie(
        pending.cookie,
        value,
        max_age=max(1, pending.created + LIFETIME - int(time.time())),
        secure=pending.secure,
        httponly=True,
        samesite="Lax",
    )
    others = {
        name: (PendingLogin.opened(name, text), len(name) + len(text))
        for name, text in flow_cookies(request).items()
        if name != pending.cookie
    }
    room, places = MAX_COOKIE_BYTES - len(pending.cookie) - len(value), MAX_FLOWS - 1
    doomed = []
    for name, (other, size) in sorted(
        others.items(), key=lambda item: item[1][0].created if item[1][0] else 0, reverse=True
    ):
        room, places = room - size, places - 1
        if other is None or room < 0 or places < 0:
            doomed.append(name)
    for name in doomed[:MAX_FLOWS]:  # the rest of what somebody planted goes with the next logins
        response.delete_cookie(name, samesite="Lax")


def flow_cookies(request: HttpRequest) -> dict[str, str]:
    """
    Give the cookies of pending logins, by the names that the browser knows them under.

    Not from ``request.COOKIES``: Django trims Unicode white space off names there. A sibling subdomain may
    not set ``__Host-…``, but a browser lets it set the same with such a space before it.
    """
    found: dict[str, str] = {}
    for part in request.META.get("HTTP_COOKIE", "").split(";"):
        name, _, value = part.strip(" \t").partition("=")
        if _NAME.fullmatch(name):
            found.setdefault(name, value)
    return found


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
        registered = registration.current()
        # Begun for this very address: a login begun at a host without https must not end at one with it, or
        # its cookie, which any subdomain may set, would be as good as one with the prefix.
        if pending.redirect_uri == redirect_uri_for(request, registered):
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
    metadata = client.metadata()
    if not ConsumedState.consume(pending.digest, lifetime=LIFETIME + 60):
        raise LoginNotFound("This callback was used before.", code="state_used")
    with suppress(DatabaseError):  # housekeeping: not worth a sign-in
        ConsumedState.forget_expired(most=CLEARED_PER_CALLBACK)
    code = authorization.read_callback(
        dict(request.GET.lists()),
        state=pending.state,
        issuer=pending.issuer,
        iss_required=metadata.authorization_response_iss_parameter_supported,
    )
    tokens = client.exchange_code(
        registered.credentials,
        code=code,
        redirect_uri=pending.redirect_uri,
        code_verifier=pending.code_verifier,
    )
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


def merged(id_token_claims: Mapping[str, Any], userinfo: Mapping[str, Any]) -> dict[str, Any]:
    """Put userinfo's claims over the ID token's. What one says of an address, it says of its own address."""
    source = userinfo if "email" in userinfo else id_token_claims
    claims = {**id_token_claims, **userinfo}
    claims.pop("email_verified", None)
    return claims | {name: source[name] for name in ("email_verified",) if name in source}


#: Any one of them tells what to call the person.
NAME_CLAIMS = frozenset({"name", "given_name", "family_name", "preferred_username"})


def needs_userinfo(claims: Mapping[str, Any], scopes: Iterable[str]) -> bool:
    """Tell whether the ID token lacks what the granted scopes give, so that userinfo is worth a call."""
    granted = set(scopes)
    return ("email" in granted and "email" not in claims) or (
        "profile" in granted and NAME_CLAIMS.isdisjoint(claims)
    )


def used_up(pending: PendingLogin) -> PendingLogin:
    """Give what is kept of a flow whose callback came: where it led, and nothing that could be redeemed."""
    nothing = Secret("")
    return replace(pending, nonce=nothing, code_verifier=nothing, done=True)
