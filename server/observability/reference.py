"""The metrics as a page: ``python -m server.observability.reference > docs/metrics.md``."""

import sys
from collections.abc import Iterable

from prometheus_client import CollectorRegistry, Metric

from server.core.types import ArtifactId
from server.observability.metrics import Metrics

PREFIX = "stillguard_"

QUESTIONS: tuple[tuple[str, str], ...] = (
    ("Are we up?", "sum by (job) (stillguard_ready)"),
    (
        "How many requests go unanswered?",
        'sum(rate(stillguard_requests_total{outcome=~"shed|expired|failed"}[5m])) '
        '/ sum(rate(stillguard_requests_total{outcome=~"ok|shed|expired|failed"}[5m]))',
    ),
    ("How fast are we?", 'histogram_quantile(0.99, sum by (le) (rate(stillguard_stage_seconds_bucket{stage="student"}[5m])))'),
    (
        "Where does time go?",
        "sum by (stage) (rate(stillguard_stage_seconds_sum[5m])) / sum by (stage) (rate(stillguard_stage_seconds_count[5m]))",
    ),
    ("Are we shedding, and why?", 'sum by (code) (rate(stillguard_errors_total{code=~"queue_full|shutting_down"}[5m]))'),
    ("What are we flagging?", "sum by (category, decided_by) (rate(stillguard_flagged_total[1h]))"),
    ("Is the teacher well?", "sum by (outcome) (rate(stillguard_escalations_total[5m]))"),
    (
        "Which artefact and policies are live?",
        "count by (artifact_version, artifact_hash, precision, policies) (stillguard_info)",
    ),
    ("How near the limits are we?", "max(stillguard_queue_wait_seconds / stillguard_queue_max_wait_seconds)"),
    ("Does traffic drift?", "max by (category) (stillguard_drift_psi)"),
    (
        "Would the shadow student decide otherwise?",
        "sum by (category, direction) (increase(stillguard_shadow_student_disagreements_total[1d])) "
        "/ ignoring(category, direction) group_left "
        'sum(increase(stillguard_shadow_student_texts_total{outcome="compared"}[1d]))',
    ),
    ("Are sessions missing?", "sum(stillguard_sessions - stillguard_live_sessions)"),
)
"""What the metrics are there to answer, and the query that does."""

_HEAD = """\
# Metrics

<!-- Written by `python -m server.observability.reference > docs/metrics.md`; a test holds it against the code. -->

`/metrics` speaks Prometheus' text format and OpenMetrics. Units are base units: seconds, bytes, tokens, items. Label values
come from the closed sets below, so the number of series doesn't grow with traffic, and no text or key is ever among them. Every
series exists from the start, counters at 0. A server is one process with its own numbers: scrape each, and aggregate by `job`.

The dashboard is [stillguard.json](../helm/stillguard/dashboards/stillguard.json); the alerts are
[alerts.yaml](../helm/stillguard/files/alerts.yaml), each with a section in [playbooks.md](playbooks.md).

"""


def registered() -> list[Metric]:
    """Every family of a server that has just started, in the order of registration."""
    registry = CollectorRegistry()
    metrics = Metrics(registry)
    # The values are the operator's; the page only says which labels there are.
    metrics.describe(artifact=ArtifactId("", "", ""), policies="", teacher="")
    return list(registry.collect())


def render(families: Iterable[Metric]) -> str:
    """The page, as Markdown."""
    families = list(families)
    ours = [family for family in families if family.name.startswith(PREFIX.rstrip("_"))]
    lines = ["## What they answer", "", "| question | query |", "|---|---|"]
    # A bar inside a table's cell ends the cell, even between backquotes.
    lines += [f"| {question} | `{query.replace('|', chr(92) + '|')}` |" for question, query in QUESTIONS]
    lines += ["", "## Series", ""]
    for family in ours:
        lines += _section(family)
    lines += [
        "## The process",
        "",
        "From the Prometheus client, on every server:",
        "",
        "| name | type | meaning |",
        "|---|---|---|",
    ]
    lines += [f"| `{_name(family)}` | {family.type} | {family.documentation} |" for family in families if family not in ours]
    return _HEAD + "\n".join(lines) + "\n"


def _section(family: Metric) -> list[str]:
    lines = [f"### `{_name(family)}`", "", f"{family.type.capitalize()}. {family.documentation}", ""]
    for label, values in _labels(family).items():
        is_closed = family.type != "info"
        lines.append(f"- `{label}`: " + (", ".join(f"`{value}`" for value in values) if is_closed else "as configured"))
    if family.type == "histogram":
        bounds = dict.fromkeys(sample.labels["le"] for sample in family.samples if sample.name.endswith("_bucket"))
        lines.append(f"- `le`: {', '.join(bounds)}")
    return [*lines, ""] if lines[-1] else lines


def _labels(family: Metric) -> dict[str, list[str]]:
    """Label → its values, each once, in the order of registration."""
    found: dict[str, dict[str, None]] = {}
    for sample in family.samples:
        for label, value in sample.labels.items():
            if label != "le":
                found.setdefault(label, {})[value] = None
    return {label: list(values) for label, values in found.items()}


def _name(family: Metric) -> str:
    suffix = {"counter": "_total", "info": "_info"}.get(family.type, "")
    return f"{family.name}{suffix}"


if __name__ == "__main__":
    sys.stdout.write(render(registered()))
