"""The flood itself: an open loop of the bench's raw client, in a process of its own. Answers are read afterwards."""

import asyncio
import gc
import itertools
import random
import time
from collections.abc import Iterator, Sequence

import uvloop

from loadtest.bench.connections import LOST, UNANSWERED, Call, Pool, encode_request
from loadtest.bench.dialects import WrongAnswer
from loadtest.bench.driver import MAX_CONNECTIONS
from loadtest.bench.load import Target
from loadtest.bench.pacer import sending
from loadtest.scenario.judge import Outcome
from loadtest.shapes import Steps, arrivals
from loadtest.tally import Sample, Tally

BIN_S = 0.25
SEED = 1
_STATUSES: dict[str, Outcome] = {"503": "shed", "504": "expired", "429": "limited", LOST: "lost", UNANSWERED: "unanswered"}


def flood(target: Target, texts: Sequence[str], steps: Steps, *, drain_s: float) -> Tally:
    """Send single texts as ``steps`` say, and wait for the last answers for at most ``drain_s`` seconds.

    Raises:
        OSError: the target can't be connected to.
    """
    requests = [encode_request(target.host, target.port, target.dialect.path, target.dialect.body([text])) for text in texts]
    gc.collect()
    gc.disable()
    try:
        return uvloop.run(_Flood(target, requests).run(steps, drain_s))
    finally:
        gc.enable()


class _Flood:
    def __init__(self, target: Target, requests: Sequence[bytes]) -> None:
        self._target = target
        self._requests = requests
        self._order = itertools.cycle(range(len(requests)))
        self._calls: list[Call] = []
        self._in_flight = 0
        self._is_over = False

    async def run(self, steps: Steps, drain_s: float) -> Tally:
        self._settled = asyncio.get_running_loop().create_future()
        self._pool = Pool(
            self._target.host,
            self._target.port,
            most=MAX_CONNECTIONS,
            payload=self._requests.__getitem__,
            now=time.monotonic,
            on_done=self._done,
            on_failure=self._fail,
        )
        began_at = time.monotonic()
        try:
            with sending(self._times(began_at, steps), self._submit):
                await asyncio.wait([self._settled], timeout=steps[-1].end_s + drain_s)
            if self._settled.done():
                self._settled.result()
            return self._count(began_at, time.monotonic())
        finally:
            self._pool.close()

    def _times(self, began_at: float, steps: Steps) -> Iterator[float]:
        for offset_s in arrivals(steps, random.Random(SEED)):
            yield began_at + offset_s
        self._is_over = True

    def _submit(self, intended_at: float) -> None:
        call = Call(next(self._order), intended_at)
        self._calls.append(call)
        self._in_flight += 1
        self._pool.submit(call)

    def _done(self, _call: Call) -> None:
        self._in_flight -= 1
        if self._is_over and not self._in_flight and not self._settled.done():
            self._settled.set_result(None)

    def _fail(self, error: Exception) -> None:
        if not self._settled.done():
            self._settled.set_exception(error)

    def _count(self, began_at: float, given_up_at: float) -> Tally:
        tally = Tally(BIN_S)
        for call in self._calls:
            outcome, complaint = self._read(call)
            # min() takes the first of two when one is NaN: a call that was never sent, or never ended.
            sent_at, done_at = min(given_up_at, call.sent_at), min(given_up_at, call.done_at)
            times = (call.intended_at - began_at, sent_at - began_at, done_at - began_at)
            tally.add(Sample("check", True, outcome, *times, complaint))
        return tally

    def _read(self, call: Call) -> tuple[Outcome, str | None]:
        if call.outcome != "200":
            status = call.outcome
            return _STATUSES.get(status, "failed" if status.startswith("5") else "wrong"), f"status {status}"
        try:
            self._target.dialect.check(call.body, 1)
        except WrongAnswer as wrong:
            return "wrong", str(wrong)
        return "ok", None
