"""The student as an INT8 graph, written node by node for the kernels that ONNX Runtime is fast in on a CPU.

The same contract as the FP32 graph (:mod:`export.onnx_graph`). Shapes: B items, T tokens, H hidden, C categories; activations
are (B, T, H).

**Static activations**: each linear layer's input is rounded to uint8 by a scale that the export has fixed
(``QuantizeLinear``), multiplied as integers, and scaled back with its bias in the same kernel (``MatMulIntegerToFloat``).
Nothing is measured at run time, so a text's logits don't depend on its company; what reaches beyond its range saturates.

**Attention is ONNX's own operator** (``Attention``, opset 23), a kernel that needs no transpositions. Padding is masked by a
bias of -60: e⁻⁶⁰ is nothing beside 1, and still a normal float32. With the usual -1e9, padded batches multiply by the
denormal numbers that the exponential leaves behind, and their attention takes 1.7 times as long.

**The residual is added by** ``Sum``, since ONNX Runtime would turn ``Add`` and ``LayerNormalization`` into its
``SkipLayerNormalization``, whose CPU kernel takes eight times as long as the two.

**GELU is** ``QuickGelu`` with its factor in the weights (:mod:`export.gelu`).
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from export.gelu import SLOPE, Curve, fold_curves
from export.onnx_graph import AXES, INPUTS, OUTPUT
from export.ranges import Range
from server.core.taxonomy import CATEGORIES

MAX_WEIGHT = 64
"""Weights use 7 of their 8 bits (see :mod:`export.quantise`)."""

_OPSET, _IR_VERSION = 23, 11  # onnxruntime 1.23 is the first that runs these
_CONTRIB = "com.microsoft"
_MASKED = np.float32(-60)


def int8_graph(
    model: Any, ranges: Mapping[str, Range], curves: Sequence[Curve], *, float_ffn_layers: int = 0
) -> onnx.ModelProto:
    """The graph of a ``StudentForModeration`` with GELU and absolute positions.

    Args:
        ranges: from :func:`export.ranges.input_ranges` of the same model.
        curves: from :func:`export.gelu.fit_curves` of the same model.
        float_ffn_layers: how many layers, from the first, keep the FFN's second product in float, and GELU exact.
    """
    config = model.config
    assert config.hidden_act == "gelu", f"hidden_act is {config.hidden_act}, not gelu"
    position = getattr(config, "position_embedding_type", "absolute")
    assert position == "absolute", f"position_embedding_type is {position}, not absolute"
    curved = {index: curve for index, curve in enumerate(curves) if index >= float_ffn_layers}
    return _Writer(model, ranges, curved).write()


class _Writer:
    """One graph under construction. Methods that add nodes return the name of what they compute."""

    def __init__(self, model: Any, ranges: Mapping[str, Range], curves: Mapping[int, Curve]) -> None:
        """``curves`` has those layers' by their index whose FFN is all in integers."""
        self._config = model.config
        state = {name: tensor.detach().numpy().astype(np.float32) for name, tensor in model.state_dict().items()}
        self._state = fold_curves(state, curves)
        self._ranges = dict(ranges)
        for name in (f"layer.{index}.output.dense" for index in curves):
            low, high = ranges[name]
            self._ranges[name] = (low * SLOPE, high * SLOPE)
        self._curves = curves
        self._nodes: list[onnx.NodeProto] = []
        self._constants: dict[str, np.ndarray] = {}

    def write(self) -> onnx.ModelProto:
        ids, mask = INPUTS
        tokens = self._add("Shape", [ids], "tokens", start=1, end=2)
        real = self._add("Cast", [mask], "real", to=TensorProto.FLOAT)
        hidden, bias = self._embed(ids, tokens), self._attention_bias(real, tokens)
        for index in range(self._config.num_hidden_layers):
            hidden = self._layer(index, hidden, bias)
        self._classify(hidden, real)
        graph = helper.make_graph(
            self._nodes,
            "student",
            [helper.make_tensor_value_info(name, TensorProto.INT64, AXES) for name in INPUTS],
            [helper.make_tensor_value_info(OUTPUT, TensorProto.FLOAT, [AXES[0], len(CATEGORIES)])],
            [numpy_helper.from_array(array, name) for name, array in self._constants.items()],
        )
        opsets = [helper.make_opsetid("", _OPSET), helper.make_opsetid(_CONTRIB, 1)]
        return helper.make_model(graph, opset_imports=opsets, ir_version=_IR_VERSION)

    def _embed(self, ids: str, tokens: str) -> str:
        """(B, T) → (B, T, H). Words are int8 with a scale each; positions hold the one token type that is used."""
        part = "bert.embeddings"
        words, scales = _to_int8(self._state[f"{part}.word_embeddings.weight"], axis=1, largest=127)
        positions = self._state[f"{part}.position_embeddings.weight"] + self._state[f"{part}.token_type_embeddings.weight"][0]
        rows = self._add("Gather", [self._constant("words", words), ids], "word_rows")
        row_scales = self._add("Gather", [self._constant("word_scales", scales), ids], "word_row_scales")
        as_float = self._add("Cast", [rows], "word_floats", to=TensorProto.FLOAT)
        scaled = self._add("Mul", [as_float, row_scales], "word_vectors")
        table = self._constant("positions", positions)
        zero = self._constant("zero", np.array([0]))
        placed = self._add("Slice", [table, zero, tokens, zero], "position_vectors")
        return self._norm(self._add("Add", [scaled, placed], "embeddings"), f"{part}.LayerNorm")

    def _attention_bias(self, real: str, tokens: str) -> str:
        """(B, T) of 1 and 0 → (B, 1, T, T), by key: 0 for a real token, very negative for padding."""
        padding = self._add("Sub", [self._constant("one_float", np.float32(1)), real], "padding")
        bias = self._add("Mul", [padding, self._constant("masked", _MASKED)], "padding_bias")
        by_key = self._add("Unsqueeze", [bias, self._constant("heads_queries", np.array([1, 2]))], "key_bias")
        ones = self._constant("one_twice", np.array([1, 1]))
        shape = self._add("Concat", [ones, tokens, self._constant("one", np.array([1]))], "queries_shape", axis=0)
        return self._add("Expand", [by_key, shape], "attention_bias")

    def _layer(self, index: int, hidden: str, bias: str) -> str:
        layer = f"layer.{index}"
        attended = self._attention(f"{layer}.attention", hidden, bias)
        hidden = self._residual(f"{layer}.attention.output", attended, hidden)
        wide = self._linear(f"{layer}.intermediate.dense", hidden)
        if index in self._curves:
            curved = self._add("QuickGelu", [wide], f"{layer}.gelu", domain=_CONTRIB, alpha=1.0)
            narrow = self._linear(f"{layer}.output.dense", curved)
        else:
            curved = self._add("Gelu", [wide], f"{layer}.gelu")
            narrow = self._float_linear(f"{layer}.output.dense", curved)
        return self._residual(f"{layer}.output", narrow, hidden)

    def _attention(self, part: str, hidden: str, bias: str) -> str:
        rounded = self._rounded(f"{part}.self.query", hidden)  # the range of the other two is the same
        inputs = [self._int8_product(f"{part}.self.{name}", rounded) for name in ("query", "key", "value")]
        heads = self._config.num_attention_heads
        context = self._add("Attention", [*inputs, bias], f"{part}.context", q_num_heads=heads, kv_num_heads=heads)
        return self._linear(f"{part}.output.dense", context)

    def _classify(self, hidden: str, real: str) -> None:
        """The mean over real tokens, and the head: (B, T, H) → (B, C)."""
        axis = self._constant("one", np.array([1]))
        count = self._add("ReduceSum", [real, axis], "count", keepdims=1)
        shares = self._add("Unsqueeze", [self._add("Div", [real, count], "token_shares"), axis], "token_rows")
        pooled = self._add("Squeeze", [self._add("MatMul", [shares, hidden], "mean"), axis], "pooled")
        weight, bias = (self._constant(name, self._state[name]) for name in ("classifier.weight", "classifier.bias"))
        self._add("Gemm", [pooled, weight, bias], OUTPUT, transB=1)

    def _residual(self, part: str, change: str, hidden: str) -> str:
        return self._norm(self._add("Sum", [change, hidden], f"{part}.sum"), f"bert.encoder.{part}.LayerNorm")

    def _norm(self, values: str, part: str) -> str:
        gain, shift = (self._constant(f"{part}.{name}", self._state[f"{part}.{name}"]) for name in ("weight", "bias"))
        return self._add("LayerNormalization", [values, gain, shift], part, axis=-1, epsilon=self._config.layer_norm_eps)

    def _linear(self, name: str, values: str) -> str:
        return self._int8_product(name, self._rounded(name, values))

    def _rounded(self, name: str, values: str) -> tuple[str, str, str]:
        """The names of ``values`` as uint8 by the range of layer ``name``, of their scale and of their zero point."""
        low, high = self._ranges[name]
        step = np.float32(max(high - low, 1e-6) / 255)
        scale, zero = self._constant(f"{name}.step", step), self._constant(f"{name}.zero", np.uint8(np.rint(-low / step)))
        return self._add("QuantizeLinear", [values, scale, zero], f"{name}.rounded"), scale, zero

    def _int8_product(self, name: str, rounded: tuple[str, str, str]) -> str:
        """x W + b in float, with x as uint8 and W as int8, a scale per output."""
        matrix, bias = self._weights(name)
        weights, steps = _to_int8(matrix, axis=0, largest=MAX_WEIGHT)
        values, value_step, value_zero = rounded
        inputs = [
            values,
            self._constant(f"{name}.weights", weights),
            value_step,
            self._constant(f"{name}.weight_steps", steps[0]),
            value_zero,
            "",  # the weights' zero point is 0
            self._constant(f"{name}.bias", bias),
        ]
        return self._add("MatMulIntegerToFloat", inputs, name, domain=_CONTRIB)

    def _float_linear(self, name: str, values: str) -> str:
        matrix, bias = self._weights(name)
        product = self._add("MatMul", [values, self._constant(f"{name}.weights", matrix)], f"{name}.product")
        return self._add("Add", [product, self._constant(f"{name}.bias", bias)], name)

    def _weights(self, name: str) -> tuple[np.ndarray, np.ndarray]:
        """(K, M) and (M,) of an encoder's linear layer."""
        part = f"bert.encoder.{name}"
        return self._state[f"{part}.weight"].T, self._state[f"{part}.bias"]

    def _add(self, kind: str, inputs: list[str], output: str, *, domain: str = "", **attributes: Any) -> str:
        self._nodes.append(helper.make_node(kind, inputs, [output], name=output, domain=domain, **attributes))
        return output

    def _constant(self, name: str, array: np.ndarray | np.generic) -> str:
        self._constants[name] = np.ascontiguousarray(array) if np.ndim(array) else np.asarray(array)
        return name


def _to_int8(table: np.ndarray, *, axis: int, largest: int) -> tuple[np.ndarray, np.ndarray]:
    """Values in ±``largest``, and their scales over ``axis`` (kept with size 1); symmetric, so 0 stays 0."""
    steps = (np.maximum(np.abs(table).max(axis=axis, keepdims=True), 1e-12) / largest).astype(np.float32)
    return np.rint(table / steps).astype(np.int8), steps
