"""The hand-written sentences: filled, labelled, never the functional test sets."""

import numpy as np

from distill.seeds import seed_texts
from server.core.taxonomy import CATEGORIES


def test_each_sentence_is_filled_labelled_and_there_once():
    rows = seed_texts()
    assert len(rows.texts) == len(set(rows.texts)) > 500
    assert not [text for text in rows.texts if "{" in text]
    is_positive = rows.labels == 1
    assert (is_positive.sum(axis=1) <= 1).all()
    positives = dict(zip(CATEGORIES, is_positive.sum(axis=0), strict=True))
    assert min(positives[name] for name in ("self_harm", "sexual", "violence", "illicit")) > 80
    harmless = (rows.labels == 0).all(axis=1)
    assert harmless.sum() > 80
    assert (np.isnan(rows.labels[~harmless]).sum(axis=1) == 7).all(), "other categories stay unknown"


def test_the_draw_is_repeatable():
    assert seed_texts(seed=3).texts == seed_texts(seed=3).texts != seed_texts(seed=4).texts
