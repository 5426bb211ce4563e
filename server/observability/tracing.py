"""Traces: one OpenTelemetry span per request and one per stage of it, sent to an OTLP collector.

Needs the extra ``otel``; imported only where an endpoint is set. The spans of the stages are made from the answer's timings
when it is there, so the journey itself holds no tracing. A span holds ids, counts and words of ours: never text, never a key.

The standard variables ``OTEL_EXPORTER_OTLP_HEADERS``, ``OTEL_EXPORTER_OTLP_CERTIFICATE``, ``OTEL_BSP_…`` and
``OTEL_RESOURCE_ATTRIBUTES`` are heeded.
"""

import time
from collections.abc import Collection

from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from server.core.types import CheckAnswer
from server.observability.logging import log_fields
from server.observability.metrics import Metrics

_SERVER_ERROR = 500
_EXPORT_TIMEOUT_S = 3.0


class Tracing:
    """One server's tracer and the thread that exports for it. Not OpenTelemetry's global one, which others may set.

    A collector that is slow or gone costs spans, never a request: they wait in a bounded buffer and are dropped beyond it.
    """

    def __init__(self, endpoint: str, *, share: float, version: str) -> None:
        """Args:
        endpoint: the collector's URL; spans go to ``{endpoint}/v1/traces`` as protobuf over HTTP.
        share: how many of the requests that arrive without a sampling decision are traced, in [0, 1].
        """
        resource = Resource.create({"service.name": "stillguard", "service.version": version})
        self._provider = TracerProvider(
            sampler=ParentBased(TraceIdRatioBased(share)),
            resource=resource.merge(OTELResourceDetector().detect()),
            shutdown_on_exit=False,
        )
        exporter = OTLPSpanExporter(f"{endpoint.rstrip('/')}/v1/traces", timeout=_EXPORT_TIMEOUT_S)
        self._provider.add_span_processor(BatchSpanProcessor(exporter))
        self.tracer = self._provider.get_tracer("stillguard", version)

    def watching(self, app: ASGIApp, *, paths: Collection[str]) -> "TraceRequests":
        """``app`` with a span for each POST to one of ``paths``."""
        return TraceRequests(app, tracer=self.tracer, paths=paths)

    def counting(self, metrics: Metrics) -> "TracedMetrics":
        """``metrics``, with the spans of each counted answer's stages."""
        return TracedMetrics(metrics, self.tracer)

    def close(self) -> None:
        """Export what is left, and end the thread. Blocks, for a collector that doesn't answer until its timeout."""
        self._provider.shutdown()


class TraceRequests:
    """Middleware: a span for each POST to one of ``paths``, under the caller's ``traceparent`` if it sent one.

    Lines logged on the request's behalf hold its ``trace_id``, and the span holds its ``stillguard.request_id``.
    """

    def __init__(self, app: ASGIApp, *, tracer: trace.Tracer, paths: Collection[str]) -> None:
        self._app = app
        self._tracer = tracer
        self._paths = frozenset(paths)
        self._propagator = TraceContextTextMapPropagator()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] != "POST" or scope["path"] not in self._paths:
            await self._app(scope, receive, send)
            return
        span = self._tracer.start_span(
            f"POST {scope['path']}",
            context=self._propagator.extract(Headers(scope=scope)),
            kind=trace.SpanKind.SERVER,
            attributes={"http.request.method": "POST", "http.route": scope["path"]},
        )

        async def send_noted(message: Message) -> None:
            if message["type"] == "http.response.start":
                _note_reply(span, message)
            await send(message)

        trace_id = trace.format_trace_id(span.get_span_context().trace_id)
        # An exception's words could quote a text: it is left to the log, which knows how to hold one.
        quiet = trace.use_span(span, end_on_exit=True, record_exception=False, set_status_on_exception=False)
        with quiet, log_fields(trace_id=trace_id):
            try:
                await self._app(scope, receive, send_noted)
            except BaseException:
                span.set_status(trace.StatusCode.ERROR)
                raise


class TracedMetrics:
    """Counts answers as ``metrics`` does, and gives the request's span its stages."""

    def __init__(self, metrics: Metrics, tracer: trace.Tracer) -> None:
        self._metrics = metrics
        self._tracer = tracer

    def answer_done(self, answer: CheckAnswer) -> None:
        self._metrics.answer_done(answer)
        span = trace.get_current_span()
        if span.is_recording():
            self._record(span, answer, ended_ns=time.time_ns())

    def _record(self, span: trace.Span, answer: CheckAnswer, *, ended_ns: int) -> None:
        """Lay the stages end to end from the answer's start; the teacher is the last of them, so it is measured from the end.

        Texts and windows of a request pass their stages side by side, and a stage's time is that of the slowest.
        """
        timings = answer.timings
        span.set_attributes(
            {
                "stillguard.texts": len(answer.results),
                "stillguard.windows": sum(result.windows for result in answer.results),
                "stillguard.blocked": sum(result.verdict == "block" for result in answer.results),
                "stillguard.policy": f"{answer.policy_id}@{answer.policy_version}",
                "stillguard.artifact": answer.artifact.hash,
            }
        )
        inside = trace.set_span_in_context(span)
        at_ns = ended_ns - _ns(timings.total_s)
        for stage, duration_s in (("encode", timings.encode_s), ("queue", timings.queue_s), ("infer", timings.infer_s)):
            until_ns = min(at_ns + _ns(duration_s), ended_ns)
            self._tracer.start_span(stage, context=inside, start_time=at_ns).end(until_ns)
            at_ns = until_ns
        at_ns = ended_ns - _ns(timings.teacher_s)
        for index, result in enumerate(answer.results):
            if result.escalation is not None:
                attributes = {"stillguard.text_index": index, "stillguard.escalation.outcome": result.escalation.outcome}
                asked = self._tracer.start_span("teacher", context=inside, start_time=at_ns, attributes=attributes)
                asked.end(at_ns + _ns(result.escalation.latency_s))


def _note_reply(span: trace.Span, start: Message) -> None:
    span.set_attribute("http.response.status_code", start["status"])
    request_id = Headers(raw=start["headers"]).get("x-request-id")
    if request_id is not None:
        span.set_attribute("stillguard.request_id", request_id)
    if start["status"] >= _SERVER_ERROR:
        span.set_status(trace.StatusCode.ERROR)


def _ns(duration_s: float) -> int:
    return round(duration_s * 1e9)
