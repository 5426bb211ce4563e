"""What a student's artefact says of labelled texts, in one ``.npz`` file: the evidence that a cascade is chosen on.

``python -m export score`` writes it, since only that room may run the artefact. It holds no text: a text is known by its
digest, the same that keys the teacher's signals.
"""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from server.core.calibration import Calibration, calibration_from_json, calibration_to_json
from server.core.errors import ConfigurationError
from server.core.taxonomy import CATEGORIES

_ARRAYS = ("logits", "labels", "fit_labels", "digests", "rows", "tokens", "is_disguised")


@dataclass(frozen=True, slots=True)
class ScoredTexts:
    """N texts of one split.

    Attributes:
        logits: float32 (N, C), raw, the maximum over a text's windows and views: what the server calibrates.
        labels: float32 (N, C) with 1, 0 or NaN (unknown), as people gave them; figures are measured on these.
        fit_labels: the same with ordinary chat read as harmless; thresholds are fitted on these.
        digests: uint8 (N, 32), :func:`distill.signals.text_digest` of each text.
        rows: int64 (N,), the text's place in its split.
        tokens: int64 (N,), how long the text is.
        is_disguised: bool (N,), whether its canonical view differs from what was sent, or there is a de-obfuscated one.
        calibration: the artefact's, fitted on dev's logits of the canonical view alone. ``logits`` are those, but of the few
            texts that have a de-obfuscated view, too, where they are the maximum of both.
        artifact_hash: the hash of the artefact's manifest.
        split: ``dev``, ``test`` or ``train``.
    """

    logits: np.ndarray
    labels: np.ndarray
    fit_labels: np.ndarray
    digests: np.ndarray
    rows: np.ndarray
    tokens: np.ndarray
    is_disguised: np.ndarray
    calibration: Calibration
    artifact_hash: str
    split: str

    def __len__(self) -> int:
        return len(self.logits)


def save_scores(path: Path, scored: ScoredTexts) -> None:
    meta = {
        "categories": CATEGORIES,
        "calibration": calibration_to_json(scored.calibration),
        "artifact_hash": scored.artifact_hash,
        "split": scored.split,
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as stream:
        np.savez_compressed(stream, meta=np.array(json.dumps(meta)), **{name: getattr(scored, name) for name in _ARRAYS})


def load_scores(path: Path) -> ScoredTexts:
    """The inverse.

    Raises:
        FileNotFoundError: there is no such file.
        ConfigurationError: it is no score file, or was made for other categories.
    """
    with path.open("rb") as stream:
        try:
            with np.load(stream, allow_pickle=False) as found:
                arrays = {name: found[name] for name in _ARRAYS}
                meta = json.loads(str(found["meta"]))
        except (OSError, ValueError, KeyError, EOFError, AttributeError, TypeError) as error:
            raise ConfigurationError(f"{path} is no score file of `python -m export score`: {error}") from None
    if tuple(meta["categories"]) != CATEGORIES:
        raise ConfigurationError(f"{path} was made for the categories {meta['categories']}, not {list(CATEGORIES)}")
    calibration = calibration_from_json(meta["calibration"])
    return ScoredTexts(**arrays, calibration=calibration, artifact_hash=meta["artifact_hash"], split=meta["split"])
