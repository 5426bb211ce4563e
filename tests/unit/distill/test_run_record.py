"""What a run is made with: written once, compared ever after."""

import json

import numpy as np
import pytest

from distill.data import LabelledTexts
from distill.run_record import hold_to, rows_digest
from server.core.errors import ConfigurationError

RECORD = {"rank": 4, "teacher": None}


def test_a_run_that_has_begun_is_held_to_its_record(tmp_path):
    path = tmp_path / "run" / "run.json"
    hold_to(path, RECORD, has_begun=False)
    assert json.loads(path.read_text()) == RECORD
    hold_to(path, RECORD, has_begun=True)
    with pytest.raises(ConfigurationError, match="made with other rank, teacher: use another --out"):
        hold_to(path, {"rank": 8, "teacher": "someone"}, has_begun=True)
    with pytest.raises(ConfigurationError, match="made with other prompt"):
        hold_to(path, RECORD | {"prompt": "title"}, has_begun=True)
    assert json.loads(path.read_text()) == RECORD


def test_a_run_that_left_nothing_to_go_on_from_may_begin_otherwise(tmp_path):
    hold_to(tmp_path / "run.json", RECORD, has_begun=False)
    hold_to(tmp_path / "run.json", {"rank": 8}, has_begun=False)
    assert json.loads((tmp_path / "run.json").read_text()) == {"rank": 8}


def test_a_run_without_a_record_is_not_gone_on_with(tmp_path):
    with pytest.raises(ConfigurationError, match=r"without run\.json"):
        hold_to(tmp_path / "run.json", RECORD, has_begun=True)
    assert not (tmp_path / "run.json").exists()


def test_the_digest_changes_with_all_that_is_learnt_from():
    def rows(text="a", role="user", label=1.0, source="d"):
        return LabelledTexts([text, "b"], [role, "user"], np.array([[label], [np.nan]], np.float32), np.array([source, "d"]))

    said = np.array([[0.5], [np.nan]])
    assert rows_digest(rows(), said) == rows_digest(rows(), said + 1e-7), "a word's last bits are the machine's"
    others = [rows("c"), rows(role="assistant"), rows(label=0.0), rows(source="e"), rows().take(np.array([1, 0]))]
    digests = [rows_digest(rows()), *map(rows_digest, others), rows_digest(rows(), said), rows_digest(rows(), said[::-1])]
    assert len(set(digests)) == len(digests)
