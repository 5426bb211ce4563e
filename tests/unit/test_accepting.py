"""All who wait are let in at one turn of the event loop, where libuv lets in one."""

import asyncio
import itertools
import socket
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import uvloop

from server.accepting import Accepting

WAITING = 100


class Echo(asyncio.Protocol):
    """Sends back what it gets."""

    def __init__(self, let_in: list["Echo"]) -> None:
        self._let_in = let_in

    def connection_made(self, transport) -> None:
        self.transport = transport
        self._let_in.append(self)

    def data_received(self, data: bytes) -> None:
        self.transport.write(data)


@asynccontextmanager
async def crowd(*, most: int) -> AsyncIterator[tuple[Accepting, list[socket.socket], list[Echo]]]:
    """Somebody who accepts, those who wait for it, and those who are in."""
    let_in: list[Echo] = []
    async with AsyncExitStack() as stack:
        loop = asyncio.get_running_loop()
        server = await loop.create_server(lambda: Echo(let_in), "127.0.0.1", 0, backlog=WAITING)
        stack.callback(server.close)
        accepting = Accepting(server, lambda: Echo(let_in), most=most)
        stack.push_async_callback(accepting.close)
        address = server.sockets[0].getsockname()
        waiting = [stack.enter_context(socket.create_connection(address, timeout=60)) for _ in range(WAITING)]
        yield accepting, waiting, let_in
        for echo in let_in:
            echo.transport.close()
        await turns(2)


async def turns(count: int) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


def test_all_who_wait_are_let_in_at_once_and_served():
    async def run() -> None:
        async with crowd(most=WAITING) as (_, waiting, let_in):
            for number, client in enumerate(waiting):
                client.sendall(b"%d" % number)
            await turns(4)  # taken, opened, told so, and one to spare
            assert len(let_in) == WAITING
            assert [await asyncio.to_thread(client.recv, 10) for client in waiting] == [b"%d" % n for n in range(WAITING)]

    uvloop.run(run())


def test_a_turn_lets_in_no_more_than_it_may():
    async def run() -> None:
        async with crowd(most=10) as (_, _, let_in):
            sizes = [0]
            while sizes[-1] < WAITING:
                await turns(1)
                sizes.append(len(let_in))
        grown = [after - before for before, after in itertools.pairwise(sizes)]
        assert 10 <= max(grown) <= 11, "and one by libuv itself"

    uvloop.run(run())


def test_whoever_waits_when_it_closes_is_let_in():
    async def run() -> None:
        async with crowd(most=WAITING) as (accepting, _, let_in):
            await accepting.close()
            assert len(let_in) == WAITING
            await accepting.close()

    uvloop.run(run())
