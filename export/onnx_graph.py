"""The student as an FP32 ONNX graph, by optimum's exporter.

The graph's contract, which the server's sessions rely on:

    input_ids       int64   (batch_size, sequence_length)
    attention_mask  int64   (batch_size, sequence_length)   1 for a real token, 0 for padding
    logits          float32 (batch_size, C)                 columns in taxonomy order

``token_type_ids`` are all zero for single texts, so they are constants inside the graph.
"""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from optimum.exporters.onnx import export
from optimum.exporters.onnx.model_configs import BertOnnxConfig
from torch.jit import TracerWarning

INPUTS = ("input_ids", "attention_mask")
OUTPUT = "logits"
AXES = ("batch_size", "sequence_length")


class StudentOnnxConfig(BertOnnxConfig):
    """BERT with the two inputs that the server sends; both of their axes are dynamic."""

    @property
    def inputs(self) -> dict[str, dict[int, str]]:
        return {name: dict(enumerate(AXES)) for name in INPUTS}

    @property
    def outputs(self) -> dict[str, dict[int, str]]:
        return {OUTPUT: {0: AXES[0]}}


def to_onnx(model: Any, path: Path) -> None:
    """Write ``model`` (a ``StudentForModeration``, put into eval mode) as an FP32 graph with the contract above."""
    config = StudentOnnxConfig(model.config, task="text-classification")
    with _known_exporter_warnings_ignored():
        export(model, config, path)


@contextmanager
def _known_exporter_warnings_ignored() -> Iterator[None]:
    """optimum-onnx 0.1 asks for torch's TorchScript exporter, which torch calls deprecated on every use; the tracer warns of
    the constants that make this graph's mask. What the trace got wrong, if anything, the ladder of proofs finds."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        warnings.simplefilter("ignore", TracerWarning)
        yield
