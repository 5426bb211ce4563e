"""The teacher's hidden states as a fixed regression target.

The target must be a fixed function of the teacher: with a trainable projection on the teacher's side, both sides can
shrink to zero and the loss with them. So the states of all categories are joined, standardised and projected on their
leading principal components with statistics that are fitted once and frozen, each component scaled to unit variance
(whitened): raw residual streams have a few huge dimensions that would otherwise be all the loss sees.
"""

from dataclasses import dataclass

import numpy as np
from sklearn.decomposition import PCA


@dataclass(frozen=True, slots=True)
class Whitener:
    """Frozen statistics: ``mean`` and ``std`` float32 (D,), ``components`` float32 (K, D), whitened."""

    mean: np.ndarray
    std: np.ndarray
    components: np.ndarray

    @classmethod
    def fit(cls, hidden: np.ndarray, *, dimensions: int, seed: int = 0) -> "Whitener":
        """Fit on hidden (N, C, H); K is ``dimensions``, or N − 1 or D where those are smaller."""
        flat = hidden.reshape(len(hidden), -1).astype(np.float32)
        mean, std = flat.mean(0), flat.std(0) + 1e-6
        size = min(dimensions, len(flat) - 1, flat.shape[1])
        pca = PCA(n_components=size, svd_solver="randomized", random_state=seed).fit((flat - mean) / std)
        scale = np.sqrt(np.maximum(pca.explained_variance_, 1e-8))[:, None]
        return cls(mean, std, (pca.components_ / scale).astype(np.float32))

    def __call__(self, hidden: np.ndarray) -> np.ndarray:
        """Targets float32 (N, K) for hidden (N, C, H)."""
        flat = hidden.reshape(len(hidden), -1).astype(np.float32)
        return ((flat - self.mean) / self.std) @ self.components.T
