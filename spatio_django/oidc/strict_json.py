"""JSON as the protocol needs it: one reading per text, and values that every later step can hold."""

import json
import math
import re
from typing import Any

#: Levels of nesting. Protocol documents need three; deeper ones exhaust the stack of whoever copies them.
MAX_DEPTH = 32
#: Characters of one number: more than any 64-bit integer or double needs.
MAX_NUMBER = 32

_UNSTORABLE = re.compile("[\0\ud800-\udfff]")


def parse_object(data: bytes) -> dict[str, Any] | None:
    """
    Return the JSON object that *data* holds, or ``None`` if it does not hold exactly one.

    Refused besides what RFC 8259 refuses: another encoding than UTF-8, a byte order mark, a member given
    twice (two parsers would disagree on which counts), ``NaN``, infinities and numbers that overflow, NUL
    and unpaired surrogates in strings (databases and encoders choke on them), deep nesting.

    There is no error to catch, because the ones that ``json`` raises carry the whole document.
    """
    try:
        value = json.loads(
            data.decode("utf-8"),
            object_pairs_hook=_object,
            parse_int=_integer,
            parse_float=_float,
            parse_constant=_constant,
        )
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) and (_is_flat(data) or _is_plain(value)) else None


def _is_flat(data: bytes) -> bool:
    """Tell whether JSON can't nest deeply, nor hold what only an escape can write: that spares a walk."""
    return b"\\u" not in data and data.count(b"{") + data.count(b"[") <= MAX_DEPTH


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError("member given twice")
    return members


def _integer(text: str) -> int:
    if len(text) > MAX_NUMBER:
        raise ValueError("number too long")
    return int(text)


def _float(text: str) -> float:
    number = float(text)
    if len(text) > MAX_NUMBER or not math.isfinite(number):
        raise ValueError("number too large")
    return number


def _constant(text: str) -> float:
    raise ValueError("not a JSON number")


def _is_plain(value: object) -> bool:
    rest = [(value, 0)]
    while rest:
        item, depth = rest.pop()
        if depth > MAX_DEPTH:
            return False
        if isinstance(item, str):
            if _UNSTORABLE.search(item):
                return False
        elif isinstance(item, dict):
            rest += [(part, depth + 1) for pair in item.items() for part in pair]
        elif isinstance(item, list):
            rest += [(part, depth + 1) for part in item]
    return True
