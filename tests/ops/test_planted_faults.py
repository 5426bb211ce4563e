"""The gate can fail: each fault, planted into a copy of the project, turns the tests red that are there for it.

The copy is tested by the same tests, run by a pytest of its own.
"""

import os
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.ops.tools import ROOT, need, run, said

LEFT_OUT = shutil.ignore_patterns(".*", "__pycache__", "*.egg-info", "runs", "build", "artifacts", "distill", "loadtest")
LINKED = (".cache", "server/artifacts")
CHART = "helm/stillguard"
COLLECTED_AND_FAILED = 1
"""What pytest exits with; 2 and above say that it could not test."""


@dataclass(frozen=True)
class Fault:
    """In ``file``, ``right`` becomes ``wrong`` wherever it stands; ``caught_by`` then fails. ``tool`` is what that needs."""

    file: str
    right: str
    wrong: str
    caught_by: str
    tool: str | None = None


FAULTS = {
    "a misspelt key in the chart's values": Fault(
        f"{CHART}/values.yaml", "replicaCount:", "replicaCuont:", "tests/ops/test_chart_tools.py::test_helm_lints", "helm4"
    ),
    "a misspelt key in a template": Fault(
        f"{CHART}/templates/deployment.yaml",
        "readOnly: true",
        "readOnyl: true",
        "tests/ops/test_chart_tools.py::test_kubernetes_takes_every_object",
        "kubernetes-validate",
    ),
    "a renamed metric, for the dashboard": Fault(
        "server/observability/metrics.py",
        '"stillguard_requests"',
        '"stillguard_calls"',
        "tests/contract/test_dashboard.py::test_each_panel_asks_for_registered_series",
    ),
    "a renamed metric, for the alerts": Fault(
        "server/observability/metrics.py",
        '"stillguard_requests"',
        '"stillguard_calls"',
        "tests/contract/test_alerts.py::test_each_rule_asks_for_registered_series",
    ),
    "a dead panel": Fault(
        f"{CHART}/dashboards/stillguard.json",
        "stillguard_queue_items",
        "stillguard_queued_items",
        "tests/contract/test_dashboard.py::test_each_panel_asks_for_registered_series",
    ),
    "a wrong threshold": Fault(
        f"{CHART}/files/alerts.yaml",
        "> 14.4 * 0.001",
        "> 144 * 0.001",
        "tests/ops/test_observability_prometheus.py::test_each_alert_fires",
        "promtool",
    ),
    "a root user": Fault(
        "Dockerfile", "USER 10001:10001", "USER 0:0", "tests/ops/test_image.py::test_the_dockerfile_is_clean", "hadolint"
    ),
    "a container that may be root": Fault(
        f"{CHART}/templates/_helpers.tpl",
        "runAsNonRoot: true",
        "runAsNonRoot: false",
        "tests/contract/test_chart_templates.py::test_every_container_is_restricted",
        "helm",
    ),
    "a licence that may not be shipped": Fault(
        "docs/licences.md", "| PSF-2.0 |", "| SSPL-1.0 |", "tests/ops/test_supply_chain.py::test_licences_may_be_shipped"
    ),
}


@pytest.fixture
def copy(tmp_path) -> Path:
    """The project without its history, its environments and what is large."""
    target = tmp_path / "copy"
    shutil.copytree(ROOT, target, ignore=LEFT_OUT)
    shutil.copytree(ROOT / ".ci", target / ".ci")
    for name in LINKED:
        if (ROOT / name).exists():
            (target / name).symlink_to(ROOT / name)
    return target


def outcome_of(folder: Path, test: str):
    """The outcome of the tests of a file whose names begin so, up to the first that fails."""
    file, _, name = test.partition("::")
    words = ["-m", "pytest", "-x", "-p", "no:cacheprovider", "--color=no", file, "-k", name]
    return run(sys.executable, *words, cwd=folder, env=os.environ | {"PYTHONDONTWRITEBYTECODE": "1"}, timeout_s=600)


@pytest.mark.parametrize("name", FAULTS)
def test_a_planted_fault_turns_the_gate_red(copy, name):
    fault = FAULTS[name]
    if fault.tool is not None:
        need(fault.tool)
    file = copy / fault.file
    before = file.read_text(encoding="utf-8")
    assert fault.right in before
    file.write_text(before.replace(fault.right, fault.wrong), encoding="utf-8")
    done = outcome_of(copy, fault.caught_by)
    assert done.returncode == COLLECTED_AND_FAILED, said(done)
    assert f"FAILED {fault.caught_by}" in done.stdout, said(done)


def test_a_copy_without_a_fault_is_green(copy):
    for tests in sorted({fault.caught_by for fault in FAULTS.values() if fault.tool is None}):
        done = outcome_of(copy, tests)
        assert done.returncode == 0, said(done)
