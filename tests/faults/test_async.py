"""Under ASGI: a client that goes away takes nothing with it."""

import asyncio
import threading
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from asgiref.testing import ApplicationCommunicator
from django.core.handlers.asgi import ASGIHandler
from django.test import AsyncClient, Client

from spatio_django.threads import close_connections
from tests.conftest import run_async
from tests.faults.conftest import TOKEN, Rig, settle, times
from tests.faults.test_table import after


async def visit_and_leave(
    app: ASGIHandler, browser: Client, path: str, held: threading.Event, let_go: threading.Event
) -> bool:
    """Ask for *path*, disconnect while the provider holds its answer; tell whether the request had ended."""
    cookies = "; ".join(f"{name}={morsel.value}" for name, morsel in browser.cookies.items())
    communicator: Any = ApplicationCommunicator(  # type: ignore[no-untyped-call]
        app,
        {
            "type": "http",
            "method": "GET",
            "path": path,
            "query_string": b"",
            "headers": [(b"host", b"testserver"), (b"cookie", cookies.encode())],
        },
    )
    await communicator.send_input({"type": "http.request", "body": b"", "more_body": False})
    assert await asyncio.to_thread(held.wait, 10)
    await communicator.send_input({"type": "http.disconnect"})
    ended = True
    try:
        await asyncio.wait_for(asyncio.shield(communicator.future), 5)
    except TimeoutError:
        ended = False
    except asyncio.CancelledError:
        pass
    let_go.set()
    return ended


@pytest.mark.parametrize("where", ["middleware", "view"])
def test_a_client_that_goes_away_during_a_refresh_loses_nothing(rig: Rig, where: str) -> None:
    """The request ends with its client, before the provider has answered; the successor is stored."""
    browser, grant = rig.person()
    rig.works(browser, grant)
    app = ASGIHandler()
    count = times("SPATIO_TESTS_DISCONNECTS", 20) // 2
    for number in range(count):
        held, let_go = threading.Event(), threading.Event()

        def hold(held: threading.Event = held, let_go: threading.Event = let_go) -> None:
            held.set()
            assert let_go.wait(20)

        rig.lies.lies[TOKEN] = after(hold)
        rig.expire(grant, left=-1 if where == "middleware" else 1500)
        path = "/aplain/" if where == "middleware" else "/along/"
        assert run_async(visit_and_leave(app, browser, path, held, let_go))
        settle()
        rig.lies.lies.clear()
        assert rig.row(grant).generation == number + 2
        assert rig.is_good(grant)
    assert len(rig.refreshes) == len(set(rig.refreshes)) == count + 1
    rig.works(browser, grant)


def test_fifty_tasks_at_the_same_expiry_make_one_call(rig: Rig) -> None:
    """F1, in one event loop: one call, and all have the new token."""
    browser, grant = rig.person()
    rig.expire(grant)

    async def visit(client: AsyncClient) -> tuple[int, bytes]:
        response = await client.get("/atoken/")
        return response.status_code, response.content

    async def crowd() -> list[tuple[int, bytes]]:
        clients = [AsyncClient() for _ in range(50)]
        for client in clients:
            for name, morsel in browser.cookies.items():
                client.cookies[name] = morsel.value
        answers = await asyncio.gather(*map(visit, clients))
        await sync_to_async(close_connections)()
        return answers

    answers = run_async(crowd())

    assert len(set(answers)) == 1
    assert answers[0][0] == 200
    assert len(rig.refreshes) == 1
    assert rig.is_good(grant)
