"""Folders that appear whole or not at all."""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from server.core.errors import ConfigurationError


@contextmanager
def appearing_whole(out: Path, *, manifest: str, allow_replace: bool) -> Iterator[Path]:
    """A scratch folder beside ``out``; what the block leaves in its ``artifact`` folder becomes ``out`` when it succeeds.

    When the block raises, nothing of it stays and ``out`` is as before. Yields the scratch folder.

    Args:
        manifest: the file by which a folder that may be replaced is known.

    Raises:
        ConfigurationError: ``out`` exists and may not be replaced, or holds something else.
    """
    check_destination(out, manifest=manifest, allow_replace=allow_replace)
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{out.name}.", dir=out.parent) as name:
        scratch = Path(name)
        (scratch / "artifact").mkdir()
        yield scratch
        if out.exists():
            out.rename(scratch / "replaced")
        try:
            (scratch / "artifact").rename(out)
        except OSError:
            if (scratch / "replaced").exists():
                shutil.move(scratch / "replaced", out)
            raise


def check_destination(out: Path, *, manifest: str, allow_replace: bool) -> None:
    """Raises ConfigurationError where ``out`` may not be written; cheap, so that a long export finds out at once."""
    if not out.exists():
        return
    if not allow_replace:
        raise ConfigurationError(f"{out} exists: choose another folder, or pass --replace")
    if not (out / manifest).is_file():
        raise ConfigurationError(f"{out} has no {manifest}: it will not be replaced")
