"""The feedback log as the rest of the server sees it: told of every answered request, and of moderators' corrections."""

import asyncio
import json
import logging
import math
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from functools import partial

from server.check import Checked
from server.core.errors import InvalidRequest, QueueFull
from server.core.feedback import Correction, FeedbackRecord, TeacherOpinion, VerdictRecord
from server.core.taxonomy import Category
from server.core.token_bucket import TokenBucket
from server.core.types import TextResult
from server.feedback.intake import Draft, Intake
from server.feedback.observer import CorrectionKind, FeedbackObserver, LabelKind
from server.feedback.recall import Given, Recall, Remembered
from server.feedback.sampling import Sampler
from server.feedback.writer import Writer
from server.observability.logging import describe_exception

logger = logging.getLogger(__name__)

CLOSE_TIMEOUT_S = 2.0
"""What a stopping server gives the disk for the last records."""


def _now() -> datetime:
    return datetime.now(UTC)


class FeedbackLog:
    """Implements :class:`server.check.Watcher`, and the corrections of ``POST /v1/feedback``. Used on the event loop, which
    never waits for the disk.

    Args:
        cap: how many verdicts may be logged.
        corrections_cap: how many corrections may be.
        teacher: identity of the teacher that answers escalations.
        keeps_text: a correction may bring its text and a note.
    """

    def __init__(
        self,
        *,
        sampler: Sampler,
        cap: TokenBucket,
        corrections_cap: TokenBucket,
        recall: Recall,
        intake: Intake,
        writer: Writer,
        teacher: str,
        keeps_text: bool,
        observer: FeedbackObserver,
        now: Callable[[], datetime] = _now,
    ) -> None:
        self._sampler = sampler
        self._cap = cap
        self._corrections_cap = corrections_cap
        self._recall = recall
        self._intake = intake
        self._writer = writer
        self._teacher = teacher
        self._observer = observer
        self._now = now
        self._has_complained = False
        self.keeps_text = keeps_text

    def start(self) -> None:
        """Begin to write."""
        self._writer.start()

    async def close(self) -> None:
        """Write what waits, within :data:`CLOSE_TIMEOUT_S`, and end."""
        if not await asyncio.to_thread(self._writer.close, CLOSE_TIMEOUT_S):
            logger.error("the feedback log's disk doesn't answer; its last records are lost")

    def checked(self, request: Checked) -> None:
        """Remember the verdicts, and hand those that are worth keeping to the writer. A text about which the teacher is still
        asked is handed over once it has answered, and remembered as it is judged then. A fault costs the log alone."""
        request_id = request.request_id
        if request_id is None:
            return
        try:
            remembered = self._recall.remember(request_id, request.texts, request.answer.results)
            for index, result in enumerate(request.answer.results):
                task = request.later.get(index)
                if task is None:
                    self._consider(request, request_id, index, result)
                else:
                    task.add_done_callback(partial(self._answered, request, request_id, index, remembered))
        except Exception as error:
            self._complain(error)

    def correct(
        self,
        request_id: str,
        index: int,
        *,
        verdict: Correction | None,
        labels: Mapping[Category, bool],
        by: str | None,
        note: str | None,
        text: str | None,
    ) -> bool:
        """Take a moderator's correction; it is on its way to the disk, not there yet. The verdict's last one, come again, is
        neither written nor counted a second time.

        Args:
            note, text: None unless :attr:`keeps_text`.

        Returns:
            False if no such verdict is remembered.

        Raises:
            InvalidRequest: nobody could learn from it: it is about another text, or a block for nothing.
            QueueFull: the log can't take it now.
        """
        given = self._recall.find(request_id, index)
        if given is None:
            return False
        if text is not None and self._recall.mark(text) != given.text_mark:
            raise InvalidRequest("is not the text that this verdict is about", param="text")
        if verdict == "block" and not any(labels.values()) and labels.keys() >= set(given.categories):
            raise InvalidRequest("say which category is violated: the verdict named none that stands", param="labels")
        mark = self._recall.mark(json.dumps([verdict, dict(labels), by, note, text]))
        if mark == given.correction_mark:
            return True
        record = FeedbackRecord(
            at=self._now(),
            id=request_id,
            index=index,
            verdict=verdict,
            categories=given.categories,
            labels=labels,
            by=by,
            note=note,
            role=given.role,
        )
        wait_s = self._writer.pausing_s or self._corrections_cap.take()
        if wait_s or not self._intake.offer(Draft(record, text)):
            raise QueueFull("the feedback log can't take the correction now", retry_after_s=math.ceil(wait_s))
        self._recall.corrected(request_id, index, mark)
        self._observer.corrected(_kind(given, verdict), _wrong_labels(given, labels))
        return True

    def _answered(
        self, request: Checked, request_id: str, index: int, remembered: Remembered, task: asyncio.Task[TextResult]
    ) -> None:
        try:
            if task.cancelled():  # the server stops: what was given at first stands
                result = request.answer.results[index]
            else:
                result = task.result()
                self._recall.revise(remembered, index, request.texts[index], result)
            self._consider(request, request_id, index, result)
        except Exception as error:
            self._complain(error)

    def _complain(self, error: Exception) -> None:
        self._observer.record_dropped("error")
        if not self._has_complained:
            self._has_complained = True
            logger.error("a verdict can't be logged; more like it are only counted", extra=describe_exception(error))

    def _consider(self, request: Checked, request_id: str, index: int, result: TextResult) -> None:
        reasons = self._sampler.reasons(request.opinions[index], result, request.policy)
        if not reasons:
            return
        if self._cap.take():
            self._observer.record_dropped("rate")
            return
        answer, opinion, text = request.answer, request.opinions[index], request.texts[index]
        asked = result.escalation
        record = VerdictRecord(
            at=self._now(),
            id=request_id,
            index=index,
            reasons=reasons,
            role=text.role,
            text=None,
            text_key="",
            chars=opinion.scanned_chars,
            windows=opinion.windows,
            is_disguised=opinion.is_disguised,
            policy_id=answer.policy_id,
            policy_version=answer.policy_version,
            artifact_version=answer.artifact.version,
            artifact_hash=answer.artifact.hash,
            verdict=result.verdict,
            decided_by=result.decided_by,
            categories=result.categories,
            student_scores=opinion.scores,
            teacher=None
            if asked is None
            else TeacherOpinion(outcome=asked.outcome, scores=asked.scores, basis=asked.basis, identity=self._teacher),
        )
        if not self._intake.offer(Draft(record, text.text)):
            self._observer.record_dropped("queue_full")


def _kind(given: Given, verdict: Correction | None) -> CorrectionKind:
    if verdict is None:
        return "labels_only"
    if given.verdict == verdict:
        return "confirmed"
    overturned: dict[str, CorrectionKind] = {"block": "block_overturned", "allow": "allow_overturned"}
    return overturned.get(given.verdict, "review_settled")


def _wrong_labels(given: Given, labels: Mapping[Category, bool]) -> dict[Category, LabelKind]:
    return {
        category: "missed" if is_violated else "wrongly_flagged"
        for category, is_violated in labels.items()
        if is_violated != (category in given.categories)
    }
