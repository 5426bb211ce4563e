"""The locked sets of the images, read back."""

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
LOCKS = ROOT / ".ci" / "locks"
IMAGES = ("cpu", "gpu", "teacher", "loadtest")
"""What an image installs; ``teacher`` comes on top of the first two."""

_LINE = re.compile(r"^([a-z0-9-]+)==([^ ;\\]+)[^\\\n]*((?:\\\n\s+--hash=sha256:[0-9a-f]{64}\s*)*)", re.MULTILINE)


def locked(image: str) -> dict[tuple[str, str], list[str]]:
    """(name, version) → SHA-256 (hex) of each file that pip may install it from."""
    text = (LOCKS / f"image-{image}.txt").read_text(encoding="utf-8")
    return {(name, version): re.findall(r"sha256:([0-9a-f]{64})", hashes) for name, version, hashes in _LINE.findall(text)}
