"""The driver: puts one load on a server and measures. Lives in a process of its own, so that nothing else is in its way.

While the clock runs it only sends and keeps what comes; answers are read and checked afterwards.
"""

import asyncio
import gc
import itertools
import os
import random
import time
from collections.abc import Iterator, Mapping, Sequence

import psutil
import uvloop

from loadtest.bench.assess import Clock, assess
from loadtest.bench.connections import Call, Pool, encode_request
from loadtest.bench.load import Closed, Load, Measured, Open, Target
from loadtest.bench.pacer import sending

ARRIVALS_SEED = 1
"""Every server gets its requests at the same random times, but for the rate."""
MAX_CONNECTIONS = 2_048
"""In an open loop; a request over it waits for one, and its wait is counted."""


def drive(target: Target, texts: Sequence[str], alone_s: Mapping[int, float], load: Load) -> Measured:
    """Put ``load`` on ``target``.

    Args:
        alone_s: the model's own time for a text, by its index.

    Raises:
        OSError: it can't be connected to.
    """
    size = load.texts_per_request
    requests = [
        encode_request(target.host, target.port, target.dialect.path, target.dialect.body(texts[first : first + size]))
        for first in range(0, len(texts) - size + 1, size)
    ]
    gc.collect()
    gc.disable()
    try:
        return uvloop.run(_Drive(target, load, requests).run(alone_s))
    finally:
        gc.enable()


def pin_to_last_core() -> None:
    """Keep this process on one core, so that the server's threads have a core that is theirs."""
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})


class _Drive:
    def __init__(self, target: Target, load: Load, requests: Sequence[bytes]) -> None:
        self._target = target
        self._load = load
        self._requests = requests
        self._order = itertools.cycle(range(len(requests)))
        self._calls: list[Call] = []
        self._in_flight = 0
        self._is_stopped = False

    async def run(self, alone_s: Mapping[int, float]) -> Measured:
        self._settled = asyncio.get_running_loop().create_future()
        arrivals = self._load.arrivals
        self._pool = Pool(
            self._target.host,
            self._target.port,
            most=arrivals.connections if isinstance(arrivals, Closed) else MAX_CONNECTIONS,
            payload=self._requests.__getitem__,
            now=time.monotonic,
            on_done=self._closed_done if isinstance(arrivals, Closed) else self._done,
            on_failure=self._fail,
        )
        try:
            await (self._closed_loop(arrivals) if isinstance(arrivals, Closed) else self._open_loop(arrivals))
            return assess(self._load, self._target.dialect, self._calls, self._clock, alone_s)
        finally:
            self._pool.close()

    async def _closed_loop(self, arrivals: Closed) -> None:
        for _ in range(arrivals.connections):
            self._submit(time.monotonic())
        await self._watch()

    async def _open_loop(self, arrivals: Open) -> None:
        with sending(self._times(arrivals.rate_per_s), self._submit):
            await self._watch()

    def _times(self, rate_per_s: float) -> Iterator[float]:
        rng = random.Random(ARRIVALS_SEED)
        at = time.monotonic()
        while not self._is_stopped:
            yield at
            at += rng.expovariate(rate_per_s)

    async def _watch(self) -> None:
        """Wait through the load, reading the clocks of both processes at the ends of the measured seconds."""
        await self._wait(self._load.warm_up_s)
        began_at, driver_began_s, server_began_s = time.monotonic(), time.process_time(), self._server_cpu_s()
        await self._wait(self._load.measure_s)
        ended_at, driver_ended_s, server_ended_s = time.monotonic(), time.process_time(), self._server_cpu_s()
        self._is_stopped = True
        if self._in_flight:
            await self._wait(self._load.drain_s)
        self._clock = Clock(
            began_at,
            ended_at,
            given_up_at=time.monotonic(),
            driver_cpu_s=driver_ended_s - driver_began_s,
            server_cpu_s=server_ended_s - server_began_s if self._target.pids else None,
        )

    async def _wait(self, seconds: float) -> None:
        """Seconds, or until nothing is left to wait for; a failure to connect is raised here."""
        await asyncio.wait([self._settled], timeout=seconds)
        if self._settled.done():
            self._settled.result()

    def _submit(self, intended_at: float) -> None:
        if self._is_stopped:
            return
        call = Call(next(self._order), intended_at)
        self._calls.append(call)
        self._in_flight += 1
        self._pool.submit(call)

    def _closed_done(self, call: Call) -> None:
        self._submit(call.done_at)
        self._done(call)

    def _done(self, _call: Call) -> None:
        self._in_flight -= 1
        if self._is_stopped and not self._in_flight and not self._settled.done():
            self._settled.set_result(None)

    def _fail(self, error: Exception) -> None:
        if not self._settled.done():
            self._settled.set_exception(error)

    def _server_cpu_s(self) -> float:
        return sum(sum(psutil.Process(pid).cpu_times()[:2]) for pid in self._target.pids)
