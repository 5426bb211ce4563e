"""Climbing the ladder: which graph is put on which rung of :mod:`export.proof`, and on which texts."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from distill.calibrate import apply_calibration, fit_calibration
from export.proof import (
    ExportRefused,
    Limits,
    check_columns,
    check_company,
    check_quality,
    check_shapes,
    check_structure,
    check_values,
)
from export.reference import ReferenceSet
from export.runner import Windows, open_session, speedup, spread_sample, text_logits
from server.core.artifact import Precision
from server.core.calibration import IDENTITY, Calibration
from server.core.errors import ConfigurationError
from server.core.policy import Policy

VALUES_TEXTS = 64
COMPANY_TEXTS = 512
"""How many texts, spread over the reference set, each rung is tried on. The speed is measured on ``VALUES_TEXTS``."""


def prove_graphs(
    graphs: Mapping[Precision, Path], model: Any, windows: Windows, *, max_tokens: int, limits: Limits, threads: int = 1
) -> dict[str, Any]:
    """Names, axes, shapes and values of each graph (precision → file). Returns the figures.

    Raises:
        ExportRefused: with every failure that could be found; a graph with wrong names or axes isn't run.
    """
    structure = [f"{precision}: {failure}" for precision, path in graphs.items() for failure in check_structure(path)]
    if structure:
        raise ExportRefused(structure)
    sample, _ = spread_sample(windows, VALUES_TEXTS)
    failures, figures = [], {}
    for precision, path in graphs.items():
        session = open_session(path, threads=threads)
        wrong = check_shapes(session, max_tokens=max_tokens)
        if not wrong:
            atol = limits.atol(precision)
            wrong, figures[f"max_logit_difference_{precision}"] = check_values(session, model, sample.token_ids, atol=atol)
        failures += [f"{precision}: {failure}" for failure in wrong]
    if failures:
        raise ExportRefused(failures)
    return figures


@dataclass(frozen=True, slots=True)
class Judged:
    """The final graph on the reference set: its calibration, its scores (N, C), and the figures of the comparison."""

    calibration: Calibration
    scores: np.ndarray
    figures: dict[str, Any]


def prove_verdicts(
    graphs: Mapping[Precision, Path],
    windows: Windows,
    reference: ReferenceSet,
    policy: Policy,
    *,
    precision: Precision,
    limits: Limits,
    threads: int = 1,
) -> Judged:
    """Columns, quality and company of ``graphs[precision]`` beside ``graphs["fp32"]``; each graph is calibrated on its own
    logits, as it would ship.

    Raises:
        ExportRefused: with every failure of the three rungs.
        ConfigurationError: a graph's logits can't be calibrated: labels of one kind only, or a model that has not learnt.
    """
    sessions = {name: open_session(path, threads=threads) for name, path in graphs.items()}
    logits = {name: text_logits(session, windows) for name, session in sessions.items()}
    calibrations = {name: _calibration(name, values, reference) for name, values in logits.items()}
    scores = {name: apply_calibration(values, calibrations[name]) for name, values in logits.items()}
    failures, figures = check_columns(logits[precision], logits["fp32"], limits)
    quality_failures, quality_figures = check_quality(scores[precision], scores["fp32"], reference.labels, policy, limits)

    sample, chosen = spread_sample(windows, COMPANY_TEXTS)
    alone = apply_calibration(text_logits(sessions[precision], sample, batch_items=1), calibrations[precision])
    company_failures, company_figures = check_company(alone, scores[precision][chosen], policy, limits)
    failures += quality_failures + company_failures
    if failures:
        raise ExportRefused([f"{precision}: {failure}" for failure in failures])
    figures |= quality_figures | company_figures
    figures["speedup_int8_over_fp32"] = None
    if precision == "int8":
        timed, _ = spread_sample(windows, VALUES_TEXTS)
        figures["speedup_int8_over_fp32"] = speedup(sessions["fp32"], sessions["int8"], timed.token_ids)
    return Judged(calibrations[precision], scores[precision], figures)


def _calibration(precision: Precision, logits: np.ndarray, reference: ReferenceSet) -> Calibration:
    if not reference.is_labelled:
        return IDENTITY
    try:
        return fit_calibration(logits, reference.calibration_labels)
    except ConfigurationError as error:
        raise ConfigurationError(f"{precision} logits can't be calibrated: {error}") from None
