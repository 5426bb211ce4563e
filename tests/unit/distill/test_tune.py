"""Tuning: it learns, it resumes exactly, it asks only what is known."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from distill.data import LabelledTexts
from distill.teacher.card import teacher_card
from distill.teacher.label import judge_known
from distill.teacher.model import Judge, TreeEncoder, load_base, token_budget_batches
from distill.teacher.saved import load_judge
from distill.teacher.tune import MasterAdamW, TuneSettings, tune_teacher
from server.core.errors import ConfigurationError
from server.core.policy import load_policies
from server.core.prompt import TITLE
from server.core.taxonomy import CATEGORIES

HATE = CATEGORIES.index("hate")


def rows(n=64):
    labels = np.full((n, 8), np.nan, dtype=np.float32)
    labels[:, HATE] = np.arange(n) % 2
    texts = [f"{'awful' if i % 2 else 'lovely'} thing number {i}" for i in range(n)]
    return LabelledTexts(texts, ["user"] * n, labels, np.array(["d"] * n, dtype=object))


def settings(base, **changes):
    values = {"rank": 4, "learning_rate": 2e-2, "epochs": 2, "max_batch_tokens": 4096}
    return TuneSettings(base=str(base), **(values | changes))


def hate_margins(judge):
    encoder = TreeEncoder(judge.tokenizer, load_policies()["default"], TITLE, max_text_tokens=96)
    return judge_known(judge, encoder, rows())[:, HATE]


def test_it_learns_to_tell_and_the_saved_adapter_judges(tiny_gemma, tmp_path):
    before = hate_margins(Judge(*load_base(str(tiny_gemma), dtype=torch.bfloat16)))
    tune_teacher(settings(tiny_gemma), rows(), load_policies()["default"], tmp_path)
    after = hate_margins(load_judge(str(tmp_path)))

    def gap(margins):
        return margins[1::2].mean() - margins[0::2].mean()

    assert gap(after) > gap(before) + 1.0
    assert json.loads((tmp_path / "tune.json").read_text())["rank"] == 4


def test_a_killed_run_resumes_to_the_same_adapter(tiny_gemma, tmp_path, monkeypatch):
    from safetensors.torch import load_file

    from distill.teacher import tune

    policy = load_policies()["default"]
    tune_teacher(settings(tiny_gemma, checkpoint_every_s=0.0), rows(), policy, tmp_path / "whole")

    # A kill in the middle: the fourth step raises what SIGKILL would leave behind, a checkpoint of three steps.
    steps = iter(range(100))
    step = MasterAdamW.step

    def dies(self, rate, **kwargs):
        if next(steps) == 3:
            raise KeyboardInterrupt
        step(self, rate, **kwargs)

    monkeypatch.setattr(tune.MasterAdamW, "step", dies)
    with pytest.raises(KeyboardInterrupt):
        tune_teacher(settings(tiny_gemma, checkpoint_every_s=0.0), rows(), policy, tmp_path / "killed")
    monkeypatch.undo()
    tune_teacher(settings(tiny_gemma, checkpoint_every_s=0.0), rows(), policy, tmp_path / "killed")

    name = "adapter/adapter_model.safetensors"
    whole, resumed = load_file(tmp_path / "whole" / name), load_file(tmp_path / "killed" / name)
    assert whole.keys() == resumed.keys()
    for key in whole:
        torch.testing.assert_close(whole[key], resumed[key], atol=0, rtol=0)


def test_other_settings_do_not_continue_a_run(tiny_gemma, tmp_path):
    policy = load_policies()["default"]
    tune_teacher(settings(tiny_gemma), rows(), policy, tmp_path)
    with pytest.raises(ConfigurationError, match="rank"):
        tune_teacher(settings(tiny_gemma, rank=8), rows(), policy, tmp_path)


def test_other_texts_labels_or_wordings_do_not_continue_a_run_nor_overwrite_a_finished_one(tiny_gemma, tmp_path):
    policy = load_policies()["default"]
    tune_teacher(settings(tiny_gemma, epochs=1), rows(), policy, tmp_path)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    flipped, said = replace(rows(), labels=1 - rows().labels), np.where(np.isnan(rows().labels), np.nan, 1.0)
    reworded = replace(policy, rules=(replace(policy.rules[0], title="Something else"), *policy.rules[1:]))
    for other, asked, soft, name in (
        (rows(60), policy, None, "texts"),
        (flipped, policy, None, "texts"),
        (rows(), policy, said, "texts"),
        (rows(), reworded, None, "wordings"),
    ):
        with pytest.raises(ConfigurationError, match=f"made with other {name}: use another --out"):
            tune_teacher(settings(tiny_gemma, epochs=1), other, asked, tmp_path, soft)
    (tmp_path / "checkpoint.pt").unlink()  # as who wants its space back does
    with pytest.raises(ConfigurationError, match="made with other rank"):
        tune_teacher(settings(tiny_gemma, epochs=1, rank=8), rows(), policy, tmp_path)
    assert {path: path.read_bytes() for path in before if path.exists()} == {
        path: value for path, value in before.items() if path.name != "checkpoint.pt"
    }


def test_unknown_labels_are_never_asked(tiny_gemma, tmp_path):
    """Rows with no known label are left out, and of the others only the known categories are asked."""
    known = rows(8)
    unlabelled = LabelledTexts(["who knows"] * 8, ["user"] * 8, np.full((8, 8), np.nan, np.float32), known.datasets)
    tune_teacher(settings(tiny_gemma, epochs=1, batch_rows=4), known + unlabelled, load_policies()["default"], tmp_path)
    assert len((tmp_path / "tune.jsonl").read_text().splitlines()) == 2


def test_the_answers_become_likely(tiny_gemma, tmp_path):
    """A server that lists only the likeliest tokens must list Yes and No."""
    policy = load_policies()["default"]

    def answer_mass(judge):
        encoder = TreeEncoder(judge.tokenizer, policy, TITLE, max_text_tokens=96)
        batch = encoder.batch([encoder.prefix("a lovely thing", "user")], ["user"], [(HATE,)])
        with torch.inference_mode():
            chances = judge.logits(judge.leaf_states(batch)).softmax(-1)[0]
        return (chances[judge.yes_id] + chances[judge.no_id]).item()

    before = answer_mass(Judge(*load_base(str(tiny_gemma), dtype=torch.bfloat16)))
    tune_teacher(settings(tiny_gemma, answer_weight=1.0, epochs=8), rows(), policy, tmp_path)
    assert answer_mass(load_judge(str(tmp_path))) > 5 * before


def test_a_second_run_goes_on_from_the_first_and_says_so(tiny_gemma, tmp_path):
    policy = load_policies()["default"]
    tune_teacher(settings(tiny_gemma), rows(), policy, tmp_path / "first")
    first = hate_margins(load_judge(str(tmp_path / "first")))
    # So small a rate that what the second run ends with is what it began with.
    again = settings(tiny_gemma, start_from=str(tmp_path / "first"), learning_rate=1e-12, epochs=1)
    tune_teacher(again, rows(), policy, tmp_path / "second")
    np.testing.assert_allclose(hate_margins(load_judge(str(tmp_path / "second"))), first, atol=0.02)
    assert first.std() > 0.2, "margins that all agree would hide a fresh start"
    record = json.loads((tmp_path / "second" / "tune.json").read_text())
    assert [run["learning_rate"] for run in record["earlier"]] == [2e-2]
    assert "Tuned on 192 texts" in teacher_card(record, {})


def test_a_run_can_end_with_the_mean_of_its_adapter_and_the_one_it_started_from(tiny_gemma, tmp_path):
    policy, first, second = load_policies()["default"], tmp_path / "first", tmp_path / "second"
    with pytest.raises(ConfigurationError, match="needs --start-from"):
        tune_teacher(settings(tiny_gemma, average=True), rows(), policy, first)
    tune_teacher(settings(tiny_gemma, epochs=1), rows(), policy, first)
    on = settings(tiny_gemma, start_from=str(first), epochs=1)
    tune_teacher(on, rows(), policy, second)
    before, after = adapter(first), adapter(second)
    tune_teacher(replace(on, average=True), rows(), policy, second)  # the run is done: only its end is made anew
    mean = adapter(second)
    assert any((before[name] != after[name]).any() for name in before)
    for name, tensor in mean.items():
        torch.testing.assert_close(tensor.float(), (before[name].float() + after[name].float()) / 2, atol=1e-3, rtol=0.01)
    assert json.loads((second / "tune.json").read_text())["average"] is True


def test_it_learns_the_pools_word_as_far_as_it_is_given_one(tiny_gemma, tmp_path):
    """The pool contradicts every label; whoever has the greater weight is believed."""
    contradiction = np.where(rows().labels == 1, -6.0, 6.0)
    contradiction[np.isnan(rows().labels)] = np.nan
    policy = load_policies()["default"]
    for weight, sign in ((0.9, -1), (0.1, 1)):
        out = tmp_path / str(weight)
        tune_teacher(settings(tiny_gemma, soft=weight), rows(), policy, out, contradiction)
        margins = hate_margins(load_judge(str(out)))
        assert sign * (margins[1::2].mean() - margins[0::2].mean()) > 0.5
    tune_teacher(settings(tiny_gemma), rows(), policy, tmp_path / "silent", np.full_like(contradiction, np.nan))
    tune_teacher(settings(tiny_gemma), rows(), policy, tmp_path / "alone")
    silent, alone = adapter(tmp_path / "silent"), adapter(tmp_path / "alone")
    assert all((silent[name] == alone[name]).all() for name in alone)


def adapter(run):
    return load_file(run / "adapter" / "adapter_model.safetensors")


def test_it_goes_on_only_from_a_run_that_fits(tiny_gemma, tmp_path):
    policy = load_policies()["default"]
    with pytest.raises(ConfigurationError, match="no finished run"):
        tune_teacher(settings(tiny_gemma, start_from=str(tmp_path / "none")), rows(), policy, tmp_path / "out")
    tune_teacher(settings(tiny_gemma, epochs=1), rows(), policy, tmp_path / "first")
    other = settings(tiny_gemma, start_from=str(tmp_path / "first"), rank=8)
    with pytest.raises(ConfigurationError, match="another rank"):
        tune_teacher(other, rows(), policy, tmp_path / "out")


def test_small_updates_survive_bfloat16():
    parameter = torch.nn.Parameter(torch.ones(1, dtype=torch.bfloat16))
    optimiser = MasterAdamW([parameter], 1e-4)
    for _ in range(100):
        parameter.grad = torch.ones_like(parameter)
        optimiser.step(1e-4)
    assert parameter.item() == pytest.approx(0.99, abs=0.004), "each step of 1e-4 is below bfloat16's resolution at 1"


def test_batches_respect_the_budget_and_lose_nothing():
    sizes = [5, 100, 7, 30, 30, 2000]
    batches = token_budget_batches(sizes, 100)
    assert sorted(i for batch in batches for i in batch) == list(range(6))
    for batch in batches:
        assert len(batch) == 1 or max(sizes[i] for i in batch) * len(batch) <= 100
