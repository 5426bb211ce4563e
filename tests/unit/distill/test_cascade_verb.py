"""``python -m distill cascade`` from score files and a signal store to a report and a policy file."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest

from distill.cascade.opinions import join
from distill.cascade.score_file import ScoredTexts, load_scores, save_scores
from distill.cli import main
from distill.signals import SignalStore
from distill.teacher.saved import calibration_path, teacher_form
from server.core.calibration import IDENTITY, calibration_to_json
from server.core.errors import ConfigurationError
from server.core.policy import DEFAULT_POLICY_FILE, load_policies
from server.core.taxonomy import CATEGORIES
from tests.unit.distill.cascade_world import world

TEACHER = "nobody/judge"


def log_odds(scores):
    return np.log(scores) - np.log1p(-scores)


def scored(opinions, split, **changes) -> ScoredTexts:
    n = len(opinions)
    made = ScoredTexts(
        logits=log_odds(opinions.student).astype(np.float32),
        labels=opinions.labels.astype(np.float32),
        fit_labels=opinions.fit_labels.astype(np.float32),
        digests=opinions.digests,
        rows=np.arange(n),
        tokens=opinions.tokens,
        is_disguised=opinions.keeps_block,
        calibration=IDENTITY,
        artifact_hash="abc",
        split=split,
    )
    return replace(made, **changes)


@pytest.fixture
def workshop(tmp_path, monkeypatch):
    """A folder to run the verb in: score files of both splits, and signals for all but ten texts of each."""
    monkeypatch.chdir(tmp_path)
    prompt_hash = teacher_form(TEACHER).hash(load_policies()["default"])
    store = SignalStore(tmp_path / "runs" / "signals", teacher=TEACHER, prompt_hash=prompt_hash, hidden_size=1)
    for split, seed in (("dev", 1), ("test", 2)):
        opinions = world(600, seed=seed, unknown=0.2)
        save_scores(tmp_path / f"{split}.npz", scored(opinions, split))
        rows = slice(10, None)
        hidden = np.zeros((590, len(CATEGORIES), 1), np.float16)
        store.append([bytes(d) for d in opinions.digests[rows]], log_odds(opinions.teacher[rows]).astype(np.float32), hidden)
    path = calibration_path(TEACHER)
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps(calibration_to_json(IDENTITY)))
    shutil.copy(DEFAULT_POLICY_FILE, tmp_path / "policies.toml")
    return tmp_path


def run(*extra):
    files = ("--scores-dev", "dev.npz", "--scores-test", "test.npz", "--policies", "policies.toml", "--out", "out")
    return main(["cascade", *files, "--teacher", TEACHER, *extra])


def test_a_cascade_is_chosen_measured_and_put_into_the_policy(workshop, capsys):
    assert run("--budget", "0.1", "--write-policy") == 0
    out = capsys.readouterr().out.splitlines()
    summary = json.loads(out[-1])
    assert out[0].startswith("|  | escalated | AU-PRC |")
    record = json.loads((workshop / "out" / "cascade.json").read_text())
    assert record["without_signals"] == {"dev": 10, "test": 10}
    assert (record["dev"]["texts"], record["artifact_hash"], record["teacher"]) == (590, "abc", TEACHER)
    assert record["router"] is None
    assert 0.05 < summary["escalated"]["dev"] <= 0.1
    assert summary["gap_target"]["pooled"]["closed_gap"] > 0
    rules = load_policies(workshop / "policies.toml")["default"].rules
    assert {n: r.block_at for n, r in zip(CATEGORIES, rules, strict=True)} == summary["block_at"]
    assert {n: list(r.unsure) for n, r in zip(CATEGORIES, rules, strict=True)} == summary["unsure"]
    assert sorted(path.name for path in (workshop / "out").iterdir()) == [
        "cascade.json", "quality.png", "reliability.png", "risk_coverage.png"
    ]  # fmt: skip


def test_a_ranking_is_served_by_other_bands_than_verdicts(workshop):
    # A copy in which blocks may be lifted: where they may not, the upper ends make no difference.
    policies = workshop / "policies.toml"
    policies.write_text(policies.read_text().replace("teacher_may_clear = false", "teacher_may_clear = true"))
    quality, bands = {}, {}
    for objective in ("verdicts", "ranking"):
        assert run("--budget", "0.1", "--objective", objective) == 0
        record = json.loads((workshop / "out" / "cascade.json").read_text())
        assert record["target"]["objective"] == objective
        quality[objective], bands[objective] = record["gap_target"]["pooled"]["cascade"], record["unsure"]
    assert bands["ranking"] != bands["verdicts"]
    assert quality["ranking"] > quality["verdicts"]


def test_without_being_told_the_policy_file_is_left_alone(workshop):
    before = (workshop / "policies.toml").read_text()
    assert run("--joint-risk", "0.2", "--aim", "max-fpr=0.1") == 0
    assert (workshop / "policies.toml").read_text() == before
    record = json.loads((workshop / "out" / "cascade.json").read_text())
    assert record["target"] == {"kind": "joint-risk", "value": 0.2, "delta": 0.1, "objective": "verdicts"}
    assert record["aim"] == "max-fpr=0.1"


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--aim", "best"), "the aim 'best' is not best-f1"),
        (("--joint-risk", "0.0001"), "can't promise a joint-risk"),
        (("--budget", "2"), "between 0 and 1"),
        (("--student-core-s", "0.001"), "a cost needs all of"),
        (("--teacher", "somebody/else"), "not calibrated yet"),
        (("--scores-test", "other.npz"), "different artefacts"),
        (("--scores-test", "none.npz"), "none.npz"),
        (("--scores-test", "policies.toml"), "no score file"),
    ],
)
def test_what_a_user_can_mend_is_one_line(workshop, capsys, flags, message):
    save_scores(workshop / "other.npz", scored(world(50), "test", artifact_hash="def"))
    assert run(*flags) == 2
    stdout, stderr = capsys.readouterr()
    assert stdout == ""
    assert message in stderr
    assert len(stderr.strip().splitlines()) == 1
    assert not (workshop / "out").exists()


def test_a_teacher_that_was_asked_about_none_of_the_texts(workshop):
    store = SignalStore(workshop / "elsewhere", teacher=TEACHER, prompt_hash="p", hidden_size=1)
    with pytest.raises(ConfigurationError, match="run label on them first"):
        join(load_scores(workshop / "dev.npz"), store, IDENTITY, teacher_may_clear=True)


def test_a_policy_that_lets_the_teacher_lift_no_block_is_measured_so(workshop):
    dev = load_scores(workshop / "dev.npz")
    prompt_hash = teacher_form(TEACHER).hash(load_policies()["default"])
    store = SignalStore(workshop / "runs" / "signals", teacher=TEACHER, prompt_hash=prompt_hash)
    assert not join(dev, store, IDENTITY, teacher_may_clear=True).keeps_block.any()
    assert join(dev, store, IDENTITY, teacher_may_clear=False).keeps_block.all()


def test_a_score_file_is_read_as_it_was_written(tmp_path):
    made = scored(world(20, disguised=0.5), "dev")
    save_scores(tmp_path / "deep" / "scores.npz", made)
    read = load_scores(tmp_path / "deep" / "scores.npz")
    for name in ScoredTexts.__slots__:
        assert np.array_equal(getattr(made, name), getattr(read, name)), name


def test_a_score_file_of_other_categories_is_refused(tmp_path):
    path = tmp_path / "scores.npz"
    save_scores(path, scored(world(20), "dev"))
    with np.load(path) as found:
        arrays = dict(found)
    meta = json.loads(str(arrays["meta"])) | {"categories": ["hate"]}
    np.savez(path, **arrays | {"meta": np.array(json.dumps(meta))})
    with pytest.raises(ConfigurationError, match="made for the categories"):
        load_scores(path)
