"""What a log line holds, and what it can't."""

import io
import json
import logging

import pytest

from server.core.errors import ArtifactError
from server.observability.logging import JsonFormatter, describe_exception, explain, log_fields


@pytest.fixture
def log():
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(JsonFormatter())
    logger = logging.Logger("server.test")
    logger.addHandler(handler)
    return logger, lambda: [json.loads(line) for line in stream.getvalue().splitlines()]


def test_a_line_is_json_with_the_named_fields(log):
    logger, lines = log
    logger.warning("batch of %d failed", 3, extra={"request_id": "r1", "odd": {1, 2}})
    (line,) = lines()
    assert line.pop("time").endswith("+00:00")
    assert line == {
        "level": "warning",
        "logger": "server.test",
        "event": "batch of 3 failed",
        "request_id": "r1",
        "odd": "set",
    }


def test_an_exception_is_its_type_and_place_without_its_words(log):
    logger, lines = log
    try:
        raise ValueError("user text")
    except ValueError:
        logger.exception("failed")
    (line,) = lines()
    assert line["error"] == "ValueError"
    assert line["frames"][-1].endswith("test_an_exception_is_its_type_and_place_without_its_words")
    assert "user text" not in json.dumps(line)


def test_only_the_first_line_of_a_message_is_kept(log):
    logger, lines = log
    logger.error("Task exception was never retrieved\nfuture: <Task exception=ValueError('user text')>")
    assert lines()[0]["event"] == "Task exception was never retrieved"


def test_a_failure_is_explained_in_its_own_words_only_if_they_are_ours():
    assert explain(ArtifactError("model.onnx is corrupt")) == {"reason": "model.onnx is corrupt"}
    assert explain(KeyError("user text")) == {"error": "KeyError", "frames": []}


def test_an_exception_that_was_never_raised_has_no_frames():
    assert describe_exception(KeyError("user text")) == {"error": "KeyError", "frames": []}


def test_a_line_holds_the_fields_bound_around_it_and_its_own_win(log):
    logger, lines = log
    with log_fields(trace_id="t1", request_id="outer"):
        with log_fields(span_id="s1"):
            logger.warning("inside", extra={"request_id": "own"})
        logger.warning("between")
    logger.warning("outside")
    inside, between, outside = lines()
    assert (inside["trace_id"], inside["span_id"], inside["request_id"]) == ("t1", "s1", "own")
    assert (between["trace_id"], between["request_id"]) == ("t1", "outer")
    assert "span_id" not in between
    assert "trace_id" not in outside
