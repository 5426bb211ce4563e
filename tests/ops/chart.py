"""The chart, rendered by helm and read back."""

import json
from pathlib import Path
from typing import Any

import yaml

from tests.ops.tools import CHART, need, run, said

Object = dict[str, Any]


def scenario_file(scenario: str) -> Path:
    return CHART / "ci" / f"{scenario}-values.yaml"


def template(scenario: str, *arguments: str, helm: str = "helm", values: Object | None = None) -> str:
    """The manifests of ``rel``, installed into ``guard`` with a scenario's values and ``values`` over them."""
    more = [f"--set-json={key}={json.dumps(value)}" for key, value in (values or {}).items()]
    done = run(need(helm), "template", "rel", CHART, "-n", "guard", "-f", scenario_file(scenario), *more, *arguments)
    assert done.returncode == 0, said(done)
    return done.stdout


def refusal(scenario: str, *arguments: str, helm: str = "helm", values: Object | None = None) -> str:
    """What helm says against a scenario that must not render."""
    more = [f"--set-json={key}={json.dumps(value)}" for key, value in (values or {}).items()]
    done = run(need(helm), "template", "rel", CHART, "-f", scenario_file(scenario), *more, *arguments)
    assert done.returncode != 0, done.stdout
    return done.stderr


class Release:
    """A scenario's objects."""

    def __init__(self, scenario: str, *arguments: str, values: Object | None = None) -> None:
        rendered = template(scenario, *arguments, values=values)
        self.objects = [item for item in yaml.safe_load_all(rendered) if item]

    def all(self, kind: str) -> list[Object]:
        return [item for item in self.objects if item["kind"] == kind]

    def one(self, kind: str, name: str) -> Object:
        found = [item for item in self.all(kind) if item["metadata"]["name"] == name]
        assert len(found) == 1, f"{len(found)} objects are {kind} {name}, of {self.names(kind)}"
        return found[0]

    def names(self, kind: str) -> list[str]:
        return sorted(item["metadata"]["name"] for item in self.all(kind))

    def pods(self) -> list[Object]:
        """Every pod or pod template: metadata and spec."""
        return [*self.all("Pod"), *(item["spec"]["template"] for kind in ("Deployment", "Job") for item in self.all(kind))]

    @property
    def server(self) -> Object:
        """The server's pod template."""
        return self.one("Deployment", "rel-stillguard")["spec"]["template"]

    @property
    def container(self) -> Object:
        (container,) = self.server["spec"]["containers"]
        return container

    @property
    def settings(self) -> dict[str, str]:
        """The server's environment."""
        return self.one("ConfigMap", "rel-stillguard-settings")["data"]


def selects(selector: dict[str, str], pod: Object) -> bool:
    return selector.items() <= pod["metadata"]["labels"].items()
