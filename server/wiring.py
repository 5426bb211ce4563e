"""Settings → what a service is made of: its students, and the limits that it keeps."""

import numpy as np

from server.batching.batcher import Batcher
from server.batching.limits import BatchLimits
from server.batching.observer import BatchObserver
from server.check import CheckLimits, check_row
from server.inference.classifier import Window
from server.inference.device import CALL_COST_TOKENS
from server.inference.reading import MAX_GROWTH, ReadingLimits
from server.settings import Settings
from server.student import Student, StudentParts


def make_student(settings: Settings, parts: StudentParts, observer: BatchObserver) -> Student:
    """A student whose batcher isn't started."""
    batcher: Batcher[Window, np.ndarray] = Batcher(
        parts.classifiers,
        rebuild=parts.rebuild,
        cost=lambda window: window.tokens,
        check_row=check_row,
        limits=BatchLimits(
            max_batch_items=settings.batch_items_on(parts.device),
            max_batch_tokens=settings.batch_tokens_on(parts.device),
            call_cost_tokens=CALL_COST_TOKENS[parts.device],
            max_queue_items=settings.queue_max_items,
            max_queue_tokens=settings.queue_max_tokens,
            max_queue_wait_s=settings.queue_max_wait_s,
        ),
        observer=observer,
        restart_after_s=settings.session_restart_s,
        stuck_s=settings.session_stuck_s,
    )
    return Student(
        manifest=parts.manifest,
        policies=parts.policies,
        encoder=parts.encoder,
        batcher=batcher,
        reference=parts.reference,
    )


def reading_limits(settings: Settings) -> ReadingLimits:
    """Of one request: no more windows in all than the queue could ever hold."""
    return ReadingLimits(
        max_windows=settings.max_windows,
        max_request_windows=settings.queue_max_items,
        max_chars=MAX_GROWTH * settings.max_request_chars,
    )


def check_limits(settings: Settings) -> CheckLimits:
    """Of the checker."""
    return CheckLimits(
        request_timeout_s=settings.request_timeout_s,
        encode_inline_chars=settings.encode_inline_chars,
        encode_max_chars=settings.encode_max_chars,
        reading=reading_limits(settings),
    )
