"""The shipped artefact, read as the server reads it, is as good as its card says."""

import numpy as np

from distill.calibrate import apply_calibration
from distill.data import balanced_indices, load_split
from distill.metrics import average_precision
from server.core.artifact import MODEL, TOKENIZER, load_manifest
from server.core.policy import load_policies
from server.core.taxonomy import CATEGORIES
from server.inference.encoder import WindowEncoder
from server.inference.ort_session import load_classifiers
from server.settings import Settings

TEXTS = 600
THRESHOLDS = np.array([rule.block_at for rule in load_policies()["default"].rules])


def served_scores(texts: list[str]) -> np.ndarray:
    artifact = Settings().artifact
    manifest = load_manifest(artifact)
    encoder = WindowEncoder(artifact / TOKENIZER, max_tokens=manifest.max_tokens)
    (classifier,) = load_classifiers(artifact / MODEL, sessions=1, categories=len(CATEGORIES), max_tokens=manifest.max_tokens)
    logits = np.stack([classifier.classify(encoder.encode(text)).max(axis=0) for text in texts])
    return apply_calibration(logits, manifest.calibration)


def test_it_ranks_held_out_texts_and_flags_few_harmless_ones(data_path):
    rows = load_split(data_path, "test")
    rows = rows.take(balanced_indices(rows, TEXTS, seed=0))
    scores = served_scores(rows.texts)
    assert average_precision(scores.ravel(), rows.labels.ravel()) > 0.8
    harmless = (rows.labels == 0).all(axis=1)
    is_blocked = (scores[harmless] >= THRESHOLDS).any(axis=1)
    assert harmless.sum() > 100
    assert is_blocked.mean() < 0.05


def test_what_harms_in_one_way_is_not_said_to_harm_in_all(data_path):
    rows = load_split(data_path, "test")
    illicit = rows.take(np.flatnonzero(rows.labels[:, CATEGORIES.index("illicit")] == 1))
    named = dict(zip(CATEGORIES, (served_scores(illicit.texts) >= THRESHOLDS).mean(axis=0), strict=True))
    assert named.pop("illicit") > 0.9
    assert max(named.values()) < 0.3
