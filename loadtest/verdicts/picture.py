"""The report as a picture: a bar per group with its interval, safe and unsafe texts apart."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from loadtest.verdicts.tables import SHOWN_GROUPS, WRONG_NAMES

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_COLOURS = {"safe": "tab:orange", "unsafe": "tab:red"}
_INCHES_A_BAR, _INCHES_AROUND = 0.26, 1.3


def draw(record: Mapping[str, Any], path: Path) -> None:
    """Write a PNG: a row of two panels for each file."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # noqa: PLC0415 (a second to import)
    from matplotlib.figure import Figure  # noqa: PLC0415

    files = record["files"]
    heights = [_INCHES_AROUND + _INCHES_A_BAR * max(len(_bars(file[side])) for side in WRONG_NAMES) for file in files]
    figure = Figure(figsize=(13, sum(heights) + 0.5), layout="constrained")
    FigureCanvasAgg(figure)
    rows = figure.subplots(len(files), len(WRONG_NAMES), squeeze=False, height_ratios=heights)
    for file, panels in zip(files, rows, strict=True):
        for side, axes in zip(WRONG_NAMES, panels, strict=True):
            _draw_side(file, side, axes)
    served = record["served"]
    figure.suptitle(
        "; ".join(f"{one['artifact_version']} ({one['artifact_precision']}), policy {_policy(one)}" for one in served)
    )
    figure.savefig(path, dpi=100)


def _policy(served: Mapping[str, Any]) -> str:
    return f"{served['policy_id']} {served['policy_version']}"


def _bars(counted: Mapping[str, Any]) -> list[tuple[str, Mapping[str, Any]]]:
    """Name and share of each bar: all texts first, then the worst groups; only what was checked."""
    found = [("all", counted["wrong"]), *((group["group"], group["wrong"]) for group in counted["groups"][:SHOWN_GROUPS])]
    return [(f"{name} ({share['of']})", share) for name, share in found if share["of"]]


def _draw_side(file: Mapping[str, Any], side: str, axes: "Axes") -> None:
    bars = _bars(file[side])
    axes.set(
        title=f"{file['name']}: {WRONG_NAMES[side]}, {side} texts", xlabel="% of checked, with 95 % interval", xlim=(0, 100)
    )
    if not bars:
        axes.set_yticks([])
        axes.text(50, 0.5, "none were checked", ha="center", transform=axes.get_xaxis_transform())
        return
    at = range(len(bars))
    shares = [100 * share["share"] for _, share in bars]
    below = [max(0.0, 100 * (share["share"] - share["low"])) for _, share in bars]
    above = [max(0.0, 100 * (share["high"] - share["share"])) for _, share in bars]
    colours = ["dimgrey", *[_COLOURS[side]] * (len(bars) - 1)]
    axes.barh(at, shares, xerr=(below, above), color=colours, ecolor="black", capsize=2, error_kw={"elinewidth": 0.8})
    axes.set_yticks(at, [name for name, _ in bars])
    axes.tick_params(axis="y", labelsize="small")
    axes.set_ylim(len(bars) - 0.5, -0.5)
    axes.grid(axis="x", alpha=0.3)
