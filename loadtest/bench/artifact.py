"""The artefact folder, as far as the bench reads it."""

import json
from dataclasses import dataclass
from pathlib import Path

from loadtest.command import Unusable


@dataclass(frozen=True, slots=True)
class Artifact:
    """What the bench needs of an artefact folder."""

    folder: Path

    @property
    def model(self) -> Path:
        return self.folder / "model.onnx"

    @property
    def tokenizer(self) -> Path:
        return self.folder / "tokenizer.json"

    def describe(self) -> dict:
        """``version``, ``precision``, ``max_tokens`` and the number of ``categories``, off the manifest.

        Raises:
            Unusable: it can't be read.
        """
        try:
            record = json.loads((self.folder / "manifest.json").read_text(encoding="utf-8"))
            return {
                "version": record["version"],
                "precision": record["precision"],
                "max_tokens": record["max_tokens"],
                "categories": len(record["categories"]),
            }
        except (OSError, KeyError, TypeError, ValueError) as error:
            raise Unusable(f"{self.folder} is no artefact: {error}") from None
