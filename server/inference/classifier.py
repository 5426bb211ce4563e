"""The seam between the model and everything else: windows in, logits out.

Shapes: B items (windows), T tokens, C categories.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

Checkpoint = Callable[[int], None]
"""Told how many windows a text needs at least, as far as it was read; what it raises ends the reading."""


@dataclass(frozen=True, slots=True)
class Window:
    """A token span of a text that fits the model, special tokens included.

    ``start`` and ``end`` are character offsets into the text that was encoded.
    """

    token_ids: Sequence[int] = field(repr=False)
    start: int
    end: int

    @property
    def tokens(self) -> int:
        return len(self.token_ids)


class Encoder(Protocol):
    """Text to windows. Thread-safe; never truncates: the windows cover the whole text."""

    def encode(self, text: str, checkpoint: Checkpoint | None = None) -> list[Window]:
        """At least one window, each of at most the model's ``max_tokens``; neighbours overlap.

        Args:
            checkpoint: called every few milliseconds while a long text is read.
        """
        ...


class Classifier(Protocol):
    """One session of the model. Used by one thread at a time."""

    def classify(self, windows: Sequence[Window]) -> np.ndarray:
        """float32 (B, C): raw logits, row i for window i, columns in taxonomy order."""
        ...

    def warm_up(self) -> None:
        """Run once at typical shapes, so that the first request pays for no allocation or kernel choice."""
        ...
