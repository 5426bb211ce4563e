"""Levels over time, and the arrivals under them."""

import random
from itertools import pairwise
from statistics import mean

import pytest

from loadtest.shapes import SHAPES, arrivals, stairs, steady


def test_a_ramp_climbs_in_equal_stairs():
    steps = SHAPES["ramp"](200.0, 50.0)
    assert [step.level for step in steps] == pytest.approx([20 * number for number in range(1, 11)])
    assert [step.end_s - step.start_s for step in steps] == pytest.approx([5.0] * 10)


def test_a_spike_comes_from_a_quarter_and_goes_back_to_it():
    steps = SHAPES["spike"](100.0, 50.0)
    assert [(step.start_s, step.end_s, step.level) for step in steps] == [(0, 20, 25), (20, 30, 100), (30, 50, 25)]


@pytest.mark.parametrize("shape", SHAPES)
def test_every_shape_fills_its_time_and_reaches_its_peak(shape):
    steps = SHAPES[shape](60.0, 30.0)
    assert (steps[0].start_s, steps[-1].end_s) == (0.0, pytest.approx(30.0))
    assert max(step.level for step in steps) == pytest.approx(60.0)
    assert all(one.end_s == next_one.start_s for one, next_one in pairwise(steps))


def test_arrivals_follow_the_level_and_stay_within_its_step():
    times = list(arrivals(stairs([50.0, 0.0, 500.0], [20.0, 5.0, 10.0]), random.Random(1)))
    assert times == sorted(times)
    counts = [sum(start <= at < end for at in times) for start, end in ((0, 20), (20, 25), (25, 35))]
    assert counts[0] == pytest.approx(1_000, rel=0.12)
    assert counts[1] == 0
    assert counts[2] == pytest.approx(5_000, rel=0.06)
    assert sum(counts) == len(times)


def test_arrivals_are_random_as_poisson_s_are():
    gaps = [later - at for at, later in pairwise(arrivals(steady(100.0, 100.0), random.Random(2)))]
    assert mean(gaps) == pytest.approx(0.01, rel=0.05)
    assert sum(gap > 0.02 for gap in gaps) / len(gaps) == pytest.approx(0.135, abs=0.02), "exp(-2) of them"


def test_the_same_seed_gives_the_same_arrivals():
    one, again, other = (list(arrivals(steady(20.0, 5.0), random.Random(seed))) for seed in (1, 1, 2))
    assert one == again != other
