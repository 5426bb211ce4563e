"""The JSON files of run folders, read."""

import json
from pathlib import Path
from typing import Any

from server.core.errors import ConfigurationError


def read_json(path: Path) -> Any:
    """What the file holds.

    Raises:
        FileNotFoundError: there is no such file.
        ConfigurationError: it isn't JSON: cut short, say, or written over.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ConfigurationError(f"{path} is not JSON: {error}") from None
