"""What the series of the feedback log say."""

import pytest
from prometheus_client import CollectorRegistry

from server.observability.feedback_metrics import LAST_CORRECTIONS, FeedbackMetrics


@pytest.fixture
def registry() -> CollectorRegistry:
    return CollectorRegistry()


@pytest.fixture
def metrics(registry) -> FeedbackMetrics:
    return FeedbackMetrics(registry)


def test_a_record_counts_under_each_of_its_reasons(registry, metrics):
    metrics.record_written(("escalated", "disagreeing"))
    metrics.record_written(("escalated",))
    counted = {
        reason: registry.get_sample_value("stillguard_feedback_records_total", {"reason": reason})
        for reason in ("escalated", "disagreeing", "near_threshold", "sampled")
    }
    assert counted == {"escalated": 2, "disagreeing": 1, "near_threshold": 0, "sampled": 0}


def test_what_is_dropped_is_counted_by_why_and_the_size_is_the_last_one(registry, metrics):
    for why in ("rate", "disk", "disk"):
        metrics.record_dropped(why)
    counted = {
        why: registry.get_sample_value("stillguard_feedback_dropped_total", {"why": why})
        for why in ("rate", "queue_full", "disk", "error")
    }
    assert counted == {"rate": 1, "queue_full": 0, "disk": 2, "error": 0}
    metrics.log_measured(500)
    metrics.log_measured(300)
    assert registry.get_sample_value("stillguard_feedback_log_bytes") == 300
    metrics.files_removed(2)
    metrics.files_removed(0)
    assert registry.get_sample_value("stillguard_feedback_removed_files_total") == 2


def test_disagreement_is_that_of_the_last_verdicts_that_were_judged(registry, metrics):
    def ratio() -> float | None:
        return registry.get_sample_value("stillguard_feedback_disagreement_ratio")

    assert ratio() == 0
    for kind in ("review_settled", "labels_only"):
        metrics.corrected(kind, {})
    assert ratio() == 0
    for kind in ("confirmed", "block_overturned", "allow_overturned", "confirmed"):
        metrics.corrected(kind, {})
    assert ratio() == 0.5
    for _ in range(LAST_CORRECTIONS):
        metrics.corrected("confirmed", {})
    assert ratio() == 0


def test_wrong_labels_are_counted_by_category_and_kind(registry, metrics):
    metrics.corrected("labels_only", {"hate": "missed", "sexual": "wrongly_flagged"})
    for category, kind, count in (("hate", "missed", 1), ("sexual", "wrongly_flagged", 1), ("hate", "wrongly_flagged", 0)):
        labels = {"category": category, "kind": kind}
        assert registry.get_sample_value("stillguard_feedback_wrong_labels_total", labels) == count
