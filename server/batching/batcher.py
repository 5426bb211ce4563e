"""The batcher: many callers on the event loop, a few sessions on threads, and one bounded queue between them."""

import asyncio
import contextlib
import time
from collections.abc import Callable, Sequence
from typing import Any, Generic

from server.batching.item import Answer, Payload, Request, Row
from server.batching.limits import BatchLimits
from server.batching.observer import BatchObserver, DropReason, NullObserver
from server.batching.queue import BoundedQueue
from server.batching.session import BatchReport, Session, SessionEvents
from server.core.errors import ClassifierFailed, DeadlineExceeded, ShuttingDown


class Batcher(Generic[Payload, Row]):
    """Answers payloads with rows, in batches that the free sessions form.

    Every item is settled exactly once, on the event loop: with its row, or with its whole request's one error. One
    failing item fails its request and nobody else's. All methods are for the event loop's thread.
    """

    def __init__(
        self,
        classifiers: Sequence[Callable[[Sequence[Payload]], Sequence[Row]]],
        *,
        cost: Callable[[Payload], int],
        check_row: Callable[[Row], bool],
        limits: BatchLimits | None = None,
        observer: BatchObserver | None = None,
        restart_after_s: float = 0.1,
    ) -> None:
        """Args:
        classifiers: at least one; each is called on a thread of its own, never by two threads at once. Row i of
            what it returns is payload i's.
        cost: a payload's tokens, at least 1.
        check_row: False for a row that can't be used, such as one that isn't finite; called on a session's thread.
        restart_after_s: how long a session that died pauses the first time; the pause doubles while it keeps dying.
        """
        if not classifiers:
            raise ValueError("a batcher needs at least one classifier")
        self._classifiers = classifiers
        self._cost = cost
        self._check_row = check_row
        self._observer = observer or NullObserver()
        self._queue = BoundedQueue(limits or BatchLimits())
        self._restart_after_s = restart_after_s
        self._requests: set[Request] = set()
        self._live_sessions = 0
        self._running_threads = 0
        self._is_started = False
        self._is_admitting = False
        self._is_closed = False
        self._something_ended = asyncio.Event()

    @property
    def sessions(self) -> int:
        return len(self._classifiers)

    @property
    def live_sessions(self) -> int:
        """Sessions that serve now; fewer than ``sessions`` while one that died waits for its restart."""
        return 0 if self._is_closed else self._live_sessions

    @property
    def is_alive(self) -> bool:
        """Started, not closed, and no session is down."""
        return self._is_started and self.live_sessions == self.sessions

    def start(self) -> None:
        """Start the session threads. Call once, inside the running loop that will submit."""
        assert not self._is_started, "a batcher starts once"
        self._loop = asyncio.get_running_loop()
        self._is_started = self._is_admitting = True
        self._live_sessions = self._running_threads = self.sessions
        events = _OnLoop(self._loop, self)
        for index, classify in enumerate(self._classifiers):
            Session(
                classify,
                name=f"session-{index}",
                queue=self._queue,
                check_row=self._check_row,
                events=events,
                restart_after_s=self._restart_after_s,
            ).start()

    async def submit(self, payloads: Sequence[Payload], *, deadline: float) -> list[Answer[Row]]:
        """One answer per payload, in order; all are admitted or none. Cancelling drops those that still wait.

        Args:
            deadline: ``time.monotonic()`` by which the caller must hear, one way or the other.

        Raises:
            QueueFull: shed at once, nothing was queued.
            TextTooLarge: more than the queue could ever hold.
            DeadlineExceeded: raised at the deadline, even while a model call goes on.
            ClassifierFailed: the model failed on one of the payloads on its own.
            ShuttingDown: not started, draining or closed.
        """
        if not self._is_admitting:
            raise ShuttingDown("the server is shutting down")
        left_s = deadline - time.monotonic()
        if left_s <= 0:
            raise DeadlineExceeded("the deadline had passed before the text was queued")
        if not payloads:
            return []
        costed = [(payload, self._cost(payload)) for payload in payloads]
        request: Request[Payload, Row] = Request(costed, deadline=deadline, future=self._loop.create_future())
        self._queue.put_all(request.items)
        self._requests.add(request)
        timer = self._loop.call_later(left_s, self._expire, request)
        try:
            self._tell_depth()
            return await request.future
        finally:
            timer.cancel()
            if request.is_live:
                self._drop(request, "cancelled", None)

    async def drain(self, timeout_s: float) -> bool:
        """Stop admitting, let what was admitted finish, then close and let the threads end.

        Returns:
            True if every admitted request got its own answer or error within ``timeout_s``; otherwise the rest got
            ``ShuttingDown``.
        """
        self._is_admitting = False
        try:
            async with asyncio.timeout(timeout_s):
                await self._wait_until(lambda: not self._requests)
                self.close()
                await self._wait_until(lambda: not self._running_threads)
        except TimeoutError:
            is_drained = not self._requests
            self.close()
            return is_drained
        return True

    def close(self) -> None:
        """Settle everything with ``ShuttingDown`` at once; threads end after the model call that they are in."""
        self._is_admitting = False
        self._is_closed = True
        self._queue.close()
        for request in list(self._requests):
            self._drop(request, "shutdown", ShuttingDown("the server is shutting down"))

    def batch_reported(self, report: BatchReport) -> None:
        """Settle a batch. This and the next three are for the sessions alone (:class:`SessionEvents`)."""
        for item, answer in report.answers:
            if item.request.is_live and item.request.answer(item.index, answer):
                self._forget(item.request)
        for item in report.failed:
            if item.request.is_live:
                self._drop(item.request, "failed", ClassifierFailed("the classifier failed on this text"))
        self._queue.record_service(tokens=report.tokens, infer_s=report.infer_s, sessions=self.sessions)
        self._observer.batch_done(
            items=report.items, tokens=report.tokens, padded_tokens=report.padded_tokens, infer_s=report.infer_s
        )
        self._tell_depth()

    def session_died(self) -> None:
        self._live_sessions -= 1

    def session_restarted(self) -> None:
        self._live_sessions += 1

    def session_ended(self) -> None:
        if not self._is_closed:
            self._live_sessions -= 1
        self._running_threads -= 1
        self._something_ended.set()

    def _expire(self, request: Request) -> None:
        if request.is_live:
            self._drop(request, "expired", DeadlineExceeded("the deadline passed before an answer"))

    def _drop(self, request: Request, reason: DropReason, error: Exception | None) -> None:
        """End a live request without its answers, and take what still waits of it out of the queue."""
        unanswered = request.end(error)
        self._queue.discard(request.items)
        self._forget(request)
        self._observer.dropped(reason=reason, items=unanswered)
        self._tell_depth()

    def _forget(self, request: Request) -> None:
        self._requests.discard(request)
        self._something_ended.set()

    async def _wait_until(self, is_reached: Callable[[], bool]) -> None:
        while not is_reached():
            self._something_ended.clear()
            await self._something_ended.wait()

    def _tell_depth(self) -> None:
        self._observer.queue_depth(items=self._queue.items, tokens=self._queue.tokens)


class _OnLoop:
    """Carries the sessions' events from their threads to the loop, each as one callback. A closed loop hears nothing."""

    def __init__(self, loop: asyncio.AbstractEventLoop, events: SessionEvents) -> None:
        self._loop = loop
        self._events = events

    def batch_reported(self, report: BatchReport) -> None:
        self._call(self._events.batch_reported, report)

    def session_died(self) -> None:
        self._call(self._events.session_died)

    def session_restarted(self) -> None:
        self._call(self._events.session_restarted)

    def session_ended(self) -> None:
        self._call(self._events.session_ended)

    def _call(self, callback: Callable[..., None], *args: Any) -> None:
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(callback, *args)
