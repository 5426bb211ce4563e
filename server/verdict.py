"""From scores, and from what came of an escalation, to a verdict: the one place where a policy decides."""

from server.core.policy import Policy
from server.core.pooling import pooled
from server.core.types import DecidedBy, Escalation, Scores, TextResult, Verdict


def decide(policy: Policy, student: Scores, escalation: Escalation | None, *, windows: int, scanned_chars: int) -> TextResult:
    """The verdict on one text: on both opinions where the teacher gave one. ``on_no_teacher`` applies when it was wanted and
    not had; while its answer is pending the student's verdict holds."""
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
            verdict = policy.on_no_teacher
    return TextResult(verdict, decided_by, categories, scores, windows, scanned_chars, escalation)
