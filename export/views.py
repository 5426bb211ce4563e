"""``python -m export views``: what reading texts in canonical form, and some of them twice, costs and brings."""

import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from tabulate import tabulate
from tqdm import tqdm

from distill.calibrate import apply_calibration
from distill.data import load_split, random_indices
from export.disguises import DISGUISES
from export.reference import texts_as_sent
from export.runner import cut_windows, open_session, text_logits
from server.core.artifact import MODEL, TOKENIZER, Manifest, load_manifest
from server.core.canonical import canonicalise
from server.core.errors import ConfigurationError
from server.core.policy import Policy

READINGS = ("as_sent", "canonical", "both_views")
"""The text itself; its canonical view; the larger score of that and the de-obfuscated view, which is what the server does."""


def measure_views(
    artifact: Path, data: Path, policy: Policy, *, limit: int | None = None, seed: int = 0, threads: int = 1
) -> dict[str, Any]:
    """Read dev texts in each way, undisguised and in every disguise, and count what the policy blocks.

    Returns:
        JSON's kinds alone. ``benign`` are the texts in which no known category is harmful, ordinary chat included;
        ``harmful`` those in which one is and which are blocked as sent; each with its number and, by reading, the share that
        is blocked. ``disguises`` has the same of the harmful ones, by disguise. ``cost`` says which share of the texts has a
        second view, and how many times the windows and tokens of the canonical view are read.

    Raises:
        ArtifactError: the artefact can't be trusted.
        ConfigurationError: the data can't be read, lacks a column, or has no dev rows.
    """
    manifest = load_manifest(artifact)
    reader = _Reader(manifest, artifact / TOKENIZER, open_session(artifact / MODEL, threads=threads), policy)
    try:
        labels, sent = load_split(data, "dev", assume_chat_benign=True).labels, texts_as_sent(data, "dev")
    except (OSError, ConfigurationError) as error:
        raise ConfigurationError(f"labelled texts {data}: {error}") from None
    drawn = random_indices(len(sent), limit, seed)
    texts, labels = sent[drawn].tolist(), labels[drawn]
    worst = np.nan_to_num(labels, nan=0.0).max(axis=1)
    is_known = ~np.isnan(labels).all(axis=1)
    blocked = reader.blocked(texts)
    benign = is_known & (worst == 0)
    caught = (worst == 1) & blocked["as_sent"]
    rng = random.Random(seed)
    caught_texts = [texts[i] for i in np.flatnonzero(caught)]
    every = np.ones(len(caught_texts), dtype=bool)
    disguises = {}
    for name, hide in tqdm(DISGUISES.items(), desc="views", unit="disguise"):
        disguises[name] = _shares(reader.blocked([hide(text, rng) for text in caught_texts]), every)
    return {
        "artifact_hash": manifest.hash,
        "texts": len(texts),
        "benign": _shares(blocked, benign),
        "harmful": _shares(blocked, caught),
        "disguises": disguises,
        "cost": reader.cost(texts),
    }


class _Reader:
    def __init__(self, manifest: Manifest, tokenizer: Path, session: onnxruntime.InferenceSession, policy: Policy) -> None:
        self._manifest = manifest
        self._tokenizer = tokenizer
        self._session = session
        self._block_at = np.array([rule.block_at for rule in policy.rules])

    def blocked(self, texts: Sequence[str]) -> dict[str, np.ndarray]:
        """By reading, bool (N,): some score is at or above its threshold."""
        canonical = [canonicalise(text) for text in texts]
        seconds = [i for i, text in enumerate(canonical) if text.deobfuscated is not None]
        plain = self._blocked([text.encode("utf-8", "replace").decode() for text in texts])
        first = self._blocked([text.text for text in canonical])
        both = first.copy()
        if seconds:
            both[seconds] |= self._blocked([canonical[i].deobfuscated for i in seconds])
        return dict(zip(READINGS, (plain, first, both), strict=True))

    def cost(self, texts: Sequence[str]) -> dict[str, float]:
        canonical = [canonicalise(text) for text in texts]
        first, second = ([t.text for t in canonical], [t.deobfuscated for t in canonical if t.deobfuscated is not None])
        windows, more = (cut_windows(self._tokenizer, view, max_tokens=self._manifest.max_tokens) for view in (first, second))
        tokens, more_tokens = (sum(map(len, view.token_ids)) for view in (windows, more))
        return {
            "changed_share": float(np.mean([text.is_changed for text in canonical])),
            "second_view_share": len(second) / len(texts),
            "windows": 1 + len(more.token_ids) / len(windows.token_ids),
            "tokens": 1 + more_tokens / tokens,
        }

    def _blocked(self, texts: Sequence[str]) -> np.ndarray:
        logits = text_logits(self._session, cut_windows(self._tokenizer, texts, max_tokens=self._manifest.max_tokens))
        return (apply_calibration(logits, self._manifest.calibration) >= self._block_at).any(axis=1)


def _shares(blocked: dict[str, np.ndarray], which: np.ndarray) -> dict[str, float | None]:
    """None of no texts."""
    shares = {reading: float(blocks[which].mean()) if which.any() else None for reading, blocks in blocked.items()}
    return {"texts": int(which.sum())} | shares


def table(found: dict[str, Any]) -> str:
    """:func:`measure_views` for people: the share that is blocked, by reading."""
    lines = {"harmless": found["benign"], "harmful": found["harmful"]} | {
        f"harmful, {name.replace('_', ' ')}": shares for name, shares in found["disguises"].items()
    }
    rows = [
        [name, shares["texts"], *("" if shares[reading] is None else f"{shares[reading]:.1%}" for reading in READINGS)]
        for name, shares in lines.items()
    ]
    return tabulate(rows, headers=["blocked", "texts", *(reading.replace("_", " ") for reading in READINGS)])
