"""A run's picture: rates, latency, and the server's resources, over time."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def draw(record: dict[str, Any], path: Path) -> None:
    """Write a PNG."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # noqa: PLC0415 (a second to import)
    from matplotlib.figure import Figure  # noqa: PLC0415

    figure = Figure(figsize=(11, 10.5), layout="constrained")
    FigureCanvasAgg(figure)
    rates, latency, queue, resources = figure.subplots(4, 1, sharex=True, height_ratios=(3, 3, 2, 2))
    _draw_rates(record["timeline"], rates)
    _draw_latency(record["timeline"], latency)
    _draw_queue(record["server_timeline"], queue)
    _draw_resources(record["server_timeline"], resources)
    resources.set_xlabel("seconds")
    load, machine = record["load"], record["machine"]
    loop = "open loop" if load["is_open"] else "closed loop"
    figure.suptitle(f"{load['shape']}, {loop}, {load['seconds']:g} s; driven from {machine['cpu']}, cores: {machine['cores']}")
    figure.savefig(path, dpi=100)


def _draw_rates(rows: list[dict[str, Any]], axes: "Axes") -> None:
    at = [row["at_s"] for row in rows]
    styles = {
        "offered_per_s": ("offered", "grey", "--"),
        "goodput_per_s": ("answered rightly", "tab:green", "-"),
        "refused_per_s": ("refused or wrong", "tab:red", "-"),
    }
    for name, (label, colour, style) in styles.items():
        axes.plot(at, [row[name] for row in rows], style, color=colour, label=label, drawstyle="steps-post")
    axes.set(ylabel="requests/s", title="Offered and achieved")
    axes.set_ylim(bottom=0)
    axes.legend(loc="upper left", fontsize="small")


def _draw_latency(rows: list[dict[str, Any]], axes: "Axes") -> None:
    for name, colour in (("p50", "tab:blue"), ("p99", "tab:orange")):
        known = [(row["at_s"], row[f"{name}_s"] * 1e3) for row in rows if row[f"{name}_s"] is not None]
        axes.plot([at for at, _ in known], [value for _, value in known], ".-", color=colour, label=name)
    axes.set(ylabel="ms", yscale="log", title="Latency of checks, from the time that each was due")
    if any(row["p50_s"] is not None for row in rows):
        axes.legend(loc="upper left", fontsize="small")


def _draw_queue(rows: list[dict[str, Any]], axes: "Axes") -> None:
    axes.plot([row["at_s"] for row in rows], [row["queue_items"] for row in rows], color="tab:brown")
    axes.set(ylabel="windows", title="The server's queue, by its own metrics")
    axes.set_ylim(bottom=0)


def _draw_resources(rows: list[dict[str, Any]], axes: "Axes") -> None:
    axes.set(ylabel="cores", title="The server's CPU and memory, by its own metrics")
    if not rows:
        axes.text(0.5, 0.5, "the server's metrics couldn't be read", ha="center", transform=axes.transAxes)
        return
    at = [row["at_s"] for row in rows]
    axes.plot(at, [row["cpu_cores"] for row in rows], color="tab:blue", label="CPU, cores")
    axes.set_ylim(bottom=0)
    memory = axes.twinx()
    memory.plot(at, [row["rss_bytes"] / 1e6 for row in rows], color="tab:purple", label="resident memory, MB")
    memory.set_ylabel("MB")
    memory.set_ylim(bottom=0)
    lines, names = axes.get_legend_handles_labels()
    more_lines, more_names = memory.get_legend_handles_labels()
    axes.legend(lines + more_lines, names + more_names, loc="lower right", fontsize="small")
