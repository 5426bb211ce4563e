"""The series about the feedback log; part of :class:`server.observability.metrics.Metrics`."""

import threading
from collections import deque
from collections.abc import Mapping, Sequence
from typing import get_args

from prometheus_client import CollectorRegistry, Counter, Gauge

from server.core.feedback import Reason
from server.core.taxonomy import CATEGORIES, Category
from server.feedback.observer import CorrectionKind, DropReason, LabelKind

LAST_CORRECTIONS = 100
"""Over how many corrections the share of disagreement is taken."""

_JUDGED: Mapping[CorrectionKind, bool] = {"confirmed": False, "block_overturned": True, "allow_overturned": True}
"""The corrections that judge a verdict, and whether they overturn it."""


class FeedbackMetrics:
    """Implements :class:`server.feedback.observer.FeedbackObserver`. Safe to call from any thread."""

    def __init__(self, registry: CollectorRegistry) -> None:
        records = Counter(
            "stillguard_feedback_records",
            "Verdicts written to the feedback log; one with several reasons counts under each.",
            ["reason"],
            registry=registry,
        )
        self._records = {reason: records.labels(reason) for reason in get_args(Reason)}
        dropped = Counter(
            "stillguard_feedback_dropped",
            "Records that are not in the feedback log, by why: over the rate, too many waiting, the disk, a defect.",
            ["why"],
            registry=registry,
        )
        self._dropped = {why: dropped.labels(why) for why in get_args(DropReason)}
        self._log_bytes = Gauge("stillguard_feedback_log_bytes", "Size of all files of the feedback log.", registry=registry)
        self._removed = Counter(
            "stillguard_feedback_removed_files",
            "Whole files of the feedback log that were removed before their time, for the disk was full.",
            registry=registry,
        )
        corrections = Counter(
            "stillguard_feedback_corrections",
            "Moderators' corrections by what became of the verdict.",
            ["kind"],
            registry=registry,
        )
        self._corrections = {kind: corrections.labels(kind) for kind in get_args(CorrectionKind)}
        labels = Counter(
            "stillguard_feedback_wrong_labels",
            "Categories that moderators say the server missed, or flagged wrongly.",
            ["category", "kind"],
            registry=registry,
        )
        self._labels = {
            (category, kind): labels.labels(category, kind) for category in CATEGORIES for kind in get_args(LabelKind)
        }
        self._disagreement = Gauge(
            "stillguard_feedback_disagreement_ratio",
            f"Share overturned of this server's last {LAST_CORRECTIONS} verdicts that moderators confirmed or overturned.",
            registry=registry,
        )
        self._last: deque[bool] = deque(maxlen=LAST_CORRECTIONS)
        self._lock = threading.Lock()

    def record_written(self, reasons: Sequence[Reason]) -> None:
        for reason in reasons:
            self._records[reason].inc()

    def record_dropped(self, why: DropReason) -> None:
        self._dropped[why].inc()

    def log_measured(self, total_bytes: int) -> None:
        self._log_bytes.set(total_bytes)

    def files_removed(self, files: int) -> None:
        self._removed.inc(files)

    def corrected(self, kind: CorrectionKind, labels: Mapping[Category, LabelKind]) -> None:
        self._corrections[kind].inc()
        for wrong in labels.items():
            self._labels[wrong].inc()
        if kind in _JUDGED:
            with self._lock:
                self._last.append(_JUDGED[kind])
                self._disagreement.set(sum(self._last) / len(self._last))
