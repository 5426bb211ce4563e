"""What is read off a tally."""

import pytest

from loadtest.measures import MAX_ROWS, rates, recovered_after_s, timeline
from loadtest.tally import Sample, Tally


def tally_of(*samples: Sample) -> Tally:
    tally = Tally(0.5)
    for sample in samples:
        tally.add(sample)
    return tally


def sample(at_s: float, latency_s: float = 0.01, outcome: str = "ok", *, is_check: bool = True) -> Sample:
    return Sample("check", is_check, outcome, at_s, at_s, at_s + latency_s)


def test_rates_between_two_times():
    found = rates(
        tally_of(
            sample(0.9),  # before
            *(sample(1 + number / 10) for number in range(8)),
            sample(1.1, outcome="shed"),
            sample(1.2, outcome="lost"),
            sample(1.9, 3.0),  # ends after it
            sample(1.3, 0.4, is_check=False),
        ),
        1.0,
        2.0,
    )
    assert found["offered_per_s"] == 12
    assert found["answered_per_s"] == 10
    assert found["goodput_per_s"] == 9
    assert found["outcomes"] == {"ok": 9, "shed": 1, "lost": 1}
    assert found["error_share"] == pytest.approx(2 / 11)
    assert found["latency"]["count"] == 10, "checks that were due in it, but for the refused one"
    assert found["latency"]["max_s"] == pytest.approx(3.0, rel=0.011)


def test_nothing_has_no_rates_of_errors():
    found = rates(Tally(0.5), 0.0, 1.0)
    assert (found["offered_per_s"], found["error_share"]) == (0, None)


def test_a_long_run_s_timeline_has_few_rows():
    rows = timeline(tally_of(*(sample(float(at)) for at in range(1_000))), 1_000.0)
    assert len(rows) <= MAX_ROWS
    assert sum(row["offered_per_s"] for row in rows) / len(rows) == pytest.approx(1.0, rel=0.02)
    assert [row["at_s"] for row in timeline(Tally(0.5), 1.5)] == [0.0, 0.5, 1.0]


def course(*latencies_s: float) -> Tally:
    """Four requests in each half second, of these latencies in turn."""
    return tally_of(*(sample(at / 2 + part / 10, latency_s) for at, latency_s in enumerate(latencies_s) for part in range(4)))


@pytest.mark.parametrize(
    ("after", "expected"),
    [
        ([0.02, 0.02, 0.02, 0.02], 0.0),
        ([1.0, 0.02, 0.02, 0.02], 0.5),
        ([1.0, 0.02, 1.0, 0.02], None),
        ([1.0, 1.0, 1.0, 1.0], None),
        ([0.02, 0.02, 0.02, 1.0], 0.0),  # something else, later
        ([0.02, 1.0, 0.02, 0.02], 1.0),
        ([0.039, 0.039, 0.039, 0.039], 0.0),
        ([0.042, 0.02, 0.02, 0.02], 0.5),
    ],
)
def test_recovery_is_when_a_whole_second_without_a_slow_half_begins(after, expected):
    tally = course(0.02, 0.02, 5.0, 5.0, *after)
    assert recovered_after_s(tally, before=(0.0, 1.0), over_at_s=2.0, until_s=4.0) == expected


def test_a_few_milliseconds_more_are_no_slowness():
    tally = course(0.001, 0.001, 5.0, 5.0, 0.009, 0.009)
    assert recovered_after_s(tally, before=(0.0, 1.0), over_at_s=2.0, until_s=3.0) == 0.0


@pytest.mark.parametrize(("refused_until_s", "expected"), [(3.0, 1.0), (4.0, None)])
def test_a_server_that_still_refuses_has_not_recovered(refused_until_s, expected):
    """What it does answer is as quick as ever."""
    tally = course(0.02, 0.02, 5.0, 5.0, 0.02, 0.02, 0.02, 0.02)
    for at in range(20, int(refused_until_s * 10)):
        tally.add(sample(at / 10 + 0.001, 0.001, "shed"))
    assert recovered_after_s(tally, before=(0.0, 1.0), over_at_s=2.0, until_s=4.0) == expected


def test_recovery_of_nothing_is_unknown():
    assert recovered_after_s(course(0.02), before=(0.0, 0.5), over_at_s=2.0, until_s=3.0) is None
    assert recovered_after_s(course(0.02), before=(1.0, 2.0), over_at_s=0.0, until_s=0.5) is None
