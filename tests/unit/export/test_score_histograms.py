"""``python -m export reference``: how an artefact's scores are spread, written into its manifest."""

import json

import numpy as np
import pytest

from export.__main__ import main
from export.histograms import count_scores
from server.core.artifact import load_manifest
from server.core.histograms import EDGES, bin_of
from server.core.taxonomy import CATEGORIES


@pytest.fixture(scope="module")
def exported(checkpoint, parquet, tmp_path_factory):
    """An artefact that was exported with labelled texts."""
    out = tmp_path_factory.mktemp("exported") / "artefact"
    command = ["--checkpoint", str(checkpoint), "--out", str(out), "--data", str(parquet), "--precision", "fp32"]
    assert main(command) == 0
    return out


def test_an_array_is_counted_as_the_server_counts_score_by_score():
    rng = np.random.default_rng(0)
    scores = np.concatenate([rng.random((200, len(CATEGORIES))) ** 4, np.resize(EDGES, (15, len(CATEGORIES)))])
    counted = count_scores(scores)
    for column, category in enumerate(CATEGORIES):
        expected = np.bincount([bin_of(score) for score in scores[:, column]], minlength=len(EDGES) + 1)
        assert counted.scores[category] == tuple(expected)
    assert (counted.texts, counted.artifact_hash) == (215, None)


def test_an_export_writes_its_reference_by_itself(exported):
    manifest = load_manifest(exported)
    assert manifest.reference.texts == manifest.metrics["quality"]["rows"] == 150
    assert "reference" in manifest.to_json()


def test_an_export_without_labelled_texts_has_none(checkpoint, tmp_path):
    out = tmp_path / "plain"
    assert main(["--checkpoint", str(checkpoint), "--out", str(out), "--uncalibrated", "--precision", "fp32"]) == 0
    manifest = load_manifest(out)
    assert manifest.reference is None
    assert "reference" not in manifest.to_json()


def test_the_command_writes_what_the_export_would_have(exported, parquet, tmp_path, capsys):
    """Taken out and put back, it is the same artefact again."""
    before = load_manifest(exported)
    path = exported / "manifest.json"
    record = json.loads(path.read_text())
    del record["reference"]
    path.write_text(json.dumps(record))
    assert load_manifest(exported).reference is None
    assert main(["reference", "--artifact", str(exported), "--data", str(parquet)]) == 0
    assert load_manifest(exported) == before
    summary = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert summary == {"artifact": str(exported), "hash": before.hash, "texts": 150}


def test_fewer_texts_are_drawn_at_random(exported, parquet):
    assert main(["reference", "--artifact", str(exported), "--data", str(parquet), "--reference-texts", "40"]) == 0
    assert load_manifest(exported).reference.texts == 40


def test_what_can_not_be_read_is_named(exported, tmp_path, capsys):
    assert main(["reference", "--artifact", str(exported), "--data", str(tmp_path / "none.parquet")]) == 2
    assert "none.parquet" in capsys.readouterr().err
