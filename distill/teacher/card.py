"""The teacher's model card, written from what was measured."""

from typing import Any

_HEAD = """# The shipped teacher

A LoRA adapter over {base} that answers guard prompts in the `{prompt}` form (`server/core/prompt.py`) with Yes or No, one
category a prompt. It gives students their signals, and judges online what the student is unsure of; which teacher the shipped
student learned from, the student's own card says. Trained by this project; the adapter is under the project's licence,
the base under its own (Apache-2.0).

Tuned on {seen:,} texts (counted as often as seen), rank {rank}, texts cut at {max_text_tokens} tokens, English only.
It is a 135M model: it ranks well and explains nothing. In the `title` form it knows a category by its title alone;
another wording in the policy doesn't change its mind, another title does, and is judged less well than measured.
"""


def teacher_card(settings: dict[str, Any], reports: dict[str, dict[str, Any]]) -> str:
    """Markdown.

    Args:
        settings: what ``tune.json`` holds.
        reports: split → the report of :func:`distill.metrics.evaluate`.
    """
    runs = [settings, *settings["earlier"]]
    parts = [_HEAD.format(**settings, seen=sum(run["rows"] * run["epochs"] for run in runs))]
    for split, report in reports.items():
        pooled = report["pooled"]
        parts.append(f"\n## On {split}: {report['rows']:,} texts, human labels\n")
        parts.append(
            "| category | positives | negatives | AU-PRC | AUROC | ECE | recall at 1 % FPR |\n|---|---|---|---|---|---|---|"
        )
        rows = {**report["categories"], "**pooled**": pooled}
        parts += [_row(name, figures) for name, figures in rows.items()]
    return "\n".join(parts) + "\n"


def _row(name: str, figures: dict[str, Any]) -> str:
    cells = [figures[key] for key in ("au_prc", "auroc", "ece", "recall_at_1pct_fpr")]
    shown = " | ".join("–" if cell is None else f"{cell:.3f}" for cell in cells)
    return f"| {name} | {figures['positives']} | {figures['negatives']} | {shown} |"
