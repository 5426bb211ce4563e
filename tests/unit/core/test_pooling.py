"""The logarithmic opinion pool: between its two opinions, finite at the ends, and by hand in the middle."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.core.pooling import pooled

SCORE = st.floats(0, 1)


def test_by_hand():
    assert pooled(0.5, 0.9, 0.5) == pytest.approx(0.75)  # odds of 1 and 9: their geometric mean is 3
    assert pooled(0.2, 0.2, 0.3) == pytest.approx(0.2)
    assert pooled(0.8, 0.2, 0.5) == pytest.approx(0.5)
    assert pooled(0.5, 0.9, 0.25) == pytest.approx(9**0.25 / (1 + 9**0.25))


@given(SCORE, SCORE, st.floats(0.01, 1))
def test_it_lies_between_both_and_is_a_probability(student, teacher, weight):
    score = pooled(student, teacher, weight)
    assert min(student, teacher) - 1e-8 <= score <= max(student, teacher) + 1e-8


@given(SCORE, SCORE)
def test_full_weight_is_the_teachers_word_itself(student, teacher):
    assert pooled(student, teacher, 1.0) == teacher


def test_certainty_of_one_can_be_outweighed_by_nobody_but_is_finite():
    assert pooled(0.0, 1.0, 0.5) == pytest.approx(0.5)
    assert 0 < pooled(0.0, 0.5, 0.5) < 0.001
