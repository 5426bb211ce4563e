"""A model of plain functions: payloads say what becomes of them, and a test can hold every call."""

import asyncio
import threading
import time
from dataclasses import dataclass

from server.batching.batcher import Batcher


class Death(BaseException):
    """What a session dies of."""


@dataclass(frozen=True)
class Work:
    """A payload; its row is ``2 * value``."""

    value: int
    cost: int = 4
    failure: str | None = None


class Model:
    """Records its calls. Closed with :meth:`hold`, it lets a call in and keeps it there; a call with a payload that is told to
    ``stick`` stays in until :meth:`free`. One that was told to ``wear_out`` raises on everything from then on, one told
    to ``spoil`` gives bad rows only; neither can be warmed up."""

    def __init__(self):
        self.calls: list[list[Work]] = []
        self.warm_ups = 0
        self.is_worn_out = self.is_spoilt = False
        self._entered = threading.Semaphore(0)
        self._gate = threading.Event()
        self._gate.set()
        self._freed = threading.Event()

    def hold(self):
        self._gate.clear()

    def release(self):
        self._gate.set()

    def free(self):
        self._freed.set()

    def wait_entered(self):
        assert self._entered.acquire(timeout=30), "no call came"

    def warm_up(self):
        self.warm_ups += 1
        if self.is_worn_out or self.is_spoilt:
            raise RuntimeError("worn out")

    def classify(self, payloads):
        self.calls.append(payloads)
        self._entered.release()
        assert self._gate.wait(60), "the test never released the model"
        failures = {payload.failure for payload in payloads}
        if "stick" in failures:
            assert self._freed.wait(60), "the test never freed the model"
        self.is_worn_out = self.is_worn_out or "wear_out" in failures
        self.is_spoilt = self.is_spoilt or "spoil" in failures
        if "die" in failures:
            raise Death
        if "raise" in failures or self.is_worn_out:
            raise RuntimeError("told to fail")
        rows = [None if self.is_spoilt or payload.failure == "bad" else 2 * payload.value for payload in payloads]
        return rows[:-1] if "rows" in failures else rows


class Recorder:
    """A BatchObserver that keeps what it is told."""

    def __init__(self):
        self.batches, self.drops, self.losses = [], [], []

    def batch_done(self, *, items, tokens, padded_tokens, infer_s):
        assert infer_s >= 0
        self.batches.append((items, tokens, padded_tokens))

    def dropped(self, *, reason, items):
        self.drops.append((reason, items))

    def session_lost(self, *, reason):
        self.losses.append(reason)


def make_batcher(models, **kwargs):
    """Models that are lost are replaced by the first one, unless ``rebuild`` says otherwise."""
    kwargs.setdefault("restart_after_s", 0.0)
    kwargs.setdefault("stuck_s", 60.0)
    kwargs.setdefault("rebuild", lambda: models[0])
    return Batcher(models, cost=lambda work: work.cost, check_row=lambda row: row is not None, **kwargs)


def queued(batcher):
    return batcher.queued_items, batcher.queued_tokens


def soon(seconds=30.0):
    return time.monotonic() + seconds


async def rows(batcher, *works, deadline=None):
    answers = await batcher.submit(works, deadline=deadline or soon())
    return [answer.row for answer in answers]


async def entered(model):
    await asyncio.to_thread(model.wait_entered)


async def busy(batcher, model):
    """A task whose call the model holds; what is submitted next has to wait."""
    model.hold()
    task = asyncio.create_task(rows(batcher, Work(-1)))
    await entered(model)
    return task


async def submitted(batcher, *works, **kwargs):
    """A task that has put its items into the queue."""
    task = asyncio.create_task(rows(batcher, *works, **kwargs))
    await asyncio.sleep(0)
    return task
