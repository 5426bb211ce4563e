"""Verbs and their flags. Progress goes to stderr; the last line on stdout is JSON."""

import argparse
import json
import sys
from pathlib import Path

from distill import verbs
from distill.cascade import verbs as cascade_verbs
from distill.mining import verb as mining_verb
from distill.settings_flags import add_flags, between, positive
from server.core.errors import StillguardError
from server.core.policy import DEFAULT_POLICY_FILE

DEFAULT_DATA = Path("../shared/data/moderation.parquet")
OPEN_TEACHER_HELP = "run folder of tune-teacher, a .gguf file, a model folder, or a hub id such as google/shieldgemma-2b"
TEACHER_HELP = f"packed folder such as server/artifacts/teacher, {OPEN_TEACHER_HELP}"
MAX_TEXT_TOKENS_HELP = "a longer text is cut to as many of the teacher's tokens (default: 256)"
SPLITS = ("train", "dev", "test")


def main(argv: list[str]) -> int:
    """Run one verb; returns the exit status. What a user can mend is one line on stderr and status 2."""
    arguments = _parser().parse_args(argv)
    try:
        report = arguments.run(arguments)
    except (StillguardError, OSError) as error:
        print(f"distill {arguments.verb}: {error}", file=sys.stderr)
        return 2
    print(json.dumps(report))
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m distill",
        description="Distil a safety judge into a small student: tune-teacher → calibrate-teacher → label → train → "
        "calibrate → evaluate, then `python -m export`.",
    )
    subparsers = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    _add_teacher_verbs(subparsers)
    _add_student_verbs(subparsers)
    sub = subparsers.add_parser("cascade", help=cascade_verbs.HELP, description=cascade_verbs.DESCRIPTION)
    sub.set_defaults(run=cascade_verbs.cascade)
    cascade_verbs.add_flags(sub, teacher_help=TEACHER_HELP)
    sub = subparsers.add_parser("mine", help=mining_verb.HELP, description=mining_verb.DESCRIPTION)
    sub.set_defaults(run=mining_verb.mine)
    mining_verb.add_flags(sub, default_data=DEFAULT_DATA)
    return parser


def _add_verb(subparsers, name: str, run, text: str, *, reads_data: bool = True) -> argparse.ArgumentParser:
    sub = subparsers.add_parser(name, help=text, description=text)
    sub.set_defaults(run=run)
    if reads_data:
        sub.add_argument("--data", type=Path, default=DEFAULT_DATA, help=f"labelled Parquet file (default: {DEFAULT_DATA})")
    sub.add_argument("--policies", type=Path, default=DEFAULT_POLICY_FILE, help="policy file; its [default] policy is used")
    return sub


def _add_teacher_verbs(subparsers) -> None:
    from distill.teacher.model import PACKAGED_TEACHER
    from distill.teacher.tune import TuneSettings

    sub = _add_verb(subparsers, "tune-teacher", verbs.tune_teacher, "fine-tune an LLM (LoRA) to answer guard prompts; resumes")
    sub.add_argument("--out", type=Path, required=True, help="run folder")
    sub.add_argument("--rows", type=positive, default=60_000, help="texts, drawn in balance over sources (default: 60000)")
    sub.add_argument("--without-seeds", action="store_true", help="leave out the hand-written sentences of distill/seeds.toml")
    sub.add_argument(
        "--signals", type=Path, default=Path("runs/signals"), help="where the half of the pool is that is the teacher's own"
    )
    add_flags(sub, TuneSettings, base=PACKAGED_TEACHER)

    sub = _add_verb(
        subparsers, "calibrate-teacher", verbs.calibrate_teacher, "fit the teacher's margins to human labels on dev"
    )
    sub.add_argument("--teacher", required=True, help=OPEN_TEACHER_HELP)
    sub.add_argument("--rows", type=positive, default=2000, help="dev texts to judge (default: 2000)")
    sub.add_argument("--max-text-tokens", type=positive, default=256, help=MAX_TEXT_TOKENS_HELP)

    sub = _add_verb(
        subparsers,
        "pack-teacher",
        verbs.pack_teacher,
        "write the served form of a tuned teacher: GGUF adapter, manifest",
        reads_data=False,
    )
    sub.add_argument("--teacher", required=True, help="run folder of tune-teacher, calibrated")
    sub.add_argument("--out", type=Path, required=True, help="folder to write; the shipped one is server/artifacts/teacher")
    sub.add_argument("--replace", action="store_true", help="replace the packed teacher in --out, once the new one is whole")

    sub = _add_verb(subparsers, "label", verbs.label, "ask the teacher about texts × categories and keep its signals; resumes")
    sub.add_argument("--teacher", required=True, help=TEACHER_HELP)
    sub.add_argument("--signals", type=Path, default=Path("runs/signals"), help="signal store (default: runs/signals)")
    sub.add_argument("--split", default="train", choices=SPLITS, help="of --data (default: train)")
    sub.add_argument(
        "--rows", type=positive, default=4000, help="how many texts, drawn in balance over sources (default: 4000)"
    )
    sub.add_argument("--all", action="store_true", help="every text of the split, unlabelled ones too: for what `mine` wrote")
    sub.add_argument("--max-text-tokens", type=positive, default=256, help=MAX_TEXT_TOKENS_HELP)
    sub.add_argument("--seed", type=between(0, 2**32 - 1), default=0, help="of the draw (default: 0)")


def _add_student_verbs(subparsers) -> None:
    from distill.head import HeadSettings
    from distill.losses import LossWeights
    from distill.planting import MIN_CHARS
    from distill.student import PACKAGED_STUDENT
    from distill.train_settings import TrainSettings

    sub = _add_verb(
        subparsers, "plant", verbs.plant, "hide labelled harm among harmless texts, for `train --extra` or to measure"
    )
    sub.add_argument("--split", default="train", choices=SPLITS, help="of --data (default: train)")
    sub.add_argument(
        "--rows", type=positive, default=12_000, help="texts to make, three quarters of them harmless (default: 12000)"
    )
    sub.add_argument(
        "--max-chars",
        type=between(MIN_CHARS),
        default=800,
        help="the longest, in characters (default: 800, one window of 256 tokens)",
    )
    sub.add_argument("--seed", type=between(0, 2**32 - 1), default=0, help="of the draw (default: 0)")
    sub.add_argument("--out", type=Path, required=True, metavar="PARQUET", help="the file to write")

    sub = _add_verb(subparsers, "train", verbs.train, "train the student on human labels and the teacher's signals; resumes")
    sub.add_argument("--out", type=Path, required=True, help="run folder; the trained student")
    sub.add_argument(
        "--rows", type=positive, default=60_000, help="training texts, drawn in balance over sources (default: 60000)"
    )
    sub.add_argument("--signal-repeats", type=positive, default=4, help="times a judged text is seen in an epoch (default: 4)")
    sub.add_argument("--without-seeds", action="store_true", help="leave out the hand-written sentences of distill/seeds.toml")
    sub.add_argument(
        "--extra", type=Path, nargs="+", default=[], metavar="PARQUET", help="of `mine` and `plant`, learnt beside"
    )
    sub.add_argument(
        "--extra-repeats", type=positive, default=1, help="times each of their texts is seen in an epoch (default: 1)"
    )
    sub.add_argument("--dev-rows", type=positive, default=4000, help="dev texts per evaluation (default: 4000)")
    sub.add_argument("--teacher", help=f"whose signals to use; without it, human labels alone: {TEACHER_HELP}")
    sub.add_argument("--signals", type=Path, default=Path("runs/signals"), help="signal store (default: runs/signals)")
    sub.add_argument(
        "--pool-with",
        type=Path,
        metavar="STUDENT",
        help="run folder of an earlier student: soft labels are its opinion and the teacher's, pooled as the policy pools them",
    )
    add_flags(sub, TrainSettings, base=PACKAGED_STUDENT)
    add_flags(sub, LossWeights)

    sub = _add_verb(
        subparsers, "refit-head", verbs.refit_head, "fit a student's head anew, its encoder as it is: for labels that came late"
    )
    sub.add_argument("--start-from", required=True, help="run folder of a student, such as `python -m export unpack` makes")
    sub.add_argument("--out", type=Path, required=True, help="run folder; the student with its new head")
    sub.add_argument("--rows", type=positive, default=40_000, help="texts, drawn in balance over sources (default: 40000)")
    sub.add_argument("--seed", type=between(0, 2**32 - 1), default=0, help="of the draw of texts (default: 0)")
    add_flags(sub, HeadSettings)

    sub = _add_verb(
        subparsers, "calibrate", verbs.calibrate, "fit the student's calibration, thresholds and unsure bands on dev"
    )
    sub.add_argument("--checkpoint", type=Path, required=True, help="run folder of train")
    sub.add_argument("--write-policy", action="store_true", help="put the thresholds and bands into the policy file")
    sub.add_argument("--escalation-budget", type=float, default=0.05, help="share of dev texts in a band (default: 0.05)")

    sub = _add_verb(subparsers, "evaluate", verbs.evaluate, "measure a student or a teacher on human labels")
    sub.add_argument("--split", default="test", choices=SPLITS, help="of --data (default: test)")
    sub.add_argument("--rows", type=positive, help="a balanced draw of this many texts instead of the whole split")
    which = sub.add_mutually_exclusive_group(required=True)
    which.add_argument("--checkpoint", type=Path, help="trained student")
    which.add_argument("--teacher", help=TEACHER_HELP)
    sub.add_argument("--max-text-tokens", type=positive, default=256, help=f"teacher only: {MAX_TEXT_TOKENS_HELP}")
    sub.add_argument("--against", type=Path, metavar="DIR", help="an earlier student: what is mended and what is broken")
    sub.add_argument("--out", type=Path, help="also write the report to this file")
