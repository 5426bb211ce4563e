"""Three pictures of a cascade, as PNG files. Drawn without pyplot: no global state, no display."""

from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from distill.cascade.operating_points import OperatingPoint
from distill.cascade.selective import RiskCoverage
from server.core.taxonomy import CATEGORIES

_BINS = 10


def quality_against_escalation(points: list[OperatingPoint], path: Path) -> None:
    """Pooled AU-PRC over the share of traffic that is escalated. ``points`` hold ``student``, ``teacher`` and ``oracle``."""
    by_name = {point.name: point for point in points}
    student, teacher, oracle = (by_name[name].quality["pooled"]["au_prc"] for name in ("student", "teacher", "oracle"))
    figure, axes = _figure(1, 1, size=(7, 4.5))
    (axis,) = axes
    widest = max(point.escalated for point in points if "@" in point.name or point.name == "chosen") or 0.01
    for prefix, marker in (("cascade", "o-"), ("router", "s--")):
        line = sorted((p.escalated, p.quality["pooled"]["au_prc"]) for p in points if p.name.startswith(prefix + "@"))
        if line:
            shares, quality = zip((0.0, student), *line, strict=True)
            axis.plot(np.array(shares) * 100, quality, marker, label="bands" if prefix == "cascade" else prefix)
    if "chosen" in by_name:
        axis.plot(by_name["chosen"].escalated * 100, by_name["chosen"].quality["pooled"]["au_prc"], "*", ms=14, label="chosen")
    at_widest = student + widest * (teacher - student)
    axis.plot([0, widest * 100], [student, at_widest], ":", color="grey", label="chance (straight to the teacher)")
    axis.axhline(teacher, color="tab:red", lw=1, label="teacher alone")
    axis.axhline(oracle, color="tab:green", lw=1, label="oracle")
    axis.set(xlabel="escalated, % of traffic", ylabel="AU-PRC, pooled", title="Quality against escalation")
    axis.legend(fontsize=8)
    figure.savefig(path)


def risk_against_coverage(curve: RiskCoverage, chosen_coverage: float, path: Path) -> None:
    figure, axes = _figure(1, 1, size=(7, 4.5))
    (axis,) = axes
    axis.plot(curve.coverage * 100, curve.risk * 100, label=f"student, AURC {curve.aurc:.4f}")
    axis.axvline(chosen_coverage * 100, color="grey", ls="--", lw=1, label="chosen bands")
    axis.set(xlabel="decided by the student alone, % of traffic", ylabel="wrong among it, %", title="Risk against coverage")
    axis.legend(fontsize=8)
    figure.savefig(path)


def reliability(student: np.ndarray, teacher: np.ndarray, labels: np.ndarray, path: Path) -> None:
    """Per category, how often a score was right, in bins of equal mass. Scores and labels are (N, C)."""
    figure, axes = _figure(2, (len(CATEGORIES) + 1) // 2, size=(12, 6))
    for c, (axis, name) in enumerate(zip(axes, CATEGORIES, strict=False)):
        axis.plot([0, 1], [0, 1], color="grey", lw=1)
        for scores, who in ((student, "student"), (teacher, "teacher")):
            means, frequencies = reliability_bins(scores[:, c], labels[:, c])
            axis.plot(means, frequencies, "o-", ms=3, label=who)
        axis.set(title=f"{name} ({int((labels[:, c] == 1).sum())} positives)", xlim=(0, 1), ylim=(0, 1))
    axes[0].legend(fontsize=8)
    figure.supxlabel("score")
    figure.supylabel("share of positives")
    figure.savefig(path)


def reliability_bins(scores: np.ndarray, labels: np.ndarray) -> tuple[list[float], list[float]]:
    """Mean score and share of positives in at most ten bins of equal mass, in order of score; unknown ones are left out."""
    known = ~(np.isnan(labels) | np.isnan(scores))
    scores, labels = scores[known], labels[known]
    parts = [part for part in np.array_split(np.argsort(scores, kind="stable"), _BINS) if len(part)]
    return [float(scores[part].mean()) for part in parts], [float(labels[part].mean()) for part in parts]


def _figure(rows: int, columns: int, *, size: tuple[float, float]):
    figure = Figure(figsize=size, dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    for axis in axes:
        axis.grid(alpha=0.3)
    return figure, list(axes)
