"""spatio_django.oidc.answer: an HTTP answer before it is judged."""

import time
from email.utils import formatdate

import pytest

from spatio_django.exceptions import ProtocolViolation, ProviderUnavailable
from spatio_django.oidc.answer import MAX_RETRY_AFTER, Answer


def test_a_body_is_not_shown() -> None:
    """It may hold tokens."""
    answer = Answer(status=200, body=b'{"access_token": "hunter2"}')

    assert "hunter2" not in repr(answer)
    assert answer.json_object() == {"access_token": "hunter2"}


def test_a_body_that_is_not_an_object_is_a_violation_that_does_not_tell_it() -> None:
    """The error names status and type, for the operator, and leaves the text out."""
    answer = Answer(status=200, headers={"content-type": "Text/HTML; charset=x"}, body=b"<p>hunter2")

    with pytest.raises(ProtocolViolation) as caught:
        answer.json_object()

    assert caught.value.code == "not_json"
    assert caught.value.context == {"status": 200, "content_type": "text/html"}
    assert caught.value.__context__ is None


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("0", 0),
        ("120", 120),
        (" 7 ", 7),
        ("99999999", MAX_RETRY_AFTER),
        ("Fri, 31 Dec 1999 23:59:59 GMT", 0),
        ("Fri, 31 Dec 9999 23:59:59 GMT", MAX_RETRY_AFTER),
        ("", None),
        ("-1", None),
        ("1.5", None),
        ("soon", None),
        ("9" * 400, None),
        ("١٢", None),
        ("Tue, 31 Feb 2026 00:00:00 GMT", None),
        ("Fri, 31 Dec 0001 23:59:59 GMT", 0),
    ],
)
def test_retry_after_is_bounded_seconds_or_nothing(text: str, seconds: float | None) -> None:
    """Both forms of RFC 9110 §10.2.3; what is neither is as good as absent."""
    assert Answer(status=503, headers={"retry-after": text}).retry_after == seconds


def test_retry_after_as_a_date_is_counted_from_now() -> None:
    """A provider may name the moment."""
    answer = Answer(status=503, headers={"retry-after": formatdate(time.time() + 100, usegmt=True)})

    assert answer.retry_after == pytest.approx(100, abs=2)


@pytest.mark.parametrize(
    ("status", "code"), [(429, "rate_limited"), (500, "bad_status"), (503, "bad_status"), (599, "bad_status")]
)
def test_busy_and_broken_providers_are_unavailable(status: int, code: str) -> None:
    """429 and 5xx say nothing about the request: it may be made again, later."""
    with pytest.raises(ProviderUnavailable) as caught:
        Answer(status=status, headers={"retry-after": "30"}).require_available()

    assert (caught.value.code, caught.value.retry_after) == (code, 30)


@pytest.mark.parametrize("status", [200, 204, 400, 401, 404])
def test_other_statuses_are_for_the_caller_to_judge(status: int) -> None:
    """They mean something else at every endpoint."""
    Answer(status=status).require_available()

    assert Answer(status=status).unexpected().code == "bad_status"
