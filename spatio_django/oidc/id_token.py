"""The claims of an ID token, checked rule by rule. The signature was verified before."""

import base64
import hashlib
import re
from collections.abc import Mapping
from typing import Any

from spatio_django.exceptions import InvalidToken
from spatio_django.oidc.secret import Secret

#: Seconds since the epoch, the end of the year 9999: later times are nonsense, and break ``datetime``.
MAX_TIME = 253_402_300_799
#: Characters of ``sub`` (OpenID Connect Core 1.0 §2).
MAX_SUBJECT = 255

#: Unicode's categories Cc and Cs: control characters, and halves of surrogate pairs.
CONTROL = re.compile("[\0-\x1f\x7f-\x9f\ud800-\udfff]")

#: Seconds of clock skew between provider and site that are forgiven.
LEEWAY = 60


def check_id_token(
    claims: Mapping[str, Any],
    *,
    issuer: str,
    client_id: str,
    nonce: Secret | str,
    access_token: Secret | None,
    max_age: int | None,
    now: float,
    leeway: float = LEEWAY,
) -> None:
    """
    Return if *claims* are about a sign-in that this client began, at this issuer, just now.

    There is no upper limit to the age of ``iat``: the nonce already ties the token to this login, and
    ``exp`` ends it.

    Args:
        claims: From :func:`spatio_django.oidc.jose.verify`.
        issuer: Compared character by character.
        client_id: The only audience accepted; nobody else is trusted to be named beside it.
        nonce: The value sent in the request that began this login.
        access_token: The one that came with the token, for ``at_hash``.
        max_age: Seconds, as sent in the request; ``None`` if it was not sent.
        now: Seconds since the epoch.
        leeway: Seconds of clock skew to forgive, either way.

    Raises:
        InvalidToken: ``code`` is the offending claim's name.

    OpenID Connect Core 1.0 §2, §3.1.3.6, §3.1.3.7 steps 2-5 and 9-13.
    """
    if claims.get("iss") != issuer:
        raise _bad("iss")
    _check_audience(claims, client_id)
    check_subject(claims.get("sub"))

    if now >= _time(claims, "exp") + leeway:
        raise _bad("exp")
    if _time(claims, "iat") > now + leeway:
        raise _bad("iat")
    if "nbf" in claims and _time(claims, "nbf") > now + leeway:
        raise _bad("nbf")

    _check_nonce(claims.get("nonce"), nonce)
    if "auth_time" in claims or max_age is not None:
        _check_auth_time(_time(claims, "auth_time"), max_age=max_age, now=now, leeway=leeway)
    if "at_hash" in claims:
        _check_at_hash(claims["at_hash"], access_token)


def check_refreshed_id_token(claims: Mapping[str, Any], *, original: Mapping[str, Any]) -> None:
    """
    Return if *claims*, which came with a refresh, are about the person and the client of the first ID token.

    Nothing is taken from such a token, so its times need no check: providers differ in what they write there.

    Args:
        original: ``iss``, ``sub``, ``aud`` and ``azp`` of the ID token that came with the sign-in.

    Raises:
        InvalidToken: ``iss``, ``sub``, ``aud`` or ``azp``: another identity.

    OpenID Connect Core 1.0 §12.2.
    """
    for name in ("iss", "sub"):
        if claims.get(name) != original.get(name):
            raise _bad(name)
    if set(_audiences(claims)) != set(_audiences(original)):
        raise _bad("aud")
    # Where the first had none, one that names the only audience says nothing new.
    if claims.get("azp", original.get("azp")) not in (original.get("azp"), *_audiences(original)):
        raise _bad("azp")


def _audiences(claims: Mapping[str, Any]) -> tuple[str, ...]:
    audience = claims.get("aud")
    members = audience if isinstance(audience, list) else [audience]
    if not members or not all(isinstance(member, str) for member in members):
        raise _bad("aud")
    return tuple(members)


def check_subject(subject: object) -> str:
    """
    Return *subject* if it can name a person: 1 to 255 characters, none of them a control or a surrogate.

    Core says ASCII; another alphabet does no harm and is let through.

    Raises:
        InvalidToken: ``sub``.
    """
    if not isinstance(subject, str) or not 1 <= len(subject) <= MAX_SUBJECT or CONTROL.search(subject):
        raise _bad("sub")
    return subject


def _check_audience(claims: Mapping[str, Any], client_id: str) -> None:
    audience = claims.get("aud")
    if isinstance(audience, list):
        # A second audience could replay the token here, even if azp says that it was issued to us.
        if not audience or any(member != client_id for member in audience):
            raise _bad("aud")
    elif audience != client_id:
        raise _bad("aud")
    if "azp" in claims and claims["azp"] != client_id:
        raise _bad("azp")


def _check_nonce(claimed: object, sent: Secret | str) -> None:
    expected = sent if isinstance(sent, Secret) else Secret(sent)
    # Without the test for emptiness, two absent nonces would be equal.
    if not isinstance(claimed, str) or not claimed or Secret(claimed) != expected:
        raise _bad("nonce")


def _check_auth_time(auth_time: float, *, max_age: int | None, now: float, leeway: float) -> None:
    if auth_time > now + leeway:
        raise _bad("auth_time")
    if max_age is not None and now > auth_time + max_age + leeway:
        raise _bad("auth_time")


def _check_at_hash(claimed: object, access_token: Secret | None) -> None:
    if access_token is None or not isinstance(claimed, str):
        raise _bad("at_hash")
    digest = hashlib.sha256(access_token.reveal().encode()).digest()  # RS256 hashes with SHA-256
    expected = base64.urlsafe_b64encode(digest[:16]).rstrip(b"=").decode()
    if Secret(claimed) != Secret(expected):
        raise _bad("at_hash")


def _time(claims: Mapping[str, Any], name: str) -> float:
    """Return a NumericDate (RFC 7519 §2). ``True`` and ``1e300`` are numbers to Python, not times."""
    value = claims.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= MAX_TIME:
        raise _bad(name)
    return value


def _bad(name: str) -> InvalidToken:
    return InvalidToken(f"The ID token's {name} does not hold.", code=name)
