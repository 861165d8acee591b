"""The keys: are they usable? None is ever shown."""

from typing import Any

from django.conf import settings
from django.core import checks

from spatio_django.checks.reading import Found

#: Characters of a key. 256 random bits are 43 in base64; fewer than this hold too little, however written.
MIN_KEY = 32


def check_keys(app_configs: object, **kwargs: Any) -> list[checks.CheckMessage]:
    """Are the keys usable? None is ever shown."""
    return list(_keys())


def _keys() -> Found:
    keys = getattr(settings, "SPATIO_ENCRYPTION_KEYS", ())
    if not are_keys(keys):
        yield checks.Error(
            "SPATIO_ENCRYPTION_KEYS is no list of texts, or one of them is empty.",
            hint='SPATIO_ENCRYPTION_KEYS = [os.environ["SPATIO_ENCRYPTION_KEY"]]',
            id="spatio.E051",
        )
    else:
        if keys and len(keys[0]) < MIN_KEY:
            # Only the first: one that was too short goes on decrypting behind a better one.
            yield checks.Warning(
                f"The first of SPATIO_ENCRYPTION_KEYS has less than {MIN_KEY} characters: it can be guessed.",
                hint="Put a new one in front, and keep this one behind it: "
                'python -c "import secrets; print(secrets.token_urlsafe(32))"',
                id="spatio.W052",
            )
        if len(set(keys)) < len(keys):
            yield checks.Warning(
                "SPATIO_ENCRYPTION_KEYS has the same key twice.",
                hint="Take one out. To rotate, put a new key in front.",
                id="spatio.W053",
            )
    try:
        derived = are_keys([settings.SECRET_KEY], bytes) and are_keys(settings.SECRET_KEY_FALLBACKS, bytes)
    except Exception:  # noqa: BLE001 - Django's own complaint about an empty one
        derived = False
    if not derived:
        yield checks.Error(
            "Keys are derived from SECRET_KEY and SECRET_KEY_FALLBACKS: a text or bytes, and a list of such, "
            "none of which may be empty.",
            hint='SECRET_KEY = os.environ["SECRET_KEY"]; SECRET_KEY_FALLBACKS = []',
            id="spatio.E054",
        )


def are_keys(value: object, *kinds: type) -> bool:
    """Tell whether *value* is a list of keys; see :func:`is_key`."""
    return isinstance(value, list | tuple) and all(is_key(key, *kinds) for key in value)


def is_key(value: object, *kinds: type) -> bool:
    """Tell whether *value* is a text, or of one of *kinds*, not empty, and without what has no bytes."""
    if isinstance(value, str):
        return bool(value) and value == value.encode(errors="ignore").decode()  # no lone surrogates
    return isinstance(value, kinds) and bool(value)
