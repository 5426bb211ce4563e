"""What a newer student mends and what it breaks."""

import numpy as np
import pytest

from distill.compare import compare
from server.core.policy import load_policies
from server.core.taxonomy import CATEGORY_INDEX
from tests.unit.distill.mining_world import values

HATE = CATEGORY_INDEX["hate"]


def scores(*hate: float) -> np.ndarray:
    found = np.zeros((len(hate), 8))
    found[:, HATE] = hate
    return found


def test_verdicts_are_counted_both_ways_and_unlabelled_texts_not_at_all():
    labels = np.stack([values(hate=1), values(hate=1), values(hate=0), values(hate=0), values()])
    before, now = scores(0.999, 0.001, 0.999, 0.001, 0.999), scores(0.001, 0.999, 0.001, 0.001, 0.001)
    report = compare(now, before, labels, load_policies()["default"])
    assert report["texts"] == 4
    assert (report["mended"], report["broken"]) == (2, 1)
    assert report["wrong"] == {"before": 2, "after": 1}
    assert report["false_blocks"] == {"of": 2, "before": 1, "after": 0}
    assert report["misses"] == {"of": 2, "before": 1, "after": 1}
    assert report["categories"]["hate"]["after"] == 0.5 * 1 + 0.5 * 2 / 4, "one positive alone on top, all else tied below"
    assert report["categories"]["sexual"] == {"before": None, "after": None}


def test_the_lead_has_an_interval():
    rng = np.random.default_rng(0)
    truth = np.arange(200) % 2
    labels = np.stack([values(hate=t) for t in truth])
    good, bad = scores(*np.clip(truth * 0.5 + rng.random(200) * 0.5, 0, 1)), scores(*rng.random(200))
    figures = compare(good, bad, labels, load_policies()["default"])["au_prc"]
    assert figures["after"] == 1.0
    assert figures["lead"] == pytest.approx(figures["after"] - figures["before"])
    low, high = figures["interval"]
    assert 0.2 < low < figures["lead"] < high < 0.7


def test_a_set_of_harmless_texts_has_false_blocks_and_no_ranking():
    labels = np.zeros((2, 8))
    report = compare(scores(0, 0), scores(0.999, 0), labels, load_policies()["default"])
    assert report["false_blocks"] == {"of": 2, "before": 1, "after": 0}
    assert report["au_prc"] is None
