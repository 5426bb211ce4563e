"""What training reads: texts with their labels and the teacher's signals, in what order, and in which tensors."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from transformers.trainer_pt_utils import LengthGroupedSampler

from distill.data import LabelledTexts
from distill.features import Whitener
from distill.signals import SignalStore
from distill.soft_labels import signal_rows, teacher_logits
from server.core.calibration import Calibration
from server.core.errors import ConfigurationError
from server.core.taxonomy import CATEGORIES


@dataclass(frozen=True, slots=True)
class TeacherSignals:
    """Signals beside N texts: ``logits`` float32 (N, C) soft labels, ``features`` float32 (N, K); NaN = not asked."""

    logits: np.ndarray
    features: np.ndarray


def align_signals(
    rows: LabelledTexts, store: SignalStore | None, calibration: Calibration | None, *, dimensions: int
) -> TeacherSignals:
    """Find each text's signal; fit the frozen feature target on those that have one.

    Raises:
        ConfigurationError: the store has a signal for fewer than two of them, of which no target can be made.
    """
    n = len(rows)
    if store is None:
        nothing = np.full((n, len(CATEGORIES)), np.nan, dtype=np.float32)
        return TeacherSignals(nothing, np.full((n, 1), np.nan, dtype=np.float32))
    found = signal_rows(rows, store)
    has_signal = found >= 0
    asked = np.unique(found[has_signal])
    if len(asked) < 2:
        raise ConfigurationError(f"the teacher was asked about {len(asked)} of {n} texts to train on: run label --split train")
    hidden = store.hidden()[asked]
    whitener = Whitener.fit(hidden, dimensions=dimensions)
    features = np.full((n, len(whitener.components)), np.nan, dtype=np.float32)
    features[has_signal] = whitener(store.hidden()[found[has_signal]])
    return TeacherSignals(teacher_logits(rows, store, calibration), features)


class DistillationData(torch.utils.data.Dataset):
    """Rows as the Trainer wants them; texts are encoded once, cut at ``max_tokens``."""

    def __init__(self, rows: LabelledTexts, signals: TeacherSignals, tokenizer, *, max_tokens: int) -> None:
        encoded = tokenizer(rows.texts, truncation=True, max_length=max_tokens, return_attention_mask=False)
        self.input_ids = encoded["input_ids"]
        self.rows, self.signals = rows, signals

    def __len__(self) -> int:
        return len(self.input_ids)

    @property
    def lengths(self) -> list[int]:
        """Tokens of each text."""
        return [len(ids) for ids in self.input_ids]

    def __getitem__(self, index: int) -> dict:
        return {
            "input_ids": self.input_ids[index],
            "labels": self.rows.labels[index],
            "teacher_logits": self.signals.logits[index],
            "teacher_features": self.signals.features[index],
        }


def collate(records: list[dict], *, pad_id: int = 0) -> dict[str, torch.Tensor]:
    """Right-pad to the longest: ``input_ids`` and ``attention_mask`` int64 (B, T), the rest stacked."""
    width = max(len(record["input_ids"]) for record in records)
    ids = torch.full((len(records), width), pad_id, dtype=torch.long)
    mask = torch.zeros_like(ids)
    for row, record in enumerate(records):
        length = len(record["input_ids"])
        ids[row, :length] = torch.tensor(record["input_ids"])
        mask[row, :length] = 1
    stacked = {key: torch.from_numpy(np.stack([record[key] for record in records])) for key in records[0] if key != "input_ids"}
    return {"input_ids": ids, "attention_mask": mask, **stacked}


class LengthOrder(LengthGroupedSampler):
    """Texts of like length beside each other, in an order that the seed and the epoch alone make: a run that goes on in the
    middle of an epoch sees the texts that are left of it, each once. The Trainer's own order is another after a kill."""

    def __init__(self, batch_size: int, *, lengths: list[int], seed: int) -> None:
        super().__init__(batch_size, lengths=lengths)
        self.seed, self.epoch = seed, 0

    def set_epoch(self, epoch: int) -> None:
        """Called before each epoch, counted from 0."""
        self.epoch = epoch

    def __iter__(self) -> Iterator[int]:
        self.generator = torch.Generator().manual_seed(self.seed + 1_000_003 * self.epoch)
        return super().__iter__()
