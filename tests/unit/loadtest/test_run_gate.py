"""The gate: what passes, what doesn't, and that what couldn't be measured doesn't."""

from dataclasses import replace

import pytest

from loadtest.goal import Goal, is_passed
from loadtest.run.gate import Limits, judge_run, saturation
from tests.unit.loadtest.made_up_run import moments, plan_of, play, record_of

LIMITS = Limits()


def missed(record, limits: Limits = LIMITS) -> list[str]:
    return [goal.name for goal in judge_run(record, limits) if goal.is_met is not True]


@pytest.mark.parametrize("shape", ["steady", "ramp", "spike", "soak"])
def test_a_good_run_passes_in_every_shape(shape):
    plan = plan_of(shape)
    assert missed(record_of(plan, play(plan))) == []


def test_one_wrong_answer_in_thousands_fails_every_shape():
    for shape in ("steady", "ramp", "spike", "soak"):
        plan = plan_of(shape, peak=500.0)
        spoilt = iter([True])
        played = play(plan, outcome=lambda at_s, spoilt=spoilt: "wrong" if at_s > 2 and next(spoilt, False) else "ok")
        assert "wrong answers" in missed(record_of(plan, played)), shape


def test_slow_answers_fail():
    plan = plan_of()
    played = play(plan, latency=lambda at_s: 0.2 if 5 < at_s < 5.5 else 0.02)
    assert missed(record_of(plan, played)) == ["p99 of checks"]
    assert missed(record_of(plan, played), replace(LIMITS, p99_s=0.3)) == []


@pytest.mark.parametrize("outcome", ["shed", "expired", "failed", "limited"])
def test_refused_requests_are_errors_but_answers(outcome):
    plan = plan_of()
    record = record_of(plan, play(plan, outcome=lambda at_s: outcome if at_s > 9.9 else "ok"))
    assert missed(record) == ["requests not answered rightly"]
    assert missed(record, replace(LIMITS, error_share=0.05)) == []


def test_requests_that_got_no_answer_aren_t_achieved():
    plan = plan_of()
    played = play(plan, outcome=lambda at_s: "unanswered" if at_s > 9 else "ok")
    assert set(missed(record_of(plan, played))) == {"requests not answered rightly", "answered / offered"}


def test_a_closed_loop_offers_what_it_achieves():
    plan = plan_of(is_open=False)
    names = [goal.name for goal in judge_run(record_of(plan, play(plan)), LIMITS)]
    assert "answered / offered" not in names


def test_a_ramp_may_shed_but_must_answer():
    plan = plan_of("ramp")
    assert missed(record_of(plan, play(plan, outcome=lambda at_s: "shed" if at_s > 5 else "ok"))) == []
    played = play(plan, outcome=lambda at_s: "lost" if at_s > 9.9 else "ok")
    assert missed(record_of(plan, played)) == ["requests without an answer"]


def test_a_ramp_s_best_step_is_its_goodput():
    plan = plan_of("ramp", peak=200.0, seconds=20.0)
    record = record_of(plan, play(plan, outcome=lambda at_s: "shed" if at_s > 10 else "ok"))
    best = max(step["goodput_per_s"] for step in record["steps"])
    assert best == pytest.approx(100, rel=0.2)
    assert missed(record, replace(LIMITS, goodput_per_s=best)) == []
    assert missed(record, replace(LIMITS, goodput_per_s=best + 1)) == ["right answers"]


def test_the_goodput_of_other_shapes_is_that_of_all():
    plan = plan_of()
    record = record_of(plan, play(plan))
    assert missed(record, replace(LIMITS, goodput_per_s=40)) == []
    assert missed(record, replace(LIMITS, goodput_per_s=60)) == ["right answers"]


def test_a_spike_must_be_over_soon():
    plan = plan_of("spike", seconds=20.0)
    assert missed(record_of(plan, play(plan, latency=lambda at_s: 1.0 if 8 < at_s < 13 else 0.02))) == []
    slow = play(plan, latency=lambda at_s: 1.0 if 8 < at_s < 15 else 0.02)
    assert missed(record_of(plan, slow)) == ["latency as before, after the spike"]
    never = play(plan, latency=lambda at_s: 1.0 if at_s > 8 else 0.02)
    assert missed(record_of(plan, never)) == ["latency as before, after the spike"]


def test_a_soak_s_memory_must_stay_flat():
    plan = plan_of("soak")
    growing = record_of(plan, play(plan), moments(*(2e8 + 1e7 * at_s for at_s in range(11))))
    assert missed(growing) == ["growth of the server's memory"]
    assert missed(growing, replace(LIMITS, growth_bytes=1e9)) == []


def test_what_couldn_t_be_measured_doesn_t_pass():
    plan = plan_of("soak")
    assert missed(record_of(plan, play(plan), [])) == ["growth of the server's memory"]
    plan = plan_of()
    nothing = play(plan, outcome=lambda at_s: "shed")
    assert "p99 of checks" in missed(record_of(plan, nothing))
    assert not is_passed([Goal("unknown", None, 1, True)])


def test_a_lost_worker_fails():
    plan = plan_of()
    assert missed(record_of(plan, replace(play(plan), lost_workers=1))) == ["workers lost"]


def test_saturation_is_the_best_step_and_what_holds_is_the_last_good_one():
    plan = plan_of("ramp", peak=100.0, seconds=50.0)
    slow = play(plan, latency=lambda at_s: 0.2 if at_s > 30 else 0.02, outcome=lambda at_s: "shed" if at_s > 45 else "ok")
    found = saturation(record_of(plan, slow), LIMITS)
    assert found["goodput_per_s"] == pytest.approx(90, rel=0.15)
    assert found["holds_per_s"] == pytest.approx(60, rel=0.15)
    bad = saturation(record_of(plan, play(plan, latency=lambda at_s: 1.0)), LIMITS)
    assert bad["holds_per_s"] is None
