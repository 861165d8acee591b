"""Any content of the shared cache: what others put there is not used, and nobody waits for it for long."""

import json
from typing import Any

from hypothesis import example, given
from hypothesis import strategies as st

from spatio_django.oidc.cache import AWAIT_OTHER, MAX_AGE, SKEW, Documents
from spatio_django.provider import seal, unseal
from tests.oidc.support import NOW, MemoryCache
from tests.properties.support import RAW_TEXT, is_plain, json_values, mutated, part

NAME = "spatio:keys:0"
OURS: dict[str, Any] = {"keys": ["ours"]}
KEPT: dict[str, Any] = {"keys": ["kept"]}


class Broken:
    """What a cache gives back that was pickled by somebody else."""

    def __eq__(self, other: object) -> bool:
        raise RuntimeError("broken")

    __hash__ = None  # type: ignore[assignment]

    def __bool__(self) -> bool:
        raise RuntimeError("broken")

    def __float__(self) -> float:
        raise RuntimeError("broken")

    def __str__(self) -> str:
        raise RuntimeError("broken")


class Clock:
    """Time that passes with every look at it, so that whoever waits is done soon."""

    def __init__(self, step: float = 1.0) -> None:
        self.now = NOW
        self.step = step

    def __call__(self) -> float:
        """Tell; but not to somebody who waits for ever."""
        self.now += self.step
        assert self.now < NOW + 50 * self.step
        return self.now


def entry(document: Any, *, name: Any = NAME, fetched_at: Any = NOW) -> str:
    """Give what a process of this site keeps in the cache."""
    return seal(json.dumps({"name": name, "fetched_at": fetched_at, "document": document}).encode())


FOREIGN = (
    RAW_TEXT
    | st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.binary(max_size=20)
    | st.builds(Broken)
    | st.lists(st.integers(), max_size=2)
    | mutated(entry({"keys": ["planted"]}).encode(), b":")
    .map(lambda data: data.decode("latin-1"))
    .filter(lambda text: text != entry({"keys": ["planted"]}))
)
SEALED = st.builds(
    entry,
    st.just(KEPT) | json_values(),
    name=st.sampled_from([NAME, NAME, NAME + "0", 5, None]),
    fetched_at=st.sampled_from([NOW, NOW - 4000, NOW - MAX_AGE, NOW + SKEW * 2, -1, 10**30, True, "1", None]),
)


def documents(cache: MemoryCache, clock: Clock) -> Documents:
    """Give one process's documents; what is done in the background is done at once."""
    return Documents(cache=cache, seal=seal, unseal=unseal, clock=clock, background=lambda work: work())


@given(FOREIGN)
@example(Broken())
@example(entry({"keys": ["planted"]})[:-1])
def test_what_others_put_into_the_cache_is_not_used(content: Any) -> None:
    """The document is fetched as if there were nothing; and is there for the other processes afterwards."""
    cache, clock = MemoryCache({NAME: content}), Clock()

    assert documents(cache, clock).get(NAME, lambda: OURS).document == OURS
    assert documents(cache, clock).get(NAME, lambda: KEPT).document == OURS


@given(SEALED)
@example(entry(KEPT))
def test_what_this_site_put_into_the_cache_is_used_while_it_is_this_document_and_fresh(content: str) -> None:
    """Whatever another version of this package may have put there."""
    copy = documents(MemoryCache({NAME: content}), Clock()).get(NAME, lambda: OURS)

    kept = json.loads(unseal(content) or b"")
    if copy.document != OURS or kept["document"] == OURS:
        assert kept["name"] == NAME
        assert copy.document == kept["document"]
        assert NOW - MAX_AGE < kept["fetched_at"] < NOW + SKEW * 2
    else:
        assert content != entry(KEPT)


@given(st.dictionaries(RAW_TEXT, json_values(), max_size=4).filter(is_plain))
def test_a_document_is_the_same_to_every_process(document: dict[str, Any]) -> None:
    """Fetched by one, read by the others."""
    cache, clock = MemoryCache(), Clock()

    assert documents(cache, clock).get(NAME, lambda: document).document == document
    assert documents(cache, clock).get(NAME, lambda: OURS).document == document


@part(0.3)
@given(FOREIGN | st.sampled_from([NOW, NOW + 10**9, float("inf"), float("-inf"), float("nan"), "nan", "1e9"]))
@example(Broken())
@example(float("nan"))
def test_nobody_waits_for_long_for_a_claim_that_others_made(claim: Any) -> None:
    """It isn't sealed, so it may say anything; about one call's time goes by at most."""
    cache, clock = MemoryCache(), Clock(step=AWAIT_OTHER / 2)
    mine = documents(cache, clock)
    old = mine.get(NAME, lambda: OURS)
    cache[f"{NAME}:claim"] = claim
    before = clock.now

    assert mine.newer(NAME, lambda: KEPT, than=old, interval=60) is None
    assert clock.now - before <= 4 * AWAIT_OTHER
