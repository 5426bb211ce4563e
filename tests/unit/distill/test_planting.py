"""Harm among harmless texts: there whole, at any place, labelled as it was; harmless ones alone carry no label."""

import numpy as np
import pytest

from distill.data import LabelledTexts, load_split
from distill.planting import plant, write_planted
from server.core.errors import ConfigurationError
from server.core.taxonomy import CATEGORIES

HATE, HARASSMENT = CATEGORIES.index("hate"), CATEGORIES.index("harassment")
COMPANY = [f"the train number {number} leaves at noon" for number in range(40)]
HARM = ["a rude word for the neighbours", "another rude word for them"]
LONG = "a rude word " * 100


@pytest.fixture
def rows():
    harmless = np.zeros((len(COMPANY), len(CATEGORIES)), dtype=np.float32)
    harmful = np.full((3, len(CATEGORIES)), np.nan, dtype=np.float32)
    harmful[:, HATE], harmful[:, HARASSMENT] = 1, 0
    unknown = np.full((1, len(CATEGORIES)), np.nan, dtype=np.float32)
    texts = [*COMPANY, *HARM, LONG, "of this text nothing is known"]
    labels = np.concatenate([harmless, harmful, unknown])
    return LabelledTexts(texts, ["user"] * len(texts), labels, np.full(len(texts), "d", dtype=object))


def test_the_harm_is_there_whole_once_and_at_any_place(rows):
    planted = plant(rows, 300, seed=1)
    harmful = [text for text, labels in zip(planted.texts, planted.labels, strict=True) if labels[HATE] == 1]
    assert len(harmful) == 75
    places = [max(text.find(harm) for harm in HARM) / len(text) for text in harmful]
    assert min(places) == 0
    assert max(places) > 0.8
    assert all(sum(text.count(harm) for harm in HARM) == 1 for text in harmful)
    assert all(any(part in text for part in COMPANY) for text in harmful)
    assert not any(LONG[:40] in text or "nothing is known" in text for text in planted.texts)


def test_labels_are_those_of_the_harm_and_harmless_texts_have_none(rows):
    planted = plant(rows, 30)
    harmful = planted.labels[:, HATE] == 1
    assert (planted.labels[harmful, HARASSMENT] == 0).all()
    assert (np.isnan(planted.labels[harmful]).sum(axis=1) == len(CATEGORIES) - 2).all()
    assert (planted.labels[~harmful] == 0).all()
    assert not any(harm in text for text, has in zip(planted.texts, harmful, strict=True) if not has for harm in HARM)


def test_lengths_vary_up_to_the_longest_asked_for(rows):
    lengths = [len(text) for text in plant(rows, 300, max_chars=500).texts]
    assert max(lengths) <= 500
    assert min(lengths) < 120
    assert np.median(lengths) < 300, "short company is as well known as long"


def test_the_draw_is_repeatable(rows):
    assert plant(rows, 20, seed=3).texts == plant(rows, 20, seed=3).texts != plant(rows, 20, seed=4).texts


def test_without_company_or_harm_it_says_what_it_needs(rows):
    for lacking in (rows.take(np.arange(len(COMPANY))), rows.take(np.arange(len(COMPANY), len(rows)))):
        with pytest.raises(ConfigurationError, match="needs short harmful texts, and short texts that are known"):
            plant(lacking, 5)


def test_the_file_is_read_back_as_labelled_texts(rows, tmp_path):
    planted = plant(rows, 30)
    assert write_planted(tmp_path / "new" / "planted.parquet", planted, "test") == {"harmful": 8, "harmless": 22}
    back = load_split(tmp_path / "new" / "planted.parquet", "test")
    assert back.texts == planted.texts
    np.testing.assert_array_equal(back.labels, planted.labels)
