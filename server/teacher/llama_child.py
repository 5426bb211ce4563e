"""llama.cpp's server as a child process of :class:`~server.teacher.embedded.EmbeddedTeacher`.

It is run by its path and imports nothing of ours, so it starts wherever the parent was started from. The parent writes
an API key as the first line of standard input; the child writes its address as the one line of standard output when it
can answer; when standard input ends, for the parent closed it or is gone (``kill -9`` included), the child ends: the
kernel closes a dead process's descriptors on every platform. A child that hangs would not see that, so that on Linux the
kernel kills it when the thread that started it ends: the parent's event loop runs there, and nobody is left to ask.
"""

import argparse
import ctypes
import os
import resource
import signal
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

STEP_TOKENS = 128
"""Prompt tokens per step, about 0.3 s. llama.cpp looks once a second whether the asker is gone, and drops its question
between steps."""

LOG_ERRORS = 1

NICENESS = 5
"""A third of the server's share of a core that both want."""

PR_SET_PDEATHSIG = 1
"""Of ``prctl(2)``."""

OOM_SCORE_ADJ = "500"
"""Where memory runs out, the kernel kills this process and not the server, which can do without."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, help="the base, a GGUF file")
    parser.add_argument("--lora", help="the adapter, a GGUF file")
    parser.add_argument("--port", type=int, default=0, help="on 127.0.0.1; 0 lets the kernel choose")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--max-memory-bytes", type=int, default=1 << 30, help="of data; the mapped model isn't counted")
    parser.add_argument("--context-tokens", type=int, default=2048)
    arguments = parser.parse_args()
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    _take_the_back_seat(arguments.max_memory_bytes)
    # llama.cpp may print, so standard output is kept for the one line and what else is printed goes to standard error.
    address_line = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    api_key = sys.stdin.readline().strip()
    server = _serve(arguments, api_key)
    # Errors while loading are for the operator; from here on a message could quote a text.
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    os.dup2(1, 2)
    with address_line:
        address_line.write(f"{server.listening_address}\n")
    sys.stdin.read()
    os._exit(0)  # no state to save: not waiting for a question in progress is the point


def _take_the_back_seat(max_memory_bytes: int) -> None:
    """The student comes first: less of the processor, a bound on memory, and the first to go."""
    os.nice(NICENESS)
    # Data and not address space: reserving addresses costs nothing, and the model is a file that is mapped.
    resource.setrlimit(resource.RLIMIT_DATA, (max_memory_bytes, max_memory_bytes))
    with suppress(OSError):  # no such file but on Linux, and some sandboxes refuse
        Path("/proc/self/oom_score_adj").write_text(OOM_SCORE_ADJ, encoding="ascii")


def _serve(arguments: argparse.Namespace, api_key: str) -> Any:
    """The running server; returns when the model is loaded."""
    import xllamacpp  # noqa: PLC0415 (--help works without the optional package)

    params = xllamacpp.CommonParams()
    params.model.path = arguments.model
    if arguments.lora:
        params.lora_adapters = [_adapter(xllamacpp, arguments.lora)]
    params.hostnames = ["127.0.0.1"]
    params.port = arguments.port
    params.api_keys = [api_key]
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = arguments.threads
    # One slot: all prompts of a text pass through it one after another, and each reuses its predecessor's prefix.
    # Several slots would compute the prefix once each, for no more tokens per second on the same threads.
    params.n_parallel = 1
    params.n_ctx = arguments.context_tokens
    params.n_batch = params.n_ubatch = STEP_TOKENS
    params.cache_ram_mib = 0  # no copies of past texts: another text has another prefix
    params.n_gpu_layers = 0
    params.fit_params = False
    params.verbosity = LOG_ERRORS
    params.ui = params.endpoint_slots = params.endpoint_props = False
    return xllamacpp.Server(params)


def _adapter(xllamacpp: Any, path: str) -> Any:
    adapter = xllamacpp.CommonAdapterLoraInfo()
    adapter.path, adapter.scale = path, 1.0
    return adapter


if __name__ == "__main__":
    main()
