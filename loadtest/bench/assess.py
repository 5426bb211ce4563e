"""From the calls of one load to its measures: every answer is read, checked and counted."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from loadtest.bench.connections import LOST, UNANSWERED, Call
from loadtest.bench.dialects import Dialect, Reply, WrongAnswer
from loadtest.bench.load import Closed, Load, Measured
from loadtest.stats import percentile, summarise


@dataclass(frozen=True, slots=True)
class Clock:
    """The measured seconds on ``time.monotonic()``, when the last call was given up, and CPU seconds used meanwhile."""

    began_at: float
    ended_at: float
    given_up_at: float
    driver_cpu_s: float
    server_cpu_s: float | None

    @property
    def measured_s(self) -> float:
        return self.ended_at - self.began_at

    def is_within(self, at: float) -> bool:
        """False for NaN, the end of a call that has none."""
        return self.began_at <= at < self.ended_at


def assess(load: Load, dialect: Dialect, calls: Sequence[Call], clock: Clock, alone_s: Mapping[int, float]) -> Measured:
    """See :class:`loadtest.bench.load.Measured` for which calls count where."""
    texts = load.texts_per_request
    tally = _Tally()
    right = 0
    for call in calls:
        is_counted = _is_counted(load, call, clock)
        if not is_counted and not clock.is_within(call.done_at):
            continue
        outcome, reply, complaint = _read(dialect, call, texts)
        right += reply is not None and clock.is_within(call.done_at)
        if is_counted:
            tally.add(call, outcome, reply, complaint, ended_at=min(clock.given_up_at, call.done_at), alone_s=alone_s)
            tally.late.append(min(clock.given_up_at, call.sent_at) - call.intended_at)
    windows = [one for one in tally.windows if one is not None]
    return Measured(
        load=load,
        texts_per_s=right * texts / clock.measured_s,
        outcomes=dict(sorted(tally.outcomes.items())),
        latency=summarise(tally.latencies),
        lateness_p99_s=percentile(sorted(tally.late), 0.99),
        windows_per_text=sum(windows) / len(windows) / texts if windows and len(windows) == len(tally.windows) else None,
        overhead_p50_s=percentile(sorted(tally.overheads), 0.5) if tally.overheads else None,
        beside_model_p50_s=percentile(sorted(tally.beside), 0.5) if tally.beside else None,
        driver_cpu=clock.driver_cpu_s / clock.measured_s,
        server_cpu=None if clock.server_cpu_s is None else clock.server_cpu_s / clock.measured_s,
        complaint=tally.complaint,
    )


class _Tally:
    def __init__(self) -> None:
        self.outcomes: Counter[str] = Counter()
        self.latencies: list[float] = []
        self.late: list[float] = []
        self.overheads: list[float] = []
        self.beside: list[float] = []
        self.windows: list[int | None] = []
        self.complaint: str | None = None

    def add(
        self,
        call: Call,
        outcome: str,
        reply: Reply | None,
        complaint: str | None,
        *,
        ended_at: float,
        alone_s: Mapping[int, float],
    ) -> None:
        self.outcomes[outcome] += 1
        self.complaint = self.complaint or complaint
        latency_s = ended_at - call.intended_at
        if outcome in ("200", LOST, UNANSWERED):
            self.latencies.append(latency_s)
        if reply is None:
            return
        self.windows.append(reply.windows)
        if reply.windows == 1:
            if reply.infer_s is not None:
                self.overheads.append(latency_s - reply.infer_s)
            if call.index in alone_s:
                self.beside.append(latency_s - alone_s[call.index])


def _is_counted(load: Load, call: Call, clock: Clock) -> bool:
    if isinstance(load.arrivals, Closed):
        return call.outcome == UNANSWERED or clock.is_within(call.done_at)
    return clock.is_within(call.intended_at)


def _read(dialect: Dialect, call: Call, texts: int) -> tuple[str, Reply | None, str | None]:
    """Outcome, the answer if it is right, and what is wrong with it if it isn't."""
    if call.outcome != "200":
        return call.outcome, None, None
    try:
        return "200", dialect.check(call.body, texts), None
    except WrongAnswer as error:
        return "wrong", None, str(error)
