"""An artefact becomes a student again: with its logits, its calibration and its past."""

import json

import numpy as np
import pytest
import torch

from distill.student import load_student
from export.__main__ import main
from export.runner import pad
from export.unpack import unpack_artifact
from server.core.artifact import load_manifest
from server.core.calibration import calibration_from_json
from server.core.errors import ConfigurationError


@pytest.fixture(scope="module", params=[0, 1])
def artifact(request, checkpoint, tmp_path_factory):
    """All in integers, and with one layer's GELU exact."""
    out = tmp_path_factory.mktemp("export") / "artifact"
    argv = ["--checkpoint", checkpoint, "--out", out, "--uncalibrated", "--float-ffn-layers", request.param]
    assert main([str(each) for each in argv]) == 0
    return out


def logits(run, windows) -> np.ndarray:
    model, _ = load_student(run)
    feed = {name: torch.from_numpy(array) for name, array in pad(windows.token_ids).items()}
    with torch.inference_mode():
        return model.eval()(**feed).logits.numpy()


def test_the_student_says_what_the_one_that_was_exported_said(artifact, checkpoint, windows, tmp_path, capsys):
    run = tmp_path / "run"
    assert main(["unpack", "--artifact", str(artifact), "--out", str(run)]) == 0
    manifest = load_manifest(artifact)
    assert json.loads(capsys.readouterr().out) == {"checkpoint": str(run), "version": manifest.version}
    exported, unpacked = (logits(folder, windows) for folder in (checkpoint, run))
    relative = np.sqrt(((unpacked - exported) ** 2).mean(axis=0)) / exported.std(axis=0)
    assert relative.max() < 0.02
    assert load_student(run)[0].config.num_attention_heads == load_student(checkpoint)[0].config.num_attention_heads
    assert json.loads((run / "provenance.json").read_text()) == json.loads((checkpoint / "provenance.json").read_text())
    assert json.loads((run / "student.json").read_text()) == {"max_tokens": manifest.max_tokens}
    assert calibration_from_json(json.loads((run / "calibration.json").read_text())) == manifest.calibration


def test_its_weights_are_those_that_were_exported_but_for_their_rounding(artifact, checkpoint, tmp_path):
    unpack_artifact(artifact, tmp_path / "run")
    exported, unpacked = (load_student(folder)[0].state_dict() for folder in (checkpoint, tmp_path / "run"))
    assert exported.keys() == unpacked.keys()
    position, kind = (f"bert.embeddings.{table}_embeddings.weight" for table in ("position", "token_type"))
    exported[position] += exported.pop(kind)[0]
    assert not unpacked.pop(kind).any()
    curved = {f"bert.encoder.layer.{index}.output.dense.bias" for index in range(2)}  # hold what is left of GELU's curves
    for name in exported.keys() - curved:
        error, size = (values.square().mean() for values in (unpacked[name] - exported[name], exported[name]))
        assert error <= 0.06**2 * size, name


def test_a_folder_that_is_there_is_left_alone(artifact, tmp_path):
    (tmp_path / "run").mkdir()
    with pytest.raises(ConfigurationError, match="run exists"):
        unpack_artifact(artifact, tmp_path / "run")


def test_another_precision_is_refused(checkpoint, tmp_path, capsys):
    argv = ["--checkpoint", checkpoint, "--out", tmp_path / "fp32", "--uncalibrated", "--precision", "fp32"]
    assert main([str(each) for each in argv]) == 0
    assert main(["unpack", "--artifact", str(tmp_path / "fp32"), "--out", str(tmp_path / "run")]) == 2
    assert "is fp32: only INT8 artefacts are unpacked" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()
