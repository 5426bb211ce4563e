"""Fine-tune a language model into a judge: LoRA on guard prompts.

Each text is asked about every category whose label is known, as one tree (``distill.teacher.model``). The loss is binary
cross-entropy on the Yes/No margin, averaged over a text's known labels and then over texts, plus a little of
−log(P(Yes) + P(No)), which teaches the model that one of the two comes next: a server that lists only the likeliest
tokens then lists them.

The ``title`` prompt makes this cheap enough for a CPU: with ShieldGemma's wording nine tenths of a prompt are policy.
The base is frozen in bfloat16; the adapter's updates are kept in float32.
"""

import json
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from peft import LoraConfig, get_peft_model, get_peft_model_state_dict, set_peft_model_state_dict
from safetensors.torch import load_file
from scipy.special import expit
from tqdm import tqdm

from distill.data import LabelledTexts
from distill.json_file import read_json
from distill.run_record import hold_to, rows_digest
from distill.settings_flags import knob
from distill.teacher.model import PACKAGED_TEACHER, Judge, TreeEncoder, load_base
from server.core.errors import ConfigurationError
from server.core.policy import Policy
from server.core.prompt import PROMPT_FORMS, TITLE, prompt_form


@dataclass(frozen=True, slots=True)
class TuneSettings:
    """Rates are per optimiser step; lengths are the teacher's tokens.

    Attributes:
        pool_with: in its turn the teacher's teacher: what it and ``start_from`` say together counts beside what people say
            (``distill.soft_labels``). Needs ``start_from``, and learns from texts that one judged.
        average: what one run learns too well of its own texts is halved (weight averaging: Izmailov et al., 2018; Wortsman et
            al., 2022). Needs ``start_from``.
    """

    base: str = knob(help=f"{PACKAGED_TEACHER} (installed as a package), a .gguf file, a model folder, or a hub id")
    start_from: str = knob("", help="run folder whose adapter this run goes on from; draw other texts (--seed) then")
    prompt: str = knob(TITLE.name, help="the form of the question", choices=tuple(PROMPT_FORMS))
    batch_rows: int = knob(32, least=1, help="texts per step")
    rank: int = knob(16, least=1, help="the adapter's (LoRA)")
    learning_rate: float = knob(6e-4, least=0, help="AdamW's, at the end of the warm-up; then linear to 0")
    epochs: int = knob(1, least=1, help="passes over the texts")
    max_text_tokens: int = knob(128, least=1, help="a longer text is cut to as many of the teacher's tokens")
    max_batch_tokens: int = knob(2048, least=1, help="padded tokens of one pass through the model; a step may take several")
    answer_weight: float = knob(0.1, least=0, help="of -log(P(Yes) + P(No)) in the loss")
    pool_with: str = knob("", help="run folder of a student, whose word is pooled with that of --start-from")
    soft: float = knob(0.5, least=0, most=1, help="weight of the pool's word in a label, 0 to 1; people have the rest")
    average: bool = knob(False, help="end with the mean of this run's adapter and of the one it started from")
    checkpoint_every_s: float = knob(300.0, least=0, help="seconds between checkpoints: what a kill can cost")
    compile: bool = knob(False, help="torch.compile: a third faster on CPUs; needs a C++ compiler")
    seed: int = knob(0, least=0, most=2**32 - 1, help="of the draw of texts, their order and the adapter's start")


_MAY_CHANGE = {"average", "checkpoint_every_s", "compile"}
"""Settings that a run which goes on, or whose end is made anew, may have otherwise than as it was begun."""


CHECKPOINT = "checkpoint.pt"


class MasterAdamW:
    """AdamW on float32 copies of bfloat16 parameters: small updates would round away in bfloat16."""

    def __init__(self, parameters: list[torch.nn.Parameter], learning_rate: float) -> None:
        self.parameters = parameters
        self.masters = [p.detach().float().clone() for p in parameters]
        self.adamw = torch.optim.AdamW(self.masters, lr=learning_rate, betas=(0.9, 0.98), weight_decay=0.0)

    def step(self, learning_rate: float, *, clip_norm: float = 1.0) -> None:
        for master, parameter in zip(self.masters, self.parameters, strict=True):
            # A parameter that a phase doesn't reach has no gradient and must not be moved by old momentum.
            master.grad = None if parameter.grad is None else parameter.grad.float()
            parameter.grad = None
        torch.nn.utils.clip_grad_norm_(self.masters, clip_norm)
        for group in self.adamw.param_groups:
            group["lr"] = learning_rate
        self.adamw.step()
        with torch.no_grad():
            for master, parameter in zip(self.masters, self.parameters, strict=True):
                parameter.copy_(master)


def tune_teacher(
    settings: TuneSettings,
    rows: LabelledTexts,
    policy: Policy,
    out: Path,
    soft_logits: np.ndarray | None = None,
    *,
    made_with: Mapping[str, Any] | None = None,
) -> Judge:
    """Tune and write ``out/adapter`` (PEFT's folder); resumes from ``out``'s checkpoint if there is one.

    Args:
        soft_logits: (N, C), log-odds that count for ``settings.soft`` of a label that people gave; NaN leaves it theirs.
        made_with: what else the run is made with: JSON values by name, for ``out/run.json``.

    Raises:
        ConfigurationError: there is nothing to average with, ``start_from`` doesn't fit, or ``out`` holds a run that was
            made with other settings, texts, labels or wordings: ``out/run.json`` says with which.
    """
    if settings.average and not settings.start_from:
        raise ConfigurationError("--average is with the adapter that a run starts from: it needs --start-from")
    form = prompt_form(settings.prompt)
    record = {name: value for name, value in asdict(settings).items() if name not in _MAY_CHANGE}
    record |= {"texts": rows_digest(rows, soft_logits), "wordings": form.hash(policy), **(made_with or {})}
    hold_to(out / "run.json", record, has_begun=(out / CHECKPOINT).exists() or (out / "tune.json").exists())
    torch.manual_seed(settings.seed)
    model, tokenizer = load_base(settings.base, dtype=torch.bfloat16, attention="eager")
    lora = LoraConfig(r=settings.rank, lora_alpha=2 * settings.rank, lora_dropout=0.0, target_modules="all-linear")
    model = get_peft_model(model, lora, autocast_adapter_dtype=False)
    earlier = _load_adapter(model, Path(settings.start_from), settings) if settings.start_from else []
    judge = Judge(model, tokenizer)
    encoder = TreeEncoder(tokenizer, policy, form, max_text_tokens=settings.max_text_tokens)
    if settings.compile:
        for layer in judge.causal_lm.model.layers:
            layer.compile(dynamic=True)
    targets = rows.labels if soft_logits is None else _soften(rows.labels, soft_logits, settings.soft)
    _Tuning(settings, judge, encoder, replace(rows, labels=targets), out).run()
    if settings.average:
        _average(model, Path(settings.start_from))
    # "auto" would look for the base on the hub, to see whether its vocabulary has changed.
    model.save_pretrained(out / "adapter", save_embedding_layers=False)
    record = asdict(settings) | {"rows": len(rows), "earlier": earlier}
    (out / "tune.json").write_text(json.dumps(record, indent=2) + "\n")
    return judge


def _load_adapter(model, run: Path, settings: TuneSettings) -> list[dict[str, Any]]:
    """Put a finished run's adapter into ``model``; returns what it and the runs before it were made with.

    Raises:
        ConfigurationError: it isn't finished, or was tuned otherwise than the new run in what an adapter can't change.
    """
    if not (run / "tune.json").exists():
        raise ConfigurationError(f"--start-from {run}: there is no finished run of tune-teacher there")
    record = read_json(run / "tune.json")
    other = [name for name in ("base", "prompt", "rank") if record[name] != getattr(settings, name)]
    if other:
        raise ConfigurationError(f"--start-from {run}: it was tuned with another {', '.join(other)}")
    set_peft_model_state_dict(model, _read_adapter(run))
    return [*record.pop("earlier"), record]


def _soften(labels: np.ndarray, logits: np.ndarray, weight: float) -> np.ndarray:
    """Labels (N, C) moved towards the probabilities of ``logits``; what isn't known, or isn't said, stays as it is."""
    probabilities = expit(logits)
    softened = (1 - weight) * labels + weight * probabilities
    return np.where(np.isnan(probabilities), labels, softened).astype(np.float32)


def _average(model, run: Path) -> None:
    """The mean of the adapter in ``model`` and of the run's."""
    ours, theirs = get_peft_model_state_dict(model, save_embedding_layers=False), _read_adapter(run)
    set_peft_model_state_dict(model, {name: ((ours[name].float().cpu() + theirs[name].float()) / 2) for name in ours})


def _read_adapter(run: Path) -> dict[str, torch.Tensor]:
    return load_file(run / "adapter" / "adapter_model.safetensors")


class _Tuning:
    def __init__(self, settings, judge: Judge, encoder: TreeEncoder, rows: LabelledTexts, out: Path) -> None:
        self.settings, self.judge, self.encoder, self.rows = settings, judge, encoder, rows
        self.checkpoint_path = out / CHECKPOINT
        self.log_path = out / "tune.jsonl"
        self.optimiser = MasterAdamW([p for p in judge.model.parameters() if p.requires_grad], settings.learning_rate)
        self.asked = [np.flatnonzero(~np.isnan(labels)).tolist() for labels in rows.labels]
        known = np.flatnonzero([bool(categories) for categories in self.asked])
        rng = np.random.default_rng(settings.seed)
        order = np.concatenate([rng.permutation(known) for _ in range(settings.epochs)])
        self.steps = [order[start : start + settings.batch_rows] for start in range(0, len(order), settings.batch_rows)]
        self.done = 0

    def run(self) -> None:
        self._resume()
        saved_at = time.monotonic()
        smoothed = None
        progress = tqdm(self.steps[self.done :], initial=self.done, total=len(self.steps), desc="tune-teacher", unit="step")
        with self.log_path.open("a", buffering=1) as log:
            for indices in progress:
                loss = self._accumulate(indices)
                self.optimiser.step(self._learning_rate())
                self.done += 1
                smoothed = loss if smoothed is None else 0.98 * smoothed + 0.02 * loss
                progress.set_postfix(loss=f"{smoothed:.3f}")
                log.write(json.dumps({"step": self.done, "loss": loss}) + "\n")
                if time.monotonic() - saved_at > self.settings.checkpoint_every_s:
                    self._save()
                    saved_at = time.monotonic()
        self._save()

    def _learning_rate(self) -> float:
        """Warm-up over the first 3 %, then linear to zero."""
        fraction = (self.done + 1) / len(self.steps)
        return self.settings.learning_rate * min(fraction / 0.03, 1 - fraction)

    def _accumulate(self, indices: np.ndarray) -> float:
        """Add one step's gradients; returns its mean loss on the margins."""
        total = 0.0
        texts, roles = [self.rows.texts[i] for i in indices], [self.rows.roles[i] for i in indices]
        asked = [self.asked[i] for i in indices]
        for part, batch in self.encoder.batches(texts, roles, asked, max_tokens=self.settings.max_batch_tokens):
            rows = [int(indices[j]) for j in part]
            logits = self.judge.logits(self.judge.leaf_states(batch))
            yes, no = logits[:, self.judge.yes_id], logits[:, self.judge.no_id]
            target = logits.new_tensor([self.rows.labels[i][c] for i in rows for c in self.asked[i]])
            weight = logits.new_tensor([1 / len(self.asked[i]) for i in rows for _ in self.asked[i]]) / len(indices)
            ask_loss = (F.binary_cross_entropy_with_logits(yes - no, target, reduction="none") * weight).sum()
            answer_loss = ((logits.logsumexp(1) - torch.logaddexp(yes, no)) * weight).sum()
            (ask_loss + self.settings.answer_weight * answer_loss).backward()
            total += ask_loss.item()
        return total

    def _save(self) -> None:
        state = {
            "done": self.done,
            "masters": self.optimiser.masters,
            "adamw": self.optimiser.adamw.state_dict(),
        }
        partial = self.checkpoint_path.with_suffix(".partial")
        torch.save(state, partial)
        partial.replace(self.checkpoint_path)

    def _resume(self) -> None:
        if not self.checkpoint_path.exists():
            return
        state = torch.load(self.checkpoint_path, weights_only=True, map_location="cpu")
        with torch.no_grad():
            for master, parameter, saved in zip(
                self.optimiser.masters, self.optimiser.parameters, state["masters"], strict=True
            ):
                master.copy_(saved)
                parameter.copy_(saved)
        self.optimiser.adamw.load_state_dict(state["adamw"])
        self.done = state["done"]
