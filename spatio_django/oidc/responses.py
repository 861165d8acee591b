"""What the token and userinfo endpoints answer, judged into values."""

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ParamSpec, Self, TypeVar

from spatio_django.exceptions import ProtocolViolation, ProviderRefused
from spatio_django.oidc.answer import Answer
from spatio_django.oidc.refusal import refusal
from spatio_django.oidc.secret import Secret

P = ParamSpec("P")
T = TypeVar("T")

#: Bytes. Three tokens of 16 KiB, and room.
TOKEN_LIMIT = 64 * 1024
#: Bytes, for a refresh. Whatever else is told there, the successor is not lost for it.
REFRESH_LIMIT = 1024 * 1024
#: Bytes. A page of claims.
USERINFO_LIMIT = 64 * 1024
#: Seconds. 32 bits full is some providers' word for "never"; more is a mistake, and overflows later.
MAX_EXPIRES_IN = 2**32 - 1

_HEADER_SAFE = re.compile(r"[\x21-\x7e]{1,8192}")
_PRINTABLE = re.compile(r"[\x20-\x7e]{1,16384}")  # RFC 6749 §A.17
# At a refresh a token may be as long as the answer. To refuse one for its length, or to take it for none,
# would leave the old one, which is used up.
_ACCESS = re.compile(r"[\x21-\x7e]+")
_ANYTHING = re.compile(r"[^\ud800-\udfff]+")  # but halves of characters, which can't be sent
# RFC 6749 §3.3, and so what a text column of any database takes, be it of one byte per character.
_SCOPE = re.compile(r"[\x20-\x21\x23-\x5b\x5d-\x7e]+")

# Python's idea of JSON, to which NaN belongs, and any character within a string. As floats, integers have no
# length at which Python refuses to read them.
_LENIENT = json.JSONDecoder(parse_int=float, strict=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenResponse:
    """
    What the token endpoint granted.

    Attributes:
        access_token: Opaque; fits into a header.
        expires_in: Seconds; ``None`` if the provider did not say.
        refresh_token: ``None`` if none was granted.
        id_token: Not verified.
        scope: ``None`` means "as requested" (RFC 6749 §5.1).
    """

    access_token: Secret
    expires_in: int | None = None
    refresh_token: Secret | None = None
    id_token: Secret | None = None
    scope: tuple[str, ...] | None = None

    @classmethod
    def from_answer(cls, answer: Answer) -> Self:
        """
        Judge an answer of the token endpoint.

        Unknown members are ignored, ``null`` counts as absent, ``token_type`` is compared in any case, and
        ``expires_in`` may be a string of digits: honest providers do all that.

        Raises:
            ProviderUnavailable: ``rate_limited`` or ``bad_status``.
            ProviderRefused: The OAuth error of any 4xx, and of a 200 that has one.
            ProtocolViolation: ``not_json``, ``bad_status``, or the name of the member that is wrong.

        RFC 6749 §5, OpenID Connect Core 1.0 §3.1.3.3-4.
        """
        answer.require_available()
        raise_refusal(answer)
        if answer.status != 200:
            raise answer.unexpected()
        document = answer.json_object()
        error = document.get("error")
        if error is not None and error != "":
            # Some providers tell their errors so. Beside tokens, one of the two is untrue: neither is taken.
            raise refusal(error, document.get("error_description"), status=answer.status)
        token_type = document.get("token_type")
        if not isinstance(token_type, str) or token_type.lower() != "bearer":
            raise bad_member("token_type")
        access_token = text(document, "access_token", _HEADER_SAFE)
        if access_token is None:
            raise bad_member("access_token")
        refresh_token = text(document, "refresh_token", _PRINTABLE)
        id_token = text(document, "id_token", _PRINTABLE)
        return cls(
            access_token=Secret(access_token),
            expires_in=_seconds(document.get("expires_in")),
            refresh_token=None if refresh_token is None else Secret(refresh_token),
            id_token=None if id_token is None else Secret(id_token),
            scope=scopes(document),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class RefreshResponse:
    """
    What a refresh brought: the successor of a token that may be used up by now.

    Attributes:
        access_token: Opaque; fits into a header.
        expires_in: Seconds, at least 1; ``None`` if the provider did not say, or nothing that makes sense.
        refresh_token: ``None`` means that the old one goes on (RFC 6749 §6).
        id_token: Not verified.
        scope: ``None`` means "as before".
    """

    access_token: Secret
    expires_in: int | None = None
    refresh_token: Secret | None = None
    id_token: Secret | None = None
    scope: tuple[str, ...] | None = None

    @classmethod
    def from_answer(cls, answer: Answer) -> Self:
        """
        Judge the answer to a refresh, leniently: to throw it away may be to lose the only good refresh token.

        All that is needed is an access token. A member that makes no sense counts as absent.

        Raises:
            ProviderUnavailable: ``rate_limited`` or ``bad_status``.
            ProviderRefused: The OAuth error of any 4xx, and of a 2xx that has one and no access token.
            ProtocolViolation: ``not_json``, ``bad_status`` or ``access_token``.

        RFC 6749 §5 and §6.
        """
        answer.require_available()
        raise_refusal(answer)
        if not 200 <= answer.status < 300:
            raise answer.unexpected()
        document = _lenient_object(answer)
        access_token = _lenient(text, document, "access_token", _ACCESS)
        if access_token is None:
            error = document.get("error")
            if error is not None and error != "":
                raise refusal(error, document.get("error_description"), status=answer.status)
            raise bad_member("access_token")
        refresh_token = _lenient(text, document, "refresh_token", _ANYTHING)
        id_token = _lenient(text, document, "id_token", _PRINTABLE)
        scope = _lenient(text, document, "scope", _SCOPE)
        return cls(
            access_token=Secret(access_token),
            # 0 would have every request refresh again.
            expires_in=_lenient(_seconds, document.get("expires_in")) or None,
            refresh_token=None if refresh_token is None else Secret(refresh_token),
            id_token=None if id_token is None else Secret(id_token),
            scope=tuple(scope.split()) or None if scope else None,
        )


def judge_revocation(answer: Answer) -> None:
    """
    Return if the provider has revoked the token, did not know it, or never will revoke its kind.

    Raises:
        ProviderUnavailable: ``rate_limited`` or ``bad_status``; the token still exists (RFC 7009 §2.2.1).
        ProviderRefused: Any other OAuth error.
        ProtocolViolation: ``bad_status``.

    RFC 7009 §2.2.
    """
    answer.require_available()
    try:
        raise_refusal(answer)
    except ProviderRefused as error:
        if error.code != "unsupported_token_type":
            raise
        return
    if not 200 <= answer.status < 300:
        raise answer.unexpected()


def userinfo_claims(answer: Answer, *, subject: str) -> dict[str, Any]:
    """
    Judge an answer of the userinfo endpoint.

    Args:
        answer: Must be plain JSON; signed or encrypted claims were not asked for.
        subject: ``sub`` of the ID token. Claims about anybody else are another person's.

    Raises:
        ProviderUnavailable: ``rate_limited`` or ``bad_status``.
        ProviderRefused: ``invalid_token`` for 401 and 403.
        ProtocolViolation: ``bad_status``, ``userinfo_type``, ``not_json`` or ``userinfo_sub``.

    OpenID Connect Core 1.0 §5.3.2-4.
    """
    answer.require_available()
    if answer.status in {401, 403}:
        raise refusal("invalid_token", status=answer.status)
    if answer.status != 200:
        raise answer.unexpected()
    if answer.media_type != "application/json":
        raise ProtocolViolation(
            "Userinfo is not plain JSON.", code="userinfo_type", content_type=answer.media_type
        )
    claims = answer.json_object()
    if claims.get("sub") != subject:
        raise ProtocolViolation("Userinfo is about somebody else.", code="userinfo_sub")
    return claims


def raise_refusal(answer: Answer) -> None:
    """
    Return unless *answer* is a 4xx.

    Raises:
        ProviderRefused: It carries an OAuth error (RFC 6749 §5.2). Not only 400 and 401 do, in practice.
        ProtocolViolation: ``bad_status``, if it carries none.
    """
    if not 400 <= answer.status < 500:
        return
    try:
        document = answer.json_object()
    except ProtocolViolation:
        document = {}
    if not isinstance(document.get("error"), str):
        raise answer.unexpected()
    raise refusal(document["error"], document.get("error_description"), status=answer.status)


def text(document: Mapping[str, Any], name: str, allowed: re.Pattern[str]) -> str | None:
    """
    Return an optional string member.

    Raises:
        ProtocolViolation: The code is *name*, if it is there and not wholly *allowed*.
    """
    value = document.get(name)
    if value is None:
        return None
    if not isinstance(value, str) or not allowed.fullmatch(value):
        raise bad_member(name)
    return value


def scopes(document: Mapping[str, Any]) -> tuple[str, ...] | None:
    """
    Return the names in an optional ``scope`` member.

    Raises:
        ProtocolViolation: ``scope``.
    """
    value = document.get("scope")
    if value is None:
        return None
    if not isinstance(value, str):
        raise bad_member("scope")
    return tuple(value.split())


def _lenient(read: Callable[P, T | None], *args: P.args, **kwargs: P.kwargs) -> T | None:
    """Take what makes no sense as absent."""
    try:
        return read(*args, **kwargs)
    except ProtocolViolation:
        return None


def _lenient_object(answer: Answer) -> dict[str, Any]:
    """Return the JSON object that the body begins with."""
    try:
        # A byte that is none of the encoding becomes half a character: it spoils the member that it is in.
        body = answer.body.decode(json.detect_encoding(answer.body), "surrogateescape")
        document, _ = _LENIENT.raw_decode(body.lstrip())
    except (ValueError, RecursionError):
        document = None
    return document if isinstance(document, dict) else answer.json_object()


def bad_member(name: str) -> ProtocolViolation:
    """Return the error for a member that is missing or of the wrong type. Its value is not told."""
    return ProtocolViolation(f"{name} is missing or wrong.", code=name)


def _seconds(value: object) -> int | None:
    if value is None:
        return None
    if isinstance(value, str) and re.fullmatch(r"[0-9]{1,10}", value):
        value = int(value)
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= MAX_EXPIRES_IN:
        raise bad_member("expires_in")
    return value
