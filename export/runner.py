"""A graph over texts, as the server runs it: the server's own windows, batches of like length, and the maximum over a text's
windows. Shapes: N texts, B windows, T tokens, C categories."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from tokenizers import Tokenizer

from export.onnx_graph import INPUTS, OUTPUT
from server.core.taxonomy import CATEGORIES
from server.inference.encoder import WindowEncoder

OVERLAP_TOKENS = 32
BATCH_ITEMS = 32


@dataclass(frozen=True, slots=True)
class Windows:
    """The windows of N texts: ``token_ids[i]`` belongs to text ``owners[i]``. No text is without a window."""

    token_ids: list[list[int]]
    owners: list[int]
    texts: int


def shipped_tokenizer(tokenizer: Any) -> Tokenizer:
    """A copy of a transformers fast tokenizer that neither truncates nor pads: windows are the server's affair."""
    copy = Tokenizer.from_str(tokenizer.backend_tokenizer.to_str())
    copy.no_truncation()
    copy.no_padding()
    return copy


def cut_windows(tokenizer: Path, texts: Sequence[str], *, max_tokens: int) -> Windows:
    """Every text in windows of at most ``max_tokens``, special tokens included, cut by the server's own encoder: thresholds,
    calibration and proof are of what is served.

    Args:
        tokenizer: the shipped ``tokenizer.json``.

    Raises:
        ArtifactError: it is missing or is no tokenizer.
    """
    encoder = WindowEncoder(tokenizer, max_tokens=max_tokens, overlap_tokens=min(OVERLAP_TOKENS, max_tokens // 4))
    cut = [encoder.encode(text) for text in texts]
    owners = [owner for owner, windows in enumerate(cut) for _ in windows]
    return Windows([list(window.token_ids) for windows in cut for window in windows], owners, len(texts))


def spread_sample(windows: Windows, texts: int) -> tuple[Windows, np.ndarray]:
    """The windows of at most ``texts`` texts, spread evenly over all, and which texts these are (ascending)."""
    chosen = np.unique(np.linspace(0, windows.texts - 1, min(texts, windows.texts)).astype(int))
    place = {int(text): i for i, text in enumerate(chosen)}
    kept = [i for i, owner in enumerate(windows.owners) if owner in place]
    sample = Windows([windows.token_ids[i] for i in kept], [place[windows.owners[i]] for i in kept], len(chosen))
    return sample, chosen


def open_session(path: Path, *, threads: int = 1) -> onnxruntime.InferenceSession:
    """A CPU session with that many threads inside an operator and one between operators."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def pad(token_ids: Sequence[Sequence[int]]) -> dict[str, np.ndarray]:
    """The graph's inputs for B windows: int64 (B, T), T the longest; padding is id 0 with mask 0."""
    lengths = np.array([len(ids) for ids in token_ids])
    mask = (np.arange(lengths.max()) < lengths[:, None]).astype(np.int64)
    ids = np.zeros_like(mask)
    ids[mask == 1] = np.concatenate([np.asarray(window, dtype=np.int64) for window in token_ids])
    return dict(zip(INPUTS, (ids, mask), strict=True))


def text_logits(session: onnxruntime.InferenceSession, windows: Windows, *, batch_items: int = BATCH_ITEMS) -> np.ndarray:
    """float32 (N, C): per text, the maximum over its windows. ``batch_items`` = 1 runs each window alone."""
    logits = np.full((windows.texts, len(CATEGORIES)), -np.inf, dtype=np.float32)
    owners = np.array(windows.owners)
    order = np.argsort([len(ids) for ids in windows.token_ids], kind="stable")
    for start in range(0, len(order), batch_items):
        part = order[start : start + batch_items]
        out = session.run([OUTPUT], pad([windows.token_ids[i] for i in part]))[0]
        np.maximum.at(logits, owners[part], out)
    return logits


def speedup(
    slow: onnxruntime.InferenceSession,
    fast: onnxruntime.InferenceSession,
    token_ids: Sequence[Sequence[int]],
    *,
    rounds: int = 3,
) -> float:
    """How many times the CPU time of ``fast`` ``slow`` takes on these windows, one at a time, in this run.

    The two alternate window by window and each one's best round counts, so a busy machine slows both; waiting for a core
    doesn't count at all.
    """
    best = np.full(2, np.inf)
    for _ in range(rounds + 1):  # the first round also warms both up
        spent_s = np.zeros(2)
        for ids in token_ids:
            feed = pad([ids])
            for which, session in enumerate((slow, fast)):
                started = time.process_time()
                session.run([OUTPUT], feed)
                spent_s[which] += time.process_time() - started
        best = np.minimum(best, spent_s)
    return float(best[0] / best[1])
