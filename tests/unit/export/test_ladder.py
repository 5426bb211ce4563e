"""Each rung refuses what it is there to refuse, and says so with what was wanted and what was found."""

from dataclasses import replace

import numpy as np
import onnx
import pytest

from export.ladder import prove_graphs, prove_verdicts
from export.proof import ExportRefused, Limits, check_shapes, check_structure, check_values
from export.quantise import to_int8
from export.runner import open_session
from server.core.artifact import Precision
from server.core.errors import ConfigurationError
from server.core.taxonomy import CATEGORIES

MAX_TOKENS = 16
LIMITS = Limits()


@pytest.fixture
def spoilt(fp32_graph, tmp_path):
    """Apply a change to a copy of the FP32 graph; returns its path."""

    def spoil(change) -> str:
        model = onnx.load(fp32_graph)
        change(model.graph)
        path = tmp_path / "spoilt.onnx"
        onnx.save(model, path)
        return path

    return spoil


def refusals(path, student, windows) -> tuple[str, ...]:
    with pytest.raises(ExportRefused) as refused:
        prove_graphs({"fp32": path}, student[0], windows, max_tokens=MAX_TOKENS, limits=LIMITS)
    for failure in refused.value.failures:
        assert failure in str(refused.value)
    return refused.value.failures


def rename_output(graph) -> None:
    node = next(node for node in graph.node if node.output[0] == "logits")
    node.output[0] = graph.output[0].name = "scores"


def rename_input(graph) -> None:
    for node in graph.node:
        for index, name in enumerate(node.input):
            if name == "attention_mask":
                node.input[index] = "mask"
    next(value for value in graph.input if value.name == "attention_mask").name = "mask"


def fix_batch_axis(graph) -> None:
    for value in (*graph.input, *graph.output):
        value.type.tensor_type.shape.dim[0].dim_value = 2


def lose_a_column(graph) -> None:
    """The head's last row goes: seven logits, and the graph says so."""
    for tensor in graph.initializer:
        if tensor.name.startswith("classifier."):
            tensor.CopyFrom(onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(tensor)[:-1], tensor.name))
    graph.output[0].type.tensor_type.shape.dim[1].dim_value = 7


def perturb_the_head(graph) -> None:
    bias = next(tensor for tensor in graph.initializer if tensor.name == "classifier.bias")
    bias.CopyFrom(onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(bias) + np.float32(0.01), bias.name))


def poison_the_head(graph) -> None:
    bias = next(tensor for tensor in graph.initializer if tensor.name == "classifier.bias")
    values = onnx.numpy_helper.to_array(bias).copy()
    values[3] = np.nan
    bias.CopyFrom(onnx.numpy_helper.from_array(values, bias.name))


def shorten_positions(graph) -> None:
    """A graph for windows of 8: a position table that the longest window runs off."""
    table = next(t for t in graph.initializer if t.name.endswith("position_embeddings.weight"))
    table.CopyFrom(onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(table)[:8], table.name))


def test_a_sound_graph_passes_and_is_measured(fp32_graph, student, windows):
    figures = prove_graphs({"fp32": fp32_graph}, student[0], windows, max_tokens=MAX_TOKENS, limits=LIMITS)
    assert 0 <= figures["max_logit_difference_fp32"] < 1e-4


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (rename_output, ["fp32: names: outputs are ['scores'], not ['logits']"]),
        (rename_input, ["fp32: names: inputs are ['input_ids', 'mask'], not ['attention_mask', 'input_ids']"]),
        (
            fix_batch_axis,
            [
                "fp32: axes: input input_ids has axes [2, 'sequence_length'], not ['batch_size', 'sequence_length']",
                "fp32: axes: input attention_mask has axes [2, 'sequence_length'], not ['batch_size', 'sequence_length']",
                "fp32: axes: output logits has axes [2, 8], not ['batch_size', 8]",
            ],
        ),
        (lose_a_column, ["fp32: axes: output logits has axes ['batch_size', 7], not ['batch_size', 8]"]),
        (poison_the_head, ["fp32: values: 64 of 512 logits are not finite"]),
    ],
)
def test_a_spoilt_graph_is_refused_for_what_is_wrong(change, expected, spoilt, student, windows):
    sample = windows.__class__(windows.token_ids[:64], list(range(64)), 64)
    assert list(refusals(spoilt(change), student, sample)) == expected


def test_other_weights_are_refused_by_their_values(spoilt, student, windows):
    (failure,) = refusals(spoilt(perturb_the_head), student, windows)
    assert failure == "fp32: values: a logit differs from torch's by 0.01, more than 0.0001"


def test_a_graph_for_shorter_windows_is_refused_by_its_shapes(spoilt, student, windows):
    failures = refusals(spoilt(shorten_positions), student, windows)
    assert [failure.partition(" fails with ")[0] for failure in failures] == [
        "fp32: shapes: (1, 16)",
        "fp32: shapes: (3, 9)",
    ]


def test_an_output_of_another_type_is_refused(spoilt):
    def to_double(graph) -> None:
        node = next(node for node in graph.node if node.output[0] == "logits")
        node.output[0] = "float_logits"
        graph.node.append(onnx.helper.make_node("Cast", ["float_logits"], ["logits"], to=onnx.TensorProto.DOUBLE))
        graph.output[0].type.tensor_type.elem_type = onnx.TensorProto.DOUBLE

    path = spoilt(to_double)
    assert check_structure(path) == ["axes: output logits is DOUBLE, not FLOAT"]
    failures = check_shapes(open_session(path), max_tokens=MAX_TOKENS)
    assert len(failures) == 4
    assert failures[0] == "shapes: (1, 2) gives float64 (1, 8), not float32 (1, C)"


def test_int8_reports_its_difference_and_is_not_refused_for_it(spoilt, student, windows):
    session = open_session(spoilt(perturb_the_head))
    failures, difference = check_values(session, student[0], windows.token_ids[:8], atol=LIMITS.atol("int8"))
    assert failures == []
    assert difference == pytest.approx(0.01, rel=0.05)


def test_the_limits_by_precision():
    found = {precision: LIMITS.atol(precision) for precision in ("fp32", "fp16", "int8")}
    assert found == {"fp32": 1e-4, "fp16": 0.1, "int8": None}


@pytest.fixture(scope="module")
def int8_graphs(student, fp32_graph, windows, tmp_path_factory) -> dict[Precision, str]:
    folder = tmp_path_factory.mktemp("ladder")
    to_int8(student[0], folder / "model.onnx", token_ids=windows.token_ids)
    return {"fp32": fp32_graph, "int8": folder / "model.onnx"}


def test_an_int8_graph_climbs_to_the_top(int8_graphs, student, windows, reference, policy):
    prove_graphs(int8_graphs, student[0], windows, max_tokens=MAX_TOKENS, limits=LIMITS)
    judged = prove_verdicts(int8_graphs, windows, reference, policy, precision="int8", limits=LIMITS)
    assert judged.figures["verdict_agreement_with_fp32"] >= 0.99
    assert judged.figures["au_prc"] > 0.9
    assert judged.figures["speedup_int8_over_fp32"] > 0
    assert judged.scores.shape == (150, 8)
    assert judged.scores.min() >= 0
    assert judged.scores.max() <= 1


def test_an_int8_graph_of_another_student_is_refused_with_every_failure(int8_graphs, windows, reference, policy, spoilt):
    def swap_two_words(graph) -> None:
        table = next(t for t in graph.initializer if t.name.endswith("word_embeddings.weight"))
        rows = onnx.numpy_helper.to_array(table).copy()
        rows[[5, 18]] = rows[[18, 5]]
        table.CopyFrom(onnx.numpy_helper.from_array(rows, table.name))

    graphs = int8_graphs | {"int8": spoilt(swap_two_words)}
    with pytest.raises(ExportRefused) as refused:
        prove_verdicts(graphs, windows, reference, policy, precision="int8", limits=LIMITS)
    rungs = [failure.split(" ")[:3] for failure in refused.value.failures]
    assert ["int8:", "quality:", "au_prc"] in rungs
    assert ["int8:", "quality:", "au_prc_macro"] in rungs
    assert any("of verdicts agree" in failure for failure in refused.value.failures)


def test_a_rare_category_that_died_is_refused_by_its_name(int8_graphs, windows, reference, policy, spoilt):
    def kill_the_last(graph) -> None:
        weight = next(tensor for tensor in graph.initializer if tensor.name == "classifier.weight")
        rows = onnx.numpy_helper.to_array(weight).copy()
        rows[-1] = 0
        weight.CopyFrom(onnx.numpy_helper.from_array(rows, weight.name))

    labels = reference.labels.copy()
    positives = np.flatnonzero(labels[:, -1] == 1)
    labels[positives[3:], -1] = np.nan
    rare = replace(reference, labels=labels, calibration_labels=labels)
    graphs = int8_graphs | {"int8": spoilt(kill_the_last)}
    with pytest.raises(ExportRefused) as refused:
        prove_verdicts(graphs, windows, rare, policy, precision="int8", limits=LIMITS)
    assert refused.value.failures[0] == f"int8: columns: {CATEGORIES[-1]} correlates 0.000 with FP32's, less than 0.95"


def test_labels_of_one_kind_cannot_be_calibrated_on(int8_graphs, windows, reference, policy):
    harmless = reference.__class__("dev", reference.texts, reference.labels * 0, reference.labels * 0, reference.datasets)
    with pytest.raises(ConfigurationError, match=r"fp32 logits can't be calibrated: .*both labels"):
        prove_verdicts(int8_graphs, windows, harmless, policy, precision="int8", limits=LIMITS)
