"""What the package raises can be handed from process to process."""

import copy
import inspect
import multiprocessing
import pickle
from concurrent.futures import ProcessPoolExecutor

import pytest

from spatio_django import exceptions
from spatio_django.exceptions import ProviderUnavailable, SessionEnded, SpatioError


def kinds(kind: type[SpatioError] = SpatioError) -> list[type[SpatioError]]:
    """Give *kind* and all that are derived from it."""
    return [kind, *(each for derived in kind.__subclasses__() for each in kinds(derived))]


def more(kind: type[SpatioError]) -> dict[str, float]:
    """Give something for whatever that class takes beside a message, a code and facts."""
    parameters = inspect.signature(kind).parameters.values()
    named = [parameter.name for parameter in parameters if parameter.kind is parameter.KEYWORD_ONLY]
    return {name: 7.5 for name in named if name != "code"}


def made(kind: type[SpatioError]) -> SpatioError:
    """Make one with all that it can have."""
    return kind("It failed.", code="some_code", status=503, **more(kind))


def test_every_class_is_tried_here() -> None:
    """The classes of the module are found by what they derive from, and its docstring names them all."""
    there = {name: kind for name, kind in vars(exceptions).items() if inspect.isclass(kind)}
    listed = {name for name, kind in there.items() if kind.__module__ == exceptions.__name__}
    found = {kind.__name__ for kind in kinds() if kind.__module__ == exceptions.__name__}

    assert found == listed
    assert len(found) >= 12
    assert more(ProviderUnavailable) == {"retry_after": 7.5}
    assert all(name in (exceptions.__doc__ or "") for name in found)


@pytest.mark.parametrize("kind", kinds())
def test_every_error_survives_pickle_and_copy(kind: type[SpatioError]) -> None:
    """With its words, its code, its facts, what else its class has, and the notes that somebody added."""
    error = made(kind)
    error.add_note("seen on a Monday")
    protocols = range(pickle.HIGHEST_PROTOCOL + 1)
    pickled = [pickle.loads(pickle.dumps(error, protocol)) for protocol in protocols]  # noqa: S301 - our own

    for again in (*pickled, copy.copy(error), copy.deepcopy(error)):
        assert type(again) is kind
        assert (str(again), again.args) == ("It failed.", ("It failed.",))
        assert vars(again) == vars(error)
        assert (again.code, again.context) == ("some_code", {"status": 503})
        assert {name: getattr(again, name) for name in more(kind)} == more(kind)


def job() -> None:
    """Do what a job does whose person signed out."""
    raise SessionEnded("The grant is over.", code="signed_out", reason="replaced")


def test_a_job_in_another_process_says_why_it_failed() -> None:
    """Its error arrives, and the pool goes on."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        with pytest.raises(SessionEnded) as caught:
            pool.submit(job).result()
        assert pool.submit(len, "on").result() == 2

    assert (caught.value.code, caught.value.context) == ("signed_out", {"reason": "replaced"})
