"""The ONNX Runtime session, on models built here: logits[b, c] = c + the sum of row b's unmasked token ids."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from server.core.errors import ArtifactError, ConfigurationError
from server.inference.classifier import Window
from server.inference.ort_session import OrtClassifier, load_classifiers

CATEGORIES = 3


def save_model(path, *, inputs=("input_ids", "attention_mask"), output="logits", columns=CATEGORIES, batch="batch", **kinds):
    kind = kinds.get("kind", TensorProto.INT64)
    nodes = [
        helper.make_node("Mul", list(inputs[:2]), ["masked"]),
        helper.make_node("Cast", ["masked"], ["real"], to=TensorProto.FLOAT),
        helper.make_node("ReduceSum", ["real", "axis"], ["total"], keepdims=1),
        helper.make_node("Add", ["total", "column"], ["sum"]),
        helper.make_node("Cast", ["sum"], [output], to=kinds.get("result", TensorProto.FLOAT)),
    ]
    if len(inputs) > 2:
        nodes.append(helper.make_node("Identity", [inputs[2]], ["unused"]))
    graph = helper.make_graph(
        nodes,
        "student",
        [helper.make_tensor_value_info(name, kind, [batch, "tokens"]) for name in inputs],
        [helper.make_tensor_value_info(output, kinds.get("result", TensorProto.FLOAT), [batch, columns])],
        [
            helper.make_tensor("axis", TensorProto.INT64, [1], [1]),
            helper.make_tensor("column", TensorProto.FLOAT, [1, columns], list(range(columns))),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10)
    onnx.save(model, path)
    return path


def window(*ids):
    return Window(list(ids), 0, 0)


def test_rows_are_padded_and_masked_to_the_longest(tmp_path):
    # A pad id other than 0 would show in the sum if the mask let it through.
    model = OrtClassifier(save_model(tmp_path / "m.onnx"), categories=CATEGORIES, pad_id=1_000)
    logits = model.classify([window(1), window(1, 2, 3), window(5, 5)])
    assert logits.dtype == np.float32
    assert logits.tolist() == [[1, 2, 3], [6, 7, 8], [10, 11, 12]]


@pytest.mark.parametrize("kind", [TensorProto.INT32, TensorProto.INT64])
def test_the_model_says_its_integer_type(tmp_path, kind):
    model = OrtClassifier(save_model(tmp_path / "m.onnx", kind=kind), categories=CATEGORIES)
    assert model.classify([window(4, 5)]).tolist() == [[9, 10, 11]]


def test_token_types_are_fed_where_the_model_asks_for_them(tmp_path):
    path = save_model(tmp_path / "m.onnx", inputs=("input_ids", "attention_mask", "token_type_ids"))
    assert OrtClassifier(path, categories=CATEGORIES).classify([window(7)]).tolist() == [[7, 8, 9]]


def test_half_precision_logits_come_out_as_float32(tmp_path):
    model = OrtClassifier(save_model(tmp_path / "m.onnx", result=TensorProto.FLOAT16), categories=CATEGORIES)
    logits = model.classify([window(2, 2)])
    assert logits.dtype == np.float32
    assert logits.tolist() == [[4, 5, 6]]


def test_warm_up_runs_within_the_windows_bound(tmp_path):
    shapes = []

    class Recording(OrtClassifier):
        def classify(self, windows):
            shapes.append((len(windows), windows[0].tokens))
            return super().classify(windows)

    model = Recording(save_model(tmp_path / "m.onnx"), categories=CATEGORIES, max_tokens=8)
    shapes.clear()
    model.warm_up()
    assert shapes == [(1, 8), (1, 8), (8, 8)]


def test_each_session_is_a_classifier_of_its_own(tmp_path):
    first, second = load_classifiers(save_model(tmp_path / "m.onnx"), sessions=2, categories=CATEGORIES)
    assert first is not second
    assert first.classify([window(3)]).tolist() == second.classify([window(3)]).tolist() == [[3, 4, 5]]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"inputs": ("ids", "attention_mask")}, r"its inputs are \['attention_mask', 'ids'\], not input_ids"),
        ({"inputs": ("input_ids", "attention_mask", "positions")}, "its inputs are .*positions"),
        ({"kind": TensorProto.FLOAT}, r"input input_ids is a tensor\(float\)"),
        ({"output": "scores"}, r"its outputs are \['scores'\], not \['logits'\]"),
        ({"columns": 5}, r"two windows give logits of shape \(2, 5\), not \(2, 3\)"),
        ({"batch": 1}, "it can't run two windows of 3 and 2 tokens"),
    ],
)
def test_a_model_of_another_kind_is_refused_in_one_line(tmp_path, changes, message):
    path = save_model(tmp_path / "m.onnx", **changes)
    with pytest.raises(ArtifactError, match=message) as caught:
        OrtClassifier(path, categories=CATEGORIES)
    assert str(caught.value).startswith(f"model {path}: ")
    assert "\n" not in str(caught.value)


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(ArtifactError, match=r"nowhere\.onnx is missing"):
        OrtClassifier(tmp_path / "nowhere.onnx", categories=CATEGORIES)


def test_a_corrupt_file_is_refused(tmp_path):
    path = tmp_path / "m.onnx"
    path.write_bytes(b"not a model")
    with pytest.raises(ArtifactError, match="can't be opened"):
        OrtClassifier(path, categories=CATEGORIES)


def test_a_provider_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(ConfigurationError, match="has no NoSuchProvider here"):
        OrtClassifier(save_model(tmp_path / "m.onnx"), categories=CATEGORIES, provider="NoSuchProvider")
