"""Key ring with rotation, and the encrypted attribute of a model."""

import hashlib
import os
from functools import lru_cache
from typing import Any, Self, overload

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.db import models

from spatio_django.conf import conf
from spatio_django.exceptions import Undecryptable
from spatio_django.oidc import base64url
from spatio_django.oidc.secret import Secret

#: So that another format can follow one day.
FORMAT = b"\x01"


class KeyRing:
    """
    AES-256-GCM under rotating keys: the first key seals, every key opens.

    Sealed text is base64url of: format (1 byte), which key (4), nonce (12), ciphertext and tag.

    Args:
        keys: With high entropy, newest first. A 256-bit key is derived from each (HKDF-SHA256, RFC 5869).
    """

    def __init__(self, keys: tuple[str | bytes, ...]) -> None:
        # Imported here: the cost is paid by the first token, not by every start of every process.
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM
        from cryptography.hazmat.primitives.hashes import SHA256
        from cryptography.hazmat.primitives.kdf.hkdf import HKDF

        self._ciphers: dict[bytes, AESGCM] = {}
        for key in keys:
            derive = HKDF(SHA256(), length=32, salt=None, info=b"spatio_django.encryption")
            material = derive.derive(as_bytes(key))
            key_id = hashlib.sha256(b"spatio_django.key_id" + material).digest()[:4]
            self._ciphers.setdefault(key_id, AESGCM(material))
        self._first = next(iter(self._ciphers))

    def __repr__(self) -> str:
        return f"<KeyRing of {len(self._ciphers)}>"

    def seal(self, secret: Secret, *, context: str) -> str:
        """
        Encrypt *secret* for one place.

        Args:
            context: Names the place (table, column, row; or the cookie). Text that is moved elsewhere no
                longer opens.

        Returns:
            Printable ASCII, safe in a cookie.
        """
        nonce = os.urandom(12)
        sealed = self._ciphers[self._first].encrypt(nonce, secret.reveal().encode(), context.encode())
        return base64url.encode(FORMAT + self._first + nonce + sealed)

    def open(self, text: str, *, context: str) -> Secret:
        """
        Decrypt what :meth:`seal` gave for the same *context*.

        Raises:
            Undecryptable: ``undecryptable``.
        """
        secret = self._open(text, context.encode())
        if secret is None:
            # Raised out here, so that no traceback holds a frame with a key or the plain text in it.
            raise Undecryptable("Sealed elsewhere, or with a key that is gone.", code="undecryptable")
        return secret

    def is_current(self, text: str) -> bool:
        """Tell whether *text* was sealed with the first key. What is behind that is not looked at."""
        start = base64url.decode(text[:8]) or b""
        return start[:5] == FORMAT + self._first

    def _open(self, text: str, context: bytes) -> Secret | None:
        from cryptography.exceptions import InvalidTag

        raw = base64url.decode(text) or b""
        try:
            start, key_id, nonce, sealed = raw[:1], raw[1:5], raw[5:17], raw[17:]
            cipher = self._ciphers.get(key_id) if start == FORMAT else None
            return Secret(cipher.decrypt(nonce, sealed, context).decode()) if cipher else None
        except (InvalidTag, ValueError):  # ValueError: too short for a nonce
            return None


def as_bytes(key: object) -> bytes:
    """
    Give a key as bytes; Django takes those for a ``SECRET_KEY``, too.

    Raises:
        ImproperlyConfigured: It is empty or none at all, such as an environment variable that is not set.
    """
    if not key or not isinstance(key, str | bytes):
        raise ImproperlyConfigured(f"A key is a text or bytes, and not empty: {type(key).__name__}.")
    return key.encode() if isinstance(key, str) else key


_ring = lru_cache(maxsize=8)(KeyRing)


def key_ring() -> KeyRing:
    """
    Give the key ring of the current settings; built once per set of keys.

    Raises:
        ImproperlyConfigured: A key is none, or ``SECRET_KEY_FALLBACKS`` no list: of a text, each letter would
            become a key.
    """
    fallbacks: object = settings.SECRET_KEY_FALLBACKS
    if not isinstance(fallbacks, list | tuple):
        raise ImproperlyConfigured(
            f"SECRET_KEY_FALLBACKS must be a list of keys, and is of type {type(fallbacks).__name__}."
        )
    return _ring((*conf.SPATIO_ENCRYPTION_KEYS, settings.SECRET_KEY, *fallbacks))


class Encrypted:
    """
    Descriptor on a model: the :class:`Secret` behind a column of ciphertext.

    The ciphertext is bound to table, column and row, so that a value copied into another row or column
    doesn't open there.

    Args:
        column: Name of the ``TextField`` that holds the ciphertext; empty text stands for ``None``.
        row: Name of an attribute that identifies the row, is set before this one, and never changes.
    """

    def __init__(self, column: str, *, row: str) -> None:
        self.column = column
        self.row = row

    def context(self, instance: models.Model) -> str:
        """Name the place that the ciphertext is bound to."""
        return f"{instance._meta.db_table}.{self.column}:{getattr(instance, self.row)}"

    @overload
    def __get__(self, instance: None, owner: type[models.Model]) -> Self: ...
    @overload
    def __get__(self, instance: models.Model, owner: type[models.Model]) -> Secret | None: ...
    def __get__(self, instance: models.Model | None, owner: Any) -> Self | Secret | None:
        if instance is None:
            return self
        sealed = getattr(instance, self.column)
        return key_ring().open(sealed, context=self.context(instance)) if sealed else None

    def __set__(self, instance: models.Model, secret: Secret | None) -> None:
        sealed = key_ring().seal(secret, context=self.context(instance)) if secret else ""
        setattr(instance, self.column, sealed)
