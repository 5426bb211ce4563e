"""``python -m export score``: a finished artefact over labelled texts, both views, as the server reads them."""

import json

import numpy as np
import pandas as pd
import pytest

from distill.cascade.score_file import load_scores
from distill.data import balanced_indices, load_split
from distill.signals import text_digest
from export.__main__ import main
from export.runner import cut_windows, open_session, text_logits
from export.score import score_artifact
from server.core.artifact import MODEL, TOKENIZER, load_manifest
from server.core.taxonomy import CATEGORIES

TEXTS = ["the warm cat", "you stupid idiot", "i d i o t stupid", "the\u200b warm cat", "a book " * 30 + "stupid idiot"]


@pytest.fixture(scope="module")
def artifact(checkpoint, tmp_path_factory):
    out = tmp_path_factory.mktemp("scored") / "artefact"
    assert main(["--checkpoint", str(checkpoint), "--out", str(out), "--uncalibrated", "--precision", "fp32"]) == 0
    return out


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    labels = np.full((len(TEXTS), len(CATEGORIES)), np.nan)
    labels[:4, 0] = [0, 1, 1, 0]
    frame = pd.DataFrame(labels, columns=list(CATEGORIES)).astype("Int8")
    frame["text"], frame["dataset"], frame["split"] = TEXTS, "made_up", "test"
    frame["chat_benign"] = [False, False, False, False, True]
    elsewhere = frame.assign(split="dev", text="of another split")
    path = tmp_path_factory.mktemp("data") / "texts.parquet"
    pd.concat([elsewhere, frame]).to_parquet(path)
    return path


def test_the_command_writes_a_score_file(artifact, data, tmp_path, capsys):
    out = tmp_path / "deep" / "scores.npz"
    assert main(["score", "--artifact", str(artifact), "--data", str(data), "--split", "test", "--out", str(out)]) == 0
    summary = json.loads(capsys.readouterr().out.splitlines()[-1])
    manifest = load_manifest(artifact)
    assert summary == {"scores": str(out), "rows": len(TEXTS), "artifact_hash": manifest.hash}
    scored = load_scores(out)
    assert (scored.split, scored.artifact_hash, scored.calibration) == ("test", manifest.hash, manifest.calibration)
    assert scored.rows.tolist() == [0, 1, 2, 3, 4]
    assert scored.is_disguised.tolist() == [False, False, True, True, False]
    assert [bytes(digest) for digest in scored.digests[:2]] == [text_digest(text, "user") for text in TEXTS[:2]]
    assert np.array_equal(scored.digests[0], scored.digests[3]), "a digest is of the canonical text"
    assert scored.tokens.tolist()[:2] == [5, 5]
    assert scored.tokens[4] > 60
    np.testing.assert_array_equal(scored.labels[:, 0], [0, 1, 1, 0, np.nan])
    assert np.isnan(scored.labels[4]).all()
    assert (scored.fit_labels[4] == 0).all(), "ordinary chat is harmless to a fit and unknown to a figure"


def test_logits_are_the_maximum_over_both_views_and_all_windows(artifact, data):
    scored = score_artifact(artifact, data, split="test")
    session = open_session(artifact / MODEL)

    def logits(*texts):
        return text_logits(session, cut_windows(artifact / TOKENIZER, texts, max_tokens=16))

    np.testing.assert_allclose(scored.logits[:2], logits(*TEXTS[:2]), atol=1e-4)
    spaced, joined = logits("i d i o t stupid", "idiot stupid")
    np.testing.assert_allclose(scored.logits[2], np.maximum(spaced, joined), atol=1e-4)
    assert (joined > spaced).any()
    np.testing.assert_allclose(scored.logits[3], scored.logits[0], atol=1e-4)


def test_a_draw_is_the_one_of_label(artifact, data):
    scored = score_artifact(artifact, data, split="test", size=3, seed=5)
    assert scored.rows.tolist() == balanced_indices(load_split(data, "test", assume_chat_benign=True), 3, 5).tolist()


@pytest.mark.parametrize("flags", [("--split", "train"), ("--data", "none.parquet"), ("--artifact", "nowhere")])
def test_what_a_user_can_mend_is_one_line(artifact, data, tmp_path, capsys, flags):
    base = ["score", "--artifact", str(artifact), "--data", str(data), "--out", str(tmp_path / "scores.npz")]
    assert main([*base, *flags]) == 2
    stderr = capsys.readouterr().err
    assert stderr.startswith("export score: ")
    assert len(stderr.strip().splitlines()) == 1
    assert not (tmp_path / "scores.npz").exists()
