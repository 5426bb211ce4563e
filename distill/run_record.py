"""What a run is made with, kept in its folder: a run that goes on, or is repeated, must be made with the same."""

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np

from distill.data import LabelledTexts
from distill.json_file import read_json
from distill.signals import text_digest
from server.core.errors import ConfigurationError


def hold_to(path: Path, record: dict[str, Any], *, has_begun: bool) -> None:
    """Write what a run is begun with, or compare it with what one that has begun was.

    Args:
        path: where the record is kept, in the run's folder.
        record: JSON values by the names that a user is told.
        has_begun: the folder holds something to go on from, or a finished run.

    Raises:
        ConfigurationError: the run there was made with something else, or isn't known to have been made with this.
    """
    if not has_begun:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(record, indent=2) + "\n")
        return
    if not path.exists():
        raise ConfigurationError(
            f"{path.parent} holds a run without {path.name}, which says what it was made with: use another --out"
        )
    found = read_json(path)
    changed = [name for name in record if name not in found or found[name] != record[name]]
    if changed:
        raise ConfigurationError(f"{path.parent} holds a run that was made with other {', '.join(changed)}: use another --out")


def json_digest(value: Any) -> str:
    """SHA-256 of a JSON value, however its keys are ordered."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def rows_digest(rows: LabelledTexts, said: np.ndarray | None = None) -> str:
    """SHA-256 of the texts, their roles, sources and labels, in their order, and of where ``said`` (N, C) is known.

    What is said itself stays out: a model's word differs in its last bits from one machine to another. What the words are
    calibrated with is on record by :func:`json_digest`.
    """
    digest = hashlib.sha256()
    for text, role, source in zip(rows.texts, rows.roles, rows.datasets, strict=True):
        digest.update(text_digest(text, role) + text_digest(str(source), ""))
    digest.update(rows.labels.tobytes())
    if said is not None:
        digest.update(np.isnan(said).tobytes())
    return digest.hexdigest()
