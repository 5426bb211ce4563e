"""The chart's schema refuses what can't be meant. Judged by the real helm: ``.ci/ops/install``."""

import json
from typing import Any

import pytest
import yaml

from server.settings import Settings
from tests.ops.chart import Release, refusal
from tests.ops.tools import CHART, need, run, said

OPEN = {"affinity"}
"""Kubernetes' own, passed on as it is."""


def with_misspelt_keys(values: dict[str, Any], where: str = "") -> tuple[dict[str, Any], list[str]]:
    """The values with one key too many in every map, and the paths of those maps. In a map of strings it is no string."""
    spoilt: dict[str, Any] = {"misspelt": True}
    places = [where]
    for key, value in values.items():
        spoilt[key] = value
        if isinstance(value, dict) and key not in OPEN:
            spoilt[key], inner = with_misspelt_keys(value, f"{where}/{key}")
            places += inner
    return spoilt, places


@pytest.mark.parametrize("helm", ["helm3", "helm4"])
def test_a_misspelt_key_is_refused_wherever_it_is(helm, tmp_path):
    values, places = with_misspelt_keys(yaml.safe_load((CHART / "values.yaml").read_text(encoding="utf-8")))
    spoilt = tmp_path / "values.yaml"
    spoilt.write_text(json.dumps(values), encoding="utf-8")
    done = run(need(helm), "template", "rel", CHART, "-f", spoilt)
    assert done.returncode != 0
    lines = [line.replace(".", "/").replace("(root)", "") for line in done.stderr.splitlines() if "misspelt" in line]
    missed = [place for place in places if not any(names(line, place) for line in lines)]
    assert missed == [], said(done)
    assert len(places) > 40


def names(line: str, place: str) -> bool:
    """Helm 3 says ``- image: Additional property…``, Helm 4 ``- at '/image': additional properties…``."""
    inside = place.removeprefix("/")
    wholes = (f"- {inside}: ", f"- {inside}/misspelt: ", f"- at '{place}': ", f"- at '{place}/misspelt': ")
    return any(whole in line for whole in wholes)


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ({"settings.drain_timeout": 5}, "drain_timeout"),
        ({"settings.port": 9000}, "port"),
        ({"settings.queue_max_items": 0}, "queue_max_items"),
        ({"settings.log_level": "loud"}, "log_level"),
        ({"replicaCount": "two"}, "replicaCount"),
        ({"image.digest": "sha256:short"}, "digest"),
        ({"artifact.source": "s3"}, "source"),
        ({"artifact.source": "http"}, "url"),
        ({"artifact": {"source": "http", "http": {"url": "https://a.example/b.tar", "sha256": "0123"}}}, "sha256"),
        ({"artifact.source": "pvc"}, "claimName"),
        ({"feedback.volume": "pvc"}, "claimName"),
        ({"settings.feedback_dir": "/tmp/log"}, "feedback_dir"),
        ({"settings.drift_reference": "/tmp/week.json"}, "drift_reference"),
        ({"artifact": {"source": "oci", "oci": {"reference": "registry.example.com/a:latest"}}}, "reference"),
        ({"teacher.kind": "url"}, "url"),
        ({"teacher": {"kind": "url", "url": "vllm:8000"}}, "url"),
        ({"teacher": {"kind": "none", "url": "http://vllm:8000"}}, "url"),
        ({"teacher": {"kind": "deployment", "deployment": {"engine": "llamacpp"}}}, "source"),
        ({"autoscaling": {"enabled": True, "targetCPU": 0}}, "enabled"),
        ({"ingress.enabled": True}, "hosts"),
        ({"httpRoute.enabled": True}, "parentRefs"),
        ({"networkPolicy.clients": [{"namespace": "web"}]}, "clients"),
        ({"topologySpreadKeys": [""]}, "topologySpreadKeys"),
        ({"loadtest.workers": 0}, "workers"),
        ({"loadtest.args": ["--url=http://elsewhere"]}, "args"),
        ({"resources.limits.memory": "1 GB"}, "memory"),
    ],
)
def test_what_can_t_be_meant_is_refused_by_name(values, named):
    assert named in refusal("default", values=values)


def shipped(knob: str) -> Any:
    return Settings.model_fields[knob].default


CLASHES = [
    # a value that clashes with the server's default of the other knob, and the next one that doesn't
    ("settings.encode_max_chars", shipped("max_request_chars") - 1, shipped("max_request_chars")),
    ("settings.max_request_chars", shipped("encode_max_chars") + 1, shipped("encode_max_chars")),
    ("settings.teacher_breaker_window", shipped("teacher_breaker_failures") - 1, shipped("teacher_breaker_failures")),
    ("settings.teacher_breaker_failures", shipped("teacher_breaker_window") + 1, shipped("teacher_breaker_window")),
    ("settings.async_ttl_s", shipped("teacher_timeout_s"), shipped("teacher_timeout_s") + 0.5),
    ("settings.teacher_timeout_s", shipped("async_ttl_s"), shipped("async_ttl_s") - 0.5),
    ("feedback.sizeLimit", shipped("feedback_max_bytes"), shipped("feedback_max_bytes") + 1),
    ("feedback.sizeLimit", "1Gi", "1.1Gi"),
    ("feedback.sizeLimit", "1.073G", "1.074G"),
    ("ports.http", 9090, 9091),
    ("ports.admin", 8000, 8001),
    ("commonLabels", {"app.kubernetes.io/name": "other"}, {"app.kubernetes.io/part-of": "chat"}),
    ("podLabels", {"app.kubernetes.io/component": "other"}, {"team": "safety"}),
]


@pytest.mark.parametrize(("key", "clashing", "fitting"), CLASHES)
def test_values_that_clash_are_refused_by_name_and_no_others(key, clashing, fitting):
    feedback = {"feedback.enabled": True}
    assert key in refusal("default", values=feedback | {key: clashing})
    assert Release("default", values=feedback | {key: fitting}).all("Deployment")


def test_a_label_is_given_once():
    assert "both have team" in refusal("default", values={"commonLabels": {"team": "a"}, "podLabels": {"team": "b"}})


def test_a_log_on_a_claim_is_not_held_to_the_limit_of_a_volume_that_it_has_not():
    assert Release("feedback", values={"feedback.sizeLimit": "1Mi"}).all("Deployment")
