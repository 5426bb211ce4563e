"""What stands for a text where texts may not be kept: a keyed hash, by which equal texts can be told without being known."""

import hashlib
import hmac
from pathlib import Path

from server.core.canonical import canonicalise
from server.core.errors import ConfigurationError

MIN_KEY_BYTES = 32


def text_key(key: bytes, text: str) -> str:
    """Hex HMAC-SHA256 of the canonical text: equal for texts that read alike, and nothing to guess from without ``key``."""
    return hmac.new(key, canonicalise(text).text.encode(), hashlib.sha256).hexdigest()


def read_hash_key(path: Path) -> bytes:
    """The key for :func:`text_key`: the file's bytes, white space around them left out.

    Raises:
        ConfigurationError: fewer than 32 bytes.
        OSError: it can't be read.
    """
    key = path.read_bytes().strip()
    if len(key) < MIN_KEY_BYTES:
        raise ConfigurationError(f"hash key file {path}: holds {len(key)} bytes; at least {MIN_KEY_BYTES} are needed")
    return key
