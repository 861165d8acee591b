"""Signatures verified with a key set that is kept over time, and fetched again when keys rotate."""

import hashlib
from typing import TYPE_CHECKING, Any

from spatio_django.exceptions import InvalidToken
from spatio_django.oidc import jose
from spatio_django.oidc.cache import Documents
from spatio_django.oidc.jwks import KeySet
from spatio_django.oidc.secret import Secret

if TYPE_CHECKING:
    from spatio_django.oidc.http import Http

#: Seconds before another unknown ``kid`` may refetch the key set: tokens must not become fetches. Spatio's
#: edge caches it for 300, so that a rotation may take several attempts to be seen.
KEY_REFETCH_INTERVAL = 60.0
#: Bytes. A key has about 500.
JWKS_LIMIT = 128 * 1024

#: What a just-rotated key looks like; ``signature`` where the provider uses one kid, or none, for all keys.
ROTATED = frozenset({"kid", "signature"})


def verify(token: Secret, *, jwks_uri: str, documents: Documents, http: "Http") -> dict[str, Any]:
    """
    Return the claims of *token* if the provider's keys signed it; fetch these anew if they look too old.

    Raises:
        InvalidToken: As :func:`spatio_django.oidc.jose.verify`.
        ProviderUnavailable, ProtocolViolation: The keys can't be had.

    OpenID Connect Core 1.0 §10.1.1.
    """
    name = "spatio:keys:" + hashlib.sha256(jwks_uri.encode()).hexdigest()

    def fetch() -> dict[str, Any]:
        return fetch_keys(jwks_uri, http=http)

    copy = documents.get(name, fetch)
    try:
        return jose.verify(token, copy.read(KeySet.from_document))
    except InvalidToken as error:
        if error.code not in ROTATED:
            raise
        newer = documents.newer(name, fetch, than=copy, interval=KEY_REFETCH_INTERVAL)
        if newer is None:
            raise
    return jose.verify(token, newer.read(KeySet.from_document))


def fetch_keys(jwks_uri: str, *, http: "Http") -> dict[str, Any]:
    """
    Return the JWKS document, known to hold a usable key: a bad one must not replace a good copy.

    Raises:
        ProviderUnavailable, ProtocolViolation: As :class:`~spatio_django.oidc.http.Http`, ``bad_status``
            or ``jwks``.
    """
    answer = http.get(jwks_uri, limit=JWKS_LIMIT)
    answer.require_available()
    if answer.status != 200:
        raise answer.unexpected()
    document = answer.json_object()
    KeySet.from_document(document)
    return document
