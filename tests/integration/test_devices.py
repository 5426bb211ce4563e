"""The device that the settings ask for, on the shipped artefact: said in the log, or refused in one line."""

import logging

import pytest

from server.app import load_student
from server.core.errors import ConfigurationError
from server.settings import Settings


@pytest.mark.parametrize("device", ["auto", "cpu"])
def test_the_log_says_where_the_student_runs(device, caplog):
    settings = Settings(device=device, sessions=2)
    with caplog.at_level(logging.INFO, "server.app"):
        parts = load_student(settings, settings.artifact)
    (line,) = [record for record in caplog.records if record.getMessage() == "student loaded"]
    assert (line.device, line.provider, line.precision) == ("cpu", "CPUExecutionProvider", "int8")
    assert line.sessions == len(parts.classifiers) == 2
    assert parts.device == "cpu"


def test_int8_on_a_gpu_is_refused_before_anything_is_opened():
    settings = Settings(device="cuda")
    with pytest.raises(ConfigurationError, match="an INT8 artefact is many times slower on a GPU than FP16"):
        load_student(settings, settings.artifact)
