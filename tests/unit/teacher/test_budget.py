"""What may be asked of the teacher, on a clock that is turned by hand."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.teacher.budget import BURST_S, SHARE_BURST_TEXTS, Budget, BudgetLimits
from server.teacher.teacher import TeacherUnavailable
from tests.unit.teacher.counting import Clock

UNBOUNDED = BudgetLimits()


def may_ask(budget: Budget, *, tokens: int = 1, key: str | None = None) -> bool:
    try:
        budget.spend(tokens, key)
    except TeacherUnavailable:
        return False
    return True


def asked(budget: Budget, times: int, **question) -> int:
    return sum(may_ask(budget, **question) for _ in range(times))


def test_without_bounds_everything_may_be_asked():
    budget = Budget(total=UNBOUNDED, per_key=UNBOUNDED)
    assert asked(budget, 5_000, tokens=10**9, key="a") == 5_000


def test_over_the_budget_is_an_outcome_and_not_the_teachers_fault():
    budget = Budget(total=BudgetLimits(max_per_s=0.1), per_key=UNBOUNDED, clock=Clock())
    budget.spend(1, None)
    with pytest.raises(TeacherUnavailable) as caught:
        budget.spend(1, None)
    assert (caught.value.outcome, caught.value.is_teachers_fault) == ("over_budget", False)


def test_a_share_of_the_texts_is_earned_text_by_text():
    budget = Budget(total=BudgetLimits(max_share=0.1), per_key=UNBOUNDED, clock=Clock())
    assert asked(budget, 100) == 50  # the burst: 0.1 of 500 texts
    budget.texts_checked(9, None)
    assert not may_ask(budget)
    budget.texts_checked(1, None)
    assert asked(budget, 2) == 1


def test_a_rate_is_earned_second_by_second():
    clock = Clock()
    budget = Budget(total=BudgetLimits(max_per_s=0.5), per_key=UNBOUNDED, clock=clock)
    assert asked(budget, 100) == 5  # the burst: 10 s of 0.5
    clock.now += 1.9
    assert not may_ask(budget)
    clock.now += 0.1
    assert asked(budget, 2) == 1
    clock.now += 3600
    assert asked(budget, 100) == 5


def test_tokens_are_paid_by_number_and_a_question_larger_than_the_burst_passes_in_the_end():
    clock = Clock()
    budget = Budget(total=BudgetLimits(max_tokens_per_s=100), per_key=UNBOUNDED, clock=clock)
    assert asked(budget, 10, tokens=300) == 3  # 1,000 in the bucket
    clock.now += 9
    assert may_ask(budget, tokens=5_000)  # full again, and 4,000 in debt
    clock.now += 40
    assert not may_ask(budget, tokens=1)
    clock.now += 0.01
    assert may_ask(budget, tokens=1)


def test_a_refused_question_is_not_paid_by_any_bucket():
    clock = Clock()
    budget = Budget(total=BudgetLimits(max_per_s=1, max_tokens_per_s=1), per_key=UNBOUNDED, clock=clock)
    assert may_ask(budget, tokens=10)
    assert not may_ask(budget, tokens=10)
    clock.now += 10
    assert asked(budget, 20, tokens=0) == 10  # the nine that were left, and one more than the bucket holds is none


def test_one_keys_spending_leaves_the_others_theirs_and_all_share_the_total():
    budget = Budget(total=BudgetLimits(max_per_s=1), per_key=BudgetLimits(max_per_s=0.4), clock=Clock())
    assert asked(budget, 100, key="a") == 4
    assert asked(budget, 100, key="b") == 4
    assert asked(budget, 100, key="c") == 2
    assert asked(budget, 100) == 0


def test_a_keys_share_is_of_its_own_texts():
    budget = Budget(total=UNBOUNDED, per_key=BudgetLimits(max_share=0.002), clock=Clock())
    assert asked(budget, 10, key="a") == 1
    budget.texts_checked(500, "b")
    assert not may_ask(budget, key="a")
    budget.texts_checked(500, "a")
    assert asked(budget, 10, key="a") == 1


@given(st.lists(st.tuples(st.integers(0, 50), st.floats(0, 5)), max_size=60), st.floats(0.01, 1), st.floats(0.1, 20))
def test_over_any_run_neither_the_share_nor_the_rate_is_exceeded(steps, share, rate):
    clock = Clock()
    began = clock.now
    budget = Budget(total=BudgetLimits(max_share=share, max_per_s=rate), per_key=UNBOUNDED, clock=clock)
    texts = sent = 0
    for count, pause in steps:
        clock.now += pause
        budget.texts_checked(count, None)
        texts += count
        sent += asked(budget, 40)
        assert sent <= share * (texts + SHARE_BURST_TEXTS) + 1
        assert sent <= rate * (clock.now - began + BURST_S) + 1


@pytest.mark.parametrize("limits", [BudgetLimits(max_share=1e-6), BudgetLimits(max_per_s=1e-6)])
def test_even_the_smallest_budget_lets_one_question_through(limits):
    budget = Budget(total=limits, per_key=UNBOUNDED, clock=Clock())
    assert asked(budget, 10) == 1


def test_questions_that_are_paid_together_are_all_paid_or_none():
    clock = Clock()
    budget = Budget(total=BudgetLimits(max_share=0.006, max_per_s=0.4), per_key=UNBOUNDED, clock=clock)
    assert not_paid(budget, questions=2) == 0  # of three by the share, of four by the rate
    assert not_paid(budget, questions=2) == 2
    assert not_paid(budget, questions=1) == 0
    budget.texts_checked(500, None)
    assert not_paid(budget, questions=2) == 2  # one is left of the rate
    assert not_paid(budget, questions=1) == 0


def not_paid(budget: Budget, *, questions: int) -> int:
    try:
        budget.spend(1, None, questions=questions)
    except TeacherUnavailable:
        return questions
    return 0
