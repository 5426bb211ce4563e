"""From the settings to a feedback log. Builds and wires; decides nothing but which faults stop the start."""

import logging

from server.feedback.disk import FolderDisk
from server.feedback.intake import Intake
from server.feedback.log import FeedbackLog
from server.feedback.observer import FeedbackObserver
from server.feedback.recall import Recall
from server.feedback.rotation import FileLimits, RotatingLog
from server.feedback.sampling import RateCap, Sampler
from server.feedback.writer import Writer
from server.settings import Settings

logger = logging.getLogger(__name__)

QUEUE_MAX_CHARS = 4_000_000
"""Most characters of text that wait for the writer, whatever their number."""


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
    intake = Intake(max_items=settings.feedback_queue_max_items, max_chars=QUEUE_MAX_CHARS)
    limits = FileLimits(
        file_max_bytes=settings.feedback_file_max_bytes,
        file_max_age_s=settings.feedback_file_max_age_s,
        max_bytes=settings.feedback_max_bytes,
        max_age_s=settings.feedback_max_age_s,
    )
    writer = Writer(
        intake,
        disk,
        RotatingLog(disk, limits),
        keep_text=settings.feedback_keep_text,
        sync_s=settings.feedback_sync_s,
        observer=observer,
    )
    return FeedbackLog(
        sampler=Sampler(share=settings.feedback_sample_share, near_log_odds=settings.feedback_near_log_odds),
        cap=RateCap(settings.feedback_max_per_s),
        recall=Recall(max_items=settings.feedback_recall_max_items, ttl_s=settings.feedback_recall_s),
        intake=intake,
        writer=writer,
        teacher=teacher,
        keeps_text=settings.feedback_keep_text,
        observer=observer,
    )
