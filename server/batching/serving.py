"""One batch through one model: a row or a failure for every item, whatever the model does."""

import logging
import threading
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from typing import Any

from server.batching.item import Answer, Item

logger = logging.getLogger(__name__)

Classify = Callable[[Sequence[Any]], Collection[Any]]


@dataclass(slots=True)
class BatchReport:
    """What became of one batch. An item in neither ``answers`` nor ``failed`` was no longer wanted.

    Attributes:
        infer_s: over all calls, the retries of a failed one included.
        is_clean: its first call gave every item a good row.
        death: the type of what ended the model, which is no ``Exception``; None while it lives.
    """

    items: int
    tokens: int
    padded_tokens: int
    infer_s: float = 0.0
    answers: list[tuple[Item, Answer]] = field(default_factory=list)
    failed: list[Item] = field(default_factory=list)
    is_clean: bool = False
    death: type[BaseException] | None = None


def serve(batch: Sequence[Item], classify: Classify, check_row: Callable[[Any], bool]) -> BatchReport:
    """Classify one batch, on the calling thread. Raises nothing."""
    report = BatchReport(
        items=len(batch),
        tokens=sum(item.cost for item in batch),
        padded_tokens=len(batch) * max(item.cost for item in batch),
    )
    started_at = time.monotonic()
    try:
        _classify_each(batch, classify, check_row, report)
    except BaseException as error:
        report.death = type(error)
        answered = {item for item, _ in report.answers}
        report.failed = [item for item in batch if item not in answered]
    report.infer_s = time.monotonic() - started_at
    return report


def _classify_each(items: Sequence[Item], classify: Classify, check_row: Callable[[Any], bool], report: BatchReport) -> None:
    """Give every item a row or failure of its own: what went wrong in company is tried again in halves.

    A row that fails the check is tried again too, since a quantised model lets one item's overflow reach its neighbours.
    """
    bad = _attempt(items, classify, check_row, report)
    if not bad:
        report.is_clean = len(items) == report.items
        return
    if len(items) == 1:
        report.failed.extend(bad)
        return
    now = time.monotonic()
    wanted = [item for item in bad if item.is_wanted(now)]
    middle = len(wanted) // 2
    for half in (wanted[:middle], wanted[middle:]):
        if half:
            _classify_each(half, classify, check_row, report)


def _attempt(
    items: Sequence[Item], classify: Classify, check_row: Callable[[Any], bool], report: BatchReport
) -> Sequence[Item]:
    """One model call; the items that got no good row."""
    started_at = time.monotonic()
    try:
        rows = classify([item.payload for item in items])
        infer_s = time.monotonic() - started_at
        if len(rows) != len(items):
            raise ValueError(f"{len(rows)} rows for {len(items)} items")
        is_good = [check_row(row) for row in rows]
    except Exception as error:
        # The error's own words could quote a text: its type has to do.
        logger.warning("%s failed on %d items: %s", threading.current_thread().name, len(items), type(error).__name__)
        return items
    bad = []
    for item, row, good in zip(items, rows, is_good, strict=True):
        if good:
            report.answers.append((item, Answer(row, started_at - item.queued_at, infer_s)))
        else:
            bad.append(item)
    return bad
