"""The dual loss: features + labels, and the teacher's soft labels beside them. Every term masks what is unknown.

Source: the dual distillation of "How Knowledge Distillation Turns LLMs into Smarter Transformers" (ActiveFence, 2025)
and Hinton et al. (2015) for temperature. Where the article's listing differs, ``docs/adr/0002-dual-loss.md`` says why.

Shapes: B texts, C categories, K feature dimensions.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F

from distill.settings_flags import knob
from server.core.errors import ConfigurationError


@dataclass(frozen=True, slots=True)
class LossWeights:
    """Non-negative and independent: raising one never makes another negative."""

    label: float = knob(1.0, help="weight of the cross-entropy with people's labels, 0 or more")
    soft: float = knob(1.0, help="weight of the divergence from the teacher's soft labels, 0 or more")
    feature: float = knob(0.1, help="weight of the distance to the teacher's hidden states, 0 or more")
    temperature: float = knob(2.0, help="softens both sides of the soft labels' divergence; above 0")

    def __post_init__(self) -> None:
        if min(self.label, self.soft, self.feature) < 0 or self.temperature <= 0:
            raise ConfigurationError(f"loss weights must be >= 0 and the temperature > 0, not {self}")


def label_loss(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Binary cross-entropy with human labels (B, C), NaN = unknown; 0 if none is known."""
    return _masked_mean(F.binary_cross_entropy_with_logits(logits, torch.nan_to_num(labels), reduction="none"), ~labels.isnan())


def soft_label_loss(logits: torch.Tensor, teacher_logits: torch.Tensor, temperature: float) -> torch.Tensor:
    """KL(teacher ‖ student) of each category's Bernoulli at a temperature, times T²; (B, C), NaN = not judged.

    The T² keeps the gradient's size independent of the temperature. Zero exactly where student and teacher agree.
    """
    known = ~teacher_logits.isnan()
    target = torch.sigmoid(torch.nan_to_num(teacher_logits) / temperature)
    cross_entropy = F.binary_cross_entropy_with_logits(logits / temperature, target, reduction="none")
    entropy = -(torch.xlogy(target, target) + torch.xlogy(1 - target, 1 - target))
    return _masked_mean((cross_entropy - entropy) * temperature**2, known)


def feature_loss(projected: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Mean squared error between the student projected up (B, K) and the teacher's fixed target (B, K), over all rows.

    A row whose target is NaN was not judged by the teacher and is left out.
    """
    known = ~target.isnan().any(dim=1, keepdim=True)
    return _masked_mean((projected - torch.nan_to_num(target)) ** 2, known.expand_as(target))


def _masked_mean(values: torch.Tensor, known: torch.Tensor) -> torch.Tensor:
    """Mean over each row's known entries, then over all rows: a row counts once however much is known of it, and a row of
    which nothing is known counts as 0, so that a few judged rows don't drown a batch of labelled ones."""
    return ((values * known).sum(dim=1) / known.sum(dim=1).clamp(min=1)).mean()
