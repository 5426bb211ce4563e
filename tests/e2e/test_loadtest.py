"""``python -m loadtest run`` and ``overload`` against the real server: the report, the gate, and what it must catch.

Nothing is said of speed: other work may have the cores.
"""

import hashlib
import json
import math
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest

from loadtest.scenario.bad_input import bad_inputs
from loadtest.scenario.compose import compose
from loadtest.scenario.exchange import Exchange
from loadtest.scenario.judge import Judged, Reply, judge
from loadtest.scenario.look import Unusable, look_at
from loadtest.texts import generate_texts
from tests.e2e.lying_proxy import lying
from tests.unit.loadtest.one_answer import always_answering

pytestmark = pytest.mark.e2e

ROOT = Path(__file__).resolve().parents[2]
PATIENT = ["--max-p99-s", "30", "--min-achieved", "0.3", "--warm-up-s", "1"]
"""Limits that a busy machine keeps to."""


def loadtest(verb: str, out: Path, *flags: str) -> tuple[int, dict[str, Any], str]:
    """Exit code, the report's record, and what was printed."""
    done = subprocess.run(
        [sys.executable, "-m", "loadtest", verb, "--out", str(out), *flags],
        cwd=ROOT,
        env={name: value for name, value in os.environ.items() if not name.startswith("STILLGUARD_")},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode in (0, 1), done.stderr
    assert "Traceback" not in done.stderr, done.stderr
    record = json.loads((out / "report.json").read_text(encoding="utf-8"))
    assert json.loads(done.stdout.splitlines()[-1]) == record
    return done.returncode, record, done.stdout


def ask(client: httpx.Client, exchange: Exchange, request_id: str) -> Judged:
    headers = {"content-type": "application/json", "x-request-id": request_id} | exchange.headers
    reply = client.request(exchange.method, exchange.path, content=exchange.body, headers=headers)
    return judge(exchange, Reply(reply.status_code, reply.headers, reply.content), request_id)


def test_every_bad_input_is_refused_as_it_should_be(student_server):
    found = [ask(student_server.client, exchange, f"bad-{at}") for at, exchange in enumerate(bad_inputs(needs_key=False))]
    assert [(judged.outcome, judged.complaint) for judged in found] == [("ok", None)] * len(found)


def test_the_real_server_s_answers_are_right(student_server):
    offered = look_at(student_server.url)
    assert {"/v1/check", "/v1/moderations", "/v1/escalations/{escalation_id}"} <= set(offered.paths)
    paths = ("/v1/check", "/v1/moderations")
    for at, exchange in enumerate(compose(generate_texts(256), 100, paths=paths, needs_key=False, seed=3)):
        judged = ask(student_server.client, exchange, f"good-{at}")
        assert (judged.outcome, judged.complaint) == ("ok", None), exchange.kind


def test_an_open_loop_that_keeps_to_its_limits(student_server, tmp_path):
    code, record, printed = loadtest("run", tmp_path, "--url", student_server.url, "--rate", "20", "--seconds", "5", *PATIENT)
    assert (code, record["is_passed"]) == (0, True), record["gate"]
    client, server = record["client"], record["server"]
    assert set(client["outcomes"]) == {"ok"}
    assert client["requests"] == sum(client["outcomes"].values())
    assert client["offered_per_s"] == pytest.approx(20, rel=0.5)
    assert client["requests"] == pytest.approx(client["offered_per_s"] * 4)
    assert client["answered_per_s"] == client["goodput_per_s"] > 0
    assert {row["kind"] for row in client["kinds"]} >= {"check short", "check medium", "check array"}
    assert client["longest_s"] <= client["latency"]["max_s"] * 1.02
    assert len(client["drivers"]) == 1
    assert server["requests"]["ok"] >= 0.8 * client["requests"]
    assert server["stages"]["total"]["p50_s"] <= client["latency"]["p99_s"] * 1.1
    assert math.isclose(sum(row["offered_per_s"] for row in record["timeline"][2:]) / 8, client["offered_per_s"])
    assert len(record["server_timeline"]) >= 3
    assert (tmp_path / "report.png").read_bytes().startswith(b"\x89PNG")
    assert "answered / offered" in (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "Where the server's time goes" in printed


def test_an_impossible_limit_fails(student_server, tmp_path):
    flags = ["--rate", "10", "--seconds", "3", *PATIENT, "--max-p99-s", "0.000001"]
    code, record, printed = loadtest("run", tmp_path, "--url", student_server.url, *flags)
    assert (code, record["is_passed"]) == (1, False)
    assert [goal["name"] for goal in record["gate"] if not goal["is_met"]] == ["p99 of checks"]
    assert "MISSED  p99 of checks" in printed


def forget_a_category(answer: Any) -> None:
    answer["results"][0]["categories"] = ["violence"]
    answer["results"][0]["verdict"] = "allow"


def swap_in_another_text_s_scores(answer: Any) -> None:
    scores = answer["results"][0]["scores"]
    scores["violence"] = 1 - scores["violence"]


@pytest.mark.parametrize(
    ("lie", "complaint"),
    [
        (forget_a_category, "a verdict against the violated categories"),
        (swap_in_another_text_s_scores, "other scores than before for the same text"),
    ],
)
def test_a_server_that_lies_is_caught(lie, complaint, student_server, tmp_path):
    """The second lie is about a text that came before: every answer by itself is right."""
    with lying(student_server.url, lie) as url:
        flags = ["--users", "4", "--seconds", "4", *PATIENT, "--exchanges", "20", "--max-error-share", "1"]
        code, record, _ = loadtest("run", tmp_path, "--url", url, *flags)
    assert code == 1
    assert [goal["name"] for goal in record["gate"] if not goal["is_met"]] == ["wrong answers"]
    assert record["client"]["outcomes"]["wrong"] > 0
    assert any(complaint in found for found in record["client"]["complaints"])


def test_a_ramp_from_two_processes_against_a_server_of_its_own(tmp_path):
    flags = ["--shape", "ramp", "--rate", "40", "--seconds", "5", "--workers", "2", "--warm-up-s", "0"]
    code, record, printed = loadtest("run", tmp_path, *flags)
    assert code == 0, record["gate"]
    client = record["client"]
    assert (len(client["drivers"]), client["lost_workers"]) == (2, 0)
    assert client["requests"] == pytest.approx(40 * 5 * 0.55, rel=0.35), "both together offer the rate, not each"
    assert [step["level"] for step in record["steps"]] == pytest.approx([4.0 * number for number in range(1, 11)])
    assert record["saturation"]["goodput_per_s"] == max(step["goodput_per_s"] for step in record["steps"]) > 0
    assert "Steps" in printed
    last = (tmp_path / "stillguard.log").read_text(encoding="utf-8").splitlines()[-1]
    assert "drained" in last or "stopped" in last.lower() or "Finished" in last, last


def test_a_server_with_keys_is_asked_with_one_and_without(run_server, tmp_path):
    key = "canary-key-of-the-load-test"
    keys = tmp_path / "keys.toml"
    keys.write_text(f"[driver]\nsha256 = '{hashlib.sha256(key.encode()).hexdigest()}'\n", encoding="utf-8")
    (tmp_path / "key").write_text(f"{key}\n", encoding="utf-8")
    server = run_server("--api-keys-file", str(keys))
    with pytest.raises(Unusable, match="no http"):
        look_at("guard:8000")
    assert look_at(server.url).needs_key
    flags = ["--rate", "20", "--seconds", "4", "--workers", "1", "--api-key-file", str(tmp_path / "key"), *PATIENT]
    code, record, printed = loadtest("run", tmp_path / "out", "--url", server.url, *flags)
    assert (code, set(record["client"]["outcomes"])) == (0, {"ok"}), record["gate"]
    written = printed + "".join(path.read_text(encoding="utf-8") for path in (tmp_path / "out").glob("*.[jh]*"))
    assert key not in written


def test_an_overload_is_driven_and_judged(tmp_path):
    _, record, printed = loadtest("overload", tmp_path, "--quick")
    normal, overload = record["parts"]["normal"], record["parts"]["overload"]
    assert normal["offered_per_s"] == pytest.approx(0.5 * record["saturation_per_s"], rel=0.5)
    assert overload["offered_per_s"] == pytest.approx(3 * record["saturation_per_s"], rel=0.3)
    assert record["deadline_s"] == 5.0
    judged = {goal["name"]: goal["is_met"] for goal in record["gate"]}
    assert len(judged) == 6
    assert judged["wrong answers"] is True
    assert judged["requests that got no answer, or a failure"] is True
    assert (tmp_path / "report.png").read_bytes().startswith(b"\x89PNG")
    assert "right answers under overload / saturation" in printed


def test_metrics_without_the_deadline_are_no_use_to_an_overload(student_server, tmp_path):
    with always_answering(200, "") as metrics_url:
        flags = ["--quick", "--url", student_server.url, "--metrics-url", metrics_url, "--out", str(tmp_path)]
        command = [sys.executable, "-m", "loadtest", "overload", *flags]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 2, done.stderr
    assert "doesn't tell the server's deadline" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["run", "--url", "http://127.0.0.1:9"], "doesn't answer"),
        (["run", "--url", "guard:8000"], "no http:// or https:// URL"),
        (["run", "--seconds", "3"], "--warm-up-s must be"),
        (["run", "--rate", "-1"], "above 0"),
        (["run", "--workers", "1", "--remote-workers", "1"], "one of the two"),
        (["overload", "--url", "https://guard"], "no http:// URL"),
        (["scenario", "--url", "http://127.0.0.1:9"], "doesn't answer"),
    ],
)
def test_what_can_t_be_run_is_one_line_and_code_2(arguments, said):
    done = subprocess.run([sys.executable, "-m", "loadtest", *arguments], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert said in done.stderr
    assert len(done.stderr.splitlines()) == 1
