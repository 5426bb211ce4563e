"""Three times too much: driven, described, judged."""

import random

import pytest

from loadtest.overload.drive import BIN_S, flood
from loadtest.overload.run import describe, judge_flood
from loadtest.shapes import arrivals, stairs
from loadtest.tally import Sample, Tally
from tests.unit.loadtest.made_up_run import MACHINE, moments

STEPS = stairs([50.0, 300.0, 50.0], [4.0, 10.0, 5.0])


def tally_of(*, outcome=lambda at_s: "ok", latency=lambda at_s: 0.02) -> Tally:
    """By default every second request of the flood's first two thirds is shed."""
    tally = Tally(BIN_S)
    for at_s in arrivals(STEPS, random.Random(1)):
        tally.add(Sample("check", True, outcome(at_s), at_s, at_s, at_s + latency(at_s)))
    return tally


def shed_two_thirds(at_s: float) -> str:
    return "shed" if 4 < at_s < 14 and int(at_s * 300) % 3 else "ok"


def missed(tally: Tally, rss=(2e8,) * 20, *, saturation: float = 100.0) -> list[str]:
    record = describe(tally, STEPS, moments(*rss), saturation=saturation, deadline_s=5.0, settle_s=1.0, machine=MACHINE)
    return [goal.name for goal in judge_flood(record) if goal.is_met is not True]


def test_a_server_with_manners_passes():
    assert missed(tally_of(outcome=shed_two_thirds)) == []


def test_goodput_that_falls_is_missed():
    assert missed(tally_of(outcome=shed_two_thirds), saturation=130.0) == ["right answers under overload / saturation"]


@pytest.mark.parametrize("outcome", ["lost", "unanswered", "failed"])
def test_one_request_without_an_answer_is_missed(outcome):
    tally = tally_of(outcome=shed_two_thirds)
    tally.add(Sample("check", True, outcome, 5.0, 5.0, 5.1))
    assert missed(tally) == ["requests that got no answer, or a failure"]


def test_a_wrong_answer_is_missed():
    tally = tally_of(outcome=shed_two_thirds)
    tally.add(Sample("check", True, "wrong", 5.0, 5.0, 5.1))
    assert missed(tally) == ["wrong answers"]


def test_a_wait_beyond_the_deadline_is_missed_even_if_refused():
    tally = tally_of(outcome=shed_two_thirds)
    tally.add(Sample("check", True, "expired", 5.0, 5.0, 10.2))
    assert missed(tally) == []
    tally.add(Sample("check", True, "shed", 5.0, 5.0, 10.3))
    assert missed(tally) == ["longest wait for an answer / the deadline"]


def test_memory_that_grows_under_overload_is_missed():
    assert missed(tally_of(outcome=shed_two_thirds), [2e8 + 1e7 * at_s for at_s in range(20)]) == [
        "growth of memory under overload"
    ]


def test_latency_that_stays_is_missed():
    slow = tally_of(outcome=shed_two_thirds, latency=lambda at_s: 1.0 if 4 < at_s < 16.5 else 0.02)
    assert missed(slow) == ["latency as before, after the overload"]
    soon = tally_of(outcome=shed_two_thirds, latency=lambda at_s: 0.3 if 4 < at_s < 15.5 else 0.02)
    assert missed(soon) == []


def test_what_couldn_t_be_measured_is_missed():
    assert missed(tally_of(outcome=shed_two_thirds), [2e8] * 2) == ["growth of memory under overload"]


def test_the_flood_comes_as_planned_and_is_counted_by_what_came_of_it(scripted):
    tally = flood(scripted.target, ["good", "shed", "nan", "hang up"], stairs([40.0, 120.0], [1.0, 1.0]), drain_s=20.0)
    offered = [sum(tally.offered[at] for at in tally.bins(start, start + 1)) for start in (0.0, 1.0)]
    assert offered[0] == pytest.approx(40, rel=0.5)
    assert offered[1] == pytest.approx(120, rel=0.3)
    counts = {outcome: len(found) for (_, outcome), found in tally.kinds.items()}
    assert counts.keys() == {"ok", "shed", "wrong", "lost"}
    assert sum(counts.values()) == sum(offered)
    assert max(counts.values()) - min(counts.values()) <= 1, "in turn"
    assert tally.complaints["scores that aren't finite probabilities"] == counts["wrong"]


def test_requests_that_are_never_answered_are_counted_as_waited_for(scripted):
    tally = flood(scripted.target, ["wait"], stairs([30.0], [1.0]), drain_s=0.3)
    (only,) = tally.kinds
    assert only == ("check", "unanswered")
    assert tally.longest_s > 1.0, "the first has waited through the load and the drain"
