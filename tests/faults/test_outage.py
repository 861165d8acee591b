"""F40: the provider is away while people use the site."""

from spatio_django.models import GrantState, SpatioToken
from tests.faults.conftest import Rig
from tests.faults.outage import live_through


def test_f40_an_outage_signs_nobody_out(rig: Rig) -> None:
    """F40: pages come, nobody is signed out, few calls are made; then all is normal by itself."""
    report = live_through(rig, "503", seconds=4, people=4, threads=4, life=3, pause=0.02)

    assert not report.signed_out
    assert not report.wrong
    assert report.calls
    assert report.most_calls <= 6
    assert set(SpatioToken.objects.values_list("state", flat=True)) == {GrantState.ACTIVE}
    assert all(rig.is_good(grant) for grant in SpatioToken.objects.all())
