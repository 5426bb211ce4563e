"""Mined texts beside the base data: who has the word on them."""

import numpy as np
import pytest

from distill.extra import hear_extra, load_extra
from distill.mining.candidates import unknown
from distill.mining.mined_file import read_answers, write_mined
from distill.signals import SignalStore, text_digest
from distill.train_data import TeacherSignals
from server.core.taxonomy import CATEGORIES, CATEGORY_INDEX
from tests.unit.distill.mining_world import candidate, values

HATE, TOXICITY = CATEGORY_INDEX["hate"], CATEGORY_INDEX["toxicity"]


@pytest.fixture
def mined(tmp_path):
    path = tmp_path / "mined.parquet"
    answered = candidate("answered", source="teacher", labels=unknown(), answers=values(hate=0.5, toxicity=1.0))
    labelled = candidate("labelled", labels=values(hate=1), answers=values(toxicity=0.5))
    silent = candidate("silent", source="nobody", labels=unknown(), role="assistant")
    held = candidate("held")
    write_mined(path, [answered, labelled, silent, held], ["train", "train", "train", "test"])
    return path


def test_only_what_somebody_judged_is_learnt(mined, tmp_path):
    extra = load_extra([mined], None, repeats=2)
    assert extra.rows.texts == ["answered", "labelled"] * 2
    store = SignalStore(tmp_path, teacher="t", prompt_hash="p", hidden_size=2)
    store.append([text_digest("silent", "assistant")], np.ones((1, 8)), np.ones((1, 8, 2)))
    assert load_extra([mined], store, repeats=1).rows.texts == ["answered", "labelled", "silent"]
    assert len(load_extra([], store, repeats=1)) == 0


def test_people_then_signals_then_logged_answers(mined):
    extra = load_extra([mined], None, repeats=1)
    logits = np.full((3, len(CATEGORIES)), np.nan, dtype=np.float32)
    logits[0] = 1.5  # a text of the base data, with its signal
    logits[2] = -2.5  # `label` was run on the labelled one
    features = np.zeros((3, 4), dtype=np.float32)
    heard = hear_extra(TeacherSignals(logits, features), extra)
    assert (heard.logits[0] == 1.5).all(), "the base data is as it was"
    np.testing.assert_array_equal(heard.logits[1], values(hate=0.0, toxicity=6.0), "a sure answer counts for a bounded logit")
    assert np.isnan(heard.logits[2, HATE]), "a person spoke"
    assert heard.logits[2, TOXICITY] == -2.5, "the signal is of the whole text, and newer"
    assert np.isnan(logits[1]).all(), "what was given is as it was"


def test_without_extra_nothing_changes():
    logits = np.array([[np.nan] + [1.0] * 7], dtype=np.float32)
    heard = hear_extra(TeacherSignals(logits, np.zeros((1, 4), dtype=np.float32)), load_extra([], None, repeats=1))
    np.testing.assert_array_equal(heard.logits, logits)


def test_any_labelled_file_has_answers_none_of_them_known(tmp_path, mined):
    import pandas as pd

    plain = tmp_path / "plain.parquet"
    pd.read_parquet(mined).drop(columns=[f"teacher_{name}" for name in CATEGORIES]).to_parquet(plain)
    assert np.isnan(read_answers(plain, "train")).all()
    assert load_extra([plain], None, repeats=1).rows.texts == ["labelled"]
