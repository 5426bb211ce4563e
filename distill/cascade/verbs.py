"""``python -m distill cascade``: its flags, and load → choose → measure → save."""

import sys
from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import Any, get_args

from distill.cascade.aims import Aim
from distill.cascade.budget import Objective
from distill.cascade.choose import Target
from distill.cascade.operating_points import Prices
from distill.cascade.opinions import Opinions, join
from distill.cascade.report import economics, save, table
from distill.cascade.score_file import ScoredTexts, load_scores
from distill.policy_file import write_numbers
from server.core.errors import ConfigurationError
from server.core.policy import DEFAULT_POLICY_FILE, Policy, load_policies

HELP = "choose thresholds and unsure bands from both opinions on dev, and measure them on test"
DESCRIPTION = (
    "Choose thresholds and unsure bands on dev for a stated aim and a stated budget or risk, and measure on test what they "
    "are worth and what they cost. Needs `python -m export score` and `label` on both splits."
)


def add_flags(parser: ArgumentParser, *, teacher_help: str) -> None:
    add = parser.add_argument
    add("--scores-dev", type=Path, required=True, help="score file of `python -m export score --split dev`")
    add("--scores-test", type=Path, required=True, help="score file of `python -m export score --split test`")
    add("--teacher", required=True, help=teacher_help)
    add("--signals", type=Path, default=Path("runs/signals"), help="signal store (default: runs/signals)")
    add("--policies", type=Path, default=DEFAULT_POLICY_FILE, help="its [default] policy says what is asked and what stands")
    add("--aim", default="best-f1", help="best-f1, max-fpr=R or min-precision=R (default: best-f1)")
    target = parser.add_mutually_exclusive_group()
    target.add_argument("--budget", type=float, default=0.05, help="largest share of traffic to escalate (default: 0.05)")
    target.add_argument("--joint-risk", type=float, metavar="R", help="expected P(wrong and not escalated) of at most R")
    target.add_argument("--selective-risk", type=float, metavar="R", help="P(wrong | not escalated) of at most R")
    add(
        "--objective",
        choices=get_args(Objective),
        default="verdicts",
        help="what a budget's bands shall be best at on dev: the fewest wrong verdicts, or the highest pooled AU-PRC, as for a "
        "review queue in order of score (default: verdicts)",
    )
    add("--delta", type=float, default=0.1, help="chance at which --selective-risk may fail (default: 0.1)")
    add(
        "--prior",
        type=float,
        help="share of your traffic that violates something (default: as in the texts drawn)",
    )
    add("--student-core-s", type=float, help="measured core-seconds that the student spends on a text")
    add(
        "--teacher-core-s", type=float, help="measured core-seconds that the teacher spends on a text and one question about it"
    )
    add("--question-core-s", type=float, help="measured core-seconds that each further question about a text costs")
    add("--core-hour-price", type=float, help="price of one core for one hour, in any currency")
    add("--router", action="store_true", help="also fit a learned router on dev and compare it with the bands on test")
    add("--write-policy", action="store_true", help="put thresholds, bands and weight into the policy file")
    add("--out", type=Path, required=True, help="folder for cascade.json and the pictures")


def cascade(arguments: Namespace) -> dict[str, Any]:
    """Raises:
    ConfigurationError: the two score files don't belong together, nothing was labelled by the teacher, or a promise can't
        be kept.
    """
    dev_scores, test_scores = load_scores(arguments.scores_dev), load_scores(arguments.scores_test)
    if dev_scores.artifact_hash != test_scores.artifact_hash:
        raise ConfigurationError("the two score files are of different artefacts: score both splits with one")
    policy = load_policies(arguments.policies)["default"]
    dev, test = _opinions(arguments, policy, dev_scores, test_scores)
    result = economics(
        dev,
        test,
        aim=Aim.parse(arguments.aim),
        target=_target(arguments),
        policy=policy,
        prices=_prices(arguments),
        with_router=arguments.router,
    )
    result.record.update(
        artifact_hash=dev_scores.artifact_hash,
        teacher=arguments.teacher,
        prior=arguments.prior,
        without_signals={"dev": len(dev_scores) - len(dev), "test": len(test_scores) - len(test)},
    )
    save(result, test, arguments.out)
    if arguments.write_policy:
        weight = result.choice.teacher_weight or None  # a policy has no 0: no category has a band then
        write_numbers(arguments.policies, "default", **result.choice.policy_numbers(), teacher_weight=weight)
    sys.stdout.write(table(result))
    return {
        "report": str(arguments.out / "cascade.json"),
        **result.choice.policy_numbers(),
        "teacher_weight": result.choice.teacher_weight,
        "escalated": {split: result.record[split]["escalated"] for split in ("dev", "test")},
        "gap_target": result.record["gap_target"],
    }


def _opinions(arguments: Namespace, policy: Policy, *scored: ScoredTexts) -> list[Opinions]:
    from distill.teacher.saved import load_calibration, signal_store

    calibration = load_calibration(arguments.teacher)
    if calibration is None:
        raise ConfigurationError("the teacher is not calibrated yet: run calibrate-teacher first")
    signals = signal_store(arguments.signals, arguments.teacher, policy)
    return [
        join(texts, signals, calibration, teacher_may_clear=policy.teacher_may_clear, prior=arguments.prior) for texts in scored
    ]


def _target(arguments: Namespace) -> Target:
    if arguments.joint_risk is not None:
        return Target("joint-risk", arguments.joint_risk)
    if arguments.selective_risk is not None:
        return Target("selective-risk", arguments.selective_risk, arguments.delta)
    return Target("budget", arguments.budget, objective=arguments.objective)


def _prices(arguments: Namespace) -> Prices | None:
    given = (arguments.student_core_s, arguments.teacher_core_s, arguments.question_core_s, arguments.core_hour_price)
    if None not in given:
        return Prices(*given)
    if any(value is not None for value in given):
        raise ConfigurationError(
            "a cost needs all of --student-core-s, --teacher-core-s, --question-core-s and --core-hour-price"
        )
    return None
