"""An OAuth error as the provider told it, made safe to log and to branch on."""

import re

from spatio_django.exceptions import ProviderRefused

#: What ``ProviderRefused.code`` can be, besides ``unknown_error``. RFC 6749 §4.1.2.1 and §5.2, OpenID Connect
#: Core 1.0 §3.1.2.6, RFC 6750 §3.1, RFC 7009 §2.2.1, RFC 7591 §3.2.2, RFC 8707 §2, and Spatio's own.
KNOWN_ERRORS = frozenset(
    {
        "access_denied",
        "account_selection_required",
        "consent_required",
        "insufficient_scope",
        "interaction_required",
        "invalid_client",
        "invalid_client_metadata",
        "invalid_grant",
        "invalid_redirect_uri",
        "invalid_request",
        "invalid_request_object",
        "invalid_request_uri",
        "invalid_scope",
        "invalid_software_statement",
        "invalid_target",
        "invalid_token",
        "login_required",
        "rate_limit_exceeded",
        "registration_not_supported",
        "request_not_supported",
        "request_uri_not_supported",
        "server_error",
        "temporarily_unavailable",
        "unapproved_software_statement",
        "unauthorized_client",
        "unsupported_grant_type",
        "unsupported_response_type",
        "unsupported_token_type",
    }
)

#: Characters of a description that are read, and that are kept.
MAX_READ, MAX_DESCRIPTION = 4096, 200

# A word as long as a secret: providers quote what they were sent. Terms (invalid_scope) and addresses stay.
_WORD = re.compile(r"[!#-&*+\-./0-9:=?-Z\\^_a-z~]{16,}")
_TERM = re.compile(r"[a-z_]+[.:]?")
_ADDRESS = re.compile(r"https?://[^/?#@]+(?=[/?#]|$)(?:/[\w.~-]{0,15}(?=[/?#]|$))*")


def refusal(error: object, description: object = None, **context: object) -> ProviderRefused:
    """
    Return the error to raise for an OAuth ``error`` and ``error_description``, whatever they hold.

    Args:
        error: Becomes the code if it is a known one.
        description: Kept in the context for the log: :func:`printable`, and without what may be a secret.
        context: More facts for the log.
    """
    code = error if isinstance(error, str) and error in KNOWN_ERRORS else "unknown_error"
    if isinstance(description, str):
        text = printable(description[:MAX_READ], limit=MAX_READ)
        context["description"] = _WORD.sub(_unless_secret, text)[:MAX_DESCRIPTION]
    return ProviderRefused(f"The provider refused: {code}.", code=code, **context)


def printable(text: str, *, limit: int) -> str:
    """Return the first *limit* printable characters of *text*: no line breaks, no terminal escapes."""
    return "".join(character for character in text if character.isprintable())[:limit]


def _unless_secret(word: re.Match[str]) -> str:
    if _TERM.fullmatch(word[0]):
        return word[0]
    address = _ADDRESS.match(word[0])
    known = address[0] if address else ""
    return known if known == word[0] else known + "…"
