"""A model of plain functions: payloads say what becomes of them, and a test can hold every call."""

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
    """A classifier that records its calls. Closed with :meth:`hold`, it lets a call in and keeps it there."""

    def __init__(self):
        self.calls: list[list[Work]] = []
        self._entered = threading.Semaphore(0)
        self._gate = threading.Event()
        self._gate.set()

    def hold(self):
        self._gate.clear()

    def release(self):
        self._gate.set()

    def wait_entered(self):
        assert self._entered.acquire(timeout=30), "no call came"

    def __call__(self, payloads):
        self.calls.append(payloads)
        self._entered.release()
        assert self._gate.wait(60), "the test never released the model"
        failures = {payload.failure for payload in payloads}
        if "die" in failures:
            raise Death
        if "raise" in failures:
            raise RuntimeError("told to fail")
        rows = [None if payload.failure == "bad" else 2 * payload.value for payload in payloads]
        return rows[:-1] if "rows" in failures else rows


class Recorder:
    """A BatchObserver that keeps what it is told."""

    def __init__(self):
        self.batches, self.depths, self.drops = [], [], []

    def batch_done(self, *, items, tokens, padded_tokens, infer_s):
        assert infer_s >= 0
        self.batches.append((items, tokens, padded_tokens))

    def queue_depth(self, *, items, tokens):
        self.depths.append((items, tokens))

    def dropped(self, *, reason, items):
        self.drops.append((reason, items))


def make_batcher(models, **kwargs):
    kwargs.setdefault("restart_after_s", 0.0)
    return Batcher(models, cost=lambda work: work.cost, check_row=lambda row: row is not None, **kwargs)


def soon(seconds=30.0):
    return time.monotonic() + seconds
