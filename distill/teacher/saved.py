"""A teacher on disk, as ``--teacher`` names it.

a run folder     what ``tune-teacher`` writes: ``tune.json`` (settings, the base and the prompt's form among them),
                 ``adapter/`` (PEFT's folder), and ``calibration.json`` once calibrated
a packed folder  what ``pack-teacher`` makes of it and the server ships: :mod:`server.core.teacher_manifest`
anything else    a base that judges as it comes (google/shieldgemma-2b): :func:`distill.teacher.model.load_base`
"""

import hashlib
from pathlib import Path
from typing import Any

import torch

from distill.json_file import read_json
from distill.signals import SignalStore
from distill.teacher.model import Judge, gguf_of, load_base
from server.core.artifact import file_sha256
from server.core.calibration import Calibration, calibration_from_json
from server.core.errors import ArtifactError, ConfigurationError
from server.core.policy import Policy
from server.core.prompt import GUIDELINE, PromptForm, prompt_form
from server.core.teacher_manifest import ADAPTER_SAFETENSORS, TEACHER_MANIFEST, TeacherManifest, load_teacher_manifest

BASE_CALIBRATIONS = Path("runs/calibrations")


def load_judge(teacher: str, *, dtype: torch.dtype = torch.bfloat16) -> Judge:
    """The teacher as a judge.

    A packed one is the judge that it was packed from: only adapter values under 2⁻¹⁷, of which FP16 keeps less than
    bfloat16, are rounded, by 2⁻²⁵ at most.

    Raises:
        ArtifactError: a packed folder isn't what its manifest vouches for, or its base is another here.
    """
    from distill.teacher.adapter import merge, read_packed_file, read_peft_folder

    if (packed := _packed(teacher)) is not None:
        _check_base(teacher, packed)
        base, adapter = packed.base, read_packed_file(Path(teacher) / ADAPTER_SAFETENSORS)
    elif (tuned := _tuned(teacher)) is not None:
        base, adapter = tuned["base"], read_peft_folder(Path(teacher) / "adapter")
    else:
        return Judge(*load_base(teacher, dtype=dtype))
    model, tokenizer = load_base(base, dtype=dtype)
    return Judge(merge(model, adapter), tokenizer)


def teacher_form(teacher: str) -> PromptForm:
    """How this teacher is asked: as it was tuned, or with ShieldGemma's template for a base that judges as it comes."""
    if (packed := _packed(teacher)) is not None:
        return packed.form
    tuned = _tuned(teacher)
    return GUIDELINE if tuned is None else prompt_form(tuned["prompt"])


def teacher_id(teacher: str) -> str:
    """What keys this teacher's signals: the base's name, and the hash of the adapter where there is one. A packed teacher has
    the id of the run that it was packed from, for it says the same."""
    if (packed := _packed(teacher)) is not None:
        return packed.name
    tuned = _tuned(teacher)
    if tuned is None:
        return teacher
    adapter = hashlib.sha256((Path(teacher) / "adapter" / "adapter_model.safetensors").read_bytes()).hexdigest()
    return f"{tuned['base']}+{adapter[:16]}"


def signal_store(
    root: Path, teacher: str, policy: Policy, *, hidden_size: int | None = None, max_text_tokens: int | None = None
) -> SignalStore:
    """What this teacher said under this policy; the sizes are :class:`distill.signals.SignalStore`'s."""
    return SignalStore(
        root,
        teacher=teacher_id(teacher),
        prompt_hash=teacher_form(teacher).hash(policy),
        hidden_size=hidden_size,
        max_text_tokens=max_text_tokens,
    )


def calibration_path(teacher: str) -> Path:
    """Where a calibration of this teacher is written: in its run folder, or for a bare base under :data:`BASE_CALIBRATIONS`.

    Never at a path that equals a hub id, which transformers would take for the model.

    Raises:
        ConfigurationError: it is packed, with its calibration in the manifest.
    """
    if _packed(teacher) is not None:
        raise ConfigurationError(f"{teacher} is packed with its calibration: calibrate the run folder, and pack that again")
    if _tuned(teacher) is not None:
        return Path(teacher) / "calibration.json"
    return BASE_CALIBRATIONS / f"{teacher.strip('/').replace('/', '--')}.json"


def load_calibration(teacher: str) -> Calibration | None:
    """The teacher's calibration, or None where it has none yet."""
    if (packed := _packed(teacher)) is not None:
        return packed.calibration
    path = calibration_path(teacher)
    return calibration_from_json(read_json(path)) if path.exists() else None


def _tuned(teacher: str) -> dict[str, Any] | None:
    """What ``tune.json`` holds; None for what isn't a run folder."""
    path = Path(teacher) / "tune.json"
    return read_json(path) if path.exists() else None


def _packed(teacher: str) -> TeacherManifest | None:
    """The verified manifest; None for what isn't a packed folder."""
    return load_teacher_manifest(Path(teacher)) if (Path(teacher) / TEACHER_MANIFEST).exists() else None


def _check_base(teacher: str, packed: TeacherManifest) -> None:
    base = gguf_of(packed.base)
    if base is None or not base.is_file():
        raise ArtifactError(f"teacher {teacher}: its base {packed.base} is not a GGUF file here")
    if (actual := file_sha256(base)) != packed.base_sha256:
        hashes = f"sha256 {actual[:12]}…, manifest says {packed.base_sha256[:12]}…"
        raise ArtifactError(f"teacher {teacher}: its base {packed.base} is another here ({hashes})")
