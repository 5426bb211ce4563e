"""The token bucket: what passes at once, what passes over time, and when to come back."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.core.token_bucket import TokenBucket


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_a_burst_passes_and_then_its_rate():
    clock = Clock()
    bucket = TokenBucket(2.0, 3, clock=clock)
    assert [bucket.take() for _ in range(4)] == [0, 0, 0, 0.5]
    clock.now += 0.4
    assert bucket.take() == pytest.approx(0.1)
    clock.now += 0.1
    assert bucket.take() == 0
    clock.now += 3600
    assert [bucket.take() for _ in range(4)] == [0, 0, 0, 0.5]


def test_what_is_refused_costs_nothing():
    clock = Clock()
    bucket = TokenBucket(1.0, 1, clock=clock)
    assert bucket.take() == 0
    for _ in range(100):
        assert bucket.take() == 1
    clock.now += 1
    assert bucket.take() == 0


@given(steps=st.lists(st.floats(0, 3), max_size=60), rate_per_s=st.floats(0.1, 50), burst=st.floats(1, 50))
def test_the_bound_holds_over_every_stretch(steps, rate_per_s, burst):
    clock = Clock()
    bucket = TokenBucket(rate_per_s, burst, clock=clock)
    passed = []
    for step in steps:
        clock.now += step
        if not bucket.take():
            passed.append(clock.now)
    for first in range(len(passed)):
        for last in range(first, len(passed)):
            assert last - first + 1 <= burst + (passed[last] - passed[first]) * rate_per_s + 1e-6


def test_the_rate_passes():
    clock = Clock()
    bucket = TokenBucket(10, 10, clock=clock)
    passed = 0
    for _ in range(1000):
        clock.now += 0.05
        passed += not bucket.take()
    assert 500 <= passed <= 511
