"""``python -m distill mine``: its flags, and read → score → fold → hold out → choose → write."""

import sys
from argparse import ArgumentParser, Namespace
from collections import Counter
from pathlib import Path
from typing import Any

from distill.data import load_split, read_table
from distill.mining.candidates import Candidate
from distill.mining.choose import choose
from distill.mining.fold import fold, near_any
from distill.mining.log import candidates_from_log, read_log
from distill.mining.mined_file import write_mined
from distill.mining.report import summary, table
from distill.mining.stress import failures
from distill.settings_flags import positive
from server.core.canonical import canonicalise
from server.core.errors import ConfigurationError
from server.core.policy import DEFAULT_POLICY_FILE, load_policies

HELP = "turn the feedback log and stress sets into the next training set"
DESCRIPTION = (
    "Turn the server's feedback log, and labelled sets where the student fails, into the next training set: failures first, "
    "near duplicates folded, in balance over categories. See docs/learning.md."
)


def add_flags(parser: ArgumentParser, *, default_data: Path) -> None:
    add = parser.add_argument
    add("--log", type=Path, metavar="DIR", help="the server's feedback log")
    add("--stress", type=Path, nargs="+", default=[], metavar="PARQUET", help="labelled sets; their split `train` is used")
    add("--checkpoint", type=Path, metavar="DIR", help="the student that the stress sets are tried on, calibrated")
    add("--data", type=Path, default=default_data, help=f"the base data: its dev and test stay out (default: {default_data})")
    add("--held-out", type=Path, nargs="+", default=[], metavar="PARQUET", help="other sets to measure on: all of it stays out")
    add("--policies", type=Path, default=DEFAULT_POLICY_FILE, help="policy file of the server that wrote the log")
    add("--rows", type=positive, default=4000, help="at most this many texts (default: 4000)")
    add("--test-share", type=float, default=0.25, help="share of people's labels kept for measuring (default: 0.25)")
    add("--keep-unjudged", action="store_true", help="keep texts that nobody has judged, for `label` to ask the teacher about")
    add("--out", type=Path, required=True, metavar="PARQUET", help="the training set to write")


def mine(arguments: Namespace) -> dict[str, Any]:
    """Raises:
    ConfigurationError: there is no log, data or student where the flags say, nothing to mine from, or nothing was found.
    """
    if arguments.log is None and not arguments.stress:
        raise ConfigurationError("nothing to mine: give --log, --stress or both")
    left_out: Counter[str] = Counter()
    candidates = _from_log(arguments, left_out) + _from_stress(arguments, left_out)
    usable = [c for c in candidates if arguments.keep_unjudged or c.source != "nobody"]
    left_out["no_label"] += len(candidates) - len(usable)
    kept, lots = fold(usable, left_out)
    held = near_any(kept, _held_out_texts(arguments))
    left_out["held_out"] += len(held)
    free = [i for i in range(len(kept)) if i not in held]
    chosen = [free[i] for i in choose([kept[i] for i in free], arguments.rows, left_out)]
    if not chosen:
        raise ConfigurationError(f"nothing was found to learn from; left out: {dict(+left_out)}")
    mined = [kept[i] for i in chosen]
    splits = ["test" if lots[i] < arguments.test_share else "train" for i in chosen]
    write_mined(arguments.out, mined, splits)
    report = {"out": str(arguments.out), **summary(mined, splits, left_out)}
    sys.stdout.write(table(report))
    return report


def _from_log(arguments: Namespace, left_out: Counter[str]) -> list[Candidate]:
    if arguments.log is None:
        return []
    return candidates_from_log(read_log(arguments.log, left_out), load_policies(arguments.policies), left_out)


def _from_stress(arguments: Namespace, left_out: Counter[str]) -> list[Candidate]:
    if not arguments.stress:
        return []
    if arguments.checkpoint is None:
        raise ConfigurationError("--stress needs --checkpoint: the student to try the sets on")
    from distill.predict import checkpoint_scores

    policy = load_policies(arguments.policies)["default"]
    found = []
    for path in arguments.stress:
        rows = load_split(path, "train")
        if ((rows.labels > 0) & (rows.labels < 1)).any():
            raise ConfigurationError(f"{path}: by softened labels nothing is a failure: a stress set's are 0, 1 or null")
        found += failures(rows, checkpoint_scores(arguments.checkpoint, rows.texts), policy, left_out)
    return found


def _held_out_texts(arguments: Namespace) -> list[str]:
    base = read_table(arguments.data, ("text", "split"))
    texts = base.loc[base["split"] != "train", "text"].tolist()
    for path in arguments.held_out:
        texts += read_table(path, ("text",))["text"].tolist()
    return [canonicalise(text).text for text in texts]
