"""Soft labels: what a teacher said of training texts, alone or pooled with what an earlier student says of them.

Student and teacher err on different texts, so that both together know more than either (``docs/adr/0014-both-opinions.md``).
A model that learns the pool's opinion keeps some of that: codistillation (Anil et al., "Large scale distributed neural
network training through online distillation", 2018; Zhang et al., "Deep Mutual Learning", 2018), here in turns.
"""

from pathlib import Path

import numpy as np

from distill.calibrate import calibrated_logits
from distill.data import LabelledTexts
from distill.signals import SignalStore, text_digest
from server.core.calibration import Calibration
from server.core.taxonomy import CATEGORIES


def signal_rows(rows: LabelledTexts, store: SignalStore) -> np.ndarray:
    """int64 (N,): each text's row in the store, −1 where the teacher wasn't asked."""
    return store.rows([text_digest(text, role) for text, role in zip(rows.texts, rows.roles, strict=True)])


def teacher_logits(rows: LabelledTexts, store: SignalStore, calibration: Calibration | None) -> np.ndarray:
    """The teacher's margins, calibrated where it has a calibration: float32 (N, C), NaN where it wasn't asked."""
    found = signal_rows(rows, store)
    logits = np.full((len(rows), len(CATEGORIES)), np.nan, dtype=np.float32)
    margins = store.margins()[found[found >= 0]]
    logits[found >= 0] = calibrated_logits(margins, calibration) if calibration else margins
    return logits


def pool_with_student(logits: np.ndarray, rows: LabelledTexts, checkpoint: Path, weight: float) -> np.ndarray:
    """The logarithmic opinion pool of ``server/core/pooling.py`` of the teacher's and a student's calibrated log-odds.

    Args:
        logits: the teacher's, float32 (N, C); a text that is all NaN stays so, and isn't read.
        checkpoint: run folder of the student.
        weight: the teacher's, in (0, 1]: ``teacher_weight`` of the policy, where it was chosen for the verdicts.

    Raises:
        ConfigurationError: there is no trained student, or it isn't calibrated.
    """
    from distill.predict import checkpoint_calibrated_logits

    judged = np.flatnonzero(~np.isnan(logits).all(axis=1))
    texts, of_text = np.unique([rows.texts[i] for i in judged], return_inverse=True)  # one that repeats is read once
    students = checkpoint_calibrated_logits(checkpoint, texts.tolist())[of_text]
    pooled = logits.copy()
    pooled[judged] = (1 - weight) * students + weight * logits[judged]
    return pooled
