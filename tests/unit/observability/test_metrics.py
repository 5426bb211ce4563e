"""Every metric by its value, as a scrape reads it."""

import pytest
from prometheus_client import CollectorRegistry

from server.batching.observer import BatchObserver
from server.core.taxonomy import CATEGORIES
from server.core.types import ArtifactId, CheckAnswer, Escalation, TextResult, Timings
from server.observability.metrics import Metrics

SCORES = dict.fromkeys(CATEGORIES, 0.1)


@pytest.fixture
def registry():
    return CollectorRegistry()


def answer(*results: TextResult, teacher_s: float = 0.0) -> CheckAnswer:
    timings = Timings(encode_s=0.0002, queue_s=0.0004, infer_s=0.0018, teacher_s=teacher_s, total_s=0.0028 + teacher_s)
    return CheckAnswer(results, "default", "1", timings, ArtifactId("v1", "0", "int8"))


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
    sums = {"encode": 0.0004, "queue": 0.0008, "infer": 0.0036, "student": 0.0056, "total": 2.0056, "teacher": 2.0}
    for stage, total in sums.items():
        assert value("stillguard_stage_seconds_sum", {"stage": stage}) == pytest.approx(total)
    assert value("stillguard_stage_seconds_count", {"stage": "teacher"}) == 1
    assert value("stillguard_stage_seconds_bucket", {"stage": "student", "le": "0.002"}) == 0
    assert value("stillguard_stage_seconds_bucket", {"stage": "student", "le": "0.003"}) == 2
    assert value("stillguard_stage_seconds_bucket", {"stage": "total", "le": "0.003"}) == 1
    assert value("stillguard_verdicts_total", {"verdict": "review", "decided_by": "student_degraded"}) == 1
    assert value("stillguard_verdicts_total", {"verdict": "block", "decided_by": "student"}) == 1
    assert value("stillguard_flagged_total", {"category": "hate", "decided_by": "student"}) == 1
    assert value("stillguard_flagged_total", {"category": "hate", "decided_by": "student_degraded"}) == 1
    assert value("stillguard_escalations_total", {"outcome": "deadline"}) == 1


@pytest.mark.parametrize(
    ("outcome", "count"), [("answered", 1), ("deadline", 1), ("error", 1), ("over_budget", 0), ("disabled", 0), ("pending", 0)]
)
def test_the_teachers_time_is_that_of_escalations_that_took_some(registry, outcome, count):
    escalation = Escalation(outcome, 0.0, {}, {"hate": 0.6})
    Metrics(registry).answer_done(answer(TextResult("allow", "student_degraded", (), SCORES, 1, 4, escalation)))
    assert registry.get_sample_value("stillguard_stage_seconds_count", {"stage": "teacher"}) == count
    assert registry.get_sample_value("stillguard_escalations_total", {"outcome": outcome}) == 1


def test_every_series_is_there_at_zero_before_traffic(registry):
    Metrics(registry)
    value = registry.get_sample_value
    for route in ("native", "openai"):
        for outcome in ("ok", "shed", "expired", "cancelled", "invalid", "failed"):
            assert value("stillguard_requests_total", {"route": route, "outcome": outcome}) == 0
    assert value("stillguard_escalations_total", {"outcome": "unreachable"}) == 0
    assert value("stillguard_dropped_items_total", {"reason": "expired"}) == 0
    assert value("stillguard_errors_total", {"code": "queue_full"}) == 0
    assert value("stillguard_reloads_total", {"outcome": "failed"}) == 0
    assert value("stillguard_teacher_endpoints", {"breaker": "open"}) == 0
    assert value("stillguard_ready") == 0
    assert value("stillguard_teacher_ready") == 0


def test_it_observes_batches(registry):
    observer: BatchObserver = Metrics(registry)
    observer.batch_done(items=3, tokens=40, padded_tokens=60, infer_s=0.002)
    observer.dropped(reason="expired", items=2)
    observer.session_lost(reason="stuck")
    value = registry.get_sample_value
    assert value("stillguard_batch_items_sum") == 3
    assert value("stillguard_batch_tokens_sum") == 40
    assert value("stillguard_padded_tokens_total") == 60
    assert value("stillguard_batch_seconds_sum") == 0.002
    assert value("stillguard_dropped_items_total", {"reason": "expired"}) == 2
    assert value("stillguard_lost_sessions_total", {"reason": "stuck"}) == 1


def test_info_follows_what_is_served(registry):
    metrics = Metrics(registry)
    metrics.describe(artifact=ArtifactId("v1", "aa", "int8"), policies="default@1", teacher="none")
    metrics.describe(artifact=ArtifactId("v2", "bb", "int8"), policies="default@2", teacher="none")
    (family,) = [family for family in registry.collect() if family.name == "stillguard"]
    (sample,) = family.samples
    assert sample.labels == {
        "artifact_version": "v2",
        "artifact_hash": "bb",
        "precision": "int8",
        "policies": "default@2",
        "teacher": "none",
    }


def test_gauges_follow_the_server_and_stand_beside_their_bounds(registry):
    metrics = Metrics(registry)
    is_ready = [False]
    metrics.follow(
        ready=lambda: is_ready[0],
        sessions=lambda: 2,
        live_sessions=lambda: 1,
        queue_items=lambda: 5,
        queue_tokens=lambda: 70,
        queue_wait_s=lambda: 0.5,
    )
    metrics.follow_teacher(lambda: True)
    metrics.describe_limits(
        queue_max_items=10, queue_max_tokens=100, queue_max_wait_s=1.0, request_timeout_s=5.0, teacher_timeout_s=2.0
    )
    value = registry.get_sample_value
    assert value("stillguard_ready") == 0
    is_ready[0] = True
    assert value("stillguard_ready") == 1
    assert value("stillguard_teacher_ready") == 1
    assert (value("stillguard_live_sessions"), value("stillguard_sessions")) == (1, 2)
    assert (value("stillguard_queue_items"), value("stillguard_queue_max_items")) == (5, 10)
    assert (value("stillguard_queue_tokens"), value("stillguard_queue_max_tokens")) == (70, 100)
    assert (value("stillguard_queue_wait_seconds"), value("stillguard_queue_max_wait_seconds")) == (0.5, 1)
    assert value("stillguard_request_timeout_seconds") == 5
    assert value("stillguard_teacher_timeout_seconds") == 2


def test_an_error_is_counted_by_its_code(registry):
    metrics = Metrics(registry)
    metrics.refused("queue_full")
    assert registry.get_sample_value("stillguard_errors_total", {"code": "queue_full"}) == 1


def test_reloads_are_counted_by_outcome(registry):
    Metrics(registry).reload_done("failed")
    value = registry.get_sample_value
    assert [value("stillguard_reloads_total", {"outcome": outcome}) for outcome in ("ok", "failed", "refused")] == [0, 1, 0]


@pytest.mark.parametrize(
    ("accept", "content_type"), [("", "text/plain"), ("application/openmetrics-text", "application/openmetrics-text")]
)
def test_the_exposition_follows_what_the_scraper_accepts(registry, accept, content_type):
    metrics = Metrics(registry)
    metrics.request_done("native", "ok")
    content, actual = metrics.exposition(accept)
    assert actual.startswith(content_type)
    assert b'stillguard_requests_total{outcome="ok",route="native"} 1.0' in content
