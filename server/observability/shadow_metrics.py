"""The series about the shadow student; part of :class:`server.observability.metrics.Metrics`."""

import math
from collections.abc import Callable, Mapping
from typing import get_args

from prometheus_client import CollectorRegistry, Counter, Gauge, Info

from server.core.taxonomy import CATEGORIES, Category
from server.core.types import ArtifactId, ShadowStudentDirection, ShadowStudentOutcome


class ShadowMetrics:
    """Implements :class:`server.shadow.ShadowObserver`."""

    def __init__(self, registry: CollectorRegistry) -> None:
        texts = Counter(
            "stillguard_shadow_student_texts",
            "Texts drawn for the shadow student: compared with the student's scores, dropped as live traffic left no time, or "
            "failed.",
            ["outcome"],
            registry=registry,
        )
        self._texts = {outcome: texts.labels(outcome) for outcome in get_args(ShadowStudentOutcome)}
        disagreements = Counter(
            "stillguard_shadow_student_disagreements",
            "Compared texts that one of the two students would block in this category and the other not.",
            ["category", "direction"],
            registry=registry,
        )
        self._disagreements = {
            (category, direction): disagreements.labels(category, direction)
            for category in CATEGORIES
            for direction in get_args(ShadowStudentDirection)
        }
        self._ready = Gauge(
            "stillguard_shadow_student_ready",
            "1 while a shadow student is loaded and serves, 0 while one is wanted and none does, NaN while none is wanted.",
            registry=registry,
        )
        self._info = Info(
            "stillguard_shadow_student", "The shadow student's artefact; empty labels while there is none.", registry=registry
        )
        self.describe(None)

    def follow(self, *, is_wanted: Callable[[], bool], is_ready: Callable[[], bool]) -> None:
        """Let ``stillguard_shadow_student_ready`` follow the shadow, read at each scrape; called once, before traffic."""
        self._ready.set_function(lambda: float(is_ready()) if is_wanted() else math.nan)

    def text_done(
        self, outcome: ShadowStudentOutcome, disagreements: Mapping[Category, ShadowStudentDirection] | None = None
    ) -> None:
        self._texts[outcome].inc()
        for disagreement in (disagreements or {}).items():
            self._disagreements[disagreement].inc()

    def describe(self, artifact: ArtifactId | None) -> None:
        shown = artifact or ArtifactId("", "", "")
        self._info.info({"artifact_version": shown.version, "artifact_hash": shown.hash, "precision": shown.precision})
