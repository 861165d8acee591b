"""spatio_django.oidc.strict_json: one reading per text."""

from typing import Any

import pytest

from spatio_django.oidc.strict_json import MAX_DEPTH, parse_object


@pytest.mark.parametrize(
    ("text", "value"),
    [
        pytest.param(b"{}", {}, id="empty"),
        pytest.param(
            b' {"a": [1, 2.5, true, null, "x"]}\n', {"a": [1, 2.5, True, None, "x"]}, id="all-types"
        ),
        pytest.param('{"name": "Zoë 雪 🐈"}'.encode(), {"name": "Zoë 雪 🐈"}, id="any-alphabet"),
        pytest.param(b'{"cat": "\\ud83d\\udc08"}', {"cat": "🐈"}, id="surrogate-pair"),
        pytest.param(b'{"text": "\\\\u0000"}', {"text": "\\u0000"}, id="escaped-backslash"),
        pytest.param(b'{"id": 18446744073709551615}', {"id": 2**64 - 1}, id="64-bits"),
    ],
)
def test_an_honest_object_is_read(text: bytes, value: dict[str, Any]) -> None:
    """What conforming providers send is accepted, whatever language its people speak."""
    assert parse_object(text) == value


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(b"[]", id="array"),
        pytest.param(b'"x"', id="string"),
        pytest.param(b"null", id="null"),
        pytest.param(b"{} {}", id="two-objects"),
        pytest.param(b"<html></html>", id="html"),
        pytest.param(b'{"a": 1, "a": 2}', id="member-twice"),
        pytest.param(b'{"x": {"a": 1, "\\u0061": 2}}', id="member-twice-escaped-inside"),
        pytest.param(b'{"a": NaN}', id="nan"),
        pytest.param(b'{"a": -Infinity}', id="infinity"),
        pytest.param(b'{"a": 1e400}', id="overflow"),
        pytest.param(b'{"a": 0.' + b"0" * 5000 + b"1}", id="long-fraction"),
        pytest.param(b'{"a": ' + b"9" * 5000 + b"}", id="long-integer"),
        pytest.param(b'{"a": "\\ud800"}', id="lone-surrogate"),
        pytest.param(b'{"\\udfff": 1}', id="lone-surrogate-in-name"),
        pytest.param(b'{"a": ["\\u0000"]}', id="nul"),
        pytest.param(b'{"a": "\n"}', id="raw-line-break"),
        pytest.param(b'\xef\xbb\xbf{"a": 1}', id="byte-order-mark"),
        pytest.param('{"a": 1}'.encode("utf-16"), id="utf-16"),
        pytest.param(b'{"a": "\xff"}', id="not-utf-8"),
        pytest.param(b'{"a":' * (MAX_DEPTH + 1) + b"1" + b"}" * (MAX_DEPTH + 1), id="nested"),
        pytest.param(b'{"a":' + b"[" * 100_000, id="nested-beyond-the-stack"),
    ],
)
def test_anything_ambiguous_or_unwieldy_is_refused(text: bytes) -> None:
    """There is nothing in between: an object with one meaning, or nothing."""
    assert parse_object(text) is None
