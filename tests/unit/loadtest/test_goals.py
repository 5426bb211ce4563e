"""Each target against a report with round numbers: what is held against what, and which way."""

from dataclasses import replace

import pytest
from made_up_report import ceiling, measured, peer, report

from loadtest.bench.goals import goals
from loadtest.bench.load import Closed, Open
from loadtest.goal import Goal
from loadtest.stats import summarise


def judged(**fields) -> dict[str, Goal]:
    return {goal.name: goal for goal in goals(report(**fields))}


def test_what_one_run_alone_can_judge():
    found = judged()
    values = {name: goal.value for name, goal in found.items() if goal.value is not None}
    assert values == {
        "single texts at saturation / ceiling": pytest.approx(720 / 800),
        "arrays of texts at saturation / ceiling": pytest.approx(784 / 800),
        "p99 at 60% of saturation / unloaded median": pytest.approx(0.012 / 0.004),
        "what an idle server adds to the model's time": pytest.approx(0.0005),
        "CPU of an idle server": pytest.approx(0.002),
        "resident memory after all loads": 210_000_000,
        "from exec to ready": pytest.approx(1.5),
    }
    assert [name for name, goal in found.items() if goal.is_met is False] == ["what an idle server adds to the model's time"]
    assert sum(goal.is_met is None for goal in found.values()) == 4


def test_the_higher_ceiling_counts():
    again = replace(report().ceiling_again, texts_per_s=900.0)
    assert judged(ceiling_again=again)["single texts at saturation / ceiling"].value == pytest.approx(720 / 900)


def test_peers_and_the_stock_model():
    peers = {
        "litserve": replace(peer(240.0), ours=measured(Open(240.0), 240.0, p99_s=0.02)),
        "infinity": replace(peer(90.0), ours=measured(Open(90.0), 90.0)),
    }
    found = judged(peers=peers, stock=ceiling(500.0))
    assert found["rate / LitServe's"].value == pytest.approx(3.0)
    assert found["rate / LitServe's"].is_met
    assert found["rate / infinity's"].value == pytest.approx(8.0)
    assert found["rate / infinity's"].is_met is False
    assert found["p99 / LitServe's, at LitServe's own maximum"].value == pytest.approx(0.25)
    assert found["p99 / LitServe's, at LitServe's own maximum"].is_met
    assert found["ceiling / stock ceiling"].value == pytest.approx(1.6)


@pytest.mark.parametrize(
    ("value", "is_floor", "is_met"),
    [(0.9, True, True), (0.89, True, False), (0.9, False, True), (0.91, False, False), (None, True, None)],
)
def test_a_goal_is_met_at_its_limit(value, is_floor, is_met):
    assert Goal("some ratio", value, 0.9, is_floor).is_met is is_met


def test_a_server_that_we_did_not_start_leaves_its_footprint_unjudged():
    found = judged(footprint=None, singles=[replace(measured(Closed(1), 250.0), overhead_p50_s=None, beside_model_p50_s=None)])
    unjudged = {name for name, goal in found.items() if goal.is_met is None}
    assert {"CPU of an idle server", "resident memory after all loads", "from exec to ready"} <= unjudged
    assert "what an idle server adds to the model's time" in unjudged


def test_latencies_of_nothing_are_not_judged():
    nothing = replace(measured(Open(240.0), 240.0), latency=summarise([]))
    peers = {"litserve": replace(peer(240.0), at_maximum=nothing, ours=nothing)}
    assert judged(peers=peers)["p99 / LitServe's, at LitServe's own maximum"].is_met is None
    assert judged(opened={0.6: nothing})["p99 at 60% of saturation / unloaded median"].is_met is None
