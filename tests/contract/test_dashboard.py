"""The dashboard asks for series that are there, in the shape that Grafana keeps."""

import json
from pathlib import Path

import pytest
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.cog.plugins import register_default_plugins
from grafana_foundation_sdk.models.dashboard import Dashboard

from tests.promql import complaints, fill, registered_series

FILE = Path(__file__).resolve().parents[2] / "helm" / "stillguard" / "dashboards" / "stillguard.json"
DASHBOARD = json.loads(FILE.read_text(encoding="utf-8"))
PANELS = [panel for panel in DASHBOARD["panels"] if "targets" in panel]
ROWS = ["Status", "Traffic", "Latency by stage", "Queue and batch", "Verdicts", "Cascade", "Drift", "Resources"]
ALERTS = {"ALERTS": {"alertname": {"StillguardNotReady"}, "alertstate": {"pending", "firing"}}}
"""What Prometheus itself writes."""


@pytest.mark.parametrize("panel", PANELS, ids=lambda panel: panel["title"])
def test_each_panel_asks_for_registered_series(panel):
    series = registered_series() | ALERTS
    queries = [target["expr"] for target in panel["targets"]]
    assert queries
    assert [complaint for query in queries for complaint in complaints(fill(query), series)] == []


@pytest.mark.parametrize("panel", PANELS, ids=lambda panel: panel["title"])
def test_each_panel_has_a_title_a_unit_and_a_description(panel):
    assert panel["title"]
    assert len(panel["description"]) > 10
    assert panel["type"] == "table" or panel["fieldConfig"]["defaults"]["unit"]


def test_each_row_says_first_what_good_looks_like():
    panels = DASHBOARD["panels"]
    rows = [index for index, panel in enumerate(panels) if panel["type"] == "row"]
    assert [panels[index]["title"] for index in rows] == ROWS
    for index in rows:
        assert panels[index + 1]["type"] == "text"
        assert panels[index + 1]["options"]["content"].startswith("**Good:** ")
        assert "targets" in panels[index + 2]


def test_panels_have_ids_of_their_own_and_do_not_overlap():
    ids = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len(ids) == len(set(ids))
    cells = [
        (x, y)
        for panel in DASHBOARD["panels"]
        for place in [panel["gridPos"]]
        for x in range(place["x"], place["x"] + place["w"])
        for y in range(place["y"], place["y"] + place["h"])
    ]
    assert len(cells) == len(set(cells))
    assert max(x for x, _ in cells) == 23


def through_grafana(dashboard: dict) -> dict:
    """What is left after a round trip through Grafana's own model, which knows no misspelt field."""
    register_default_plugins()
    return json.loads(JSONEncoder().encode(Dashboard.from_json(dashboard)))


def test_grafanas_model_keeps_it_unchanged():
    assert through_grafana(DASHBOARD) == DASHBOARD


@pytest.mark.parametrize("change", [{"titel": "x"}, {"panels": [{"type": "timeseries", "gridPosition": {}}]}])
def test_grafanas_model_drops_a_misspelt_field(change):
    assert through_grafana(DASHBOARD | change) != DASHBOARD | change
