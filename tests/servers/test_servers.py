"""
The example project on PostgreSQL under gunicorn and uvicorn, two processes each, with tokens of five seconds.

``SPATIO_TESTS_MINUTES`` says how long each of them is used; without it, twenty seconds.
"""

import os
import random
import re
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

import pytest
import requests

from spatio_django.testing import FakeSpatio
from tests.servers.conftest import Server, Watch
from tests.test_browser import ARGUMENTS, PATIENCE, find_chromium

pytestmark = [pytest.mark.servers, pytest.mark.provider]

MINUTES = float(os.environ.get("SPATIO_TESTS_MINUTES", "0"))
SECONDS = 60 * MINUTES or 20.0
#: Seconds more that a slow machine may take.
LONGER = 60.0
#: Refreshes whose clients hang up under uvicorn, and how many of them at once.
HANG_UPS, AT_ONCE = (200, 10) if MINUTES else (20, 10)
#: Hang-ups for each of them at most: on a busy machine many are gone before their request is read.
TRIES = 10

#: Runs in a tab: asks for pages, and notes everything that is not one.
FETCH = """async () => {
  window.fetched = {good: 0, bad: [], isDone: false};
  window.fetching = true;
  while (window.fetching) {
    for (const path of ['/me/', '/me/asked/']) {
      try {
        const answer = await fetch(path, {headers: {Accept: 'text/html'}});
        const text = await answer.text();
        const isGood = answer.status === 200 && !answer.redirected && text.includes('Ada Lovelace');
        if (isGood) window.fetched.good++;
        else window.fetched.bad.push([path, answer.status, answer.url]);
      } catch (error) { window.fetched.bad.push([path, String(error)]); }
    }
    await new Promise(resolve => setTimeout(resolve, 100));
  }
  window.fetched.isDone = true;
}"""


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    """Run Chromium."""
    sync_api = pytest.importorskip("playwright.sync_api")
    path = find_chromium()
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=ARGUMENTS)
        yield browser
        browser.close()


def reads(tab: Any, heading: str, server: Server) -> None:
    """Wait for a page with that heading; if another comes, say which."""
    with suppress(Exception):
        tab.get_by_role("heading", name=heading).wait_for()
        return
    pytest.fail(f"{tab.url}: {tab.locator('body').inner_text()}\n{server.output[-3000:]}")


@pytest.mark.parametrize("kind", ["gunicorn", "uvicorn"])
def test_nobody_notices_that_tokens_are_refreshed_and_workers_restarted(
    kind: str, serve: Any, chromium: Any, watch: Watch
) -> None:
    """Clicks and background fetches go on; no sign-in, no error, no failed fetch, no refresh token twice."""
    server: Server = serve(kind)
    with chromium.new_context() as context:
        context.set_default_timeout(PATIENCE)
        tab, background = context.new_page(), context.new_page()
        tab.goto(f"{server.origin}/me/")
        signed_in_at = time.monotonic()
        tab.get_by_role("button", name="Allow").click()
        tab.wait_for_url(f"{server.origin}/me/")
        sent_away: list[str] = []

        def note(request: Any) -> None:
            if "/spatio/login" in request.url:
                sent_away.append(request.url)

        def note_failure(request: Any) -> None:
            # A click may come while the last page's icon or style is on its way.
            is_cut_off = "/static/" in request.url and request.failure == "net::ERR_ABORTED"
            if not is_cut_off:
                sent_away.append(f"{request.url} {request.failure}")

        context.on("request", note)
        context.on("requestfailed", note_failure)
        context.on("weberror", lambda error: sent_away.append(str(error.error)))
        background.goto(f"{server.origin}/me/")
        background.evaluate(f"void ({FETCH})()")
        before, clicks = server.workers, 0
        assert len(before) == 2

        began = time.monotonic()
        restarted = False
        # A slow machine takes more time for as many fetches.
        while (now := time.monotonic() - began) < SECONDS or (
            background.evaluate("window.fetched.good") <= 10 and now < SECONDS + LONGER
        ):
            tab.get_by_role("link", name="Ask Spatio who I am").click()
            reads(tab, "Spatio answered", server)
            tab.get_by_role("link", name="Back").click()
            reads(tab, "Your access token", server)
            tab.wait_for_timeout(150)
            clicks += 2
            if not restarted and time.monotonic() > began + SECONDS / 2:
                server.restart_workers()
                restarted = True

        background.evaluate("window.fetching = false")
        deadline = time.monotonic() + LONGER
        while not background.evaluate("window.fetched.isDone"):
            assert time.monotonic() < deadline, server.output[-3000:]
            background.wait_for_timeout(100)
        lasted = time.monotonic() - signed_in_at
        fetched = background.evaluate("window.fetched")
        (times,) = re.findall(r"(\d+) times?", tab.get_by_role("row", name="Refreshed").inner_text())
    print(f"{kind}: {lasted:.0f} s, {clicks} clicks, {fetched['good']} fetches, {times} refreshes")

    assert (sent_away, fetched["bad"]) == ([], []), server.output[-5000:]
    assert fetched["good"] > 10
    assert watch.reuses == 0
    # Between a window before each end and a moment after it.
    assert SECONDS / 5 / 2 < int(times) <= len(watch.refreshes) <= lasted / 3 + 2
    assert restarted
    deadline = time.monotonic() + LONGER
    while not server.workers.isdisjoint(before) or len(server.workers) < 2:
        assert time.monotonic() < deadline, (before, server.workers, server.output[-3000:])
        time.sleep(0.1)
    assert "Traceback" not in server.output


def signed_in(server: Server, spatio: FakeSpatio) -> str:
    """Sign somebody in; give the session cookie."""
    with requests.Session() as browser:
        browser.trust_env = False
        browser.headers.update({"Accept": "text/html", "Sec-Fetch-Mode": "navigate"})
        begun = browser.get(f"{server.origin}/spatio/login/?next=/me/", allow_redirects=False, timeout=20)
        done = browser.get(spatio.sign_in(begun.headers["Location"]), allow_redirects=False, timeout=20)
        assert done.headers["Location"] == "/me/", done.text
        return str(browser.cookies["sessionid"])


def hang_up(server: Server, cookie: str) -> None:
    """Ask for a page, and be gone before the answer."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=20) as client:
        client.sendall(
            f"GET /me/ HTTP/1.1\r\nHost: localhost:{server.port}\r\nAccept: text/html\r\n"
            f"Sec-Fetch-Mode: navigate\r\nCookie: sessionid={cookie}\r\n\r\n".encode()
        )
        time.sleep(random.uniform(0.02, 0.3))


def test_clients_that_hang_up_during_a_refresh_lose_nothing(
    serve: Any, spatio: FakeSpatio, watch: Watch
) -> None:
    """
    Under ASGI the view's task is cancelled; the refresh is finished all the same.

    The provider takes as long as the most patient client, so that each refresh it sees is one whose client
    did not stay.
    """
    spatio.access_token_lifetime = 2
    server: Server = serve("uvicorn")
    cookies = [signed_in(server, spatio) for _ in range(AT_ONCE)]
    watch.seconds = 0.3

    hang_ups = 0
    with ThreadPoolExecutor(AT_ONCE) as people:
        while len(watch.refreshes) < HANG_UPS and hang_ups < TRIES * HANG_UPS:
            time.sleep(2.1)  # every token is expired
            list(people.map(hang_up, [server] * AT_ONCE, cookies))
            hang_ups += AT_ONCE
    time.sleep(2.1)

    assert len(watch.refreshes) >= HANG_UPS
    for cookie in cookies:
        page = requests.get(
            f"{server.origin}/me/", cookies={"sessionid": cookie}, allow_redirects=False, timeout=20
        )
        assert page.status_code == 200, server.output[-5000:]
    assert watch.reuses == 0
    print(f"{hang_ups} hang-ups, {len(watch.refreshes)} refreshes")
