"""The sessions of one batcher: how many live, and what takes the place of one that is lost."""

import asyncio
import contextlib
import logging
from collections.abc import Callable, Sequence
from typing import Any

from server.batching.item import Item
from server.batching.observer import BatchObserver
from server.batching.queue import BoundedQueue
from server.batching.serving import BatchReport
from server.batching.session import Backoff, Model, Session
from server.batching.watchdog import Watchdog

logger = logging.getLogger(__name__)


class SessionPool:
    """Keeps ``size`` sessions serving one queue. All methods are for the event loop's thread.

    A session that is stuck in a call is given up, with its batch, and another is started in its place; so is one whose thread
    ended.
    """

    def __init__(
        self,
        models: Sequence[Model],
        *,
        rebuild: Callable[[], Model],
        queue: BoundedQueue,
        check_row: Callable[[Any], bool],
        restart_after_s: float,
        stuck_s: float,
        observer: BatchObserver,
        on_report: Callable[[BatchReport], None],
        on_given_up: Callable[[Sequence[Item]], None],
    ) -> None:
        """Args:
        on_report: called once per batch that came back, whatever the model did.
        on_given_up: called with each batch that won't come back.
        """
        self.size = len(models)
        self._models = models
        self._rebuild = rebuild
        self._queue = queue
        self._check_row = check_row
        self._restart_after_s = restart_after_s
        self._observer = observer
        self._on_report = on_report
        self._on_given_up = on_given_up
        self._working: set[Session] = set()
        self._live: set[Session] = set()
        self._stuck: set[Session] = set()
        self._vacancies: list[Session] = []
        self._refill: asyncio.TimerHandle | None = None
        self._is_closed = False
        self._session_ended = asyncio.Event()
        self._watchdog = Watchdog(
            stuck_s=stuck_s,
            sessions=lambda: self._working,
            is_idle=lambda: queue.is_idle(len(self._live)),
            on_stuck=self._give_up,
        )

    @property
    def live(self) -> int:
        """Sessions that serve now: ``size``, less those that wait for a new model."""
        return 0 if self._is_closed else len(self._live)

    def start(self) -> None:
        """Start the threads. Call once, inside the running loop."""
        self._loop = asyncio.get_running_loop()
        models, self._models = self._models, ()  # a session alone holds its model, so that a dead one is freed
        for index, model in enumerate(models):
            self._live.add(self._start(f"session-{index}", model, Backoff(self._restart_after_s)))

    def watch(self) -> None:
        """Something was queued, so a session may be stuck with it before long."""
        self._watchdog.arm()

    def close(self) -> None:
        """Close the queue; each thread ends after the model call that it is in, and is watched until then."""
        self._is_closed = True
        self._queue.close()

    async def wait_ended(self) -> None:
        """Return when the threads have ended, but for those that are stuck."""
        while self._working:
            self._session_ended.clear()
            await self._session_ended.wait()

    def batch_reported(self, _session: Session, report: BatchReport) -> None:
        """This and the next three are for the sessions alone (:class:`server.batching.session.SessionEvents`)."""
        self._on_report(report)

    def session_died(self, session: Session) -> None:
        self._live.discard(session)
        self._observer.session_lost(reason="died")

    def session_restarted(self, session: Session) -> None:
        self._live.add(session)
        self.watch()

    def session_ended(self, session: Session, held: Sequence[Item]) -> None:
        is_lost = session in self._working and not self._is_closed
        for sessions in (self._live, self._working, self._stuck):
            sessions.discard(session)
        if is_lost:
            self._vacancies.append(session)
            self._observer.session_lost(reason="died")
        self._on_given_up(held)
        self._fill_vacancies()
        self._session_ended.set()

    def _start(self, name: str, model: Model | None, backoff: Backoff) -> Session:
        session = Session(
            model,
            rebuild=self._rebuild,
            name=name,
            queue=self._queue,
            check_row=self._check_row,
            events=self,
            post=self._post,
            backoff=backoff,
        )
        session.start()
        self._working.add(session)
        return session

    def _give_up(self, session: Session, batch: Sequence[Item]) -> None:
        logger.error("%s is stuck in a call of %d items: given up", session.name, len(batch))
        self._live.discard(session)
        self._working.discard(session)
        self._stuck.add(session)
        self._vacancies.append(session)
        self._observer.session_lost(reason="stuck")
        self._on_given_up(batch)
        self._fill_vacancies()
        self._session_ended.set()

    def _fill_vacancies(self) -> None:
        """A stuck thread keeps its memory, so at most ``size`` of them are replaced until one of them comes back.

        While no thread is to be had, tries again after a pause.
        """
        if self._refill is not None:
            self._refill.cancel()
        while self._vacancies and len(self._stuck) <= self.size and not self._is_closed:
            lost = self._vacancies[-1]
            try:
                self._start(lost.name, None, lost.backoff)
            except RuntimeError as error:
                logger.error("%s can't be started: %s", lost.name, error)
                self._refill = self._loop.call_later(lost.backoff.next_s(), self._fill_vacancies)
                return
            self._vacancies.pop()

    def _post(self, callback: Callable[..., None], *args: Any) -> None:
        """Have the loop call it, from a session's thread. A closed loop hears nothing."""
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(callback, *args)
