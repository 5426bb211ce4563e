"""One server's running parts: started in order, reloaded beside the old ones, stopped in order."""

import asyncio
import logging
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from server.batching.observer import NullObserver
from server.check import AnswerCounter, Checker, Watcher
from server.core.errors import ConfigurationError, ReloadInProgress, ShuttingDown, StillguardError
from server.core.types import ArtifactId
from server.drift import DriftWindow
from server.inference.classifier import Classifier
from server.memory import give_back_memory
from server.observability.logging import explain
from server.observability.metrics import Metrics
from server.settings import Settings
from server.shadow import ShadowStudent
from server.student import Student, StudentParts, warm_up
from server.teacher.teacher import Teacher
from server.teaching import join_teachers, make_cascade
from server.wiring import check_limits, make_student, reading_limits

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Parts:
    """What a server is made of: loaded from disk, or fakes in tests.

    ``teachers`` are the endpoints of one teacher.
    ``reload`` reads another student, from a given artefact folder or from the configured one; it is called on a thread.
    """

    student: StudentParts
    teachers: Sequence[Teacher]
    reload: Callable[[Path | None], StudentParts]


class Service:
    """Used on one event loop; started once and stopped once."""

    def __init__(
        self, settings: Settings, parts: Parts, metrics: Metrics, *, answers: AnswerCounter, watchers: Sequence[Watcher] = ()
    ) -> None:
        """``answers`` counts the answered requests; ``metrics`` counts all else. ``watchers`` are told of them too."""
        self._settings = settings
        self._metrics = metrics
        self._teacher = join_teachers(settings, parts.teachers, metrics.cascade)
        self.cascade = make_cascade(settings, self._teacher, metrics.cascade)
        self._load = parts.reload
        self._executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix="encode")
        self._cold: Sequence[Classifier] = parts.student.classifiers
        self._is_started = False
        self._is_draining = False
        self._reloading: asyncio.Task[ArtifactId] | None = None
        self._retiring: dict[asyncio.Task[bool], Student] = {}
        self.student = make_student(settings, parts.student, metrics)
        """The one that new requests are for."""
        self.shadow = ShadowStudent(
            load=parts.reload,
            make=partial(make_student, settings, observer=NullObserver()),
            share=settings.shadow_artifact_share,
            reading=reading_limits(settings),
            timeout_s=settings.request_timeout_s,
            is_live_idle=lambda: not self._is_draining and self.student.batcher.has_free_session,
            observer=metrics.shadow,
        )
        self.drift = DriftWindow(self.student.artifact.hash, self.student.reference, window_s=settings.drift_window_s)
        self.checker = Checker(
            student=self._student_for_new,
            default_policy=settings.policy,
            cascade=self.cascade,
            metrics=answers,
            executor=self._executor,
            limits=check_limits(settings),
            watchers=(self.drift, self.shadow, *watchers),
        )
        self._describe(self.student)
        metrics.shadow.follow(is_wanted=lambda: self.shadow.is_wanted, is_ready=lambda: self.shadow.is_ready)
        metrics.drift.follow(self.drift)
        metrics.follow_teacher(lambda: self._teacher.is_ready)
        metrics.follow(
            ready=lambda: not self.missing(),
            sessions=lambda: self.student.batcher.sessions,
            live_sessions=lambda: self.student.batcher.live_sessions,
            queue_items=lambda: sum(student.batcher.queued_items for student in self._students()),
            queue_tokens=lambda: sum(student.batcher.queued_tokens for student in self._students()),
            queue_wait_s=lambda: max(student.batcher.queue_wait_s for student in self._students()),
        )

    def missing(self) -> list[str]:
        """What readiness lacks; empty while traffic may come. The teacher isn't part of it: the student serves without."""
        if self._is_draining:
            return ["the server is draining"]
        if not self._is_started:
            return ["the model is not warm"]
        batcher = self.student.batcher
        if not batcher.is_alive:
            return [f"{batcher.live_sessions} of {batcher.sessions} sessions are alive"]
        return []

    async def start(self) -> None:
        """Begin to start the teacher, warm every session up, then admit."""
        await self._teacher.start()
        await asyncio.to_thread(warm_up, self._cold)
        self._cold = ()
        self.student.batcher.start()
        self._is_started = True
        self.shadow.start(self._settings.shadow_artifact)

    async def reload(self, artifact: Path | None = None) -> ArtifactId:
        """Load an artefact and the policies beside what serves, and swap: new requests get the new ones, those under way
        end with what they began with. If anything fails, what served goes on serving. A caller that is cancelled doesn't
        stop it.

        Args:
            artifact: its folder; None for the configured one.

        Returns:
            the artefact that serves now.

        Raises:
            ReloadInProgress: another reload is under way.
            ShuttingDown: not started, or stopping.
            ConfigurationError: why the new artefact or the policies can't be used.
        """
        return await asyncio.shield(self._begin_reload(artifact))

    def reload_soon(self) -> None:
        """:meth:`reload` for whoever can't be told what came of it, as the sender of a signal: log and metrics have it."""
        try:
            task = self._begin_reload(None)
        except StillguardError as error:
            logger.warning("no reload: %s", error)
        else:
            task.add_done_callback(_log_what_is_no_refusal)

    async def drain(self) -> None:
        """Not ready, admit nothing more, and let what was admitted finish; after ``drain_timeout_s`` the rest gets an error."""
        if self._is_draining:
            return
        self._is_draining = True
        drained = await asyncio.gather(*(student.retire(self._settings.drain_timeout_s) for student in self._students()))
        logger.info("drained", extra={"is_drained": all(drained)})

    async def stop(self) -> None:
        """Drain, if that wasn't done, and release everything; the teacher's child ends."""
        await self.drain()
        tasks = [*self._retiring, *([self._reloading] if self._reloading else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self.shadow.close()
        await self.cascade.close()
        await self._teacher.close()
        self._executor.shutdown(wait=False, cancel_futures=True)

    def _begin_reload(self, artifact: Path | None) -> asyncio.Task[ArtifactId]:
        if self._is_draining or not self._is_started:
            raise ShuttingDown("the server is starting or stopping")
        if self._reloading is not None:
            self._metrics.reload_done("refused")
            raise ReloadInProgress("another reload is under way")
        self._reloading = asyncio.create_task(self._reload(artifact), name="reload")
        return self._reloading

    async def _reload(self, artifact: Path | None) -> ArtifactId:
        try:
            parts = await asyncio.to_thread(self._load, artifact)
            await asyncio.to_thread(warm_up, parts.classifiers)
            if self._is_draining:
                raise ShuttingDown("the server is stopping")
            student = make_student(self._settings, parts, self._metrics)
            try:
                student.batcher.start()
                self._describe(student)
            except BaseException:
                student.batcher.close()
                raise
        except (asyncio.CancelledError, KeyboardInterrupt, SystemExit):
            raise
        except BaseException as error:  # a panic of the tokenizer's Rust is no Exception
            self._metrics.reload_done("failed")
            logger.error("the reload failed; what served goes on serving", extra=explain(error))
            if isinstance(error, StillguardError):
                raise
            raise ConfigurationError(f"the reload failed: {type(error).__name__}; the log says where") from error
        finally:
            self._reloading = None
        old, self.student = self.student, student
        self.drift.judge_by(self.student.artifact.hash, self.student.reference)
        # Every request that holds the old student has its answer or its 504 by then.
        patience_s = self._settings.request_timeout_s + self._settings.drain_timeout_s
        retiring = asyncio.create_task(old.retire(patience_s), name="retire")
        self._retiring[retiring] = old
        retiring.add_done_callback(self._retired)
        self._metrics.reload_done("ok")
        now = self.student.artifact
        logger.info("reloaded", extra={"artifact_version": now.version, "artifact_hash": now.hash})
        return now

    def _retired(self, retiring: asyncio.Task[bool]) -> None:
        """The last of an old student is let go, and with it the memory that two of them took."""
        del self._retiring[retiring]
        asyncio.get_running_loop().run_in_executor(None, give_back_memory)

    def _student_for_new(self) -> Student:
        if self._is_draining:
            raise ShuttingDown("the server is shutting down")
        return self.student

    def _students(self) -> list[Student]:
        return [self.student, *self._retiring.values()]

    def _describe(self, student: Student) -> None:
        self._metrics.describe(
            artifact=student.artifact,
            policies=",".join(f"{policy.id}@{policy.version}" for policy in student.policies.values()),
            teacher=self._teacher.identity,
        )


def _log_what_is_no_refusal(reload: asyncio.Task[ArtifactId]) -> None:
    """Errors of ours are in the log already. Of any other the type has to do: its words could quote a text."""
    error = None if reload.cancelled() else reload.exception()
    if error is not None and not isinstance(error, StillguardError):
        logger.error("the reload failed: %s", type(error).__name__)
