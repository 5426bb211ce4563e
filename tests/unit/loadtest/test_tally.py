"""Counts that can be sent, merged and read."""

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadtest.stats import percentile
from loadtest.tally import MAX_COMPLAINTS, Histogram, Sample, Tally, read_tally

SAMPLES = st.builds(
    Sample,
    kind=st.sampled_from(["check", "bad input"]),
    is_check=st.booleans(),
    outcome=st.sampled_from(["ok", "shed", "lost", "unanswered"]),
    intended_s=st.floats(0, 10),
    sent_s=st.floats(10, 20),
    done_s=st.floats(20, 30),
    complaint=st.sampled_from([None, "a", "b"]),
)


def tally_of(samples, **options) -> Tally:
    tally = Tally(0.5, **options)
    for sample in samples:
        tally.add(sample)
    return tally


@given(st.lists(st.floats(1e-5, 100), min_size=1), st.sampled_from([0.01, 0.5, 0.9, 0.99, 1.0]))
def test_a_histogram_s_percentiles_are_at_most_a_hundredth_too_high(seconds, share):
    histogram = Histogram()
    for value in seconds:
        histogram.add(value)
    exact = percentile(sorted(seconds), share)
    assert exact * 0.9999 <= histogram.percentile(share) <= exact * 1.0101


def test_a_histogram_of_nothing_knows_nothing():
    assert math.isnan(Histogram().percentile(0.5))
    assert Histogram().latency().count == 0


@given(st.lists(SAMPLES), st.lists(SAMPLES))
def test_merging_is_as_good_as_counting_in_one_place(mine, theirs):
    merged = tally_of(mine)
    merged.merge(read_tally(json.loads(json.dumps(tally_of(theirs).to_record()))))
    whole = tally_of([*mine, *theirs])
    assert (merged.offered, merged.done, merged.complaints) == (whole.offered, whole.done, whole.complaints)
    assert merged.longest_s == whole.longest_s
    for mine_by_key, whole_by_key in ((merged.kinds, whole.kinds), (merged.latency, whole.latency)):
        assert mine_by_key.keys() == whole_by_key.keys()
        assert all(mine_by_key[key].counts == whole_by_key[key].counts for key in whole_by_key)
    assert merged.late.counts == whole.late.counts


def test_time_counts_from_when_a_request_was_due():
    tally = tally_of([Sample("check", True, "ok", intended_s=1.0, sent_s=3.0, done_s=3.1)])
    assert tally.latencies([2], checks_only=True).percentile(1) == pytest.approx(2.1, rel=0.011)
    assert tally.late.percentile(1) == pytest.approx(2.0, rel=0.011)
    assert tally.longest_s == pytest.approx(0.1), "since it was sent"
    assert (tally.offered[2], tally.done[6, "ok"]) == (1, 1)


def test_refusals_are_quick_and_no_latency():
    tally = tally_of([Sample("check", True, outcome, 0, 0, 1) for outcome in ("ok", "shed", "lost", "unanswered", "wrong")])
    assert len(tally.latencies([0], checks_only=True)) == 3


def test_other_requests_than_checks_can_be_left_out():
    tally = tally_of([Sample("bad input", False, "ok", 0, 0, 1), Sample("check", True, "ok", 0, 0, 2)])
    assert len(tally.latencies([0], checks_only=True)) == 1
    assert len(tally.latencies([0], checks_only=False)) == 2


def test_the_warm_up_is_in_the_bins_alone():
    tally = tally_of([Sample("check", True, "ok", at, at, at + 1) for at in (0.9, 1.0)], from_s=1.0)
    assert sum(tally.offered.values()) == 2
    assert len(tally.kinds["check", "ok"]) == len(tally.late) == 1


def test_complaints_are_bounded():
    tally = tally_of([Sample("check", True, "wrong", 0, 0, 1, f"complaint {number}") for number in range(100)] * 2)
    assert len(tally.complaints) == MAX_COMPLAINTS
    assert set(tally.complaints.values()) == {2}


@pytest.mark.parametrize(
    ("start_s", "end_s", "bins"), [(0, 2, range(4)), (0.3, 1.9, range(1, 3)), (1, 1, range(2, 2)), (0.5, 1.5, range(1, 3))]
)
def test_bins_between_two_times(start_s, end_s, bins):
    assert Tally(0.5).bins(start_s, end_s) == bins
