"""The load test with the real tools: k6 plays the scenario, the image drives, the chart's Jobs find each other."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.e2e.conftest import RunningServer
from tests.e2e.lying_proxy import lying
from tests.ops.chart import Release, selects, template
from tests.ops.containers import CONFINED, podman
from tests.ops.tools import ROOT, need, run, said

SCRIPT = ROOT / "loadtest" / "k6" / "scenario.js"
THRESHOLD_MISSED = 99
"""k6's exit code."""


@pytest.fixture(scope="module")
def server():
    server = RunningServer()
    yield server
    assert server.stop() == 0


@pytest.fixture(scope="module")
def scenario(server, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("k6") / "scenario.json"
    done = run(sys.executable, "-m", "loadtest", "scenario", "--url", server.url, "--count", "512", cwd=ROOT)
    assert done.returncode == 0, said(done)
    path.write_text(done.stdout, encoding="utf-8")
    return path


def k6(url: str, scenario: Path, summary: Path, **options: str) -> tuple[int, dict[str, Any]]:
    """Exit code and the numbers of two seconds."""
    given = {"URL": url, "SCENARIO": str(scenario), "RATE": "15", "SECONDS": "2", "MAX_P99_MS": "30000"}
    flags = [f"--env={name}={value}" for name, value in (given | {"SUMMARY": str(summary)} | options).items()]
    environment = os.environ | {"K6_NO_USAGE_REPORT": "true"}
    done = run(need("k6"), "run", "--quiet", "--no-color", *flags, SCRIPT, env=environment)
    assert done.returncode in (0, THRESHOLD_MISSED), said(done)
    return done.returncode, json.loads(summary.read_text(encoding="utf-8"))


def test_k6_plays_the_scenario_and_finds_every_answer_right(server, scenario, tmp_path):
    code, metrics = k6(server.url, scenario, tmp_path / "summary.json")
    assert code == 0, metrics
    assert metrics["http_reqs"]["values"]["count"] >= 15
    assert metrics["checks"]["values"]["rate"] == 1
    assert metrics["not_answered_rightly"]["values"]["rate"] == 0
    assert metrics["dropped_iterations"]["values"]["count"] == 0
    assert metrics["checks_ms"]["values"]["p(99)"] > 0


def test_k6_catches_a_server_that_lies(server, scenario, tmp_path):
    def lie(answer: Any) -> None:
        answer["results"][0]["scores"]["hate"] = 1.5

    with lying(server.url, lie) as url:
        code, metrics = k6(url, scenario, tmp_path / "summary.json", MAX_ERROR_SHARE="1")
    assert code == THRESHOLD_MISSED
    assert metrics["wrong_answers"]["values"]["rate"] > 0
    assert metrics["wrong_answers"]["thresholds"]["rate==0"]["ok"] is False


def test_k6_fails_on_a_limit_that_can_t_be_kept(server, scenario, tmp_path):
    code, metrics = k6(server.url, scenario, tmp_path / "summary.json", MAX_P99_MS="0.001")
    assert code == THRESHOLD_MISSED
    assert metrics["wrong_answers"]["values"]["rate"] == 0


def test_the_image_drives_a_server_from_a_leader_and_a_worker(loadtest_image, server, tmp_path):
    """As the chart's Jobs do: the leader's log ends with the report, and its exit code is the gate's."""
    leader = [need("podman"), "run", "--rm", "--replace", "--name=loadtest-leader", "--network=host", *CONFINED, loadtest_image]
    flags = ["--remote-workers=1", "--bind=127.0.0.1:15557", "--out=/tmp/report", "--rate=15", "--seconds=4", "--warm-up-s=1"]
    limits = ["--max-p99-s=30", "--min-achieved=0.3"]
    leading = subprocess.Popen(
        [*leader, "run", f"--url={server.url}", *flags, *limits],
        env=os.environ | {"CONTAINERS_CONF": str(ROOT / "tests" / "ops" / "containers.conf")},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        confined = ["--network=host", *CONFINED, loadtest_image]
        podman("run", "--rm", "--replace", "--name=loadtest-worker", *confined, "worker", "127.0.0.1:15557")
        printed, _ = leading.communicate(timeout=120)
    finally:
        run(need("podman"), "rm", "--force", "--time=0", "loadtest-leader", "loadtest-worker")
        leading.communicate(timeout=60)
    record = json.loads(printed.splitlines()[-1])
    assert (leading.returncode, record["is_passed"]) == (0, True), record["gate"]
    assert len(record["client"]["drivers"]) == 1
    assert set(record["client"]["outcomes"]) == {"ok"}


def test_the_image_holds_no_server(loadtest_image):
    names = ("server", "fastapi", "onnxruntime", "pip", "locust")
    program = f"import importlib.util as u; print([name for name in {names} if u.find_spec(name)])"
    found = podman("run", "--rm", "--entrypoint=python", loadtest_image, "-c", program)
    assert found.strip() == "['locust']"


def test_the_chart_s_workers_find_their_leader_and_it_finds_the_server():
    release = Release("loadtest")
    jobs = {name: release.one("Job", name) for name in ("rel-stillguard-loadtest-1", "rel-stillguard-loadtest-worker-1")}
    leader, worker = (job["spec"]["template"] for job in jobs.values())
    service = release.one("Service", "rel-stillguard-loadtest")
    assert selects(service["spec"]["selector"], leader)
    assert not selects(service["spec"]["selector"], worker)
    (leading,), (working,) = leader["spec"]["containers"], worker["spec"]["containers"]
    assert leading["image"] == working["image"] == "stillguard:0.1.0-loadtest"
    assert working["args"] == ["worker", "rel-stillguard-loadtest:5557", "--api-key-file=/secrets/api-key"]
    assert {"--remote-workers=3", "--bind=0.0.0.0:5557", "--url=http://rel-stillguard:80"} <= set(leading["args"])
    assert "--metrics-url=http://rel-stillguard-admin:9090/metrics" in leading["args"]
    assert [job["spec"]["completions"] for job in jobs.values()] == [1, 3]
    assert jobs["rel-stillguard-loadtest-1"]["spec"]["backoffLimit"] == 0, "a gate that failed is not asked again"


def test_the_chart_lets_the_load_test_in_and_nothing_else_out():
    release = Release("loadtest")
    pods = [job["spec"]["template"] for job in release.all("Job")]
    ingress = release.one("NetworkPolicy", "rel-stillguard")["spec"]["ingress"]
    for rule in ingress:
        peers = [peer["podSelector"]["matchLabels"] for peer in rule["from"] if "podSelector" in peer]
        assert all(any(selects(labels, pod) for labels in peers) for pod in pods), rule["ports"]
    egress = release.one("NetworkPolicy", "rel-stillguard-loadtest")["spec"]["egress"]
    assert [port["port"] for rule in egress for port in rule["ports"]] == [53, 53, 8000, 9090, 5557]
    assert all("to" in rule for rule in egress[1:])


def test_the_chart_s_flags_are_the_command_s_own():
    """What the schema lets through, ``run --help`` knows."""
    schema = json.loads((ROOT / "helm" / "stillguard" / "values.schema.json").read_text(encoding="utf-8"))
    pattern = schema["properties"]["loadtest"]["properties"]["args"]["items"]["pattern"]
    flags = pattern.partition("(")[2].partition(")")[0].split("|")
    known = run(sys.executable, "-m", "loadtest", "run", "--help", cwd=ROOT).stdout
    assert [flag for flag in flags if f"--{flag} " not in known] == []


def test_without_being_asked_the_chart_drives_nothing():
    assert [item["kind"] for item in yaml.safe_load_all(template("default")) if item and item["kind"] == "Job"] == []
