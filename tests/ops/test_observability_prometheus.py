"""Dashboard and alerts under the real Prometheus: every panel shows something, and a broken server reaches the webhook."""

import json
import math
import queue
import shutil

import httpx
import pytest

from tests.ops.observability_stack import (
    DASHBOARD,
    PATIENCE_S,
    RULES_FILE,
    SHADOW,
    Prometheus,
    alertmanager,
    curious_policies,
    guard,
    http_stub,
    judge,
    prometheus,
    send_many,
    send_some,
    until,
)
from tests.ops.tools import ROOT, need, run, said
from tests.promql import fill

SCENARIOS = sorted((ROOT / "tests" / "ops").glob("observability_*alerts_test.yaml"))


def panels() -> list[tuple[str, str]]:
    """(title, query) of every query on the dashboard."""
    dashboard = json.loads(DASHBOARD.read_text(encoding="utf-8"))
    return [(panel["title"], fill(target["expr"])) for panel in dashboard["panels"] for target in panel.get("targets", [])]


def empty_panels(api: Prometheus, url: str, client: httpx.Client) -> list[str]:
    """After some more traffic, the titles whose query has no finite sample."""
    for turn in range(4):
        send_some(url, client, turn)
    empty = [title for title, query in panels() if not any(map(math.isfinite, api.values(query)))]
    print("still empty:", empty)
    return empty


def test_every_panel_shows_something_and_a_broken_server_reaches_the_webhook(tmp_path):
    for tool in ("prometheus", "prometheus-alertmanager"):
        need(tool)
    # Only how long a condition must last is shortened.
    rules = RULES_FILE.read_text(encoding="utf-8").replace("for: 5m", "for: 2s")
    notified: queue.Queue[dict] = queue.Queue()
    policies = curious_policies(tmp_path)
    with (
        http_stub(judge) as teacher,
        http_stub(lambda notice: notified.put(notice) or {}) as webhook,
        guard(tmp_path, "--teacher", teacher, "--teacher-model", "stub", "--policies", policies, *SHADOW) as server,
        alertmanager(tmp_path, webhook) as notifier,
        prometheus(tmp_path, [server.private_url.removeprefix("http://")], rules=rules, alertmanager=notifier) as api,
        httpx.Client(trust_env=False, timeout=PATIENCE_S) as client,
    ):
        send_many(server.url, client)
        until(lambda: not empty_panels(api, server.url, client), wanted="something in every panel")
        assert api.values("stillguard_ready") == [1]
        assert api.values("stillguard_shadow_student_ready") == [1]
        assert api.values("sum(stillguard_shadow_student_disagreements_total)") == [0], "a student differs from itself"
        assert api.values('ALERTS{alertname="StillguardMetricsAbsent"}') == []

        server.process.kill()
        notice = notified.get(timeout=PATIENCE_S)
        while notice["commonLabels"].get("alertname") != "StillguardMetricsAbsent":
            notice = notified.get(timeout=PATIENCE_S)
        (alert,) = notice["alerts"]
        assert alert["status"] == "firing"
        assert alert["labels"]["severity"] == "page"
        assert alert["annotations"]["runbook"] == "docs/playbooks.md#stillguardmetricsabsent"


def test_each_alert_fires_when_it_should_and_only_then():
    done = run(need("promtool"), "test", "rules", *SCENARIOS)
    assert done.returncode == 0, said(done)


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("> 14.4 * 0.001", "> 144 * 0.001"),
        ("> 6 * 0.001", "> 60 * 0.001"),
        ("stillguard_queue_max_items > 0.8", "stillguard_queue_max_items > 0.95"),
        ('outcome=~"shed|expired|failed"', 'outcome=~"shed|expired|failed|invalid"'),
        ('stage="student",le="0.05"', 'stage="student",le="0.1"'),
        ("stillguard_ready == 0", "stillguard_ready == 1"),
        ("for: 30m", "for: 2h"),
    ],
)
def test_a_wrong_alert_is_found(tmp_path, right, wrong):
    promtool = need("promtool")
    rules = RULES_FILE.read_text(encoding="utf-8")
    assert right in rules
    (tmp_path / "alerts.yaml").write_text(rules.replace(right, wrong), encoding="utf-8")
    scenarios = SCENARIOS[0].read_text(encoding="utf-8").replace("../../helm/stillguard/files/alerts.yaml", "alerts.yaml")
    (tmp_path / "test.yaml").write_text(scenarios, encoding="utf-8")
    assert "FAILED" in said(run(promtool, "test", "rules", tmp_path / "test.yaml"))


def test_the_exposition_passes_prometheus_own_lint(tmp_path):
    promtool = need("promtool")
    with guard(tmp_path, "--teacher", "none") as server, httpx.Client(trust_env=False, timeout=PATIENCE_S) as client:
        exposition = client.get(f"{server.private_url}/metrics").text
    ours = "\n".join(line for line in exposition.splitlines() if "_created" not in line) + "\n"
    assert shutil.which(promtool)
    done = run(promtool, "check", "metrics", input=ours)
    assert done.returncode == 0, said(done)
