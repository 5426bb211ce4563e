"""The alerts ask for series that are there, and each says what to do."""

import re
from pathlib import Path

import pytest
import yaml

from tests.promql import complaints, registered_series

ROOT = Path(__file__).resolve().parents[2]
RULES_FILE = ROOT / "helm" / "stillguard" / "files" / "alerts.yaml"
PLAYBOOKS = ROOT / "docs" / "playbooks.md"
SCENARIOS = sorted((ROOT / "tests" / "ops").glob("observability_*alerts_test.yaml"))

RULES = [rule for group in yaml.safe_load(RULES_FILE.read_text(encoding="utf-8"))["groups"] for rule in group["rules"]]
ALERTS = {rule["alert"]: rule for rule in RULES if "alert" in rule}
PARTS = ("Meaning", "Impact", "Diagnose", "Mitigate")


def playbook_sections() -> dict[str, str]:
    """Title → body of each second-level section."""
    titled = re.split(r"^## (.+)$", PLAYBOOKS.read_text(encoding="utf-8"), flags=re.MULTILINE)[1:]
    return dict(zip(titled[::2], titled[1::2], strict=True))


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.get("alert") or rule["record"])
def test_each_rule_asks_for_registered_series(rule):
    series = registered_series() | {rule["record"]: {} for rule in RULES if "record" in rule}
    assert list(complaints(rule["expr"], series)) == []


@pytest.mark.parametrize("name", ALERTS)
def test_each_alert_has_a_severity_words_and_a_runbook(name):
    alert = ALERTS[name]
    assert name.startswith("Stillguard")
    assert alert["labels"]["severity"] in ("page", "ticket")
    assert set(alert["annotations"]) == {"summary", "description", "runbook"}
    assert alert["annotations"]["runbook"] == f"docs/playbooks.md#{name.lower()}"


@pytest.mark.parametrize("name", ALERTS)
def test_each_alert_has_a_playbook_with_every_part(name):
    body = playbook_sections()[name]
    assert re.findall(r"^\*\*(\w+)\.\*\*", body, flags=re.MULTILINE) == list(PARTS)
    assert re.search(r"^```(console|promql)$", body, flags=re.MULTILINE), "a playbook diagnoses with something to run"


def test_no_playbook_is_for_an_alert_that_is_gone():
    assert set(playbook_sections()) - {"Before you begin"} == set(ALERTS)


def test_the_queries_of_the_playbooks_ask_for_registered_series():
    series = registered_series() | {rule["record"]: {} for rule in RULES if "record" in rule}
    blocks = re.findall(r"^```promql\n(.+?)^```", PLAYBOOKS.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    queries = [query for block in blocks for query in block.strip().splitlines()]
    assert len(queries) > len(ALERTS)
    assert [complaint for query in queries for complaint in complaints(query, series)] == []


def test_each_alert_fires_in_one_scenario_and_not_in_another():
    fires, silent = set(), set()
    for scenario in [each for file in SCENARIOS for each in yaml.safe_load(file.read_text(encoding="utf-8"))["tests"]]:
        for check in scenario["alert_rule_test"]:
            (fires if check.get("exp_alerts") else silent).add(check["alertname"])
    assert fires == set(ALERTS)
    # Where no check expects silence, the scenario that fires also holds a series just short of it.
    calm = {"StillguardLatencyBurnFast", "StillguardAvailabilityBurnSlow", "StillguardLatencyBurnSlow", "StillguardNotReady"}
    assert fires - silent <= calm
