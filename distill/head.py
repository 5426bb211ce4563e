"""The head alone, fitted anew on what the trained encoder sees: minutes where another training takes hours, and nothing
that the encoder learnt is lost.

It is for labels that came late. Most public sets label one category, so a student that was trained on them takes what harms
in one way to harm in all; sentences that say what they are *not* (``distill/seeds.toml``) move the categories apart again.
The encoder tells them apart already: the head only has to look.

A head is one logistic regression per category on the pooled states (B, H). Each is held to where it was by ``keep``, the
weight of the squared distance (as in Evgeniou and Pontil, "Regularized multi-task learning", 2004), so that it moves where
labels say so and stays elsewhere.
"""

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from tqdm import tqdm

from distill.data import LabelledTexts
from distill.settings_flags import knob
from distill.student import StudentForModeration

_STEPS = 300


@dataclass(frozen=True, slots=True)
class HeadSettings:
    keep: float = knob(0.02, least=0, help="how hard the head is held to where it was, against the mean loss of a text")
    seed_repeats: int = knob(4, least=0, help="times each of the hand-written sentences counts; 0 leaves them out")


def pooled_states(
    model: StudentForModeration, tokenizer, texts: list[str], *, max_tokens: int, batch_size: int = 64
) -> np.ndarray:
    """What the head reads, float32 (N, H), of the first window of each text."""
    windows = tokenizer(texts, truncation=True, max_length=max_tokens)["input_ids"]
    order = sorted(range(len(windows)), key=lambda i: len(windows[i]))
    states = np.empty((len(texts), model.config.hidden_size), dtype=np.float32)
    model.eval()
    for start in tqdm(range(0, len(order), batch_size), desc="encoder", unit="batch", disable=len(order) < 1000):
        part = order[start : start + batch_size]
        padded = tokenizer.pad({"input_ids": [windows[i] for i in part]}, return_tensors="pt")
        with torch.inference_mode():
            states[part] = model.pool(padded["input_ids"], padded["attention_mask"]).numpy()
    return states


def refit_head(model: StudentForModeration, states: np.ndarray, rows: LabelledTexts, *, keep: float) -> dict[str, float]:
    """Fit ``model.classifier`` in place; the same rows give the same head.

    Args:
        states: :func:`pooled_states` of the rows.
        rows: labels (N, C), NaN where unknown; one known in part counts for what is known of it.

    Returns:
        ``loss_before`` and ``loss``: mean cross-entropy of a text, over its known labels in sum.
    """
    inputs, labels = torch.from_numpy(states), torch.from_numpy(rows.labels)
    known = ~labels.isnan()
    labels = torch.nan_to_num(labels)
    head = model.classifier
    start = [parameter.detach().clone() for parameter in head.parameters()]
    optimizer = torch.optim.LBFGS(head.parameters(), max_iter=_STEPS, history_size=20, line_search_fn="strong_wolfe")

    def cross_entropy() -> torch.Tensor:
        losses = F.binary_cross_entropy_with_logits(head(inputs), labels, reduction="none")
        return (losses * known).sum() / len(inputs)

    def step() -> torch.Tensor:
        optimizer.zero_grad()
        moved = sum(((now - then) ** 2).sum() for now, then in zip(head.parameters(), start, strict=True))
        loss = cross_entropy() + keep * moved
        loss.backward()
        return loss

    before = cross_entropy().item()
    optimizer.step(step)
    return {"loss_before": before, "loss": cross_entropy().item()}
