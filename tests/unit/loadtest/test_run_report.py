"""The record of a load test, and what people see of it."""

import json

import pytest

from loadtest.plot import draw
from loadtest.run.gate import Limits, judge_run
from loadtest.run.page import write_page
from loadtest.run.plan import read_plan
from loadtest.run.tables import notes, tables
from tests.unit.loadtest.made_up_run import plan_of, play, record_of


@pytest.mark.parametrize("shape", ["steady", "ramp", "spike", "soak"])
def test_the_record_is_json_s_own_kinds(shape):
    plan = plan_of(shape)
    record = record_of(plan, play(plan))
    assert json.loads(json.dumps(record, allow_nan=False)) == record
    assert len(record["steps"]) == {"ramp": 9, "spike": 3}.get(shape, 1), "the ramp's first step is the warm-up"


def test_offered_and_achieved_are_the_rates_of_the_measured_seconds():
    plan = plan_of(peak=200.0)
    client = record_of(plan, play(plan, outcome=lambda at_s: "shed" if at_s > 5.5 else "ok"))["client"]
    assert client["offered_per_s"] == pytest.approx(200, rel=0.1)
    assert client["goodput_per_s"] == pytest.approx(100, rel=0.15)
    assert client["answered_per_s"] == pytest.approx(200, rel=0.1)
    assert client["error_share"] == pytest.approx(0.5, abs=0.05)
    assert sum(client["outcomes"].values()) == client["requests"]
    (row,) = client["kinds"]
    assert row["outcomes"] == client["outcomes"]
    assert row["latency"]["p99_s"] == pytest.approx(0.02, rel=0.011)


def test_the_server_s_numbers_stand_beside_the_client_s():
    plan = plan_of()
    server = record_of(plan, play(plan))["server"]
    assert (server["requests"], server["cpu_cores"]) == ({"ok": 1_000}, 100)


def test_a_plan_survives_json():
    plan = plan_of("ramp")
    assert read_plan(json.loads(json.dumps(plan.to_record()))) == plan


def test_a_long_plan_has_wide_bins():
    assert plan_of(seconds=60.0).bin_s == 0.5
    assert plan_of(seconds=6_000.0).bin_s == 10.0


def test_the_tables_have_both_sides():
    plan = plan_of("ramp")
    text = "\n".join(map(str, tables(record_of(plan, play(plan)))))
    for title in ("The whole load", "by what they ask", "Steps", "What the server says", "Where the server's time goes"):
        assert title in text
    assert "1000 × ok" in text


def test_what_a_reader_must_know_is_said():
    plan = plan_of(is_open=False)
    lines = " ".join(notes(record_of(plan, play(plan, complaint="check short: nonsense"), [])))
    for part in ("not answered rightly: ", "check short: nonsense", "coordinated omission", "--metrics-url"):
        assert part in lines
    assert notes(record_of(plan_of(), play(plan_of()))) == []


def test_a_late_driver_is_told_of():
    record = record_of(plan_of(), play(plan_of()))
    record["client"]["lateness_p99_s"] = 0.2
    (line,) = notes(record)
    assert "200 ms" in line
    assert "--workers" in line


@pytest.mark.parametrize("seen", [None, []])
def test_the_page_and_the_picture(seen, tmp_path):
    plan = plan_of("spike")
    record = record_of(plan, play(plan), seen)
    draw(record, tmp_path / "report.png")
    assert (tmp_path / "report.png").read_bytes().startswith(b"\x89PNG")
    write_page(record, judge_run(record, Limits()), tmp_path / "report.png", tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "data:image/png;base64,iVBOR" in page
    assert "made up &lt;i&gt;" in page
    assert "latency as before, after the spike" in page
    assert "<b>" not in page
