"""One request's whole journey, readable top to bottom: texts and a policy in, verdicts out.

one deadline → canonicalise → encode → submit every window, all or none → calibrate → policy decides
                                                             and where the student is unsure → teacher
"""

import asyncio
import time
from collections import defaultdict
from collections.abc import Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from server.batching.batcher import Answer
from server.core.calibration import Calibration
from server.core.canonical import canonicalise
from server.core.errors import DeadlineExceeded, QueueFull
from server.core.policy import Policy, PolicySet, Rule
from server.core.taxonomy import CATEGORIES, CATEGORY_INDEX, Category
from server.core.types import CheckAnswer, Escalation, Scores, Text, TextResult, Timings, Verdict
from server.inference.classifier import Encoder, Window
from server.teacher.teacher import Teacher, TeacherUnavailable


class Submitter(Protocol):
    """What the journey needs of the batcher."""

    async def submit(self, payloads: Sequence[Window], *, deadline: float) -> Sequence[Answer]: ...


class AnswerCounter(Protocol):
    """What the journey needs of the metrics."""

    def answer_done(self, answer: CheckAnswer) -> None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckLimits:
    """``encode_inline_chars``: a request of more characters is encoded off the event loop, at most ``encode_max_requests``
    of them at a time. ``teacher_timeout_s`` bounds an escalation, within ``request_timeout_s``, which bounds everything."""

    request_timeout_s: float
    teacher_timeout_s: float
    encode_inline_chars: int
    encode_max_requests: int


@dataclass(frozen=True, slots=True)
class _Reading:
    """A text as the student reads it: the windows of both views, and for each the view that it was cut from."""

    windows: list[Window]
    views: list[str]

    def passage(self, index: int) -> str:
        """What window ``index`` covers, as the teacher reads it."""
        window = self.windows[index]
        return self.views[index][window.start : window.end]


@dataclass(frozen=True, slots=True)
class _Opinion:
    """What the student says of one text. ``tops`` gives for each column the window that scored highest."""

    reading: _Reading
    scores: Scores
    tops: list[int]


class Checker:
    """Answers requests. One per server; used on the event loop only."""

    def __init__(
        self,
        *,
        encoder: Encoder,
        batcher: Submitter,
        calibration: Calibration,
        policies: PolicySet,
        default_policy: str,
        teacher: Teacher,
        metrics: AnswerCounter,
        executor: Executor,
        limits: CheckLimits,
    ) -> None:
        """``executor`` encodes long requests; its owner shuts it down."""
        self._encoder = encoder
        self._batcher = batcher
        self._calibration = calibration
        self._policies = policies
        self._default_policy = default_policy
        self._teacher = teacher
        self._metrics = metrics
        self._executor = executor
        self._limits = limits
        self._encoding = 0

    async def check(self, texts: Sequence[Text], *, policy_id: str | None = None) -> CheckAnswer:
        """One result per text, in order; counted in the metrics.

        Args:
            texts: one or more, within the door's bounds.
            policy_id: None for the server's default policy.

        Raises:
            RequestError: the whole request is unanswered; the error's class says why.
        """
        started = time.monotonic()
        deadline = started + self._limits.request_timeout_s
        policy = self._policies[self._default_policy if policy_id is None else policy_id]
        readings = await self._read(texts, deadline)
        encode_s = time.monotonic() - started
        answers = await self._batcher.submit([window for reading in readings for window in reading.windows], deadline=deadline)
        opinions = self._opinions(readings, answers)
        results = await self._settle(texts, opinions, policy, deadline)
        timings = Timings(
            encode_s=encode_s,
            queue_s=max(answer.queue_s for answer in answers),
            infer_s=max(answer.infer_s for answer in answers),
            teacher_s=max((r.escalation.latency_s for r in results if r.escalation), default=0.0),
            total_s=time.monotonic() - started,
        )
        answer = CheckAnswer(tuple(results), policy.id, policy.version, timings)
        self._metrics.answer_done(answer)
        return answer

    async def _read(self, texts: Sequence[Text], deadline: float) -> list[_Reading]:
        if sum(len(text.text) for text in texts) <= self._limits.encode_inline_chars:
            return _read_all(self._encoder, texts)
        if self._encoding >= self._limits.encode_max_requests:
            raise QueueFull("too many long requests are being encoded")
        self._encoding += 1
        try:
            async with asyncio.timeout(deadline - time.monotonic()):
                return await asyncio.get_running_loop().run_in_executor(self._executor, _read_all, self._encoder, texts)
        except TimeoutError:
            raise DeadlineExceeded("the deadline passed before the request was encoded") from None
        finally:
            self._encoding -= 1

    def _opinions(self, readings: Sequence[_Reading], answers: Sequence[Answer]) -> list[_Opinion]:
        """Calibrating keeps order (its scale is above 0), so the largest logit over the windows gives the largest score."""
        opinions = []
        first = 0
        for reading in readings:
            last = first + len(reading.windows)
            logits = np.stack([answer.row for answer in answers[first:last]])
            peaks = logits.max(axis=0).tolist()
            scores = {category: self._calibration[category].score(peaks[i]) for i, category in enumerate(CATEGORIES)}
            opinions.append(_Opinion(reading, scores, logits.argmax(axis=0).tolist()))
            first = last
        return opinions

    async def _settle(
        self, texts: Sequence[Text], opinions: Sequence[_Opinion], policy: Policy, deadline: float
    ) -> list[TextResult]:
        """Escalations of a request's texts run side by side; each is settled on its own."""
        escalated = {}
        async with asyncio.TaskGroup() as group:
            for index, (text, opinion) in enumerate(zip(texts, opinions, strict=True)):
                unsure = unsure_categories(policy, opinion.scores)
                if unsure:
                    escalated[index] = group.create_task(self._escalate(text, opinion, unsure, policy, deadline))
        return [
            decide(
                policy,
                opinion.scores,
                escalated[index].result() if index in escalated else None,
                windows=len(opinion.reading.windows),
                scanned_chars=len(text.text),
            )
            for index, (text, opinion) in enumerate(zip(texts, opinions, strict=True))
        ]

    async def _escalate(
        self, text: Text, opinion: _Opinion, unsure: Sequence[Category], policy: Policy, deadline: float
    ) -> Escalation:
        """Ask about each unsure category in the passage that raised it, one question per passage.

        One unanswered question leaves the text unanswered: half a judgement isn't one.
        """
        started = time.monotonic()
        deadline = min(deadline, started + self._limits.teacher_timeout_s)
        questions: dict[str, dict[Category, Rule]] = defaultdict(dict)
        for category in unsure:
            column = CATEGORY_INDEX[category]
            questions[opinion.reading.passage(opinion.tops[column])][category] = policy.rules[column]
        replies = await asyncio.gather(
            *(self._teacher.judge(passage, text.role, rules, deadline=deadline) for passage, rules in questions.items()),
            return_exceptions=True,
        )
        student_scores = {category: opinion.scores[category] for category in unsure}
        scores: Scores = {}
        for reply in replies:
            if isinstance(reply, TeacherUnavailable):
                return Escalation(reply.outcome, time.monotonic() - started, {}, student_scores)
            if isinstance(reply, BaseException):
                raise reply
            scores |= reply
        return Escalation("answered", time.monotonic() - started, scores, student_scores)


def check_row(row: np.ndarray) -> bool:
    """Whether a model's answer for one window is one finite logit per category."""
    return row.shape == (len(CATEGORIES),) and bool(np.isfinite(row).all())


def unsure_categories(policy: Policy, scores: Scores) -> list[Category]:
    """What to ask the teacher: the categories in their unsure band, or none if another is violated beyond doubt."""
    unsure = []
    for category, rule in zip(CATEGORIES, policy.rules, strict=True):
        if rule.is_unsure(scores[category]):
            unsure.append(category)
        elif rule.is_violated(scores[category]):
            return []
    return unsure


def decide(policy: Policy, student: Scores, escalation: Escalation | None, *, windows: int, scanned_chars: int) -> TextResult:
    """The verdict on one text. ``on_no_teacher`` applies when the teacher was wanted and not had."""
    scores = student | escalation.scores if escalation else student
    categories = tuple(c for c, rule in zip(CATEGORIES, policy.rules, strict=True) if rule.is_violated(scores[c]))
    verdict: Verdict = "block" if categories else "allow"
    if escalation is None:
        decided_by = "student"
    elif escalation.outcome == "answered":
        decided_by = "teacher"
    else:
        decided_by = "student_degraded"
        if policy.on_no_teacher != "student":
            verdict = policy.on_no_teacher
    return TextResult(verdict, decided_by, categories, scores, windows, scanned_chars, escalation)


def _read_all(encoder: Encoder, texts: Sequence[Text]) -> list[_Reading]:
    return [_read_one(encoder, text.text) for text in texts]


def _read_one(encoder: Encoder, text: str) -> _Reading:
    canonical = canonicalise(text)
    windows = encoder.encode(canonical.text)
    views = [canonical.text] * len(windows)
    if canonical.deobfuscated is not None:
        more = encoder.encode(canonical.deobfuscated)
        windows, views = windows + more, views + [canonical.deobfuscated] * len(more)
    return _Reading(windows, views)
