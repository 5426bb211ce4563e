"""A run's picture: latency against offered rate, and ours beside the peers."""

from pathlib import Path
from typing import TYPE_CHECKING

from loadtest.bench.goals import P99_SHARE
from loadtest.bench.report import Report

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def draw(report: Report, path: Path) -> None:
    """Write a PNG."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # noqa: PLC0415 (a second to import)
    from matplotlib.figure import Figure  # noqa: PLC0415

    figure = Figure(figsize=(13, 5.5), layout="constrained")
    FigureCanvasAgg(figure)
    latency, bars = figure.subplots(1, 2, width_ratios=(2, 1))
    _draw_latency(report, latency)
    _draw_rates(report, bars)
    cpu, cores = report.machine["cpu"], report.machine["cores"]
    figure.suptitle(f"{report.artifact['version']} ({report.artifact['precision']}), cores: {cores}, {cpu}")
    figure.savefig(path, dpi=110)


def _draw_latency(report: Report, axes: "Axes") -> None:
    offered = [share * report.saturation.texts_per_s for share in report.opened]
    for name, style in (("p50", "o-"), ("p99", "s-")):
        values = [getattr(one.latency, f"{name}_s") * 1e3 for one in report.opened.values()]
        axes.plot(offered, values, style, label=f"{name}, from the intended time")
    limit_ms = 4 * report.unloaded.latency.p50_s * 1e3
    axes.axhline(limit_ms, color="grey", linestyle="--", label=f"4 × unloaded median ({limit_ms:.1f} ms)")
    axes.axvline(P99_SHARE * report.saturation.texts_per_s, color="grey", linestyle=":", label=f"{P99_SHARE:.0%} of saturation")
    axes.set(xlabel="offered, texts/s (open loop, Poisson)", ylabel="latency, ms", yscale="log", title="Latency under load")
    achieved = axes.twinx()
    achieved.plot(offered, [one.texts_per_s for one in report.opened.values()], "^-", color="tab:green", label="achieved")
    achieved.set_ylabel("achieved, texts/s")
    achieved.set_ylim(bottom=0)
    lines, names = axes.get_legend_handles_labels()
    more_lines, more_names = achieved.get_legend_handles_labels()
    axes.legend(lines + more_lines, names + more_names, loc="upper left", fontsize="small")


def _draw_rates(report: Report, axes: "Axes") -> None:
    rates = {"ceiling": report.ceiling_texts_per_s}
    if report.stock:
        rates["stock ceiling"] = report.stock.best.texts_per_s
    rates["ours, arrays"] = report.array_saturation.texts_per_s
    rates["ours, single"] = report.saturation.texts_per_s
    rates |= {name: peer.saturation.texts_per_s for name, peer in report.peers.items()}
    bars = axes.barh(
        list(rates), list(rates.values()), color=["tab:blue" if name.startswith("ours") else "silver" for name in rates]
    )
    axes.bar_label(bars, fmt="%.0f", padding=3)
    axes.margins(x=0.15)
    axes.invert_yaxis()
    axes.set(xlabel="texts/s at saturation", title="Highest rates")
