"""Thresholds do what their aim says, and say so where they can't."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from distill.cascade.aims import FALLBACK, Aim, choose_thresholds
from server.core.errors import ConfigurationError
from tests.unit.distill.cascade_world import C, world


def thresholds(aim, scores, labels, weights=None):
    chosen = choose_thresholds(Aim.parse(aim), scores, labels, np.ones(len(scores)) if weights is None else weights)
    return [t.block_at for t in chosen], [t.is_met for t in chosen]


def ladder(positive_from):
    """100 scores from 0 to 0.99, those from ``positive_from`` on positive, alike in every category."""
    scores = np.tile(np.arange(100)[:, None] / 100, (1, C))
    return scores, (scores >= positive_from).astype(float)


def test_best_f1_is_the_middle_of_the_gap_between_the_kinds():
    block_at, is_met = thresholds("best-f1", *ladder(0.6))
    assert block_at == pytest.approx([0.595] * C, abs=0.006)
    assert all(is_met)


def test_max_fpr_counts_one_more_negative_as_blocked():
    scores, labels = ladder(0.5)
    labels[75:] = 0  # negatives: 0–0.49 and 0.75–0.99, so 75 of them
    block_at, is_met = thresholds("max-fpr=0.1", scores, labels)
    # (6 + 1) / (75 + 1) is at most 0.1 and (7 + 1) / 76 isn't: above 0.93 there are six negatives.
    assert block_at == pytest.approx([0.931] * C)
    assert all(is_met)


def test_min_precision_is_the_lowest_threshold_that_reaches_it():
    block_at, is_met = thresholds("min-precision=0.8", *ladder(0.6))
    assert block_at == pytest.approx([0.491] * C), "50 blocked, 40 of them rightly"
    assert all(is_met)


def test_what_can_not_be_reached_says_so():
    scores, labels = ladder(0.6)
    block_at, is_met = thresholds("max-fpr=0.01", scores, labels)
    assert block_at == [0.999] * C, "60 negatives can't promise 1 %"
    assert not any(is_met)
    block_at, is_met = thresholds("min-precision=0.99", scores, 1 - labels)
    assert not any(is_met)
    labels[:, 0] = np.nan
    assert thresholds("best-f1", scores, labels)[0][0] == FALLBACK
    assert thresholds("best-f1", scores, labels)[1] == [False] + [True] * (C - 1)


def test_weights_stand_for_copies():
    opinions = world(600)
    twice = np.random.default_rng(0).random(600) < 0.5
    rows = np.concatenate([np.arange(600), np.flatnonzero(twice)])
    for aim in ("best-f1", "min-precision=0.7"):
        weighted = thresholds(aim, opinions.student, opinions.labels, 1.0 + twice)
        assert weighted == thresholds(aim, opinions.student[rows], opinions.labels[rows])


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 10_000), st.sampled_from([0.02, 0.1, 0.3]))
def test_the_false_positive_rate_is_within_its_bound_wherever_it_is_said_to_be(seed, bound):
    opinions = world(500, seed=seed)
    block_at, is_met = thresholds(f"max-fpr={bound}", opinions.student, opinions.labels)
    for c in np.flatnonzero(is_met):
        assert (opinions.student[opinions.labels[:, c] == 0, c] >= block_at[c]).mean() <= bound


@pytest.mark.parametrize("text", ["best", "best-f1=0.5", "max-fpr", "max-fpr=1", "min-precision=x", "max-recall=0.5", ""])
def test_an_aim_that_is_none_is_refused(text):
    with pytest.raises(ConfigurationError, match="aim"):
        Aim.parse(text)


def test_an_aim_is_written_as_it_is_read():
    assert [str(Aim.parse(text)) for text in ("best-f1", "max-fpr=0.01")] == ["best-f1", "max-fpr=0.01"]
