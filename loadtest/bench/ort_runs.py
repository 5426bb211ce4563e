"""ONNX Runtime alone: a list of batches through one or more sessions, each on a thread of its own."""

import threading
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnxruntime as ort

from loadtest.bench.windows import Window

Feeds = dict[str, np.ndarray]
_DTYPES = {"tensor(int64)": np.int64, "tensor(int32)": np.int32}


@dataclass(frozen=True, slots=True)
class Ran:
    """``cpu_s`` is the time of all threads together."""

    wall_s: float
    cpu_s: float


class Model:
    """Sessions of one file, opened when first wanted. Each has its own copy of the weights."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._opened: dict[int, list[ort.InferenceSession]] = {}

    def sessions(self, count: int, *, threads: int) -> list[ort.InferenceSession]:
        """``count`` sessions of ``threads`` threads each."""
        opened = self._opened.setdefault(threads, [])
        while len(opened) < count:
            options = ort.SessionOptions()
            options.intra_op_num_threads = threads
            options.inter_op_num_threads = 1
            options.log_severity_level = 3
            opened.append(ort.InferenceSession(str(self._path), options, providers=["CPUExecutionProvider"]))
        return opened[:count]

    def feeds(self, windows: Sequence[Window]) -> Feeds:
        """What a call takes for these windows, padded to the longest of them."""
        shape = (len(windows), max(map(len, windows)))
        ids, mask = np.zeros(shape, dtype=np.int64), np.zeros(shape, dtype=np.int64)
        for row, window in enumerate(windows):
            ids[row, : len(window)] = window
            mask[row, : len(window)] = 1
        known = {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}
        inputs = self.sessions(1, threads=1)[0].get_inputs()
        return {value.name: known[value.name].astype(_DTYPES[value.type], copy=False) for value in inputs}


def run_all(sessions: Sequence[ort.InferenceSession], feeds: Sequence[Feeds]) -> Ran:
    """Every call once, each by the session that is free next; the arrays are ready before the clock starts."""
    left = deque(feeds)
    failures: list[Exception] = []
    started = threading.Barrier(len(sessions) + 1)

    def work(session: ort.InferenceSession) -> None:
        started.wait()
        try:
            while left:
                session.run(None, left.popleft())
        except IndexError:  # another thread took the last one
            return
        except Exception as error:  # raised again below, on the caller's thread
            failures.append(error)

    threads = [threading.Thread(target=work, args=(session,)) for session in sessions]
    for thread in threads:
        thread.start()
    started.wait()
    wall_s, cpu_s = -time.perf_counter(), -time.process_time()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]
    return Ran(wall_s + time.perf_counter(), cpu_s + time.process_time())
