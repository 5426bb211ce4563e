"""Keys and folders for tests of signatures. Keys come from openssl: what it writes is what operators have."""

import subprocess
from pathlib import Path

from server.core.artifact import FILES, Manifest, file_sha256, write_manifest
from server.core.calibration import IDENTITY
from server.core.taxonomy import CATEGORIES


def make_keys(folder: Path, name: str = "release") -> tuple[Path, Path]:
    """An Ed25519 pair in PEM: (private, public)."""
    private, public = folder / f"{name}.pem", folder / f"{name}.pub"
    openssl("genpkey", "-algorithm", "ed25519", "-out", private)
    openssl("pkey", "-in", private, "-pubout", "-out", public)
    return private, public


def openssl(*words: str | Path) -> None:
    subprocess.run(["openssl", *map(str, words)], check=True, capture_output=True)


def make_artifact(folder: Path) -> Path:
    """A folder that passes for an artefact, as long as nobody opens its model."""
    folder.mkdir()
    for name in FILES:
        (folder / name).write_bytes(name.encode())
    write_manifest(
        folder,
        Manifest(
            version="test",
            precision="int8",
            categories=CATEGORIES,
            max_tokens=256,
            calibration=IDENTITY,
            prompt_hash=None,
            policy_hash="p",
            files={name: file_sha256(folder / name) for name in FILES},
            metrics={},
            provenance={},
        ),
    )
    return folder
