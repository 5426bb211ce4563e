"""``python -m loadtest teacher`` on the shipped student and teacher, for a moment."""

import json
import subprocess
import sys

import pytest

pytestmark = pytest.mark.e2e


def loadtest_teacher(*flags):
    command = [sys.executable, "-m", "loadtest", "teacher", *flags]
    return subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)


def test_the_sure_texts_are_timed_alone_and_beside_a_teacher_that_judges(tmp_path):
    ended = loadtest_teacher("--seconds", "2", "--rate", "20", "--out", str(tmp_path))
    assert ended.returncode in (0, 1), ended.stderr
    report = json.loads(ended.stdout.splitlines()[-1])
    assert report == json.loads((tmp_path / "report.json").read_text())
    assert report["is_passed"] is (report["p99_ratio"] <= 2), "for nothing else was missed"
    assert ended.returncode == (0 if report["is_passed"] else 1)
    assert [goal["value"] for goal in report["gate"]] == [report["p99_ratio"], 0]
    assert report["texts"]["sure"] + report["texts"]["unsure"] == 2048
    assert report["judged_per_s"] > 0, "the teacher was busy"
    for part in ("alone", "beside_teacher"):
        assert set(report[part]["outcomes"]) == {"200"}
        assert report[part]["latency"]["count"] > 10


def test_texts_that_leave_no_doubt_keep_no_teacher_busy(tmp_path):
    pandas = pytest.importorskip("pandas")
    pandas.DataFrame({"text": [f"good morning, number {i}" for i in range(2_100)]}).to_parquet(tmp_path / "calm.parquet")
    ended = loadtest_teacher("--data", str(tmp_path / "calm.parquet"), "--seconds", "1")
    assert ended.returncode == 2
    assert "too few to keep a teacher busy" in ended.stderr
