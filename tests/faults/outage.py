"""An outage of the provider while people use the site, and what they noticed of it."""

import random
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Any, Self

from django.test import Client

from spatio_django.models import GrantState, SpatioToken
from spatio_django.threads import close_connections
from tests.faults.conftest import DISCOVERY, KEYS, REVOKE, TOKEN, USERINFO, Rig
from tests.hostile.front import Deed, hang
from tests.oidc.wire import reply

JSON = "Content-Type: application/json"

#: What the provider does instead of answering.
KINDS: dict[str, Deed | None] = {
    "refused": None,
    "hanging": hang,
    "503": lambda connection, _: connection.sendall(reply(b"", status="503 Service Unavailable")),
    "garbage": lambda connection, _: connection.sendall(reply(b"<html>It works!</html>" * 99, JSON)),
}


@dataclass
class Report:
    """What was seen: pages by status, who was signed out, calls per person, and how long pages took."""

    pages: Counter[int] = field(default_factory=Counter)
    signed_out: int = 0
    wrong: list[str] = field(default_factory=list)
    most_calls: int = 0
    calls: int = 0
    before: list[float] = field(default_factory=list)
    during: list[float] = field(default_factory=list)
    normal_after: float = 0.0
    slowest: tuple[float, str] = (0.0, "")

    def __str__(self) -> str:
        return (
            f"pages {dict(self.pages)}, signed out {self.signed_out}, calls {self.calls}, at most "
            f"{self.most_calls} for one person, slowest {self.slowest}, p50/p99 "
            f"{1000 * at(self.before, 0.5):.0f}/{1000 * at(self.before, 0.99):.0f} ms before, "
            f"{1000 * at(self.during, 0.5):.0f}/{1000 * at(self.during, 0.99):.0f} ms during, "
            f"normal {self.normal_after:.1f} s after the end"
        )


def at(times: list[float], part: float) -> float:
    """Give a percentile."""
    ordered = sorted(times)
    return ordered[min(int(len(ordered) * part), len(ordered) - 1)] if ordered else 0.0


class Crowd:
    """
    People who read pages all the time, on several threads.

    Args:
        pause: Seconds between two pages of one thread.
    """

    def __init__(self, rig: Rig, *, people: int, threads: int, pause: float) -> None:
        self.rig = rig
        self.people = [rig.person(f"p{number}") for number in range(people)]
        self.report = Report()
        self.phase = "before"
        self._pause = pause
        self._ended = threading.Event()
        self._threads = [
            threading.Thread(target=self._run, args=(number,), daemon=True) for number in range(threads)
        ]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        for thread in self._threads:
            thread.join(40)

    def _run(self, number: int) -> None:
        chance = random.Random(number)  # noqa: S311
        browsers: dict[int, Client] = {}
        try:
            while not self._ended.is_set():
                who = chance.randrange(len(self.people))
                if who not in browsers:
                    browsers[who] = self.rig.twin(self.people[who][0])
                self._visit(browsers[who], chance.random() < 0.3)
                time.sleep(self._pause)
        finally:
            close_connections()

    def _visit(self, browser: Client, wants_token: bool) -> None:
        phase, began = self.phase, time.monotonic()
        response: Any = browser.get("/token/" if wants_token else "/ping/")
        took = time.monotonic() - began
        self.report.pages[response.status_code] += 1
        if phase == "before":
            self.report.before.append(took)
        elif phase == "during":
            self.report.during.append(took)
            what = f"{'token' if wants_token else 'page'} {response.status_code}"
            self.report.slowest = max(self.report.slowest, (round(took, 1), what))
        if not wants_token and not response.content:
            self.report.signed_out += 1
        if response.status_code not in ({200, 503} if wants_token else {200}):
            self.report.wrong.append(f"{response.status_code} {response.content[:200]!r}")


def live_through(
    rig: Rig, kind: str, *, seconds: float, people: int, threads: int, life: int, pause: float
) -> Report:
    """
    Have the provider fail for *seconds* while people use the site.

    Args:
        life: Seconds that an access token lives; short, so that everybody must refresh during the outage.
    """
    rig.spatio.access_token_lifetime = life
    with Crowd(rig, people=people, threads=threads, pause=pause) as crowd:
        time.sleep(min(life / 2, 5.0))
        rig.line.calls.clear()
        crowd.phase = "during"
        deed = KINDS[kind]
        if deed is None:
            rig.line.hang_up()
        else:
            rig.line.instead = dict.fromkeys((TOKEN, REVOKE, USERINFO, KEYS, DISCOVERY), deed)
        time.sleep(seconds)
        calls = Counter(rig.refreshes)
        crowd.report.calls = calls.total()
        crowd.report.most_calls = max(
            max(calls.values(), default=0), *SpatioToken.objects.values_list("fails", flat=True)
        )
        crowd.phase = "after"
        if deed is None:
            rig.line.pick_up()
        else:
            rig.line.instead = {}
        ended = time.monotonic()
        while SpatioToken.objects.filter(fails__gt=0, state=GrantState.ACTIVE).exists():
            assert time.monotonic() - ended < 60, "it does not become normal again"
            time.sleep(0.1)
        crowd.report.normal_after = time.monotonic() - ended
    return crowd.report
