"""Whose artefact it is: the Ed25519 signature beside a manifest, held against the public keys that the operator trusts.

The signature is over the manifest's bytes, and so through its hashes over every file of the folder. ``python -m export sign``
writes it; so does ``openssl pkeyutl -sign -rawin``. It says who signed, not when: an older artefact stays signed.
"""

from pathlib import Path

from server.core.artifact import SIGNATURE_SUFFIX, Authenticate
from server.core.errors import ArtifactError, ConfigurationError
from server.core.pem import read_ed25519_keys

_ED25519_PREFIX = bytes.fromhex("302a300506032b6570032100")
"""What stands before the 32 bytes of an Ed25519 key in its SubjectPublicKeyInfo (RFC 8410)."""


def load_authenticate(path: Path | None) -> Authenticate | None:
    """What artefacts are asked for: nothing if ``path`` is None, else a signature by a key in that file.

    Args:
        path: public keys in PEM, as ``openssl pkey -pubout`` writes them, one after the other; any of them will do, so that
            a key can be replaced.

    Raises:
        ConfigurationError: the file can't be read or holds something else, or the extra ``signing`` isn't installed.
    """
    if path is None:
        return None
    try:
        from nacl.exceptions import BadSignatureError  # noqa: PLC0415 (an extra: signing)
        from nacl.signing import VerifyKey  # noqa: PLC0415
    except ModuleNotFoundError:
        raise ConfigurationError("PyNaCl is not installed: install the extra signing") from None
    keys = [VerifyKey(key) for key in _read_keys(path)]

    def is_signed(content: bytes, signature: bytes) -> bool:
        for key in keys:
            try:
                key.verify(content, signature)
            except (BadSignatureError, ValueError):  # ValueError: not 64 bytes
                continue
            return True
        return False

    def authenticate(manifest: Path, content: bytes) -> None:
        file = manifest.with_name(manifest.name + SIGNATURE_SUFFIX)
        try:
            signature = file.read_bytes()
        except FileNotFoundError:
            raise ArtifactError(f"artifact {manifest.parent}: not signed: {file.name} is missing") from None
        except OSError as error:
            raise ArtifactError(f"artifact {manifest.parent}: {file.name}: {error.strerror or error}") from None
        if not is_signed(content, signature):
            raise ArtifactError(
                f"artifact {manifest.parent}: {file.name} is not a signature of {manifest.name} by a key in {path}"
            )

    return authenticate


def _read_keys(path: Path) -> list[bytes]:
    """The 32 bytes of each key in a PEM file."""
    what = "public key file"
    keys = read_ed25519_keys(path, label="PUBLIC KEY", prefix=_ED25519_PREFIX, what=what)
    if not keys:
        raise ConfigurationError(f"{what} {path}: not one or more Ed25519 public keys in PEM")
    return keys
