"""A tuned teacher on disk: the run folder that ``tune-teacher`` writes and every later verb reads.

tune.json         settings, the base and the prompt's form among them
adapter/          PEFT's folder; absent for a base that judges as it comes (google/shieldgemma-2b)
calibration.json  Platt per category, once calibrated
"""

import hashlib
import json
from pathlib import Path
from typing import Any

import torch

from distill.signals import SignalStore
from distill.teacher.model import Judge, load_base
from server.core.calibration import Calibration, calibration_from_json
from server.core.policy import Policy
from server.core.prompt import GUIDELINE, PromptForm, prompt_form

BASE_CALIBRATIONS = Path("runs/calibrations")


def load_judge(teacher: str, *, dtype: torch.dtype = torch.bfloat16) -> Judge:
    """A judge from a run folder, or from a base's name when there is no such folder."""
    tuned = _tuned(teacher)
    if tuned is None:
        return Judge(*load_base(teacher, dtype=dtype))
    from peft import PeftModel

    model, tokenizer = load_base(tuned["base"], dtype=dtype)
    # Merged in float32 and rounded once: the adapter costs nothing at judging time.
    model = PeftModel.from_pretrained(model.float(), Path(teacher) / "adapter").merge_and_unload().to(dtype)
    return Judge(model.eval(), tokenizer)


def teacher_form(teacher: str) -> PromptForm:
    """How this teacher is asked: as it was tuned, or with ShieldGemma's template for a base that judges as it comes."""
    tuned = _tuned(teacher)
    return GUIDELINE if tuned is None else prompt_form(tuned["prompt"])


def teacher_id(teacher: str) -> str:
    """What keys this teacher's signals: the base's name, and the hash of the adapter where there is one."""
    tuned = _tuned(teacher)
    if tuned is None:
        return teacher
    adapter = hashlib.sha256((Path(teacher) / "adapter" / "adapter_model.safetensors").read_bytes()).hexdigest()
    return f"{tuned['base']}+{adapter[:16]}"


def signal_store(root: Path, teacher: str, policy: Policy, *, hidden_size: int | None = None) -> SignalStore:
    """What this teacher said under this policy; ``hidden_size`` as in :class:`distill.signals.SignalStore`."""
    form = teacher_form(teacher)
    return SignalStore(root, teacher=teacher_id(teacher), prompt_hash=form.hash(policy), hidden_size=hidden_size)


def calibration_path(teacher: str) -> Path:
    """Where this teacher's calibration is kept: in its run folder, or for a bare base under :data:`BASE_CALIBRATIONS`.

    Never at a path that equals a hub id, which transformers would take for the model.
    """
    if _tuned(teacher) is not None:
        return Path(teacher) / "calibration.json"
    return BASE_CALIBRATIONS / f"{teacher.strip('/').replace('/', '--')}.json"


def load_calibration(teacher: str) -> Calibration | None:
    """The teacher's calibration, or None where it has none yet."""
    path = calibration_path(teacher)
    return calibration_from_json(json.loads(path.read_text())) if path.exists() else None


def _tuned(teacher: str) -> dict[str, Any] | None:
    """What ``tune.json`` holds; None for a base that was not tuned here."""
    path = Path(teacher) / "tune.json"
    return json.loads(path.read_text()) if path.exists() else None
