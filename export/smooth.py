"""Smooth a graph's activations before they are rounded: the same function, far smaller outliers.

A few input channels of each MatMul are tens of times larger than the others, and dynamic INT8 has one scale for them all.
SmoothQuant (Xiao et al., arXiv 2211.10438) divides channel j by s_j and multiplies row j of the weights by it, where
s_j = max|X_j|^a / max|W_j|^(1-a), so that activations and weights share the difficulty. MatMuls with the same input share
one division. Unlike the paper, the division stays a ``Mul`` of its own: BERT's LayerNorm also feeds the residual, so it
can't take the scales in; the cost is within the noise of a run.

Measured on MiniLM-L6 with a linear head over 200 dev texts, INT8 logits against FP32: at strength 0.7 the RMS error falls
from 0.122 to 0.075 of a logit's spread, and the largest change of a logit by its batch from 0.59 to 0.34.
"""

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
from onnx import numpy_helper

from export.runner import open_session, pad

STRENGTH = 0.7


def weight_nodes(graph: onnx.GraphProto) -> list[onnx.NodeProto]:
    """The nodes that INT8 applies to: MatMuls by a stored matrix, and look-ups in a stored float table."""
    stored = {tensor.name: tensor for tensor in graph.initializer}
    nodes = []
    for node in graph.node:
        place = {"MatMul": 1, "Gather": 0}.get(node.op_type)
        weights = stored.get(node.input[place]) if place is not None else None
        if weights is not None and weights.data_type == onnx.TensorProto.FLOAT and len(weights.dims) == 2:
            nodes.append(node)
    return nodes


def smooth(graph_file: Path, out: Path, token_ids: Sequence[Sequence[int]], *, strength: float = STRENGTH) -> None:
    """Write ``graph_file`` with smoothed MatMul inputs to ``out``.

    Args:
        token_ids: windows of ordinary texts, to see how large each channel gets; a few dozen do.
        strength: ``a`` in [0, 1]; 0 leaves the activations' outliers where they are, 1 moves them all into the weights.
    """
    model = onnx.load(graph_file)
    consumers: dict[str, list[onnx.NodeProto]] = defaultdict(list)
    for node in weight_nodes(model.graph):
        if node.op_type == "MatMul":
            consumers[node.input[0]].append(node)
    largest = _largest_per_channel(model, list(consumers), token_ids, out.with_suffix(".probe.onnx"))
    weights = {tensor.name: tensor for tensor in model.graph.initializer}
    for name, nodes in consumers.items():
        matrices = [numpy_helper.to_array(weights[node.input[1]]) for node in nodes]
        scale = _scales(largest[name], np.max([np.abs(matrix).max(axis=1) for matrix in matrices], axis=0), strength)
        _divide_input(model.graph, name, nodes, scale)
        for node, matrix in zip(nodes, matrices, strict=True):
            weights[node.input[1]].CopyFrom(numpy_helper.from_array(matrix * scale[:, None], node.input[1]))
    onnx.save(model, out)


def _scales(activations: np.ndarray, weights: np.ndarray, strength: float) -> np.ndarray:
    """s_j per channel, float32, with geometric mean 1; the floors keep a channel that is always 0 finite."""
    scale = np.maximum(activations, 1e-5) ** strength / np.maximum(weights, 1e-5) ** (1 - strength)
    return (scale / np.exp(np.log(scale).mean())).astype(np.float32)


def _divide_input(graph: onnx.GraphProto, name: str, consumers: list[onnx.NodeProto], scale: np.ndarray) -> None:
    divisor, smoothed = f"{name}_inverse_scale", f"{name}_smoothed"
    graph.initializer.append(numpy_helper.from_array(1 / scale, divisor))
    first = min(index for index, node in enumerate(graph.node) if any(node is c or node.name == c.name for c in consumers))
    for consumer in consumers:
        consumer.input[0] = smoothed
    graph.node.insert(first, onnx.helper.make_node("Mul", [name, divisor], [smoothed], name=f"{name}_smooth"))


def _largest_per_channel(
    model: onnx.ModelProto, tensors: list[str], token_ids: Sequence[Sequence[int]], probe_file: Path
) -> dict[str, np.ndarray]:
    """max |x| over all windows and tokens, per last-axis channel of each tensor."""
    probe = onnx.ModelProto()
    probe.CopyFrom(model)
    probe.graph.output.extend(onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None) for name in tensors)
    onnx.save(probe, probe_file)
    session = open_session(probe_file)
    largest: dict[str, np.ndarray] = {}
    for ids in token_ids:
        for name, values in zip(tensors, session.run(tensors, pad([ids])), strict=True):
            seen = np.abs(values).max(axis=(0, 1))
            largest[name] = np.maximum(largest[name], seen) if name in largest else seen
    return largest
