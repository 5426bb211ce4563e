"""The graphs that are written: the contract of FP32, what INT8 and FP16 touch, and that smoothing changes no answer."""

from collections import Counter

import numpy as np
import onnx
import pytest

from export.onnx_graph import to_onnx
from export.proof import check_shapes, check_structure
from export.quantise import to_fp16, to_int8
from export.runner import open_session, spread_sample, text_logits
from export.smooth import smooth, weight_nodes


def operators(path) -> Counter:
    return Counter(node.op_type for node in onnx.load(path).graph.node)


@pytest.fixture(scope="module")
def sample(windows):
    return spread_sample(windows, 32)[0]


@pytest.fixture(scope="module")
def int8_graph(student, fp32_graph, sample, tmp_path_factory):
    folder = tmp_path_factory.mktemp("int8")
    path = folder / "model.onnx"
    to_int8(fp32_graph, path, config=student[0].config, token_ids=sample.token_ids, scratch=folder)
    return path


def test_the_fp32_graph_keeps_the_contract(fp32_graph):
    assert check_structure(fp32_graph) == []
    assert check_shapes(open_session(fp32_graph), max_tokens=16) == []


def test_exporting_puts_the_model_into_eval_mode(student, tmp_path):
    model = student[0].train()
    to_onnx(model, tmp_path / "graph.onnx")
    assert not model.training


def test_int8_applies_to_stored_weights_only(fp32_graph):
    nodes = weight_nodes(onnx.load(fp32_graph).graph)
    kinds = Counter(node.op_type for node in nodes)
    assert kinds == {"MatMul": 2 * 6, "Gather": 3}
    assert not any("attention/self/MatMul" in node.name for node in nodes)


def test_int8_holds_no_large_float_tensor(int8_graph):
    tensors = onnx.load(int8_graph).graph.initializer
    floats = [t.name for t in tensors if t.data_type == onnx.TensorProto.FLOAT and int(np.prod(t.dims)) > 8 * 32]
    assert floats == []
    assert operators(int8_graph)["MatMulInteger"] == 12


def test_int8_weights_leave_one_bit_unused(int8_graph):
    tensors = onnx.load(int8_graph).graph.initializer
    weights = [onnx.numpy_helper.to_array(t) for t in tensors if t.data_type == onnx.TensorProto.INT8 and len(t.dims) == 2]
    assert len(weights) >= 12
    assert max(np.abs(w.astype(int)).max() for w in weights) == 64


def test_int8_may_keep_the_second_ffn_matmul_float(student, fp32_graph, sample, tmp_path):
    path = tmp_path / "model.onnx"
    to_int8(fp32_graph, path, config=student[0].config, token_ids=sample.token_ids, scratch=tmp_path, float_ffn_layers=1)
    assert operators(path)["MatMulInteger"] == 11
    names = {node.name for node in onnx.load(path).graph.node if node.op_type == "MatMul"}
    assert "/bert/encoder/layer.0/output/dense/MatMul" in names
    assert "/bert/encoder/layer.1/output/dense/MatMul" not in names


def test_smoothing_changes_the_weights_and_no_answer(fp32_graph, sample, tmp_path):
    smoothed = tmp_path / "smoothed.onnx"
    smooth(fp32_graph, smoothed, sample.token_ids)
    assert operators(smoothed)["Mul"] == operators(fp32_graph)["Mul"] + 2 * 4
    before, after = (text_logits(open_session(path), sample) for path in (fp32_graph, smoothed))
    np.testing.assert_allclose(after, before, atol=1e-4)


def test_smoothing_shrinks_an_outlier(tmp_path, fp32_graph, sample):
    model = onnx.load(fp32_graph)
    node = next(n for n in weight_nodes(model.graph) if n.name.endswith("layer.1/output/dense/MatMul"))
    spreads = {}
    for strength in (0.0, 1.0):
        path = tmp_path / f"{strength}.onnx"
        smooth(fp32_graph, path, sample.token_ids, strength=strength)
        weights = {t.name: onnx.numpy_helper.to_array(t) for t in onnx.load(path).graph.initializer}
        scale = 1 / weights[f"{node.input[0]}_inverse_scale"]
        rows = np.abs(weights[node.input[1]]).max(axis=1)
        spreads[strength] = rows.max() / rows.min()
        assert np.exp(np.log(scale).mean()) == pytest.approx(1, rel=1e-3)
    assert spreads[0.0] == pytest.approx(1, rel=1e-3), "at strength 0 the weights' rows are levelled"
    assert spreads[1.0] > 1.5, "at strength 1 they carry the activations' outliers"


def test_fp16_keeps_the_contract_and_the_answers(student, fp32_graph, sample, tmp_path):
    path = tmp_path / "fp16.onnx"
    to_fp16(fp32_graph, path, config=student[0].config)
    assert check_structure(path) == []
    assert operators(path)["Attention"] == 2
    halves = [t for t in onnx.load(path).graph.initializer if t.data_type == onnx.TensorProto.FLOAT16]
    assert len(halves) > 12
    before, after = (text_logits(open_session(file), sample) for file in (fp32_graph, path))
    np.testing.assert_allclose(after, before, atol=0.05)
