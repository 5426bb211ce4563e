"""One request's whole journey, readable top to bottom: texts and a policy in, verdicts out.

one deadline → canonicalise → encode → submit every window, all or none → calibrate → policy decides
                                                             and where the student is unsure → teacher
"""

import asyncio
import math
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field
from functools import partial
from typing import Protocol

import numpy as np

from server.batching.batcher import Answer
from server.cascade import Asker, Cascade, Opinion
from server.core.calibration import Calibration
from server.core.errors import DeadlineExceeded, QueueFull
from server.core.policy import Policy
from server.core.shared_bound import SharedBound
from server.core.taxonomy import CATEGORIES
from server.core.types import CHARS_PER_TOKEN, CheckAnswer, Scores, Text, TextResult, Timings
from server.inference.classifier import Encoder
from server.inference.reading import Reading, ReadingLimits, count_chars, read_texts
from server.student import Student
from server.turns import Turns

GIVES_WAY_S_PER_CHAR = 5e-6
"""About what encoding takes at the worst: emoji between letters. Ordinary text takes a tenth of it."""


class AnswerCounter(Protocol):
    """What the journey needs of the metrics."""

    def answer_done(self, answer: CheckAnswer) -> None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Checked:
    """One answered request, as those see it who learn from it. ``opinions`` are the student's, one per text, from before the
    teacher; ``policy`` is the one that decided; ``key`` is the API key's name; ``later`` is as in
    :class:`server.cascade.Settled`."""

    request_id: str | None
    key: str | None
    policy: Policy
    texts: Sequence[Text]
    opinions: Sequence[Opinion]
    answer: CheckAnswer
    later: Mapping[int, asyncio.Task[TextResult]] = field(default_factory=dict)


class Watcher(Protocol):
    """Is told of every answered request, once, before its answer is written."""

    def checked(self, request: Checked) -> None:
        """On the event loop, in everybody's way: it neither waits nor raises."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckLimits:
    """``encode_inline_chars``: a request of more characters, as sent or as NFKC leaves them, is encoded off the event loop;
    such requests hold ``encode_max_chars`` at most. ``request_timeout_s`` bounds everything, ``reading`` what is encoded of one
    request."""

    request_timeout_s: float
    encode_inline_chars: int
    encode_max_chars: int
    reading: ReadingLimits


class Checker:
    """Answers requests. One per server; used on the event loop only."""

    def __init__(
        self,
        *,
        student: Callable[[], Student],
        default_policy: str,
        cascade: Cascade,
        metrics: AnswerCounter,
        executor: Executor,
        limits: CheckLimits,
        watchers: Sequence[Watcher] = (),
    ) -> None:
        """``student`` gives the one that new requests are for, or raises ShuttingDown. ``executor`` encodes long ones; its
        owner shuts it down."""
        self._student = student
        self._default_policy = default_policy
        self._cascade = cascade
        self._metrics = metrics
        self._executor = executor
        self._limits = limits
        self._watchers = watchers
        self._encoding = SharedBound(limits.encode_max_chars)
        self._turns = Turns(gives_way_s=GIVES_WAY_S_PER_CHAR)

    async def check(
        self,
        texts: Sequence[Text],
        *,
        policy_id: str | None = None,
        key: str | None = None,
        timeout_s: float | None = None,
        request_id: str | None = None,
    ) -> CheckAnswer:
        """One result per text, in order; counted in the metrics.

        Args:
            texts: one or more, within the door's bounds.
            policy_id: None for the server's default policy.
            key: name of the API key that the request came with; what it may ask of the teacher is bounded.
            timeout_s: when the caller must hear, if that is sooner than the limit.
            request_id: what the reply will be known by; for the watchers.

        Raises:
            RequestError: the whole request is unanswered; the error's class says why.
        """
        started = time.monotonic()
        limit_s = self._limits.request_timeout_s
        deadline = started + (limit_s if timeout_s is None else min(timeout_s, limit_s))
        with self._student() as student:
            policy = student.policies[self._default_policy if policy_id is None else policy_id]
            chars = sum(len(text.text) for text in texts)
            if chars <= self._limits.encode_inline_chars:
                chars = count_chars(texts)
            student.batcher.expect(len(texts), tokens=chars // CHARS_PER_TOKEN, deadline=deadline)
            readings = await self._read(student.encoder, texts, chars, deadline)
            encode_s = time.monotonic() - started
            windows = [window for reading in readings for window in reading.windows]
            answers = await student.batcher.submit(windows, deadline=deadline)
        opinions = form_opinions(student.calibration, texts, readings, answers)
        asker = Asker(policy=policy, artifact=student.artifact.hash, key=key)
        settled = await self._cascade.settle(opinions, asker, deadline=deadline)
        results = settled.results
        timings = Timings(
            encode_s=encode_s,
            queue_s=max(answer.queue_s for answer in answers),
            infer_s=max(answer.infer_s for answer in answers),
            teacher_s=max((r.escalation.latency_s for r in results if r.escalation), default=0.0),
            total_s=time.monotonic() - started,
        )
        answer = CheckAnswer(tuple(results), policy.id, policy.version, timings, student.artifact)
        self._metrics.answer_done(answer)
        checked = Checked(
            request_id=request_id,
            key=key,
            policy=policy,
            texts=texts,
            opinions=opinions,
            answer=answer,
            later=settled.later,
        )
        for watcher in self._watchers:
            watcher.checked(checked)
        return answer

    async def _read(self, encoder: Encoder, texts: Sequence[Text], chars: int, deadline: float) -> list[Reading]:
        if chars <= self._limits.encode_inline_chars:
            return read_texts(encoder, texts, self._limits.reading)
        if not self._encoding.take(chars):
            raise QueueFull("too much text is being encoded")
        ended = threading.Event()
        try:
            async with asyncio.timeout(deadline - time.monotonic()), self._turns.turn(chars):
                read = partial(read_texts, encoder, texts, self._limits.reading, lambda: not ended.is_set())
                return await asyncio.get_running_loop().run_in_executor(self._executor, read)
        except TimeoutError:
            raise DeadlineExceeded("the deadline passed before the request was encoded") from None
        finally:
            ended.set()
            self._encoding.give_back(chars)


def form_opinions(
    calibration: Calibration, texts: Sequence[Text], readings: Sequence[Reading], answers: Sequence[Answer]
) -> list[Opinion]:
    """What a student says of each text, given its answers for the windows of all readings, in order.

    Calibrating keeps order (its scale is above 0), so the largest logit over the windows gives the largest score.
    """
    opinions = []
    first = 0
    for text, reading in zip(texts, readings, strict=True):
        last = first + len(reading.windows)
        rows = [answer.row for answer in answers[first:last]]
        peaks, tops = _peaks(rows)
        passage = partial(reading.passage, tops)
        elsewhere = _scores(calibration, _second_peaks(rows)) if len(rows) > 1 else None
        scores = _scores(calibration, peaks)
        opinions.append(Opinion(text.role, scores, len(rows), len(text.text), reading.is_disguised, passage, elsewhere))
        first = last
    return opinions


def _peaks(rows: Sequence[np.ndarray]) -> tuple[list[float], list[int]]:
    """For each column its largest logit, and the row that holds it."""
    if len(rows) == 1:
        return rows[0].tolist(), [0] * len(CATEGORIES)
    logits = np.stack(rows)
    return logits.max(axis=0).tolist(), logits.argmax(axis=0).tolist()


def _second_peaks(rows: Sequence[np.ndarray]) -> list[float]:
    """For each column its largest logit but one; of at least two rows."""
    return np.partition(np.stack(rows), -2, axis=0)[-2].tolist()


def _scores(calibration: Calibration, logits: Sequence[float]) -> Scores:
    return {category: calibration[category].score(logits[i]) for i, category in enumerate(CATEGORIES)}


def check_row(row: np.ndarray) -> bool:
    """Whether a model's answer for one window is one finite logit per category."""
    return row.shape == (len(CATEGORIES),) and all(map(math.isfinite, row.tolist()))
