"""The trained student in the precision that is served: INT8 for CPUs, FP16 for GPUs.

INT8 covers the linear layers (the time) and the word embeddings (half of the file): weights are int8 with one scale per
output or word, activations uint8 with one range per layer, seen on ordinary texts beforehand. Attention's
activation-by-activation products, LayerNorm and the head stay float: there are no weights to shrink, and rounding them costs
accuracy. The graph is written for it (:mod:`export.int8_graph`); what each part of it gained is in ``docs/lab-notes.md``.

**Weights use 7 of their 8 bits.** CPUs with AVX2 or AVX-512 but without VNNI add two uint8 × int8 products in 16 bits, which
saturates at full range: 2 · 255 · 127 > 32,767, while 2 · 255 · 64 fits. One file is then right on every x86 CPU; speed and
size do not change.

**The FFN's second product** is what INT8 hurts most, as GELU's output has the widest outliers. ``float_ffn_layers`` = n
leaves those of the first n layers float, for a student that the ladder refuses otherwise. Each costs MiniLM-L6 1.8 MB and
about 10 % of the speed.

FP16 gets onnxruntime's transformer optimiser, as CUDA has a fused attention of its own.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import onnx
from onnxruntime.transformers.optimizer import optimize_model

from export.gelu import fit_curves
from export.int8_graph import int8_graph
from export.ranges import input_ranges


def to_int8(model: Any, out: Path, *, token_ids: Sequence[Sequence[int]], float_ffn_layers: int = 0) -> None:
    """Write the INT8 form of ``model`` (a ``StudentForModeration`` in eval mode) to ``out``.

    Args:
        token_ids: windows of ordinary texts that the activations' ranges, and GELU's values, are read off.
        float_ffn_layers: how many layers, from the first, keep the FFN's second product in float.
    """
    ranges, curves = input_ranges(model, token_ids), fit_curves(model, token_ids)
    onnx.save(int8_graph(model, ranges, curves, float_ffn_layers=float_ffn_layers), out)


def to_fp16(fp32: Path, out: Path, *, config: Any) -> None:
    """Write the FP16 form of ``fp32`` to ``out``, attention and LayerNorm fused; inputs and logits keep their types."""
    model = optimize_model(
        str(fp32), model_type="bert", num_heads=config.num_attention_heads, hidden_size=config.hidden_size, opt_level=0
    )
    model.convert_float_to_float16(keep_io_types=True)
    model.save_model_to_file(str(out))
