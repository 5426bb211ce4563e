"""What was mined, counted: for the last line on stdout, and as a table for people."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from distill.mining.candidates import REASONS, SOURCES, Candidate
from server.core.taxonomy import CATEGORIES


def summary(mined: Sequence[Candidate], splits: Sequence[str], left_out: Counter[str]) -> dict[str, Any]:
    """``{"rows", "copies", "splits", "sources", "reasons", "categories", "left_out"}``; ``copies`` is how many texts the rows
    stand for, ``categories`` counts what is held of each, by people or by the serving teacher."""
    sources, reasons = Counter(c.source for c in mined), Counter(c.reason for c in mined)
    opinions = np.array([c.opinion() for c in mined])
    return {
        "rows": len(mined),
        "copies": sum(c.copies for c in mined),
        "splits": dict(sorted(Counter(splits).items())),
        "sources": {name: sources[name] for name in SOURCES},
        "reasons": {name: reasons[name] for name in REASONS},
        "categories": {
            name: {"violated": int((column == 1).sum()), "harmless": int((column == 0).sum())}
            for name, column in zip(CATEGORIES, opinions.T, strict=True)
        },
        "left_out": dict(sorted((+left_out).items())),
    }


def table(report: dict[str, Any]) -> str:
    """Three small tables: reasons, categories, what was left out."""
    splits = ", ".join(f"{count} {name}" for name, count in report["splits"].items())
    lines = [f"{report['rows']} texts ({splits}), standing for {report['copies']}", ""]
    lines += _counts("by reason", report["reasons"])
    lines += _counts("by source", report["sources"])
    lines += [f"{'category':<28}{'violated':>10}{'harmless':>10}"]
    lines += [f"  {name:<26}{n['violated']:>10}{n['harmless']:>10}" for name, n in report["categories"].items()]
    lines += ["", *_counts("left out", report["left_out"])]
    return "\n".join(lines) + "\n"


def _counts(title: str, counts: dict[str, int]) -> list[str]:
    return [title, *(f"  {name:<26}{count:>10}" for name, count in counts.items()), ""]
