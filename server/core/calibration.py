"""From a raw logit or margin to a score: Platt scaling, one pair of numbers per category.

score = sigmoid(scale · raw + shift). Source: Platt (1999); per category, as quality figures differ by category.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from server.core.errors import ConfigurationError
from server.core.taxonomy import CATEGORIES, Category


@dataclass(frozen=True, slots=True)
class Platt:
    """One category's calibration. ``scale`` is above 0, so that calibrating never changes a ranking."""

    scale: float = 1.0
    shift: float = 0.0

    def __post_init__(self) -> None:
        if not (math.isfinite(self.scale) and math.isfinite(self.shift) and self.scale > 0):
            raise ConfigurationError(f"calibration must be finite with scale > 0, not scale={self.scale} shift={self.shift}")

    def score(self, raw: float) -> float:
        """The probability in [0, 1] for a finite raw value; large magnitudes saturate instead of overflowing."""
        z = self.scale * raw + self.shift
        if z >= 0:
            return 1.0 / (1.0 + math.exp(-z))
        odds = math.exp(max(z, -700.0))
        return odds / (1.0 + odds)


Calibration = dict[Category, Platt]
IDENTITY: Calibration = {category: Platt() for category in CATEGORIES}


def calibration_to_json(calibration: Calibration) -> dict[str, dict[str, float]]:
    return {category: {"scale": calibration[category].scale, "shift": calibration[category].shift} for category in CATEGORIES}


def calibration_from_json(value: Mapping[str, Any]) -> Calibration:
    """The inverse.

    Raises:
        ConfigurationError: a category is missing or unknown, or a number is missing, not finite, or out of range.
    """
    if set(value) != set(CATEGORIES):
        raise ConfigurationError(f"calibration lists {sorted(value)}, not the categories {list(CATEGORIES)}")
    try:
        return {c: Platt(float(value[c]["scale"]), float(value[c]["shift"])) for c in CATEGORIES}
    except (KeyError, TypeError, ValueError) as error:
        raise ConfigurationError(f"calibration is malformed: {error!r}") from None
