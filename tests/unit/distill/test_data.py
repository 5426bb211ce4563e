"""Reading labels: unknown stays unknown unless the source says otherwise."""

import numpy as np
import pandas as pd
import pytest

from distill.data import balanced_indices, load_split
from server.core.errors import ConfigurationError
from server.core.taxonomy import CATEGORIES


def frame(**columns):
    size = len(columns["text"])
    base = {name: pd.array([None] * size, dtype="Int8") for name in CATEGORIES}
    base |= {"dataset": ["d"] * size, "split": ["train"] * size}
    return pd.DataFrame(base | columns)


def save(tmp_path, table):
    path = tmp_path / "data.parquet"
    table.to_parquet(path)
    return path


def test_unknown_is_nan_and_texts_are_canonical(tmp_path):
    table = frame(text=["h\u200bi", "x"], hate=pd.array([1, None], dtype="Int8"))
    rows = load_split(save(tmp_path, table), "train")
    assert rows.texts == ["hi", "x"]
    assert rows.labels[0, CATEGORIES.index("hate")] == 1
    assert np.isnan(rows.labels).sum() == 15


def test_a_safe_text_has_no_category(tmp_path):
    rows = load_split(save(tmp_path, frame(text=["x", "y"], unsafe=pd.array([0, 1], dtype="Int8"))), "train")
    assert (rows.labels[0] == 0).all()
    assert np.isnan(rows.labels[1]).all()


def test_labels_that_the_file_keeps_as_floats_are_read_alike(tmp_path):
    floats = {name: np.full(2, np.nan) for name in CATEGORIES}
    rows = load_split(save(tmp_path, frame(text=["x", "y"], unsafe=[0.0, 1.0], **floats)), "train")
    assert (rows.labels[0] == 0).all()
    assert np.isnan(rows.labels[1]).all()


def test_chat_counts_as_benign_only_when_asked(tmp_path):
    path = save(tmp_path, frame(text=["x"], chat_benign=[True], toxicity=pd.array([1], dtype="Int8")))
    assert np.isnan(load_split(path, "train").labels).sum() == 7
    labels = load_split(path, "train", assume_chat_benign=True).labels[0]
    assert labels[CATEGORIES.index("toxicity")] == 1, "a known label is never overwritten"
    assert labels.sum() == 1


def test_missing_columns_and_empty_splits_are_named(tmp_path):
    with pytest.raises(ConfigurationError, match="hate"):
        load_split(save(tmp_path, frame(text=["x"]).drop(columns="hate")), "train")
    with pytest.raises(ConfigurationError, match="'dev'"):
        load_split(save(tmp_path, frame(text=["x"])), "dev")


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"hate": [0.0, 2.0]}, "hate in row 1 is not 0, 1, between, or null"),
        ({"sexual": [-0.5, 1.0]}, "sexual in row 0 is not 0"),
        ({"violence": ["yes", None]}, "violence in row 0 is not 0"),
        ({"unsafe": [0, 7]}, "unsafe in row 1 is not 0"),
        ({"text": ["x", None]}, "text in row 1 is not a text"),
        ({"role": ["user", "system"]}, "role in row 1 is not one of user, assistant"),
        ({"role": ["user", None]}, "role in row 1 is not one of"),
    ],
)
def test_what_can_t_be_learnt_from_is_named_with_its_row(tmp_path, columns, message):
    with pytest.raises(ConfigurationError, match=message):
        load_split(save(tmp_path, frame(**({"text": ["x", "y"]} | columns))), "train")


def test_softened_labels_are_read(tmp_path):
    rows = load_split(save(tmp_path, frame(text=["x"], hate=[0.25])), "train")
    assert rows.labels[0, CATEGORIES.index("hate")] == 0.25


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(ConfigurationError, match=r"absent\.parquet: no such file"):
        load_split(tmp_path / "absent.parquet", "train")


def test_balanced_draw_lifts_the_rare_and_repeats_nothing(tmp_path):
    table = frame(
        text=[f"t{i}" for i in range(1010)],
        dataset=["big"] * 1000 + ["small"] * 10,
        hate=pd.array([0] * 1005 + [None] * 5, dtype="Int8"),
    )
    rows = load_split(save(tmp_path, table), "train")
    drawn = balanced_indices(rows, 100, seed=0)
    assert len(drawn) == len(set(drawn.tolist())) == 100
    assert sum(rows.datasets[drawn] == "small") == 5, "all labelled rows of the small set, none of the unlabelled"
    assert (drawn == balanced_indices(rows, 100, seed=0)).all()
    assert len(balanced_indices(rows, 99_999, seed=0)) == 1005


def test_a_softened_label_is_for_training_only(tmp_path):
    soft = frame(text=["a", "b", "c"]).assign(hate=[0.0, 0.7, np.nan])
    assert load_split(save(tmp_path, soft), "train").labels[1, CATEGORIES.index("hate")] == np.float32(0.7)
    for split in ("dev", "test"):
        with pytest.raises(ConfigurationError, match=rf"hate in row 1 is not 0, 1 or null, as labels of split {split} are"):
            load_split(save(tmp_path, soft.assign(split=split)), split)
