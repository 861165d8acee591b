"""
Distance: a TCP proxy, in a process of its own, that holds back every byte for half a round trip.

A new connection costs a whole round trip before its first byte leaves, as TCP's handshake does; TLS then pays
its own. Slow start and loss are not simulated, and nothing is in the way of many connections at once.
"""

import asyncio
import selectors
import threading
from collections import deque

from benchmarks import workers


class Leg(asyncio.Protocol):
    """One end of a connection through the proxy. What it reads, the other end writes, later."""

    def __init__(self, delay: float, opens_at: float) -> None:
        self._delay = delay
        self._opens_at = opens_at
        self._loop = asyncio.get_running_loop()
        self._on_the_way: deque[bytes | None] = deque()
        self._written: list[bytes | None] = []
        self._transport: asyncio.Transport | None = None
        self.other: Leg | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Write what came before there was anything to write it to."""
        assert isinstance(transport, asyncio.Transport)  # noqa: S101 - for the type checker
        self._transport = transport
        for data in self._written:
            self.write(data)

    def data_received(self, data: bytes) -> None:
        """Send *data* on its way."""
        self._depart(data)

    def connection_lost(self, exc: Exception | None) -> None:
        """Send the end on its way."""
        self._depart(None)

    def write(self, data: bytes | None) -> None:
        """Write what has arrived; ``None`` is the end."""
        if self._transport is None:
            self._written.append(data)
        elif data is None:
            self._transport.close()
        else:
            self._transport.write(data)

    def _depart(self, data: bytes | None) -> None:
        self._on_the_way.append(data)
        self._loop.call_at(max(self._loop.time(), self._opens_at) + self._delay, self._arrive)

    def _arrive(self) -> None:
        # From the queue, not from the timer: the loop may swap timers of the same moment.
        assert self.other is not None  # noqa: S101 - for the type checker
        self.other.write(self._on_the_way.popleft())


class Proxy:
    """Listens on loopback."""

    def __init__(self, *, port: int, round_trip: float) -> None:
        self._behind = port
        self._round_trip = round_trip
        self.port = 0
        self.listening = threading.Event()

    def run(self) -> None:
        """Serve, for ever."""
        # select() waits for microseconds; asyncio's usual epoll rounds up to milliseconds.
        loop = asyncio.SelectorEventLoop(selectors.SelectSelector())
        loop.run_until_complete(self._serve(loop))

    async def _serve(self, loop: asyncio.AbstractEventLoop) -> None:
        tasks = set()

        def accepted() -> Leg:
            opens_at = loop.time() + self._round_trip
            near, far = (Leg(self._round_trip / 2, opens_at) for _ in range(2))
            near.other, far.other = far, near
            task = loop.create_task(loop.create_connection(lambda: far, "127.0.0.1", self._behind))
            tasks.add(task)
            task.add_done_callback(tasks.discard)
            return near

        server = await loop.create_server(accepted, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        self.listening.set()
        await server.serve_forever()


def main() -> None:
    """Serve, and answer the parent."""
    config = workers.config()
    proxy = Proxy(port=config["port"], round_trip=config["round_trip"])
    threading.Thread(target=proxy.run, daemon=True).start()
    proxy.listening.wait(10)
    workers.serve({"port": lambda: proxy.port})


if __name__ == "__main__":
    main()
