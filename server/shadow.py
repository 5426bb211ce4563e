"""The shadow student: another artefact that scores a share of the texts after they were answered, to be compared and no more.

Live traffic goes first. The shadow has one session of its own and takes one text at a time, and it begins none unless a live
session is free. What it hasn't come to waits within bounds, and beyond them is dropped and counted. It runs at no lower
priority of the operating system's: a thread that holds the interpreter's lock would make everybody wait for its turn.
"""

import asyncio
import logging
import random
import time
from collections import deque
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

from server.check import Checked, form_opinions
from server.core.errors import ConfigurationError, ReloadInProgress, RequestError, ShuttingDown, StillguardError
from server.core.policy import Policy
from server.core.taxonomy import Category
from server.core.types import ArtifactId, Scores, ShadowStudentDirection, ShadowStudentOutcome, Text
from server.inference.reading import ReadingLimits, read_texts
from server.observability.logging import describe_exception, explain
from server.student import Student, StudentParts, warm_up
from server.verdict import contested

MAX_WAITING_TEXTS = 256
MAX_WAITING_CHARS = 1_000_000

logger = logging.getLogger(__name__)


class ShadowObserver(Protocol):
    """What the shadow needs of the metrics."""

    def text_done(
        self, outcome: ShadowStudentOutcome, disagreements: Mapping[Category, ShadowStudentDirection] | None = None
    ) -> None:
        """A drawn text was compared or not; ``disagreements`` are the categories in which one alone would block."""
        ...

    def describe(self, artifact: ArtifactId | None) -> None:
        """Another shadow was loaded, or taken away."""
        ...


@dataclass(frozen=True, slots=True)
class _Waiting:
    """A drawn text, what the student said of it, and the policy that it was judged by."""

    text: Text
    scores: Scores
    policy: Policy


class ShadowStudent:
    """A :class:`server.check.Watcher`. One per server, with or without an artefact; used on the event loop only."""

    def __init__(
        self,
        *,
        load: Callable[[Path], StudentParts],
        make: Callable[[StudentParts], Student],
        share: float,
        reading: ReadingLimits,
        timeout_s: float,
        is_live_idle: Callable[[], bool],
        observer: ShadowObserver,
        draw: Callable[[], float] = random.random,
    ) -> None:
        """Args:
        load: reads and verifies an artefact; called on a thread.
        make: parts to a student that hasn't started.
        share: of the texts, in (0, 1].
        reading: a text that is over these limits for the shadow is not compared, as a live one would be refused.
        timeout_s: the longest that one text may take.
        is_live_idle: whether a text may be begun without anybody waiting for it.
        draw: uniform in [0, 1).
        """
        self._load = load
        self._make = make
        self._share = share
        self._reading = reading
        self._timeout_s = timeout_s
        self._is_live_idle = is_live_idle
        self._observer = observer
        self._draw = draw
        self._executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix="shadow")
        self._student: Student | None = None
        self._waiting: deque[_Waiting] = deque()
        self._waiting_chars = 0
        self._working: asyncio.Task[None] | None = None
        self._loading: asyncio.Task[None] | None = None
        self._is_open = False
        self.is_wanted = False
        """One was configured or asked for, and not taken away since; not that it could be loaded."""

    @property
    def artifact(self) -> ArtifactId | None:
        return None if self._student is None else self._student.artifact

    @property
    def is_ready(self) -> bool:
        """There is one, and its session serves."""
        return self._student is not None and self._student.batcher.is_alive

    def start(self, folder: Path | None) -> None:
        """From now on it can be loaded; begin with the artefact in ``folder``, if any. What comes of that is in the log and the
        metrics."""
        self._is_open = True
        self.is_wanted = folder is not None
        if folder is not None:
            self._begin(folder).add_done_callback(lambda task: task.cancelled() or task.exception())

    async def load(self, folder: Path | None) -> ArtifactId | None:
        """Load another shadow beside the one that there is, and take its place; with None there is none from then on. If
        anything fails the old one stays. A caller that is cancelled doesn't stop it.

        Raises:
            ReloadInProgress: another shadow is being loaded.
            ShuttingDown: not started, or closed.
            ConfigurationError: why the artefact can't be used.
        """
        await asyncio.shield(self._begin(folder))
        return self.artifact

    def checked(self, request: Checked) -> None:
        if self._student is None:
            return
        for text, opinion in zip(request.texts, request.opinions, strict=True):
            if self._draw() < self._share:
                self._offer(_Waiting(text, opinion.scores, request.policy))
        if self._waiting and self._working is None and self._is_live_idle():
            self._working = asyncio.create_task(self._work(), name="shadow")

    async def close(self) -> None:
        """Give up what waits and what is under way, and release everything."""
        self._is_open = False
        self._clear()
        tasks = [task for task in (self._working, self._loading) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._swap(None)
        self._executor.shutdown(wait=False, cancel_futures=True)

    def _begin(self, folder: Path | None) -> asyncio.Task[None]:
        if not self._is_open:
            raise ShuttingDown("the server is starting or stopping")
        if self._loading is not None:
            raise ReloadInProgress("another shadow student is being loaded")
        self._loading = asyncio.create_task(self._exchange(folder), name="load shadow")
        return self._loading

    async def _exchange(self, folder: Path | None) -> None:
        try:
            student = None
            if folder is not None:
                loop = asyncio.get_running_loop()
                student = self._make(await loop.run_in_executor(self._executor, self._load_warm, folder))
                student.batcher.start()
            await self._swap(student)
        except Exception as error:
            logger.error("the shadow student can't be loaded", extra=explain(error))
            if isinstance(error, StillguardError):
                raise
            why = f"the shadow student can't be loaded: {type(error).__name__}; the log says where"
            raise ConfigurationError(why) from error
        finally:
            self._loading = None
        now = self.artifact
        logger.info("shadow student", extra={"artifact_version": now and now.version, "artifact_hash": now and now.hash})

    def _load_warm(self, folder: Path) -> StudentParts:
        parts = self._load(folder)
        parts = replace(parts, classifiers=parts.classifiers[:1])
        warm_up(parts.classifiers)
        return parts

    async def _swap(self, student: Student | None) -> None:
        old, self._student = self._student, student
        self.is_wanted = student is not None
        self._observer.describe(self.artifact)
        if student is None:
            self._clear()
        if old is not None:
            await old.retire(self._timeout_s)

    def _offer(self, waiting: _Waiting) -> None:
        chars = len(waiting.text.text)
        if len(self._waiting) >= MAX_WAITING_TEXTS or self._waiting_chars + chars > MAX_WAITING_CHARS:
            self._observer.text_done("dropped")
            return
        self._waiting.append(waiting)
        self._waiting_chars += chars

    def _clear(self) -> None:
        for _ in self._waiting:
            self._observer.text_done("dropped")
        self._waiting.clear()
        self._waiting_chars = 0

    async def _work(self) -> None:
        """Compare what waits for as long as nobody else wants to; the next answered request has it go on."""
        try:
            while self._waiting and self._student is not None and self._is_live_idle():
                waiting = self._waiting.popleft()
                self._waiting_chars -= len(waiting.text.text)
                await self._compare(self._student, waiting)
        finally:
            self._working = None

    async def _compare(self, student: Student, waiting: _Waiting) -> None:
        texts = [waiting.text]
        try:
            with student:
                loop = asyncio.get_running_loop()
                readings = await loop.run_in_executor(self._executor, read_texts, student.encoder, texts, self._reading)
                answers = await student.batcher.submit(readings[0].windows, deadline=time.monotonic() + self._timeout_s)
            (opinion,) = form_opinions(student.calibration, texts, readings, answers)
        except RequestError:
            self._observer.text_done("failed")
        except Exception as error:
            logger.error("the shadow student failed", extra=describe_exception(error))
            self._observer.text_done("failed")
        else:
            self._observer.text_done("compared", disagreements(waiting.policy, waiting.scores, opinion.scores))


def disagreements(policy: Policy, student: Scores, shadow: Scores) -> dict[Category, ShadowStudentDirection]:
    """Where the two students would decide otherwise."""
    found = contested(policy, student, shadow)
    return {category: "only_student_blocks" if is_students else "only_shadow_blocks" for category, is_students in found.items()}
