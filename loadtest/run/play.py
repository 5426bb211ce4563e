"""What one process does of a plan: when each request is due, what it asks, and what came of it.

In an open loop a greenlet draws the arrivals of this process' share of the rate and puts each into a queue at its time; it
waits for no answer. A free user takes it from there. If none is free it waits in the queue, and since every time is counted
from when the request was due, so is that wait: a server that stalls for a second shows in each request that came in that
second (Locust's own wait times, ``constant_throughput`` among them, belong to a user who is waiting for the server, and
leave those requests out: coordinated omission).
"""

import itertools
import random
import time
from typing import Any

import gevent
import psutil
from gevent.queue import Queue

from loadtest.run.plan import Plan
from loadtest.scenario.exchange import Exchange
from loadtest.scenario.judge import Judged
from loadtest.scenario.memory import Memory
from loadtest.shapes import Step, arrivals
from loadtest.tally import Sample, Tally

_DUE = "due"


class Play:
    """Shared by the users of one process, which is the ``index``-th of ``processes``."""

    def __init__(self, plan: Plan, *, index: int, processes: int, key: str | None) -> None:
        self.plan = plan
        self._key = key
        self._rng, self._arrivals_rng = (random.Random(f"{plan.seed} {index} {what}") for what in ("ids", "arrivals"))
        self._share = 1 / processes
        first = index * len(plan.exchanges) // processes
        self._order = itertools.islice(itertools.cycle(range(len(plan.exchanges))), first, None)
        self._memory = Memory()
        self._due: Queue = Queue()  # of times, and None at the end
        self._tally = Tally(plan.bin_s, from_s=plan.warm_up_s)
        self._process = psutil.Process()

    def begin(self) -> None:
        """The clock starts."""
        self._began_at, self._cpu_s = time.perf_counter(), time.process_time()
        if self.plan.is_open:
            self._pacer = gevent.spawn(self._pace)

    def now(self) -> float:
        """Seconds since the beginning."""
        return time.perf_counter() - self._began_at

    def next_due(self) -> float | None:
        """When the caller's next request is or was due, waiting until then; None when the load is over."""
        if not self.plan.is_open:
            now = self.now()
            return now if now < self.plan.seconds else None
        due_s = self._due.get()
        if due_s is None:
            self._due.put(None)  # for the next user
        return due_s

    def next_exchange(self) -> tuple[int, Exchange]:
        """What to ask next, and its index."""
        while True:
            index = next(self._order)
            exchange = self._memory.follow_up(self.plan.exchanges[index], self._rng)
            if exchange is not None:
                return index, exchange

    def headers(self, exchange: Exchange) -> tuple[dict[str, str], str]:
        """What to send with it, and the request's new id."""
        request_id = f"{self._rng.getrandbits(64):016x}"
        headers = {"Content-Type": "application/json", "X-Request-Id": request_id} | exchange.headers
        if self._key is not None and exchange.has_key:
            headers["Authorization"] = f"Bearer {self._key}"
        return headers, request_id

    def ended(self, index: int, exchange: Exchange, judged: Judged, *, due_s: float, sent_s: float) -> Judged:
        """Count a request that ends now. Returns the judgement, which earlier answers may have changed."""
        done_s = self.now()
        if judged.outcome == "ok" and judged.answer is not None:
            complaint = self._memory.note(index, exchange, judged.answer)
            judged = judged if complaint is None else Judged("wrong", complaint)
        self._tally.add(
            Sample(exchange.kind, exchange.is_check, judged.outcome, due_s, sent_s, done_s, judged.complaint),
        )
        return judged

    def end(self) -> None:
        """What still waits to be sent never will be."""
        while not self._due.empty():
            due_s = self._due.get()
            if due_s is not None:
                self._tally.add(Sample(_DUE, True, "unanswered", due_s, self.now(), self.now()))

    def usage(self) -> dict[str, float]:
        """What this process needed: CPU in cores since the beginning, resident memory in bytes."""
        cpu_s = time.process_time() - self._cpu_s
        return {"cpu_cores": cpu_s / self.now(), "rss_bytes": float(self._process.memory_info().rss)}

    def take(self) -> dict[str, Any]:
        """The counts since this was last called, as a record."""
        tally, self._tally = self._tally, Tally(self.plan.bin_s, from_s=self.plan.warm_up_s)
        return tally.to_record()

    def _pace(self) -> None:
        mine = tuple(Step(step.start_s, step.end_s, step.level * self._share) for step in self.plan.steps)
        for due_s in arrivals(mine, self._arrivals_rng):
            early_s = due_s - self.now()
            if early_s > 0:
                gevent.sleep(early_s)
            self._due.put(due_s)
        self._due.put(None)
