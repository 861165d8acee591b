"""Base64url as JOSE means it: one text per value."""

import base64
import re

_ALPHABET = re.compile(r"[A-Za-z0-9_-]*")


def decode(text: str) -> bytes | None:
    """
    Return the bytes of *text*, or ``None`` unless it is what :func:`encode` makes of them.

    Python's decoder skips foreign characters and ignores surplus bits, so that many texts would mean the
    same token. RFC 7515 §2, RFC 4648 §3.5.
    """
    if not _ALPHABET.fullmatch(text) or len(text) % 4 == 1:
        return None
    data = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    return data if encode(data) == text else None


def encode(data: bytes) -> str:
    """Return *data* in base64url without padding."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode("ascii")
