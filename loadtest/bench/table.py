"""A run's report as text."""

from loadtest.bench.ceiling import Ceiling
from loadtest.bench.load import Closed, Measured
from loadtest.bench.report import Report
from loadtest.goal import titled

_LATENCIES = ("p50 ms", "p90 ms", "p99 ms", "max ms")
_MEASURED = ("load", "texts/s", "of ceiling", *_LATENCIES, "server cores", "driver cores", "outcomes")


def render(report: Report) -> str:
    """Every measurement, for people."""
    machine, texts = report.machine, report.texts
    parts = [
        f"{machine['cpu']}, cores: {machine['cores']}, load average {machine['load_before']:.1f} at the start",
        f"{texts['count']} texts ({texts['source']}), {texts['tokens_per_text']:.1f} tokens each on average",
        _ceiling("Ceiling: ONNX Runtime alone", report.ceiling),
        f"again between the loads: {report.ceiling_again.texts_per_s:.0f} texts/s",
    ]
    if report.stock:
        parts.append(_ceiling("Stock model's ceiling", report.stock))
    ceiling = report.ceiling_texts_per_s
    ours = [*report.singles, *report.arrays, *report.opened.values()]
    parts.append(titled("Served", _MEASURED, (_row(_name(one), one, ceiling) for one in ours)))
    for name, peer in report.peers.items():
        rows = [_row(f"{name}, {_name(one)}", one, ceiling) for one in (*peer.closed, peer.at_maximum)]
        if peer.ours:
            rows.append(_row(f"ours, {_name(peer.ours)}", peer.ours, ceiling))
        parts.append(titled(f"{name}: {peer.runs}", _MEASURED, rows))
    if report.peers:
        parts.append(_ratios(report))
    parts.extend(f"{name} was not run: {why}" for name, why in report.not_run.items())
    parts.append(_notes(report))
    return "\n\n".join(parts)


def _ceiling(title: str, ceiling: Ceiling) -> str:
    rows = [
        (str(rate.setting), f"{rate.texts_per_s:.0f}", f"{rate.tokens_per_s:.0f}", f"{rate.cpu_s_per_text * 1e3:.2f}")
        for rate in ceiling.families
    ]
    table = titled(title, ("sessions, order, batches", "texts/s", "tokens/s", "CPU ms per text"), rows)
    return f"{table}\nwith tokenising: {ceiling.with_tokenising_texts_per_s:.0f} texts/s"


def _ratios(report: Report) -> str:
    rows = [
        (
            name,
            f"{report.saturation.texts_per_s / peer.saturation.texts_per_s:.2f}",
            f"{peer.at_maximum.latency.p99_s / peer.ours.latency.p99_s:.2f}" if peer.ours else "",
            _times(peer.saturation.server_cpu_s_per_text, report.saturation.server_cpu_s_per_text),
        )
        for name, peer in report.peers.items()
    ]
    header = ("peer", "rate, ours/theirs", "p99 at their maximum, theirs/ours", "server CPU per text, theirs/ours")
    return titled("Ours beside theirs", header, rows)


def _notes(report: Report) -> str:
    lines = []
    if report.overhead_s is not None:
        lines.append(f"an idle server adds {report.overhead_s * 1e3:.2f} ms to the model's own time (median)")
    for name, one in (("single texts", report.saturation), ("arrays", report.array_saturation)):
        if one.server_cpu_s_per_text is not None:
            share = one.server_cpu_s_per_text / report.ceiling.best.cpu_s_per_text
            lines.append(f"{name}: server CPU {one.server_cpu_s_per_text * 1e3:.2f} ms per text, {share:.2f} × the ceiling's")
    windows = report.saturation.windows_per_text
    if windows is not None:
        planned = report.texts["windows"] / report.texts["count"]
        lines.append(f"windows per text: {windows:.3f} served, {planned:.3f} in the ceiling")
    footprint = report.footprint
    if footprint:
        lines.append(f"ready {footprint.ready_s:.2f} s after exec; idle: {footprint.idle_cpu:.2%} of a core")
        ready_mb, loaded_mb = footprint.rss_ready_bytes / 1e6, footprint.rss_loaded_bytes / 1e6
        lines.append(f"resident memory {ready_mb:.0f} MB when ready, {loaded_mb:.0f} MB after all loads")
    lines.extend(f"WRONG ANSWERS, {_name(one)}: {one.complaint}" for one in report.measurements if one.complaint)
    return "\n".join(lines)


def _row(name: str, one: Measured, ceiling_texts_per_s: float) -> tuple[str, ...]:
    latency = one.latency
    return (
        name,
        f"{one.texts_per_s:.0f}",
        f"{one.texts_per_s / ceiling_texts_per_s:.2f}",
        *(f"{value * 1e3:.1f}" for value in (latency.p50_s, latency.p90_s, latency.p99_s, latency.max_s)),
        "" if one.server_cpu is None else f"{one.server_cpu:.2f}",
        f"{one.driver_cpu:.2f}",
        ", ".join(f"{count} × {outcome}" for outcome, count in one.outcomes.items()),
    )


def _name(one: Measured) -> str:
    arrivals, texts = one.load.arrivals, one.load.texts_per_request
    what = "single" if texts == 1 else f"arrays of {texts}"
    return (
        f"{what}, {arrivals.connections} clients"
        if isinstance(arrivals, Closed)
        else f"{what}, {arrivals.rate_per_s:.0f}/s open"
    )


def _times(theirs: float | None, ours: float | None) -> str:
    return f"{theirs / ours:.2f}" if theirs and ours else ""
