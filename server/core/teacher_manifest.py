"""The teacher's folder: a LoRA adapter in two formats, and the file that vouches for it.

    adapter.gguf         what llama.cpp serves
    adapter.safetensors  what the offline river loads: PEFT's names, its configuration as the metadata ``peft_config``
    teacher.json         which base it belongs to, which prompt it was tuned on, margin → score, how good it is

``distill`` writes and reads it, ``server`` verifies it before it starts the child.
"""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from server.core.artifact import Authenticate, file_sha256, read_json, verify_files
from server.core.calibration import Calibration, calibration_from_json, calibration_to_json
from server.core.errors import ArtifactError, ConfigurationError
from server.core.policy import Policy
from server.core.prompt import PromptForm, prompt_form

SCHEMA = 2
TEACHER_MANIFEST = "teacher.json"
ADAPTER_GGUF = "adapter.gguf"
ADAPTER_SAFETENSORS = "adapter.safetensors"
FILES = (ADAPTER_GGUF, ADAPTER_SAFETENSORS)

DEFAULT_TEACHER_FOLDER = Path(__file__).resolve().parent.parent / "artifacts" / "teacher"


@dataclass(frozen=True, slots=True)
class TeacherManifest:
    """What a teacher says of itself.

    Attributes:
        name: for people, metrics and the student's provenance.
        base: the base model's name.
        base_sha256: of the base's GGUF as it was packaged, before it is rewritten for serving.
        prompt: the form that it is asked in, one of ``server.core.prompt.PROMPT_FORMS``.
        prompt_hash: that form's hash of the policy that the adapter was tuned on.
        calibration: margin → score, per category.
        metrics: what was measured, on which split.
        files: SHA-256 (hex) of each file beside the manifest.
    """

    name: str
    base: str
    base_sha256: str
    prompt: str
    prompt_hash: str
    calibration: Calibration
    metrics: dict[str, Any]
    files: dict[str, str]
    schema: int = SCHEMA

    @property
    def form(self) -> PromptForm:
        """How to ask it."""
        return prompt_form(self.prompt)

    def is_tuned_on(self, policy: Policy) -> bool:
        """Whether the adapter was tuned on what this policy shows it. If not it still answers, less well than measured."""
        return self.form.hash(policy) == self.prompt_hash

    def to_json(self) -> str:
        record = asdict(self) | {"calibration": calibration_to_json(self.calibration)}
        return json.dumps(record, indent=2, sort_keys=True) + "\n"


def write_teacher_manifest(
    folder: Path,
    *,
    name: str,
    base: str,
    base_sha256: str,
    form: PromptForm,
    policy: Policy,
    calibration: Calibration,
    metrics: dict[str, Any],
) -> TeacherManifest:
    """Write ``teacher.json`` beside the two adapter files, which must be there already."""
    manifest = TeacherManifest(
        name=name,
        base=base,
        base_sha256=base_sha256,
        prompt=form.name,
        prompt_hash=form.hash(policy),
        calibration=calibration,
        metrics=metrics,
        files={file: file_sha256(folder / file) for file in FILES},
    )
    (folder / TEACHER_MANIFEST).write_text(manifest.to_json(), encoding="utf-8")
    return manifest


def load_teacher_manifest(folder: Path, *, authenticate: Authenticate | None = None) -> TeacherManifest:
    """Read and verify a teacher's folder: every file present and every hash right.

    Args:
        authenticate: asked before anything in the manifest is believed; None believes an unsigned one.

    Raises:
        ArtifactError: one line that names the file and what is wrong with it.
    """
    manifest = _parse(folder, authenticate)
    verify_files(folder, FILES, manifest.files, kind="teacher")
    return manifest


def _parse(folder: Path, authenticate: Authenticate | None) -> TeacherManifest:
    record = read_json(folder, TEACHER_MANIFEST, kind="teacher", authenticate=authenticate)
    try:
        record["calibration"] = calibration_from_json(record["calibration"])
        manifest = TeacherManifest(**record)
        prompt_form(manifest.prompt)
    except (KeyError, TypeError, AttributeError, ConfigurationError) as error:
        raise ArtifactError(f"teacher {folder}: {TEACHER_MANIFEST} is malformed: {error}") from None
    texts = (manifest.name, manifest.base, manifest.base_sha256, manifest.prompt, manifest.prompt_hash)
    if not all(isinstance(text, str) for text in texts) or not isinstance(manifest.files, dict):
        raise ArtifactError(f"teacher {folder}: {TEACHER_MANIFEST} is malformed: a name, a hash or the files' list")
    if manifest.schema != SCHEMA:
        raise ArtifactError(f"teacher {folder}: {TEACHER_MANIFEST} has schema {manifest.schema}, this server reads {SCHEMA}")
    return manifest
