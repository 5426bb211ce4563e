"""From scores, and from what came of an escalation, to a verdict: the one place where a policy decides."""

from typing import get_args

from server.core.policy import Policy
from server.core.pooling import pooled
from server.core.taxonomy import CATEGORY_INDEX, Category
from server.core.types import DecidedBy, Escalation, Scores, TextResult, Verdict

_MILDEST_FIRST: tuple[Verdict, ...] = get_args(Verdict)


def decide(policy: Policy, student: Scores, escalation: Escalation | None, *, windows: int, scanned_chars: int) -> TextResult:
    """The verdict on one text: on both opinions where the teacher gave one. Where it was wanted and not had,
    ``on_no_teacher`` may raise the student's verdict and never lowers it: a text could make the teacher fail. While the
    answer is pending the student's verdict holds. ``categories`` are what the scores violate: a raised verdict may have none,
    and one that has some is a block."""
    asked = escalation.scores if escalation else {}
    scores = student | {c: pooled(student[c], score, policy.teacher_weight) for c, score in asked.items()}
    categories = policy.violated(scores)
    verdict: Verdict = "block" if categories else "allow"
    decided_by: DecidedBy
    if escalation is None or escalation.outcome == "pending":
        decided_by = "student"
    elif escalation.outcome == "answered":
        decided_by = "teacher"
    else:
        decided_by = "student_degraded"
        if policy.on_no_teacher != "student":
            verdict = max(verdict, policy.on_no_teacher, key=_MILDEST_FIRST.index)
    return TextResult(verdict, decided_by, categories, scores, windows, scanned_chars, escalation)


def contested(policy: Policy, student: Scores, other: Scores) -> dict[Category, bool]:
    """The categories that one of two opinions would block and the other wouldn't: whether it is the student that would.

    Args:
        other: has scores of some categories or of all; of the rest nothing is said.
    """
    found = {}
    for category, score in other.items():
        rule = policy.rules[CATEGORY_INDEX[category]]
        would_block = rule.is_violated(student[category])
        if would_block != rule.is_violated(score):
            found[category] = would_block
    return found
