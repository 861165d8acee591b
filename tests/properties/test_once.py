"""A state is used once, by whichever of many processes is first, on whatever database they share."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from django.db import connection
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from spatio_django.models import ConsumedState
from spatio_django.pending import LIFETIME
from tests.properties.support import part

ROOT = Path(__file__).resolve().parents[2]
PROCESSES = 8
STATES = 300


@pytest.mark.django_db(transaction=True)
def test_each_state_is_used_by_exactly_one_of_many_processes() -> None:
    """All want the same ones at the same time: a second process that got one would sign in a second time."""
    states = [f"{number:064x}" for number in range(STATES)]
    order = {"database": str(connection.settings_dict["NAME"]), "processes": PROCESSES, "states": states}
    done = subprocess.run(
        [sys.executable, "-m", "tests.properties.consumers"],
        check=True,
        cwd=ROOT,
        input=json.dumps(order),
        stdout=subprocess.PIPE,
        text=True,
        timeout=120,
    )
    got = json.loads(done.stdout)

    assert sorted(state for each in got for state in each) == states
    # They did meet: one that had been alone would have got them all.
    assert len(got) == PROCESSES
    assert sum(bool(each) for each in got) > 1
    assert ConsumedState.objects.count() == STATES


@pytest.mark.django_db
@settings(part(0.3), suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.just("forget") | st.integers(0, 5), max_size=15))
def test_a_state_that_was_used_stays_used(steps: list[str | int]) -> None:
    """In any order of callbacks and of clearing up, while a login of that time could still come back."""
    ConsumedState.objects.all().delete()
    used: set[int] = set()
    for step in steps:
        if isinstance(step, int):
            assert ConsumedState.consume(f"{step:064x}", lifetime=LIFETIME) == (step not in used)
            used.add(step)
        else:
            ConsumedState.forget_expired()
    assert ConsumedState.objects.count() == len(used)
