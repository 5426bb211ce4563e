"""The ONNX Runtime session, on models built here: logits[b, c] = c + the sum of row b's unmasked token ids."""

import math
import re
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper

from server.core.errors import ArtifactError, ConfigurationError
from server.inference.classifier import Window
from server.inference.device import visible_gpus
from server.inference.ort_session import OrtClassifier, has_cuda, load_classifiers

CATEGORIES = 3


def save_model(path, *, inputs=("input_ids", "attention_mask"), output="logits", columns=CATEGORIES, batch="batch", **kinds):
    kind = kinds.get("kind", TensorProto.INT64)
    first = kinds.get("first", 0)
    nodes = [
        helper.make_node("Mul", list(inputs[:2]), ["masked"]),
        helper.make_node("Cast", ["masked"], ["real"], to=TensorProto.FLOAT),
        helper.make_node("ReduceSum", ["real", "axis"], ["total"], keepdims=1),
        helper.make_node("Add", ["total", "column"], ["sum"]),
        helper.make_node("Cast", ["sum"], [output], to=kinds.get("result", TensorProto.FLOAT)),
    ]
    tensors = [
        helper.make_tensor("axis", TensorProto.INT64, [1], [1]),
        helper.make_tensor("column", TensorProto.FLOAT, [1, columns], [first + column for column in range(columns)]),
    ]
    if "longest" in kinds:
        longest = kinds["longest"]
        tensors.append(helper.make_tensor("table", kind, [1, longest], [1] * longest))
        tensors.append(helper.make_tensor("start", TensorProto.INT64, [1], [0]))
        nodes[0] = helper.make_node("Mul", list(inputs[:2]), ["unplaced"])
        nodes[1:1] = [
            helper.make_node("Shape", ["unplaced"], ["tokens"], start=1),
            helper.make_node("Slice", ["table", "start", "tokens", "axis"], ["places"]),
            helper.make_node("Mul", ["unplaced", "places"], ["masked"]),
        ]
    if len(inputs) > 2:
        nodes.append(helper.make_node("Identity", [inputs[2]], ["unused"]))
    graph = helper.make_graph(
        nodes,
        "student",
        [helper.make_tensor_value_info(name, kind, [batch, "tokens"]) for name in inputs],
        [helper.make_tensor_value_info(output, kinds.get("result", TensorProto.FLOAT), [batch, columns])],
        tensors,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10)
    onnx.save(model, path)
    return path


def window(*ids):
    return Window(list(ids), 0, 0)


def load(path, **options) -> OrtClassifier:
    (classifier,) = load_classifiers(path, sessions=1, categories=CATEGORIES, **options)
    return classifier


def test_rows_are_padded_and_masked_to_the_longest(tmp_path):
    # A pad id other than 0 would show in the sum if the mask let it through.
    model = load(save_model(tmp_path / "m.onnx"), pad_id=1_000)
    logits = model.classify([window(1), window(1, 2, 3), window(5, 5)])
    assert logits.dtype == np.float32
    assert logits.tolist() == [[1, 2, 3], [6, 7, 8], [10, 11, 12]]


@pytest.mark.parametrize("kind", [TensorProto.INT32, TensorProto.INT64])
def test_the_model_says_its_integer_type(tmp_path, kind):
    model = load(save_model(tmp_path / "m.onnx", kind=kind))
    assert model.classify([window(4, 5)]).tolist() == [[9, 10, 11]]


def test_token_types_are_fed_where_the_model_asks_for_them(tmp_path):
    path = save_model(tmp_path / "m.onnx", inputs=("input_ids", "attention_mask", "token_type_ids"))
    assert load(path).classify([window(7)]).tolist() == [[7, 8, 9]]


def test_half_precision_logits_come_out_as_float32(tmp_path):
    model = load(save_model(tmp_path / "m.onnx", result=TensorProto.FLOAT16))
    logits = model.classify([window(2, 2)])
    assert logits.dtype == np.float32
    assert logits.tolist() == [[4, 5, 6]]


def test_a_batch_of_another_shape_may_follow(tmp_path):
    model = load(save_model(tmp_path / "m.onnx"))
    for windows in ([window(1, 2)], [window(3), window(4, 5, 6)], [window(7)]):
        wanted = [[sum(w.token_ids) + column for column in range(CATEGORIES)] for w in windows]
        assert model.classify(windows).tolist() == wanted


def test_an_answer_outlives_the_next_call(tmp_path):
    model = load(save_model(tmp_path / "m.onnx"))
    first = model.classify([window(1)])
    model.classify([window(50)])
    assert first.tolist() == [[1, 2, 3]]


def test_warm_up_runs_within_the_windows_bound(tmp_path):
    """The model's table of positions ends at 8 tokens: a longer window would fail."""
    load(save_model(tmp_path / "m.onnx", longest=8), max_tokens=8).warm_up()
    with pytest.raises(Exception, match=r"(?i)broadcast|dimension"):
        load(save_model(tmp_path / "m.onnx", longest=8), max_tokens=9).warm_up()


def test_a_model_does_not_get_warm_whose_logits_overflow_on_full_windows(tmp_path):
    """3 × 20,000 is within half precision, 8 × 20,000 isn't."""
    path = save_model(tmp_path / "m.onnx", result=TensorProto.FLOAT16)
    with pytest.raises(ArtifactError, match=f"^model {re.escape(str(path))}: its logits are not finite$"):
        load(path, pad_id=20_000, max_tokens=8).warm_up()


def test_each_session_is_a_classifier_of_its_own(tmp_path):
    first, second = load_classifiers(save_model(tmp_path / "m.onnx"), sessions=2, categories=CATEGORIES)
    assert first is not second
    assert first.classify([window(3)]).tolist() == second.classify([window(3)]).tolist() == [[3, 4, 5]]


def test_sessions_of_one_file_run_side_by_side(tmp_path):
    classifiers = load_classifiers(save_model(tmp_path / "m.onnx"), sessions=4, categories=CATEGORIES)
    starting = threading.Barrier(4)

    def run(index: int) -> bool:
        starting.wait(10)
        batches = ([window(*[index + 1] * length)] * items for items in range(1, 20) for length in (1, 7, 40))
        return all((classifiers[index].classify(b)[:, 0] == (index + 1) * b[0].tokens).all() for b in batches)

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(run, range(4))) == [True] * 4


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"inputs": ("ids", "attention_mask")}, r"its inputs are \['attention_mask', 'ids'\], not input_ids"),
        ({"inputs": ("input_ids", "attention_mask", "positions")}, "its inputs are .*positions"),
        ({"kind": TensorProto.FLOAT}, r"input input_ids is a tensor\(float\)"),
        ({"output": "scores"}, r"its outputs are \['scores'\], not \['logits'\]"),
        ({"columns": 5}, r"two windows give logits of shape \(2, 5\), not \(2, 3\)"),
        ({"first": math.nan}, "its logits are not finite$"),
        ({"first": math.inf}, "its logits are not finite$"),
        ({"batch": 1}, "it can't run two windows of 3 and 2 tokens"),
    ],
)
def test_a_model_of_another_kind_is_refused_in_one_line(tmp_path, changes, message):
    path = save_model(tmp_path / "m.onnx", **changes)
    with pytest.raises(ArtifactError, match=message) as caught:
        load(path)
    assert str(caught.value).startswith(f"model {path}: ")
    assert "\n" not in str(caught.value)


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(ArtifactError, match=r"nowhere\.onnx is missing"):
        load(tmp_path / "nowhere.onnx")


def test_a_corrupt_file_is_refused(tmp_path):
    path = tmp_path / "m.onnx"
    path.write_bytes(b"not a model")
    with pytest.raises(ArtifactError, match="can't be opened"):
        load(path)


def test_a_provider_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(ConfigurationError, match="has no NoSuchProvider here"):
        load(save_model(tmp_path / "m.onnx"), provider="NoSuchProvider")


def test_cuda_needs_a_build_for_it_and_a_gpu():
    built = "CUDAExecutionProvider" in onnxruntime.get_available_providers()
    assert has_cuda() is (built and visible_gpus() > 0)
