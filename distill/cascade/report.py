"""The economics of one cascade: chosen on dev, measured on test, as one JSON record, a table and three pictures."""

import dataclasses
import json
from pathlib import Path
from typing import Any, get_args

import numpy as np

from distill.cascade.aims import Aim
from distill.cascade.bands import is_escalated, text_doubts
from distill.cascade.choose import Choice, Target, choose
from distill.cascade.operating_points import TARGET_GAP, TARGET_RATE, Bench, OperatingPoint, Prices, gaps, rate_bands
from distill.cascade.opinions import Opinions, is_labelled, is_wrong
from distill.cascade.router import compare, fit_router
from distill.cascade.selective import RiskCoverage, risk_coverage
from distill.metrics import expected_calibration_error
from server.core.policy import AskAbout, Policy
from server.core.taxonomy import CATEGORIES


@dataclasses.dataclass(frozen=True, slots=True)
class Economics:
    """What was chosen and what it is worth on test."""

    choice: Choice
    points: list[OperatingPoint]
    curve: RiskCoverage
    record: dict[str, Any]


def economics(
    dev: Opinions, test: Opinions, *, aim: Aim, target: Target, policy: Policy, prices: Prices | None, with_router: bool
) -> Economics:
    """Choose on dev, measure on test.

    Args:
        policy: gives what the choice doesn't: wording, names.

    Raises:
        ConfigurationError: dev is too small for the target.
    """
    choice = choose(dev, aim, target, policy.ask_about)
    bench = Bench(test, choice, with_numbers(policy, choice), prices)
    by_rate = rate_bands(dev, choice, target.objective, policy.ask_about)
    cascades = {rate: bench.cascade(f"cascade@{rate:g}", bands) for rate, bands in by_rate.items()}
    student, teacher, chosen = bench.student(), bench.teacher(), bench.cascade("chosen", choice.bands)
    points = [student, *cascades.values(), chosen, bench.both(), teacher, bench.oracle()]
    labelled = test.take(is_labelled(test.labels))
    curve = risk_coverage(
        text_doubts(labelled.student, choice.block_at, choice.helped, labelled.keeps_block),
        is_wrong(labelled.student, labelled.labels, choice.block_at),
        labelled.weights,
    )
    record = {
        "aim": str(aim),
        "target": dataclasses.asdict(target),
        "dev": _sample(dev, choice),
        "test": _sample(test, choice),
        **choice.policy_numbers(),
        "aim_met": {name: threshold.is_met for name, threshold in zip(CATEGORIES, choice.thresholds, strict=True)},
        "ask_about": policy.ask_about,
        "teacher_weight": choice.teacher_weight,
        "helped": dict(zip(CATEGORIES, choice.helped.tolist(), strict=True)),
        "otherwise": _otherwise(test, choice, policy, by_rate[TARGET_RATE]),
        "points": [point.to_json() for point in points],
        "gaps": {f"{rate:g}": gaps(student, teacher, point) for rate, point in cascades.items()},
        "gap_target": {"rate": TARGET_RATE, "closed_gap": TARGET_GAP, **gaps(student, teacher, cascades[TARGET_RATE])},
        "calibration": {name: _calibration(test, c) for c, name in enumerate(CATEGORIES)},
        "risk_coverage": {
            "aurc": curve.aurc,
            "e_aurc": curve.e_aurc,
            "augrc": curve.augrc,
            "curve": curve.thinned(),
        },
        "router": None,
    }
    if with_router and (router := fit_router(dev, choice, tuple(by_rate))) is not None:
        compared = compare(router, by_rate, bench)
        record["router"] = [entry | {"router": entry["router"].to_json()} for entry in compared]
        points += [entry["router"] for entry in compared]
    return Economics(choice, points, curve, record)


def _otherwise(test: Opinions, choice: Choice, policy: Policy, bands: np.ndarray) -> list[dict[str, Any]]:
    """These bands under each way to ask and to answer, pooled or by the teacher's word alone."""
    records = []
    for ask_about in get_args(AskAbout):
        for weight in dict.fromkeys((choice.teacher_weight, 1.0)):
            other = dataclasses.replace(choice, teacher_weight=weight)
            asking = dataclasses.replace(with_numbers(policy, other), ask_about=ask_about)
            point = Bench(test, other, asking, None).cascade("cascade", bands)
            records.append(
                {
                    "ask_about": ask_about,
                    "teacher_weight": weight,
                    "escalated": point.escalated,
                    "questions": point.questions,
                    "au_prc": point.quality["pooled"]["au_prc"],
                    "wrong": point.wrong,
                }
            )
    return records


def with_numbers(policy: Policy, choice: Choice) -> Policy:
    """The policy with the chosen thresholds and bands."""
    numbers = zip(policy.rules, choice.block_at.tolist(), choice.bands.tolist(), strict=True)
    rules = (dataclasses.replace(rule, block_at=block_at, unsure=(low, high)) for rule, block_at, (low, high) in numbers)
    return dataclasses.replace(policy, rules=tuple(rules))


def save(result: Economics, test: Opinions, out: Path) -> None:
    """``cascade.json``, ``quality.png``, ``risk_coverage.png`` and ``reliability.png`` into the folder ``out``."""
    from distill.cascade import pictures

    out.mkdir(parents=True, exist_ok=True)
    (out / "cascade.json").write_text(json.dumps(result.record, indent=1) + "\n")
    (chosen,) = (point for point in result.points if point.name == "chosen")
    pictures.quality_against_escalation(result.points, out / "quality.png")
    pictures.risk_against_coverage(result.curve, 1 - chosen.escalated, out / "risk_coverage.png")
    pictures.reliability(test.student, test.teacher, test.labels, out / "reliability.png")


def table(result: Economics) -> str:
    """The economics as a Markdown table, one line per operating point."""
    head = ["", "escalated", "AU-PRC", *CATEGORIES, "F1", "wrong", "missed", "false blocks", "cost / 1,000"]
    lines = [head, ["---"] * len(head)]
    for point in result.points:
        quality = point.quality
        lines.append(
            [
                point.name,
                f"{point.escalated:.1%}",
                _number(quality["pooled"]["au_prc"]),
                *(_number(quality["categories"][name]["au_prc"]) for name in CATEGORIES),
                _number(quality["pooled"]["f1"]),
                *("–" if share is None else f"{share:.1%}" for share in (point.wrong, point.missed, point.false_blocks)),
                "–" if point.cost_per_1000_texts is None else f"{point.cost_per_1000_texts:.3g}",
            ]
        )
    closed = result.record["gap_target"]
    verdicts = [
        f"{name} {'–' if gap['closed_gap'] is None else format(gap['closed_gap'], '.0%')} {_WORD[gap['is_met']]}"
        for name, gap in [("pooled", closed["pooled"]), ("macro", closed["macro"]), *closed["categories"].items()]
    ]
    rows = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    harmful, of_labelled = (result.record["test"][name] for name in ("harmful", "harmful_of_labelled"))
    mix = f"harmful: {harmful:.1%} of the traffic, {of_labelled:.1%} of its labelled texts, which quality is of"
    return f"{rows}\n\n{mix}\nclosed gap at {TARGET_RATE:.0%} escalated: {'; '.join(verdicts)}\n"


_WORD = {True: "(met)", False: "(not met)", None: "(no figure)"}


def _calibration(opinions: Opinions, c: int) -> dict[str, float | int | None]:
    """Of one category's known labels: how far scores lie from frequencies, and whether both models mean the same traffic."""
    known = ~(np.isnan(opinions.labels[:, c]) | np.isnan(opinions.teacher[:, c]))
    labels, scores = opinions.labels[known, c], {"student": opinions.student[known, c], "teacher": opinions.teacher[known, c]}
    record = {"labels": int(known.sum()), "positive_share": float(labels.mean()) if known.any() else None}
    for who, column in scores.items():
        record[f"{who}_mean"] = float(column.mean()) if known.any() else None
        record[f"{who}_ece"] = expected_calibration_error(column, labels)
    return record


def _sample(opinions: Opinions, choice: Choice) -> dict[str, Any]:
    escalated = is_escalated(opinions.student, choice.block_at, choice.bands, opinions.keeps_block)
    labelled, is_harmful = is_labelled(opinions.labels), (opinions.labels == 1).any(axis=1)
    return {
        "texts": len(opinions),
        "labelled": int(labelled.sum()),
        "harmful": float(np.average(is_harmful, weights=opinions.weights)),
        "harmful_of_labelled": float(np.average(is_harmful[labelled], weights=opinions.weights[labelled])),
        "escalated": float(np.average(escalated, weights=opinions.weights)),
    }


def _number(figure: float | None) -> str:
    return "–" if figure is None else f"{figure:.3f}"
