"""The batcher: many callers on the event loop, a few sessions on threads, and one bounded queue between them."""

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import Generic

from server.batching.item import Answer, Item, Payload, Request, Row
from server.batching.limits import BatchLimits
from server.batching.observer import BatchObserver, DropReason, NullObserver
from server.batching.pool import SessionPool
from server.batching.queue import BoundedQueue
from server.batching.serving import BatchReport
from server.batching.session import Model
from server.core.errors import ClassifierFailed, DeadlineExceeded, ShuttingDown


class Batcher(Generic[Payload, Row]):
    """Answers payloads with rows, in batches that the free sessions form.

    Every item is settled exactly once, on the event loop: with its row, or with its whole request's one error. One
    failing item fails its request and nobody else's. A session whose model died, or is stuck in a call, fails the items
    that it held, and is replaced. All methods are for the event loop's thread.
    """

    def __init__(
        self,
        models: Sequence[Model[Payload, Row]],
        *,
        rebuild: Callable[[], Model[Payload, Row]],
        cost: Callable[[Payload], int],
        check_row: Callable[[Row], bool],
        limits: BatchLimits | None = None,
        observer: BatchObserver | None = None,
        restart_after_s: float = 0.1,
        stuck_s: float = 10.0,
    ) -> None:
        """Args:
        models: at least one, each warm; one session each, on a thread of its own.
        rebuild: another model, not warm, for a session that lost its own; called on the session's thread.
        cost: a payload's tokens, at least 1.
        check_row: False for a row that can't be used, such as one that isn't finite; called on a session's thread.
        restart_after_s: how long a session that lost its model pauses the first time; it doubles while that goes on.
        stuck_s: a model call of this length will not come back, or not in time for anybody.
        """
        if not models:
            raise ValueError("a batcher needs at least one model")
        self._cost = cost
        self._observer = observer or NullObserver()
        self._queue = BoundedQueue(limits or BatchLimits())
        self._requests: set[Request] = set()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._is_admitting = False
        self._request_ended = asyncio.Event()
        self._pool = SessionPool(
            models,
            rebuild=rebuild,
            queue=self._queue,
            check_row=check_row,
            restart_after_s=restart_after_s,
            stuck_s=stuck_s,
            observer=self._observer,
            on_report=self._settle,
            on_given_up=lambda items: self._fail(items, "the classifier did not come back from this text"),
        )

    @property
    def queued_items(self) -> int:
        return self._queue.items

    @property
    def queued_tokens(self) -> int:
        return self._queue.tokens

    @property
    def queue_wait_s(self) -> float:
        """How long the last in the queue has to wait, as far as can be told."""
        return self._queue.wait_s

    @property
    def sessions(self) -> int:
        return self._pool.size

    @property
    def live_sessions(self) -> int:
        """Sessions that serve now: ``sessions``, less those that wait for a new model."""
        return self._pool.live

    @property
    def is_alive(self) -> bool:
        """Started, not closed, and some session serves."""
        return self.live_sessions > 0

    @property
    def has_free_session(self) -> bool:
        """Nothing waits, and fewer requests are under way than sessions serve."""
        return not self._queue.items and len(self._requests) < self.live_sessions

    def start(self) -> None:
        """Start the session threads. Call once, inside the running loop that will submit."""
        assert self._loop is None, "a batcher starts once"
        self._loop = asyncio.get_running_loop()
        self._is_admitting = True
        self._pool.start()

    def expect(self, items: int, *, tokens: int, deadline: float) -> None:
        """Before anything is done for payloads whose cost isn't known yet: raises what :meth:`submit` would if each cost 1, so
        that shedding is cheap.

        Args:
            tokens: about what they will cost in all; for what is ahead of them.

        Raises:
            QueueFull, TextTooLarge, DeadlineExceeded, ShuttingDown: not even so much would be admitted.
        """
        self._check_admitting(deadline, time.monotonic())
        self._queue.check_room(items, items)
        self._queue.check_wait(tokens, deadline)

    async def submit(self, payloads: Sequence[Payload], *, deadline: float) -> list[Answer[Row]]:
        """One answer per payload, in order; all are admitted or none. Cancelling drops those that still wait.

        Args:
            deadline: ``time.monotonic()`` by which the caller must hear, one way or the other.

        Raises:
            QueueFull: shed at once, nothing was queued.
            TextTooLarge: more than the queue could ever hold.
            DeadlineExceeded: raised at the deadline, even while a model call goes on.
            ClassifierFailed: the model failed on one of the payloads on its own, died of its batch, or is stuck in it.
            ShuttingDown: not started, draining or closed.
        """
        now = time.monotonic()
        self._check_admitting(deadline, now)
        if not payloads:
            return []
        assert self._loop is not None, "it admits, so it has started"
        costed = [(payload, self._cost(payload)) for payload in payloads]
        request: Request[Payload, Row] = Request(costed, queued_at=now, deadline=deadline, future=self._loop.create_future())
        self._queue.put_all(request)
        self._requests.add(request)
        timer = self._loop.call_later(deadline - now, self._expire, request)
        self._pool.watch()
        try:
            return await request.future
        finally:
            timer.cancel()
            if request.is_live:
                self._drop(request, "cancelled", None)

    async def drain(self, timeout_s: float) -> bool:
        """Stop admitting, let what was admitted finish, then close and let the threads end, but for those that are stuck.

        Returns:
            True if every admitted request got its own answer or error within ``timeout_s``; otherwise the rest got
            ``ShuttingDown``.
        """
        self._is_admitting = False
        try:
            async with asyncio.timeout(timeout_s):
                while self._requests:
                    self._request_ended.clear()
                    await self._request_ended.wait()
                self.close()
                await self._pool.wait_ended()
        except TimeoutError:
            is_drained = not self._requests
            self.close()
            return is_drained
        return True

    def close(self) -> None:
        """Settle everything with ``ShuttingDown`` at once; threads end after the model call that they are in."""
        self._is_admitting = False
        self._pool.close()
        for request in list(self._requests):
            self._drop(request, "shutdown", ShuttingDown("the server is shutting down"))

    def _settle(self, report: BatchReport) -> None:
        for item, answer in report.answers:
            if item.request.is_live and item.request.answer(item.index, answer):
                self._forget(item.request)
        self._fail(report.failed, "the classifier failed on this text")
        if report.is_clean:  # what failed says nothing of how fast the others are served
            self._queue.record_service(tokens=report.tokens, infer_s=report.infer_s, sessions=max(1, self.live_sessions))
        self._observer.batch_done(
            items=report.items, tokens=report.tokens, padded_tokens=report.padded_tokens, infer_s=report.infer_s
        )

    def _check_admitting(self, deadline: float, now: float) -> None:
        if not self._is_admitting:
            raise ShuttingDown("the server is shutting down")
        if deadline <= now:
            raise DeadlineExceeded("the deadline had passed before the text was queued")

    def _expire(self, request: Request) -> None:
        if request.is_live:
            self._drop(request, "expired", DeadlineExceeded("the deadline passed before an answer"))

    def _fail(self, items: Sequence[Item], message: str) -> None:
        for item in items:
            if item.request.is_live:
                self._drop(item.request, "failed", ClassifierFailed(message))

    def _drop(self, request: Request, reason: DropReason, error: Exception | None) -> None:
        """End a live request without its answers, and take what still waits of it out of the queue."""
        unanswered = request.end(error)
        self._queue.discard(request)
        self._forget(request)
        self._observer.dropped(reason=reason, items=unanswered)

    def _forget(self, request: Request) -> None:
        self._requests.discard(request)
        self._request_ended.set()
