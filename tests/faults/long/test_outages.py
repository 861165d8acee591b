"""F40, G4: each kind of outage, a minute long if the environment says so, with many people."""

import os

import pytest

from spatio_django.models import GrantState, SpatioToken
from tests.faults.conftest import Rig
from tests.faults.outage import KINDS, live_through

SECONDS = float(os.environ.get("SPATIO_TESTS_OUTAGE", "15"))


@pytest.mark.parametrize("kind", KINDS)
def test_an_outage_of_any_kind_signs_nobody_out(
    rig: Rig, kind: str, record_property: pytest.FixtureRequest
) -> None:
    """Nobody is signed out, six calls a minute at most for each person, and normal within 30 seconds."""
    many = SECONDS >= 60
    report = live_through(
        rig,
        kind,
        seconds=SECONDS,
        people=50 if many else 10,
        threads=32 if many else 8,
        life=20 if many else 6,
        pause=0.1 if many else 0.05,
    )

    record_property("report", str(report))  # type: ignore[operator]
    assert not report.signed_out, report
    assert not report.wrong, report
    assert report.most_calls <= 6, report
    assert report.normal_after < 30, report
    assert set(SpatioToken.objects.values_list("state", flat=True)) == {GrantState.ACTIVE}
    assert all(rig.is_good(grant) for grant in SpatioToken.objects.all())
