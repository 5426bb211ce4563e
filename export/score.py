"""``python -m export score``: what a finished artefact says of labelled texts, as the server runs it, in a score file."""

from pathlib import Path

import numpy as np

from distill.cascade.score_file import ScoredTexts
from distill.data import balanced_indices, load_split
from distill.signals import text_digest
from export.reference import texts_as_sent
from export.runner import Windows, cut_windows, open_session, text_logits
from server.core.artifact import MODEL, TOKENIZER, load_manifest
from server.core.canonical import canonicalise
from server.core.errors import ConfigurationError


def score_artifact(
    artifact: Path, data: Path, *, split: str, size: int | None = None, seed: int = 0, threads: int = 1
) -> ScoredTexts:
    """Run a verified artefact over a split, both views of each text.

    Args:
        size: how many texts, drawn as ``python -m distill label`` draws them; None for the whole split.

    Raises:
        ArtifactError: the artefact can't be trusted.
        ConfigurationError: the data can't be read, lacks a column, or has no such split.
    """
    manifest = load_manifest(artifact)
    try:
        measured, fitted = load_split(data, split), load_split(data, split, assume_chat_benign=True)
    except (OSError, ConfigurationError) as error:
        raise ConfigurationError(f"labelled texts {data}: {error}") from None
    rows = np.arange(len(fitted)) if size is None else balanced_indices(fitted, size, seed)
    drawn = measured.take(rows)
    sent = texts_as_sent(data, split)[rows]
    canonical = [canonicalise(text) for text in sent]
    views = [text.deobfuscated for text in canonical]
    windows, tokens = _both_views(artifact / TOKENIZER, drawn.texts, views, max_tokens=manifest.max_tokens)
    return ScoredTexts(
        logits=text_logits(open_session(artifact / MODEL, threads=threads), windows),
        labels=drawn.labels,
        fit_labels=fitted.labels[rows],
        digests=np.array(
            [list(text_digest(text, role)) for text, role in zip(drawn.texts, drawn.roles, strict=True)], dtype=np.uint8
        ),
        rows=rows,
        tokens=tokens,
        is_disguised=np.array([text.is_changed or text.deobfuscated is not None for text in canonical]),
        calibration=manifest.calibration,
        artifact_hash=manifest.hash,
        split=split,
    )


def _both_views(tokenizer: Path, texts: list[str], views: list[str | None], *, max_tokens: int) -> tuple[Windows, np.ndarray]:
    """The windows of every text and of every second view, and each text's tokens, int64 (N,)."""
    owners = [i for i, view in enumerate(views) if view is not None]
    first = cut_windows(tokenizer, texts, max_tokens=max_tokens)
    second = cut_windows(tokenizer, [views[i] for i in owners], max_tokens=max_tokens)
    tokens = np.zeros(len(texts), dtype=np.int64)
    np.add.at(tokens, first.owners, [len(ids) for ids in first.token_ids])
    both = Windows(first.token_ids + second.token_ids, first.owners + [owners[i] for i in second.owners], len(texts))
    return both, tokens
