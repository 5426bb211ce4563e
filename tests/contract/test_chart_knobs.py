"""The image and the chart speak of the server's knobs by their names, and nothing is said twice in two ways. Needs no tools."""

import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement

from server.settings import ENV_PREFIX, Settings

ROOT = Path(__file__).resolve().parents[2]
CHART = ROOT / "helm" / "stillguard"
SPEAKS_OF_KNOBS = [ROOT / "Dockerfile", ROOT / "compose.yaml", ROOT / "docs" / "deploy.md", *CHART.rglob("*.*")]
CUSTOM_METRIC = "stillguard_queue_waited_seconds"
"""What prometheus-adapter's rule in deploy.md makes."""

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def test_every_variable_that_image_and_chart_set_is_a_knob():
    known = {ENV_PREFIX + name.upper() for name in Settings.model_fields}
    named = {
        (str(path.relative_to(ROOT)), name)
        for path in SPEAKS_OF_KNOBS
        if path.is_file()
        for name in re.findall(rf"\b{ENV_PREFIX}[A-Z0-9_]+[A-Z0-9]\b", path.read_text(encoding="utf-8"))
    }
    assert ("Dockerfile", "STILLGUARD_ARTIFACT") in named
    assert sorted((path, name) for path, name in named if name not in known) == []


def test_every_series_that_the_chart_and_its_page_name_exists():
    speaking = [ROOT / "docs" / "deploy.md", CHART / "templates" / "autoscaling.yaml"]
    text = "\n".join(path.read_text(encoding="utf-8") for path in speaking).replace(CUSTOM_METRIC, "")
    named = {re.sub("_(sum|count|bucket)$", "", name) for name in re.findall(r"\bstillguard_[a-z_]+[a-z]\b", text)}
    known = set(
        re.findall(r"^### `(stillguard_[a-z_]+)`", (ROOT / "docs" / "metrics.md").read_text(encoding="utf-8"), re.MULTILINE)
    )
    assert "stillguard_stage_seconds" in named
    assert named - known == set()
    assert CUSTOM_METRIC not in known, "it is another figure than the series of that name"


def test_the_schema_has_every_knob_as_the_server_has_it():
    done = subprocess.run([sys.executable, ROOT / ".ci/ops/chart_schema.py", "--check"], capture_output=True, check=False)
    assert done.returncode == 0, "values.schema.json is not current: python .ci/ops/chart_schema.py"


def test_a_setting_that_a_page_names_can_be_set_in_the_chart():
    schema = json.loads((CHART / "values.schema.json").read_text(encoding="utf-8"))
    pages = [ROOT / "README.md", CHART / "values.yaml", *(ROOT / "docs").glob("*.md")]
    named = {
        (page.name, name) for page in pages for name in re.findall(r"(?<!/)\bsettings\.([a-z_]+)\b", page.read_text("utf-8"))
    }
    assert ("playbooks.md", "teacher_max_share") in named
    assert {(page, name) for page, name in named if name not in schema["properties"]["settings"]["properties"]} == set()


def test_a_misspelt_flag_writes_no_schema():
    done = subprocess.run([sys.executable, ROOT / ".ci/ops/chart_schema.py", "--chek"], capture_output=True, check=False)
    assert (done.returncode, done.stdout) == (2, b"")


def test_compose_bounds_the_teacher_as_the_chart_does():
    """By half of the container's memory."""
    stillguard = yaml.safe_load((ROOT / "compose.yaml").read_text(encoding="utf-8"))["services"]["stillguard"]
    assert stillguard["mem_limit"] == "2g"
    assert Settings.model_fields["teacher_max_memory_bytes"].default == 2 * 1024**3 // 2


def test_the_chart_s_defaults_of_knobs_are_the_server_s():
    chosen = yaml.safe_load((CHART / "values.yaml").read_text(encoding="utf-8"))["settings"]
    assert chosen == {name: Settings.model_fields[name].default for name in ("drain_timeout_s", "teacher_timeout_s")}


def test_values_and_schema_have_the_same_keys():
    values = yaml.safe_load((CHART / "values.yaml").read_text(encoding="utf-8"))
    schema = json.loads((CHART / "values.schema.json").read_text(encoding="utf-8"))
    settings = schema["properties"].pop("settings")
    del schema["properties"]["global"], values["settings"]
    assert settings["additionalProperties"] is False
    assert _described(schema, schema["definitions"]) == _keys(values, schema, schema["definitions"])


def test_chart_image_and_package_have_one_version():
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text(encoding="utf-8"))
    (image,) = re.findall(r"^ARG VERSION=(.+)$", (ROOT / "Dockerfile").read_text(encoding="utf-8"), re.MULTILINE)
    assert {chart["version"], chart["appVersion"], image} == {PROJECT["version"]}


def locked(lock: str) -> dict[str, str]:
    """The versions of a locked set, by package."""
    text = (ROOT / ".ci" / "locks" / f"image-{lock}.txt").read_text(encoding="utf-8")
    return dict(re.findall(r"^([a-z0-9-]+)==([^ ;]+)", text, re.MULTILINE))


def test_images_run_the_onnx_runtime_that_artefacts_are_proven_with():
    (proven,) = [
        line.partition("==")[2] for line in PROJECT["optional-dependencies"]["offline"] if line.startswith("onnxruntime==")
    ]
    assert (locked("cpu")["onnxruntime"], locked("gpu")["onnxruntime-gpu"]) == (proven, proven)


@pytest.mark.parametrize(("lock", "extras"), [("cpu", ["cpu", "otel"]), ("gpu", ["gpu", "otel"]), ("teacher", ["teacher"])])
def test_the_locked_sets_hold_what_the_package_asks_for(lock, extras):
    pinned = locked(lock)
    asked = [line for extra in extras for line in PROJECT["optional-dependencies"][extra]]
    if lock != "teacher":
        asked += PROJECT["dependencies"]
    wanting = [
        line
        for requirement in map(Requirement, asked)
        if (line := str(requirement)) and not requirement.specifier.contains(pinned.get(requirement.name, "0"))
    ]
    assert wanting == [], f"image-{lock}.txt is not current: .ci/ops/lock"
    assert not pinned.keys() & {"torch", "transformers", "optimum", "huggingface-hub"}


def _described(schema: dict, definitions: dict) -> set[tuple[str, ...]]:
    """Paths of all keys that the schema knows by name."""
    schema = _resolved(schema, definitions)
    found: set[tuple[str, ...]] = set()
    for key, inner in schema.get("properties", {}).items():
        found |= {(key,), *((key, *path) for path in _described(inner, definitions))}
    return found if not schema.get("title") else {path for path in found if not _is_resources(path)}


def _keys(values: dict, schema: dict, definitions: dict) -> set[tuple[str, ...]]:
    """Paths of all keys of the values, as deep as the schema knows names."""
    found: set[tuple[str, ...]] = set()
    for key, value in values.items():
        found.add((key,))
        inner = _resolved(schema["properties"].get(key, {}), definitions)
        if isinstance(value, dict) and "properties" in inner:
            found |= {(key, *path) for path in _keys(value, inner, definitions)}
    return {path for path in found if not _is_resources(path)}


def _is_resources(path: tuple[str, ...]) -> bool:
    """Requests and limits are Kubernetes' own, and either may be left out."""
    return path[-1] in ("requests", "limits")


def _resolved(schema: dict, definitions: dict) -> dict:
    reference = schema.get("$ref") or next((part["$ref"] for part in schema.get("allOf", []) if "$ref" in part), None)
    return definitions[reference.rpartition("/")[2]] if reference else schema
