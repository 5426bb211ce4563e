"""Training: the loss that the student gets, what its head reads, which checkpoint it goes on from, and what it refuses."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from transformers import BertConfig, BertModel, BertTokenizerFast, TrainingArguments

from distill.data import LabelledTexts
from distill.losses import LossWeights, feature_loss, label_loss, soft_label_loss
from distill.student import new_student
from distill.train import DistillationTrainer, train_student
from distill.train_data import LengthOrder, TeacherSignals, collate
from distill.train_settings import TrainSettings
from server.core.errors import ConfigurationError
from server.core.taxonomy import CATEGORIES
from tests.torch_threads import one_torch_thread

WORDS = ["calm", "rude", "one", "two", "three", "four", "five", "six"]
FEATURES = 5
NAN = float("nan")


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    with one_torch_thread():
        yield


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """A random one-layer BERT that knows a few words."""
    folder = tmp_path_factory.mktemp("tiny-bert")
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS]
    (folder / "vocab.txt").write_text("\n".join(vocabulary))
    BertTokenizerFast(vocab_file=str(folder / "vocab.txt")).save_pretrained(folder)
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(vocabulary), hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32,
        max_position_embeddings=64, initializer_range=0.3,
    )  # fmt: skip
    BertModel(config, add_pooling_layer=False).save_pretrained(folder)
    return folder


def trainer(base, tmp_path, weights):
    torch.manual_seed(1)
    model, _ = new_student(str(base), attention="eager")
    arguments = TrainingArguments(output_dir=str(tmp_path), use_cpu=True, report_to=[])
    return DistillationTrainer(model=model.eval(), args=arguments, weights=weights, feature_dimensions=FEATURES)


def batch():
    """Three texts, each of a word of its own, of unlike lengths; the first judged and labelled, and each of the others half."""
    torch.manual_seed(2)
    ids = [[2, 5, 3], [2, 6, 6, 6, 3], [2, 7, 7, 3]]
    unlabelled, unjudged = np.full(len(CATEGORIES), NAN, np.float32), np.full(len(CATEGORIES), NAN, np.float32)
    labels = [np.eye(len(CATEGORIES), dtype=np.float32)[0], unlabelled, np.ones(len(CATEGORIES), np.float32)]
    soft = [np.linspace(-2, 2, len(CATEGORIES), dtype=np.float32), np.full(len(CATEGORIES), 3, np.float32), unjudged]
    features = [np.full(FEATURES, value, np.float32) for value in (1.0, -2.0, 0.5)]
    return collate(
        [
            {"input_ids": i, "labels": y, "teacher_logits": s, "teacher_features": f}
            for i, y, s, f in zip(ids, labels, soft, features, strict=True)
        ]
    )


def test_the_loss_is_the_weighted_sum_of_the_three(base, tmp_path):
    inputs, made = batch(), trainer(base, tmp_path, LossWeights(label=0.7, soft=0.4, feature=3.0, temperature=1.5))
    output = made.model(inputs["input_ids"], inputs["attention_mask"], output_hidden_states=True)
    parts = {
        "label": label_loss(output.logits, inputs["labels"]),
        "soft": soft_label_loss(output.logits, inputs["teacher_logits"], 1.5),
        "feature": feature_loss(made.model.projector(output.hidden_states[0]), inputs["teacher_features"]),
    }
    assert min(part.item() for part in parts.values()) > 0.01, "a part of nothing would not be missed"
    loss, figures = made.compute_loss(made.model, inputs, return_outputs=True)
    assert loss.item() == pytest.approx(0.7 * parts["label"].item() + 0.4 * parts["soft"].item() + 3 * parts["feature"].item())
    torch.testing.assert_close(figures["logits"], output.logits)


@pytest.mark.parametrize(
    ("weights", "reached"),
    [
        (LossWeights(label=1, soft=0, feature=0), [True, False, True]),
        (LossWeights(label=0, soft=1, feature=0), [True, True, False]),
        (LossWeights(label=0, soft=0, feature=1), [True, True, True]),
    ],
)
def test_each_loss_reaches_every_text_of_which_something_is_known(base, tmp_path, weights, reached):
    made = trainer(base, tmp_path, weights)
    made.compute_loss(made.model, batch()).backward()
    of_word = made.model.bert.embeddings.word_embeddings.weight.grad[[5, 6, 7]].abs().sum(1)
    assert (of_word > 0).tolist() == reached


def test_a_heavy_feature_loss_leaves_the_label_loss_the_right_way_up(base, tmp_path):
    made = trainer(base, tmp_path, LossWeights(feature=8.0))
    made.compute_loss(made.model, batch() | {"labels": torch.ones(3, len(CATEGORIES))}).backward()
    own = trainer(base, tmp_path, LossWeights(label=0.0, feature=8.0))
    own.compute_loss(own.model, batch()).backward()
    of_labels = made.model.classifier.bias.grad - own.model.classifier.bias.grad
    assert (of_labels < 0).all(), "raising the logit of a positive must lower the loss"


def test_the_head_reads_the_mean_over_real_tokens_whatever_the_padding(base):
    model = new_student(str(base), attention="eager")[0].eval()
    ids, mask = batch()["input_ids"][:1], batch()["attention_mask"][:1]
    with torch.inference_mode():
        padded, alone = model.pool(ids, mask), model.pool(ids[:, :3], mask[:, :3])
        states = model.bert(input_ids=ids[:, :3], attention_mask=mask[:, :3]).last_hidden_state
    assert mask.sum() == 3 < ids.shape[1]
    torch.testing.assert_close(padded, alone)
    torch.testing.assert_close(alone, states.mean(1))


def rows(n=24):
    labels = np.zeros((n, len(CATEGORIES)), np.float32)
    labels[::2, 0] = 1
    texts = [f"{'calm' if i % 2 else 'rude'} {WORDS[2 + i % 6]} {' '.join(WORDS[2 : 2 + i % 5])}" for i in range(n)]
    return LabelledTexts(texts, ["user"] * n, labels, np.array(["d"] * n, dtype=object))


def signals(n=24):
    return TeacherSignals(np.where(rows(n).labels == 1, 2.0, -2.0).astype(np.float32), np.ones((n, FEATURES), np.float32))


def settings(base, **changes):
    values = {"epochs": 2, "batch_size": 4, "learning_rate": 5e-3, "max_tokens": 40, "eval_every_steps": 4, "seed": 3}
    return TrainSettings(base=str(base), **(values | changes))


def run(settings, out, *, weights=None, train=None, said=None, **others):
    weights, train, said = weights or LossWeights(), train or rows(), said or signals()
    return train_student(settings, weights, train=train, signals=said, dev=rows(16), out=out, **others)


def log_of(out):
    return json.loads((out / "train.json").read_text())["log"]


@pytest.fixture(scope="module")
def whole(base, tmp_path_factory):
    """A run of twelve steps; its checkpoints of steps 8 and 12 are left."""
    out = tmp_path_factory.mktemp("whole") / "run"
    figures = run(settings(base), out)
    assert figures["au_prc"] == max(entry["eval_au_prc"] for entry in log_of(out) if "eval_au_prc" in entry)
    return out


@pytest.mark.parametrize("every", [8, 400])
def test_the_last_step_is_a_candidate_wherever_it_falls(base, tmp_path, every):
    figures = run(settings(base, eval_every_steps=every), tmp_path / "run")
    state = json.loads((tmp_path / "run" / "checkpoints" / "checkpoint-12" / "trainer_state.json").read_text())
    judged = {entry["step"]: entry["eval_au_prc"] for entry in state["log_history"] if "eval_au_prc" in entry}
    assert list(judged) == ([8, 12] if every == 8 else [12])
    assert state["best_metric"] == max(judged.values()) == figures["au_prc"]


def torn_folder(checkpoint):
    for path in checkpoint.iterdir():
        path.unlink()


def torn_weights(checkpoint):
    (checkpoint / "trainer_state.json").unlink()
    weights = checkpoint / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:100])


def torn_state(checkpoint):
    state = checkpoint / "trainer_state.json"
    state.write_text(state.read_text()[:50])


@pytest.mark.parametrize("tear", [torn_folder, torn_weights, torn_state])
def test_a_run_killed_in_a_checkpoint_goes_on_from_the_one_before(base, whole, tmp_path, capsys, tear):
    out = tmp_path / "killed"
    (out / "checkpoints").mkdir(parents=True)
    shutil.copy(whole / "run.json", out)
    for name in ("checkpoint-8", "checkpoint-12"):
        shutil.copytree(whole / "checkpoints" / name, out / "checkpoints" / name)
    tear(out / "checkpoints" / "checkpoint-12")

    run(settings(base), out)
    assert f"{out}/checkpoints/checkpoint-12 was cut short" in capsys.readouterr().err
    before = [entry for entry in log_of(whole) if entry["step"] <= 8]
    assert any("eval_runtime" in entry for entry in before)
    assert log_of(out)[: len(before)] == before, "what took its time before the kill was not done anew"
    ours, theirs = load_file(out / "model.safetensors"), load_file(whole / "model.safetensors")
    assert ours.keys() == theirs.keys()
    for name in ours:
        torch.testing.assert_close(ours[name], theirs[name], atol=1e-4, rtol=0)


def test_the_order_is_the_seeds_and_the_epochs_and_of_like_lengths():
    lengths = [1 + i % 7 for i in range(700)]
    order, again, other = (LengthOrder(10, lengths=lengths, seed=seed) for seed in (0, 0, 1))
    first = list(order)
    assert sorted(first) == list(range(700))
    order.set_epoch(1)
    second = list(order)
    again.set_epoch(1)
    assert list(again) == second != first != list(other)
    spread = [np.ptp([lengths[i] for i in second[start : start + 10]]) for start in range(0, 700, 10)]
    assert np.mean(spread) < 2


def test_a_run_is_not_gone_on_with_as_another(base, whole):
    before = {path.name: path.read_bytes() for path in whole.iterdir() if path.is_file()}
    with pytest.raises(ConfigurationError, match="made with other batch_size, learning_rate, texts: use another --out"):
        run(settings(base, learning_rate=1e-2, batch_size=8), whole, train=rows(20), said=signals(20))
    with pytest.raises(ConfigurationError, match="made with other soft"):
        run(settings(base), whole, weights=LossWeights(soft=0.0))
    with pytest.raises(ConfigurationError, match="made with other texts"):
        run(settings(base), whole, said=replace(signals(), logits=np.full_like(signals().logits, NAN)))
    with pytest.raises(ConfigurationError, match="made with other teacher"):
        run(settings(base), whole, made_with={"teacher": "someone"})
    assert {path.name: path.read_bytes() for path in whole.iterdir() if path.is_file()} == before


def test_a_dev_split_that_can_rank_nothing_is_refused_before_training(base, tmp_path):
    for label in (0.0, 1.0, NAN):
        dev = replace(rows(16), labels=np.full((16, len(CATEGORIES)), label, np.float32))
        with pytest.raises(ConfigurationError, match="a label of 1 and one of 0"):
            train_student(settings(base), LossWeights(), train=rows(), signals=signals(), dev=dev, out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_window_that_can_not_be_served_is_refused(base, tmp_path):
    for tokens in (4, 34, 513):
        with pytest.raises(ConfigurationError, match=f"--max-tokens must be 35 to 512, not {tokens}"):
            settings(base, max_tokens=tokens)
    with pytest.raises(ConfigurationError, match="the base takes 64 at most"):
        run(settings(base, max_tokens=65), tmp_path / "out")
    assert not (tmp_path / "out").exists()
