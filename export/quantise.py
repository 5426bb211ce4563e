"""FP32 graph to the precision that is served: INT8 for CPUs, FP16 for GPUs.

INT8 is dynamic: weights are stored as int8 with one scale per output channel, activations are measured and rounded to
uint8 at run time. Only what gains is touched: the MatMuls that have weights (the time) and the embedding tables (half of
the file). Attention's activation-by-activation products, LayerNorm and the head stay float: there are no weights to
shrink, and rounding them costs accuracy. Activations are smoothed first (:mod:`export.smooth`).

**Weights use 7 of their 8 bits** (``reduce_range``). CPUs with AVX2 or AVX-512 but without VNNI add two uint8 × int8
products in 16 bits, which saturates at full range: 2 · 255 · 127 > 32,767, while 2 · 255 · 64 fits. One file is then right
on every x86 CPU. The cost, on MiniLM-L6 over 200 dev texts: the RMS error of a logit is 0.075 of that logit's spread
instead of 0.063; speed and size do not change.

**The FFN's second MatMul** is what INT8 hurts most, as GELU's output has the widest outliers. ``float_ffn_layers`` = n leaves
those of the first n layers float, for a student that the ladder refuses otherwise. Each costs MiniLM-L6 1.8 MB and about
10 % of the speed; the error falls from 0.075 to 0.067 (n = 1) and 0.062 (n = 2).

**No offline fusion before INT8.** onnxruntime's session fuses GELU and (Skip)LayerNorm by itself when it loads the graph;
its transformer optimiser, run beforehand, adds only fused attention, whose quantised kernel measured 4–20 % *slower* than
the plain MatMuls (MiniLM-L6, one thread, AVX-512 VNNI; 1 × 32, 8 × 64 and 1 × 256 tokens). CUDA's fused FP16 attention is
another kernel, so FP16 does get the optimiser.
"""

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import onnx
from onnxruntime.transformers.optimizer import optimize_model
from optimum.onnxruntime import AutoQuantizationConfig, ORTQuantizer

from export.smooth import smooth, weight_nodes


def to_int8(
    fp32: Path, out: Path, *, config: Any, token_ids: Sequence[Sequence[int]], scratch: Path, float_ffn_layers: int = 0
) -> None:
    """Write the INT8 form of ``fp32`` to ``out``.

    Args:
        config: the model's transformers config; optimum stores it beside its own output.
        token_ids: windows of ordinary texts that the smoothing is fitted on.
        scratch: an empty folder for what is left behind on the way.
        float_ffn_layers: how many layers, from the first, keep the FFN's second MatMul in float.
    """
    smoothed = scratch / "smoothed.onnx"
    smooth(fp32, smoothed, token_ids)
    kept_float = tuple(f"/layer.{layer}/output/dense/MatMul" for layer in range(float_ffn_layers))
    names = [node.name for node in weight_nodes(onnx.load(smoothed).graph) if not node.name.endswith(kept_float)]
    recipe = AutoQuantizationConfig.avx512_vnni(
        is_static=False, per_channel=True, operators_to_quantize=["MatMul", "Gather"], nodes_to_quantize=names
    )
    recipe.reduce_range = True
    ORTQuantizer(smoothed, config=config).quantize(recipe, save_dir=scratch, file_suffix="int8")
    shutil.move(scratch / "smoothed_int8.onnx", out)


def to_fp16(fp32: Path, out: Path, *, config: Any) -> None:
    """Write the FP16 form of ``fp32`` to ``out``, attention and LayerNorm fused; inputs and logits keep their types."""
    model = optimize_model(
        str(fp32), model_type="bert", num_heads=config.num_attention_heads, hidden_size=config.hidden_size, opt_level=0
    )
    model.convert_float_to_float16(keep_io_types=True)
    model.save_model_to_file(str(out))
