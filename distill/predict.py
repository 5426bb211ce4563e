"""Raw logits of a trained student over many texts, nearly as the server will: by windows, maximum over windows."""

from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from distill.calibrate import apply_calibration, calibrated_logits
from distill.json_file import read_json
from distill.student import check_student, load_student
from server.core.calibration import Calibration, calibration_from_json
from server.core.errors import ConfigurationError


def checkpoint_logits(checkpoint: Path, texts: list[str]) -> np.ndarray:
    """:func:`student_logits` of the student in a run folder.

    Raises:
        FileNotFoundError: there is no trained student.
    """
    max_tokens = read_json(checkpoint / "student.json")["max_tokens"]
    return student_logits(*load_student(checkpoint), texts, max_tokens=max_tokens)


def checkpoint_scores(checkpoint: Path, texts: list[str]) -> np.ndarray:
    """Calibrated scores float64 (N, C) of the student in a run folder; raises as :func:`checkpoint_calibrated_logits`."""
    calibration = _calibration(checkpoint)
    return apply_calibration(checkpoint_logits(checkpoint, texts), calibration)


def checkpoint_calibrated_logits(checkpoint: Path, texts: list[str]) -> np.ndarray:
    """Calibrated log-odds float64 (N, C) of the student in a run folder.

    Raises:
        ConfigurationError: there is no trained student, or it isn't calibrated.
    """
    calibration = _calibration(checkpoint)
    return calibrated_logits(checkpoint_logits(checkpoint, texts), calibration)


def _calibration(checkpoint: Path) -> Calibration:
    check_student(checkpoint)
    path = checkpoint / "calibration.json"
    if not path.exists():
        raise ConfigurationError(f"{checkpoint} is not calibrated yet: run calibrate first")
    return calibration_from_json(read_json(path))


def student_logits(model, tokenizer, texts: list[str], *, max_tokens: int, batch_size: int = 64) -> np.ndarray:
    """float32 (N, C). A text over ``max_tokens`` is cut into windows that overlap by 32 tokens: nearly those of the server,
    which cuts at words and reads unknown ones in parts (``export`` has exactly those)."""
    encoded = tokenizer(texts, truncation=True, max_length=max_tokens, stride=32, return_overflowing_tokens=True)
    owners = encoded["overflow_to_sample_mapping"]
    windows = encoded["input_ids"]
    logits = np.full((len(texts), model.config.num_labels), -np.inf, dtype=np.float32)
    order = sorted(range(len(windows)), key=lambda i: len(windows[i]))
    model.eval()
    for start in tqdm(range(0, len(order), batch_size), desc="student", unit="batch", disable=len(order) < 1000):
        part = order[start : start + batch_size]
        padded = tokenizer.pad({"input_ids": [windows[i] for i in part]}, return_tensors="pt")
        with torch.inference_mode():
            out = model(input_ids=padded["input_ids"], attention_mask=padded["attention_mask"]).logits.numpy()
        np.maximum.at(logits, [owners[i] for i in part], out)
    return logits
