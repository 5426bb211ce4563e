"""Train the student: a subclass of transformers' Trainer with the dual loss.

AdamW with no decay on biases and LayerNorms, linear warm-up and decay, gradient clipping, the checkpoint with the best
AU-PRC on dev, and resuming are the Trainer's own. Lengths are grouped so that little is padding.
"""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn
from transformers import Trainer, TrainingArguments
from transformers.trainer_utils import get_last_checkpoint

from distill.data import LabelledTexts
from distill.features import Whitener
from distill.losses import LossWeights, feature_loss, label_loss, soft_label_loss
from distill.metrics import average_precision, average_precision_per_category
from distill.signals import SignalStore
from distill.soft_labels import signal_rows, teacher_logits
from distill.student import load_student, new_student
from server.core.calibration import Calibration
from server.core.taxonomy import CATEGORIES


@dataclass(frozen=True, slots=True)
class TrainSettings:
    """``max_tokens`` is the student's window, special tokens included, and goes into the artefact's manifest. ``start_from`` is
    the run folder of a student to go on from, in place of the base; its head comes along, its projector doesn't. ``average``
    ends with the mean of the student trained and of that one: most of what is new, and less of what was forgotten over it
    (Wortsman et al., "Robust fine-tuning of zero-shot models", 2022)."""

    base: str
    epochs: float = 2.0
    batch_size: int = 64
    learning_rate: float = 1e-4
    weight_decay: float = 0.01
    warmup_ratio: float = 0.06
    max_grad_norm: float = 1.0
    max_tokens: int = 256
    feature_dimensions: int = 256
    eval_every_steps: int = 400
    seed: int = 0
    start_from: str = ""
    average: bool = False


@dataclass(frozen=True, slots=True)
class TeacherSignals:
    """Signals beside N texts: ``logits`` float32 (N, C) soft labels, ``features`` float32 (N, K); NaN = not asked."""

    logits: np.ndarray
    features: np.ndarray


def align_signals(
    rows: LabelledTexts, store: SignalStore | None, calibration: Calibration | None, *, dimensions: int
) -> TeacherSignals:
    """Find each text's signal; fit the frozen feature target on those that have one."""
    n = len(rows)
    if store is None or not len(store):
        nothing = np.full((n, len(CATEGORIES)), np.nan, dtype=np.float32)
        return TeacherSignals(nothing, np.full((n, 1), np.nan, dtype=np.float32))
    found = signal_rows(rows, store)
    has_signal = found >= 0
    hidden = store.hidden()[np.unique(found[has_signal])]
    whitener = Whitener.fit(hidden, dimensions=dimensions)
    features = np.full((n, len(whitener.components)), np.nan, dtype=np.float32)
    features[has_signal] = whitener(store.hidden()[found[has_signal]])
    return TeacherSignals(teacher_logits(rows, store, calibration), features)


class DistillationData(torch.utils.data.Dataset):
    """Rows as the Trainer wants them; texts are encoded once, cut at ``max_tokens``."""

    def __init__(self, rows: LabelledTexts, signals: TeacherSignals, tokenizer, *, max_tokens: int) -> None:
        encoded = tokenizer(rows.texts, truncation=True, max_length=max_tokens, return_attention_mask=False)
        self.input_ids = encoded["input_ids"]
        self.rows, self.signals = rows, signals

    def __len__(self) -> int:
        return len(self.input_ids)

    def __getitem__(self, index: int) -> dict:
        return {
            "input_ids": self.input_ids[index],
            "labels": self.rows.labels[index],
            "teacher_logits": self.signals.logits[index],
            "teacher_features": self.signals.features[index],
        }


def collate(records: list[dict], *, pad_id: int = 0) -> dict[str, torch.Tensor]:
    """Right-pad to the longest: ``input_ids`` and ``attention_mask`` int64 (B, T), the rest stacked."""
    width = max(len(record["input_ids"]) for record in records)
    ids = torch.full((len(records), width), pad_id, dtype=torch.long)
    mask = torch.zeros_like(ids)
    for row, record in enumerate(records):
        length = len(record["input_ids"])
        ids[row, :length] = torch.tensor(record["input_ids"])
        mask[row, :length] = 1
    stacked = {key: torch.from_numpy(np.stack([record[key] for record in records])) for key in records[0] if key != "input_ids"}
    return {"input_ids": ids, "attention_mask": mask, **stacked}


class DistillationTrainer(Trainer):
    """Trainer whose loss is label + soft-label + feature. The projector trains with the student and stays out of it."""

    def __init__(self, *args, weights: LossWeights, feature_dimensions: int, **kwargs) -> None:
        super().__init__(*args, **kwargs)
        self.weights = weights
        # On the student's side, upwards: the teacher's target is fixed, so the loss can't be won by collapsing it.
        self.model.projector = nn.Linear(self.model.config.hidden_size, feature_dimensions)

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


def train_student(
    settings: TrainSettings,
    weights: LossWeights,
    *,
    train: LabelledTexts,
    signals: TeacherSignals,
    dev: LabelledTexts,
    out: Path,
) -> dict:
    """Train, keep the best checkpoint by pooled dev AU-PRC, and write ``out`` as a student folder.

    Resumes from the newest checkpoint under ``out/checkpoints``. Returns the dev figures of the best one.
    """
    torch.manual_seed(settings.seed)
    use_cuda = torch.cuda.is_available()
    model, tokenizer = _start(settings, attention="sdpa" if use_cuda else "eager")
    no_signals = TeacherSignals(
        np.full(dev.labels.shape, np.nan, dtype=np.float32),
        np.full((len(dev), signals.features.shape[1]), np.nan, dtype=np.float32),
    )
    arguments = TrainingArguments(
        output_dir=str(out / "checkpoints"),
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
        data_seed=settings.seed,
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
        weights=weights,
        feature_dimensions=signals.features.shape[1],
    )
    last = get_last_checkpoint(str(out / "checkpoints")) if (out / "checkpoints").is_dir() else None
    trainer.train(resume_from_checkpoint=last)
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
            raise ValueError("--average is with the student that a run starts from: it needs --start-from")
        return new_student(settings.base, attention=attention)
    if not (Path(settings.start_from) / "student.json").exists():
        raise ValueError(f"--start-from {settings.start_from}: there is no finished student there")
    return load_student(Path(settings.start_from), attention=attention)


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
