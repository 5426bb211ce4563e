"""Whose turn it is where one works at a time: who has waited longest, but large work gives way to small for a while."""

import asyncio
import heapq
import itertools
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class Turns:
    """Used on one event loop.

    Args:
        gives_way_s: for how long work gives way to what came later and is smaller, per unit of size: about what the work takes.
            It bounds that wait, too.
    """

    def __init__(self, *, gives_way_s: float) -> None:
        self._gives_way_s = gives_way_s
        self._is_taken = False
        self._waiting: list[tuple[float, int, asyncio.Future[None]]] = []
        self._arrivals = itertools.count()

    @asynccontextmanager
    async def turn(self, size: int) -> AsyncIterator[None]:
        """Wait for one's turn, which lasts for the body."""
        if self._is_taken:
            turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            heapq.heappush(self._waiting, (time.monotonic() + size * self._gives_way_s, next(self._arrivals), turn))
            try:
                await turn
            except asyncio.CancelledError:
                if not turn.cancelled():  # it came, and is given up
                    self._pass_on()
                raise
        self._is_taken = True
        try:
            yield
        finally:
            self._pass_on()

    def _pass_on(self) -> None:
        while self._waiting:
            *_, turn = heapq.heappop(self._waiting)
            if not turn.done():
                turn.set_result(None)
                return
        self._is_taken = False
