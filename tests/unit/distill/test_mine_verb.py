"""``python -m distill mine`` through its command line, and the file that the other verbs read."""

import json
import stat
from collections import Counter

import numpy as np
import pandas as pd
import pytest

from distill.cli import main
from distill.data import LabelledTexts, load_split
from distill.extra import load_extra
from distill.mining.mined_file import read_answers
from distill.mining.stress import failures
from distill.teacher.saved import signal_store
from server.core.feedback import write_line
from server.core.policy import load_policies
from server.core.taxonomy import CATEGORIES, CATEGORY_INDEX
from tests.unit.distill.mining_world import answered, correction, values, verdict

WORDS = ["amber", "basket", "copper", "dagger", "engine", "forest", "garden", "hammer", "island", "jacket", "kettle", "ladder"]


def sentence(number: int) -> str:
    return " ".join(np.random.default_rng(number).choice(WORDS, 9))


@pytest.fixture
def base(tmp_path):
    """Base data whose test split holds one text that was also served."""
    frame = pd.DataFrame({"text": [sentence(0), sentence(900)], "split": ["test", "train"]})
    frame.to_parquet(tmp_path / "base.parquet")
    return tmp_path / "base.parquet"


@pytest.fixture
def log(tmp_path):
    """40 false blocks that were overturned, 10 answers of the teacher, a repeat, and a text that nobody judged."""
    lines = []
    for number in range(40):
        lines += [verdict(sentence(number), id=str(number)), correction("allow", id=str(number))]
    allowed = {"verdict": "allow", "categories": (), "student_scores": dict.fromkeys(CATEGORIES, 0.01)}
    lines += [
        verdict(sentence(100 + n), id=f"t{n}", reasons=("escalated",), teacher=answered(toxicity=0.25), **allowed)
        for n in range(10)
    ]
    lines += [verdict(sentence(1) + ".", id="again"), verdict(sentence(500), id="unjudged")]
    folder = tmp_path / "log"
    folder.mkdir()
    (folder / "feedback-1.jsonl").write_bytes(b"".join(write_line(line) for line in lines) + b'{"schema": 1, "ki')
    return folder


def mine(capsys, *argv):
    status = main(["mine", *(str(a) for a in argv)])
    out = capsys.readouterr()
    return status, out


def test_from_log_to_training_set(base, log, tmp_path, capsys):
    out = tmp_path / "new" / "mined.parquet"
    status, said = mine(capsys, "--log", log, "--data", base, "--out", out, "--test-share", 0.5)
    assert status == 0, said.err
    report = json.loads(said.out.splitlines()[-1])
    assert report["rows"] == 49
    assert report["sources"] == {"moderator": 39, "stress": 0, "teacher": 10, "nobody": 0}
    assert report["reasons"]["overturned"] == 39
    assert report["reasons"]["escalated"] == 10
    assert report["categories"]["toxicity"] == {"violated": 0, "harmless": 49}
    assert report["categories"]["hate"] == {"violated": 0, "harmless": 39}
    assert report["left_out"] == {"held_out": 1, "line_torn": 1, "no_label": 2}
    assert "overturned" in said.out
    assert sentence(1) not in said.out + said.err, "texts are in the file and nowhere else"

    assert stat.S_IMODE(out.stat().st_mode) == 0o600
    assert [path.name for path in out.parent.iterdir()] == ["mined.parquet"]
    train, test = load_split(out, "train"), load_split(out, "test")
    assert {"train": len(train), "test": len(test)} == report["splits"]
    assert 8 <= len(test) <= 32, "a fair lot"
    assert sentence(0) not in train.texts + test.texts, "a near duplicate of the base's test split"
    assert (test.labels == 0).all()
    answers = read_answers(out, "train")
    asked = ~np.isnan(answers[:, CATEGORY_INDEX["toxicity"]])
    assert asked.sum() == 10, "only people's labels are for measuring"
    np.testing.assert_allclose(answers[asked, CATEGORY_INDEX["toxicity"]], np.log(1 / 3), rtol=1e-6)
    assert np.isnan(train.labels[asked]).all()


def test_what_is_held_out_is_in_training_under_no_role_and_with_no_change(base, tmp_path, capsys):
    lines = []
    for number in range(40):
        lines += [verdict(sentence(number), id=str(number)), correction("allow", id=str(number))]
        teacher = {"reasons": ("disagreeing",), "teacher": answered(toxicity=0.95)}
        lines.append(verdict(sentence(number), id=f"r{number}", role="assistant", **teacher))
        lines.append(verdict(sentence(number) + ".", id=f"n{number}", **teacher))
    (tmp_path / "feedback-1.jsonl").write_bytes(b"".join(write_line(line) for line in lines))
    out = tmp_path / "m.parquet"
    mine(capsys, "--log", tmp_path, "--data", base, "--out", out)
    mined = pd.read_parquet(out)
    stems = mined["text"].str.rstrip(".")
    assert len(mined) == 3 * 39
    assert set(mined["split"]) == {"train", "test"}
    assert (mined.groupby(stems)["split"].nunique() == 1).all()


def test_unjudged_texts_are_kept_on_request_and_folded(base, log, tmp_path, capsys):
    out = tmp_path / "mined.parquet"
    _, said = mine(capsys, "--log", log, "--data", base, "--out", out, "--keep-unjudged")
    report = json.loads(said.out.splitlines()[-1])
    assert report["sources"]["nobody"] == 1
    assert report["left_out"]["near_duplicate"] == 1
    assert report["copies"] == report["rows"] + 1
    assert pd.read_parquet(out).loc[lambda frame: frame["source"] == "nobody", "text"].tolist() == [sentence(500)]


def test_the_teacher_can_be_asked_about_what_nobody_judged(base, log, tiny_gemma, tmp_path, capsys):
    out, signals = tmp_path / "mined.parquet", tmp_path / "signals"
    (log / "feedback-1.jsonl").write_bytes(b"".join(write_line(verdict(sentence(n), id=str(n))) for n in range(1, 4)))
    mine(capsys, "--log", log, "--data", base, "--out", out, "--keep-unjudged")
    assert len(load_extra([out], None, repeats=1)) == 0
    assert main(["label", "--data", str(out), "--all", "--teacher", str(tiny_gemma), "--signals", str(signals)]) == 0
    store = signal_store(signals, str(tiny_gemma), load_policies()["default"])
    assert sorted(load_extra([out], store, repeats=1).rows.texts) == sorted(sentence(n) for n in range(1, 4))


def test_rows_bound_what_is_taken(base, log, tmp_path, capsys):
    _, said = mine(capsys, "--log", log, "--data", base, "--out", tmp_path / "m.parquet", "--rows", 5)
    report = json.loads(said.out.splitlines()[-1])
    assert (report["rows"], report["reasons"]["overturned"], report["left_out"]["over_rows"]) == (5, 5, 44)


def test_other_sets_to_measure_on_stay_out(base, log, tmp_path, capsys):
    pd.DataFrame({"text": [sentence(n) for n in range(20)]}).to_parquet(tmp_path / "probe.parquet")
    _, said = mine(
        capsys, "--log", log, "--data", base, "--held-out", tmp_path / "probe.parquet", "--out", tmp_path / "m.parquet"
    )
    assert json.loads(said.out.splitlines()[-1])["left_out"]["held_out"] == 20


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        ((), "give --log, --stress or both"),
        (("--log", "nowhere"), "no feedback log"),
        (("--stress", "set.parquet"), "--checkpoint"),
    ],
)
def test_what_a_user_can_mend_is_one_line(argv, message, base, tmp_path, capsys):
    status, said = mine(capsys, *argv, "--data", base, "--out", tmp_path / "m.parquet")
    assert status == 2
    assert message in said.err
    assert not (tmp_path / "m.parquet").exists()


def test_a_stress_set_of_softened_labels_is_refused(base, tmp_path, capsys):
    soft = pd.DataFrame({"text": ["a"], "dataset": "d", "split": "train"} | dict.fromkeys(CATEGORIES, 0.7))
    soft.to_parquet(tmp_path / "soft.parquet")
    status, said = mine(
        capsys, "--stress", tmp_path / "soft.parquet", "--checkpoint", tmp_path, "--data", base, "--out", tmp_path / "m.parquet"
    )
    assert status == 2
    assert "soft.parquet: by softened labels nothing is a failure" in said.err


def test_nothing_found_writes_nothing(base, tmp_path, capsys):
    (tmp_path / "feedback-1.jsonl").write_bytes(write_line(verdict()))
    status, said = mine(capsys, "--log", tmp_path, "--data", base, "--out", tmp_path / "m.parquet")
    assert status == 2
    assert "no_label" in said.err
    assert not (tmp_path / "m.parquet").exists()


def test_a_stress_set_gives_what_the_student_gets_wrong():
    labels = np.stack([values(hate=1), values(hate=0), values(hate=1), values(), values(hate=0, toxicity=1)])
    scores = np.zeros((5, len(CATEGORIES)))
    scores[[0, 1], CATEGORY_INDEX["hate"]] = 0.999
    scores[4, CATEGORY_INDEX["toxicity"]] = 0.999
    rows = LabelledTexts([f"t{i}" for i in range(5)], ["user"] * 5, labels, np.array(["probe"] * 5, dtype=object))
    left_out = Counter()
    found = failures(rows, scores, load_policies()["default"], left_out)
    assert [(c.text, c.dataset, c.source, c.reason) for c in found] == [
        ("t1", "probe", "stress", "failed"),
        ("t2", "probe", "stress", "failed"),
    ]
    assert left_out == {"stress_without_label": 1, "stress_passed": 2}
