"""The ladder: an export is proven, rung by rung, or refused.

    names → axes → shapes → values → columns → quality → company

Names and axes are read off the graph; nothing above them can be tried on a graph that fails there. Shapes and values are
tried on real windows against torch. Columns and quality compare what the final graph and the FP32 graph make of the reference
set: each category's logits, which needs no labels, then verdicts and AU-PRC, to which a rare category adds next to nothing.
Company asks that a text's verdict doesn't hang on the texts that share its batch, through padding or through rounding that
measures the batch. After optimum's validation ladder (``optimum.exporters.onnx.convert``), with the last three rungs added.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch

from distill.metrics import average_precision, average_precision_per_category
from export.onnx_graph import AXES, INPUTS, OUTPUT
from export.runner import pad
from server.core.artifact import Precision
from server.core.errors import StillguardError
from server.core.policy import Policy
from server.core.taxonomy import CATEGORIES

MIN_LABELS = 20
"""Positives, and negatives, that a category needs for its AU-PRC to count in the mean over categories."""


class ExportRefused(StillguardError):
    """The graph failed its proof. ``failures`` has one line per failure, each with what was wanted and what was found."""

    def __init__(self, failures: list[str]) -> None:
        super().__init__("export refused: " + "; ".join(failures))
        self.failures = tuple(failures)


@dataclass(frozen=True, slots=True)
class Limits:
    """What still passes. ``*_atol`` bound \\|logit − torch's logit\\|; INT8 has none, its verdicts are held instead."""

    fp32_atol: float = 1e-4
    fp16_atol: float = 0.1
    column_correlation: float = 0.95
    au_prc_loss: float = 0.005
    verdict_agreement: float = 0.99

    def atol(self, precision: Precision) -> float | None:
        return {"fp32": self.fp32_atol, "fp16": self.fp16_atol, "int8": None}[precision]


def check_structure(path: Path) -> list[str]:
    """Names, types and axes of the graph's inputs and output. Returns the failures."""
    graph = onnx.load(path, load_external_data=False).graph
    wanted_inputs = {name: (onnx.TensorProto.INT64, list(AXES)) for name in INPUTS}
    wanted_outputs = {OUTPUT: (onnx.TensorProto.FLOAT, [AXES[0], len(CATEGORIES)])}
    return [
        *_compare_values("input", graph.input, wanted_inputs),
        *_compare_values("output", graph.output, wanted_outputs),
    ]


def _compare_values(side: str, found: Any, wanted: dict[str, tuple[int, list[str | int]]]) -> list[str]:
    by_name = {value.name: value.type.tensor_type for value in found}
    if set(by_name) != set(wanted):
        return [f"names: {side}s are {sorted(by_name)}, not {sorted(wanted)}"]
    failures = []
    for name, (element, axes) in wanted.items():
        tensor = by_name[name]
        found_axes = [axis.dim_param or axis.dim_value for axis in tensor.shape.dim]
        if found_axes != axes:
            failures.append(f"axes: {side} {name} has axes {found_axes}, not {axes}")
        if tensor.elem_type != element:
            type_name = onnx.TensorProto.DataType.Name
            failures.append(f"axes: {side} {name} is {type_name(tensor.elem_type)}, not {type_name(element)}")
    return failures


def check_shapes(session: Any, *, max_tokens: int) -> list[str]:
    """Run at four (B, T), the longest window included: float32 (B, C) comes back. Returns the failures."""
    failures = []
    for items, tokens in ((1, 2), (1, max_tokens), (3, max_tokens // 2 + 1), (5, 8)):
        try:
            out = session.run([OUTPUT], pad([[1] * tokens] * items))[0]
        except Exception as error:  # onnxruntime raises a dozen unrelated types
            failures.append(f"shapes: ({items}, {tokens}) fails with {type(error).__name__}")
            continue
        if out.shape != (items, len(CATEGORIES)) or out.dtype != np.float32:
            failures.append(f"shapes: ({items}, {tokens}) gives {out.dtype} {out.shape}, not float32 ({items}, C)")
    return failures


def check_values(session: Any, model: Any, token_ids: list[list[int]], *, atol: float | None) -> tuple[list[str], float]:
    """The graph's logits against torch's, on the same padded batch.

    Args:
        model: the ``StudentForModeration`` that was exported, in eval mode.
        token_ids: B windows.
        atol: the largest difference that passes; None only reports it.

    Returns:
        The failures, and the largest difference (infinite where a logit isn't finite).
    """
    feed = pad(token_ids)
    found = session.run([OUTPUT], feed)[0]
    with torch.inference_mode():
        wanted = model(**{name: torch.from_numpy(array) for name, array in feed.items()}).logits.numpy()
    if not np.isfinite(found).all():
        return [f"values: {int((~np.isfinite(found)).sum())} of {found.size} logits are not finite"], float("inf")
    difference = float(np.abs(found - wanted).max())
    if atol is not None and difference > atol:
        return [f"values: a logit differs from torch's by {difference:.3g}, more than {atol:g}"], difference
    return [], difference


def check_columns(logits: np.ndarray, fp32_logits: np.ndarray, limits: Limits) -> tuple[list[str], dict[str, float | None]]:
    """Each category's logits against the FP32 graph's, both (N, C). Returns the failures, and the least correlation.

    A column that is the same for every text in FP32 already says nothing of the final graph, and isn't compared.
    """
    found = {}
    for name, ours, fp32 in zip(CATEGORIES, logits.T, fp32_logits.T, strict=True):
        if np.ptp(fp32):
            found[name] = float(np.corrcoef(ours, fp32)[0, 1]) if np.ptp(ours) else 0.0
    failures = [
        f"columns: {name} correlates {correlation:.3f} with FP32's, less than {limits.column_correlation:g}"
        for name, correlation in found.items()
        if not correlation >= limits.column_correlation
    ]
    return failures, {"least_column_correlation_with_fp32": min(found.values(), default=None)}


def check_quality(
    scores: np.ndarray, fp32_scores: np.ndarray, labels: np.ndarray, policy: Policy, limits: Limits
) -> tuple[list[str], dict[str, float | None]]:
    """The final graph's scores against the FP32 graph's, both (N, C) and each calibrated on its own logits.

    Returns:
        The failures, and the figures by name. Without labels there is no AU-PRC; verdicts are compared all the same.
    """
    figures: dict[str, float | None] = {}
    failures = []
    for name, figure in (("au_prc", _pooled), ("au_prc_macro", _macro)):
        ours, fp32 = figure(scores, labels), figure(fp32_scores, labels)
        figures |= {name: ours, f"{name}_fp32": fp32}
        if ours is not None and fp32 is not None and fp32 - ours > limits.au_prc_loss:
            failures.append(f"quality: {name} {ours:.4f} is {fp32 - ours:.4f} below FP32's, more than {limits.au_prc_loss:g}")
    agreement = verdict_agreement(scores, fp32_scores, policy)
    figures["verdict_agreement_with_fp32"] = agreement
    if not agreement >= limits.verdict_agreement:
        failures.append(f"quality: {agreement:.2%} of verdicts agree with FP32's, fewer than {limits.verdict_agreement:.0%}")
    return failures, figures


def check_company(
    alone: np.ndarray, batched: np.ndarray, policy: Policy, limits: Limits
) -> tuple[list[str], dict[str, float | None]]:
    """Scores (N, C) of texts that ran alone against the same texts in batches. Returns the failures and the figures."""
    agreement = verdict_agreement(alone, batched, policy)
    figures = {
        "verdict_agreement_alone_or_batched": agreement,
        "max_score_change_by_batch": float(np.abs(alone - batched).max()),
    }
    if not agreement >= limits.verdict_agreement:
        return [f"company: {agreement:.2%} of verdicts survive batching, fewer than {limits.verdict_agreement:.0%}"], figures
    return [], figures


def verdict_agreement(scores: np.ndarray, others: np.ndarray, policy: Policy) -> float:
    """The share of texts, in [0, 1], that both (N, C) block or both don't."""
    block_at = np.array([rule.block_at for rule in policy.rules])
    return float(((scores >= block_at).any(axis=1) == (others >= block_at).any(axis=1)).mean())


def _pooled(scores: np.ndarray, labels: np.ndarray) -> float | None:
    return average_precision(scores.ravel(), labels.ravel())


def _macro(scores: np.ndarray, labels: np.ndarray) -> float | None:
    enough = np.minimum((labels == 1).sum(axis=0), (labels == 0).sum(axis=0)) >= MIN_LABELS
    per_category = average_precision_per_category(scores, labels)
    counted = [per_category[name] for name, counts in zip(CATEGORIES, enough, strict=True) if counts]
    return float(np.mean(counted)) if counted else None
