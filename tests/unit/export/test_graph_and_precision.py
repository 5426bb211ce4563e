"""The graphs that are written: the contract that all keep, and what FP16 touches."""

import numpy as np
import onnx
import pytest

from export.onnx_graph import to_onnx
from export.proof import check_shapes, check_structure
from export.quantise import to_fp16
from export.runner import open_session, spread_sample, text_logits


@pytest.fixture(scope="module")
def sample(windows):
    return spread_sample(windows, 32)[0]


def test_the_fp32_graph_keeps_the_contract(fp32_graph):
    assert check_structure(fp32_graph) == []
    assert check_shapes(open_session(fp32_graph), max_tokens=16) == []


def test_exporting_puts_the_model_into_eval_mode(student, tmp_path):
    model = student[0].train()
    to_onnx(model, tmp_path / "graph.onnx")
    assert not model.training


def test_fp16_keeps_the_contract_and_the_answers(student, fp32_graph, sample, tmp_path):
    path = tmp_path / "fp16.onnx"
    to_fp16(fp32_graph, path, config=student[0].config)
    assert check_structure(path) == []
    graph = onnx.load(path).graph
    assert [node.op_type for node in graph.node].count("Attention") == 2
    halves = [t for t in graph.initializer if t.data_type == onnx.TensorProto.FLOAT16]
    assert len(halves) > 12
    before, after = (text_logits(open_session(file), sample) for file in (fp32_graph, path))
    np.testing.assert_allclose(after, before, atol=0.05)
