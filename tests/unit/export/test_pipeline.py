"""A checkpoint becomes a whole artefact, or nothing is left of it."""

import json
import logging

import numpy as np
import onnx
import onnxruntime
import pandas as pd
import pytest
from tokenizers import Tokenizer

from distill.student import load_student
from export.__main__ import main
from export.pipeline import ExportSettings, export_checkpoint
from export.proof import ExportRefused, Limits
from export.reference import SENTENCES
from export.runner import cut_windows, open_session, shipped_tokenizer, text_logits
from server.core.artifact import FILES, MANIFEST, MODEL, MODEL_CARD, TOKENIZER, load_manifest
from server.core.calibration import IDENTITY
from server.core.errors import ConfigurationError
from server.core.policy import load_policies
from server.core.taxonomy import CATEGORIES


def export(checkpoint, out, **options):
    settings = {key: options.pop(key) for key in list(options) if key in ExportSettings.__dataclass_fields__}
    options.setdefault("data", None)
    return export_checkpoint(
        checkpoint, out, settings=ExportSettings(**settings), report=logging.getLogger("test").info, **options
    )


def test_the_command_line_writes_a_verified_artefact(checkpoint, parquet, tmp_path, capsys):
    out = tmp_path / "deep" / "artefact"
    status = main(["--checkpoint", str(checkpoint), "--out", str(out), "--data", str(parquet), "--version", "test-1"])
    stdout, stderr = capsys.readouterr()
    assert status == 0, stderr
    assert "exporting to ONNX" in stderr

    summary = json.loads(stdout.splitlines()[-1])
    manifest = load_manifest(out)
    assert summary["artifact"] == str(out)
    assert summary["hash"] == manifest.hash
    assert summary["size_bytes"] == (out / MODEL).stat().st_size
    assert summary["au_prc"] > 0.9
    assert summary["speedup_int8_over_fp32"] > 0

    assert (manifest.version, manifest.precision, manifest.max_tokens) == ("test-1", "int8", 16)
    assert manifest.categories == CATEGORIES
    assert manifest.prompt_hash == "abc"
    assert manifest.policy_hash == load_policies()["default"].hash
    assert manifest.calibration != IDENTITY
    assert manifest.metrics["split"] == "dev"
    assert manifest.metrics["quality"]["rows"] == 150
    assert manifest.metrics["proof"]["verdict_agreement_with_fp32"] >= 0.99
    assert manifest.provenance["base"] == "tiny-bert"
    assert manifest.provenance["export_command"].startswith("python -m export --checkpoint ")
    assert manifest.provenance["packages"]["onnxruntime"] == onnxruntime.__version__
    assert sorted(path.name for path in out.iterdir()) == sorted([*FILES, MANIFEST])
    assert [path.name for path in out.parent.iterdir()] == ["artefact"], "no scratch is left beside it"

    tokenizer = Tokenizer.from_file(str(out / TOKENIZER))
    assert tokenizer.truncation is None
    assert tokenizer.padding is None
    logits = text_logits(
        open_session(out / MODEL), cut_windows(out / TOKENIZER, ["the warm cat", "stupid idiot"], max_tokens=16)
    )
    calm, rude = (manifest.calibration["hate"].score(float(row[CATEGORIES.index("hate")])) for row in logits)
    assert calm < 0.5 < rude


def test_the_card_is_written_from_the_measurement(checkpoint, parquet, tmp_path):
    export(checkpoint, tmp_path / "out", data=parquet, precision="fp32", version="card")
    card = (tmp_path / "out" / MODEL_CARD).read_text()
    metrics = load_manifest(tmp_path / "out").metrics
    assert card.startswith("# Stillguard student card (fp32)\n")
    assert "Base: tiny-bert. Teacher: nobody." in card
    assert f"| au_prc | {metrics['proof']['au_prc']:.4g} |" in card
    for name in CATEGORIES:
        figures = metrics["quality"]["categories"][name]
        assert f"| {name} | {figures['positives']} | {figures['negatives']} | {figures['au_prc']:.4g} |" in card
    assert "| made_up | 160 | see source |" in card
    assert "| seed | 0 |" in card


def test_fp32_compares_with_itself(checkpoint, parquet, tmp_path):
    summary = export(checkpoint, tmp_path / "out", data=parquet, precision="fp32")
    assert summary["au_prc"] == summary["au_prc_fp32"]
    assert summary["verdict_agreement_with_fp32"] == 1.0
    assert summary["speedup_int8_over_fp32"] is None


def test_windows_may_be_shorter_than_in_training_and_not_longer_than_the_model(checkpoint, tmp_path):
    export(checkpoint, tmp_path / "artefact", precision="fp32", max_tokens=12)
    assert load_manifest(tmp_path / "artefact").max_tokens == 12
    with pytest.raises(ConfigurationError, match="max_tokens 100000 is not in 8"):
        export(checkpoint, tmp_path / "longer", precision="fp32", max_tokens=100_000)


def test_fp16_takes_and_gives_the_same_types(checkpoint, parquet, tmp_path):
    summary = export(checkpoint, tmp_path / "out", data=parquet, precision="fp16", reference_texts=120)
    assert summary["verdict_agreement_with_fp32"] >= 0.99
    graph = onnx.load(tmp_path / "out" / MODEL).graph
    assert graph.output[0].type.tensor_type.elem_type == onnx.TensorProto.FLOAT
    assert load_manifest(tmp_path / "out").metrics["quality"]["rows"] == 120


def test_uncalibrated_is_possible_and_says_so(checkpoint, tmp_path):
    summary = export(checkpoint, tmp_path / "out", precision="fp32")
    assert summary["au_prc"] is None
    manifest = load_manifest(tmp_path / "out")
    assert manifest.calibration == IDENTITY
    assert manifest.metrics["quality"] is None
    assert "Not measured, not calibrated." in (tmp_path / "out" / MODEL_CARD).read_text()


def test_a_refused_export_leaves_nothing(checkpoint, parquet, tmp_path):
    impossible = Limits(verdict_agreement=1.01)
    with pytest.raises(ExportRefused, match="verdicts agree with FP32's"):
        export(checkpoint, tmp_path / "out", data=parquet, limits=impossible)
    assert list(tmp_path.iterdir()) == []


def test_a_refused_export_leaves_the_artefact_that_was_there(checkpoint, parquet, tmp_path):
    out = tmp_path / "out"
    export(checkpoint, out, data=parquet, precision="fp32", version="old")
    before = load_manifest(out).hash
    with pytest.raises(ExportRefused):
        export(checkpoint, out, data=parquet, limits=Limits(verdict_agreement=1.01), allow_replace=True)
    assert load_manifest(out).hash == before
    assert list(tmp_path.iterdir()) == [out]

    with pytest.raises(ConfigurationError, match="exists: choose another folder, or pass --replace"):
        export(checkpoint, out, data=parquet, precision="fp32")
    export(checkpoint, out, data=parquet, precision="fp32", version="new", allow_replace=True)
    assert load_manifest(out).version == "new"
    assert list(tmp_path.iterdir()) == [out]


def test_a_folder_that_is_no_artefact_is_never_replaced(checkpoint, tmp_path):
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(ConfigurationError, match=r"has no manifest\.json: it will not be replaced"):
        export(checkpoint, tmp_path, allow_replace=True)
    assert (tmp_path / "thesis.txt").read_text() == "years of work"


def test_refusal_on_the_command_line_lists_the_failures(checkpoint, tmp_path, capsys):
    model, tokenizer = load_student(checkpoint)
    model.classifier.bias.data[3] = float("nan")
    for part in (model, tokenizer):
        part.save_pretrained(tmp_path / "poisoned")
    (tmp_path / "poisoned" / "student.json").write_text('{"max_tokens": 16}')
    status = main(["--checkpoint", str(tmp_path / "poisoned"), "--out", str(tmp_path / "out"), "--uncalibrated"])
    stdout, stderr = capsys.readouterr()
    assert status == 3
    assert stdout == ""
    failures = [line for line in stderr.splitlines() if line.startswith("  ")]
    assert "export refused; nothing was written:" in stderr
    shipped_tokenizer(tokenizer).save(str(tmp_path / TOKENIZER))
    windows = len(cut_windows(tmp_path / TOKENIZER, SENTENCES, max_tokens=16).token_ids)
    assert failures == [f"  {name}: values: {windows} of {8 * windows} logits are not finite" for name in ("fp32", "int8")]
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("missing", ["--checkpoint", "--data"])
def test_what_is_missing_is_one_line_and_status_2(missing, checkpoint, parquet, tmp_path, capsys):
    flags = {"--checkpoint": str(checkpoint), "--data": str(parquet), "--out": str(tmp_path / "out")}
    flags[missing] = str(tmp_path / "absent")
    assert main([word for pair in flags.items() for word in pair]) == 2
    stdout, stderr = capsys.readouterr()
    assert stdout == ""
    assert "absent" in stderr
    assert "Traceback" not in stderr


@pytest.mark.parametrize(
    ("content", "message"), [("{", "is not JSON"), ('{"max_tokens": 4}', "not in 8…64"), ('{"max_tokens": 512}', "not in 8…64")]
)
def test_a_checkpoint_with_a_bad_window_is_refused(content, message, checkpoint, tmp_path):
    copy = tmp_path / "copy"
    copy.mkdir()
    for path in checkpoint.iterdir():
        (copy / path.name).write_bytes(path.read_bytes())
    (copy / "student.json").write_text(content)
    with pytest.raises(ConfigurationError, match=message):
        export(copy, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_no_reference_set_is_an_error_unless_asked_for(tmp_path, capsys):
    with pytest.raises(SystemExit) as stopped:
        main(["--checkpoint", "c", "--out", str(tmp_path / "out")])
    assert stopped.value.code == 2
    assert "one of the arguments --data --uncalibrated is required" in capsys.readouterr().err


def test_help_tells_what_is_proven(capsys):
    with pytest.raises(SystemExit):
        main(["--help"])
    text = capsys.readouterr().out
    assert "what is proven, in this order" in text
    assert "--float-ffn-layers" in text


def test_scores_are_those_of_the_shipped_file(checkpoint, parquet, tmp_path):
    """The calibration belongs to INT8's logits, not to FP32's."""
    export(checkpoint, tmp_path / "int8", data=parquet)
    export(checkpoint, tmp_path / "fp32", data=parquet, precision="fp32")
    int8, fp32 = (load_manifest(tmp_path / name).calibration for name in ("int8", "fp32"))
    assert int8 != fp32
    assert np.allclose([int8[n].scale / fp32[n].scale for n in CATEGORIES], 1, atol=0.5)


def test_a_handful_of_texts_proves_nothing(checkpoint, parquet, tmp_path):
    with pytest.raises(ConfigurationError, match="4 texts of dev prove nothing: it takes 100"):
        export(checkpoint, tmp_path / "out", data=parquet, reference_texts=4)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("label", "missing"), [(0.0, "positive"), (1.0, "negative")])
def test_labels_of_one_kind_prove_nothing(checkpoint, tmp_path, label, missing):
    texts = [f"calm number {i}" for i in range(120)]
    columns = dict.fromkeys(CATEGORIES, label) | {"text": texts, "dataset": "d", "split": "dev"}
    pd.DataFrame(columns).to_parquet(tmp_path / "texts.parquet")
    with pytest.raises(ConfigurationError, match=f"0 {missing} labels of dev prove nothing: it takes 20"):
        export(checkpoint, tmp_path / "out", data=tmp_path / "texts.parquet")


def test_a_checkpoint_that_is_not_there_is_named(tmp_path, capsys):
    assert main(["--checkpoint", str(tmp_path / "nope"), "--out", str(tmp_path / "out"), "--uncalibrated"]) == 2
    assert f"{tmp_path / 'nope'}: there is no trained student there" in capsys.readouterr().err
