"""What properties share: the outcomes that are allowed, and inputs that get past the first check."""

import json
import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

from hypothesis import example, settings
from hypothesis import strategies as st

from spatio_django import exceptions
from spatio_django.exceptions import SpatioError
from spatio_django.oidc.strict_json import MAX_DEPTH, MAX_NUMBER
from tests.oidc.support import Signer

Value = TypeVar("Value")
Test = TypeVar("Test", bound=Callable[..., None])

#: Every code that the documentation explains.
DOCUMENTED = frozenset(
    re.findall(
        r"`([a-z_]+)`", (Path(__file__).resolve().parents[2] / "docs" / "errors.md").read_text("utf-8")
    )
)
#: Every class that is raised on purpose.
DECLARED = frozenset(
    kind
    for kind in vars(exceptions).values()
    if isinstance(kind, type) and issubclass(kind, SpatioError) and kind is not SpatioError
)


def part(share: float) -> settings:
    """Give the settings of this run with that share of its examples, for what takes long."""
    return settings(max_examples=max(10, int(settings().max_examples * share)))


def judged(work: Callable[[], Value]) -> Value | SpatioError:
    """Return what *work* gives, or the error that it is allowed to raise: one that is declared."""
    try:
        return work()
    except SpatioError as error:
        return declared(error)


def declared(error: SpatioError) -> SpatioError:
    """Return *error*, which is of a declared class and has a documented code, a sentence and small facts."""
    assert type(error) in DECLARED
    assert error.code in DOCUMENTED, error.code
    assert str(error).isprintable()
    assert len(str(error)) < 500
    assert len(repr(error.context)) < 10_000
    return error


@cache
def signer(kid: str = "first") -> Signer:
    """Give the provider's key; by another name, a key that is not the provider's."""
    return Signer(kid=kid)


# Texts

#: What parsers trip over, among what they don't.
ODDITIES = (
    "\0", "\n", "\r", "\t", "\x1b", "\x7f", "\x85", "\u2028", "\u202e", "\ufeff", "\ufffd",
    " ", "\xa0", "\u3000", "é", "\u017f", "\u212a", "İ", "ß", "雪", "\u0661", "\U0001d7d9", "\U0001f408", "ﷺ",
    '"', "'", "\\", "/", ":", "@", "?", "#", "%", "&", "=", ";", ",", ".", "-", "_", "+", "~", "[", "]",
)  # fmt: skip
#: Any text that can be encoded.
TEXT = st.text(st.characters(exclude_categories=["Cs"]) | st.sampled_from(ODDITIES), max_size=40)
#: The same, and lone surrogates: what a decoder with an error handler may leave.
RAW_TEXT = TEXT | st.text(
    st.characters() | st.sampled_from(["\ud800", "\udfff", "\0", "\n", "a", " ", ".", "/", ":", "@"]),
    max_size=40,
)

# JSON

NUMBERS = (
    st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.sampled_from([0, 1, -1, True, 2**53, 10**18, 253_402_300_799, 253_402_300_800, 10**31, 1e300, -0.0])
)
PLAIN = st.none() | st.booleans() | NUMBERS | TEXT


def json_values(*likely: Any) -> st.SearchStrategy[Any]:
    """Give values that a JSON document can hold, *likely* ones often among them."""
    leaves = PLAIN | st.sampled_from(likely) if likely else PLAIN
    return st.recursive(
        leaves,
        lambda inner: (
            st.lists(inner, max_size=4)
            | st.dictionaries(TEXT | st.sampled_from(["sub", "iss", "keys", "error"]), inner, max_size=3)
        ),
        max_leaves=8,
    )


def changed(
    document: Mapping[str, Any],
    *likely: Any,
    wrong: Mapping[str, Sequence[Any]] | None = None,
    names: Sequence[str] = (),
) -> st.SearchStrategy[Any]:
    """
    Give documents near *document*: most members as they are, some gone, some of another value.

    Args:
        likely: Values that are nearly right, somewhere.
        wrong: Values that are nearly right for a member; one or two of them in every other document.
        names: Members that *document* doesn't have, and that mean something.
    """
    members = st.sampled_from([*document, *names]) | TEXT
    values = st.sampled_from([*document.values(), *likely]) | json_values(*document.values(), *likely)
    anything = st.dictionaries(members, values, max_size=3)
    pairs = [(name, value) for name, values in (wrong or {}).items() for value in values]
    near = st.lists(st.sampled_from(pairs), min_size=1, max_size=2).map(dict) if pairs else anything
    return st.builds(
        lambda gone, new: {name: each for name, each in document.items() if name not in gone} | new,
        st.just(frozenset()) | st.sets(st.sampled_from([*document]), max_size=2),
        near | near | anything,
    )


def each(document: Mapping[str, Any], wrong: Mapping[str, Sequence[Any]]) -> list[dict[str, Any]]:
    """Give *document*, and every document that differs from it in one member: gone, or nearly right."""
    without = [{name: value for name, value in document.items() if name != gone} for gone in document]
    near = [{**document, name: value} for name, values in wrong.items() for value in values]
    return [dict(document), *without, *near]


def always(cases: Iterable[tuple[Any, ...]]) -> Callable[[Test], Test]:
    """Have a property tried with each of *cases* in every run, before what is drawn."""

    def decorate(test: Test) -> Test:
        for case in cases:
            test = example(*case)(test)
        return test

    return decorate


def is_plain(value: Any, depth: int = 0) -> bool:
    """Tell whether every later step can hold *value*, by other means than the parser's."""
    if depth > MAX_DEPTH:
        return False
    if isinstance(value, dict):
        return all(is_plain(part, depth + 1) for pair in value.items() for part in pair)
    if isinstance(value, list):
        return all(is_plain(part, depth + 1) for part in value)
    if isinstance(value, float):
        return math.isfinite(value)
    if isinstance(value, str):
        return "\0" not in value and value.encode("utf-8", "ignore").decode() == value
    return value is None or len(str(value)) <= MAX_NUMBER


def as_bytes(document: Any) -> bytes:
    """Write *document* as JSON."""
    return json.dumps(document).encode()


@st.composite
def mutated(draw: st.DrawFn, genuine: bytes, *pieces: bytes) -> bytes:
    """
    Give *genuine* after a few edits: a byte changed, a part cut, doubled or replaced.

    Args:
        pieces: What is put in now and then: tokens of the format.
    """
    data = genuine
    for _ in range(draw(st.integers(0, 4))):
        start = draw(st.integers(0, len(data)))
        end = min(len(data), start + draw(st.sampled_from([0, 1, 1, 2, 8, 64])))
        piece = draw(st.sampled_from([b"", data[start:end] * 2, *pieces]) | st.binary(min_size=1, max_size=3))
        data = data[:start] + piece + data[end:]
    return data
