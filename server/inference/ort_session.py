"""The student's ONNX file in ONNX Runtime. The only module that imports it."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnxruntime as ort

from server.core.errors import ArtifactError, ConfigurationError
from server.inference.classifier import Window
from server.inference.device import PROVIDERS, visible_gpus

OUTPUT = "logits"
IDS, MASK, TYPES = "input_ids", "attention_mask", "token_type_ids"
_DTYPES: dict[str, type[np.integer]] = {"tensor(int64)": np.int64, "tensor(int32)": np.int32}


@dataclass(frozen=True, slots=True)
class _Model:
    """An open file. Any number of threads may run its session at once, each with a binding of its own.

    Attributes:
        dtypes: the inputs that the file declares, and what each holds.
        memory: ONNX Runtime's name of the device that inputs and logits are placed on.
        where: begins every message.
    """

    session: ort.InferenceSession
    dtypes: dict[str, type[np.integer]]
    memory: str
    where: str


class OrtClassifier:
    """Implements :class:`server.inference.classifier.Classifier`. One thread at a time; made by :func:`load_classifiers`."""

    def __init__(self, model: _Model, *, max_tokens: int, pad_id: int) -> None:
        self._model = model
        self._binding = model.session.io_binding()
        self._max_tokens = max_tokens
        self._pad_id = pad_id

    def classify(self, windows: Sequence[Window]) -> np.ndarray:
        """float32 (B, C): raw logits. Windows are padded to the longest of them.

        Raises:
            whatever ONNX Runtime raises for a window that the model can't take.
        """
        lengths = [window.tokens for window in windows]
        shape = (len(windows), max(lengths))
        dtypes = self._model.dtypes
        ids = np.full(shape, self._pad_id, dtype=dtypes[IDS])
        mask = np.zeros(shape, dtype=dtypes[MASK])
        for row, (window, length) in enumerate(zip(windows, lengths, strict=True)):
            ids[row, :length] = window.token_ids
            mask[row, :length] = 1
        feeds = {IDS: ids, MASK: mask}
        if TYPES in dtypes:
            feeds[TYPES] = np.zeros(shape, dtype=dtypes[TYPES])
        return self._run(feeds)

    def warm_up(self) -> None:
        """Run the shapes that traffic brings: one short window, one full one, a small batch.

        Raises:
            ArtifactError: some logit isn't finite.
            whatever :meth:`classify` raises.
        """
        for items, tokens in ((1, min(16, self._max_tokens)), (1, self._max_tokens), (8, min(64, self._max_tokens))):
            window = Window([self._pad_id] * tokens, 0, 0)
            _check_finite(self.classify([window] * items), self._model.where)

    def _run(self, feeds: dict[str, np.ndarray]) -> np.ndarray:
        memory = self._model.memory
        for name, array in feeds.items():
            self._binding.bind_ortvalue_input(name, ort.OrtValue.ortvalue_from_numpy(array, memory, 0))
        self._binding.bind_output(OUTPUT, memory)  # afresh each time, for its shape changes with the batch
        self._model.session.run_with_iobinding(self._binding)
        (logits,) = self._binding.copy_outputs_to_cpu()
        return logits.astype(np.float32, copy=False)


def load_classifiers(
    model_path: Path,
    *,
    sessions: int,
    categories: int,
    max_tokens: int = 128,
    pad_id: int = 0,
    intra_op_threads: int = 1,
    provider: str = PROVIDERS["cpu"],
) -> list[OrtClassifier]:
    """``sessions`` classifiers of one file, to be run side by side. They share its weights.

    Args:
        categories: C, the columns that the model must give.
        max_tokens: the longest window that will come; for :meth:`OrtClassifier.warm_up`.
        intra_op_threads: threads inside one call; 1 runs it on the calling thread alone.
        provider: one of ``PROVIDERS``.

    Raises:
        ArtifactError: the file is missing or unreadable, or its inputs, output or columns aren't the student's.
        ConfigurationError: the provider isn't there.
    """
    model = _open_model(model_path, intra_op_threads=intra_op_threads, provider=provider, runs_at_once=sessions)
    classifiers = [OrtClassifier(model, max_tokens=max_tokens, pad_id=pad_id) for _ in range(sessions)]
    _prove(classifiers[0], where=model.where, categories=categories, pad_id=pad_id)
    return classifiers


def has_cuda() -> bool:
    """Whether this ONNX Runtime was built for CUDA, and a GPU is visible."""
    return PROVIDERS["cuda"] in ort.get_available_providers() and visible_gpus() > 0


def _open_model(model_path: Path, *, intra_op_threads: int, provider: str, runs_at_once: int) -> _Model:
    where = f"model {model_path}"
    session = _open_session(model_path, intra_op_threads=intra_op_threads, provider=provider, runs_at_once=runs_at_once)
    declared = {value.name: value.type for value in session.get_inputs()}
    if not {IDS, MASK} <= set(declared) <= {IDS, MASK, TYPES}:
        raise ArtifactError(f"{where}: its inputs are {sorted(declared)}, not {IDS}, {MASK} and perhaps {TYPES}")
    for name, kind in declared.items():
        if kind not in _DTYPES:
            raise ArtifactError(f"{where}: input {name} is a {kind}, not one of {sorted(_DTYPES)}")
    outputs = [output.name for output in session.get_outputs()]
    if outputs != [OUTPUT]:
        raise ArtifactError(f"{where}: its outputs are {outputs}, not ['{OUTPUT}']")
    memory = "cuda" if provider == PROVIDERS["cuda"] else "cpu"
    return _Model(session, {name: _DTYPES[kind] for name, kind in declared.items()}, memory, where)


def _open_session(model_path: Path, *, intra_op_threads: int, provider: str, runs_at_once: int) -> ort.InferenceSession:
    if provider not in ort.get_available_providers():
        raise ConfigurationError(f"ONNX Runtime has no {provider} here, only {ort.get_available_providers()}")
    if not model_path.is_file():
        raise ArtifactError(f"model {model_path} is missing")
    if provider == PROVIDERS["cuda"]:
        ort.preload_dlls()  # CUDA's libraries, from the wheels that the gpu extra brings
    options = ort.SessionOptions()
    # Threads that run one session at once share its memory arena, and so hand each other memory that lies in the other core's
    # cache: 5 to 9 % of a call on two cores. malloc keeps one arena per thread, and a smaller one where a call isn't laid out
    # as one block by a pattern of its shape. A thread alone is 1 to 2 % faster with the session's arena.
    options.enable_cpu_mem_arena = options.enable_mem_pattern = runs_at_once == 1
    options.intra_op_num_threads = intra_op_threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    # Spinning trades a whole core at idle for microseconds.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    try:
        session = ort.InferenceSession(str(model_path), options, providers=list(dict.fromkeys([provider, PROVIDERS["cpu"]])))
    except Exception as error:  # the package raises its own family, with no public base
        raise ArtifactError(f"model {model_path} can't be opened: {_first_line(error)}") from None
    if session.get_providers()[0] != provider:
        raise ConfigurationError(
            f"ONNX Runtime can't use {provider} here and fell back to {session.get_providers()[0]}; its own log line says why"
        )
    return session


def _prove(classifier: OrtClassifier, *, where: str, categories: int, pad_id: int) -> None:
    """One run of two unequal windows: shows that both axes are free, and that the columns are ours and finite."""
    probe = [Window([pad_id] * tokens, 0, 0) for tokens in (3, 2)]
    try:
        logits = classifier.classify(probe)
    except Exception as error:
        raise ArtifactError(f"{where}: it can't run two windows of 3 and 2 tokens: {_first_line(error)}") from None
    if logits.shape != (2, categories):
        raise ArtifactError(f"{where}: two windows give logits of shape {logits.shape}, not {(2, categories)}")
    _check_finite(logits, where)


def _check_finite(logits: np.ndarray, where: str) -> None:
    if not np.isfinite(logits).all():
        raise ArtifactError(f"{where}: its logits are not finite")


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0]
