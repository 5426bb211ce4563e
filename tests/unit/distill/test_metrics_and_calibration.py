"""Figures against values worked out by hand or by another library; calibration that does what it says."""

import numpy as np
import pytest

from distill.calibrate import apply_calibration, fit_calibration
from distill.metrics import average_precision, evaluate, expected_calibration_error, recall_at_fpr
from server.core.calibration import Platt
from server.core.errors import ConfigurationError
from server.core.policy import load_policies
from server.core.taxonomy import CATEGORIES

C = len(CATEGORIES)
NAN = np.nan


def test_average_precision_by_hand():
    # Ranked: 1 0 1 0 → precision 1/1 at the first positive, 2/3 at the second.
    assert average_precision(np.array([0.9, 0.8, 0.7, 0.1]), np.array([1, 0, 1, 0.0])) == pytest.approx((1 + 2 / 3) / 2)


def test_unknown_labels_are_in_no_figure():
    scores, labels = np.array([0.9, 0.8, 0.7, 0.1, 0.99]), np.array([1, 0, 1, 0, NAN])
    assert average_precision(scores, labels) == average_precision(scores[:4], labels[:4])


def test_one_kind_of_label_has_no_ranking_figure():
    assert average_precision(np.array([0.1, 0.2]), np.array([1.0, 1.0])) is None
    assert recall_at_fpr(np.array([0.1, 0.2]), np.array([0.0, 0.0])) is None


def test_recall_at_one_percent_fpr():
    negatives = np.linspace(0, 0.5, 200)  # two of them may lie above the threshold
    positives = np.array([0.9, 0.4985, 0.2, 0.1])
    scores, labels = np.concatenate([negatives, positives]), np.array([0.0] * 200 + [1.0] * 4)
    assert recall_at_fpr(scores, labels) == 0.5


def test_calibration_error_of_a_constant_guess_is_its_distance_from_the_rate():
    labels = np.tile([1.0, 0.0, 0.0, 0.0], 150)
    assert expected_calibration_error(np.full(600, 0.25), labels) == pytest.approx(0, abs=0.01)
    assert expected_calibration_error(np.full(600, 0.75), labels) == pytest.approx(0.5, abs=0.01)


def test_evaluate_reports_pooled_per_category_and_per_data_set():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, (60, C)).astype(float)
    labels[:, 4] = NAN
    scores = np.where(np.nan_to_num(labels) == 1, 0.9, 0.1)
    report = evaluate(scores, labels, load_policies()["default"], np.array(["a"] * 30 + ["b"] * 30))
    assert report["pooled"]["au_prc"] == 1.0
    assert report["categories"]["self_harm"]["au_prc"] is None
    assert report["categories"]["hate"]["positives"] == int((labels[:, 1] == 1).sum())
    assert set(report["datasets"]) == {"a", "b"}


def separable(n=400, seed=0):
    rng = np.random.default_rng(seed)
    true_logits = rng.normal(0, 2, (n, C))
    labels = (rng.random((n, C)) < 1 / (1 + np.exp(-true_logits))).astype(float)
    return true_logits, labels


def test_platt_recovers_the_distortion():
    true_logits, labels = separable(4000)
    fitted = fit_calibration(true_logits * 3 - 1, labels)  # raw = 3·true − 1, so scale 1/3 and shift 1/3
    for name in CATEGORIES:
        assert fitted[name].scale == pytest.approx(1 / 3, rel=0.15)
        assert fitted[name].shift == pytest.approx(1 / 3, abs=0.15)


def test_temperature_is_taken_where_a_shift_would_only_fit_noise():
    """Raw = 3·true: the right shift is 0. What few labels a category has would bend a shift; held-out fifths tell."""
    true_logits, labels = separable(300, seed=3)
    fitted = fit_calibration(true_logits * 3, labels)
    shifts = [fitted[name].shift for name in CATEGORIES]
    assert shifts.count(0.0) >= 4
    assert all(fitted[name].scale == pytest.approx(1 / 3, rel=0.4) for name in CATEGORIES)
    shifted = fit_calibration(true_logits * 3 - 6, labels)
    assert 0.0 not in [shifted[name].shift for name in CATEGORIES], "a real shift is kept"


def test_a_category_with_few_labels_borrows_the_pooled_fit():
    logits, labels = separable()
    labels[5:, 4] = NAN
    fitted = fit_calibration(logits, labels)
    assert fitted["self_harm"] not in [fitted[name] for name in CATEGORIES if name != "self_harm"]
    assert fitted["self_harm"].scale == pytest.approx(1.0, rel=0.3)


def test_what_lies_between_the_labels_is_left_out():
    logits, labels = separable()
    doubtful = labels.copy()
    doubtful[::7] = 0.5
    labels[::7] = NAN
    assert fit_calibration(logits, doubtful) == fit_calibration(logits, labels)


def test_one_kind_of_label_is_refused():
    with pytest.raises(ConfigurationError, match="both labels"):
        fit_calibration(np.zeros((5, C)), np.ones((5, C)))


def test_arrays_and_the_server_calibrate_alike():
    calibration = {name: Platt(0.5 + i / 10, i - 4.0) for i, name in enumerate(CATEGORIES)}
    logits = np.random.default_rng(0).normal(0, 300, (50, C))
    scores = apply_calibration(logits, calibration)
    for c, name in enumerate(CATEGORIES):
        np.testing.assert_allclose(scores[:, c], [calibration[name].score(x) for x in logits[:, c]], rtol=1e-9, atol=1e-300)
