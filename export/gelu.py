"""GELU as the graph computes it: by one logistic function, which ONNX Runtime is twice as fast in as in the exact form.

x · Φ(x), Φ the normal distribution, is near x · σ(1.702 x) (Hendrycks and Gimpel, 2016, section 2): at most 0.02 away, and a
third of what rounding to 8 bits adds, or less. With s = 1.702 x it is s · σ(s) / 1.702, and the factors vanish in the two
linear layers around it. So does what makes the best of it for each neuron, by least squares over the values that it takes
on ordinary texts: gelu(x) ≈ ``gain`` · x · σ(1.702 x) + ``shift``.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from export.replay import replay

SLOPE = 1.702
_NOTHING = 1e-6
"""A variance of this size is no evidence: such a neuron's gain stays near 1."""


@dataclass(frozen=True, slots=True)
class Curve:
    """float64, one per neuron of one layer's FFN."""

    gain: np.ndarray
    shift: np.ndarray


def fit_curves(model: Any, token_ids: Sequence[Sequence[int]]) -> list[Curve]:
    """The curve of each layer of a ``StudentForModeration`` in eval mode.

    Args:
        token_ids: windows of ordinary texts, special tokens included; a few hundred do. Each runs alone, so no padding counts.
    """
    layers = model.bert.encoder.layer
    sums = [_Sums() for _ in layers]
    hooks = [layer.intermediate.dense.register_forward_hook(of.add) for layer, of in zip(layers, sums, strict=True)]
    replay(model, token_ids, hooks)
    return [of.curve() for of in sums]


def fold_curves(state: Mapping[str, np.ndarray], curves: Mapping[int, Curve]) -> dict[str, np.ndarray]:
    """The weights with which s · σ(s) does in the place of GELU, in the layers that have a curve.

    Args:
        state: ``StudentForModeration.state_dict()`` as arrays; left as it is.
        curves: by the layer's index.
    """
    folded = dict(state)
    for index, curve in curves.items():
        wide, narrow = (f"bert.encoder.layer.{index}.{part}.dense" for part in ("intermediate", "output"))
        for name in (f"{wide}.weight", f"{wide}.bias"):
            folded[name] = (state[name] * SLOPE).astype(np.float32)
        weight = state[f"{narrow}.weight"]
        folded[f"{narrow}.weight"] = (weight * (curve.gain / SLOPE)).astype(np.float32)
        folded[f"{narrow}.bias"] = (state[f"{narrow}.bias"] + weight @ curve.shift).astype(np.float32)
    return folded


class _Sums:
    """What least squares needs of GELU's values and the approximation's, per neuron."""

    def __init__(self) -> None:
        self._tokens = 0
        self._exact = self._near = self._product = self._square = np.float64(0)

    def add(self, _module: torch.nn.Module, _inputs: object, values: torch.Tensor) -> None:
        """A forward hook: ``values`` are GELU's inputs, (1, T, M)."""
        x = values[0].double()
        exact, near = torch.nn.functional.gelu(x).numpy(), (x * torch.sigmoid(SLOPE * x)).numpy()
        self._tokens += len(x)
        self._exact = self._exact + exact.sum(axis=0)
        self._near = self._near + near.sum(axis=0)
        self._product = self._product + (exact * near).sum(axis=0)
        self._square = self._square + (near * near).sum(axis=0)

    def curve(self) -> Curve:
        exact, near = self._exact / self._tokens, self._near / self._tokens
        covariance = self._product / self._tokens - exact * near
        variance = self._square / self._tokens - near * near
        gain = (covariance + _NOTHING) / (variance + _NOTHING)
        return Curve(gain, exact - gain * near)
