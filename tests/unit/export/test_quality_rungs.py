"""The rungs that compare scores: what a worse graph must not get past, and what is still close enough."""

import numpy as np
import pytest

from export.proof import Limits, check_columns, check_company, check_quality
from server.core.taxonomy import CATEGORIES

LIMITS = Limits()


def scores_and_labels(count: int = 400) -> tuple[np.ndarray, np.ndarray]:
    """Well-separated scores in every category."""
    rng = np.random.default_rng(0)
    labels = np.repeat((np.arange(count) % 4 == 0)[:, None], len(CATEGORIES), axis=1).astype(np.float32)
    scores = np.where(labels == 1, 0.9, 0.1) + rng.uniform(-0.05, 0.05, labels.shape)
    return scores, labels


def test_equal_scores_pass_the_quality_rung(policy):
    scores, labels = scores_and_labels()
    failures, figures = check_quality(scores, scores, labels, policy, LIMITS)
    assert failures == []
    assert figures == {
        "au_prc": 1.0,
        "au_prc_fp32": 1.0,
        "au_prc_macro": 1.0,
        "au_prc_macro_fp32": 1.0,
        "verdict_agreement_with_fp32": 1.0,
    }


def test_flipped_verdicts_are_refused(policy):
    scores, labels = scores_and_labels()
    flipped = scores.copy()
    flipped[1:21:4] = 0.6  # five harmless texts of 400 are now blocked, and still rank below the harmful ones
    failures, figures = check_quality(flipped, scores, labels, policy, LIMITS)
    assert failures == ["quality: 98.75% of verdicts agree with FP32's, fewer than 99%"]
    assert figures["verdict_agreement_with_fp32"] == 0.9875
    assert figures["au_prc"] == 1.0


def test_four_flipped_verdicts_of_400_still_pass(policy):
    scores, labels = scores_and_labels()
    flipped = scores.copy()
    flipped[1:17:4] = 0.6
    assert check_quality(flipped, scores, labels, policy, LIMITS)[0] == []


def test_a_worse_ranking_is_refused_though_verdicts_agree(policy):
    scores, labels = scores_and_labels()
    worse = scores.copy()
    worse[::4, 5] = 0.0  # one category goes blind; the others still block the same texts
    failures, figures = check_quality(worse, scores, labels, policy, LIMITS)
    assert figures["verdict_agreement_with_fp32"] == 1.0
    assert len(failures) == 2
    assert failures[0].startswith("quality: au_prc 0.9")
    assert failures[1].startswith("quality: au_prc_macro 0.9")
    assert failures[1].endswith("below FP32's, more than 0.005")


def test_rare_categories_do_not_count_in_the_mean(policy):
    scores, labels = scores_and_labels()
    labels[:, 4] = np.nan
    labels[:12, 4] = (np.arange(12) % 4 == 0).astype(np.float32)
    worse = scores.copy()
    worse[:, 4] = scores[::-1, 4]
    _, figures = check_quality(worse, scores, labels, policy, LIMITS)
    assert figures["au_prc_macro"] == 1.0
    assert figures["au_prc"] < 1.0


def dead(column):
    return np.full_like(column, column.mean())


def shuffled(column):
    return np.random.default_rng(1).permutation(column)


@pytest.mark.parametrize("spoil", [dead, shuffled, np.negative])
def test_a_rare_category_that_went_blind_is_refused_by_its_name(policy, spoil):
    """With seven positives it doesn't count in the mean, and hardly in the pool."""
    scores, labels = scores_and_labels(4000)
    labels[:, 4] = 0
    labels[:28:4, 4] = 1
    fp32 = np.log(scores / (1 - scores))
    spoilt = fp32.copy()
    spoilt[:, 4] = spoil(fp32[:, 4])
    failures, figures = check_columns(spoilt, fp32, LIMITS)
    assert [failure.split(" correlates ")[0] for failure in failures] == [f"columns: {CATEGORIES[4]}"]
    assert figures["least_column_correlation_with_fp32"] < 0.1


def test_rounding_noise_passes_and_what_is_dead_in_fp32_is_not_held_against_int8():
    fp32 = np.random.default_rng(0).normal(0, 2, (500, len(CATEGORIES)))
    fp32[:, 3] = 1.5
    noisy = fp32 + np.random.default_rng(1).normal(0, 0.3, fp32.shape)
    failures, figures = check_columns(noisy, fp32, LIMITS)
    assert failures == []
    assert 0.98 < figures["least_column_correlation_with_fp32"] < 0.995


def test_without_labels_only_verdicts_are_compared(policy):
    scores, labels = scores_and_labels()
    failures, figures = check_quality(1 - scores, scores, np.full_like(labels, np.nan), policy, LIMITS)
    assert figures["au_prc"] is None
    assert failures == ["quality: 0.00% of verdicts agree with FP32's, fewer than 99%"]


def test_scores_that_are_not_numbers_never_agree_with_a_block(policy):
    scores, labels = scores_and_labels()
    failures, _ = check_quality(np.full_like(scores, np.nan), scores, np.full_like(labels, np.nan), policy, LIMITS)
    assert failures == ["quality: 75.00% of verdicts agree with FP32's, fewer than 99%"]


def test_a_verdict_that_hangs_on_the_batch_is_refused(policy):
    scores, _ = scores_and_labels()
    crowded = scores.copy()
    crowded[:40] += 0.5
    failures, figures = check_company(scores, crowded, policy, LIMITS)
    assert failures == ["company: 92.50% of verdicts survive batching, fewer than 99%"]
    assert figures["max_score_change_by_batch"] == pytest.approx(0.5)
