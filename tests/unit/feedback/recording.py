"""What a feedback log told its metrics."""

import threading
from collections import Counter
from dataclasses import dataclass, field


@dataclass
class Recording:
    """A :class:`~server.feedback.observer.FeedbackObserver`. ``wait_for`` lets a test wait for the writer's thread."""

    written: list[tuple[str, ...]] = field(default_factory=list)
    dropped: Counter = field(default_factory=Counter)
    corrections: list[tuple[str, dict[str, str]]] = field(default_factory=list)
    total_bytes: int = 0
    removed_files: int = 0

    def __post_init__(self) -> None:
        self._changed = threading.Condition()

    def record_written(self, reasons) -> None:
        with self._changed:
            self.written.append(reasons)
            self._changed.notify_all()

    def record_dropped(self, why) -> None:
        with self._changed:
            self.dropped[why] += 1
            self._changed.notify_all()

    def log_measured(self, total_bytes) -> None:
        self.total_bytes = total_bytes

    def files_removed(self, files) -> None:
        self.removed_files += files

    def corrected(self, kind, labels) -> None:
        self.corrections.append((kind, labels))

    def wait_for(self, *, settled: int) -> None:
        """Until so many verdicts are written or dropped."""
        with self._changed:
            is_settled = self._changed.wait_for(lambda: len(self.written) + self.dropped.total() >= settled, timeout=60)
        assert is_settled, f"{len(self.written)} written, {self.dropped} dropped"
