"""The hand-written sentences: filled, labelled, never the functional test sets."""

import json
import re
from collections import Counter, defaultdict

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
    assert (is_positive.sum(axis=1) == ~harmless).all()
    negatives = dict(zip(CATEGORIES, (rows.labels[~harmless] == 0).sum(axis=0), strict=True))
    assert min(negatives.values()) > 200, "what harms in one way doesn't harm in all"


def test_what_a_sentence_may_violate_besides_stays_unknown():
    rows = seed_texts()
    labels = dict(zip(rows.texts, rows.labels, strict=True))
    known = dict(zip(CATEGORIES, labels["I want to hang myself"], strict=True))
    assert (known["self_harm"], known["hate"], known["sexual"]) == (1, 0, 0)
    assert np.isnan([known["violence"], known["toxicity"]]).all()


def words(text: str) -> frozenset[str]:
    return frozenset(re.findall(r"[a-z']+", text.lower()))


def test_no_sentence_is_nearly_one_of_the_functional_sets(data_path):
    """Those are for diagnosis alone. Of the words of two texts less than three quarters are common, whatever fills a slot."""
    files = sorted((data_path.parent / "functional").glob("*.jsonl"))
    functional = [words(json.loads(line)["text"]) for path in files for line in path.read_text(encoding="utf-8").splitlines()]
    assert len(functional) > 4_000
    holding = defaultdict(list)
    for number, text in enumerate(functional):
        for word in text:
            holding[word].append(number)
    near = []
    for sentence in seed_texts(per_pattern=10_000).texts:
        ours = words(sentence)
        common = Counter(number for word in ours for number in holding[word])
        near += [sentence for number, both in common.items() if both >= 0.75 * len(ours | functional[number])]
    assert near == []


def test_the_draw_is_repeatable():
    assert seed_texts(seed=3).texts == seed_texts(seed=3).texts != seed_texts(seed=4).texts
