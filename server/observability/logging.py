"""Logs: one JSON object a line, on stderr.

What a line may hold is decided here: the logger's own words and the fields named in ``extra``. Of an exception only its
type and its place in the code are written, for its message, and the source lines around it, can hold user text or a key.
"""

import json
import logging
import sys
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any, TextIO

from server.core.errors import StillguardError

_STANDARD_FIELDS = frozenset(logging.makeLogRecord({}).__dict__) | {"message", "asctime", "color_message", "taskName"}
_FRAMES = 8
_fields: ContextVar[Mapping[str, str]] = ContextVar("log_fields", default=MappingProxyType({}))


class JsonFormatter(logging.Formatter):
    """One record as one line of JSON: ``time``, ``level``, ``logger``, ``event``, then the fields of :func:`log_fields` and
    of ``extra``."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            # asyncio and others add reprs of tasks and exceptions on the lines after the first.
            "event": record.getMessage().partition("\n")[0],
        }
        line |= _fields.get()
        line |= {name: value for name, value in record.__dict__.items() if name not in _STANDARD_FIELDS}
        if record.exc_info and record.exc_info[1] is not None:
            line |= describe_exception(record.exc_info[1])
        return json.dumps(line, default=lambda value: type(value).__name__)


@contextmanager
def log_fields(**fields: str) -> Iterator[None]:
    """Every line that is logged inside, by this task or one that it starts, holds these fields."""
    token = _fields.set({**_fields.get(), **fields})
    try:
        yield
    finally:
        _fields.reset(token)


def describe_exception(error: BaseException) -> dict[str, Any]:
    """``error``: the type's name; ``frames``: ``file:line function`` of the innermost calls, outermost first."""
    frames = traceback.extract_tb(error.__traceback__, limit=-_FRAMES)
    return {
        "error": type(error).__name__,
        "frames": [f"{frame.filename}:{frame.lineno} {frame.name}" for frame in frames],
    }


def explain(error: BaseException) -> dict[str, Any]:
    """Why something failed: ``reason``, the words of an error of ours, which quote nobody; of any other error what
    :func:`describe_exception` says."""
    return {"reason": str(error)} if isinstance(error, StillguardError) else describe_exception(error)


def configure_logging(level: str, stream: TextIO | None = None) -> None:
    """Send every logger of the process through :class:`JsonFormatter` to ``stream`` (stderr), replacing other handlers.

    Libraries speak from WARNING up only: below that they describe requests.
    """
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(JsonFormatter())
    logging.basicConfig(handlers=[handler], level=logging.WARNING, force=True)
    logging.captureWarnings(True)
    logging.raiseExceptions = False  # a line that can't be formatted would otherwise be printed with its arguments
    for name in ("server", "uvicorn"):
        logger = logging.getLogger(name)
        logger.setLevel(level.upper())
        logger.handlers.clear()
        logger.propagate = True
