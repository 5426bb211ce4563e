"""What a user can mend is one line, and says what."""

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
    ],
)
def test_a_wrong_name_is_named(labelled, monkeypatch, capsys, arguments, said):
    monkeypatch.chdir(labelled.parent)
    assert main(arguments.format(data=labelled, out="out").split()) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert said in line


@pytest.mark.parametrize(
    "arguments", ["label --teacher t --rows 0", "label --teacher t --rows -5", "train --out o --dev-rows 0"]
)
def test_a_number_of_rows_is_1_or_more(capsys, arguments):
    with pytest.raises(SystemExit) as stopped:
        main(arguments.split())
    assert stopped.value.code == 2
    assert "is not 1 or more" in capsys.readouterr().err


def test_packing_names_where_to_and_reads_no_data(capsys):
    with pytest.raises(SystemExit):
        main(["pack-teacher", "--teacher", "t"])
    assert "required: --out" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["pack-teacher", "--teacher", "t", "--out", "o", "--data", "d"])
    assert "unrecognized arguments: --data d" in capsys.readouterr().err
