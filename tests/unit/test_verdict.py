"""From scores and an escalation to a verdict."""

from dataclasses import replace

import pytest

from server.core.taxonomy import CATEGORIES, CATEGORY_INDEX
from server.core.types import Escalation
from server.verdict import decide
from tests.steady import steady_policy

POLICY = steady_policy()
NO_HARM = dict.fromkeys(CATEGORIES, 0.01)


def with_rule(category, **changes):
    rules = list(POLICY.rules)
    rules[CATEGORY_INDEX[category]] = replace(rules[CATEGORY_INDEX[category]], **changes)
    return replace(POLICY, rules=tuple(rules))


def test_a_band_above_block_at_can_be_cleared_by_the_teacher():
    policy = with_rule("hate", block_at=0.5, unsure=(0.4, 0.9))
    escalation = Escalation("answered", 0.1, {"hate": 0.49}, {"hate": 0.8})
    result = decide(policy, NO_HARM | {"hate": 0.8}, escalation, windows=1, scanned_chars=1)
    assert (result.verdict, result.decided_by, result.categories) == ("allow", "teacher", ())
    assert result.scores == NO_HARM | {"hate": 0.49}


def test_both_opinions_are_pooled_where_the_teacher_answered_and_only_there():
    policy = replace(with_rule("hate", block_at=0.5, unsure=(0.4, 0.9)), teacher_weight=0.5)
    student = NO_HARM | {"hate": 0.8, "sexual": 0.45}
    escalation = Escalation("answered", 0.1, {"hate": 0.1, "violence": 0.99}, {"hate": 0.8, "violence": 0.01})
    result = decide(policy, student, escalation, windows=1, scanned_chars=1)
    assert result.scores == pytest.approx(student | {"hate": 0.4, "violence": 0.5})  # odds of 4 and 1/9; of 1/99 and 99
    assert (result.verdict, result.decided_by, result.escalation) == ("allow", "teacher", escalation)
    sure = replace(policy, teacher_weight=0.8)
    assert decide(sure, student, escalation, windows=1, scanned_chars=1).categories == ("violence",)


def test_block_at_itself_blocks():
    result = decide(POLICY, NO_HARM | {"hate": 0.5}, None, windows=2, scanned_chars=3)
    assert (result.verdict, result.decided_by, result.categories) == ("block", "student", ("hate",))
    assert (result.windows, result.scanned_chars) == (2, 3)


@pytest.mark.parametrize("outcome", ["deadline", "breaker_open", "over_budget", "unreachable", "error", "disabled"])
@pytest.mark.parametrize(
    ("choice", "unsure_allow"), [("student", "allow"), ("allow", "allow"), ("review", "review"), ("block", "block")]
)
def test_without_a_teacher_the_policy_may_raise_the_students_verdict_and_never_lowers_it(choice, unsure_allow, outcome):
    policy = replace(POLICY, on_no_teacher=choice, teacher_may_clear=True)
    for score, verdict, categories in ((0.6, "block", ("hate",)), (0.4, unsure_allow, ())):
        escalation = Escalation(outcome, 2.0, {}, {"hate": score})
        result = decide(policy, NO_HARM | {"hate": score}, escalation, windows=1, scanned_chars=1)
        assert (result.verdict, result.decided_by, result.categories) == (verdict, "student_degraded", categories)
        assert result.scores["hate"] == score


@pytest.mark.parametrize("choice", ["student", "allow", "block", "review"])
def test_while_the_teachers_answer_is_pending_the_students_verdict_holds(choice):
    escalation = Escalation("pending", 0.0, {}, {"hate": 0.6}, id="an-id")
    policy = replace(POLICY, on_no_teacher=choice)
    result = decide(policy, NO_HARM | {"hate": 0.6}, escalation, windows=1, scanned_chars=1)
    assert (result.verdict, result.decided_by) == ("block", "student")
