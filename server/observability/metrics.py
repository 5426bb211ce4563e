"""Every metric of the server, in one object that is handed around. Names, units and labels are a contract: dashboards,
alerts and the autoscaler use them.

Label values come from fixed vocabularies only, so the number of series is bounded and no user text can be among them.
Every series of a counter exists from the start, at 0, so that the first event is already a visible increase.
"""

from collections.abc import Callable
from typing import Literal, get_args

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    GCCollector,
    Histogram,
    Info,
    PlatformCollector,
    ProcessCollector,
)
from prometheus_client.exposition import choose_encoder

from server.batching.observer import DropReason, LossReason
from server.core.taxonomy import CATEGORIES
from server.core.types import ArtifactId, CheckAnswer, DecidedBy, ErrorCode, Outcome, TurnedAwayStatus, Verdict
from server.observability.cascade_metrics import CascadeMetrics
from server.observability.drift_metrics import DriftMetrics
from server.observability.feedback_metrics import FeedbackMetrics
from server.observability.shadow_metrics import ShadowMetrics

Stage = Literal["encode", "queue", "infer", "student", "teacher", "total"]
Route = Literal["native", "openai"]
ReloadOutcome = Literal["ok", "failed", "refused"]

# The student answers in 1–3 ms and the teacher in 0.1–2 s: fine steps below 10 ms, coarse ones above.
_STAGE_BUCKETS_S = (
    *(0.0001, 0.00025, 0.0005, 0.00075, 0.001, 0.0015, 0.002, 0.003, 0.004, 0.005, 0.0075),
    *(0.01, 0.015, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0),
)
_WAITED_FOR = frozenset({"answered", "deadline", "error"})
"""Outcomes of escalations that took the teacher's time. The others end at once, and would make it look fast."""

_ITEM_BUCKETS = (1, 2, 4, 8, 16, 32, 64, 128)
_TOKEN_BUCKETS = (16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384)


class Metrics:
    """All series of one server, on one registry. Safe to call from any thread."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._registry = registry
        ProcessCollector(registry=registry)
        PlatformCollector(registry=registry)
        GCCollector(registry=registry)
        requests = Counter("stillguard_requests", "Requests by how they ended.", ["route", "outcome"], registry=registry)
        stage_seconds = Histogram(
            "stillguard_stage_seconds",
            "Time of one answered request spent in a stage; student is total without teacher, and only those that escalated "
            "have a teacher's.",
            ["stage"],
            buckets=_STAGE_BUCKETS_S,
            registry=registry,
        )
        errors = Counter(
            "stillguard_errors",
            "Requests that were refused or failed, by the code replied.",
            ["code"],
            registry=registry,
        )
        turned_away = Counter(
            "stillguard_turned_away",
            "What came to no route, by the status replied: no HTTP, no such path or method, a head too slow or too large.",
            ["status"],
            registry=registry,
        )
        verdicts = Counter("stillguard_verdicts", "Texts by verdict.", ["verdict", "decided_by"], registry=registry)
        flagged = Counter("stillguard_flagged", "Texts by violated category.", ["category", "decided_by"], registry=registry)
        self._requests = {
            (route, outcome): requests.labels(route, outcome) for route in get_args(Route) for outcome in get_args(Outcome)
        }
        self._errors = {code: errors.labels(code) for code in get_args(ErrorCode)}
        self._turned_away = {status: turned_away.labels(status) for status in get_args(TurnedAwayStatus)}
        self._stages = {stage: stage_seconds.labels(stage) for stage in get_args(Stage)}
        self._verdicts = {
            (verdict, by): verdicts.labels(verdict, by) for verdict in get_args(Verdict) for by in get_args(DecidedBy)
        }
        self._flagged = {(category, by): flagged.labels(category, by) for category in CATEGORIES for by in get_args(DecidedBy)}
        self.cascade = CascadeMetrics(registry)
        """The series about the way to the teacher."""
        self.feedback = FeedbackMetrics(registry)
        """The series about the feedback log."""
        self.shadow = ShadowMetrics(registry)
        """The series about the shadow student."""
        self.drift = DriftMetrics(registry)
        """The series about how traffic changes."""
        dropped = Counter("stillguard_dropped_items", "Admitted windows left unanswered.", ["reason"], registry=registry)
        self._dropped = {reason: dropped.labels(reason) for reason in get_args(DropReason)}
        self._batch_items = Histogram(
            "stillguard_batch_items", "Windows in a model call.", buckets=_ITEM_BUCKETS, registry=registry
        )
        self._batch_tokens = Histogram(
            "stillguard_batch_tokens", "Tokens in a model call, padding left out.", buckets=_TOKEN_BUCKETS, registry=registry
        )
        self._padded_tokens = Counter(
            "stillguard_padded_tokens", "Tokens given to the model, padding included.", registry=registry
        )
        self._batch_seconds = Histogram(
            "stillguard_batch_seconds", "Time of one model call.", buckets=_STAGE_BUCKETS_S, registry=registry
        )
        lost = Counter("stillguard_lost_sessions", "Sessions that lost their model.", ["reason"], registry=registry)
        self._lost = {reason: lost.labels(reason) for reason in get_args(LossReason)}
        reloads = Counter("stillguard_reloads", "Reloads of artefact and policies.", ["outcome"], registry=registry)
        self._reloads = {outcome: reloads.labels(outcome) for outcome in get_args(ReloadOutcome)}
        self._sessions = Gauge("stillguard_sessions", "Sessions that the server wants.", registry=registry)
        self._live_sessions = Gauge("stillguard_live_sessions", "Sessions that serve now.", registry=registry)
        self._queue_items = Gauge("stillguard_queue_items", "Windows that wait for a session.", registry=registry)
        self._queue_tokens = Gauge("stillguard_queue_tokens", "Tokens that wait for a session.", registry=registry)
        self._queue_wait = Gauge(
            "stillguard_queue_wait_seconds",
            "Until the windows that wait are done, at the rate of the latest batches.",
            registry=registry,
        )
        self._queue_max_items = Gauge("stillguard_queue_max_items", "Most windows that may wait.", registry=registry)
        self._queue_max_tokens = Gauge("stillguard_queue_max_tokens", "Most tokens that may wait.", registry=registry)
        self._queue_max_wait = Gauge(
            "stillguard_queue_max_wait_seconds", "A request that would wait for longer is shed.", registry=registry
        )
        self._request_timeout = Gauge("stillguard_request_timeout_seconds", "The one deadline of a request.", registry=registry)
        self._teacher_timeout = Gauge(
            "stillguard_teacher_timeout_seconds", "The longest an escalation may take.", registry=registry
        )
        self._ready = Gauge("stillguard_ready", "1 while the server takes traffic, else 0.", registry=registry)
        self._teacher_ready = Gauge("stillguard_teacher_ready", "1 while a teacher can be asked, else 0.", registry=registry)
        self._info = Info("stillguard", "The artefact being served.", registry=registry)

    def describe(self, *, artifact: ArtifactId, policies: str, teacher: str) -> None:
        """Fill ``stillguard_info``; called before traffic, and again when another artefact is served.

        Args:
            policies: the served policies as ``id@version``, comma-separated.
            teacher: the identity of the teacher that answers escalations.
        """
        self._info.info(
            {
                "artifact_version": artifact.version,
                "artifact_hash": artifact.hash,
                "precision": artifact.precision,
                "policies": policies,
                "teacher": teacher,
            }
        )

    def follow(
        self,
        *,
        ready: Callable[[], bool],
        sessions: Callable[[], int],
        live_sessions: Callable[[], int],
        queue_items: Callable[[], int],
        queue_tokens: Callable[[], int],
        queue_wait_s: Callable[[], float],
    ) -> None:
        """Let the gauges of these names follow the server, read at each scrape; called once, before traffic."""
        self._ready.set_function(lambda: float(ready()))
        for gauge, read in (
            (self._sessions, sessions),
            (self._live_sessions, live_sessions),
            (self._queue_items, queue_items),
            (self._queue_tokens, queue_tokens),
            (self._queue_wait, queue_wait_s),
        ):
            gauge.set_function(read)

    def follow_teacher(self, is_ready: Callable[[], bool]) -> None:
        """Let ``stillguard_teacher_ready`` follow the teacher; it stays 0 where there is none."""
        self._teacher_ready.set_function(lambda: float(is_ready()))

    def describe_limits(
        self,
        *,
        queue_max_items: int,
        queue_max_tokens: int,
        queue_max_wait_s: float,
        request_timeout_s: float,
        teacher_timeout_s: float,
    ) -> None:
        """Show the configured bounds beside what they bound; called once, before traffic."""
        self._queue_max_items.set(queue_max_items)
        self._queue_max_tokens.set(queue_max_tokens)
        self._queue_max_wait.set(queue_max_wait_s)
        self._request_timeout.set(request_timeout_s)
        self._teacher_timeout.set(teacher_timeout_s)

    def request_done(self, route: Route, outcome: Outcome) -> None:
        self._requests[route, outcome].inc()

    def refused(self, code: ErrorCode) -> None:
        """A request was answered with an error's envelope."""
        self._errors[code].inc()

    def turned_away(self, status: TurnedAwayStatus) -> None:
        self._turned_away[status].inc()

    def answer_done(self, answer: CheckAnswer) -> None:
        """Count one answered request's stages, and the verdicts, categories and escalations of its texts."""
        timings = answer.timings
        self._stages["encode"].observe(timings.encode_s)
        self._stages["queue"].observe(timings.queue_s)
        self._stages["infer"].observe(timings.infer_s)
        self._stages["student"].observe(timings.total_s - timings.teacher_s)
        self._stages["total"].observe(timings.total_s)
        escalated = False
        for result in answer.results:
            self._verdicts[result.verdict, result.decided_by].inc()
            for category in result.categories:
                self._flagged[category, result.decided_by].inc()
            if result.escalation is not None:
                escalated |= result.escalation.outcome in _WAITED_FOR
                self.cascade.escalation_done(result.escalation.outcome)
        if escalated:
            self._stages["teacher"].observe(timings.teacher_s)

    def batch_done(self, *, items: int, tokens: int, padded_tokens: int, infer_s: float) -> None:
        """See :class:`server.batching.observer.BatchObserver`, for this and the next two."""
        self._batch_items.observe(items)
        self._batch_tokens.observe(tokens)
        self._padded_tokens.inc(padded_tokens)
        self._batch_seconds.observe(infer_s)

    def dropped(self, *, reason: DropReason, items: int) -> None:
        self._dropped[reason].inc(items)

    def session_lost(self, *, reason: LossReason) -> None:
        self._lost[reason].inc()

    def reload_done(self, outcome: ReloadOutcome) -> None:
        self._reloads[outcome].inc()

    def exposition(self, accept: str = "") -> tuple[bytes, str]:
        """The registry in the text format that ``accept`` prefers, and its content type."""
        encode, content_type = choose_encoder(accept)
        return encode(self._registry), content_type
