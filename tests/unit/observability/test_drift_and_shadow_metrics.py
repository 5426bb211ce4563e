"""The series about drift and the shadow student, by their values as a scrape reads them."""

import math

import pytest
from prometheus_client import CollectorRegistry

from server.core.histograms import BINS, DriftReference, ScoreHistograms
from server.core.taxonomy import CATEGORIES
from server.core.types import ArtifactId
from server.observability.drift_metrics import DriftMetrics
from server.observability.shadow_metrics import ShadowMetrics
from server.shadow import ShadowObserver


class Window:
    """Says a number of its own for everything."""

    reference: DriftReference | None = None
    texts = 1200

    def psi(self, category) -> float:
        return 0.3 if category == "hate" else math.nan

    def flagged_share(self, category) -> float:
        return 0.02 if category == "sexual" else 0.0

    def escalated_share(self) -> float:
        return 0.05

    def canonicalised_share(self) -> float:
        return 0.01


@pytest.fixture
def registry():
    return CollectorRegistry()


def test_the_drift_gauges_show_the_window(registry):
    window = Window()
    DriftMetrics(registry).follow(window)
    value = registry.get_sample_value
    assert value("stillguard_drift_psi", {"category": "hate"}) == 0.3
    assert math.isnan(value("stillguard_drift_psi", {"category": "sexual"}))
    assert value("stillguard_drift_flagged_ratio", {"category": "sexual"}) == 0.02
    assert value("stillguard_drift_flagged_ratio", {"category": "hate"}) == 0.0
    assert value("stillguard_drift_escalated_ratio") == 0.05
    assert value("stillguard_drift_canonicalised_ratio") == 0.01
    assert value("stillguard_drift_texts") == 1200
    assert [value("stillguard_drift_reference_texts", {"source": source}) for source in ("artifact", "traffic")] == [0, 0]


def test_only_the_reference_in_use_has_texts(registry):
    window = Window()
    DriftMetrics(registry).follow(window)
    counts = (9000, *[0] * (BINS - 1))
    window.reference = DriftReference(ScoreHistograms(9000, dict.fromkeys(CATEGORIES, counts)), "traffic")
    value = registry.get_sample_value
    assert value("stillguard_drift_reference_texts", {"source": "traffic"}) == 9000
    assert value("stillguard_drift_reference_texts", {"source": "artifact"}) == 0


def test_what_the_shadow_finds_is_counted_in_both_directions(registry):
    metrics: ShadowObserver = ShadowMetrics(registry)
    metrics.text_done("compared", {"hate": "only_shadow_blocks", "sexual": "only_student_blocks"})
    metrics.text_done("compared", {"hate": "only_shadow_blocks"})
    metrics.text_done("compared", {})
    metrics.text_done("dropped")
    value = registry.get_sample_value
    texts = "stillguard_shadow_student_texts_total"
    assert [value(texts, {"outcome": outcome}) for outcome in ("compared", "dropped", "failed")] == [3, 1, 0]
    name = "stillguard_shadow_student_disagreements_total"
    assert value(name, {"category": "hate", "direction": "only_shadow_blocks"}) == 2
    assert value(name, {"category": "hate", "direction": "only_student_blocks"}) == 0
    assert value(name, {"category": "sexual", "direction": "only_student_blocks"}) == 1


def test_the_shadow_says_what_it_is_and_whether_it_serves(registry):
    metrics = ShadowMetrics(registry)
    is_wanted = is_ready = False
    metrics.follow(is_wanted=lambda: is_wanted, is_ready=lambda: is_ready)
    nobody = {"artifact_version": "", "artifact_hash": "", "precision": ""}
    value = registry.get_sample_value
    assert math.isnan(value("stillguard_shadow_student_ready"))
    assert value("stillguard_shadow_student_info", nobody) == 1
    is_wanted = True
    assert value("stillguard_shadow_student_ready") == 0
    metrics.describe(ArtifactId("v2", "ab", "int8"))
    is_ready = True
    assert value("stillguard_shadow_student_ready") == 1
    assert value("stillguard_shadow_student_info", {"artifact_version": "v2", "artifact_hash": "ab", "precision": "int8"}) == 1
    assert value("stillguard_shadow_student_info", nobody) is None
    metrics.describe(None)
    assert value("stillguard_shadow_student_info", nobody) == 1
