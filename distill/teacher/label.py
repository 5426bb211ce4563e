"""Run the teacher over texts × categories and keep its signals; a killed run goes on where it stopped."""

import time

import numpy as np
import torch
from tqdm import tqdm

from distill.data import LabelledTexts
from distill.signals import SignalStore, text_digest
from distill.teacher.model import ALL_CATEGORIES, Judge, TreeEncoder


def label_texts(
    judge: Judge,
    encoder: TreeEncoder,
    rows: LabelledTexts,
    store: SignalStore,
    *,
    max_batch_tokens: int = 4096,
    commit_every_s: float = 10.0,
) -> int:
    """Judge every text that the store lacks, on all categories. Returns how many were new.

    Signals reach the disk every ``commit_every_s``; that much work is all that a kill can cost.
    """
    pending: dict[bytes, int] = {}
    for index, (text, role) in enumerate(zip(rows.texts, rows.roles, strict=True)):
        digest = text_digest(text, role)
        if digest not in store:
            pending.setdefault(digest, index)
    buffer: list[tuple[bytes, np.ndarray, np.ndarray]] = []

    def commit() -> None:
        if buffer:
            digests, margins, hidden = zip(*buffer, strict=True)
            store.append(digests, np.stack(margins), np.stack(hidden))
            buffer.clear()

    committed_at = time.monotonic()
    work = list(pending.items())
    with tqdm(total=len(work), desc="label", unit="text") as progress:
        for start in range(0, len(work), 256):
            part = work[start : start + 256]
            indices = np.array([index for _, index in part])
            digest_of = {index: digest for digest, index in part}
            asked = [ALL_CATEGORIES] * len(indices)
            for batch_rows, margins, hidden in judge_batches(
                judge, encoder, rows, indices, asked, max_batch_tokens=max_batch_tokens
            ):
                shape = (len(batch_rows), len(ALL_CATEGORIES))
                for index, m, h in zip(batch_rows, margins.reshape(shape), hidden.reshape(*shape, -1), strict=True):
                    buffer.append((digest_of[index], m, h))
                progress.update(len(batch_rows))
                if time.monotonic() - committed_at > commit_every_s:
                    commit()
                    committed_at = time.monotonic()
        commit()
    return len(work)


def judge_known(judge: Judge, encoder: TreeEncoder, rows: LabelledTexts, *, max_batch_tokens: int = 4096) -> np.ndarray:
    """Margins float32 (N, C) where a label is known, NaN elsewhere: what calibrating and measuring a teacher need."""
    asked = [tuple(np.flatnonzero(~np.isnan(labels)).tolist()) for labels in rows.labels]
    margins = np.full(rows.labels.shape, np.nan, dtype=np.float32)
    indices = np.flatnonzero([bool(categories) for categories in asked])
    with tqdm(total=len(indices), desc="judge", unit="text") as progress:
        for batch_rows, answers, _ in judge_batches(
            judge, encoder, rows, indices, [asked[i] for i in indices], max_batch_tokens=max_batch_tokens
        ):
            position = 0
            for index in batch_rows:
                margins[index, list(asked[index])] = answers[position : position + len(asked[index])]
                position += len(asked[index])
            progress.update(len(batch_rows))
    return margins


def judge_batches(judge: Judge, encoder: TreeEncoder, rows: LabelledTexts, indices, asked, *, max_batch_tokens: int):
    """Yield (row indices, margins (L,), hidden (L, H)) in batches by length; leaves follow the rows' asked categories."""
    texts, roles = [rows.texts[i] for i in indices], [rows.roles[i] for i in indices]
    for part, batch in encoder.batches(texts, roles, asked, max_tokens=max_batch_tokens):
        with torch.inference_mode():
            margins, hidden = judge.leaves(batch)
        yield [int(indices[j]) for j in part], margins.numpy(), hidden.numpy()
