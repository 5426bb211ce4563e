"""Every metric by its value, as a scrape reads it."""

import pytest
from prometheus_client import CollectorRegistry

from server.batching.observer import BatchObserver
from server.core.artifact import Manifest
from server.core.calibration import IDENTITY
from server.core.taxonomy import CATEGORIES
from server.core.types import CheckAnswer, Escalation, TextResult, Timings
from server.observability.metrics import Metrics

SCORES = dict.fromkeys(CATEGORIES, 0.1)


@pytest.fixture
def registry():
    return CollectorRegistry()


def answer(*results: TextResult, teacher_s: float = 0.0) -> CheckAnswer:
    timings = Timings(encode_s=0.0002, queue_s=0.0004, infer_s=0.0018, teacher_s=teacher_s, total_s=0.0028)
    return CheckAnswer(results, "default", "1", timings)


def test_an_answer_is_counted_by_stage_verdict_category_and_escalation(registry):
    metrics = Metrics(registry)
    escalation = Escalation("deadline", 2.0, {}, {"hate": 0.6})
    metrics.answer_done(
        answer(
            TextResult("block", "student", ("hate", "sexual"), SCORES, 1, 4, None),
            TextResult("review", "student_degraded", ("hate",), SCORES, 1, 4, escalation),
            teacher_s=2.0,
        )
    )
    metrics.answer_done(answer(TextResult("allow", "student", (), SCORES, 1, 4, None)))
    value = registry.get_sample_value
    for stage, total in {"encode": 0.0004, "queue": 0.0008, "infer": 0.0036, "total": 0.0056, "teacher": 2.0}.items():
        assert value("stillguard_stage_seconds_sum", {"stage": stage}) == pytest.approx(total)
    assert value("stillguard_stage_seconds_count", {"stage": "teacher"}) == 1
    assert value("stillguard_stage_seconds_bucket", {"stage": "total", "le": "0.002"}) == 0
    assert value("stillguard_stage_seconds_bucket", {"stage": "total", "le": "0.003"}) == 2
    assert value("stillguard_verdicts_total", {"verdict": "review", "decided_by": "student_degraded"}) == 1
    assert value("stillguard_verdicts_total", {"verdict": "block", "decided_by": "student"}) == 1
    assert value("stillguard_flagged_total", {"category": "hate", "decided_by": "student"}) == 1
    assert value("stillguard_flagged_total", {"category": "hate", "decided_by": "student_degraded"}) == 1
    assert value("stillguard_escalations_total", {"outcome": "deadline"}) == 1


def test_every_series_is_there_at_zero_before_traffic(registry):
    Metrics(registry)
    value = registry.get_sample_value
    for route in ("native", "openai"):
        for outcome in ("ok", "shed", "expired", "cancelled", "invalid", "failed"):
            assert value("stillguard_requests_total", {"route": route, "outcome": outcome}) == 0
    assert value("stillguard_escalations_total", {"outcome": "unreachable"}) == 0
    assert value("stillguard_dropped_items_total", {"reason": "expired"}) == 0
    assert value("stillguard_ready") == 0
    assert value("stillguard_teacher_ready") == 0


def test_it_observes_batches(registry):
    observer: BatchObserver = Metrics(registry)
    observer.batch_done(items=3, tokens=40, padded_tokens=60, infer_s=0.002)
    observer.queue_depth(items=5, tokens=70)
    observer.dropped(reason="expired", items=2)
    value = registry.get_sample_value
    assert value("stillguard_batch_items_sum") == 3
    assert value("stillguard_batch_tokens_sum") == 40
    assert value("stillguard_padded_tokens_total") == 60
    assert value("stillguard_batch_seconds_sum") == 0.002
    assert value("stillguard_queue_items") == 5
    assert value("stillguard_queue_tokens") == 70
    assert value("stillguard_dropped_items_total", {"reason": "expired"}) == 2


def test_info_and_readiness_follow_the_server(registry):
    manifest = Manifest("v1", "int8", CATEGORIES, 256, IDENTITY, None, "p", {}, {}, {})
    metrics = Metrics(registry)
    is_ready = [False]
    metrics.describe(manifest=manifest, policies="default@1", teacher="NoTeacher", ready=lambda: is_ready[0])
    metrics.follow_teacher(lambda: True)
    labels = {"artifact_version": "v1", "artifact_hash": manifest.hash, "precision": "int8"}
    value = registry.get_sample_value
    assert value("stillguard_info", labels | {"policies": "default@1", "teacher": "NoTeacher"}) == 1
    assert value("stillguard_ready") == 0
    is_ready[0] = True
    assert value("stillguard_ready") == 1
    assert value("stillguard_teacher_ready") == 1


@pytest.mark.parametrize(
    ("accept", "content_type"), [("", "text/plain"), ("application/openmetrics-text", "application/openmetrics-text")]
)
def test_the_exposition_follows_what_the_scraper_accepts(registry, accept, content_type):
    metrics = Metrics(registry)
    metrics.request_done("native", "ok")
    content, actual = metrics.exposition(accept)
    assert actual.startswith(content_type)
    assert b'stillguard_requests_total{outcome="ok",route="native"} 1.0' in content
