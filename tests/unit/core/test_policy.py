"""Policies: what loads, what is refused and how the message helps, and which edits change which hash."""

import dataclasses
import math
import re
from pathlib import Path

import pytest

from server.core.errors import PolicyError, UnknownPolicy
from server.core.policy import DEFAULT_POLICY_FILE, Rule, load_policies
from server.core.taxonomy import CATEGORIES
from tests.steady import steady_policy

DEFAULT = DEFAULT_POLICY_FILE.read_text(encoding="utf-8")


TEACHERS_PART = re.compile(r"mode = .*\n(?:\w+ = .*\n)*")
"""Of the shipped file: all that says how the teacher is used, which may be left out."""


def load(tmp_path: Path, text: str):
    path = tmp_path / "policy.toml"
    path.write_text(text, encoding="utf-8")
    return load_policies(path)


def rule(**changes) -> Rule:
    return dataclasses.replace(Rule("No Harm", "User wording.", "Assistant wording.", 0.5, (0.3, 0.7)), **changes)


def test_the_shipped_policy_has_a_rule_per_category_in_taxonomy_order():
    policy = load_policies()["default"]
    assert policy.id == "default"
    assert policy.on_no_teacher == "student"
    assert len(policy.rules) == len(CATEGORIES)
    assert policy.rules[CATEGORIES.index("hate")].title == "No Hate Speech"
    assert policy.rules[CATEGORIES.index("violence")].title == "No Violence"


def test_wording_follows_the_role():
    assert rule().wording("user") == '"No Harm": User wording.'
    assert rule().wording("assistant") == '"No Harm": Assistant wording.'


@pytest.mark.parametrize(("score", "violated"), [(0.5, True), (math.nextafter(0.5, 0), False), (1.0, True), (0.0, False)])
def test_block_at_is_included(score, violated):
    assert rule().is_violated(score) is violated


@pytest.mark.parametrize(("score", "unsure"), [(0.3, True), (0.7, True), (0.5, True), (0.2999, False), (0.7001, False)])
def test_both_ends_of_the_unsure_band_are_included(score, unsure):
    assert rule().is_unsure(score) is unsure


def test_an_empty_band_is_never_unsure():
    assert not rule(unsure=(0.5, 0.5)).is_unsure(0.5)


NO_HARM = dict.fromkeys(CATEGORIES, 0.01)


@pytest.mark.parametrize(
    ("scores", "unsure"),
    [
        ({}, ()),
        ({"hate": 0.3}, ("hate",)),
        ({"hate": 0.7}, ("hate",)),
        ({"hate": 0.29}, ()),
        ({"hate": 0.71}, ()),
        ({"violence": 0.5, "hate": 0.4}, ("hate", "violence")),
        ({"violence": 0.5, "hate": 0.9}, ()),
        ({"hate": 0.5, "violence": 0.9}, ()),
    ],
)
def test_the_unsure_are_those_in_their_band_unless_another_is_surely_violated(scores, unsure):
    assert steady_policy().unsure(NO_HARM | scores) == unsure


def test_asked_about_all_are_those_with_a_band_once_one_is_unsure():
    policy = dataclasses.replace(steady_policy(), ask_about="all")
    rules = tuple(
        dataclasses.replace(rule, unsure=(0.5, 0.5)) if rule.title == "No Violence" else rule for rule in policy.rules
    )
    policy = dataclasses.replace(policy, rules=rules)
    assert policy.questions(NO_HARM | {"hate": 0.4}) == tuple(c for c in CATEGORIES if c != "violence")
    assert policy.questions(NO_HARM | {"violence": 0.5}) == ()
    assert policy.questions(NO_HARM | {"hate": 0.4, "sexual": 0.9}) == ()
    assert dataclasses.replace(policy, ask_about="unsure").questions(NO_HARM | {"hate": 0.4}) == ("hate",)


def test_a_score_over_block_at_and_below_its_band_is_sure():
    policy = steady_policy()
    rules = tuple(
        dataclasses.replace(rule, unsure=(0.8, 0.9)) if rule.title == "No Hate Speech" else rule for rule in policy.rules
    )
    policy = dataclasses.replace(policy, rules=rules)
    assert policy.unsure(NO_HARM | {"hate": 0.6, "violence": 0.5}) == ()
    assert policy.violated(NO_HARM | {"hate": 0.6, "violence": 0.5}) == ("hate", "violence")


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ('mode = "sometimes"', r"mode: 'sometimes' is not one of inline, async, shadow"),
        ("mode = 1", "mode: 1 is not one of"),
        ('mode = "shadow"', r'shadow_share: belongs to mode = "shadow", which needs it'),
        ('mode = "async"\nshadow_share = 0.1', "shadow_share: belongs to"),
        ('mode = "shadow"\nshadow_share = 1.1', r"shadow_share: 1\.1 is not a number in \[0, 1\]"),
        ('mode = "inline"\nteacher_may_clear = 1', "teacher_may_clear: must be true or false"),
        ('ask_about = "some"', r"ask_about: 'some' is not one of unsure, all"),
        ("teacher_weight = 1.5", r"teacher_weight: 1\.5 is not a number in \[0, 1\]"),
        ("teacher_weight = 0", r"teacher_weight: must be above 0; who wants no teacher gives no category a band"),
    ],
)
def test_a_bad_choice_of_the_teachers_part_is_refused_by_place(tmp_path, lines, message):
    with pytest.raises(PolicyError, match=message):
        load(tmp_path, TEACHERS_PART.sub(lines + "\n", DEFAULT, count=1))


def test_the_teachers_part_may_be_left_out_or_chosen(tmp_path):
    bare = load(tmp_path, TEACHERS_PART.sub("", DEFAULT, count=1))["default"]
    assert (bare.mode, bare.shadow_share, bare.teacher_may_clear) == ("inline", 0.0, False)
    assert (bare.ask_about, bare.teacher_weight) == ("unsure", 1.0)
    lines = 'mode = "shadow"\nshadow_share = 0.05\nteacher_may_clear = true\nask_about = "all"\nteacher_weight = 0.5\n'
    chosen = load(tmp_path, TEACHERS_PART.sub(lines, DEFAULT, count=1))["default"]
    assert (chosen.mode, chosen.shadow_share, chosen.teacher_may_clear) == ("shadow", 0.05, True)
    assert (chosen.ask_about, chosen.teacher_weight) == ("all", 0.5)
    assert chosen.hash != bare.hash


HATE = "[default.categories.hate]"
VERSION = re.search(r'^version = ".+"$', DEFAULT, re.MULTILINE)[0]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (VERSION, "", r"\[default\]: missing version"),
        (VERSION, 'version = " "', r"\[default\] version: must be a non-empty string"),
        (VERSION, f'{VERSION}\nvresion = "2"', r"\[default\]: unknown vresion"),
        ('on_no_teacher = "student"', 'on_no_teacher = "shrug"', r"on_no_teacher: 'shrug' is not one of student, allow, block"),
        (HATE, "[default.categories.hatred]", r"categories: missing hate; unknown hatred"),
        ('title = "No Hate Speech"', "", r"categories\.hate: missing title"),
        ('title = "No Hate Speech"', "title = 7", r"categories\.hate title: must be a non-empty string"),
    ],
)
def test_an_incomplete_policy_is_refused_by_place(tmp_path, old, new, message):
    assert old in DEFAULT
    with pytest.raises(PolicyError, match=message):
        load(tmp_path, DEFAULT.replace(old, new, 1))


def with_rule_line(key: str, line: str) -> str:
    """The default policy with one line of the first category's rule replaced."""
    lines = DEFAULT.splitlines()
    lines[next(i for i, text in enumerate(lines) if text.startswith(f"{key} ="))] = line
    return "\n".join(lines)


@pytest.mark.parametrize(
    ("key", "line", "message"),
    [
        ("block_at", "block_at = 1.5", r"harassment block_at: 1\.5 is not a number in \[0, 1\]"),
        ("block_at", "block_at = nan", r"block_at: nan is not a number"),
        ("block_at", "block_at = true", r"block_at: True is not a number"),
        ("block_at", 'block_at = "0.5"', r"block_at: '0\.5' is not a number"),
        ("unsure", "unsure = [0.7, 0.3]", r"unsure: low 0\.7 is above high 0\.3"),
        ("unsure", "unsure = [0.3]", r"unsure: must be two numbers"),
        ("unsure", "unsure = 0.3", r"unsure: must be two numbers"),
        ("unsure", "unsure = [-0.1, 0.3]", r"unsure: -0\.1 is not a number in \[0, 1\]"),
    ],
)
def test_a_bad_number_is_refused_by_place(tmp_path, key, line, message):
    with pytest.raises(PolicyError, match=message):
        load(tmp_path, with_rule_line(key, line))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "holds no policy"),
        ("[default", "policy.toml"),
        ("default = 3", r"\[default\]: must be a table"),
        ("default = " + 10_000 * "[" + 10_000 * "]", "policy.toml: maximum recursion depth exceeded"),
    ],
)
def test_a_file_that_is_no_policy_is_refused(tmp_path, text, message):
    with pytest.raises(PolicyError, match=message):
        load(tmp_path, text)


def test_a_missing_file_and_bytes_that_are_not_utf8_are_refused(tmp_path):
    with pytest.raises(PolicyError, match="No such file"):
        load_policies(tmp_path / "absent.toml")
    (tmp_path / "latin.toml").write_bytes(b'[default]\nversion = "\xe9"')
    with pytest.raises(PolicyError, match=r"latin\.toml"):
        load_policies(tmp_path / "latin.toml")


def test_an_unknown_policy_names_the_known_ones_and_not_the_asked(tmp_path):
    policies = load(tmp_path, DEFAULT + DEFAULT.replace("[default", "[strict"))
    assert list(policies) == ["default", "strict"]
    assert "strict" in policies
    assert "no-such" not in policies
    with pytest.raises(UnknownPolicy, match="known policies: default, strict") as raised:
        policies["no-such"]
    assert raised.value.param == "policy"
    assert "no-such" not in str(raised.value)


def test_a_threshold_and_a_word_change_the_hash(tmp_path):
    shipped = load_policies()["default"].hash
    stricter = load(tmp_path, with_rule_line("block_at", "block_at = 0.51"))["default"].hash
    reworded = load(tmp_path, DEFAULT.replace("No Hate Speech", "No Hateful Speech"))["default"].hash
    assert len({shipped, stricter, reworded}) == 3


def test_the_hash_is_of_the_content():
    assert load_policies()["default"].hash == load_policies()["default"].hash
