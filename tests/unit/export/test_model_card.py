"""What the card tells of a student's trainings."""

from export.model_card import model_card
from server.core.policy import load_policies

FIRST = {
    "base": "tiny",
    "teacher": "nobody",
    "data": {"base_set": 160},
    "licences": {"base_set": "MIT"},
    "settings": {"seed": 0},
}
TURN = {
    "base": "tiny",
    "teacher": None,
    "data": {"base_set": 80, "feedback_log": 20},
    "extra": {"files": ["mined.parquet"], "rows": 20},
    "pool_with": "runs/student",
    "earlier": [FIRST],
    "settings": {"seed": 7},
}


def card(provenance) -> str:
    policy = load_policies()["default"]
    return model_card(
        version="1", precision="fp32", size_bytes=1, max_tokens=8, policy=policy, proof={}, report=None, split="dev",
        provenance=provenance,
    )  # fmt: skip


def test_a_student_that_went_on_from_another_shows_what_both_learnt():
    written = card(TURN)
    assert "Base: tiny. Teacher: nobody." in written, "the first training had one"
    first, _, turn = written.partition("### Run 1")[2].partition("### Run 2")
    assert "| base_set | 160 | MIT |" in first
    assert "| seed | 0 |" in first
    assert "mined" not in first
    assert "pooled opinion" not in first
    assert "| feedback_log | 20 | see source |" in turn
    assert "20 of the rows were given beside them: mined.parquet." in turn
    assert "pooled opinion of its teacher and of an earlier student, `runs/student`." in turn
    assert "| seed | 7 |" in turn


def test_a_student_of_one_training_has_no_runs():
    written = card(FIRST | {"extra": {"files": [], "rows": 0}})
    assert "### Run" not in written
    assert "mined" not in written
