"""The authorization request, and what the browser brings back. RFC 6749 §4.1, OpenID Connect Core §3.1.2."""

import base64
import hashlib
import re
import secrets
from collections.abc import Mapping, Sequence
from urllib.parse import parse_qsl, quote, urlencode

from spatio_django.exceptions import ConfigurationError, LoginNotFound, ProtocolViolation
from spatio_django.oidc.discovery import ProviderMetadata
from spatio_django.oidc.refusal import refusal
from spatio_django.oidc.secret import Secret

#: Characters of an authorization code. Real ones have 20 to 1,000.
MAX_CODE = 4096

#: Parameters that only this module sets. The last four would move the request elsewhere or change its answer.
RESERVED = frozenset(
    {
        "response_type",
        "client_id",
        "redirect_uri",
        "scope",
        "state",
        "nonce",
        "code_challenge",
        "code_challenge_method",
        "prompt",
        "max_age",
        "request",
        "request_uri",
        "response_mode",
        "registration",
    }
)

#: What the name of a scope is made of.
SCOPE_NAME = re.compile(r"[\x21\x23-\x5b\x5d-\x7e]+")  # RFC 6749 §3.3
_CODE = re.compile(r"[\x20-\x7e]+")  # RFC 6749 §A.11


def new_secret() -> Secret:
    """Return 256 random bits as 43 URL-safe characters: a state, nonce or PKCE verifier (RFC 7636 §4.1)."""
    return Secret(secrets.token_urlsafe(32))


def code_challenge(verifier: Secret) -> str:
    """Return the S256 challenge of *verifier*. RFC 7636 §4.2."""
    digest = hashlib.sha256(verifier.reveal().encode("ascii")).digest()
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode("ascii")


def authorization_url(
    metadata: ProviderMetadata,
    *,
    client_id: str,
    redirect_uri: str,
    scopes: Sequence[str],
    state: Secret,
    nonce: Secret,
    code_verifier: Secret,
    prompt: str | None = None,
    max_age: int | None = None,
    extra: Mapping[str, str] | None = None,
) -> str:
    """
    Return the URL that begins a login in the browser. It holds state and nonce: not for logs.

    Args:
        metadata: Names the endpoint. A query that this already has is kept.
        client_id: As registered.
        redirect_uri: As registered, character by character.
        scopes: ``openid`` among them.
        state: From :func:`new_secret`, like the next two; none of them used twice.
        nonce: Comes back inside the ID token.
        code_verifier: Stays here until the code is exchanged; only its hash is sent.
        prompt: ``none``, ``login`` or ``consent``.
        max_age: Seconds since the person last authenticated at the provider; 0 means "now".
        extra: More parameters.

    Raises:
        ConfigurationError: ``scope``, or ``reserved_parameter`` for an extra that this module sets itself.
        ProtocolViolation: ``reserved_parameter``, if the endpoint's own query has one.

    OpenID Connect Core 1.0 §3.1.2.1, RFC 6749 §3.1, RFC 7636 §4.3.
    """
    if "openid" not in scopes or not all(SCOPE_NAME.fullmatch(scope) for scope in scopes):
        raise ConfigurationError("Scopes must be names, and openid one of them.", code="scope")
    for name in extra or ():
        if name in RESERVED:
            raise ConfigurationError(
                f"{name} is not set this way.", code="reserved_parameter", parameter=name
            )
    address, _, query = metadata.authorization_endpoint.partition("?")
    for name, _ in parse_qsl(query, keep_blank_values=True):
        if name in RESERVED:
            raise ProtocolViolation(
                f"The authorization endpoint itself sets {name}.", code="reserved_parameter", parameter=name
            )

    parameters = {
        **(extra or {}),
        "response_type": "code",
        "client_id": client_id,
        "redirect_uri": redirect_uri,
        "scope": " ".join(scopes),
        "state": state.reveal(),
        "nonce": nonce.reveal(),
        "code_challenge": code_challenge(code_verifier),
        "code_challenge_method": "S256",
    }
    if prompt is not None:
        parameters["prompt"] = prompt
    if max_age is not None:
        parameters["max_age"] = str(max_age)
    return f"{address}?" + "&".join(filter(None, (query.rstrip("&"), urlencode(parameters, quote_via=quote))))


def callback_state(params: Mapping[str, Sequence[str]]) -> str:
    """
    Return the callback's one ``state``, by which the pending login is found. It proves nothing yet.

    Raises:
        LoginNotFound: ``state_missing`` or ``state_repeated``.
    """
    values = params.get("state", ())
    if len(values) > 1:
        raise LoginNotFound("The callback has more than one state.", code="state_repeated")
    if not values or not values[0]:
        raise LoginNotFound("The callback has no state.", code="state_missing")
    return values[0]


def read_callback(
    params: Mapping[str, Sequence[str]], *, state: Secret, issuer: str, iss_required: bool
) -> Secret:
    """
    Return the authorization code that the callback brings for this login.

    Args:
        params: The query's parameters, each with all its values.
        state: Of the pending login.
        issuer: Where that login was begun.
        iss_required: Whether the provider's metadata promise an ``iss`` parameter.

    Raises:
        LoginNotFound: ``state``, ``state_missing`` or ``state_repeated``.
        ProtocolViolation: ``iss`` or ``code``.
        ProviderRefused: The ``error`` it brings instead.

    OpenID Connect Core 1.0 §3.1.2.5-6, RFC 6749 §4.1.2, RFC 9207 §2.4.
    """
    # First of all: an attacker can forge an error response too, and it must not end another person's login.
    if Secret(callback_state(params)) != state:
        raise LoginNotFound("The state is not this login's.", code="state")

    # Before error and code: both are meaningless from another issuer (mix-up).
    issuers = params.get("iss", ())
    if any(value != issuer for value in issuers) or len(issuers) > 1 or (iss_required and not issuers):
        raise ProtocolViolation("The answer is not this issuer's.", code="iss")

    errors = [value for value in params.get("error", ()) if value]
    if errors:
        descriptions = params.get("error_description", ())
        raise refusal(errors[0] if len(errors) == 1 else None, descriptions[0] if descriptions else None)

    codes = params.get("code", ())
    if len(codes) != 1 or len(codes[0]) > MAX_CODE or not _CODE.fullmatch(codes[0]):
        raise ProtocolViolation("The callback has no usable code.", code="code")
    return Secret(codes[0])
