"""A packed teacher is the teacher that it was packed from, for every verb that asks one, or it is refused."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch

from distill.cli import main
from distill.data import LabelledTexts
from distill.signals import text_digest
from distill.teacher.adapter import merge, read_peft_folder
from distill.teacher.label import judge_known
from distill.teacher.model import Judge, TreeEncoder, load_base
from distill.teacher.pack import pack
from distill.teacher.saved import load_calibration, load_judge, signal_store, teacher_form, teacher_id
from distill.teacher.tune import TuneSettings, tune_teacher
from server.core.calibration import IDENTITY, calibration_to_json
from server.core.errors import ArtifactError, ConfigurationError
from server.core.policy import load_policies
from server.core.prompt import TITLE
from server.core.taxonomy import CATEGORIES
from server.core.teacher_manifest import ADAPTER_SAFETENSORS, TEACHER_MANIFEST
from tests.unit.teacher import tiny_llama as tiny

POLICY = load_policies()["default"]
CALIBRATION = {c: replace(IDENTITY[c], scale=1 + i / 10, shift=-i / 10) for i, c in enumerate(CATEGORIES)}


def rows(n: int) -> LabelledTexts:
    labels = np.tile(np.arange(n)[:, None] % 2, (1, len(CATEGORIES))).astype(np.float32)
    texts = [f"{'awful' if i % 2 else 'lovely'} thing number {i}" for i in range(n)]
    return LabelledTexts(texts, ["user"] * n, labels, np.array(["d"] * n, dtype=object))


def margins(judge: Judge) -> np.ndarray:
    return judge_known(judge, TreeEncoder(judge.tokenizer, POLICY, TITLE, max_text_tokens=96), rows(8))


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """A tiny random Llama in GGUF, a calibrated run over it, and that run packed."""
    folder = tmp_path_factory.mktemp("teacher")
    base = tiny.write_gguf(folder / "base.gguf", tiny.make_weights())
    settings = TuneSettings(base=str(base), rank=4, learning_rate=2e-2, batch_rows=2, max_batch_tokens=4096)
    tune_teacher(settings, rows(16), POLICY, folder / "run")
    (folder / "run" / "calibration.json").write_text(json.dumps(calibration_to_json(CALIBRATION)))
    pack(folder / "run", folder / "packed", POLICY)
    return folder


@pytest.fixture
def packed(world, tmp_path):
    """A copy of the packed folder, to be spoilt."""
    return shutil.copytree(world / "packed", tmp_path / "packed")


def test_it_judges_as_the_run_does_to_the_last_bit(world):
    run = margins(load_judge(str(world / "run")))
    assert np.array_equal(margins(load_judge(str(world / "packed"))), run)
    bare = margins(Judge(*load_base(str(world / "base.gguf"), dtype=torch.bfloat16)))
    assert np.abs(run - bare).max() > 1, "an adapter that changes nothing would hide its absence"


def test_the_adapter_says_nothing_of_where_its_base_lay(world):
    """PEFT notes it, and warns where it lies elsewhere."""
    assert str(world).encode() in (world / "run" / "adapter" / "adapter_config.json").read_bytes()
    assert str(world).encode() not in (world / "packed" / "adapter.safetensors").read_bytes()


def test_it_has_the_runs_name_form_calibration_and_signals(world, tmp_path):
    run, packed = str(world / "run"), str(world / "packed")
    assert teacher_id(packed) == teacher_id(run)
    assert teacher_form(packed) is teacher_form(run) is TITLE
    assert load_calibration(packed) == load_calibration(run) == CALIBRATION
    store = signal_store(tmp_path, run, POLICY, hidden_size=tiny.HIDDEN)
    assert signal_store(tmp_path, packed, POLICY).folder == store.folder


def test_it_labels_from_the_command_line(world, tmp_path, capsys):
    import pandas as pd

    given = rows(4)
    columns = {name: given.labels[:, i] for i, name in enumerate(CATEGORIES)}
    pd.DataFrame(columns | {"text": given.texts, "split": "dev", "dataset": "d"}).to_parquet(tmp_path / "data.parquet")
    flags = ["--data", tmp_path / "data.parquet", "--signals", tmp_path, "--split", "dev", "--rows", "4"]
    assert main([str(a) for a in ("label", "--teacher", world / "packed", *flags)]) == 0, capsys.readouterr().err
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["new"] == 4
    store = signal_store(tmp_path, str(world / "run"), POLICY)
    kept = store.margins()[store.rows([text_digest(text, "user") for text in given.texts])]
    np.testing.assert_allclose(kept, margins(load_judge(str(world / "run")))[:4], atol=0.05)


def test_a_calibration_of_its_own_is_refused_before_anything_is_judged(world, tmp_path, capsys):
    flags = ["--data", tmp_path / "absent.parquet", "--teacher", world / "packed"]
    assert main([str(a) for a in ("calibrate-teacher", *flags)]) == 2
    assert "packed with its calibration" in capsys.readouterr().err


def test_it_is_not_packed_again(world, tmp_path):
    with pytest.raises(ConfigurationError, match="no run folder"):
        pack(world / "packed", tmp_path / "again", POLICY)


def test_a_refused_pack_leaves_the_teacher_that_was_there(world, packed, tmp_path):
    before = {path.name: path.read_bytes() for path in packed.iterdir()}
    with pytest.raises(ConfigurationError, match="exists: choose another folder, or pass --replace"):
        pack(world / "run", packed, POLICY)
    torn = shutil.copytree(world / "run", tmp_path / "torn")
    (torn / "adapter" / "adapter_model.safetensors").write_bytes(b"torn")
    with pytest.raises(Exception, match="header"):
        pack(torn, packed, POLICY, allow_replace=True)
    assert {path.name: path.read_bytes() for path in packed.iterdir()} == before
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == [], "no scratch is left"
    (packed / "stray").write_text("of an earlier one")
    pack(world / "run", packed, POLICY, allow_replace=True)
    assert not (packed / "stray").exists()
    assert load_calibration(str(packed)) == CALIBRATION


def test_a_folder_that_holds_no_packed_teacher_is_never_replaced(world, tmp_path):
    (tmp_path / "mine").mkdir()
    with pytest.raises(ConfigurationError, match=r"has no teacher\.json"):
        pack(world / "run", tmp_path / "mine", POLICY, allow_replace=True)


@pytest.mark.parametrize("ask", [load_judge, teacher_id, teacher_form, load_calibration])
def test_a_changed_adapter_is_refused_whatever_is_asked(packed, ask):
    with (packed / ADAPTER_SAFETENSORS).open("r+b") as file:
        file.seek(-1, 2)
        file.write(b"\x7f")
    with pytest.raises(ArtifactError, match=f"{ADAPTER_SAFETENSORS} is corrupt"):
        ask(str(packed))


def test_over_another_base_it_judges_nothing(packed, tmp_path):
    manifest = json.loads((packed / TEACHER_MANIFEST).read_text())
    tiny.write_gguf(tmp_path / "other.gguf", tiny.make_weights(seed=1))
    for base, why in (
        ("other.gguf", "is another here"),
        ("absent.gguf", "not a GGUF file here"),
        ("hub-id", "not a GGUF file"),
    ):
        (packed / TEACHER_MANIFEST).write_text(json.dumps(manifest | {"base": str(tmp_path / base)}))
        with pytest.raises(ArtifactError, match=why):
            load_judge(str(packed))


def test_an_adapter_for_another_model_is_not_merged(world):
    model, _ = load_base(str(world / "base.gguf"), dtype=torch.float32)
    adapter = read_peft_folder(world / "run" / "adapter")
    tensors = dict(adapter.tensors)
    tensors["base_model.model.model.layers.9.mlp.up_proj.lora_A.weight"] = tensors.popitem()[1]
    with pytest.raises(ConfigurationError, match="1 tensors too many, 1 too few"):
        merge(model, replace(adapter, tensors=tensors))
