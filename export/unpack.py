"""An INT8 artefact back to a student that training can go on from, for who has the artefact and not the run that made it.

Each weight is its integer times its scale, so nothing more is lost than the export lost. GELU's factors
(:mod:`export.gelu`) are taken out but for each neuron's own gain, which is near 1.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from transformers import BertConfig, BertTokenizerFast

from distill.folder import appearing_whole
from distill.student import StudentForModeration
from export.gelu import SLOPE
from server.core.artifact import MODEL, TOKENIZER, load_manifest
from server.core.calibration import calibration_to_json
from server.core.errors import ConfigurationError
from server.core.taxonomy import CATEGORIES

_STUDENT = "student.json"
_OF_THE_EXPORT = ("export_command", "packages")


def unpack_artifact(artifact: Path, out: Path) -> dict[str, Any]:
    """Write the run folder ``out`` as ``train`` and ``calibrate`` would have; its provenance is the artefact's.

    Returns:
        ``{"checkpoint", "version"}``, the version being the artefact's.

    Raises:
        ConfigurationError: the artefact can't be read or isn't INT8, or ``out`` is taken.
    """
    manifest = load_manifest(artifact)
    if manifest.precision != "int8":
        raise ConfigurationError(f"{artifact} is {manifest.precision}: only INT8 artefacts are unpacked")
    student = _student(onnx.load(artifact / MODEL).graph)
    provenance = {name: value for name, value in manifest.provenance.items() if name not in _OF_THE_EXPORT}
    records = {
        _STUDENT: {"max_tokens": manifest.max_tokens},
        "calibration.json": calibration_to_json(manifest.calibration),
        "provenance.json": provenance,
    }
    with appearing_whole(out, manifest=_STUDENT, allow_replace=False) as scratch:
        run = scratch / "artifact"
        student.save_pretrained(run)
        BertTokenizerFast(tokenizer_file=str(artifact / TOKENIZER)).save_pretrained(run)
        for name, record in records.items():
            (run / name).write_text(json.dumps(record, indent=2) + "\n")
    return {"checkpoint": str(out), "version": manifest.version}


def _student(graph: onnx.GraphProto) -> StudentForModeration:
    constants = {each.name: onnx.numpy_helper.to_array(each) for each in graph.initializer}
    nodes = {node.name: node for node in graph.node}
    words, narrow = constants["words"], constants["layer.0.output.dense.weights"]
    config = BertConfig(
        vocab_size=words.shape[0],
        hidden_size=words.shape[1],
        num_hidden_layers=sum(name.endswith(".gelu") for name in nodes),
        num_attention_heads=_attribute(nodes["layer.0.attention.context"], "q_num_heads"),
        intermediate_size=narrow.shape[0],
        max_position_embeddings=len(constants["positions"]),
        layer_norm_eps=_attribute(nodes["bert.embeddings.LayerNorm"], "epsilon"),
        id2label=dict(enumerate(CATEGORIES)),
        label2id={name: index for index, name in enumerate(CATEGORIES)},
        problem_type="multi_label_classification",
    )
    student = StudentForModeration(config)
    state = {name: torch.from_numpy(_weights(name, constants).astype(np.float32)) for name in student.state_dict()}
    for index in range(config.num_hidden_layers):
        if nodes[f"layer.{index}.gelu"].op_type == "QuickGelu":
            wide, narrow = (f"bert.encoder.layer.{index}.{part}.dense" for part in ("intermediate", "output"))
            for name in (f"{wide}.weight", f"{wide}.bias"):
                state[name] /= SLOPE
            state[f"{narrow}.weight"] *= SLOPE
    student.load_state_dict(state)
    return student


def _weights(name: str, constants: Mapping[str, np.ndarray]) -> np.ndarray:
    """What the graph has in the place of a parameter of the student."""
    if name in constants:
        return constants[name]
    match name:
        case "bert.embeddings.word_embeddings.weight":
            return constants["words"] * constants["word_scales"]
        case "bert.embeddings.position_embeddings.weight":
            return constants["positions"]
        case "bert.embeddings.token_type_embeddings.weight":
            return np.zeros((2, constants["words"].shape[1]))  # the positions hold the one that is used
    part, _, kind = name.removeprefix("bert.encoder.").rpartition(".")
    if kind == "bias":
        return constants[f"{part}.bias"]
    weights = constants[f"{part}.weights"]
    return (weights * constants[f"{part}.weight_steps"] if weights.dtype == np.int8 else weights).T


def _attribute(node: onnx.NodeProto, name: str) -> Any:
    return next(onnx.helper.get_attribute_value(each) for each in node.attribute if each.name == name)
