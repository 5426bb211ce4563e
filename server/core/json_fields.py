"""Strict readers of JSON values: each gives the value back, or raises ValueError without quoting it."""

import math
from datetime import UTC, datetime
from typing import Any, get_args

from server.core.taxonomy import Category
from server.core.types import Scores


def read_a(kind: type, value: Any) -> Any:
    """A value of this type."""
    if not isinstance(value, kind):
        raise ValueError("a value of the wrong kind")
    return value


def read_optional(kind: type, value: Any) -> Any:
    """A value of this type, or None."""
    return None if value is None else read_a(kind, value)


def read_one_of(choices: Any, value: Any) -> Any:
    """A member of a Literal."""
    if value not in get_args(choices):
        raise ValueError("a value out of its vocabulary")
    return value


def read_some_of(choices: Any, values: Any) -> tuple[Any, ...]:
    """A list of members of a Literal."""
    return tuple(read_one_of(choices, value) for value in read_a(list, values))


def read_count(value: Any) -> int:
    """A whole number, 0 or more; True is none."""
    if type(value) is not int or value < 0:
        raise ValueError("not a count")
    return value


def read_scores(values: Any) -> Scores:
    """Probabilities by category."""
    scores = {read_one_of(Category, name): score for name, score in read_a(dict, values).items()}
    for score in scores.values():
        if type(score) not in (int, float) or not math.isfinite(score) or not 0 <= score <= 1:
            raise ValueError("a score that is no probability")
    return scores


def read_time(value: Any) -> datetime:
    """A moment in ISO 8601, with its zone."""
    at = datetime.fromisoformat(read_a(str, value))
    if at.tzinfo is None:
        raise ValueError("a time without its zone")
    return at


def write_time(at: datetime) -> str:
    """What :func:`read_time` reads: in UTC, to the millisecond."""
    return at.astimezone(UTC).isoformat(timespec="milliseconds").removesuffix("+00:00") + "Z"
