"""Where the student runs."""

import ctypes
from collections.abc import Callable
from typing import Literal

from server.core.artifact import Precision
from server.core.errors import ConfigurationError
from server.core.types import Device

PROVIDERS: dict[Device, str] = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}
"""ONNX Runtime's name of each."""

CALL_COST_TOKENS: dict[Device, int] = {"cpu": 10, "cuda": 2_048}
"""What a model call costs beside its padded tokens, in tokens. Measured on a CPU; for a GPU an assumption that lets the limits
alone bound a batch."""


def choose_device(wanted: Literal["auto", "cpu", "cuda"], precision: Precision, *, has_cuda: Callable[[], bool]) -> Device:
    """``auto`` is a GPU where there is one, for a student in float, and the CPU otherwise.

    Args:
        precision: the artefact's.
        has_cuda: whether a GPU is there and ONNX Runtime was built for it; asked only where the answer matters.

    Raises:
        ConfigurationError: INT8 on a GPU.
    """
    if precision == "int8":
        if wanted == "cuda":
            raise ConfigurationError(
                "--device cuda: an INT8 artefact is many times slower on a GPU than FP16; "
                "export one with --precision fp16, or choose --device cpu"
            )
        return "cpu"
    if wanted == "auto":
        return "cuda" if has_cuda() else "cpu"
    return wanted


def visible_gpus() -> int:
    """How many GPUs NVIDIA's driver shows to this process; 0 without a driver."""
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return 0
    count = ctypes.c_int(0)
    if driver.cuInit(0) or driver.cuDeviceGetCount(ctypes.byref(count)):  # anything but 0 is an error
        return 0
    return count.value
