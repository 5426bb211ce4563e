"""Draws the dashboard from a real Prometheus: ``python -m tests.ops.observability_picture`` writes docs/dashboard.png.

It serves, sends traffic that rises and falls for ``DURATION_S``, and draws each panel's own queries. Grafana draws them better.
"""

import json
import math
import tempfile
import time
from pathlib import Path
from typing import Any

import httpx
import matplotlib as mpl
from matplotlib import pyplot
from matplotlib.axes import Axes

from tests.ops.observability_stack import (
    DASHBOARD,
    PATIENCE_S,
    RULES_FILE,
    SHADOW,
    Prometheus,
    curious_policies,
    guard,
    http_stub,
    judge,
    prometheus,
    send_many,
    send_some,
)
from tests.ops.tools import ROOT
from tests.promql import fill

DURATION_S = 150
PICTURE = ROOT / "docs" / "dashboard.png"

_ROW_HEIGHT_IN = 0.42
_WIDTH_IN = 18


def send_traffic(url: str) -> None:
    """More and less, twice; each turn waits for its answers, so a slow machine sends less."""
    with httpx.Client(trust_env=False, timeout=PATIENCE_S) as client:
        began = time.monotonic()
        turn = 0
        while (elapsed_s := time.monotonic() - began) < DURATION_S:
            for _ in range(1 + round(4 * math.sin(2 * math.pi * elapsed_s / DURATION_S) ** 2)):
                send_some(url, client, turn)
                turn += 1
            time.sleep(0.25)


def draw_panel(axes: Axes, panel: dict[str, Any], api: Prometheus, began: float, ended: float) -> None:
    axes.set_title(panel["title"], fontsize=9, loc="left")
    axes.tick_params(labelsize=7)
    for target in panel["targets"]:
        query = fill(target["expr"])
        if panel["type"] == "timeseries":
            found = api.get("/query_range", query=query, start=str(began), end=str(ended), step="2")["result"]
            for series in found:
                seconds = [float(at) - began for at, _ in series["values"]]
                label = target["legendFormat"]
                for name, value in series["metric"].items():
                    label = label.replace("{{" + name + "}}", value)
                axes.plot(seconds, [float(value) for _, value in series["values"]], linewidth=1, label=label)
        else:
            axes.axis("off")
            found = api.get("/query", query=query)["result"]
            if panel["type"] == "stat":
                axes.text(0.5, 0.4, f"{float(found[0]['value'][1]):.4g}", ha="center", va="center", fontsize=20)
            else:
                lines = [", ".join(f"{k}={v[:24]}" for k, v in row["metric"].items()) + f": {row['value'][1]}" for row in found]
                axes.text(0, 0.8, "\n".join(lines), fontsize=7, va="top", wrap=True)
    if panel["type"] == "timeseries":
        axes.set_ylim(bottom=0)
        if len(axes.lines) <= 8:
            axes.legend(fontsize=6, loc="upper left", frameon=False)


def draw(api: Prometheus, began: float, ended: float, path: Path) -> None:
    mpl.use("Agg")
    dashboard = json.loads(DASHBOARD.read_text(encoding="utf-8"))
    rows = max(panel["gridPos"]["y"] + panel["gridPos"]["h"] for panel in dashboard["panels"])
    figure = pyplot.figure(figsize=(_WIDTH_IN, rows * _ROW_HEIGHT_IN), dpi=70)
    for panel in dashboard["panels"]:
        place = panel["gridPos"]
        margin = 0.012
        left, width = place["x"] / 24 + margin, place["w"] / 24 - 2 * margin
        bottom = 1 - (place["y"] + place["h"]) / rows
        height = place["h"] / rows
        if panel["type"] == "row":
            figure.text(left, bottom, panel["title"], fontsize=14, weight="bold")
        elif panel["type"] == "text":
            words = panel["options"]["content"].replace("**", "")
            figure.text(left, bottom + height / 2, words, fontsize=9, va="center", wrap=True)
        else:
            box = (left + 0.01, bottom + height * 0.14, width - 0.01, height * 0.68)
            draw_panel(figure.add_axes(box), panel, api, began, ended)
    figure.savefig(path)
    pyplot.close(figure)


def main() -> None:
    with tempfile.TemporaryDirectory() as scratch, http_stub(judge) as teacher:
        folder = Path(scratch)
        flags = ["--teacher", teacher, "--teacher-model", "stub", "--policies", curious_policies(folder), *SHADOW]
        rules = RULES_FILE.read_text(encoding="utf-8")
        with guard(folder, *flags) as server:
            # Before anybody looks: so much at once is no traffic.
            with httpx.Client(trust_env=False, timeout=PATIENCE_S) as client:
                send_many(server.url, client)
            with prometheus(folder, [server.private_url.removeprefix("http://")], rules=rules) as api:
                began = time.time()
                send_traffic(server.url)
                draw(api, began + 5, time.time(), PICTURE)


if __name__ == "__main__":
    main()
