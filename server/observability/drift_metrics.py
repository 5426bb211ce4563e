"""The series about drift; part of :class:`server.observability.metrics.Metrics`. All are read off the window at each scrape."""

from collections.abc import Callable
from functools import partial
from typing import Protocol, get_args

from prometheus_client import CollectorRegistry, Gauge

from server.core.histograms import DriftReference, ReferenceSource
from server.core.taxonomy import CATEGORIES, Category


class Window(Protocol):
    """What the series show (:class:`server.drift.DriftWindow`). Shares are in [0, 1]; NaN is shown as it is."""

    reference: DriftReference | None

    @property
    def texts(self) -> int: ...

    def psi(self, category: Category) -> float: ...

    def flagged_share(self, category: Category) -> float: ...

    def escalated_share(self) -> float: ...

    def canonicalised_share(self) -> float: ...


class DriftMetrics:
    """One server's own window, whatever the others see."""

    def __init__(self, registry: CollectorRegistry) -> None:
        psi = Gauge(
            "stillguard_drift_psi",
            "Population stability index of the window's scores against the reference; NaN while either has fewer than 1,000 "
            "texts.",
            ["category"],
            registry=registry,
        )
        flagged = Gauge(
            "stillguard_drift_flagged_ratio",
            "Share of the window's texts that violate the category; NaN without texts.",
            ["category"],
            registry=registry,
        )
        self._psi = {category: psi.labels(category) for category in CATEGORIES}
        self._flagged = {category: flagged.labels(category) for category in CATEGORIES}
        self._escalated = Gauge(
            "stillguard_drift_escalated_ratio",
            "Share of the window's texts of which the student was unsure and a teacher was wanted; NaN without texts.",
            registry=registry,
        )
        self._canonicalised = Gauge(
            "stillguard_drift_canonicalised_ratio",
            "Share of the window's texts with invisible or look-alike characters or spelt-out words; NaN without texts.",
            registry=registry,
        )
        self._texts = Gauge("stillguard_drift_texts", "Texts in the window.", registry=registry)
        reference = Gauge(
            "stillguard_drift_reference_texts",
            "Texts in the reference that is in use: the artefact's own, or the operator's traffic.",
            ["source"],
            registry=registry,
        )
        self._reference = {source: reference.labels(source) for source in get_args(ReferenceSource)}

    def follow(self, window: Window) -> None:
        """Let every gauge follow the window; called once, before traffic."""

        def reference_texts(source: ReferenceSource) -> Callable[[], int]:
            def read() -> int:
                reference = window.reference
                return reference.histograms.texts if reference is not None and reference.source == source else 0

            return read

        for category in CATEGORIES:
            self._psi[category].set_function(partial(window.psi, category))
            self._flagged[category].set_function(partial(window.flagged_share, category))
        self._escalated.set_function(window.escalated_share)
        self._canonicalised.set_function(window.canonicalised_share)
        self._texts.set_function(lambda: window.texts)
        for source, gauge in self._reference.items():
            gauge.set_function(reference_texts(source))
