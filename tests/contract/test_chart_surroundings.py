"""What the chart puts around its pods: scaling, network, monitoring, routes, its test. Rendered by the real helm."""

import re

import yaml

from tests.ops.chart import Release, selects
from tests.ops.tools import CHART, ROOT


def test_autoscaling_takes_the_number_of_pods_over():
    release = Release("hpa")
    assert "replicas" not in release.one("Deployment", "rel-stillguard")["spec"]
    spec = release.one("HorizontalPodAutoscaler", "rel-stillguard")["spec"]
    assert (spec["minReplicas"], spec["maxReplicas"]) == (3, 30)
    cpu, queue = spec["metrics"]
    assert cpu["resource"] == {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 70}}
    assert queue["pods"]["metric"]["name"] == "stillguard_queue_waited_seconds"
    assert queue["pods"]["target"] == {"type": "AverageValue", "averageValue": "5m"}


def test_keda_asks_prometheus_for_this_release_s_queue():
    release = Release("keda")
    assert release.all("HorizontalPodAutoscaler") == []
    cpu, queue = release.one("ScaledObject", "rel-stillguard")["spec"]["triggers"]
    assert cpu == {"type": "cpu", "metricType": "Utilization", "metadata": {"value": "70"}}
    assert queue["metadata"]["serverAddress"] == "http://prometheus.monitoring.svc:9090"
    assert queue["metadata"]["query"].count('{stage="queue",namespace="guard",service="rel-stillguard-admin"}[1m]') == 2


def rules(release: Release, name: str = "rel-stillguard") -> dict:
    return release.one("NetworkPolicy", name)["spec"]


def ports(direction: list[dict]) -> list[int | str]:
    return [port["port"] for rule in direction for port in rule["ports"]]


def test_nothing_leaves_a_server_that_has_no_need():
    spec = rules(Release("default"))
    assert spec["policyTypes"] == ["Ingress", "Egress"]
    assert spec["egress"] == []
    clients, operators = spec["ingress"]
    assert (ports([clients]), "from" in clients) == (["http"], False)
    assert ports([operators]) == ["admin"]
    assert operators["from"] == [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "monitoring"}}}]


def test_what_must_leave_leaves_by_its_port_alone():
    spec = rules(Release("teacher-url"))
    assert ports(spec["egress"]) == [53, 53, 443, 8000, 4318]
    assert [rule["to"] for rule in spec["egress"][1:]] == [[{"ipBlock": {"cidr": "10.0.0.0/8"}}]] * 3
    assert ports(rules(Release("artifact-http"))["egress"]) == [53, 53, 443]
    to_teacher = rules(Release("teacher-vllm"))["egress"][-1]
    labels = to_teacher["to"][0]["podSelector"]["matchLabels"]
    assert (ports([to_teacher]), labels["app.kubernetes.io/component"]) == ([8000], "teacher")


def test_rules_of_the_user_s_own_are_added_as_they_are():
    rule = {"ports": [{"protocol": "TCP", "port": 11434}], "to": [{"podSelector": {"matchLabels": {"app": "judge"}}}]}
    for scenario, before in (("default", []), ("teacher-url", [53, 53, 443, 8000, 4318])):
        egress = rules(Release(scenario, values={"networkPolicy.extraEgress": [rule]}))["egress"]
        assert egress[-1] == rule
        assert ports(egress) == [*(before or [53, 53]), 11434]


def test_only_the_server_reaches_the_chart_s_teacher():
    (rule,) = rules(Release("teacher-vllm"), "rel-stillguard-teacher")["ingress"]
    assert rule["from"][0]["podSelector"]["matchLabels"]["app.kubernetes.io/component"] == "server"


def test_helm_test_is_let_in_where_clients_are_named():
    release = Release("ingress")
    (test,) = release.all("Pod")
    allowed = [peer["podSelector"]["matchLabels"] for peer in rules(release)["ingress"][0]["from"] if "podSelector" in peer]
    assert any(selects(labels, test) for labels in allowed)


def environment_of_test(release: Release) -> list[dict]:
    (test,) = release.all("Pod")
    return test["spec"]["containers"][0]["env"]


def test_helm_test_expects_a_refusal_where_it_has_no_key():
    for scenario in ("default", "api-keys"):
        assert {"name": "EXPECTED_STATUS", "value": "200"} in environment_of_test(Release(scenario))
    without = environment_of_test(Release("api-keys", values={"tests.apiKey.existingSecret": ""}))
    assert {"name": "EXPECTED_STATUS", "value": "401"} in without


def test_prometheus_finds_the_private_port():
    release = Release("monitoring")
    monitor = release.one("ServiceMonitor", "rel-stillguard")
    (endpoint,) = monitor["spec"]["endpoints"]
    (found,) = [
        service
        for service in release.all("Service")
        if monitor["spec"]["selector"]["matchLabels"].items() <= service["metadata"]["labels"].items()
    ]
    assert found["metadata"]["name"] == "rel-stillguard-admin"
    assert endpoint["port"] in [port["name"] for port in found["spec"]["ports"]]
    assert monitor["metadata"]["labels"]["release"] == "kube-prometheus-stack"


def test_rules_and_dashboard_are_the_files_as_they_are():
    release = Release("monitoring")
    alerts = (CHART / "files" / "alerts.yaml").read_text(encoding="utf-8")
    assert release.one("PrometheusRule", "rel-stillguard")["spec"] == yaml.safe_load(alerts)
    dashboard = release.one("ConfigMap", "rel-stillguard-dashboard")
    assert (
        dashboard["data"]["stillguard.json"].strip()
        == (CHART / "dashboards" / "stillguard.json").read_text(encoding="utf-8").strip()
    )
    assert dashboard["metadata"]["labels"]["grafana_dashboard"] == "1"


def test_alerts_lead_to_the_playbooks_that_are_named():
    playbooks = "https://git.example/guard/docs/playbooks.md"
    release = Release("monitoring", values={"metrics.prometheusRule.playbooks": playbooks})
    for group in release.one("PrometheusRule", "rel-stillguard")["spec"]["groups"]:
        for rule in group["rules"]:
            if "alert" in rule:
                assert rule["annotations"]["runbook_url"] == f"{playbooks}#{rule['alert'].lower()}"
                assert "runbook" not in rule["annotations"]


def test_a_canary_takes_its_share_of_the_route():
    (rule,) = Release("http-route").one("HTTPRoute", "rel-stillguard")["spec"]["rules"]
    assert rule["backendRefs"] == [
        {"name": "rel-stillguard", "port": 80, "weight": 95},
        {"name": "stillguard-canary", "port": 80, "weight": 5},
    ]


def test_ingress_leads_to_the_service_s_named_port():
    (rule,) = Release("ingress").one("Ingress", "rel-stillguard")["spec"]["rules"]
    (path,) = rule["http"]["paths"]
    assert (rule["host"], path["path"]) == ("guard.example.com", "/v1")
    assert path["backend"] == {"service": {"name": "rel-stillguard", "port": {"name": "http"}}}


def test_the_playbooks_ask_pods_that_are_there_and_all_of_them():
    playbooks = (ROOT / "docs" / "playbooks.md").read_text(encoding="utf-8")
    pods = Release("teacher-vllm").pods()
    asked = {
        selector: [
            pod["metadata"]["labels"]["app.kubernetes.io/component"]
            for pod in pods
            if selects(dict(label.split("=") for label in selector.split(",")), pod)
        ]
        for selector in re.findall(r"kubectl .*-l (\S+)", playbooks)
    }
    assert sorted(asked.values()) == [["server"], ["teacher"]]
    # Of a Deployment's pods kubectl takes any one.
    assert re.findall(r"kubectl (?:logs|exec|port-forward) .*deploy", playbooks) == []
