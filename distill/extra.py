"""Mined texts beside the base data: what ``train --extra`` adds, and whose word counts for them."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from distill.data import LabelledTexts, load_split
from distill.mining.mined_file import read_answers, read_may_clear
from distill.signals import SignalStore, text_digest
from distill.train_data import TeacherSignals
from server.core.taxonomy import CATEGORIES


@dataclass(frozen=True, slots=True)
class ExtraTexts:
    """N texts. ``answers``: logits float32 (N, C) of the serving teacher, NaN where it said nothing. ``may_clear``: bool (N,),
    whether a teacher's No to the text may be learnt."""

    rows: LabelledTexts
    answers: np.ndarray
    may_clear: np.ndarray

    def __len__(self) -> int:
        return len(self.rows)


def load_extra(paths: Sequence[Path], store: SignalStore | None, *, repeats: int) -> ExtraTexts:
    """The ``train`` split of each file, ``repeats`` times. A text of which nothing is known is left out: it has no label, no
    answer, and no signal in ``store``."""
    rows = LabelledTexts([], [], np.empty((0, len(CATEGORIES)), dtype=np.float32), np.empty(0, dtype=object))
    answers = [np.empty((0, len(CATEGORIES)), dtype=np.float32)]
    may_clear = [np.empty(0, dtype=bool)]
    for path in paths:
        rows += load_split(path, "train")
        answers.append(read_answers(path, "train"))
        may_clear.append(read_may_clear(path, "train"))
    said = np.concatenate(answers)
    is_known = ~(np.isnan(rows.labels) & np.isnan(said)).all(axis=1)
    if store is not None:
        is_known |= store.rows([text_digest(text, role) for text, role in zip(rows.texts, rows.roles, strict=True)]) >= 0
    kept = np.tile(np.flatnonzero(is_known), repeats)
    return ExtraTexts(rows.take(kept), said[kept], np.concatenate(may_clear)[kept])


def unhear_noes(signals: TeacherSignals, extra: ExtraTexts) -> TeacherSignals:
    """Signals in which the last N texts are ``extra``, without each No to a text that the teacher may not clear, and without
    its hidden state, which says the same: the text may have talked the teacher into it. What a pool with another opinion
    would hide is still a No here, so this comes before it."""
    logits, features = signals.logits.copy(), signals.features.copy()
    start = len(logits) - len(extra)
    is_unheard = (logits[start:] < 0) & ~extra.may_clear[:, None]
    logits[start:][is_unheard] = np.nan
    features[start:][is_unheard.any(axis=1)] = np.nan
    return TeacherSignals(logits, features)


def hear_extra(signals: TeacherSignals, extra: ExtraTexts) -> TeacherSignals:
    """Signals in which the last N texts are ``extra``: where a label is known people have the word, elsewhere the signal, and
    where there is no signal what the serving teacher answered."""
    logits = signals.logits.copy()
    own = logits[len(logits) - len(extra) :]
    own[:] = np.where(np.isnan(own), extra.answers, own)
    own[~np.isnan(extra.rows.labels)] = np.nan
    return replace(signals, logits=logits)
