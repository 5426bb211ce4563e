"""What the verbs' command lines have in common: the help's form, the API key, the report and its folder, the exit codes."""

import argparse
import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from loadtest.goal import Goal, is_passed

MISSED, UNUSABLE = 1, 2
"""Exit codes: a limit was missed or couldn't be judged; the verb couldn't be run."""


class Unusable(Exception):
    """Why a verb can't be run with what it was given, in one line for who gave it."""


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


def judged(record: dict[str, Any], goals: Sequence[Goal]) -> dict[str, Any]:
    """The record with ``gate``, each goal as a record, and ``is_passed``."""
    return record | {"gate": [goal.to_record() for goal in goals], "is_passed": is_passed(goals)}


def conclude(record: dict[str, Any], out: Path, *, shown: str, written: Sequence[Path] = ()) -> int:
    """Write report.json, print ``shown``, the files and the record as the last line, and return the exit code.

    Args:
        record: of :func:`judged`.
        written: the other files in ``out`` that the verb wrote.
    """
    report = out / "report.json"
    report.write_text(json.dumps(record, indent=1, allow_nan=False) + "\n", encoding="utf-8")
    print(f"{shown}\n\nwritten: {', '.join(map(str, (report, *written)))}\n")
    print(json.dumps(record, allow_nan=False), flush=True)
    return 0 if record["is_passed"] else MISSED


def count(given: str) -> int:
    """For ``type=``: a whole number, at least 1."""
    if not given.isdecimal() or int(given) < 1:
        raise argparse.ArgumentTypeError("must be a whole number, at least 1")
    return int(given)


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
