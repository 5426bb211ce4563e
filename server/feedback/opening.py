"""From the settings to a feedback log. Builds and wires; decides nothing but which faults stop the start."""

import logging

from server.core.token_bucket import TokenBucket
from server.feedback.disk import FolderDisk
from server.feedback.intake import Intake
from server.feedback.log import FeedbackLog
from server.feedback.observer import FeedbackObserver
from server.feedback.recall import Recall
from server.feedback.rotation import FileLimits, RotatingLog
from server.feedback.sampling import Sampler
from server.feedback.writer import Writer
from server.settings import Settings

logger = logging.getLogger(__name__)

QUEUE_MAX_ITEMS = 1_000
QUEUE_MAX_CHARS = 4_000_000
"""What waits for the writer at most: fifty seconds of records at the usual rate, and some megabytes."""

SYNC_S = 5.0
"""What a power failure may cost; more often would only cost the disk."""

FILE_MAX_BYTES = 64 * 1024**2
FILE_MAX_AGE_S = 3_600.0
MIN_FILES = 8
"""A full log has so many or more: the oldest goes whole, and takes no larger part of it along."""


def open_feedback_log(settings: Settings, observer: FeedbackObserver, *, teacher: str) -> FeedbackLog | None:
    """The log that the settings ask for, not started; None if they name no folder.

    A disk that is full or broken doesn't keep the server from starting: the writer tries again.

    Args:
        teacher: identity of the teacher that answers escalations.

    Raises:
        ConfigurationError: the folder or the key file can't be used, and waiting won't help.
    """
    if settings.feedback_dir is None:
        return None
    disk = FolderDisk(settings.feedback_dir, hash_key_file=settings.feedback_hash_key_file)
    try:
        disk.prepare()
    except OSError as error:
        logger.warning("the feedback folder can't be used yet", extra={"reason": error.strerror})
    intake = Intake(max_items=QUEUE_MAX_ITEMS, max_chars=QUEUE_MAX_CHARS)
    limits = FileLimits(
        file_max_bytes=min(FILE_MAX_BYTES, settings.feedback_max_bytes // MIN_FILES),
        file_max_age_s=FILE_MAX_AGE_S,
        max_bytes=settings.feedback_max_bytes,
        max_age_s=settings.feedback_max_age_s,
    )
    writer = Writer(
        intake,
        disk,
        RotatingLog(disk, limits),
        keep_text=settings.feedback_keep_text,
        sync_s=SYNC_S,
        observer=observer,
    )
    burst = max(1.0, settings.feedback_max_per_s)
    return FeedbackLog(
        sampler=Sampler(share=settings.feedback_sample_share, near_log_odds=settings.feedback_near_log_odds),
        cap=TokenBucket(settings.feedback_max_per_s, burst),
        corrections_cap=TokenBucket(settings.feedback_max_per_s, burst),
        recall=Recall(
            max_items=settings.feedback_recall_max_items,
            ttl_s=settings.feedback_recall_s,
            marks_texts=settings.feedback_keep_text,
        ),
        intake=intake,
        writer=writer,
        teacher=teacher,
        keeps_text=settings.feedback_keep_text,
        observer=observer,
    )
