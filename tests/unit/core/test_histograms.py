"""Score histograms: bins, distance, and the one format that manifest, window and reference file share."""

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.core.errors import ConfigurationError
from server.core.histograms import BINS, EDGES, LOG_ODDS, ScoreHistograms, add_up, bin_of, histograms_from_json, psi
from server.core.taxonomy import CATEGORIES


def histograms(texts: int, bin_index: int = 3, artifact_hash: str | None = "a") -> ScoreHistograms:
    """All texts in one bin of every category."""
    counts = tuple(texts if index == bin_index else 0 for index in range(BINS))
    return ScoreHistograms(texts, dict.fromkeys(CATEGORIES, counts), artifact_hash)


def test_the_bins_are_one_unit_of_log_odds_wide():
    assert (LOG_ODDS[0], LOG_ODDS[-1], BINS) == (-10, 4, 16)
    assert EDGES[LOG_ODDS.index(0)] == 0.5
    assert EDGES[0] == pytest.approx(4.54e-5, rel=1e-3)
    assert EDGES[-1] == pytest.approx(0.98201, rel=1e-4)


@pytest.mark.parametrize(("score", "index"), [(0.0, 0), (4e-5, 0), (0.4999, 10), (0.5, 11), (0.9, 13), (0.99, 15), (1.0, 15)])
def test_a_score_falls_into_its_bin(score, index):
    assert bin_of(score) == index


def test_psi_is_zero_between_equals_and_known_by_hand_otherwise():
    even, uneven = [100, 100] + [0] * (BINS - 2), [150, 50] + [0] * (BINS - 2)
    assert psi(even, even) == 0
    total = 200 + BINS / 2
    moved = 50 / total
    assert psi(even, uneven) == pytest.approx(moved * math.log(150.5 / 100.5) - moved * math.log(50.5 / 100.5))
    assert 0.25 < psi(even, uneven) < 0.27


def test_an_empty_bin_costs_a_bounded_amount():
    """Without smoothing it would be infinite."""
    here, there = [1000] + [0] * (BINS - 1), [0] * (BINS - 1) + [1000]
    assert 15 < psi(here, there) < 16


COUNTS = st.lists(st.integers(0, 10_000), min_size=BINS, max_size=BINS)


@given(COUNTS, COUNTS)
def test_psi_is_never_negative_and_has_no_direction(here, there):
    assert psi(here, there) >= 0
    assert psi(here, there) == pytest.approx(psi(there, here))


def test_json_is_read_as_it_was_written():
    written = histograms(7)
    assert histograms_from_json(json.loads(json.dumps(written.to_json()))) == written
    assert histograms_from_json({"artifact_hash": None} | histograms(7, artifact_hash=None).to_json()).artifact_hash is None


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"log_odds": [-4, 0, 4]}, "edges at log-odds"),
        ({"texts": 8}, "holds 7 texts, not 8"),
        ({"scores": {"hate": [7] + [0] * 15}}, "histograms are of"),
        ({"scores": dict.fromkeys(CATEGORIES, (7,))}, "is not 16 counts"),
        ({"scores": dict.fromkeys(CATEGORIES, (-1, 8, *[0] * 14))}, "is not 16 counts"),
        ({"scores": dict.fromkeys(CATEGORIES, (7.0, *[0] * 15))}, "is not 16 counts"),
        ({"scores": 3}, "malformed"),
        ({"artifact_hash": ["a"]}, "not a string"),
    ],
)
def test_what_is_not_histograms_is_refused(change, complaint):
    with pytest.raises(ConfigurationError, match=complaint):
        histograms_from_json(histograms(7).to_json() | change)


@pytest.mark.parametrize("value", [None, [], 3, {}])
def test_what_is_no_object_of_the_format_is_refused(value):
    with pytest.raises(ConfigurationError, match="malformed"):
        histograms_from_json(value)


def test_several_servers_windows_add_up():
    both = add_up([histograms(7, 3), histograms(5, 4)])
    assert (both.texts, both.artifact_hash, both.scores["hate"][3:5]) == (12, "a", (7, 5))


@pytest.mark.parametrize("parts", [[], [histograms(7), histograms(7, artifact_hash="b")]])
def test_windows_of_different_artefacts_do_not(parts):
    with pytest.raises(ConfigurationError, match="only those of one"):
        add_up(parts)
