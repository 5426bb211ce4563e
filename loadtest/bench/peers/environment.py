"""A peer's own virtual environment, made once and kept."""

import hashlib
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path


def default_cache() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "stillguard" / "peers"


def ensure_environment(cache: Path, name: str, requirements: Sequence[str]) -> Path:
    """The folder of an environment with exactly these requirements; installing takes a minute or more the first time.

    Raises:
        subprocess.CalledProcessError: it can't be made, for want of a package index for one.
    """
    wanted = hashlib.sha256("\n".join((sys.version, *requirements)).encode()).hexdigest()[:12]
    folder = cache / f"{name}-{wanted}"
    stamp = folder / "complete"
    if not stamp.exists():
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(folder)], check=True)
        subprocess.run([str(folder / "bin" / "python"), "-m", "pip", "install", "--quiet", *requirements], check=True)
        stamp.touch()
    return folder
