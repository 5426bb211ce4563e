"""What the tools say of the chart: helm 3 and 4, Kubernetes' own schemas, the types of custom resources, checkov."""

import json

import pytest
import yaml

from tests.ops.chart import scenario_file, template
from tests.ops.tools import CHART, INSTALLED, SCENARIOS, need, run, said

KUBERNETES = ["1.30", "1.34", "1.37"]
"""The oldest that the chart takes, one between, the newest that kubernetes-validate knows."""

IMAGE_VOLUMES_FROM = "1.33"

CUSTOM_RESOURCES = {
    "ServiceMonitor": "@kubernetes-models/prometheus-operator/monitoring.coreos.com/v1/ServiceMonitor",
    "PrometheusRule": "@kubernetes-models/prometheus-operator/monitoring.coreos.com/v1/PrometheusRule",
    "ScaledObject": "@kubernetes-models/keda/keda.sh/v1alpha1/ScaledObject",
    "HTTPRoute": "@kubernetes-models/gateway-api/gateway.networking.k8s.io/v1/HTTPRoute",
}

CHECKOV_EXCEPTIONS = {
    ("CKV_K8S_11", ""): "no CPU limit: throttling would stall every batch; sessions follow the CPU request",
    ("CKV_K8S_15", ""): "tags are versions, and a digest can be set: nothing is gained by pulling again",
    ("CKV_K8S_43", ""): "a digest can be set; the default is the tag of the chart's own version",
    ("CKV_K8S_35", "-teacher"): "vLLM reads its keys from the environment alone",
    ("CKV_K8S_8", "-test"): "a pod that asks once and ends needs no probe",
    ("CKV_K8S_9", "-test"): "the same",
    ("CKV2_K8S_6", "-test"): "it serves nobody",
}
"""(check, how the resource's name ends): why it stays."""


@pytest.mark.parametrize("scenario", SCENARIOS)
@pytest.mark.parametrize("helm", ["helm3", "helm4"])
def test_helm_lints_every_scenario(helm, scenario):
    done = run(need(helm), "lint", "--strict", CHART, "-f", scenario_file(scenario))
    assert done.returncode == 0, said(done)


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_helm_3_and_4_render_the_same(scenario):
    three, four = (
        list(yaml.safe_load_all(template(scenario, "--kube-version=1.37", helm=helm))) for helm in ("helm3", "helm4")
    )
    assert sorted(three, key=json.dumps) == sorted(four, key=json.dumps)


@pytest.mark.parametrize("version", KUBERNETES)
@pytest.mark.parametrize("scenario", SCENARIOS)
def test_kubernetes_takes_every_object(scenario, version, tmp_path):
    if scenario == "artifact-oci" and version < IMAGE_VOLUMES_FROM:
        assert "image volume" in run(
            need("helm"), "template", CHART, "-f", scenario_file(scenario), "--kube-version", version
        ).stderr  # fmt: skip
        return
    manifests = tmp_path / "manifests.yaml"
    manifests.write_text(template(scenario, "--kube-version", version), encoding="utf-8")
    done = run(need("kubernetes-validate"), "--strict", "-k", version, manifests)
    assert done.returncode == 0, said(done)
    judged = [line for line in done.stdout.splitlines() + done.stderr.splitlines() if "Couldn't find schema" in line]
    assert all(any(kind in line for kind in CUSTOM_RESOURCES) for line in judged), judged


@pytest.mark.parametrize("misspelt", ["imagePullPolicyy", None])
def test_kubernetes_validate_sees_a_misspelt_key(misspelt, tmp_path):
    """The check above can fail."""
    manifests = tmp_path / "manifests.yaml"
    manifests.write_text(template("default").replace("imagePullPolicy", misspelt or "imagePullPolicy"), encoding="utf-8")
    done = run(need("kubernetes-validate"), "--strict", "-k", KUBERNETES[-1], manifests)
    assert (done.returncode == 0) is (misspelt is None), said(done)


def type_check(objects: list[dict], folder) -> str:
    """What the compiler says against the objects as literals of their types: empty if nothing."""
    lines = [f'import {{ I{kind} }} from "{module}";' for kind, module in CUSTOM_RESOURCES.items()]
    lines += [f"const _{number}: I{item['kind']} = {json.dumps(item)};" for number, item in enumerate(objects)]
    source = folder / "objects.ts"
    source.write_text("\n".join(lines), encoding="utf-8")
    (folder / "node_modules").symlink_to(INSTALLED / "crds" / "node_modules")
    flags = ["--noEmit", "--strict", "--skipLibCheck", "--module", "nodenext", "--moduleResolution", "nodenext"]
    return run(need("tsc"), *flags, source, cwd=folder).stdout


def custom_resources() -> list[dict]:
    objects = [item for scenario in ("monitoring", "keda", "http-route") for item in yaml.safe_load_all(template(scenario))]
    return [item for item in objects if item["kind"] in CUSTOM_RESOURCES]


def test_custom_resources_have_the_shape_of_their_types(tmp_path):
    objects = custom_resources()
    assert {item["kind"] for item in objects} == set(CUSTOM_RESOURCES)
    assert type_check(objects, tmp_path) == ""


def test_the_compiler_sees_a_misspelt_key(tmp_path):
    (monitor,) = [item for item in custom_resources() if item["kind"] == "ServiceMonitor"]
    monitor["spec"]["endpoints"][0]["intervall"] = "15s"
    assert "intervall" in type_check([monitor], tmp_path)


@pytest.mark.parametrize("scenario", ["default", "api-keys", "teacher-vllm", "artifact-http"])
def test_checkov_finds_nothing_but_what_is_excused(scenario, tmp_path):
    manifests = tmp_path / "manifests.yaml"
    manifests.write_text(template(scenario), encoding="utf-8")
    done = run(need("checkov"), "--skip-download", "--framework=kubernetes", "--output=json", "-f", manifests)
    report = json.loads(done.stdout)
    assert report["summary"]["passed"] > 100
    found = {(check["check_id"], check["resource"]) for check in report["results"]["failed_checks"]}
    excused = {
        (check, resource)
        for check, resource in found
        for name, end in CHECKOV_EXCEPTIONS
        if name == check and resource.endswith(end)
    }
    assert found - excused == set()
