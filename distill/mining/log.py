"""Candidates from the server's feedback log: verdicts joined with what moderators and the teacher say of them.

A moderator outranks the teacher. A teacher's answer is not learnt where the server would not let it clear a text either
(disguised, perhaps speaking to a model, or blocked and of several windows) and it is lower than the student's score: else a
text could teach the next student what it talked the teacher into. Nor is what a teacher says of such a text later on: the
candidate carries ``teacher_may_clear``. Ids come from clients, so one may stand for two different
texts: a correction that doesn't say which it is about is left out.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable
from datetime import datetime
from pathlib import Path

import numpy as np
from tqdm import tqdm

from distill.mining.candidates import Candidate, Reason, unknown
from server.core.canonical import canonicalise
from server.core.errors import ConfigurationError
from server.core.feedback import FeedbackRecord, Record, SkipReason, VerdictRecord, log_files, read_records
from server.core.policy import PolicySet
from server.core.taxonomy import CATEGORIES, CATEGORY_INDEX

DATASET = "feedback_log"
_DOUBT: tuple[Reason, ...] = ("disagreeing", "escalated", "near_threshold")

_Key = tuple[str, int]


def read_log(folder: Path, left_out: Counter[str]) -> list[Record]:
    """All records of a log, oldest file first, with a progress bar; lines that can't be read are counted.

    Raises:
        ConfigurationError: there is no log in the folder.
    """
    files = log_files(folder)
    if not files:
        raise ConfigurationError(f"there is no feedback log in {folder}")
    skipped: Counter[SkipReason] = Counter()
    records = [record for path in tqdm(files, desc="log", unit="file") for record in read_records(path, skipped)]
    left_out.update({f"line_{why}": count for why, count in skipped.items()})
    return records


def candidates_from_log(records: Iterable[Record], policies: PolicySet, left_out: Counter[str]) -> list[Candidate]:
    """One candidate per verdict or correction that has its text, the newest first; what can't be used is counted in
    ``left_out``.

    Args:
        policies: has ``default``, which stands in for a policy that it doesn't know.
    """
    verdicts: dict[_Key, dict[str, VerdictRecord]] = defaultdict(dict)
    corrections: list[FeedbackRecord] = []
    for record in records:
        if isinstance(record, VerdictRecord):
            verdicts[record.id, record.index][record.text_key] = record
        else:
            corrections.append(record)
    latest: dict[tuple[_Key, str], FeedbackRecord] = {}
    for correction in sorted(corrections, key=lambda record: record.at):
        same_id = verdicts.get((correction.id, correction.index), {})
        if correction.text_key is None and len(same_id) > 1:
            left_out["correction_of_shared_id"] += 1
            continue
        text_key = correction.text_key if correction.text_key is not None else next(iter(same_id), "")
        latest[(correction.id, correction.index), text_key] = correction
    found: list[tuple[datetime, Candidate]] = []
    for (key, text_key), correction in latest.items():
        record = verdicts.get(key, {}).pop(text_key, None)
        text = correction.text if record is None or record.text is None else record.text
        if text is None:
            left_out["correction_without_text"] += 1
            continue
        found.append((correction.at, _moderated(text, correction, record, policies)))
    for record in (record for same_id in verdicts.values() for record in same_id.values()):
        if record.text is None:
            left_out["no_text_kept"] += 1
        else:
            found.append((record.at, _unmoderated(record.text, record, policies)))
    found.sort(key=lambda pair: pair[0], reverse=True)
    return _last_words([candidate for _, candidate in found], left_out)


def _last_words(newest_first: list[Candidate], left_out: Counter[str]) -> list[Candidate]:
    """Without the earlier of two moderators' opinions of one text."""
    heard: set[tuple[str, str]] = set()
    kept = []
    for candidate in newest_first:
        if candidate.source == "moderator":
            if (candidate.role, candidate.text) in heard:
                left_out["correction_superseded"] += 1
                continue
            heard.add((candidate.role, candidate.text))
        kept.append(candidate)
    return kept


def _unmoderated(text: str, record: VerdictRecord, policies: PolicySet) -> Candidate:
    answers = _trusted_answers(record, policies)
    return Candidate(
        text=canonicalise(text).text,
        role=record.role,
        dataset=DATASET,
        source="nobody" if np.isnan(answers).all() else "teacher",
        reason=_doubt(record),
        labels=unknown(),
        answers=answers,
        scores=_scores(record),
        teacher_may_clear=_may_clear(record, policies),
    )


def _moderated(text: str, correction: FeedbackRecord, record: VerdictRecord | None, policies: PolicySet) -> Candidate:
    """``record`` is None where the verdict itself wasn't logged."""
    labels = _labels(correction)
    answers = unknown()
    # After a bare "block", a teacher that may have said No is no answer to what it is blocked for, now or later.
    is_explained = record is not None and not np.isnan(labels).all()
    if is_explained:
        answers = np.where(np.isnan(labels), _trusted_answers(record, policies), np.nan)
    return Candidate(
        text=canonicalise(text).text,
        role=correction.role if record is None else record.role,
        dataset=DATASET,
        source="nobody" if np.isnan(labels).all() else "moderator",
        reason="overturned" if _overturns(correction, labels, record) else _doubt(record),
        labels=labels,
        answers=answers,
        scores=unknown() if record is None else _scores(record),
        teacher_may_clear=is_explained and _may_clear(record, policies),
    )


def _labels(correction: FeedbackRecord) -> np.ndarray:
    """What the moderator said, category by category. ``allow`` says that none is violated. ``block`` without labels
    confirms what the verdict named. Labels hold against both."""
    labels = unknown()
    if correction.verdict == "allow":
        labels[:] = 0
    elif correction.verdict == "block" and not correction.labels:
        labels[[CATEGORY_INDEX[name] for name in correction.categories]] = 1
    for name, is_violated in correction.labels.items():
        labels[CATEGORY_INDEX[name]] = is_violated
    return labels


def _overturns(correction: FeedbackRecord, labels: np.ndarray, record: VerdictRecord | None) -> bool:
    violated = np.isin(CATEGORIES, correction.categories)
    was = record.verdict if record is not None else "block" if correction.categories else "allow"
    is_other_verdict = correction.verdict is not None and was not in ("review", correction.verdict)
    return is_other_verdict or bool(((labels == 1) & ~violated | (labels == 0) & violated).any())


def _doubt(record: VerdictRecord | None) -> Reason:
    return next((reason for reason in _DOUBT if record is not None and reason in record.reasons), "sampled")


def _scores(record: VerdictRecord) -> np.ndarray:
    return np.array([record.student_scores[name] for name in CATEGORIES], dtype=np.float32)


def _trusted_answers(record: VerdictRecord, policies: PolicySet) -> np.ndarray:
    """The teacher's, but for a No that the server would not have let it lift a block with: a text could have asked for it."""
    answers = unknown()
    if record.teacher is None:
        return answers
    may_clear = _may_clear(record, policies)
    for name, score in record.teacher.scores.items():
        if may_clear or score >= record.student_scores[name]:
            answers[CATEGORY_INDEX[name]] = score
    return answers


def _may_clear(record: VerdictRecord, policies: PolicySet) -> bool:
    """Whether the server would let a teacher lift the student's block of it, or there is none to lift."""
    policy = policies[record.policy_id if record.policy_id in policies else "default"]
    # How many windows were blocked isn't logged; where the teacher decided, the server has looked.
    is_bounded = record.windows == 1 or record.decided_by == "teacher"
    may_clear = (policy.teacher_may_clear and is_bounded) or not policy.violated(record.student_scores)
    return may_clear and not record.is_disguised and not policy.suspects_injection(record.student_scores)
