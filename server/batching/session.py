"""One session's thread: takes batches, calls its classifier, reports, and outlives its own death."""

import logging
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from server.batching.item import Answer, Item
from server.batching.queue import BoundedQueue

MAX_BACKOFF_S = 30.0

logger = logging.getLogger(__name__)

Classify = Callable[[Sequence], Sequence]


@dataclass(slots=True)
class BatchReport:
    """What became of one batch. An item in neither ``answers`` nor ``failed`` was no longer wanted."""

    items: int
    tokens: int
    padded_tokens: int
    infer_s: float = 0.0
    answers: list[tuple[Item, Answer]] = field(default_factory=list)
    failed: list[Item] = field(default_factory=list)


class SessionEvents(Protocol):
    """What a session tells its batcher, on the session's own thread."""

    def batch_reported(self, report: BatchReport) -> None:
        """Once per batch taken, whatever the classifier did."""
        ...

    def session_died(self) -> None:
        """The classifier raised what is no ``Exception``; its batch is reported next."""
        ...

    def session_restarted(self) -> None:
        """A session that died serves again."""
        ...

    def session_ended(self) -> None:
        """The thread is about to end; nothing follows."""
        ...


class Session:
    """A thread around one classifier. It ends when the queue is closed, and is down for a while when the classifier dies.

    The pause doubles from ``restart_after_s`` to :data:`MAX_BACKOFF_S` until a batch goes well.
    """

    def __init__(
        self,
        classify: Classify,
        *,
        name: str,
        queue: BoundedQueue,
        check_row: Callable[[Any], bool],
        events: SessionEvents,
        restart_after_s: float,
    ) -> None:
        self._classify = classify
        self._queue = queue
        self._check_row = check_row
        self._events = events
        self._restart_after_s = restart_after_s
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def _run(self) -> None:
        backoff_s = self._restart_after_s
        try:
            while (batch := self._queue.take()) is not None:
                if self._serve(batch):
                    backoff_s = self._restart_after_s
                    continue
                if self._queue.wait_closed(backoff_s):
                    return
                backoff_s = min(2 * backoff_s, MAX_BACKOFF_S)
                self._events.session_restarted()
        finally:
            self._events.session_ended()

    def _serve(self, batch: Sequence[Item]) -> bool:
        """Classify and report one batch; False if the classifier died of it."""
        report = BatchReport(
            items=len(batch),
            tokens=sum(item.cost for item in batch),
            padded_tokens=len(batch) * max(item.cost for item in batch),
        )
        started_at = time.monotonic()
        try:
            self._classify_each(batch, report)
        except BaseException as error:
            logger.error("%s died: %s", self._thread.name, type(error).__name__)
            answered = {item for item, _ in report.answers}
            report.failed = [item for item in batch if item not in answered]
            self._events.session_died()
            return False
        else:
            return True
        finally:
            report.infer_s = time.monotonic() - started_at
            self._events.batch_reported(report)

    def _classify_each(self, items: Sequence[Item], report: BatchReport) -> None:
        """Give every item a row or failure of its own: what went wrong in company is tried again in halves.

        A row that fails the check is tried again too, since a quantised model lets one item's overflow reach its
        neighbours.
        """
        bad = self._attempt(items, report)
        if not bad:
            return
        if len(items) == 1:
            report.failed.extend(bad)
            return
        wanted = [item for item in bad if item.is_wanted]
        middle = len(wanted) // 2
        for half in (wanted[:middle], wanted[middle:]):
            if half:
                self._classify_each(half, report)

    def _attempt(self, items: Sequence[Item], report: BatchReport) -> Sequence[Item]:
        """One model call; the items that got no good row."""
        started_at = time.monotonic()
        try:
            rows = self._classify([item.payload for item in items])
            infer_s = time.monotonic() - started_at
            if len(rows) != len(items):
                raise ValueError(f"{len(rows)} rows for {len(items)} items")
            is_good = [self._check_row(row) for row in rows]
        except Exception as error:
            # The error's own words could quote a text: its type has to do.
            logger.warning("%s failed on %d items: %s", self._thread.name, len(items), type(error).__name__)
            return items
        bad = []
        for item, row, good in zip(items, rows, is_good, strict=True):
            if good:
                report.answers.append((item, Answer(row, started_at - item.queued_at, infer_s)))
            else:
                bad.append(item)
        return bad
