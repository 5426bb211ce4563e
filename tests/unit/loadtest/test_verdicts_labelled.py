"""Labelled files: the same rows from each format, and one line for whatever is wrong with one."""

import json

import pyarrow
import pyarrow.parquet
import pytest

from loadtest.command import Unusable
from loadtest.verdicts.labelled import NO_GROUP, LabelledText, read_labelled

ROWS = [
    {"text": "fine, really", "unsafe": 0, "role": "user", "kind": "a"},
    {"text": 'hate\n"and" more', "unsafe": 1, "role": "assistant", "kind": None},
    {"text": "nobody knows", "unsafe": None, "role": None, "kind": "a"},
    {"text": "a line\u2028separator", "unsafe": 1, "role": None, "kind": "b"},
]
TEXTS = [
    LabelledText("fine, really", False, "user", "a"),
    LabelledText('hate\n"and" more', True, "assistant", NO_GROUP),
    LabelledText("a line\u2028separator", True, "user", "b"),
]


def json_lines(path, rows):
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")


def comma_separated(path, rows):
    import csv

    with path.open("w", encoding="utf-8-sig", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def parquet(path, rows):
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), path)


@pytest.mark.parametrize(("suffix", "write"), [("jsonl", json_lines), ("csv", comma_separated), ("parquet", parquet)])
def test_each_format_gives_the_same_texts_and_leaves_out_those_without_a_label(suffix, write, tmp_path):
    path = tmp_path / f"labelled.{suffix}"
    write(path, ROWS)
    read = read_labelled(path)
    assert (read.texts, read.unlabelled, read.by) == (TEXTS, 1, "kind")


def test_a_column_may_be_chosen_for_the_groups_and_a_role_for_those_without(tmp_path):
    json_lines(tmp_path / "f.jsonl", ROWS)
    read = read_labelled(tmp_path / "f.jsonl", by="role", role="assistant")
    assert [(text.role, text.group) for text in read.texts] == [
        ("user", "user"),
        ("assistant", "assistant"),
        ("assistant", NO_GROUP),
    ]


def test_without_the_usual_column_there_are_no_groups(tmp_path):
    json_lines(tmp_path / "f.jsonl", [{"text": "fine", "unsafe": 0}])
    read = read_labelled(tmp_path / "f.jsonl")
    assert (read.by, read.texts) == (None, [LabelledText("fine", False)])


@pytest.mark.parametrize("label", [1, 1.0, True, "1", "1.0"])
def test_a_one_is_a_one_however_it_is_written(label, tmp_path):
    json_lines(tmp_path / "f.jsonl", [{"text": "hate", "unsafe": label}, {"text": "?", "unsafe": float("nan")}])
    read = read_labelled(tmp_path / "f.jsonl")
    assert ([text.is_unsafe for text in read.texts], read.unlabelled) == ([True], 1)


@pytest.mark.parametrize(
    ("rows", "complaint"),
    [
        ([{"text": "x", "unsafe": 2}], "f.jsonl, line 1: the label unsafe is neither 0 nor 1"),
        ([{"text": "x", "unsafe": 0}, {"text": "x", "unsafe": "secret"}], "f.jsonl, line 2: the label unsafe is neither"),
        ([{"text": "x", "unsafe": []}], "the label unsafe is neither"),
        ([{"text": 3, "unsafe": 0}], "f.jsonl, line 1: the text is no string"),
        ([{"unsafe": 0}], "f.jsonl has no column named text"),
        ([{"text": "x"}], "f.jsonl has no column named unsafe"),
        ([{"text": "x", "unsafe": 0, "role": "system"}], "line 1: the role is neither user nor assistant"),
        ([{"text": "x", "unsafe": None}], "f.jsonl holds no row with a label"),
        ([["x"]], "f.jsonl, line 1: no JSON object"),
        ([], "f.jsonl holds no rows"),
    ],
)
def test_what_is_wrong_is_said_with_its_place_and_without_the_text(rows, complaint, tmp_path):
    json_lines(tmp_path / "f.jsonl", rows)
    with pytest.raises(Unusable) as caught:
        read_labelled(tmp_path / "f.jsonl")
    assert complaint in str(caught.value)
    assert "secret" not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_column_to_group_by_that_is_missing_is_named(tmp_path):
    json_lines(tmp_path / "f.jsonl", ROWS)
    with pytest.raises(Unusable, match="has no column named language"):
        read_labelled(tmp_path / "f.jsonl", by="language")


@pytest.mark.parametrize(
    ("name", "content", "complaint"),
    [
        ("f.txt", b"x", "ends in none of .jsonl"),
        ("f.jsonl", b'{"text": ', "line 1: not JSON"),
        ("f.jsonl", b"\xff\xfe", "is not in UTF-8"),
        ("f.csv", b'text,unsafe\n"x', "not CSV"),
        ("f.parquet", b"x", "is no Parquet file"),
    ],
)
def test_a_file_of_another_kind_is_refused(name, content, complaint, tmp_path):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(Unusable, match=complaint):
        read_labelled(tmp_path / name)
