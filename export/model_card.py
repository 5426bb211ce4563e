"""MODEL_CARD.md, written from what was measured: no figure in it was typed by hand."""

from collections.abc import Mapping
from typing import Any

from server.core.artifact import Precision
from server.core.policy import Policy

_COLUMNS = ("positives", "negatives", "au_prc", "auroc", "f1", "ece", "recall_at_1pct_fpr")
_TITLES = ("positives", "negatives", "AU-PRC", "AUROC", "F1 at block_at", "ECE", "recall at 1 % FPR")

_USE = """\
## What it is for

A first, fast judge of short English texts sent to or by an assistant: one independent score per harm category. It is made
to work beside a stronger judge (the teacher): scores inside a policy's unsure band should be escalated, not trusted.

It was not made to decide about people, and it errs: on dialects and reclaimed words, on quotation and counter-speech, on
languages other than English, and on the categories below that have few positives. Read the row before you trust the column.
"""


def model_card(
    *,
    version: str,
    precision: Precision,
    size_bytes: int,
    max_tokens: int,
    policy: Policy,
    proof: Mapping[str, Any],
    report: Mapping[str, Any] | None,
    split: str,
    provenance: Mapping[str, Any],
) -> str:
    """The card as Markdown.

    Args:
        proof: the ladder's figures by name.
        report: ``distill.metrics.evaluate`` on ``split``; None for an uncalibrated export.
        provenance: the checkpoint's ``provenance.json``; any of ``base, teacher, data, licences, extra, pool_with, settings,
            earlier`` may be absent.
    """
    parts = [
        f"# Stillguard student {version} ({precision})\n",
        f"{precision.upper()} ONNX, {size_bytes / 1e6:.1f} MB, windows of up to {max_tokens} tokens. "
        f"Base: {provenance.get('base', 'unknown')}. Teacher: {_teachers(provenance)}.\n",
        _USE,
        _quality(report, split, policy),
        "## Against FP32\n\nMeasured at export, each graph calibrated on its own logits.\n",
        _table(("figure", "value"), [(name, _number(value)) for name, value in proof.items()]),
        _training(provenance),
    ]
    return "\n".join(parts)


def _quality(report: Mapping[str, Any] | None, split: str, policy: Policy) -> str:
    if report is None:
        return (
            "## Quality\n\n**Not measured, not calibrated.** This export had no labelled texts: its scores are plain sigmoids "
            "and say nothing about probability. For plumbing tests only.\n"
        )
    rows = [("**pooled**", report["pooled"]), *report["categories"].items()]
    sets = report.get("datasets", {})
    return "\n".join(
        [
            f"## Quality on {split}\n",
            f"{report['rows']} texts; unknown labels are left out; thresholds of policy `{policy.id}` version "
            f"{policy.version}. The calibration was fitted on the same split; the best checkpoint was chosen on it, and so are "
            "thresholds that `distill` chooses. Expect a little less on other texts.\n",
            _table(("category", *_TITLES), [_row(name, figures) for name, figures in rows]),
            "### By data set\n",
            _table(("data set", *_TITLES), [_row(name, figures) for name, figures in sets.items()]),
        ]
    )


def _runs(provenance: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The trainings that made the student, the first one first."""
    return [*provenance.get("earlier", ()), provenance]


def _teachers(provenance: Mapping[str, Any]) -> str:
    """Of any of its trainings: what a student learnt from one, it goes on with."""
    return ", ".join(dict.fromkeys(run["teacher"] for run in _runs(provenance) if run.get("teacher"))) or "none"


def _training(provenance: Mapping[str, Any]) -> str:
    runs = _runs(provenance)
    if len(runs) == 1:
        return "\n".join(["## Training\n", *_run(provenance)])
    parts = ["## Training\n", f"{len(runs)} runs, each from where the one before it ended.\n"]
    for number, run in enumerate(runs, 1):
        parts += [f"### Run {number}\n", *_run(run)]
    return "\n".join(parts)


def _run(provenance: Mapping[str, Any]) -> list[str]:
    data, licences = provenance.get("data") or {}, provenance.get("licences") or {}
    extra = provenance.get("extra") or {}
    parts = []
    if data:
        columns = ("data set", "rows", "licence")
        parts.append(_table(columns, [(name, str(rows), licences.get(name, "see source")) for name, rows in data.items()]))
    else:
        parts.append("The checkpoint doesn't say what it was trained on.\n")
    if extra.get("rows"):
        parts.append(f"{extra['rows']} of the rows were given beside them: {', '.join(extra['files'])}.\n")
    if student := provenance.get("pool_with"):
        parts.append(f"Its soft labels are the pooled opinion of its teacher and of an earlier student, `{student}`.\n")
    if settings := provenance.get("settings"):
        parts.append(_table(("setting", "value"), [(name, str(value)) for name, value in settings.items()]))
    return parts


def _row(name: str, figures: Mapping[str, Any]) -> tuple[str, ...]:
    return (name, *(_number(figures[column]) for column in _COLUMNS))


def _number(value: float | None) -> str:
    if value is None:
        return "–"
    return str(value) if isinstance(value, int) else f"{value:.4g}"


def _table(titles: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    lines = [titles, ("---",) * len(titles), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)
