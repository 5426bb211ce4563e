"""Labelled texts from a file: JSON Lines, CSV or Parquet, by its suffix."""

import csv
import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from loadtest.command import Unusable

TEXT, UNSAFE, ROLE = "text", "unsafe", "role"
ROLES = ("user", "assistant")
DEFAULT_BY = "kind"
NO_GROUP = "(none)"
_MAX_FIELD_CHARS = 2**31 - 1

Row = tuple[str, Mapping[str, Any]]
"""Where in the file it stands, in words, and its values by column."""


@dataclass(frozen=True, slots=True)
class LabelledText:
    """``group`` is the value of the column that the report is divided by; None without such a column."""

    text: str = field(repr=False)
    is_unsafe: bool
    role: str = "user"
    group: str | None = None


@dataclass(frozen=True, slots=True)
class LabelledFile:
    """``unlabelled`` rows are left out of ``texts``: their label is null. ``by`` is the column of the groups, if any."""

    path: Path
    texts: list[LabelledText]
    unlabelled: int
    by: str | None


def read_labelled(path: Path, *, by: str | None = None, role: str = "user") -> LabelledFile:
    """
    Args:
        by: the column to group by; None for :data:`DEFAULT_BY` where the file has it.
        role: of the texts for which the file names none.

    Raises:
        OSError: the file can't be opened.
        Unusable: another kind of file, a column is missing, a value is none of those allowed, or no row has a label.
    """
    try:
        rows = list(_reader(path)(path))
    except UnicodeDecodeError:
        raise Unusable(f"{path} is not in UTF-8") from None
    if not rows:
        raise Unusable(f"{path} holds no rows")
    columns = set().union(*(row for _, row in rows))
    for name in filter(None, (TEXT, UNSAFE, by)):
        if name not in columns:
            raise Unusable(f"{path} has no column named {name}")
    if by is None and DEFAULT_BY in columns:
        by = DEFAULT_BY
    found = [_read_row(row, f"{path}, {where}", by=by, role=role) for where, row in rows]
    texts = [text for text in found if text is not None]
    if not texts:
        raise Unusable(f"{path} holds no row with a label")
    return LabelledFile(path, texts, len(found) - len(texts), by)


def _read_row(row: Mapping[str, Any], where: str, *, by: str | None, role: str) -> LabelledText | None:
    """None without a label."""
    label = row.get(UNSAFE)
    if _is_null(label):
        return None
    text = row.get(TEXT)
    if not isinstance(text, str):
        raise Unusable(f"{where}: the text is no string")
    role = role if _is_null(row.get(ROLE)) else row[ROLE]
    if role not in ROLES:
        raise Unusable(f"{where}: the role is neither {' nor '.join(ROLES)}")
    group = None if by is None else NO_GROUP if _is_null(row.get(by)) else str(row[by])
    return LabelledText(text, _read_label(label, where), role, group)


def _read_label(label: Any, where: str) -> bool:
    """0 and 1 as any of the three formats may write them: as a number of either kind, a truth value, or in letters."""
    try:
        number = float(label)
    except (TypeError, ValueError):
        number = math.nan
    if number not in (0.0, 1.0):
        raise Unusable(f"{where}: the label {UNSAFE} is neither 0 nor 1")
    return number == 1.0


def _is_null(value: Any) -> bool:
    return value is None or value == "" or (isinstance(value, float) and math.isnan(value))


def _reader(path: Path) -> Any:
    try:
        return _READERS[path.suffix.lower()]
    except KeyError:
        raise Unusable(f"{path} ends in none of {', '.join(_READERS)}") from None


def _read_json_lines(path: Path) -> Iterator[Row]:
    # Lines end at a line feed alone: within a JSON string the other separators of Unicode are characters like any other.
    with path.open(encoding="utf-8-sig", newline="\n") as lines:
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except (ValueError, RecursionError):
                raise Unusable(f"{path}, line {number}: not JSON") from None
            if not isinstance(row, dict):
                raise Unusable(f"{path}, line {number}: no JSON object")
            yield f"line {number}", row


def _read_csv(path: Path) -> Iterator[Row]:
    csv.field_size_limit(_MAX_FIELD_CHARS)
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.DictReader(file, strict=True)
        try:
            for row in reader:
                yield f"line {reader.line_num}", row
        except csv.Error:
            raise Unusable(f"{path}, line {reader.line_num}: not CSV") from None


def _read_parquet(path: Path) -> Iterator[Row]:
    try:
        import pyarrow.parquet  # noqa: PLC0415 (an option's need alone)
    except ModuleNotFoundError:
        raise Unusable(f"{path}: Parquet needs pyarrow, which the extra bench has") from None
    try:
        table = pyarrow.parquet.read_table(path)
    except pyarrow.ArrowInvalid:
        raise Unusable(f"{path} is no Parquet file") from None
    for number, row in enumerate(table.to_pylist(), 1):
        yield f"row {number}", row


_READERS = {".jsonl": _read_json_lines, ".ndjson": _read_json_lines, ".csv": _read_csv, ".parquet": _read_parquet}
