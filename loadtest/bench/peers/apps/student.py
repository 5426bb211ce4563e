"""The artefact's student in a peer's process, as a user would write it: tokenise, pad, run, sigmoid. A long text is cut.

The files of this folder run as scripts in the peers' own environments, so they import neither ours nor what only we have.
"""

import json
import os
from pathlib import Path

import numpy as np
import onnxruntime as ort
from tokenizers import Tokenizer

FOLDER = Path(os.environ.get("BENCH_ARTIFACT", "."))
PORT = int(os.environ.get("BENCH_PORT", "0"))
WORKERS = int(os.environ.get("BENCH_WORKERS", "1"))
MAX_BATCH = 8
"""The batch size that the model's ceiling was highest or nearly highest at, on the CPUs it was measured on."""

_DTYPES = {"tensor(int64)": np.int64, "tensor(int32)": np.int32}


class Student:
    """One session of one thread."""

    def __init__(self, folder: Path = FOLDER) -> None:
        manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
        self._tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self._tokenizer.enable_truncation(manifest["max_tokens"])
        self._tokenizer.enable_padding()
        options = ort.SessionOptions()
        options.intra_op_num_threads = 1
        self._session = ort.InferenceSession(str(folder / "model.onnx"), options, providers=["CPUExecutionProvider"])
        self._dtypes = {value.name: _DTYPES[value.type] for value in self._session.get_inputs()}

    def scores(self, texts: list[str]) -> list[list[float]]:
        """One row of probabilities per text."""
        encodings = self._tokenizer.encode_batch(list(texts))
        known = {
            "input_ids": [encoding.ids for encoding in encodings],
            "attention_mask": [encoding.attention_mask for encoding in encodings],
            "token_type_ids": [encoding.type_ids for encoding in encodings],
        }
        feeds = {name: np.array(known[name], dtype=dtype) for name, dtype in self._dtypes.items()}
        (logits,) = self._session.run(["logits"], feeds)
        return (1 / (1 + np.exp(-logits.astype(np.float64)))).tolist()
