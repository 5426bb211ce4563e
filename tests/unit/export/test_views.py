"""``python -m export views``: what canonical text costs and brings, on a student that knows a handful of words."""

import json
import random

import pandas as pd
import pytest

from export.__main__ import main
from export.disguises import DISGUISES
from export.views import READINGS
from server.core.canonical import canonicalise
from server.core.taxonomy import CATEGORIES
from tests.unit.export.conftest import labelled_texts

TEXT = "please read this worthless book"


@pytest.fixture(scope="module")
def artifact(checkpoint, tmp_path_factory):
    out = tmp_path_factory.mktemp("views") / "artefact"
    assert main(["--checkpoint", str(checkpoint), "--out", str(out), "--uncalibrated", "--precision", "fp32"]) == 0
    return out


@pytest.mark.parametrize("name", DISGUISES)
def test_a_disguise_hides_words_and_canonical_text_undoes_most_of_it(name):
    disguised = DISGUISES[name](TEXT, random.Random(1))
    assert disguised != TEXT
    canonical = canonicalise(disguised)
    undone = canonical.deobfuscated or canonical.text
    hidden = sum(word not in disguised.split() for word in TEXT.split())
    still_hidden = sum(word not in undone.split() for word in TEXT.split())
    assert still_hidden < hidden


def test_disguises_are_the_same_for_a_seed():
    for hide in DISGUISES.values():
        assert hide(TEXT, random.Random(3)) == hide(TEXT, random.Random(3))


def test_the_command_counts_what_each_reading_blocks(artifact, parquet, capsys):
    assert main(["views", "--artifact", str(artifact), "--data", str(parquet)]) == 0
    captured = capsys.readouterr()
    found = json.loads(captured.out.splitlines()[-1])
    _, labels = labelled_texts(150)
    harmful = (labels == 1).any(axis=1).sum()
    assert found["texts"] == 150
    assert found["benign"]["texts"] == 150 - harmful
    assert found["harmful"]["as_sent"] == 1.0, "only what is blocked as sent is disguised"
    assert 0 < found["harmful"]["texts"] <= harmful
    assert set(found["disguises"]) == set(DISGUISES)
    for shares in found["disguises"].values():
        assert shares["texts"] == found["harmful"]["texts"]
        assert shares["canonical"] <= shares["both_views"], "the larger score counts"
    hidden = found["disguises"]["look_alikes"]
    assert hidden["as_sent"] < hidden["canonical"], "canonical text brings look-alikes back"
    assert found["cost"] == {"changed_share": 0, "second_view_share": 0, "windows": 1, "tokens": 1}
    assert all(reading.replace("_", " ") in captured.err for reading in READINGS)


def test_data_that_cannot_be_read_is_one_line(artifact, tmp_path, capsys):
    assert main(["views", "--artifact", str(artifact), "--data", str(tmp_path / "none.parquet")]) == 2
    assert "none.parquet" in capsys.readouterr().err


def test_without_harmful_texts_the_last_line_is_json_all_the_same(artifact, tmp_path, capsys):
    texts, _ = labelled_texts(1)
    frame = pd.DataFrame({"text": texts * 3, "dataset": "calm", "split": "dev"} | dict.fromkeys(CATEGORIES, 0))
    frame.to_parquet(tmp_path / "calm.parquet")
    assert main(["views", "--artifact", str(artifact), "--data", str(tmp_path / "calm.parquet")]) == 0
    captured = capsys.readouterr()
    found = json.loads(captured.out.splitlines()[-1], parse_constant=pytest.fail)
    assert found["harmful"] == {"texts": 0, "as_sent": None, "canonical": None, "both_views": None}
    assert set(found["disguises"]) == set(DISGUISES)
