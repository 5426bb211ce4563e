"""The INT8 graph: the contract, what is rounded and how far, and that neither padding nor company moves a logit."""

import copy
from collections import Counter

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from export.gelu import SLOPE, fit_curves, fold_curves
from export.int8_graph import int8_graph
from export.proof import check_shapes, check_structure
from export.quantise import to_int8
from export.ranges import input_ranges
from export.runner import OUTPUT, open_session, pad, text_logits

LAYERS = 2
LINEAR = ("attention.self.query", "attention.self.key", "attention.self.value", "attention.output.dense")
FFN = ("intermediate.dense", "output.dense")


@pytest.fixture(scope="module")
def graph_file(student, windows, tmp_path_factory):
    path = tmp_path_factory.mktemp("int8") / "model.onnx"
    to_int8(student[0].eval(), path, token_ids=windows.token_ids)
    return path


def initialisers(path) -> dict[str, np.ndarray]:
    return {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in onnx.load(path).graph.initializer}


def arrays(model) -> dict[str, np.ndarray]:
    return {name: tensor.detach().numpy() for name, tensor in model.state_dict().items()}


def operators(path) -> Counter:
    return Counter(node.op_type for node in onnx.load(path).graph.node)


def optimised_operators(path, folder) -> Counter:
    """The operators that are left once ONNX Runtime has rewritten the graph for this machine."""
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(folder / "optimised.onnx")
    options.log_severity_level = 3
    onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return operators(folder / "optimised.onnx")


def test_it_keeps_the_contract(graph_file):
    onnx.checker.check_model(onnx.load(graph_file))
    assert check_structure(graph_file) == []
    assert check_shapes(open_session(graph_file), max_tokens=16) == []


def test_its_logits_are_near_the_float_graphs(graph_file, fp32_graph, windows):
    int8, fp32 = (text_logits(open_session(path), windows) for path in (graph_file, fp32_graph))
    relative = np.sqrt(((int8 - fp32) ** 2).mean(axis=0)) / fp32.std(axis=0)
    assert relative.max() < 0.1
    assert np.abs(int8 - fp32).max() > 0, "nothing was rounded"


def test_padding_and_company_change_no_logit(graph_file, windows):
    session = open_session(graph_file)
    ids = [min(windows.token_ids, key=len), *windows.token_ids[:7]]
    together = session.run([OUTPUT], pad(ids))[0]
    alone = np.concatenate([session.run([OUTPUT], pad([window]))[0] for window in ids])
    assert len(ids[0]) < max(len(window) for window in ids)
    np.testing.assert_allclose(together, alone, atol=1e-4)


def test_masked_attention_leaves_no_denormal_numbers(graph_file):
    """They are what makes padded batches slow: the bias has to stay where the exponential is a normal float32."""
    bias = initialisers(graph_file)["masked"]
    assert np.finfo(np.float32).tiny < np.exp(bias - 25) < 1e-30


def test_all_linear_layers_are_integer_products(graph_file):
    assert operators(graph_file)["MatMulIntegerToFloat"] == LAYERS * len(LINEAR + FFN)
    assert operators(graph_file)["MatMul"] == 1, "the mean over tokens"
    stored = initialisers(graph_file)
    assert [name for name, array in stored.items() if array.dtype == np.float32 and array.size > 64 * 32] == []
    assert stored["words"].dtype == np.int8


def test_weights_leave_one_bit_unused_and_have_a_scale_per_output(graph_file, student, windows):
    model = student[0].eval()
    state = fold_curves(arrays(model), dict(enumerate(fit_curves(model, windows.token_ids))))
    stored = initialisers(graph_file)
    for layer in range(LAYERS):
        for part in LINEAR + FFN:
            name = f"layer.{layer}.{part}"
            weights, steps = stored[f"{name}.weights"], stored[f"{name}.weight_steps"]
            assert (np.abs(weights.astype(int)).max(axis=0) == 64).all(), name
            wanted = state[f"bert.encoder.{name}.weight"].T
            np.testing.assert_allclose(weights * steps, wanted, atol=steps.max() / 2 + 1e-6)


def test_onnxruntime_keeps_the_fast_kernels(graph_file, tmp_path):
    found = optimised_operators(graph_file, tmp_path)
    assert found["MatMulIntegerToFloat"] == LAYERS * 6
    assert found["LayerNormalization"] == 1 + LAYERS * 2
    assert found["Attention"] == found["QuickGelu"] == LAYERS
    assert found["SkipLayerNormalization"] == found["Transpose"] == found["MatMulInteger"] == 0


def test_the_second_ffn_product_may_stay_float(student, windows, graph_file, fp32_graph, tmp_path):
    path = tmp_path / "model.onnx"
    to_int8(student[0].eval(), path, token_ids=windows.token_ids, float_ffn_layers=1)
    names = {node.name: node.op_type for node in onnx.load(path).graph.node}
    assert names["layer.0.output.dense.product"] == "MatMul"
    assert names["layer.1.output.dense"] == "MatMulIntegerToFloat"
    assert names["layer.0.gelu"] == "Gelu"
    assert operators(path)["MatMulIntegerToFloat"] == LAYERS * 6 - 1
    mixed, fp32 = (text_logits(open_session(file), windows) for file in (path, fp32_graph))
    np.testing.assert_allclose(mixed, fp32, atol=0.5)


def test_ranges_hold_what_was_seen_and_zero(student, windows):
    model = student[0].eval()
    ranges = input_ranges(model, windows.token_ids[:5])
    assert set(ranges) == {f"layer.{layer}.{part}" for layer in range(LAYERS) for part in LINEAR + FFN}
    assert all(low <= 0 <= high for low, high in ranges.values())
    seen = []
    hook = model.bert.encoder.layer[1].output.dense.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    with torch.inference_mode():
        for ids in windows.token_ids[:5]:
            model(input_ids=torch.tensor([ids]), attention_mask=torch.ones(1, len(ids)))
    hook.remove()
    assert ranges["layer.1.output.dense"] == (min(x.min().item() for x in seen), max(x.max().item() for x in seen))
    assert ranges["layer.1.output.dense"][0] == pytest.approx(-0.17, abs=0.01), "GELU's least value"
    assert not any(layer._forward_pre_hooks for layer in model.modules())


def test_what_reaches_beyond_its_range_saturates(student, windows, fp32_graph, tmp_path):
    model = student[0].eval()
    ranges = input_ranges(model, windows.token_ids)
    name = "layer.1.output.dense"
    curves = fit_curves(model, windows.token_ids)
    narrow = int8_graph(model, ranges | {name: (ranges[name][0], ranges[name][1] / 50)}, curves)
    onnx.save(narrow, tmp_path / "narrow.onnx")
    stored = initialisers(tmp_path / "narrow.onnx")
    assert stored[f"{name}.step"] == pytest.approx(SLOPE * (ranges[name][1] / 50 - ranges[name][0]) / 255)
    logits = text_logits(open_session(tmp_path / "narrow.onnx"), windows)
    assert np.isfinite(logits).all()
    assert np.abs(logits - text_logits(open_session(fp32_graph), windows)).max() > 0.1


@pytest.mark.parametrize(("name", "value"), [("hidden_act", "relu"), ("position_embedding_type", "relative_key")])
def test_another_kind_of_student_is_not_written(student, windows, name, value):
    model = student[0].eval()
    ranges = input_ranges(model, windows.token_ids[:1])
    other = copy.copy(model)
    other.config = copy.deepcopy(model.config)
    setattr(other.config, name, value)
    with pytest.raises(AssertionError, match=f"{name} is {value}, not"):
        int8_graph(other, ranges, [])
