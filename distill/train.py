"""Train the student: a subclass of transformers' Trainer with the dual loss.

AdamW with no decay on biases and LayerNorms, linear warm-up and decay, gradient clipping, the checkpoint with the best
AU-PRC on dev, and resuming are the Trainer's own. Lengths are grouped so that little is padding.
"""

import json
import shutil
import sys
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from tqdm import tqdm
from transformers import Trainer, TrainerCallback, TrainingArguments

from distill.data import LabelledTexts
from distill.losses import LossWeights, feature_loss, label_loss, soft_label_loss
from distill.metrics import average_precision, average_precision_per_category
from distill.run_record import hold_to, rows_digest
from distill.student import load_student, new_student
from distill.train_data import DistillationData, LengthOrder, TeacherSignals, collate
from distill.train_settings import TrainSettings
from server.core.errors import ConfigurationError

_MAY_CHANGE = {"average"}
"""Settings that a run which goes on, or whose end is made anew, may have otherwise than as it was begun."""


class DistillationTrainer(Trainer):
    """Trainer whose loss is label + soft-label + feature. The projector trains with the student and stays out of it."""

    def __init__(self, *args, weights: LossWeights, feature_dimensions: int, **kwargs) -> None:
        super().__init__(*args, **kwargs)
        self.weights = weights
        # On the student's side, upwards: the teacher's target is fixed, so the loss can't be won by collapsing it.
        self.model.projector = nn.Linear(self.model.config.hidden_size, feature_dimensions)

    def _get_train_sampler(self, train_dataset=None) -> LengthOrder:
        return LengthOrder(self.args.train_batch_size, lengths=self.train_dataset.lengths, seed=self.args.seed)

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        output = model(input_ids=inputs["input_ids"], attention_mask=inputs["attention_mask"], output_hidden_states=True)
        logits, pooled = output.logits.float(), output.hidden_states[0].float()
        weights = self.weights
        loss = weights.label * label_loss(logits, inputs["labels"])
        if weights.soft:
            loss = loss + weights.soft * soft_label_loss(logits, inputs["teacher_logits"], weights.temperature)
        if weights.feature:
            loss = loss + weights.feature * feature_loss(self.model.projector(pooled), inputs["teacher_features"])
        return (loss, {"logits": logits}) if return_outputs else loss


class JudgeTheEnd(TrainerCallback):
    """The last step is a candidate for the best checkpoint too, though it be no multiple of ``eval_steps``: the Trainer saves
    it, and wouldn't evaluate it."""

    def on_step_end(self, args, state, control, **kwargs) -> None:
        control.should_evaluate |= state.global_step >= state.max_steps


def train_student(
    settings: TrainSettings,
    weights: LossWeights,
    *,
    train: LabelledTexts,
    signals: TeacherSignals,
    dev: LabelledTexts,
    out: Path,
    made_with: Mapping[str, Any] | None = None,
) -> dict:
    """Train, keep the best checkpoint by pooled dev AU-PRC, and write ``out`` as a student folder.

    Resumes from the newest whole checkpoint under ``out/checkpoints``. Returns the dev figures of the best one.

    Args:
        made_with: what else the run is made with, such as the teacher: JSON values by name. ``out/run.json`` keeps them with
            the settings and the texts.

    Raises:
        ConfigurationError: ``dev`` can't rank checkpoints, the base is too small for the window, what to start from isn't
            there, or ``out`` holds a run that was made with something else.
    """
    if not ((dev.labels == 1).any() and (dev.labels == 0).any()):
        raise ConfigurationError("the dev texts need a label of 1 and one of 0: the best checkpoint is chosen on them")
    torch.manual_seed(settings.seed)
    use_cuda = torch.cuda.is_available()
    model, tokenizer = _start(settings, attention="sdpa" if use_cuda else "eager")
    if (positions := model.config.max_position_embeddings) < settings.max_tokens:
        raise ConfigurationError(f"--max-tokens {settings.max_tokens}: the base takes {positions} at most")
    record = {name: value for name, value in asdict(settings).items() if name not in _MAY_CHANGE} | asdict(weights)
    record |= {"texts": rows_digest(train, signals.logits), "dev texts": rows_digest(dev), **(made_with or {})}
    checkpoints = out / "checkpoints"
    hold_to(out / "run.json", record, has_begun=any(checkpoints.glob("checkpoint-*")) or (out / "model.safetensors").exists())
    no_signals = TeacherSignals(
        np.full(dev.labels.shape, np.nan, dtype=np.float32),
        np.full((len(dev), signals.features.shape[1]), np.nan, dtype=np.float32),
    )
    arguments = TrainingArguments(
        output_dir=str(checkpoints),
        num_train_epochs=settings.epochs,
        per_device_train_batch_size=settings.batch_size,
        per_device_eval_batch_size=128,
        learning_rate=settings.learning_rate,
        weight_decay=settings.weight_decay,
        warmup_ratio=settings.warmup_ratio,
        max_grad_norm=settings.max_grad_norm,
        lr_scheduler_type="linear",
        group_by_length=True,
        eval_strategy="steps",
        eval_steps=settings.eval_every_steps,
        save_strategy="steps",
        save_steps=settings.eval_every_steps,
        save_total_limit=2,
        load_best_model_at_end=True,
        metric_for_best_model="au_prc",
        greater_is_better=True,
        label_names=["labels"],
        remove_unused_columns=False,
        logging_steps=50,
        report_to=[],
        seed=settings.seed,
        use_cpu=not use_cuda,
        bf16=True,
        dataloader_pin_memory=use_cuda,
    )
    trainer = DistillationTrainer(
        model=model,
        args=arguments,
        train_dataset=DistillationData(train, signals, tokenizer, max_tokens=settings.max_tokens),
        eval_dataset=DistillationData(dev, no_signals, tokenizer, max_tokens=settings.max_tokens),
        data_collator=collate,
        compute_metrics=_dev_figures,
        callbacks=[JudgeTheEnd()],
        weights=weights,
        feature_dimensions=signals.features.shape[1],
    )
    trainer.train(resume_from_checkpoint=_newest_whole(checkpoints))
    if settings.average:
        _average(trainer.model, Path(settings.start_from))
    figures = trainer.evaluate()
    trained = trainer.model
    torch.save(trained.projector.state_dict(), out / "projector.pt")
    del trained.projector
    trained.save_pretrained(out)
    tokenizer.save_pretrained(out)
    (out / "student.json").write_text(json.dumps({"max_tokens": settings.max_tokens}) + "\n")
    (out / "train.json").write_text(
        json.dumps({"settings": asdict(settings), "weights": asdict(weights), "log": trainer.state.log_history}, indent=1)
    )
    return {key.removeprefix("eval_"): value for key, value in figures.items()}


def _start(settings: TrainSettings, *, attention: str):
    if not settings.start_from:
        if settings.average:
            raise ConfigurationError("--average is with the student that a run starts from: it needs --start-from")
        return new_student(settings.base, attention=attention)
    if not (Path(settings.start_from) / "student.json").exists():
        raise ConfigurationError(f"--start-from {settings.start_from}: there is no finished student there")
    return load_student(Path(settings.start_from), attention=attention)


def _newest_whole(checkpoints: Path) -> str | None:
    """The newest checkpoint that was written to its end; those that a kill cut short are removed."""
    for path in sorted(checkpoints.glob("checkpoint-*"), key=lambda path: int(path.name.rpartition("-")[2]), reverse=True):
        if _is_whole(path):
            return str(path)
        tqdm.write(f"{path} was cut short as it was written: removed", file=sys.stderr)
        shutil.rmtree(path)
    return None


def _is_whole(checkpoint: Path) -> bool:
    """The Trainer writes its state last of all."""
    try:
        json.loads((checkpoint / "trainer_state.json").read_text())
    except (FileNotFoundError, ValueError):
        return False
    return True


def _average(model, run: Path) -> None:
    """Make ``model`` the mean of itself and of the run's student; what only ``model`` has, its projector, stays."""
    theirs = load_student(run)[0].state_dict()
    ours = model.state_dict()
    mean = {name: (ours[name] + theirs[name]) / 2 for name in theirs if ours[name].is_floating_point()}
    model.load_state_dict(ours | mean)


def _dev_figures(prediction) -> dict[str, float]:
    logits, labels = prediction.predictions, prediction.label_ids
    per_category = average_precision_per_category(logits, labels)
    known = [value for value in per_category.values() if value is not None]
    figures = {f"au_prc_{name}": value for name, value in per_category.items() if value is not None}
    return {"au_prc": average_precision(logits.ravel(), labels.ravel()), "au_prc_macro": float(np.mean(known)), **figures}
