"""Which verdicts are kept, and how many a second."""

import math
from dataclasses import replace

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from server.cascade import Opinion
from server.core.taxonomy import CATEGORIES, CATEGORY_INDEX
from server.core.types import Escalation
from server.feedback.sampling import Sampler, near_zones
from tests.steady import steady_policy

POLICY = steady_policy()
NEVER, ALWAYS = (lambda: 1.0), (lambda: 0.0)


def opinion(**scores: float) -> Opinion:
    every = dict.fromkeys(CATEGORIES, 0.02) | scores
    return Opinion("user", every, 1, 10, False, lambda _category: "passage")


def reasons(given: Opinion, escalation: Escalation | None = None, *, near: float = 0.25, draw=NEVER, share: float = 0.5):
    sampler = Sampler(share=share, near_log_odds=near, draw=draw)
    return sampler.reasons(given, given.decide(POLICY, escalation), POLICY)


def test_a_clear_verdict_is_not_kept():
    assert reasons(opinion()) == ()
    assert reasons(opinion(hate=0.97)) == ()


@pytest.mark.parametrize("outcome", ["answered", "deadline", "pending", "disabled"])
def test_an_escalated_text_is_kept_whatever_came_of_it(outcome):
    scores = {"hate": 0.35} if outcome == "answered" else {}
    assert reasons(opinion(hate=0.4), Escalation(outcome, 0.1, scores, {"hate": 0.4})) == ("escalated",)


@pytest.mark.parametrize(("student", "teacher"), [(0.4, 0.9), (0.6, 0.1)])
def test_a_teacher_that_would_decide_otherwise_disagrees(student, teacher):
    escalation = Escalation("answered", 0.1, {"hate": teacher}, {"hate": student})
    assert reasons(opinion(hate=student), escalation) == ("escalated", "disagreeing")


@pytest.mark.parametrize(("teacher", "found"), [(0.9, ("disagreeing",)), (0.3, ())])
def test_a_shadows_text_is_kept_where_the_two_disagree_and_was_not_escalated(teacher, found):
    policy = replace(POLICY, mode="shadow")
    given = opinion(hate=0.02)
    asked = replace(given.decide(policy, None), escalation=Escalation("answered", 0.1, {"hate": teacher}, {"hate": 0.02}))
    assert Sampler(share=0.0, near_log_odds=0.25).reasons(given, asked, policy) == found


def test_a_score_next_to_its_threshold_is_near_it():
    low, high = 1 / (1 + math.exp(0.25)), 1 / (1 + math.exp(-0.25))
    for score, is_near in ((low - 1e-6, False), (low + 1e-6, True), (0.5, True), (high - 1e-6, True), (high + 1e-6, False)):
        assert reasons(opinion(violence=score)) == (("near_threshold",) if is_near else ()), score
    assert reasons(opinion(violence=0.5), near=0) == ()


def test_a_draw_picks_its_share_of_the_rest():
    assert reasons(opinion(), draw=lambda: 0.49) == ("sampled",)
    assert reasons(opinion(), draw=lambda: 0.5) == ()
    assert reasons(opinion(), draw=ALWAYS, share=0) == ()


def test_a_reload_moves_the_zone():
    sampler = Sampler(share=0, near_log_odds=0.1)
    stricter = replace(POLICY, rules=tuple(replace(rule, block_at=0.2) for rule in POLICY.rules))
    given = opinion(hate=0.2)
    found = [sampler.reasons(given, given.decide(policy, None), policy) for policy in (POLICY, stricter, POLICY)]
    assert found == [(), ("near_threshold",), ()]


@example(block_at=0.9999999999999999, log_odds=0.001)
@given(block_at=st.floats(0, 1), log_odds=st.floats(0.001, 10))
def test_a_zone_reaches_as_far_in_log_odds_on_both_sides(block_at, log_odds):
    policy = replace(POLICY, rules=tuple(replace(rule, block_at=block_at) for rule in POLICY.rules))
    _, low, high = near_zones(policy, log_odds)[CATEGORY_INDEX["hate"]]
    assert 0 <= low <= block_at <= high <= 1
    if 0.001 < block_at < 0.999:
        middle = math.log(block_at / (1 - block_at))
        assert math.log(low / (1 - low)) == pytest.approx(middle - log_odds, abs=1e-6)
