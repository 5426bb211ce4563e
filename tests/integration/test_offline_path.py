"""The whole offline river on a tiny random Gemma 2, ShieldGemma's architecture, through the command line.

tune-teacher → calibrate-teacher → label → train → calibrate → evaluate; what ``google/shieldgemma-2b`` would go through,
by its name, with hub access.
"""

import json

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file

from distill.cli import main
from distill.seeds import seed_texts
from server.core.taxonomy import CATEGORIES

WORDS = dict(zip(CATEGORIES, ["loser", "vermin", "heist", "override", "cutting", "naked", "damn", "stab"], strict=True))


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    rng = np.random.default_rng(0)
    records = []
    for split, count in (("train", 160), ("dev", 160), ("test", 80)):
        for i in range(count):
            record = {name: 0 for name in CATEGORIES} | {"split": split, "dataset": f"d{i % 2}"}
            text = f"text {i} about {rng.integers(1000)}"
            if i % 2:
                category = CATEGORIES[(i // 2) % len(CATEGORIES)]
                record[category] = 1
                text += f" {WORDS[category]} {WORDS[category]}"
            records.append(record | {"text": text})
    path = tmp_path_factory.mktemp("data") / "tiny.parquet"
    pd.DataFrame(records).to_parquet(path)
    return path


@pytest.fixture(scope="module")
def tiny_student(tmp_path_factory):
    """A random two-layer BERT with a WordPiece vocabulary of whole words and letters."""
    from transformers import BertConfig, BertModel, BertTokenizerFast

    folder = tmp_path_factory.mktemp("tiny-student")
    letters = [*"abcdefghijklmnopqrstuvwxyz0123456789"]
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *letters, *(f"##{c}" for c in letters), "text", "about"]
    vocabulary += WORDS.values()
    (folder / "vocab.txt").write_text("\n".join(vocabulary))
    BertTokenizerFast(vocab_file=str(folder / "vocab.txt")).save_pretrained(folder)
    config = BertConfig(
        vocab_size=len(vocabulary), hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64
    )
    BertModel(config, add_pooling_layer=False).save_pretrained(folder)
    return folder


def distil(capsys, *argv):
    status = main([str(a) for a in argv])
    out = capsys.readouterr()
    assert status == 0, out.err
    return json.loads(out.out.strip().splitlines()[-1])


def test_from_teacher_to_measured_student(data, tiny_gemma, tiny_student, tmp_path, capsys):
    teacher, student, signals = tmp_path / "teacher", tmp_path / "student", tmp_path / "signals"
    tune = (
        "tune-teacher",
        "--data",
        data,
        "--out",
        teacher,
        "--base",
        tiny_gemma,
        "--without-seeds",
        "--rows",
        96,
        "--learning-rate",
        2e-2,
        "--rank",
        4,
    )
    distil(capsys, *tune)
    report = distil(capsys, "calibrate-teacher", "--data", data, "--teacher", teacher, "--rows", 80)
    assert set(report["calibration"]) == set(CATEGORIES)

    label = ("label", "--data", data, "--teacher", teacher, "--signals", signals)
    assert distil(capsys, *label, "--rows", 40)["new"] == 40
    assert distil(capsys, *label, "--rows", 40) | {"signals": None} == {"new": 0, "total": 40, "signals": None}

    report = distil(
        capsys, "train", "--without-seeds", "--data", data, "--out", student,
        "--teacher", teacher, "--signals", signals, "--base", tiny_student,
        "--epochs", 20, "--batch-size", 16, "--learning-rate", 3e-3, "--eval-every-steps", 100, "--feature-dimensions", 8,
    )  # fmt: skip
    assert report["rows"] == 160 + 40 * 3, "a judged text is seen four times an epoch"
    assert report["rows_with_signals"] == 160

    distil(capsys, "calibrate", "--data", data, "--checkpoint", student)
    report = distil(capsys, "evaluate", "--data", data, "--checkpoint", student, "--out", tmp_path / "test.json")
    assert report["pooled"]["au_prc"] > 0.8, "one word decides each category: a student that trains at all finds it"
    assert json.loads((tmp_path / "test.json").read_text()) == report

    report = distil(capsys, "evaluate", "--data", data, "--teacher", teacher)
    assert report["categories"]["hate"]["positives"] == 5

    refit = tmp_path / "refit"
    head = ("refit-head", "--data", data, "--start-from", student, "--out", refit, "--rows", 100, "--seed-repeats", 1)
    report = distil(capsys, *head)
    assert report["rows"] == 100 + len(seed_texts().texts)
    assert report["loss"] < report["loss_before"]
    encoders = [load_file(folder / "model.safetensors") for folder in (student, refit)]
    changed = {name for name, tensor in encoders[0].items() if not torch.equal(tensor, encoders[1][name])}
    assert changed == {"classifier.weight", "classifier.bias"}
    (earlier,) = json.loads((refit / "provenance.json").read_text())["earlier"]
    assert earlier["rows"] == 160 + 40 * 3, "where it started from"

    # A second cycle: student and teacher learn what both said together.
    again = ("--learning-rate", 1e-3, "--without-seeds", "--data", data, "--signals", signals, "--pool-with", student)
    tuned = tmp_path / "teacher-2"
    tune = (
        "tune-teacher", *again, "--start-from", teacher, "--out", tuned, "--base", tiny_gemma, "--rows", 64, "--rank", 4,
    )  # fmt: skip
    distil(capsys, *tune)
    assert json.loads((tuned / "tune.json").read_text())["rows"] == 40, "of the texts that the first one judged"
    second = tmp_path / "student-2"
    train = (
        "train", *again, "--start-from", student, "--out", second, "--teacher", teacher, "--rows", 64,
        "--epochs", 1, "--batch-size", 16, "--eval-every-steps", 100, "--feature-dimensions", 8,
    )  # fmt: skip
    report = distil(capsys, *train)
    assert report["rows_with_signals"] == 160
    assert json.loads((second / "provenance.json").read_text())["pool_with"] == str(student)

    distil(
        capsys, "train", *again, "--start-from", student, "--out", tmp_path / "mean", "--teacher", teacher, "--rows", 64,
        "--epochs", 1, "--batch-size", 16, "--eval-every-steps", 100, "--feature-dimensions", 8, "--average",
    )  # fmt: skip
    first, trained, mean = (load_file(folder / "model.safetensors") for folder in (student, second, tmp_path / "mean"))
    assert any((first[name] - trained[name]).abs().max() > 1e-3 for name in mean)
    for name, tensor in mean.items():
        torch.testing.assert_close(tensor, (first[name] + trained[name]) / 2, atol=1e-5, rtol=1e-4)

    # Calibrated anew, teacher or student says something else: none of the runs goes on.
    for whose, argv in ((student, tune), (teacher, train)):
        calibration = json.loads((whose / "calibration.json").read_text())
        (whose / "calibration.json").write_text(json.dumps(calibration | {"hate": {"scale": 0.5, "shift": 0.1}}))
        assert main([str(argument) for argument in argv]) == 2
        assert "made with other calibrations: use another --out" in capsys.readouterr().err


def test_what_a_user_can_mend_is_one_line(data, tmp_path, capsys):
    assert main(["evaluate", "--data", str(tmp_path / "none.parquet"), "--checkpoint", str(tmp_path)]) == 2
    assert len(capsys.readouterr().err.strip().splitlines()) == 1
    assert main(["train", "--data", str(data), "--out", str(tmp_path), "--teacher", "nobody", "--signals", str(tmp_path)]) == 2
    assert "run label first" in capsys.readouterr().err
    tune = ["tune-teacher", "--data", str(data), "--out", str(tmp_path), "--pool-with", str(tmp_path)]
    assert main(tune) == 2
    assert "needs --start-from" in capsys.readouterr().err


def test_a_run_folder_is_not_trained_into_with_other_flags(data, tiny_student, tmp_path, capsys):
    student = tmp_path / "student"
    train = ["train", "--data", data, "--out", student, "--base", tiny_student, "--without-seeds", "--eval-every-steps", 2]
    distil(capsys, *train, "--epochs", 1)
    before = {path: path.read_bytes() for path in student.iterdir() if path.is_file()}
    for flags, named in (
        (("--epochs", 1, "--learning-rate", 1e-3, "--rows", 96), "learning_rate, texts"),
        (("--epochs", 2), "epochs"),
    ):
        assert main([str(a) for a in (*train, *flags)]) == 2
        assert capsys.readouterr().err == (
            f"distill train: {student} holds a run that was made with other {named}: use another --out\n"
        )
    assert {path: path.read_bytes() for path in student.iterdir() if path.is_file()} == before
    assert json.loads((student / "provenance.json").read_text())["settings"]["learning_rate"] == 1e-4
    assert main([str(a) for a in (*train, "--max-tokens", 4)]) == 2
    assert "--max-tokens must be 35 to 512, not 4" in capsys.readouterr().err
