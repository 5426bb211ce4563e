"""The student's ONNX file in ONNX Runtime. The only module that imports it."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnxruntime as ort

from server.core.errors import ArtifactError, ConfigurationError
from server.inference.classifier import Window

OUTPUT = "logits"
IDS, MASK, TYPES = "input_ids", "attention_mask", "token_type_ids"
_DTYPES = {"tensor(int64)": np.int64, "tensor(int32)": np.int32}


class OrtClassifier:
    """Implements :class:`server.inference.classifier.Classifier`. One thread at a time."""

    def __init__(
        self,
        model_path: Path,
        *,
        categories: int,
        max_tokens: int = 128,
        pad_id: int = 0,
        intra_op_threads: int = 1,
        provider: str = "CPUExecutionProvider",
    ) -> None:
        """Args:
        categories: C, the columns that the model must give.
        max_tokens: the longest window that will come; for :meth:`warm_up`.
        intra_op_threads: threads inside one call; 1 runs it on the calling thread alone.

        Raises:
            ArtifactError: the file is missing or unreadable, or its inputs, output or columns aren't the student's.
            ConfigurationError: the provider isn't there.
        """
        self._categories = categories
        self._max_tokens = max_tokens
        self._pad_id = pad_id
        self._where = f"model {model_path}"
        self._session = _open(model_path, intra_op_threads=intra_op_threads, provider=provider)
        self._dtypes = self._input_dtypes()
        outputs = [output.name for output in self._session.get_outputs()]
        if outputs != [OUTPUT]:
            raise ArtifactError(f"{self._where}: its outputs are {outputs}, not ['{OUTPUT}']")
        self._prove()

    def classify(self, windows: Sequence[Window]) -> np.ndarray:
        """float32 (B, C): raw logits. Windows are padded to the longest of them.

        Raises:
            whatever ONNX Runtime raises for a window that the model can't take.
        """
        lengths = [window.tokens for window in windows]
        shape = (len(windows), max(lengths))
        ids = np.full(shape, self._pad_id, dtype=self._dtypes[IDS])
        mask = np.zeros(shape, dtype=self._dtypes[MASK])
        for row, (window, length) in enumerate(zip(windows, lengths, strict=True)):
            ids[row, :length] = window.token_ids
            mask[row, :length] = 1
        return self._run(ids, mask)

    def warm_up(self) -> None:
        """Run the shapes that traffic brings: one short window, one full one, a small batch."""
        for items, tokens in ((1, min(16, self._max_tokens)), (1, self._max_tokens), (8, min(64, self._max_tokens))):
            window = Window([self._pad_id] * tokens, 0, 0)
            self.classify([window] * items)

    def _run(self, ids: np.ndarray, mask: np.ndarray) -> np.ndarray:
        feeds = {IDS: ids, MASK: mask}
        if TYPES in self._dtypes:
            feeds[TYPES] = np.zeros(ids.shape, dtype=self._dtypes[TYPES])
        (logits,) = self._session.run([OUTPUT], feeds)
        return logits.astype(np.float32, copy=False)

    def _input_dtypes(self) -> dict[str, type[np.integer]]:
        declared = {value.name: value.type for value in self._session.get_inputs()}
        if not {IDS, MASK} <= set(declared) <= {IDS, MASK, TYPES}:
            raise ArtifactError(f"{self._where}: its inputs are {sorted(declared)}, not {IDS}, {MASK} and perhaps {TYPES}")
        for name, kind in declared.items():
            if kind not in _DTYPES:
                raise ArtifactError(f"{self._where}: input {name} is a {kind}, not one of {sorted(_DTYPES)}")
        return {name: _DTYPES[kind] for name, kind in declared.items()}

    def _prove(self) -> None:
        """One run of two unequal windows: shows that both axes are free and that the columns are ours."""
        probe = [Window([self._pad_id] * tokens, 0, 0) for tokens in (3, 2)]
        try:
            logits = self.classify(probe)
        except Exception as error:
            raise ArtifactError(f"{self._where}: it can't run two windows of 3 and 2 tokens: {_first_line(error)}") from None
        if logits.shape != (2, self._categories):
            raise ArtifactError(f"{self._where}: two windows give logits of shape {logits.shape}, not {(2, self._categories)}")


def load_classifiers(
    model_path: Path,
    *,
    sessions: int,
    categories: int,
    max_tokens: int = 128,
    pad_id: int = 0,
    intra_op_threads: int = 1,
    provider: str = "CPUExecutionProvider",
) -> list[OrtClassifier]:
    """``sessions`` classifiers of one file, each with its own copy of the weights. Raises as :class:`OrtClassifier` does."""
    return [
        OrtClassifier(
            model_path,
            categories=categories,
            max_tokens=max_tokens,
            pad_id=pad_id,
            intra_op_threads=intra_op_threads,
            provider=provider,
        )
        for _ in range(sessions)
    ]


def _open(model_path: Path, *, intra_op_threads: int, provider: str) -> ort.InferenceSession:
    if provider not in ort.get_available_providers():
        raise ConfigurationError(f"ONNX Runtime has no {provider} here, only {ort.get_available_providers()}")
    if not model_path.is_file():
        raise ArtifactError(f"model {model_path} is missing")
    # The memory arena stays on: without it calls take a fifth to a half longer. It grows with the largest batch, by some
    # 10 MB at 512 padded tokens and 90 MB at 4,096 (MiniLM, INT8), so the batch limit bounds it.
    options = ort.SessionOptions()
    options.intra_op_num_threads = intra_op_threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    # Spinning trades a whole core at idle for microseconds.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    try:
        session = ort.InferenceSession(
            str(model_path), options, providers=list(dict.fromkeys([provider, "CPUExecutionProvider"]))
        )
    except Exception as error:  # the package raises its own family, with no public base
        raise ArtifactError(f"model {model_path} can't be opened: {_first_line(error)}") from None
    if session.get_providers()[0] != provider:
        raise ConfigurationError(f"ONNX Runtime fell back from {provider} to {session.get_providers()[0]}")
    return session


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0]
