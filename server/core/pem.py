"""Ed25519 keys in PEM, as openssl writes them."""

import base64
import binascii
import re
from pathlib import Path

from server.core.errors import ConfigurationError

KEY_BYTES = 32


def read_ed25519_keys(path: Path, *, label: str, prefix: bytes, what: str) -> list[bytes]:
    """The 32 bytes of each key in a file; empty if anything in it that bears the label is another kind of key.

    Args:
        label: what stands after BEGIN and END, such as ``PUBLIC KEY``.
        prefix: what stands before the key in its structure (RFC 8410).
        what: the file, for the message.

    Raises:
        ConfigurationError: it can't be read; the message holds nothing of it.
    """
    pem = re.compile(rb"-----BEGIN %b-----(.+?)-----END %b-----" % (label.encode(), label.encode()), re.DOTALL)
    try:
        keys = [base64.b64decode(b"".join(block.split()), validate=True) for block in pem.findall(path.read_bytes())]
    except OSError as error:
        raise ConfigurationError(f"{what} {path}: {error.strerror or error}") from None
    except binascii.Error:
        return []
    if not all(len(key) == len(prefix) + KEY_BYTES and key.startswith(prefix) for key in keys):
        return []
    return [key.removeprefix(prefix) for key in keys]
