"""Where the student runs, by what was asked for, what the artefact is and what the machine has."""

from pathlib import Path

import pytest

from server.core.errors import ConfigurationError
from server.inference.device import choose_device, visible_gpus


def choose(wanted, precision, *, gpu):
    return choose_device(wanted, precision, has_cuda=lambda: gpu)


@pytest.mark.parametrize("precision", ["fp16", "fp32"])
def test_auto_takes_a_gpu_for_a_student_in_float(precision):
    assert choose("auto", precision, gpu=True) == "cuda"
    assert choose("auto", precision, gpu=False) == "cpu"


@pytest.mark.parametrize("precision", ["fp16", "fp32"])
def test_a_named_device_is_taken_at_its_word(precision):
    assert choose("cpu", precision, gpu=True) == "cpu"
    assert choose("cuda", precision, gpu=False) == "cuda", "opening it says what is missing"


def test_int8_stays_on_the_cpu_whatever_is_there():
    def never() -> bool:
        raise AssertionError("nobody needs to know")

    assert choose_device("auto", "int8", has_cuda=never) == choose_device("cpu", "int8", has_cuda=never) == "cpu"


@pytest.mark.parametrize("gpu", [True, False])
def test_int8_on_a_gpu_is_refused_in_one_line(gpu):
    with pytest.raises(ConfigurationError, match="--device cuda: an INT8 artefact is many times slower") as caught:
        choose("cuda", "int8", gpu=gpu)
    assert "--precision fp16" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_driver_counts_the_gpus():
    driver = Path("/proc/driver/nvidia/gpus")
    assert visible_gpus() <= (len(list(driver.iterdir())) if driver.is_dir() else 0)
