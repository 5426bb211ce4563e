"""What the verbs' command lines have in common: the help's form, the exit codes, the report's folder, the API key."""

import argparse
import tempfile
from pathlib import Path

MISSED, UNUSABLE = 1, 2
"""Exit codes: a limit was missed or couldn't be judged; the verb couldn't be run."""


class Unusable(ValueError):
    """Why a verb can't be run with what it was given."""


def verb_parser(verb: str, description: str, epilog: str | None = None) -> argparse.ArgumentParser:
    """A parser that shows both texts with their own line breaks."""
    return argparse.ArgumentParser(
        prog=f"python -m loadtest {verb}",
        description=description,
        epilog=epilog,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )


def add_out(parser: argparse._ActionsContainer, *, takes: str) -> None:
    """The option ``--out``, for :func:`open_out`."""
    parser.add_argument("--out", type=Path, metavar="DIR", help=f"takes {takes}; by default a new folder")


def open_out(out: Path | None, verb: str) -> Path:
    """The folder that takes a verb's files: the one asked for, made if need be, or a new one."""
    folder = out or Path(tempfile.mkdtemp(prefix=f"stillguard-{verb}-"))
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def add_api_key(parser: argparse._ActionsContainer) -> None:
    """The option ``--api-key-file``, for :func:`read_api_key`."""
    parser.add_argument("--api-key-file", type=Path, metavar="PATH", help="holds the API key to send")


def read_api_key(path: Path | None) -> str | None:
    """None for no file. Raises OSError, or Unusable: the file holds nothing that can be sent as a key."""
    if path is None:
        return None
    key = path.read_text(encoding="utf-8", errors="replace").strip()
    if not key.isascii() or len(key.split()) != 1:
        raise Unusable(f"{path} holds no API key")
    return key
