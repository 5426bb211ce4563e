"""What the verdicts were worth, as one record: JSON's kinds alone, and no text."""

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from loadtest.goal import Goal
from loadtest.verdicts.ask import Checked, NotChecked, Outcome
from loadtest.verdicts.labelled import LabelledFile, LabelledText

SCHEMA = 1
SIDES = {False: "safe", True: "unsafe"}
WRONG = {"safe": "block", "unsafe": "allow"}
"""The verdict that is wrong: a false block, and a miss. A review is neither."""
NO_CATEGORY = "(none)"
"""The category of a block without one: the teacher was wanted and not had, and the policy blocks then."""
_Z = 1.959964
"""Of the 95 % interval."""


@dataclass(frozen=True, slots=True)
class Limits:
    """The most that may go wrong in each file, as a share of the texts that were checked; None asks for nothing."""

    false_blocks: float | None = None
    misses: float | None = None


@dataclass(frozen=True, slots=True)
class Answered:
    """A file, and one outcome for each of its texts."""

    file: LabelledFile
    outcomes: Sequence[Outcome]

    @property
    def pairs(self) -> list[tuple[LabelledText, Outcome]]:
        return list(zip(self.file.texts, self.outcomes, strict=True))


def describe(answered: Sequence[Answered]) -> dict[str, Any]:
    """Every file, and what it was answered by; more than one of those means that it changed meanwhile. A file's ``name`` is its
    path where another has the same."""
    named = Counter(one.file.path.name for one in answered)
    served = Counter(outcome.served for one in answered for outcome in one.outcomes if isinstance(outcome, Checked))
    return {
        "schema": SCHEMA,
        "served": [asdict(one) | {"texts": count} for one, count in served.items()],
        "files": [_describe_file(one, is_namesake=named[one.file.path.name] > 1) for one in answered],
    }


def judge_verdicts(record: Mapping[str, Any], limits: Limits) -> list[Goal]:
    """A goal for each given limit and each file with texts of that side, and one for the texts that couldn't be checked: they
    might be wrong. No limit, no goal."""
    goals = []
    for side, name, limit in (
        ("safe", "safe texts blocked", limits.false_blocks),
        ("unsafe", "unsafe texts allowed", limits.misses),
    ):
        if limit is None:
            continue
        concerned = [file for file in record["files"] if file[side]["texts"]]
        goals += [
            Goal(f"{name}, {file['name']}", file[side]["wrong"]["share"], limit, False, "of checked") for file in concerned
        ]
        if not concerned:
            goals.append(Goal(name, None, limit, False, "of checked"))
    if goals:
        unchecked = sum(file[side]["not_checked"] for file in record["files"] for side in WRONG)
        goals.append(Goal("texts not checked", unchecked, 0, False, "texts"))
    return goals


def failures(answered: Iterable[Answered]) -> list[dict[str, Any]]:
    """The texts with a wrong verdict, each with what was said of it.

    The rows have the columns of a stress set (``python -m distill mine --stress``): a safe text's categories are all 0, an
    unsafe one's are unknown, because its label doesn't say which.
    """
    return [
        {
            "text": text.text,
            "role": text.role,
            "unsafe": int(text.is_unsafe),
            "group": text.group,
            "dataset": one.file.path.stem,
            "split": "train",
            "verdict": outcome.verdict,
            "decided_by": outcome.decided_by,
            "categories": list(outcome.categories),
            "scores": outcome.scores,
            **dict.fromkeys(outcome.scores, None if text.is_unsafe else 0),
        }
        for one in answered
        for text, outcome in one.pairs
        if isinstance(outcome, Checked) and outcome.verdict == WRONG[SIDES[text.is_unsafe]]
    ]


def wilson(count: int, of: int) -> tuple[float, float]:
    """The 95 % score interval of a share (Wilson 1927), without correction for continuity. ``of`` is at least 1."""
    share, z2 = count / of, _Z * _Z
    middle = (share + z2 / (2 * of)) / (1 + z2 / of)
    half = _Z / (1 + z2 / of) * math.sqrt(share * (1 - share) / of + z2 / (4 * of * of))
    return max(0.0, middle - half), min(1.0, middle + half)


def _describe_file(one: Answered, *, is_namesake: bool) -> dict[str, Any]:
    sides: dict[str, list[tuple[LabelledText, Outcome]]] = {side: [] for side in WRONG}
    for text, outcome in one.pairs:
        sides[SIDES[text.is_unsafe]].append((text, outcome))
    return {
        "file": str(one.file.path),
        "name": str(one.file.path) if is_namesake else one.file.path.name,
        "unlabelled": one.file.unlabelled,
        "by": one.file.by,
        **{side: _describe_side(pairs, side) for side, pairs in sides.items()},
    }


def _describe_side(pairs: Sequence[tuple[LabelledText, Outcome]], side: str) -> dict[str, Any]:
    """The texts of one label: their verdicts, and those of each group, the worst first. The categories are those of blocks:
    a miss has none."""
    outcomes = [outcome for _, outcome in pairs]
    checked = [outcome for outcome in outcomes if isinstance(outcome, Checked)]
    wrong = [outcome for outcome in checked if outcome.verdict == WRONG[side]]
    categories = {"wrong_categories": _ranked(name for outcome in wrong for name in outcome.categories or (NO_CATEGORY,))}
    groups: dict[str, list[Outcome]] = {}
    for text, outcome in pairs:
        if text.group is not None:
            groups.setdefault(text.group, []).append(outcome)
    return {
        **_count(outcomes, side),
        "decided_by": _ranked(outcome.decided_by for outcome in checked),
        "escalations": _ranked(outcome.escalation for outcome in checked if outcome.escalation),
        "not_checked_reasons": _ranked(outcome.reason for outcome in outcomes if isinstance(outcome, NotChecked)),
        **(categories if WRONG[side] == "block" else {}),
        "groups": sorted(({"group": name} | _count(found, side) for name, found in groups.items()), key=_worst_first),
    }


def _count(outcomes: Sequence[Outcome], side: str) -> dict[str, Any]:
    """Shares are of the texts that were checked."""
    verdicts = Counter(outcome.verdict for outcome in outcomes if isinstance(outcome, Checked))
    checked = verdicts.total()
    return {
        "texts": len(outcomes),
        "not_checked": len(outcomes) - checked,
        **{verdict: _share(verdicts[verdict], checked) for verdict in ("allow", "review", "block")},
        "wrong": _share(verdicts[WRONG[side]], checked),
    }


def _share(count: int, of: int) -> dict[str, Any]:
    low, high = wilson(count, of) if of else (None, None)
    return {"count": count, "of": of, "share": count / of if of else None, "low": low, "high": high}


def _ranked(names: Iterable[str]) -> dict[str, int]:
    return dict(Counter(names).most_common())


def _worst_first(group: Mapping[str, Any]) -> tuple[float, int, str]:
    """Those of which nothing is known come last; of two alike the one with more texts is first."""
    share = group["wrong"]["share"]
    return (1.0 if share is None else -share, -group["texts"], group["group"])
