"""What the feedback log tells the metrics."""

from collections.abc import Mapping, Sequence
from typing import Literal, Protocol

from server.core.feedback import Reason
from server.core.taxonomy import Category

DropReason = Literal["rate", "queue_full", "disk", "error"]
"""Why a record is not in the log: more were due than may be written, too many wait, the disk refused it, a defect of ours."""

CorrectionKind = Literal["confirmed", "block_overturned", "allow_overturned", "review_settled", "labels_only"]
LabelKind = Literal["missed", "wrongly_flagged"]


class FeedbackObserver(Protocol):
    """Called on the event loop and on the writer's thread."""

    def record_written(self, reasons: Sequence[Reason]) -> None:
        """A verdict is in the log, and why."""
        ...

    def record_dropped(self, why: DropReason) -> None: ...

    def log_measured(self, total_bytes: int) -> None:
        """All the log's files together, those of other servers in the same folder included."""
        ...

    def files_removed(self, files: int) -> None:
        """So many of the log's files went before their time, for the disk was full."""
        ...

    def corrected(self, kind: CorrectionKind, labels: Mapping[Category, LabelKind]) -> None:
        """A moderator's correction was taken; ``labels`` are the categories in which the server was wrong."""
        ...
