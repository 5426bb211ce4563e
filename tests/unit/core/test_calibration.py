"""Calibration: finite in, probability out, order kept; malformed JSON is refused."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from server.core.calibration import IDENTITY, Platt, calibration_from_json, calibration_to_json
from server.core.errors import ConfigurationError
from server.core.taxonomy import CATEGORIES

finite = st.floats(allow_nan=False, allow_infinity=False)


def test_known_scores():
    assert Platt().score(0.0) == 0.5
    assert Platt(2.0, -1.0).score(0.5) == 0.5
    assert Platt(2.0, -1.0).score(1.5) == pytest.approx(1 / (1 + math.exp(-2.0)), abs=1e-15)
    assert Platt(1.0, 0.0).score(-2.0) == pytest.approx(1 / (1 + math.exp(2.0)), abs=1e-15)


@settings(deadline=None)
@given(raw=finite)
def test_a_score_is_a_finite_probability_however_large_the_logit(raw):
    assert 0.0 <= Platt(3.0, 1.0).score(raw) <= 1.0


@settings(deadline=None)
@given(low=finite, high=finite)
def test_calibrating_never_reverses_an_order(low, high):
    low, high = sorted((low, high))
    assert Platt(0.7, -0.2).score(low) <= Platt(0.7, -0.2).score(high)


@pytest.mark.parametrize(("scale", "shift"), [(0.0, 0.0), (-1.0, 0.0), (math.nan, 0.0), (1.0, math.inf), (math.inf, 0.0)])
def test_a_calibration_that_could_reverse_or_break_scores_is_refused(scale, shift):
    with pytest.raises(ConfigurationError, match="finite with scale > 0"):
        Platt(scale, shift)


def test_json_round_trip():
    calibration = {name: Platt(1.0 + index, -0.5 * index) for index, name in enumerate(CATEGORIES)}
    assert calibration_from_json(calibration_to_json(calibration)) == calibration


def broken(**changes):
    return calibration_to_json(IDENTITY) | changes


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({}, "not the categories"),
        (broken(extra={"scale": 1, "shift": 0}), "not the categories"),
        (broken(hate={"scale": 1}), "malformed"),
        (broken(hate={"scale": "much", "shift": 0}), "malformed"),
        (broken(hate=None), "malformed"),
        (broken(hate={"scale": -1, "shift": 0}), "scale > 0"),
    ],
)
def test_malformed_json_is_refused(value, message):
    with pytest.raises(ConfigurationError, match=message):
        calibration_from_json(value)
