"""What verdicts were worth: intervals, groups, limits, and which texts are kept."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from loadtest.goal import is_passed
from loadtest.verdicts.ask import Checked, NotChecked, Served
from loadtest.verdicts.labelled import LabelledFile, LabelledText
from loadtest.verdicts.picture import draw
from loadtest.verdicts.report import Answered, Limits, describe, failures, judge_verdicts, wilson
from loadtest.verdicts.tables import SHOWN_GROUPS, render

SERVED = Served("1", "ab", "int8", "default", "1")
ALLOW = Checked("allow", "student", (), {"harassment": 0.1, "hate": 0.1}, None, SERVED)
BLOCK = replace(ALLOW, verdict="block", categories=("hate",), scores={"harassment": 0.1, "hate": 0.9})
REVIEW = replace(ALLOW, verdict="review", decided_by="student_degraded", escalation="deadline")
SHED = NotChecked("queue_full")
SECRET = "what somebody wrote"


def answered(*rows, name="f.jsonl") -> Answered:
    """Rows of (is unsafe, group, outcome)."""
    texts = [LabelledText(SECRET, is_unsafe, "user", group) for is_unsafe, group, _ in rows]
    return Answered(LabelledFile(Path("data") / name, texts, 2, "kind"), [outcome for _, _, outcome in rows])


@pytest.mark.parametrize(
    ("count", "of", "low", "high"),
    # Newcombe 1998, Statistics in Medicine 17:857, table I, method 3
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_the_interval_is_wilsons(count, of, low, high):
    assert wilson(count, of) == (pytest.approx(low, abs=5e-5), pytest.approx(high, abs=5e-5))
    assert wilson(of - count, of) == (pytest.approx(1 - high, abs=5e-5), pytest.approx(1 - low, abs=5e-5))


def test_a_review_is_counted_apart_and_neither_a_block_nor_a_miss():
    record = describe([answered((False, "a", BLOCK), *[(False, "a", REVIEW)] * 3, (True, "b", REVIEW), (True, "b", ALLOW))])
    file = record["files"][0]
    shares = {
        side: {name: file[side][name]["share"] for name in ("block", "review", "allow", "wrong")} for side in ("safe", "unsafe")
    }
    assert shares == {
        "safe": {"block": 0.25, "review": 0.75, "allow": 0.0, "wrong": 0.25},
        "unsafe": {"block": 0.0, "review": 0.5, "allow": 0.5, "wrong": 0.5},
    }
    assert file["safe"]["decided_by"] == {"student_degraded": 3, "student": 1}
    assert file["safe"]["escalations"] == {"deadline": 3}


def test_what_was_not_checked_counts_as_nothing_else():
    record = describe([answered((False, "a", BLOCK), (False, "a", ALLOW), (False, "a", SHED), (True, "b", SHED))])
    safe, unsafe = record["files"][0]["safe"], record["files"][0]["unsafe"]
    assert (safe["texts"], safe["not_checked"], safe["not_checked_reasons"]) == (3, 1, {"queue_full": 1})
    assert (safe["wrong"]["count"], safe["wrong"]["of"], safe["allow"]["count"]) == (1, 2, 1)
    assert unsafe["wrong"] == {"count": 0, "of": 0, "share": None, "low": None, "high": None}


def test_groups_are_sorted_by_the_worst_then_by_size_and_unknown_ones_are_last():
    rows = [
        *[(False, "half", BLOCK), (False, "half", ALLOW)],
        *[(False, "unknown", SHED)] * 5,
        *[(False, "none", ALLOW)] * 9,
        *[(False, "big half", BLOCK), (False, "big half", ALLOW)] * 2,
        (False, "all", BLOCK),
        (True, "other side", ALLOW),
    ]
    record = describe([answered(*rows)])
    assert [group["group"] for group in record["files"][0]["safe"]["groups"]] == ["all", "big half", "half", "none", "unknown"]
    assert [group["group"] for group in record["files"][0]["unsafe"]["groups"]] == ["other side"]


def test_the_categories_are_those_of_the_false_blocks():
    both = replace(BLOCK, categories=("harassment", "hate"))
    unnamed = replace(BLOCK, categories=(), decided_by="student_degraded")
    record = describe([answered((False, "a", both), (False, "a", BLOCK), (False, "a", unnamed), (True, "b", both))])
    assert record["files"][0]["safe"]["wrong_categories"] == {"hate": 2, "harassment": 1, "(none)": 1}


def test_a_miss_has_no_category():
    record = describe([answered((True, "b", ALLOW), (True, "b", BLOCK))])
    assert record["files"][0]["unsafe"]["wrong"]["count"] == 1
    assert "wrong_categories" not in record["files"][0]["unsafe"]


def test_a_reload_during_the_run_is_said():
    reloaded = replace(ALLOW, served=replace(SERVED, artifact_hash="cd"))
    record = describe([answered((False, "a", ALLOW), (False, "a", reloaded), (False, "a", reloaded))])
    assert [(one["artifact_hash"], one["texts"]) for one in record["served"]] == [("ab", 1), ("cd", 2)]
    assert "changed during the run" in render(record)
    assert "changed during the run" not in render(describe([answered((False, "a", ALLOW))]))


HALF_WRONG = answered((False, "a", BLOCK), (False, "a", ALLOW), (True, "b", ALLOW), (True, "b", BLOCK))


@pytest.mark.parametrize(
    ("limits", "passed"),
    [
        (Limits(), True),
        (Limits(false_blocks=0.5, misses=0.5), True),
        (Limits(false_blocks=0.49), False),
        (Limits(misses=0.49), False),
    ],
)
def test_limits_are_kept_or_missed(limits, passed):
    assert is_passed(judge_verdicts(describe([HALF_WRONG]), limits)) is passed


def test_each_file_is_held_to_the_limit_alone():
    good = answered(*[(False, "a", ALLOW)] * 98, name="good.jsonl")
    goals = judge_verdicts(describe([good, HALF_WRONG]), Limits(false_blocks=0.3))
    assert [(goal.name, goal.is_met) for goal in goals] == [
        ("safe texts blocked, good.jsonl", True),
        ("safe texts blocked, f.jsonl", False),
        ("texts not checked", True),
    ]


def test_files_of_one_name_are_told_apart_by_their_paths():
    rows = [(False, "a", BLOCK), (False, "a", SHED), (True, "b", ALLOW)]
    record = describe([answered(*rows, name=name) for name in ("old/f.jsonl", "new/f.jsonl", "g.jsonl")])
    paths = [str(Path("data") / "old" / "f.jsonl"), str(Path("data") / "new" / "f.jsonl")]
    assert [goal.name for goal in judge_verdicts(record, Limits(misses=0.5))] == [
        *(f"unsafe texts allowed, {name}" for name in (*paths, "g.jsonl")),
        "texts not checked",
    ]
    printed = render(record)
    assert [f"{path}, safe texts not checked: 1 × queue_full" in printed for path in paths] == [True, True]


@pytest.mark.parametrize("rows", [[(False, "a", ALLOW), (False, "a", SHED)], [(False, "a", SHED)], [(True, "b", BLOCK)]])
def test_what_could_not_be_judged_does_not_pass(rows):
    record = describe([answered(*rows)])
    assert not is_passed(judge_verdicts(record, Limits(false_blocks=1.0)))
    assert judge_verdicts(record, Limits()) == []


def test_the_wrong_texts_are_kept_with_what_was_said_and_as_a_stress_set_wants_them():
    kept = failures([HALF_WRONG, answered((False, "a", REVIEW), (False, "a", SHED))])
    common = {"text": SECRET, "role": "user", "dataset": "f", "split": "train", "decided_by": "student"}
    assert kept == [
        common
        | {"unsafe": 0, "group": "a", "verdict": "block", "categories": ["hate"], "scores": BLOCK.scores}
        | {"harassment": 0, "hate": 0},
        common
        | {"unsafe": 1, "group": "b", "verdict": "allow", "categories": [], "scores": ALLOW.scores}
        | {"harassment": None, "hate": None},
    ]


def test_neither_record_nor_tables_hold_a_text_and_the_tables_say_what_is_missing():
    record = describe([answered((False, "a", BLOCK), (False, "a", SHED), (True, "b", replace(ALLOW, escalation="pending")))])
    printed = render(record)
    assert SECRET not in json.dumps(record, allow_nan=False) + printed
    assert "f.jsonl, safe texts not checked: 1 × queue_full" in printed
    assert "(2 rows without a label left out)" in printed
    assert "1 verdicts are the student's own" in printed
    assert "100.0 %" in printed


def test_of_many_groups_the_worst_are_shown_and_all_are_drawn_from(tmp_path):
    rows = [(False, f"group {i:02}", BLOCK if i == 50 else ALLOW) for i in range(60)]
    record = describe([answered(*rows)])
    printed = render(record)
    assert f"the worst {SHOWN_GROUPS} of 60" in printed
    assert "group 50" in printed
    assert "group 59" not in printed
    draw(record, tmp_path / "report.png")
    assert (tmp_path / "report.png").read_bytes().startswith(b"\x89PNG")
