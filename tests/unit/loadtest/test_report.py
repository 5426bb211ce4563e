"""A report as text, as JSON, as a picture."""

import json
from dataclasses import replace

import pytest
from made_up_report import measured, peer, report

from loadtest.bench.goals import goals
from loadtest.bench.load import Closed, Open
from loadtest.bench.plot import draw
from loadtest.bench.report import NothingServed, fastest
from loadtest.bench.table import render
from loadtest.goal import render_goals
from loadtest.stats import summarise


@pytest.fixture
def full():
    beside = replace(peer(240.0), ours=measured(Open(240.0), 240.0, p99_s=0.02))
    return report(peers={"litserve": beside}, not_run={"infinity": "no index"}, stock=report().ceiling)


def test_the_record_is_strict_json_and_says_what_was_measured(full):
    record = json.loads(json.dumps(full.to_record(), allow_nan=False))
    assert record["schema"] == 1
    assert record["ceiling"]["texts_per_s"] == 800
    assert record["ceiling"]["again"]["texts_per_s"] == 780
    assert record["ceiling"]["with_tokenising_texts_per_s"] == pytest.approx(1 / (1 / 800 + 0.0001))
    assert [one["load"]["arrivals"]["connections"] for one in record["singles"]] == [1, 64, 256]
    assert record["open"]["0.6"]["latency"]["p99_s"] == 0.012
    assert record["cpu_s_per_text_over_ceiling"]["singles"] == pytest.approx(1.8 / 720 / 0.002)
    assert record["peers"]["litserve"]["ours"]["texts_per_s"] == 240
    assert record["not_run"] == {"infinity": "no index"}


def test_what_could_not_be_measured_is_null():
    empty = replace(measured(Closed(1), 1.0), latency=summarise([]), server_cpu=None)
    record = report(singles=[empty], footprint=None).to_record()
    assert record["singles"][0]["latency"]["p99_s"] is None
    assert record["singles"][0]["server_cpu_s_per_text"] is None
    assert record["footprint"] is None


def test_a_server_that_answered_nothing_has_no_rate():
    shed = replace(measured(Closed(8), 0.0), outcomes={"503": 7})
    with pytest.raises(NothingServed, match="'503': 7"):
        fastest([shed, shed])


def test_the_text_holds_every_load_and_ratio(full):
    text = render(full)
    for words in (
        "2 × 1-thread, sorted, ≤ 8 × ≤ 512 tokens",
        "single, 64 clients",
        "arrays of 32, 4 clients",
        "single, 432/s open",
        "litserve, single, 240/s open",
        "ours, single, 240/s open",
        "990 × 200, 10 × 503",
        "infinity was not run: no index",
        "adds 0.50 ms",
        "1.25 × the ceiling's",
        "210 MB after all loads",
    ):
        assert words in text, words
    assert "WRONG" not in text
    ratios = next(line for line in text.splitlines() if line.startswith("litserve  "))
    assert ratios.split() == ["litserve", "3.00", "4.00", "3.00"]


def test_wrong_answers_are_loud():
    text = render(report(singles=[measured(Closed(1), 250.0, complaint="2 results for 1 texts")]))
    assert "WRONG ANSWERS, single, 1 clients: 2 results for 1 texts" in text


def test_targets_say_met_missed_or_not_measured(full):
    lines = render_goals(goals(full)).splitlines()
    found = {line.split("  ")[0] for line in lines[3:]}
    assert found == {"met", "MISSED", "not measured"}


def test_the_picture_is_a_png(full, tmp_path):
    draw(full, tmp_path / "bench.png")
    assert (tmp_path / "bench.png").read_bytes().startswith(b"\x89PNG")


def test_percentiles_are_nearest_ranks():
    latency = summarise([i / 1000 for i in range(1, 1001)])
    assert (latency.p50_s, latency.p90_s, latency.p99_s, latency.p999_s, latency.max_s) == (0.5, 0.9, 0.99, 0.999, 1.0)
    assert latency.count == 1000
    assert summarise([0.2]).p99_s == 0.2
