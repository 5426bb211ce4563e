"""Signs a finished folder, an artefact or a teacher's, once every file in it is what its manifest says."""

import os
from pathlib import Path

from server.core.artifact import MANIFEST, SIGNATURE_SUFFIX, load_manifest
from server.core.errors import ConfigurationError
from server.core.pem import read_ed25519_keys
from server.core.teacher_manifest import TEACHER_MANIFEST, load_teacher_manifest

_ED25519_PREFIX = bytes.fromhex("302e020100300506032b657004220420")
"""What stands before the 32 bytes of an Ed25519 key in its PKCS #8 form (RFC 8410)."""


def sign_folder(folder: Path, *, seed: bytes) -> Path:
    """Verify a folder, and write the signature of its manifest beside it.

    Args:
        seed: the private key's 32 bytes, of :func:`read_private_key`.

    Returns:
        the signature's path; what was there is replaced.

    Raises:
        ConfigurationError: PyNaCl isn't installed, or the signature can't be written.
        ArtifactError: there is no manifest, or a file isn't what it says; nothing was signed.
    """
    try:
        from nacl.signing import SigningKey
    except ModuleNotFoundError:
        raise ConfigurationError("PyNaCl is not installed: install the extra signing") from None
    key, contents = SigningKey(seed), []
    if (folder / TEACHER_MANIFEST).is_file():
        name, load = TEACHER_MANIFEST, load_teacher_manifest
    else:
        name, load = MANIFEST, load_manifest
    load(folder, authenticate=lambda _path, content: contents.append(content))
    (content,) = contents
    signature = folder / (name + SIGNATURE_SUFFIX)
    scratch = signature.with_name(f".{signature.name}")
    try:
        scratch.write_bytes(key.sign(content).signature)
        os.replace(scratch, signature)
    except OSError as error:
        raise ConfigurationError(f"{signature}: {error.strerror or error}") from None
    return signature


def read_private_key(path: Path) -> bytes:
    """The 32 bytes of an Ed25519 key in PEM without a passphrase, as ``openssl genpkey -algorithm ed25519`` writes it.

    Raises:
        ConfigurationError: it can't be read, or is something else; the message holds nothing of it.
    """
    what = "private key"
    keys = read_ed25519_keys(path, label="PRIVATE KEY", prefix=_ED25519_PREFIX, what=what)
    if len(keys) != 1:
        raise ConfigurationError(f"{what} {path}: not one unencrypted Ed25519 private key in PEM")
    return keys[0]
