"""What the chart makes of its values: the pods. Rendered by the real helm: ``.ci/ops/install``."""

import re

import pytest

from server.settings import ENV_PREFIX, Settings
from tests.ops.chart import Release, refusal, selects
from tests.ops.tools import ROOT, SCENARIOS

RESTRICTED = {"allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "runAsNonRoot": True}


@pytest.fixture(params=SCENARIOS)
def release(request) -> Release:
    return Release(request.param)


def test_every_container_is_restricted(release):
    for pod in release.pods():
        spec = pod["spec"]
        assert spec["securityContext"]["runAsUser"] > 10_000
        assert spec["securityContext"]["runAsNonRoot"] is True
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert spec["automountServiceAccountToken"] is False
        for container in [*spec["containers"], *spec.get("initContainers", [])]:
            assert container["securityContext"] == RESTRICTED | {"capabilities": {"drop": ["ALL"]}}
            assert {"cpu", "memory"} <= container["resources"]["requests"].keys()
            assert "memory" in container["resources"]["limits"]


def test_no_pod_gets_variables_from_services(release):
    """A Service named stillguard would set STILLGUARD_PORT=tcp://…, and an unknown STILLGUARD_ variable stops the start."""
    assert [pod["spec"]["enableServiceLinks"] for pod in release.pods()] == [False] * len(release.pods())


def test_the_server_accepts_the_settings_it_is_given(release):
    (settings,) = [item["data"] for item in release.all("ConfigMap") if item["metadata"]["name"].endswith("-settings")]
    knobs = {name.removeprefix(ENV_PREFIX).lower(): value for name, value in settings.items()}
    accepted = Settings(**knobs)
    assert accepted.model_fields_set == knobs.keys()
    assert (accepted.host, accepted.admin_host) == ("0.0.0.0", "0.0.0.0")


def test_services_and_policies_select_the_pods_that_they_mean(release):
    wanted = {"": "server", "-admin": "server", "-teacher": "teacher", "-loadtest": "loadtest"}
    for item in release.all("Service"):
        suffix = re.search(r"(-admin|-teacher|-loadtest)?$", item["metadata"]["name"])[0]
        components = [
            pod["metadata"]["labels"]["app.kubernetes.io/component"]
            for pod in release.pods()
            if selects(item["spec"]["selector"], pod)
        ]
        assert components == [wanted[suffix]]
    for deployment in release.all("Deployment"):
        assert selects(deployment["spec"]["selector"]["matchLabels"], deployment["spec"]["template"])


def test_every_object_is_in_the_release(release):
    for item in release.objects:
        assert item["metadata"]["labels"]["app.kubernetes.io/instance"] == "rel"
        assert item["metadata"]["labels"]["app.kubernetes.io/managed-by"] == "Helm"


def test_probes_ask_the_private_port_which_clients_never_see():
    release = Release("default")
    probes = {name: release.container[f"{name}Probe"]["httpGet"] for name in ("startup", "readiness", "liveness")}
    assert probes == {
        "startup": {"path": "/readyz", "port": "admin"},
        "readiness": {"path": "/readyz", "port": "admin"},
        "liveness": {"path": "/livez", "port": "admin"},
    }
    assert {port["name"]: port["containerPort"] for port in release.container["ports"]} == {"http": 8000, "admin": 9090}
    assert [port["name"] for port in release.one("Service", "rel-stillguard")["spec"]["ports"]] == ["http"]
    admin = release.one("Service", "rel-stillguard-admin")["spec"]
    assert (admin["clusterIP"], admin["publishNotReadyAddresses"]) == ("None", True)


def test_the_grace_period_covers_every_step_of_stopping():
    """preStop 5, drain 10, the teacher's 2 and one more that uvicorn waits, margin 5."""
    spec = Release("default").server["spec"]
    assert spec["terminationGracePeriodSeconds"] == 23
    assert spec["containers"][0]["lifecycle"] == {"preStop": {"sleep": {"seconds": 5}}}
    longer = {"settings": {"drain_timeout_s": 59.5, "teacher_timeout_s": 3}, "shutdown": {"preStopSeconds": 20}}
    assert Release("default", values=longer).server["spec"]["terminationGracePeriodSeconds"] == 20 + 60 + 3 + 1 + 5
    assert "lifecycle" not in Release("default", values={"shutdown.preStopSeconds": 0}).container


def checksum(**values) -> str:
    return Release("default", values=values).server["metadata"]["annotations"]["checksum/config"]


def test_pods_roll_when_what_they_read_changes_and_only_then():
    before = checksum()
    assert checksum(replicaCount=7) == before
    assert checksum(settings={"log_level": "debug"}) != before
    assert checksum(policies="[a]\nversion = '1'\n") != before


def test_whole_numbers_stay_whole_and_policies_stay_as_written():
    release = Release("settings")
    assert release.settings["STILLGUARD_MAX_BODY_BYTES"] == "2097152"
    assert release.settings["STILLGUARD_DRAIN_TIMEOUT_S"] == "7.5"
    assert release.settings["STILLGUARD_POLICIES"] == "/policies/policies.toml"
    text = release.one("ConfigMap", "rel-stillguard-policies")["data"]["policies.toml"]
    assert text.strip() == '# "Quoted", with a $ and {{ braces }}\n[strict]\nversion = "1"'
    assert {"name": "policies", "mountPath": "/policies", "readOnly": True} in release.container["volumeMounts"]


@pytest.mark.parametrize(("cpu", "sessions"), [("2", "2"), (4, "4"), ("3500m", "3"), ("500m", "1"), (1.5, "1")])
def test_a_session_for_each_whole_core_that_the_pod_asks_for(cpu, sessions):
    """Without a CPU limit the server itself would count the node's cores."""
    assert Release("default", values={"resources.requests.cpu": cpu}).settings["STILLGUARD_SESSIONS"] == sessions


@pytest.mark.parametrize(
    ("memory", "bound"), [("1Gi", 512 * 1024**2), ("1500M", 750_000_000), ("1.5Gi", 768 * 1024**2), (2_000_000_000, 10**9)]
)
def test_an_embedded_teacher_meets_its_own_bound_before_the_container_meets_its_limit(memory, bound):
    embedded = {"teacher.kind": "embedded", "resources.limits.memory": memory}
    assert Release("default", values=embedded).settings["STILLGUARD_TEACHER_MAX_MEMORY_BYTES"] == str(bound)


@pytest.mark.parametrize(
    ("values", "bound"),
    [
        ({"teacher.kind": "none"}, None),
        ({"teacher.kind": "embedded", "resources.limits": {"memory": None}}, None),
        ({"teacher.kind": "embedded", "settings.teacher_max_memory_bytes": 300_000_000}, "300000000"),
    ],
)
def test_that_bound_can_be_said_and_needs_a_limit_to_follow(values, bound):
    assert Release("default", values=values).settings.get("STILLGUARD_TEACHER_MAX_MEMORY_BYTES") == bound


def test_the_number_of_sessions_can_be_said():
    assert Release("settings").settings["STILLGUARD_SESSIONS"] == "3"


def test_a_gpu_is_asked_for_and_used():
    release = Release("gpu")
    assert release.container["resources"]["limits"]["nvidia.com/gpu"] == 1
    assert release.settings["STILLGUARD_DEVICE"] == "cuda"
    assert "STILLGUARD_SESSIONS" not in release.settings
    assert release.container["image"] == "stillguard:0.1.0-gpu"
    assert release.server["spec"]["runtimeClassName"] == "nvidia"


def test_images_are_named_by_what_is_in_them_unless_told():
    assert Release("default").container["image"] == "stillguard:0.1.0"
    assert Release("teacher-embedded").container["image"] == "stillguard:0.1.0-teacher"
    assert Release("gpu", values={"teacher.kind": "embedded"}).container["image"] == "stillguard:0.1.0-gpu-teacher"
    assert Release("gpu", values={"image.tag": "mine"}).container["image"] == "stillguard:mine"
    dockerfile = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    for tag in ("0.1.0", "0.1.0-teacher", "0.1.0-gpu", "0.1.0-gpu-teacher", "0.1.0-loadtest"):
        assert f"docker build -t stillguard:{tag} " in dockerfile
    (guard,) = Release("plain").all("Deployment")
    assert guard["spec"]["template"]["spec"]["containers"][0]["image"].startswith("registry.example.com/guard@sha256:0123")


def volume(release: Release, name: str) -> dict:
    (found,) = [item for item in release.server["spec"]["volumes"] if item["name"] == name]
    return {key: value for key, value in found.items() if key != "name"}


def test_the_artefact_comes_from_where_it_is_said_to():
    assert [item["name"] for item in Release("default").server["spec"]["volumes"]] == ["tmp"]
    claim = Release("gpu")
    assert volume(claim, "artifact") == {"persistentVolumeClaim": {"claimName": "stillguard-fp16", "readOnly": True}}
    assert claim.settings["STILLGUARD_ARTIFACT"] == "/artifact/2026.11.22"
    assert volume(Release("artifact-oci"), "artifact")["image"]["reference"].startswith(
        "registry.example.com/stillguard/artifact@"
    )
    for scenario in ("artifact-pvc", "artifact-http", "artifact-oci"):
        release = Release(scenario)
        assert {"name": "artifact", "mountPath": "/artifact", "readOnly": True} in release.container["volumeMounts"]
        assert release.settings["STILLGUARD_ARTIFACT"] == "/artifact"
    fetched = Release("artifact-http")
    (init,) = fetched.server["spec"]["initContainers"]
    assert init["command"][:2] == ["python", "/fetch/fetch.py"]
    assert init["command"][2].endswith("/stillguard/2026.11.22.tar.gz")
    assert "def main(" in fetched.one("ConfigMap", "rel-stillguard-fetch")["data"]["fetch.py"]


def test_an_image_volume_is_refused_where_kubernetes_has_none():
    assert "1.33" in refusal("artifact-oci", "--kube-version", "1.32.0")


def test_keys_come_from_secrets_that_are_named_and_reach_the_server_as_files():
    release = Release("api-keys")
    assert release.settings["STILLGUARD_API_KEYS_FILE"] == "/secrets/api-keys/api-keys"
    assert volume(release, "api-keys")["secret"]["secretName"] == "stillguard-keys"
    url = Release("teacher-url")
    assert url.settings["STILLGUARD_TEACHER_API_KEY_FILE"] == "/secrets/teacher/api-key"
    assert volume(url, "teacher-key")["secret"]["secretName"] == "llm-key"
    assert release.all("Secret") + url.all("Secret") == []


def test_drift_is_measured_against_the_artefact_s_reference_unless_another_is_named():
    release = Release("feedback")
    assert release.settings["STILLGUARD_DRIFT_REFERENCE"] == "/drift/last-week.json"
    assert {"name": "drift", "mountPath": "/drift", "readOnly": True} in release.container["volumeMounts"]
    assert volume(release, "drift") == {"configMap": {"name": "stillguard-last-week", "optional": False}}
    assert "STILLGUARD_DRIFT_REFERENCE" not in Release("default").settings


def test_the_feedback_log_has_a_volume_that_can_be_written_to_and_only_then():
    assert "STILLGUARD_FEEDBACK_DIR" not in Release("default").settings
    shared = Release("feedback")
    assert shared.settings["STILLGUARD_FEEDBACK_DIR"] == "/feedback/log"
    assert shared.settings["STILLGUARD_FEEDBACK_HASH_KEY_FILE"] == "/secrets/feedback/hash-key"
    assert shared.settings["STILLGUARD_FEEDBACK_KEEP_TEXT"] == "true"
    assert {"name": "feedback", "mountPath": "/feedback"} in shared.container["volumeMounts"]
    assert volume(shared, "feedback") == {"persistentVolumeClaim": {"claimName": "stillguard-feedback"}}
    assert volume(shared, "feedback-key")["secret"]["secretName"] == "stillguard-feedback-key"
    alone = Release("default", values={"feedback.enabled": True})
    assert volume(alone, "feedback") == {"emptyDir": {"sizeLimit": "2Gi"}}
    assert "STILLGUARD_FEEDBACK_HASH_KEY_FILE" not in alone.settings


def test_the_chart_s_own_teacher_is_asked_by_name_and_with_its_key():
    for scenario, variable in (("teacher-vllm", "VLLM_API_KEY"), ("teacher-llamacpp", "LLAMA_API_KEY")):
        release = Release(scenario)
        assert release.settings["STILLGUARD_TEACHER"] == "http://rel-stillguard-teacher:8000"
        model = release.settings["STILLGUARD_TEACHER_MODEL"]
        (teacher,) = release.one("Deployment", "rel-stillguard-teacher")["spec"]["template"]["spec"]["containers"]
        assert any(word in (f"--served-model-name={model}", f"--alias={model}") for word in teacher["args"])
        keys = {item["name"]: item["valueFrom"]["secretKeyRef"]["name"] for item in teacher["env"] if "valueFrom" in item}
        assert keys[variable] == "llm-key"
        assert "--port=8000" in teacher["args"]


def test_only_a_vllm_teacher_asks_for_a_gpu():
    limits = {
        scenario: Release(scenario).one("Deployment", "rel-stillguard-teacher")["spec"]["template"]["spec"]["containers"][0][
            "resources"
        ]["limits"]
        for scenario in ("teacher-vllm", "teacher-llamacpp")
    }
    assert limits == {"teacher-vllm": {"memory": "16Gi", "nvidia.com/gpu": 1}, "teacher-llamacpp": {"memory": "6Gi"}}


def test_what_is_switched_off_is_not_there():
    release = Release("plain")
    kinds = {item["kind"] for item in release.objects}
    assert kinds == {"ConfigMap", "Deployment", "Service", "Pod"}
    (deployment,) = release.all("Deployment")
    assert deployment["metadata"]["name"] == "guard"
    assert deployment["spec"]["template"]["spec"]["serviceAccountName"] == "guard"
    assert all(item["metadata"]["labels"]["team"] == "safety" for item in release.objects)
