"""Thresholds into a policy file: the numbers change, the wording and the comments don't."""

import re
from dataclasses import replace

import pytest

from distill.policy_file import write_numbers
from server.core.errors import ConfigurationError
from server.core.policy import DEFAULT_POLICY_FILE, load_policies
from server.core.taxonomy import CATEGORIES


def test_numbers_change_and_nothing_else(tmp_path):
    path = tmp_path / "policy.toml"
    path.write_text(DEFAULT_POLICY_FILE.read_text())
    before = load_policies(path)["default"]
    block_at = {name: 0.111 * (i + 1) for i, name in enumerate(CATEGORIES)}
    unsure = {name: (0.05, 0.95) for name in CATEGORIES}
    write_numbers(path, "default", block_at, unsure)
    after = load_policies(path)["default"]
    assert [rule.block_at for rule in after.rules] == pytest.approx(list(block_at.values()), abs=5e-4)
    assert {rule.unsure for rule in after.rules} == {(0.05, 0.95)}
    assert [replace(rule, block_at=0, unsure=(0, 0)) for rule in after.rules] == [
        replace(rule, block_at=0, unsure=(0, 0)) for rule in before.rules
    ]
    assert path.read_text().count("#") == DEFAULT_POLICY_FILE.read_text().count("#")


def test_the_teachers_weight_is_set_where_it_stands_or_at_the_end_of_the_policys_head(tmp_path):
    path = tmp_path / "policy.toml"
    shipped = DEFAULT_POLICY_FILE.read_text()
    for text in (shipped, re.sub("teacher_weight = .*\n", "", shipped)):
        path.write_text(text)
        write_numbers(path, "default", {}, {}, teacher_weight=0.125)
        assert load_policies(path)["default"].teacher_weight == 0.12
        assert path.read_text().replace("teacher_weight = 0.12\n", "") == re.sub("teacher_weight = .*\n", "", shipped)


def test_a_file_it_can_not_place_them_in_is_left_alone(tmp_path):
    path = tmp_path / "policy.toml"
    text = DEFAULT_POLICY_FILE.read_text().replace("[default", "[other")
    path.write_text(text)
    with pytest.raises(ConfigurationError, match="no block_at"):
        write_numbers(path, "default", {"hate": 0.5}, {"hate": (0.4, 0.6)})
    assert path.read_text() == text
