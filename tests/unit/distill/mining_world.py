"""Made-up records of a feedback log and made-up candidates."""

from datetime import UTC, datetime, timedelta

import numpy as np

from distill.mining.candidates import Candidate, unknown
from server.core.feedback import FeedbackRecord, TeacherOpinion, VerdictRecord
from server.core.taxonomy import CATEGORIES, CATEGORY_INDEX
from server.core.text_keys import text_key

KEY = b"k" * 32
START = datetime(2026, 11, 22, 14, tzinfo=UTC)


def at(second: float) -> datetime:
    return START + timedelta(seconds=second)


def values(**of_category: float) -> np.ndarray:
    """float32 (C,), NaN where no value is given."""
    found = unknown()
    for name, value in of_category.items():
        found[CATEGORY_INDEX[name]] = value
    return found


def verdict(text: str | None = "some text", **changes) -> VerdictRecord:
    """The student blocked it for toxicity, on its own."""
    fields = {
        "at": at(0),
        "id": "request",
        "index": 0,
        "reasons": ("sampled",),
        "role": "user",
        "text": text,
        "text_key": text_key(KEY, text or ""),
        "chars": len(text or ""),
        "windows": 1,
        "is_disguised": False,
        "policy_id": "default",
        "policy_version": "1",
        "artifact_version": "v",
        "artifact_hash": "h",
        "verdict": "block",
        "decided_by": "student",
        "categories": ("toxicity",),
        "student_scores": dict.fromkeys(CATEGORIES, 0.01) | {"toxicity": 0.9},
        "teacher": None,
    }
    return VerdictRecord(**(fields | changes))


def answered(**scores: float) -> TeacherOpinion:
    return TeacherOpinion(outcome="answered", scores=scores, basis="logprobs", identity="teacher")


def correction(verdict: str | None = None, **changes) -> FeedbackRecord:
    fields = {
        "at": at(60),
        "id": "request",
        "index": 0,
        "verdict": verdict,
        "categories": ("toxicity",),
        "labels": {},
        "by": None,
        "note": None,
    }
    return FeedbackRecord(**(fields | changes))


def candidate(text: str, **changes) -> Candidate:
    """A moderator overturned a block for toxicity."""
    fields = {
        "text": text,
        "role": "user",
        "dataset": "feedback_log",
        "source": "moderator",
        "reason": "overturned",
        "labels": np.zeros(len(CATEGORIES), dtype=np.float32),
        "answers": unknown(),
        "scores": np.nan_to_num(values(toxicity=0.9)),
    }
    return Candidate(**(fields | changes))
