"""Soft labels: the teacher's, and the pool of two opinions."""

import numpy as np
import pytest

from distill import predict
from distill.data import LabelledTexts
from distill.signals import SignalStore, text_digest
from distill.soft_labels import pool_with_student, teacher_logits
from server.core.calibration import Platt
from server.core.pooling import pooled
from server.core.taxonomy import CATEGORIES

C = len(CATEGORIES)
ROWS = LabelledTexts(
    ["asked", "not asked", "asked"], ["user"] * 3, np.zeros((3, C), np.float32), np.array(["d"] * 3, dtype=object)
)


@pytest.fixture
def store(tmp_path):
    store = SignalStore(tmp_path, teacher="t", prompt_hash="p", hidden_size=2)
    store.append([text_digest("asked", "user")], np.full((1, C), 2.0), np.zeros((1, C, 2)))
    return store


def test_margins_are_calibrated_and_what_was_not_asked_is_unknown(store):
    calibration = {name: Platt(0.5, 1.0 + c) for c, name in enumerate(CATEGORIES)}
    logits = teacher_logits(ROWS, store, calibration)
    np.testing.assert_allclose(logits[[0, 2]], [2.0 + np.arange(C)] * 2)
    assert np.isnan(logits[1]).all()
    assert (teacher_logits(ROWS, store, None)[0] == 2.0).all()


def test_the_pool_is_the_one_that_answers_and_reads_only_judged_texts_once(store, monkeypatch, tmp_path):
    read = []

    def student(checkpoint, texts):
        read.extend(texts)
        return np.full((len(texts), C), -1.0)

    monkeypatch.setattr(predict, "checkpoint_calibrated_logits", student)
    logits = pool_with_student(teacher_logits(ROWS, store, None), ROWS, tmp_path, 0.54)
    assert read == ["asked"]
    assert np.isnan(logits[1]).all()

    def score(log_odds):
        return 1 / (1 + np.exp(-log_odds))

    np.testing.assert_allclose(score(logits[[0, 2]]), pooled(score(-1.0), score(2.0), 0.54), rtol=1e-6)
