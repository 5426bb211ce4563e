"""The bounded queue between the event loop, which admits, and the session threads, which take."""

import math
import threading
import time
from bisect import bisect_left, bisect_right
from collections.abc import Set
from operator import attrgetter

from server.batching.forming import form_batch
from server.batching.item import Item, Request
from server.batching.limits import BatchLimits
from server.core.errors import QueueFull, TextTooLarge

LOOKAHEAD_BATCHES = 4
"""A batch is chosen among this many batches' worth of the items that are next, so that choosing stays cheap when much waits."""

MAX_RETRY_AFTER_S = 60
_RATE_SMOOTHING = 0.1
_turn = attrgetter("turn_at")


class BoundedQueue:
    """In turn (``Item.turn_at``), but for the neighbours in length that ride along. Thread-safe; waits on a condition.

    A lock is held for microseconds, so that the event loop may take it.
    """

    def __init__(self, limits: BatchLimits) -> None:
        self._limits = limits
        self._changed = threading.Condition(threading.Lock())
        self._waiting: list[Item] = []  # in turn; of one turn, as they came
        self._tokens = 0
        self._tokens_by_size = [0] * 64
        self._idle_sessions = 0
        self._closed = threading.Event()
        self._tokens_per_s: float | None = None

    @property
    def items(self) -> int:
        return len(self._waiting)

    @property
    def tokens(self) -> int:
        return self._tokens

    @property
    def wait_s(self) -> float:
        """Until what waits now is done, at the recent rate; 0 before any batch was seen."""
        return self._tokens / self._tokens_per_s if self._tokens_per_s is not None else 0.0

    def put_all(self, request: Request) -> None:
        """Admit all of one request's items, or none.

        Raises:
            QueueFull: they don't fit beside what waits now, or would wait for longer than they may or can.
            TextTooLarge: they wouldn't fit into an empty queue either, so trying again is no help.
        """
        items = request.items
        with self._changed:
            self.check_room(len(items), request.tokens)
            self.check_wait(request.tokens, request.deadline)
            at = bisect_right(self._waiting, request.turn_at, key=_turn)
            self._waiting[at:at] = items
            self._tokens += request.tokens
            self._tokens_by_size[_size(request.tokens)] += request.tokens
            self._changed.notify(len(items))

    def check_room(self, items: int, tokens: int) -> None:
        """Raise what :meth:`put_all` would for so much. Only one thread may admit, so that the answer holds until it does."""
        limits = self._limits
        if items > limits.max_queue_items or tokens > limits.max_queue_tokens:
            raise TextTooLarge(
                f"the request needs {items} windows of {tokens} tokens in all; "
                f"at most {limits.max_queue_items} windows and {limits.max_queue_tokens} tokens can wait"
            )
        if len(self._waiting) + items > limits.max_queue_items or self._tokens + tokens > limits.max_queue_tokens:
            raise QueueFull("the queue is full", retry_after_s=self._retry_after_s())

    def check_wait(self, tokens: int, deadline: float) -> None:
        """Raise QueueFull if a request of so many tokens would wait too long, or beyond its ``time.monotonic()`` deadline.

        Counts as ahead what waits now and belongs to requests of the same size and below. Two things are left out, in favour
        of letting in: larger requests that came so long ago that they no longer give way, and shorter ones that will come
        while this one gives way.
        """
        if self._tokens_per_s is None:
            return
        wait_s = sum(self._tokens_by_size[: _size(tokens) + 1]) / self._tokens_per_s
        if wait_s > min(self._limits.max_queue_wait_s, deadline - time.monotonic()):
            raise QueueFull("the queue is too long", retry_after_s=self._retry_after_s())

    def is_idle(self, sessions: int) -> bool:
        """Nothing waits, and so many sessions wait for something."""
        with self._changed:
            return not self._waiting and self._idle_sessions >= sessions

    def take(self) -> list[Item] | None:
        """Block until something wanted waits, and take a batch of it; None once the queue is closed.

        Items that nobody wants any more are dropped on the way. What waits is shared out when other sessions are idle
        too: two sessions with half a batch each are done sooner than one with all of it.
        """
        with self._changed:
            while not self._closed.is_set():
                candidates = self._candidates()
                if candidates:
                    share = math.ceil(len(self._waiting) / (1 + self._idle_sessions))
                    batch = form_batch(candidates, limits=self._limits, max_items=share)
                    self._remove(set(batch), 0, len(candidates))
                    return batch
                self._idle_sessions += 1
                self._changed.wait()
                self._idle_sessions -= 1
            return None

    def discard(self, request: Request) -> None:
        """Remove what still waits of a request."""
        with self._changed:
            begin = bisect_left(self._waiting, request.turn_at, key=_turn)
            end = bisect_right(self._waiting, request.turn_at, lo=begin, key=_turn)
            self._remove({item for item in self._waiting[begin:end] if item.request is request}, begin, end)

    def close(self) -> None:
        """Forget what waits and wake every session; :meth:`take` gives None from now on."""
        with self._changed:
            self._closed.set()
            self._waiting.clear()
            self._tokens = 0
            self._tokens_by_size = [0] * 64
            self._changed.notify_all()

    def wait_closed(self, timeout_s: float) -> bool:
        """Block until the queue is closed, for ``timeout_s`` at most; True if it is closed."""
        return self._closed.wait(timeout_s)

    def record_service(self, *, tokens: int, infer_s: float, sessions: int) -> None:
        """Note how fast a batch went while ``sessions`` sessions served, to tell who would wait for how long.

        What the call itself cost counts as done too: a trickle of short texts, each alone in its call, says little of how
        fast a full queue goes.
        """
        rate = sessions * (tokens + self._limits.call_cost_tokens) / max(infer_s, 1e-6)
        with self._changed:
            before = rate if self._tokens_per_s is None else self._tokens_per_s
            self._tokens_per_s = before + _RATE_SMOOTHING * (rate - before)

    def _candidates(self) -> list[Item]:
        """Those that are next, in turn, once what nobody wants is gone from among them."""
        while True:
            candidates = self._waiting[: LOOKAHEAD_BATCHES * self._limits.max_batch_items]
            now = time.monotonic()
            unwanted = {item for item in candidates if not item.is_wanted(now)}
            if not unwanted:
                return candidates
            self._remove(unwanted, 0, len(candidates))

    def _remove(self, items: Set[Item], begin: int, end: int) -> None:
        """Remove items, all of which wait between these places."""
        self._waiting[begin:end] = [item for item in self._waiting[begin:end] if item not in items]
        for item in items:
            self._tokens -= item.cost
            self._tokens_by_size[_size(item.request.tokens)] -= item.cost

    def _retry_after_s(self) -> int:
        """Until what waits now is done, and at least 1."""
        return min(MAX_RETRY_AFTER_S, max(1, math.ceil(self.wait_s)))


def _size(tokens: int) -> int:
    """A request's class among :attr:`BoundedQueue._tokens_by_size`: twice the tokens, the next class."""
    return tokens.bit_length()
