"""What takes as long as it takes in earnest: whole deadlines, and a database that refuses for seconds."""

import socket
import time

import pytest
from django.test import Client

from spatio_django import refreshing
from spatio_django.oidc import client as oidc_client
from tests.faults.conftest import TOKEN, Rig, complaints, settle, times
from tests.faults.databases import outages, patience, together
from tests.faults.test_table import after
from tests.hostile.conftest import Records
from tests.hostile.front import Deed, hang
from tests.oidc.wire import reply


@pytest.mark.parametrize("how", ["hangs", "drips"])
def test_f11_f12_the_deadline_in_earnest(rig: Rig, how: str) -> None:
    """F11, F12: a page waits ten seconds and no more; then nobody waits for the next ones."""
    browser, grant = rig.person()
    rig.works(browser, grant)

    def drip(connection: socket.socket, _: bytes) -> None:
        rig.line.drip(connection, reply(b" " * 500, "Content-Type: application/json"), every=1.0)

    deeds: dict[str, Deed] = {"hangs": hang, "drips": drip}
    rig.line.instead[TOKEN] = deeds[how]
    rig.expire(grant)
    began = time.monotonic()
    assert rig.is_signed_in(browser)
    took = time.monotonic() - began
    assert oidc_client.REFRESH_TIMEOUT - 0.5 < took < oidc_client.REFRESH_TIMEOUT + 1
    assert browser.get("/token/").status_code == 503
    assert time.monotonic() - began < took + 1
    assert len(rig.refreshes) == 2
    rig.line.be_honest()
    rig.pass_time(60)
    rig.works(browser, grant)


def test_g6_a_database_that_refuses_again_and_again_loses_no_token(rig: Rig, records: Records) -> None:
    """Five people refresh at once, and the database goes away in the middle of it, for eight seconds."""
    crowd = [rig.person(f"p{number}") for number in range(5)]
    for browser, grant in crowd:
        rig.works(browser, grant)
    for _ in range(times("SPATIO_TESTS_REFUSALS", 2)):
        with patience(1.0), outages() as outage:
            began: list[bool] = []

            def begin(began: list[bool] = began) -> None:
                if not began:
                    began.append(True)
                    outage.begin(8.0)

            for _browser, grant in crowd:
                rig.expire(grant)
            grants = [rig.row(grant) for _, grant in crowd]
            rig.lies.lies[TOKEN] = after(begin)
            together(5, lambda number, grants=grants: refreshing.fresh(grants[number], refreshing.Need()))  # type: ignore[misc]
            rig.lies.lies.clear()
            outage.wait()
            settle()
        for _, grant in crowd:
            assert rig.is_good(grant)
        rig.pass_time(60)
        for browser, grant in crowd:
            rig.works(browser, grant)
    sent = rig.refreshes
    assert len(sent) == len(set(sent)), "none was sent twice"
    assert not [line for line in complaints(records) if "lost" in line]


def twins(rig: Rig, browser: Client, count: int) -> list[Client]:
    """Give that many browsers with the same session."""
    return [rig.twin(browser) for _ in range(count)]


def test_a_provider_that_hangs_holds_one_thread_per_person(rig: Rig) -> None:
    """Of twenty requests at once one finds out; the others' pages come without waiting."""
    browser, grant = rig.person()
    rig.works(browser, grant)
    rig.line.instead[TOKEN] = hang
    rig.expire(grant)
    browsers = twins(rig, browser, 20)

    def visit(number: int) -> float:
        began = time.monotonic()
        assert browsers[number].get("/ping/").content
        return time.monotonic() - began

    took = sorted(together(20, visit))

    assert took[-1] < oidc_client.REFRESH_TIMEOUT + 1
    assert took[-2] < oidc_client.REFRESH_TIMEOUT / 2
    assert len(rig.refreshes) == 2
