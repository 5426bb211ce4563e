"""The shipped fake: any score can be written into a text, and any failure."""

import math
import threading

import numpy as np
import pytest

from server.core.errors import ConfigurationError
from server.core.taxonomy import CATEGORIES
from server.inference.fake import BASE_SCORE, KEYWORD_SCORE, FakeClassifier, FakeEncoder, FakeSessionDeath


def scores(text, **kwargs):
    (window,) = FakeEncoder().encode(text)
    (row,) = FakeClassifier(**kwargs).classify([window])
    return {category: 1 / (1 + math.exp(-logit)) for category, logit in zip(CATEGORIES, row, strict=True)}


def test_a_plain_text_scores_the_base_everywhere():
    assert scores("a plain text") == pytest.approx(dict.fromkeys(CATEGORIES, BASE_SCORE), abs=1e-5)


def test_a_category_name_raises_that_category_alone():
    expected = dict.fromkeys(CATEGORIES, BASE_SCORE) | {"hate": KEYWORD_SCORE}
    assert scores("some Hate, here") == pytest.approx(expected, abs=1e-5)


def test_a_score_can_be_written_into_the_text():
    expected = dict.fromkeys(CATEGORIES, BASE_SCORE) | {"violence": 0.6215, "self_harm": 0.001}
    assert scores("violence=0.6215 and self_harm=0.001.") == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize(("word", "score"), [("hate=0", 0.0), ("hate=1", 1.0), ("hate=1.7", 1.0)])
def test_the_ends_of_the_scale_are_finite(word, score):
    assert scores(word)["hate"] == pytest.approx(score, abs=1e-5)


def test_the_highest_word_counts():
    assert scores("hate=0.3 hate=0.6 hate=0.1")["hate"] == pytest.approx(0.6, abs=1e-5)


def test_keywords_raise_their_category():
    assert scores("you IDIOT!", keywords={"idiot": "harassment"})["harassment"] == pytest.approx(KEYWORD_SCORE, abs=1e-5)


def test_an_unknown_name_with_a_score_is_a_plain_word():
    assert scores("nonsense=0.9") == pytest.approx(dict.fromkeys(CATEGORIES, BASE_SCORE), abs=1e-5)


def test_rows_are_float32_in_the_order_of_the_windows():
    encoder = FakeEncoder()
    logits = FakeClassifier().classify([encoder.encode(text)[0] for text in ("hate", "plain", "violence")])
    assert logits.dtype == np.float32
    assert logits.shape == (3, len(CATEGORIES))
    assert (logits > 0).sum(axis=1).tolist() == [1, 0, 1]


def test_windows_are_those_of_a_real_encoder():
    text = "  " + " ".join(f"w{i}" for i in range(30)) + " "
    windows = FakeEncoder(max_tokens=12, overlap_tokens=3).encode(text)
    assert [window.tokens for window in windows] == [12, 12, 12, 11]
    assert (windows[0].start, windows[-1].end) == (0, len(text))
    assert text[windows[1].start :].startswith("w7 ")
    assert text[: windows[0].end].endswith("w9 ")


def test_an_empty_text_is_one_window():
    (window,) = FakeEncoder().encode("")
    assert (window.tokens, window.start, window.end) == (2, 0, 0)


def test_an_overlap_without_room_is_refused():
    with pytest.raises(ConfigurationError, match="an overlap of 6 doesn't fit into windows of 8 tokens"):
        FakeEncoder(max_tokens=8, overlap_tokens=6)


def test_each_failure_strikes_where_its_word_is():
    encoder = FakeEncoder()
    fake = FakeClassifier(failures={"boom": "raise", "nan": "nan", "short": "rows", "bye": "die"})

    def classify(*texts):
        return fake.classify([encoder.encode(text)[0] for text in texts])

    with pytest.raises(RuntimeError, match="told to fail"):
        classify("fine", "boom")
    with pytest.raises(FakeSessionDeath):
        classify("bye")
    assert classify("fine", "short").shape == (1, len(CATEGORIES))
    assert np.isnan(classify("fine", "nan")).any(axis=1).tolist() == [False, True]
    assert np.isfinite(classify("fine")).all()


def test_the_gate_holds_a_call_until_it_opens():
    gate, entered = threading.Event(), threading.Event()
    fake = FakeClassifier(gate=gate, entered=entered)
    rows = []
    thread = threading.Thread(target=lambda: rows.append(fake.classify(FakeEncoder().encode("hate"))))
    thread.start()
    assert entered.wait(30)
    assert rows == []
    gate.set()
    thread.join(30)
    assert rows[0].shape == (1, len(CATEGORIES))
