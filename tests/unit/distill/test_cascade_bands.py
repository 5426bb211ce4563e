"""Bands over arrays decide as the server does, are nested, and never overspend a budget."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from distill.cascade.bands import (
    FLOORS,
    asked,
    bands_at,
    bands_between,
    doubts,
    is_escalated,
    pooled,
    served_scores,
    text_doubts,
)
from server.cascade import Opinion, may_clear
from server.core.policy import load_policies
from server.core.taxonomy import CATEGORIES
from server.core.types import Escalation
from server.verdict import decide
from tests.unit.distill.cascade_world import JAILBREAK, C, world

PERMILLE = st.integers(1, 999).map(lambda n: n / 1000)
SCORES = arrays(float, (20, C), elements=st.integers(0, 1000).map(lambda n: n / 1000))
BLOCK_AT = arrays(float, C, elements=PERMILLE)
HELPED = arrays(bool, C)
FLOOR = st.sampled_from(list(FLOORS))
BETWEEN = st.lists(st.floats(-1, 1), min_size=2, max_size=2).map(sorted)
KEEPS = arrays(bool, 20)
NEVER = np.zeros(20, dtype=bool)
ANSWERING = st.tuples(st.sampled_from(["unsure", "all"]), st.sampled_from([0.3, 0.55, 1.0]))


def policy_of(block_at, bands):
    policy = load_policies()["default"]
    numbers = zip(policy.rules, block_at.tolist(), bands.tolist(), strict=True)
    return replace(policy, rules=tuple(replace(r, block_at=t, unsure=(low, high)) for r, t, (low, high) in numbers))


@settings(deadline=None)
@given(st.tuples(st.tuples(SCORES, SCORES), BLOCK_AT, BETWEEN, HELPED, KEEPS, ANSWERING))
def test_arrays_decide_as_the_server_does(case):
    (student, teacher), block_at, (low, high), helped, is_disguised, (ask_about, weight) = case
    bands = bands_between(low, high, block_at, helped)
    policy = replace(policy_of(block_at, bands), teacher_may_clear=True, ask_about=ask_about, teacher_weight=weight)
    questions = asked(student, block_at, bands, is_disguised, ask_about)
    served = served_scores(student, pooled(student, teacher, weight), questions)
    for i in range(len(student)):
        scores = dict(zip(CATEGORIES, student[i].tolist(), strict=True))
        opinion = Opinion("user", scores, 1, 1, bool(is_disguised[i]), lambda category: "")
        may_ask = may_clear(opinion, policy) or not policy.violated(scores)
        names = policy.questions(scores) if may_ask else ()
        assert tuple(name for name, is_asked in zip(CATEGORIES, questions[i], strict=True) if is_asked) == names
        answers = {name: float(teacher[i, CATEGORIES.index(name)]) for name in names}
        escalation = Escalation("answered", 0.0, answers, {}) if names else None
        result = decide(policy, scores, escalation, windows=1, scanned_chars=1)
        assert result.scores == pytest.approx(dict(zip(CATEGORIES, served[i].tolist(), strict=True)), abs=1e-12)
        if np.abs(served[i] - block_at).min() > 1e-9:
            assert (result.verdict == "block") == bool((served[i] >= block_at).any())


@settings(deadline=None)
@given(SCORES, BLOCK_AT, HELPED, FLOOR, FLOOR)
def test_lower_floors_widen_every_band_and_lose_no_text_that_can_not_speak_to_a_model(scores, block_at, helped, one, other):
    scores[:, JAILBREAK] = -1.0
    narrow, wide = (bands_at(floor, block_at, helped) for floor in sorted((one, other), reverse=True))
    assert (wide[:, 0] <= narrow[:, 0]).all()
    assert (wide[:, 1] >= narrow[:, 1]).all()
    assert (is_escalated(scores, block_at, wide, NEVER) >= is_escalated(scores, block_at, narrow, NEVER)).all()


def test_the_family_runs_from_nothing_to_everything_and_holds_the_threshold():
    block_at, helped = np.linspace(0.05, 0.95, C), np.array([True] * (C - 1) + [False])
    nothing, everything = bands_at(1.0, block_at, helped), bands_at(0.0, block_at, helped)
    assert (nothing[:, 0] == nothing[:, 1]).all()
    assert (everything[:-1] == [0.0, 1.0]).all()
    assert everything[-1, 0] == everything[-1, 1], "no band where the teacher is of no use"
    half = bands_at(0.5, np.full(C, 0.4), np.ones(C))
    np.testing.assert_allclose(half, [[0.2, 0.7]] * C)


def test_lopsided_bands_lie_between_two_places():
    block_at, helped = np.full(C, 0.4), np.array([True] * (C - 1) + [False])
    np.testing.assert_allclose(bands_between(-0.25, 1.0, block_at, helped), [[0.3, 1.0]] * (C - 1) + [[0.4, 0.4]])
    np.testing.assert_allclose(bands_between(0.5, 1.0, block_at, helped)[0], [0.7, 1.0], err_msg="above the threshold")
    np.testing.assert_allclose(bands_between(-1.0, -0.5, block_at, helped)[0], [0.0, 0.2], err_msg="below it")


def test_doubt_is_one_at_the_threshold_and_falls_to_nought_at_both_ends():
    scores = np.array([[0.0, 0.1, 0.2, 0.6, 1.0]]).T
    np.testing.assert_allclose(doubts(scores, np.array([0.2])).ravel(), [0, 0.5, 1, 0.5, 0])


def test_a_texts_doubt_is_the_floor_at_which_it_is_escalated():
    opinions = world(300, disguised=0.2)
    rng = np.random.default_rng(1)
    block_at, helped = rng.integers(50, 950, C) / 1000, rng.random(C) < 0.8
    doubt = text_doubts(opinions.student, block_at, helped, opinions.keeps_block)
    for floor in (0.9, 0.5, 0.2, 0.1):  # no jailbreak score of this world is unsure at these
        escalated = is_escalated(opinions.student, block_at, bands_at(floor, block_at, helped), opinions.keeps_block)
        unrounded = np.abs(doubt - floor) > 0.02  # the ends of bands are rounded to three decimals
        assert (escalated == (doubt >= floor))[unrounded].all()
        assert unrounded.mean() > 0.8


def test_a_text_that_may_be_speaking_to_a_model_or_hides_what_it_says_keeps_its_block():
    block_at = np.full(C, 0.5)
    bands = np.array([[0.4, 0.6]] * C)
    blocked, calm = np.full((1, C), 0.45), np.full((1, C), 0.45)
    blocked[0, 0], blocked[:, JAILBREAK], calm[:, JAILBREAK] = 0.55, 0.39, 0.39
    suspect = np.where(np.arange(C) == JAILBREAK, 0.41, blocked)
    never, always = np.array([False]), np.array([True])
    assert is_escalated(blocked, block_at, bands, never).all()
    assert not is_escalated(blocked, block_at, bands, always).any()
    assert not is_escalated(suspect, block_at, bands, never).any()
    assert is_escalated(calm, block_at, bands, always).all(), "what isn't blocked may be raised by anyone"


def test_one_unanswered_question_leaves_the_text_to_the_student():
    student, teacher = np.full((2, C), 0.5), np.full((2, C), 0.9)
    teacher[1, 3] = np.nan
    served = served_scores(student, teacher, np.ones((2, C), dtype=bool))
    assert served.tolist() == [[0.9] * C, [0.5] * C]
