"""Spans, as a collector receives them."""

import io
import json
import logging
import time

import pytest
from prometheus_client import CollectorRegistry
from starlette.testclient import TestClient

from server.core.taxonomy import CATEGORIES
from server.core.types import ArtifactId, CheckAnswer, Escalation, TextResult, Timings
from server.observability.logging import JsonFormatter
from server.observability.metrics import Metrics
from server.observability.tracing import TracedMetrics, TraceRequests, Tracing
from tests.otlp import attributes, otlp_receiver

SCORES = dict.fromkeys(CATEGORIES, 0.1)
ESCALATION = Escalation("answered", 0.4, {"hate": 0.9}, {"hate": 0.6})
ANSWER = CheckAnswer(
    (
        TextResult("block", "teacher", ("hate",), SCORES, 1, 4, ESCALATION),
        TextResult("allow", "student", (), SCORES, 2, 4, None),
    ),
    "default",
    "1",
    Timings(encode_s=0.001, queue_s=0.002, infer_s=0.003, teacher_s=0.4, total_s=0.41),
    ArtifactId("v1", "abc", "int8"),
)
CALLER = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
CALLER_WHO_SAMPLED_IT_OUT = CALLER[:-1] + "0"


class Traced:
    """An application of one route behind the middleware, and the collector that it exports to."""

    def __init__(self, receiver, share: float) -> None:
        self.receiver = receiver
        self.tracing = Tracing(receiver.url, share=share, version="9.9")
        self.registry = CollectorRegistry()
        self.log = io.StringIO()
        counter = TracedMetrics(Metrics(self.registry), self.tracing.tracer)
        logger = logging.Logger("server.test")
        handler = logging.StreamHandler(self.log)
        handler.setFormatter(JsonFormatter())
        logger.addHandler(handler)

        async def app(scope, _receive, send):
            logger.warning("seen", extra={"request_id": "r1"})
            if scope["query_string"] == b"break":
                raise ValueError("user text")
            status = 503 if scope["query_string"] == b"shed" else 200
            if status == 200:
                counter.answer_done(ANSWER)
            await send({"type": "http.response.start", "status": status, "headers": [(b"x-request-id", b"r1")]})
            await send({"type": "http.response.body", "body": b""})

        self.app = TraceRequests(app, tracer=self.tracing.tracer, paths={"/v1/check"})

    def post(self, path: str = "/v1/check", **headers: str) -> None:
        TestClient(self.app, raise_server_exceptions=False).post(path, headers=headers)

    def exported(self):
        self.tracing.close()
        return self.receiver.spans


@pytest.fixture
def traced():
    with otlp_receiver() as receiver:
        yield lambda share=1.0: Traced(receiver, share)


def test_a_request_is_a_span_with_its_stages_inside(traced):
    server = traced()
    server.post(traceparent=CALLER)
    spans = {span.name: span for span in server.exported()}
    assert set(spans) == {"POST /v1/check", "encode", "queue", "infer", "teacher"}
    request = spans["POST /v1/check"]
    assert request.trace_id.hex() == "0af7651916cd43dd8448eb211c80319c"
    assert request.parent_span_id.hex() == "b7ad6b7169203331"
    assert request.kind == request.SPAN_KIND_SERVER
    assert request.status.code == request.status.STATUS_CODE_UNSET
    assert attributes(request) == {
        "http.request.method": "POST",
        "http.route": "/v1/check",
        "http.response.status_code": 200,
        "stillguard.request_id": "r1",
        "stillguard.texts": 2,
        "stillguard.windows": 3,
        "stillguard.blocked": 1,
        "stillguard.policy": "default@1",
        "stillguard.artifact": "abc",
    }
    stages = [spans[name] for name in ("encode", "queue", "infer", "teacher")]
    assert {(span.trace_id, span.parent_span_id) for span in stages} == {(request.trace_id, request.span_id)}
    durations_s = [(span.end_time_unix_nano - span.start_time_unix_nano) / 1e9 for span in stages]
    assert durations_s == pytest.approx([0.001, 0.002, 0.003, 0.4])
    encode, queue, infer, teacher = stages
    assert encode.end_time_unix_nano == queue.start_time_unix_nano
    assert queue.end_time_unix_nano == infer.start_time_unix_nano
    assert (teacher.start_time_unix_nano - encode.start_time_unix_nano) / 1e9 == pytest.approx(0.41 - 0.4)
    assert attributes(teacher) == {"stillguard.text_index": 0, "stillguard.escalation.outcome": "answered"}
    (resource,) = server.receiver.requests[0].resource_spans
    told = {pair.key: pair.value.string_value for pair in resource.resource.attributes}
    assert (told["service.name"], told["service.version"]) == ("stillguard", "9.9")


def test_the_answer_is_counted_as_it_would_be_untraced(traced):
    server = traced()
    server.post()
    assert server.registry.get_sample_value("stillguard_escalations_total", {"outcome": "answered"}) == 1
    server.tracing.close()


def test_a_logged_line_is_tied_to_its_trace(traced):
    server = traced()
    server.post(traceparent=CALLER)
    server.post("/other")
    inside, outside = [json.loads(line) for line in server.log.getvalue().splitlines()]
    assert (inside["request_id"], inside["trace_id"]) == ("r1", "0af7651916cd43dd8448eb211c80319c")
    assert "trace_id" not in outside
    server.tracing.close()


@pytest.mark.parametrize(
    ("share", "headers", "spans"),
    [
        (0.0, {}, 0),
        (1.0, {"traceparent": CALLER_WHO_SAMPLED_IT_OUT}, 0),
        (0.0, {"traceparent": CALLER}, 5),
        (1.0, {"traceparent": "garbage"}, 5),
    ],
)
def test_the_caller_decides_before_the_share_does(traced, share, headers, spans):
    server = traced(share)
    server.post(**headers)
    assert len(server.exported()) == spans


@pytest.mark.parametrize(("query", "status"), [("shed", 503), ("break", None)])
def test_a_failed_request_is_marked_without_a_word_of_its_error(traced, query, status):
    server = traced()
    server.post(f"/v1/check?{query}")
    (span,) = server.exported()
    assert span.status.code == span.status.STATUS_CODE_ERROR
    assert attributes(span).get("http.response.status_code") == status
    assert (span.status.message, list(span.events)) == ("", [])
    assert "user text" not in str(server.receiver.requests)


def test_only_the_given_paths_are_traced(traced):
    server = traced()
    server.post("/metrics")
    assert server.exported() == []


def test_a_collector_that_is_gone_holds_up_nothing():
    tracing = Tracing("http://127.0.0.1:1", share=1.0, version="9.9")
    for _ in range(10):
        tracing.tracer.start_span("POST /v1/check").end()
    started = time.monotonic()
    tracing.close()
    assert time.monotonic() - started < 30
