"""Who may ask, and how often: API keys, each known by its SHA-256 alone, each with a rate of its own.

The keys file is TOML, one table a key, named as the logs should call it::

    [frontend]
    sha256 = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"   # printf %s "$KEY" | sha256sum
    requests_per_s = 50     # left out: no limit
    burst = 100             # requests that may come at once; left out: one second's worth

A client sends ``Authorization: Bearer <key>``. The file is read once, at start.
"""

import hashlib
import hmac
import math
import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import msgspec

from server.core.errors import ConfigurationError
from server.core.token_bucket import TokenBucket
from server.doors.errors import RateLimited, Unauthorized
from server.doors.wire import Explainer

_NAME = re.compile(r"[A-Za-z0-9_.-]{1,64}")
_PLACE = re.compile(r"\(at (line \d+, column \d+|end of document)\)$")
_INDEX_BYTES = 8
_EMPTY = hashlib.sha256(b"").digest()
_HINTS = {
    "sha256": "must be 64 hexadecimal digits",
    "requests_per_s": "must be from 0.00001 (about one a day) to 1,000,000",
    "burst": "must be from 1 to 1,000,000",
}


class KeyEntry(msgspec.Struct, forbid_unknown_fields=True):
    """One table of the keys file."""

    sha256: Annotated[str, msgspec.Meta(pattern="^[0-9a-fA-F]{64}$")]
    requests_per_s: Annotated[float, msgspec.Meta(ge=1e-5, le=1e6)] | None = None
    burst: Annotated[int, msgspec.Meta(ge=1, le=1_000_000)] | None = None


@dataclass(frozen=True, slots=True)
class Key:
    """``digest`` is the key's SHA-256; ``bucket`` is None for a key without a limit."""

    name: str
    digest: bytes
    bucket: TokenBucket | None


class KeyRing:
    """The keys that are known, of which none is empty. Used on the event loop only."""

    def __init__(self, keys: Iterable[Key]) -> None:
        """Raises ConfigurationError when two names share a key, or a key is the hash of nothing."""
        self._keys: dict[bytes, Key] = {}
        for key in keys:
            if key.digest == _EMPTY:
                raise ConfigurationError(f"API key {key.name} is the hash of nothing: was the variable with the key not set?")
            twin = self._keys.setdefault(key.digest[:_INDEX_BYTES], key)
            if twin is not key:
                raise ConfigurationError(f"API keys {twin.name} and {key.name} are the same key")

    def admit(self, headers: Mapping[bytes, bytes]) -> str:
        """The name of the key that a request came with, which counts against that key's rate.

        What is looked up is the beginning of a hash, which a guess can't approach step by step; the whole of it is then
        compared in constant time.

        Args:
            headers: by lower-case name.

        Raises:
            Unauthorized: no key, or an unknown one; never says which.
            RateLimited: the key's bucket is empty.
        """
        scheme, _, secret = headers.get(b"authorization", b"").partition(b" ")
        digest = hashlib.sha256(secret.strip()).digest()  # of an empty one too: no key in the ring has that hash
        key = self._keys.get(digest[:_INDEX_BYTES])
        if key is None or scheme.lower() != b"bearer" or not hmac.compare_digest(key.digest, digest):
            raise Unauthorized("a valid API key is needed: Authorization: Bearer <key>")
        wait_s = key.bucket.take() if key.bucket else 0.0
        if wait_s > 0:
            raise RateLimited("this key is over its rate", retry_after_s=math.ceil(wait_s))
        return key.name


def load_keys(path: Path) -> KeyRing:
    """The keys of a file.

    Raises:
        ConfigurationError: one line that names the key and what is wrong with it; never a value, which may be secret.
    """
    try:
        tables = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigurationError(f"API keys file {path} can't be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ConfigurationError(f"API keys file {path} is not UTF-8") from None
    except tomllib.TOMLDecodeError as error:
        place = _PLACE.search(str(error))  # the rest may quote the file
        raise ConfigurationError(f"API keys file {path} is not TOML{f': {place[1]}' if place else ''}") from None
    if not tables:
        raise ConfigurationError(f"API keys file {path} holds no key; leave the setting out to serve without keys")
    explain = Explainer(KeyEntry, _HINTS)
    return KeyRing([_read_key(path, number, name, table, explain) for number, (name, table) in enumerate(tables.items(), 1)])


def _read_key(path: Path, number: int, name: str, table: object, explain: Explainer) -> Key:
    if not _NAME.fullmatch(name) or not isinstance(table, dict):
        raise ConfigurationError(f"API keys file {path}: entry {number} is not a table named by letters, digits, _, . or -")
    try:
        entry = msgspec.convert(table, KeyEntry)
    except msgspec.ValidationError as error:
        message, field = explain(error)
        raise ConfigurationError(f"API keys file {path}: key {name}: {f'{field}: ' if field else ''}{message}") from None
    if entry.burst is not None and entry.requests_per_s is None:
        raise ConfigurationError(f"API keys file {path}: key {name}: burst needs requests_per_s")
    bucket = None
    if entry.requests_per_s is not None:
        bucket = TokenBucket(entry.requests_per_s, entry.burst or math.ceil(entry.requests_per_s))
    return Key(name, bytes.fromhex(entry.sha256), bucket)
