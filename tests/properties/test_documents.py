"""Any document: JSON and base64url are read in one way only, or not at all."""

import base64
import json
from typing import Any

from hypothesis import example, given
from hypothesis import strategies as st

from spatio_django.exceptions import ProtocolViolation
from spatio_django.oidc import base64url
from spatio_django.oidc.answer import MAX_RETRY_AFTER, Answer
from spatio_django.oidc.strict_json import MAX_DEPTH, parse_object
from tests.oidc.support import METADATA
from tests.properties.support import RAW_TEXT, TEXT, as_bytes, is_plain, json_values, judged, mutated

PIECES = (
    *(b'"', b"{", b"}", b"[", b"]", b",", b":", b"\\", b" ", b"null", b"true", b"NaN", b"-Infinity"),
    *(b"1e400", b"-0", b"01", b"1.", b"9" * 33, b"\\ud800", b"\\u0000", b"\0", b"\xef\xbb\xbf", b"\xff"),
    *(b'"issuer": 1,', b'"issuer":', b'{"a":' * 40, b"[" * 40, b"]" * 40, b"[" * 2000),
)
JSON_TEXTS = (
    mutated(as_bytes(METADATA), *PIECES)
    | json_values().flatmap(lambda value: mutated(as_bytes({"a": value}), *PIECES))
    | st.dictionaries(RAW_TEXT, RAW_TEXT | st.lists(RAW_TEXT, max_size=2), max_size=2).map(as_bytes)
    | st.lists(st.sampled_from(PIECES), max_size=12).map(b"".join)
    | st.binary(max_size=100)
)


def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Read an object's members, of which none may be there twice."""
    assert len({name for name, _ in pairs}) == len(pairs)
    return dict(pairs)


@given(JSON_TEXTS)
@example(b'{"a": {"b": [{"c": 1, "c": 1}]}}')
@example(b'\xef\xbb\xbf{"a": 1}')
@example(b'{"a": ' + b"[" * 100_000)
@example(b'{"a": ' * 100_000)
@example(b'{"a": ["\\ud800"]}')
def test_what_is_accepted_is_what_any_parser_reads(data: bytes) -> None:
    """The same values as Python's own, no member twice at any level, nothing that later steps choke on."""
    value = parse_object(data)

    if value is not None:
        assert value == json.loads(data.decode("utf-8"), object_pairs_hook=once)
        assert is_plain(value)


@given(
    st.dictionaries(TEXT, json_values(), max_size=4), st.booleans(), st.sampled_from([None, 1]), st.booleans()
)
def test_an_honest_document_is_read_back(
    document: dict[str, Any], is_ascii: bool, indent: int | None, is_sorted: bool
) -> None:
    """However its author writes it."""
    data = json.dumps(document, ensure_ascii=is_ascii, indent=indent, sort_keys=is_sorted).encode()

    assert parse_object(data) == (document if is_plain(document) else None)


@given(st.lists(st.sampled_from(["list", "object"]), max_size=MAX_DEPTH - 2), TEXT, json_values())
def test_a_member_given_twice_is_refused_at_any_depth(around: list[str], name: str, value: Any) -> None:
    """Two parsers would disagree on which counts: one checks the first, another uses the second."""
    member = f"{json.dumps(name)}: {json.dumps(value)}"
    once, twice = f"{{{member}}}", f"{{{member}, {member}}}"
    for kind in around:
        once, twice = (f"[{text}]" if kind == "list" else f'{{"": {text}}}' for text in (once, twice))
    once, twice = f'{{"": {once}}}', f'{{"": {twice}}}'

    assert (parse_object(once.encode()) is not None) == is_plain(json.loads(once))
    assert parse_object(twice.encode()) is None


@given(JSON_TEXTS, st.integers(100, 999), TEXT)
def test_any_body_gives_an_object_or_a_violation(body: bytes, status: int, kind: str) -> None:
    """And its error tells nothing of the body, which may hold tokens."""
    result = judged(Answer(status=status, body=body, headers={"content-type": kind}).json_object)

    if isinstance(result, dict):
        assert result == parse_object(body)
    else:
        assert isinstance(result, ProtocolViolation)
        assert result.code == "not_json"
        assert {*result.context} == {"status", "content_type"}


RETRY_AFTER = (
    TEXT
    | st.from_regex(r"[0-9]{0,20}", fullmatch=True)
    | st.datetimes().map(lambda moment: f"{moment:%a, %d %b} {moment.year:04} {moment:%H:%M:%S} GMT")
    | st.from_regex(
        r"[A-Z][a-z]{2}, [0-9]{2} (Jan|Feb|Dec|Foo) [0-9]{4} [0-9]{2}:[0-9]{2}:[0-9]{2} GMT", fullmatch=True
    )
)


@given(RETRY_AFTER)
def test_any_retry_after_is_a_time_to_wait_or_nothing(text: str) -> None:
    """Never more than a day, never a number that arithmetic chokes on."""
    seconds = Answer(status=503, headers={"retry-after": text}).retry_after

    assert seconds is None or 0 <= seconds <= MAX_RETRY_AFTER


@given(st.binary(max_size=200))
def test_decoding_inverts_encoding(data: bytes) -> None:
    """Every value has a text."""
    assert base64url.decode(base64url.encode(data)) == data


ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"


@given(TEXT | st.text(ALPHABET, max_size=12) | st.text(ALPHABET + "+/=. \n", max_size=8))
def test_every_value_has_one_text_only(text: str) -> None:
    """What is accepted means what Python's lenient decoder reads, and is how it would be written."""
    data = base64url.decode(text)

    if data is not None:
        assert data == base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
        assert base64url.encode(data) == text
