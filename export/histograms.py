"""How an artefact's scores are spread over the reference set: what the server tells drift by."""

from dataclasses import replace
from pathlib import Path

import numpy as np

from distill.calibrate import apply_calibration
from export.reference import load_reference
from export.runner import cut_windows, open_session, text_logits
from server.core.artifact import MODEL, TOKENIZER, Manifest, load_manifest, write_manifest
from server.core.histograms import BINS, EDGES, ScoreHistograms
from server.core.taxonomy import CATEGORIES


def count_scores(scores: np.ndarray) -> ScoreHistograms:
    """The histograms of calibrated scores (N, C), for the manifest of the artefact that gave them."""
    bins = np.searchsorted(EDGES, scores, side="right")
    counts = {category: tuple(np.bincount(bins[:, i], minlength=BINS).tolist()) for i, category in enumerate(CATEGORIES)}
    return ScoreHistograms(len(scores), counts)


def add_reference(artifact: Path, data: Path, *, limit: int | None = None, threads: int = 1) -> Manifest:
    """Score the texts that an export would, and write their histograms into a finished artefact's manifest.

    Args:
        limit: how many dev texts, drawn at random; None for all.

    Returns:
        The manifest as it is now, with another hash.

    Raises:
        ArtifactError: the artefact can't be trusted.
        ConfigurationError: the data can't be read, lacks a column, or has no dev rows.
    """
    manifest = load_manifest(artifact)
    windows = cut_windows(artifact / TOKENIZER, load_reference(data, limit=limit).texts, max_tokens=manifest.max_tokens)
    logits = text_logits(open_session(artifact / MODEL, threads=threads), windows)
    manifest = replace(manifest, reference=count_scores(apply_calibration(logits, manifest.calibration)))
    write_manifest(artifact, manifest)
    return manifest
