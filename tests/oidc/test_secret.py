"""spatio_django.oidc.secret: what is secret cannot be shown by accident."""

import copy
import pickle
import traceback

import pytest

from spatio_django.oidc.secret import Secret

SECRET = Secret("hunter2")


def test_only_reveal_gives_the_text() -> None:
    """Neither logging nor string building nor an error report spells it."""
    assert SECRET.reveal() == "hunter2"

    assert "hunter2" not in f"{SECRET} {SECRET!r} {SECRET!s} {SECRET:>20} {[SECRET]} %s" % SECRET


def test_a_traceback_with_locals_does_not_show_it() -> None:
    """Error reporters print the repr of every local."""

    def fail(token: Secret) -> None:
        raise ValueError(token)

    with pytest.raises(ValueError, match="<Secret>") as caught:
        fail(SECRET)
    error = traceback.TracebackException.from_exception(caught.value, capture_locals=True)
    report = "".join(error.format())

    assert "token = <Secret>" in report
    assert "hunter2" not in report


@pytest.mark.parametrize("duplicate", [pickle.dumps, copy.copy, copy.deepcopy])
def test_it_is_not_pickled_or_copied(duplicate: object) -> None:
    """So that no cache, session or task queue keeps it in clear."""
    assert callable(duplicate)
    with pytest.raises(TypeError):
        duplicate(SECRET)


def test_equality_is_of_texts_and_only_among_secrets() -> None:
    """Comparing one with a plain string is a mistake, and never true; lone surrogates do not raise."""
    assert Secret("hunter2") == SECRET
    assert hash(Secret("hunter2")) == hash(SECRET)
    assert Secret("hunter3") != SECRET
    assert SECRET != "hunter2"
    assert Secret("\ud800") != SECRET


def test_an_empty_one_is_false() -> None:
    """As an empty string is."""
    assert SECRET
    assert not Secret("")
