"""The artefact: the one folder that the offline river hands to the online one, and the manifest that vouches for it.

    model.onnx  tokenizer.json  MODEL_CARD.md  manifest.json

``manifest.json`` holds the SHA-256 of each other file, what the model's columns mean, how its logits become scores, how
long a window may be, which prompt and policy its teacher was asked with, how good it was measured to be, and how its scores
were spread. ``export`` writes it; ``server`` verifies everything before it serves.
"""

import hashlib
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from types import NoneType
from typing import Any, Literal, get_args

from server.core.calibration import Calibration, calibration_from_json, calibration_to_json
from server.core.errors import ArtifactError, ConfigurationError
from server.core.histograms import ScoreHistograms, histograms_from_json
from server.core.taxonomy import CATEGORIES

SCHEMA = 1
MANIFEST = "manifest.json"
MODEL = "model.onnx"
TOKENIZER = "tokenizer.json"
MODEL_CARD = "MODEL_CARD.md"
FILES = (MODEL, TOKENIZER, MODEL_CARD)
SIGNATURE_SUFFIX = ".sig"
"""Added to a manifest's name: the Ed25519 signature of the manifest's bytes, 64 bytes, where there is one."""

Precision = Literal["int8", "fp16", "fp32"]
Authenticate = Callable[[Path, bytes], None]
"""Given a manifest's path and the bytes that were read there; raises ArtifactError unless they are signed by one who may."""


_KINDS: tuple[tuple[str, tuple[type, ...], tuple[str, ...]], ...] = (
    ("a string", (str,), ("version", "precision", "policy_hash")),
    ("a string or null", (str, NoneType), ("prompt_hash",)),
    ("a whole number", (int,), ("max_tokens", "schema")),
    ("a list", (list,), ("categories",)),
    ("a table", (dict,), ("calibration", "files", "metrics", "provenance", "reference")),
)
"""What each field of a manifest is in JSON."""


@dataclass(frozen=True, slots=True)
class Manifest:
    """What an artefact says of itself.

    Attributes:
        version: a name for people, such as ``2026.11.22``; two artefacts differ when their ``hash`` does.
        precision: ``int8`` for CPUs, ``fp16`` for GPUs, ``fp32`` for reference.
        categories: the meaning of each logit column, in order.
        max_tokens: the longest window that the model was trained and proven on, special tokens included.
        calibration: raw logit → score, per category, fitted on the logits of this very file.
        prompt_hash: the guard prompt that the teacher's signals were made with; None if none were used.
        policy_hash: the policy whose thresholds the metrics were measured at.
        files: SHA-256 (hex) of each file beside the manifest.
        metrics: what was measured, on which split, by the command in ``provenance``.
        provenance: base model, teacher, data, settings, commands and package versions.
        reference: how this artefact's scores are spread over the labelled texts that it was measured on; None in a manifest
            from before there was such a thing, or without labelled texts.
    """

    version: str
    precision: Precision
    categories: tuple[str, ...]
    max_tokens: int
    calibration: Calibration
    prompt_hash: str | None
    policy_hash: str
    files: dict[str, str]
    metrics: dict[str, Any]
    provenance: dict[str, Any]
    schema: int = SCHEMA
    reference: ScoreHistograms | None = None

    @property
    def hash(self) -> str:
        """SHA-256 over the whole manifest, and through ``files`` over the whole artefact."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()

    def to_json(self) -> str:
        record = asdict(self) | {"calibration": calibration_to_json(self.calibration)}
        del record["reference"]  # absent where there is none, so that an older manifest keeps its hash
        if self.reference is not None:
            record["reference"] = self.reference.to_json()
        return json.dumps(record, indent=2, sort_keys=True) + "\n"


def file_sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def write_manifest(folder: Path, manifest: Manifest) -> None:
    (folder / MANIFEST).write_text(manifest.to_json(), encoding="utf-8")


def load_manifest(folder: Path, *, authenticate: Authenticate | None = None) -> Manifest:
    """Read and verify an artefact: every file present, every hash right, and made for this code.

    Args:
        authenticate: asked before anything in the manifest is believed; None believes an unsigned one.

    Raises:
        ArtifactError: one line that names the file and what is wrong with it.
    """
    manifest = _parse(folder, authenticate)
    if manifest.schema != SCHEMA:
        raise ArtifactError(f"artifact {folder}: manifest schema {manifest.schema}, this server reads {SCHEMA}")
    if manifest.categories != CATEGORIES:
        raise ArtifactError(f"artifact {folder}: categories {list(manifest.categories)} are not {list(CATEGORIES)}")
    verify_files(folder, FILES, manifest.files, kind="artifact")
    return manifest


def read_json(folder: Path, name: str, *, kind: str, authenticate: Authenticate | None = None) -> Any:
    """A manifest's JSON, of whatever shape.

    Args:
        kind: what the folder is, for the message: ``artifact`` or ``teacher``.
        authenticate: asked about the very bytes that are then read.

    Raises:
        ArtifactError: it can't be read, isn't authentic, or isn't JSON.
    """
    try:
        content = (folder / name).read_bytes()
        if authenticate is not None:
            authenticate(folder / name, content)
        return json.loads(content)
    except OSError as error:
        raise ArtifactError(f"{kind} {folder}: {name}: {error.strerror or error}") from None
    except ValueError as error:
        raise ArtifactError(f"{kind} {folder}: {name} is not JSON: {error}") from None
    except RecursionError:
        raise ArtifactError(f"{kind} {folder}: {name} is nested too deep") from None


def verify_files(folder: Path, names: tuple[str, ...], hashes: dict[str, str], *, kind: str) -> None:
    """Every named file is vouched for, present, and has the SHA-256 that the manifest says.

    Raises:
        ArtifactError: one line that names the first file that isn't so.
    """
    for name in names:
        path = folder / name
        if name not in hashes:
            raise ArtifactError(f"{kind} {folder}: the manifest doesn't vouch for {name}")
        if not path.is_file():
            raise ArtifactError(f"{kind} {folder}: {name} is missing")
        actual, expected = file_sha256(path), str(hashes[name])
        if actual != expected:
            raise ArtifactError(f"{kind} {folder}: {name} is corrupt (sha256 {actual[:12]}…, manifest says {expected[:12]}…)")


def _parse(folder: Path, authenticate: Authenticate | None) -> Manifest:
    record = read_json(folder, MANIFEST, kind="artifact", authenticate=authenticate)
    malformed = f"artifact {folder}: {MANIFEST} is malformed"
    _check_kinds(record, malformed)
    try:
        record["categories"] = tuple(record["categories"])
        record["calibration"] = calibration_from_json(record["calibration"])
        if "reference" in record:
            record["reference"] = histograms_from_json(record["reference"])
        manifest = Manifest(**record)
        manifest.to_json()  # its hash is taken of that
    except RecursionError:
        raise ArtifactError(f"{malformed}: nested too deep") from None
    except (KeyError, TypeError, AttributeError, OverflowError, ConfigurationError) as error:
        raise ArtifactError(f"{malformed}: {error}") from None
    if not manifest.version.isprintable():
        raise ArtifactError(f"{malformed}: version is not a line of text")
    if manifest.precision not in get_args(Precision):
        raise ArtifactError(f"artifact {folder}: precision {manifest.precision!r} is unknown")
    if manifest.max_tokens < 8:
        raise ArtifactError(f"artifact {folder}: max_tokens {manifest.max_tokens} is below 8")
    return manifest


def _check_kinds(record: Any, malformed: str) -> None:
    if not isinstance(record, dict):
        raise ArtifactError(f"{malformed}: not a table")
    for kind, types, names in _KINDS:
        for name in names:
            if name in record and type(record[name]) not in types:
                raise ArtifactError(f"{malformed}: {name} is not {kind}")
