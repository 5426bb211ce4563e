"""``python -m loadtest bench --quick``: the whole run once, its report's form, and numbers that agree with each other.

Nothing is said of speed: other work may have the cores.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.e2e

ROOT = Path(__file__).resolve().parents[2]
ARTIFACT = ROOT / "server" / "artifacts" / "default"


@pytest.fixture(scope="module")
def out(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("bench")


@pytest.fixture(scope="module")
def printed(out) -> list[str]:
    options = ["--quick", "--targets", "--stock-model", str(ARTIFACT / "model.onnx"), "--out", str(out)]
    done = subprocess.run(
        [sys.executable, "-m", "loadtest", "bench", *options],
        cwd=ROOT,
        env={name: value for name, value in os.environ.items() if not name.startswith("STILLGUARD_")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


@pytest.fixture(scope="module")
def record(printed) -> dict:
    return json.loads(printed[-1])


def loads(record: dict) -> list[dict]:
    return [*record["singles"], *record["arrays"], *record["open"].values()]


def test_the_last_line_is_the_report_that_was_written(record, out):
    assert json.loads((out / "report.json").read_text(encoding="utf-8")) == record
    assert (out / "bench.png").read_bytes().startswith(b"\x89PNG")
    assert (out / "stillguard.log").stat().st_size > 0


def test_tables_and_targets_are_printed(printed):
    text = "\n".join(printed)
    for title in ("Ceiling: ONNX Runtime alone", "Stock model's ceiling", "Served", "Targets"):
        assert title in text
    assert sum(line.startswith("not measured") for line in printed) == 3, "those against peers"


def test_every_answer_was_right(record):
    for load in loads(record):
        assert set(load["outcomes"]) == {"200"}, load
        assert load["complaint"] is None


def test_every_load_is_consistent_in_itself(record):
    for load in loads(record):
        latency = load["latency"]
        assert 0 < latency["p50_s"] <= latency["p90_s"] <= latency["p99_s"] <= latency["max_s"]
        assert latency["count"] == load["outcomes"]["200"]
        assert load["windows_per_text"] >= 1
        assert 0 < load["server_cpu"] < len(os.sched_getaffinity(0)) + 0.5
        assert 0 <= load["driver_cpu"] <= 1.05
        assert load["server_cpu_s_per_text"] == pytest.approx(load["server_cpu"] / load["texts_per_s"])
    for load in [*record["singles"], *record["arrays"]]:
        texts = load["load"]["texts_per_request"]
        counted = load["outcomes"]["200"] * texts / load["load"]["measure_s"]
        assert load["texts_per_s"] == pytest.approx(counted, rel=0.25), "the window may be longer on a busy machine"


def test_the_open_loop_offers_its_share_of_the_saturation(record):
    saturation = max(load["texts_per_s"] for load in record["singles"])
    assert record["open"]
    for share, load in record["open"].items():
        assert load["load"]["arrivals"]["rate_per_s"] == pytest.approx(float(share) * saturation)


def test_the_targets_are_the_ratios_of_the_report(record):
    targets = {target["name"]: target for target in record["targets"]}
    ceiling = max(record["ceiling"]["texts_per_s"], record["ceiling"]["again"]["texts_per_s"])
    assert targets["single texts at saturation / ceiling"]["value"] == pytest.approx(
        max(load["texts_per_s"] for load in record["singles"]) / ceiling
    )
    assert targets["from exec to ready"]["value"] == record["footprint"]["ready_s"] > 0
    assert targets["ceiling / stock ceiling"]["value"] == pytest.approx(
        record["ceiling"]["texts_per_s"] / record["stock"]["texts_per_s"]
    )
    for target in targets.values():
        assert (target["value"] is None) == (target["is_met"] is None)


def test_the_ceiling_is_the_fastest_of_its_settings(record):
    rates = [family["texts_per_s"] for family in record["ceiling"]["families"]]
    assert record["ceiling"]["texts_per_s"] == max(rates)
    assert record["ceiling"]["with_tokenising_texts_per_s"] < max(rates)
    assert 22 <= record["texts"]["tokens_per_text"] <= 27


def test_the_server_is_gone_afterwards(record, out):
    last = (out / "stillguard.log").read_text(encoding="utf-8").splitlines()[-1]
    assert "drained" in last or "stopped" in last.lower() or "Finished" in last, last
