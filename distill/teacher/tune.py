"""Fine-tune a language model into a judge: LoRA on guard prompts.

A 135M model learns slowly through the answer token alone, since a prompt is mostly policy. So tuning has two phases:

* **warm**: only the text's prefix, only the lower layers, and a throw-away linear head with one logit per category on
  the prefix's last token. It costs a fifth of a full prompt a text, and puts what the categories need where every
  suffix can look for it.
* **ask**: full guard prompts as trees, the loss on the Yes/No margin of each asked category, and the head's loss beside
  it. Every known positive of a text is asked, and at most ``max_negatives`` of its known negatives.

Unknown labels are never asked. The base is frozen in bfloat16; the adapter's updates are kept in float32.
"""

import json
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from peft import LoraConfig, get_peft_model
from tqdm import tqdm

from distill.data import LabelledTexts, balanced_indices
from distill.teacher.model import Judge, TreeEncoder, load_base, token_budget_batches
from server.core.policy import Policy
from server.core.taxonomy import CATEGORIES


@dataclass(frozen=True, slots=True)
class TuneSettings:
    """Rows are texts. Rates are per optimiser step; lengths are the teacher's tokens."""

    base: str
    warm_rows: int = 10_240
    ask_rows: int = 4_000
    warm_batch_rows: int = 32
    ask_batch_rows: int = 16
    rank: int = 16
    learning_rate: float = 6e-4
    max_text_tokens: int = 96
    max_negatives: int = 1
    max_batch_tokens: int = 2048
    head_weight: float = 0.3
    checkpoint_every_s: float = 300.0
    seed: int = 0


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


def tune_teacher(settings: TuneSettings, rows: LabelledTexts, policy: Policy, out: Path) -> Judge:
    """Tune and write ``out/adapter`` (PEFT's folder); resumes from ``out/checkpoint.pt`` if there is one."""
    torch.manual_seed(settings.seed)
    model, tokenizer = load_base(settings.base, dtype=torch.bfloat16, attention="eager")
    lora = LoraConfig(r=settings.rank, lora_alpha=2 * settings.rank, lora_dropout=0.0, target_modules="all-linear")
    model = get_peft_model(model, lora, autocast_adapter_dtype=False)
    judge = Judge(model, tokenizer)
    encoder = TreeEncoder(tokenizer, policy, max_text_tokens=settings.max_text_tokens)
    _Tuning(settings, judge, encoder, rows, out).run()
    model.save_pretrained(out / "adapter")
    (out / "tune.json").write_text(json.dumps(asdict(settings), indent=2))
    return judge


class _Tuning:
    def __init__(self, settings, judge: Judge, encoder: TreeEncoder, rows: LabelledTexts, out: Path) -> None:
        self.settings, self.judge, self.encoder, self.rows = settings, judge, encoder, rows
        self.checkpoint_path = out / "checkpoint.pt"
        self.log_path = out / "tune.jsonl"
        out.mkdir(parents=True, exist_ok=True)
        self.layer = max(1, judge.causal_lm.config.num_hidden_layers * 2 // 3)
        self.head = torch.nn.Linear(judge.hidden_size, len(CATEGORIES))
        trainable = [p for p in judge.model.parameters() if p.requires_grad]
        self.optimiser = MasterAdamW([*trainable, *self.head.parameters()], settings.learning_rate)
        warm = balanced_indices(rows, settings.warm_rows, settings.seed)
        ask = balanced_indices(rows, settings.ask_rows, settings.seed + 1)
        self.steps = [("warm", part) for part in _split(warm, settings.warm_batch_rows)]
        self.steps += [("ask", part) for part in _split(ask, settings.ask_batch_rows)]
        self.warm_steps = sum(phase == "warm" for phase, _ in self.steps)
        self.done = 0
        self.negatives = np.random.default_rng(settings.seed + 2)

    def run(self) -> None:
        self._resume()
        saved_at = time.monotonic()
        smoothed: dict[str, float] = {}
        progress = tqdm(self.steps[self.done :], initial=self.done, total=len(self.steps), desc="tune-teacher", unit="step")
        with self.log_path.open("a", buffering=1) as log:
            for phase, indices in progress:
                loss = self._warm(indices) if phase == "warm" else self._ask(indices)
                self.optimiser.step(self._learning_rate())
                self.done += 1
                smoothed[phase] = loss if phase not in smoothed else 0.98 * smoothed[phase] + 0.02 * loss
                progress.set_postfix(phase=phase, loss=f"{smoothed[phase]:.3f}")
                log.write(json.dumps({"step": self.done, "phase": phase, "loss": loss}) + "\n")
                if time.monotonic() - saved_at > self.settings.checkpoint_every_s:
                    self._save()
                    saved_at = time.monotonic()
        self._save()

    def _learning_rate(self) -> float:
        """Per phase: warm-up over 3 %, then linear to a third (warm) or to zero (ask)."""
        in_ask = self.done >= self.warm_steps
        first, count = (self.warm_steps, len(self.steps) - self.warm_steps) if in_ask else (0, self.warm_steps)
        fraction = (self.done - first + 1) / count
        final = 0.0 if in_ask else 1 / 3
        return self.settings.learning_rate * min(fraction / 0.03, 1 - (1 - final) * fraction)

    def _warm(self, indices: np.ndarray) -> float:
        total = 0.0
        for part in self._microbatches(indices, [()] * len(indices)):
            rows, batch, _ = part
            logits = self.head(self.judge.prefix_states(batch, layer=self.layer))
            loss = _masked_bce(logits, self.rows.labels[rows]) * len(rows) / len(indices)
            loss.backward()
            total += loss.item()
        return total

    def _ask(self, indices: np.ndarray) -> float:
        asked = [self._choose_categories(self.rows.labels[i]) for i in indices]
        leaves = sum(map(len, asked))
        total = 0.0
        for rows, batch, categories in self._microbatches(indices, asked):
            margins, _, prefix_states = self.judge.leaves(batch, prefix_layer=self.layer)
            targets = torch.tensor([self.rows.labels[i][c] for i, cs in zip(rows, categories, strict=True) for c in cs])
            ask_loss = F.binary_cross_entropy_with_logits(margins, targets, reduction="sum") / leaves
            head_loss = _masked_bce(self.head(prefix_states), self.rows.labels[rows]) * len(rows) / len(indices)
            (ask_loss + self.settings.head_weight * head_loss).backward()
            total += ask_loss.item()
        return total

    def _choose_categories(self, labels: np.ndarray) -> list[int]:
        negatives = self.negatives.permutation(np.flatnonzero(labels == 0))[: self.settings.max_negatives]
        return sorted([*np.flatnonzero(labels == 1).tolist(), *negatives.tolist()])

    def _microbatches(self, indices: np.ndarray, asked: list):
        """Parts of a step, sorted by length, each within ``max_batch_tokens`` padded tokens."""
        texts = [
            (i, self.encoder.prefix(self.rows.texts[i], self.rows.roles[i]), self.rows.roles[i], categories)
            for i, categories in zip(indices, asked, strict=True)
        ]
        sizes = [self.encoder.tokens(prefix, role, categories) for _, prefix, role, categories in texts]
        for part in token_budget_batches(sizes, self.settings.max_batch_tokens):
            rows, prefixes, roles, categories = zip(*(texts[j] for j in part), strict=True)
            yield list(rows), self.encoder.batch(prefixes, roles, categories), categories

    def _save(self) -> None:
        state = {
            "done": self.done,
            "masters": self.optimiser.masters,
            "adamw": self.optimiser.adamw.state_dict(),
            "negatives": self.negatives.bit_generator.state,
            "settings": asdict(self.settings),
        }
        partial = self.checkpoint_path.with_suffix(".partial")
        torch.save(state, partial)
        partial.replace(self.checkpoint_path)

    def _resume(self) -> None:
        if not self.checkpoint_path.exists():
            return
        state = torch.load(self.checkpoint_path, weights_only=True)
        changed = [k for k, v in asdict(self.settings).items() if state["settings"].get(k) != v and k != "checkpoint_every_s"]
        if changed:
            raise ValueError(f"{self.checkpoint_path} was made with other settings ({', '.join(changed)}): use another --out")
        with torch.no_grad():
            for master, parameter, saved in zip(
                self.optimiser.masters, self.optimiser.parameters, state["masters"], strict=True
            ):
                master.copy_(saved)
                parameter.copy_(saved)
        self.optimiser.adamw.load_state_dict(state["adamw"])
        self.negatives.bit_generator.state = state["negatives"]
        self.done = state["done"]


def _split(indices: np.ndarray, size: int) -> list[np.ndarray]:
    return [indices[start : start + size] for start in range(0, len(indices), size)]


def _masked_bce(logits: torch.Tensor, labels: np.ndarray) -> torch.Tensor:
    """Mean over known labels of each text, then over texts: a text with eight labels weighs as one with one."""
    target = torch.from_numpy(labels)
    known = ~torch.isnan(target)
    loss = F.binary_cross_entropy_with_logits(logits, torch.nan_to_num(target), reduction="none") * known
    return (loss.sum(1) / known.sum(1).clamp(min=1)).mean()
