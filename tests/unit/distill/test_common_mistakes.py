"""What a user can mend is one line, and says what."""

from pathlib import Path

import pandas as pd
import pytest

from distill.cli import main
from server.core.taxonomy import CATEGORIES


@pytest.fixture
def labelled(tmp_path):
    labels = dict.fromkeys(CATEGORIES, [0, 1] * 6)
    splits = ["train"] * 4 + ["dev"] * 4 + ["test"] * 4
    path = tmp_path / "data.parquet"
    pd.DataFrame(labels | {"text": [f"text {i}" for i in range(12)], "dataset": "d", "split": splits}).to_parquet(path)
    return path


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ("evaluate --checkpoint nope --data {data}", "nope: there is no trained student there"),
        ("evaluate --checkpoint nope --data absent.parquet", "absent.parquet: no such file"),
        ("label --teacher runs/techer --data {data}", "runs/techer is no teacher and no model's folder here"),
        ("label --teacher absent.gguf --data {data}", "absent.gguf: no such file"),
        ("train --base nowhere --without-seeds --out {out} --data {data}", "nowhere is no model's folder here"),
        ("evaluate --checkpoint nope --data words.txt", "words.txt is no Parquet file"),
        ("train --base unheard-of --without-seeds --out {out} --data {data}", "unheard-of is no model's folder here"),
        ("label --teacher unheard-of --data {data}", "unheard-of is no teacher and no model's folder here"),
        ("label --teacher words.gguf --data {data}", "words.gguf is no model that can be read"),
        ("evaluate --checkpoint torn --data {data}", "torn/calibration.json is not JSON"),
    ],
)
def test_a_wrong_name_is_named(labelled, monkeypatch, capsys, arguments, said):
    monkeypatch.chdir(labelled.parent)
    for file in ("words.txt", "words.gguf"):
        Path(file).write_text("just words")
    for folder, config in {"unheard-of": '{"model_type": "unheard-of"}', "torn": "{}"}.items():
        Path(folder).mkdir()
        Path(folder, "config.json").write_text(config)
    Path("torn/calibration.json").write_text('{"harassment": {"sca')
    assert main(arguments.format(data=labelled, out="out").split()) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert said in line


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ("label --teacher t --rows 0", "--rows: 0 is not 1 or more"),
        ("label --teacher t --rows -5", "--rows: -5 is not 1 or more"),
        ("train --out o --dev-rows 0", "--dev-rows: 0 is not 1 or more"),
        ("train --out o --batch-size 0", "--batch-size: 0 is not 1 or more"),
        ("train --out o --warmup-ratio 2", "--warmup-ratio: 2 is not 1 or less"),
        ("train --out o --learning-rate nan", "--learning-rate: nan is not 0 or more"),
        ("train --out o --learning-rate fast", "--learning-rate: invalid float value: 'fast'"),
        ("tune-teacher --out o --rank 0", "--rank: 0 is not 1 or more"),
        ("label --teacher t --seed -1", "--seed: -1 is not 0 or more"),
        ("plant --out o --max-chars 99", "--max-chars: 99 is not 100 or more"),
    ],
)
def test_a_number_out_of_bounds_is_refused_at_once(capsys, arguments, said):
    with pytest.raises(SystemExit) as stopped:
        main(arguments.split())
    assert stopped.value.code == 2
    assert said in capsys.readouterr().err


def test_a_fault_of_our_own_is_no_line_but_a_traceback(labelled, monkeypatch):
    def broken(*_):
        raise ValueError("operands could not be broadcast together")

    monkeypatch.setattr("distill.verbs.evaluate", broken)
    with pytest.raises(ValueError, match="broadcast"):
        main(["evaluate", "--checkpoint", "c", "--data", str(labelled)])


def test_packing_names_where_to_and_reads_no_data(capsys):
    with pytest.raises(SystemExit):
        main(["pack-teacher", "--teacher", "t"])
    assert "required: --out" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["pack-teacher", "--teacher", "t", "--out", "o", "--data", "d"])
    assert "unrecognized arguments: --data d" in capsys.readouterr().err
