"""What a member of a JSON object can be instead of what it should."""

from typing import Any

#: Takes a member away.
ABSENT = object()

#: One value of each JSON type and of each kind that is treated apart.
VALUES: dict[str, Any] = {
    "absent": ABSENT,
    "null": None,
    "true": True,
    "false": False,
    "0": 0,
    "1": 1,
    "-1": -1,
    "1.5": 1.5,
    "3600.0": 3600.0,
    "30 digits": 10**29,
    "1e300": 1e300,
    "digits as text": "3600",
    "empty text": "",
    "space": " ",
    "text": "x",
    "text with a line break": "a\nb",
    "long text": "x" * 20_000,
    "any alphabet": "Zoë 雪",
    "empty list": [],
    "list": ["x"],
    "list of null": [None],
    "list of a list": [["x"]],
    "list of numbers": [1, 2],
    "object": {},
    "object in it": {"x": {"y": 1}},
}


def is_nothing(value: object) -> bool:
    """Tell whether *value* is absent, or ``null``, which counts as absent in documents."""
    return value is ABSENT or value is None
