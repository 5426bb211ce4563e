"""The report for people."""

from collections.abc import Mapping, Sequence
from typing import Any

from loadtest.goal import titled

SHOWN_GROUPS = 40
"""So many of the worst are printed and drawn; the record has all."""
WRONG_NAMES = {"safe": "false blocks", "unsafe": "misses"}

Row = tuple[str, ...]


def render(record: Mapping[str, Any]) -> str:
    """Every file's tables, and what a reader must know to believe them."""
    parts = [table for file in record["files"] for table in _file(file)]
    return "\n\n".join([_served(record["served"]), *parts, *_notes(record)])


def percent(share: float | None) -> str:
    return "–" if share is None else f"{share * 100:.1f} %"


def interval(share: Mapping[str, Any]) -> str:
    return "–" if share["low"] is None else f"{share['low'] * 100:.1f}–{share['high'] * 100:.1f}"


def _served(served: Sequence[Mapping[str, Any]]) -> str:
    header = ("artefact", "hash", "precision", "policy", "version", "texts")
    rows = [
        (
            one["artifact_version"],
            one["artifact_hash"][:12],
            one["artifact_precision"],
            one["policy_id"],
            one["policy_version"],
            str(one["texts"]),
        )
        for one in served
    ]
    return titled("Answered by", header, rows)


def _file(file: Mapping[str, Any]) -> list[str]:
    sides = [side for side in WRONG_NAMES if file[side]["texts"]]
    header = ("", "texts", "blocked", "95 %", "review", "allowed", "not checked", "by teacher", "degraded")
    left_out = f" ({file['unlabelled']} rows without a label left out)" if file["unlabelled"] else ""
    tables = [titled(f"{file['file']}{left_out}", header, [_side(side, file[side]) for side in sides])]
    tables += [_groups(file, side) for side in sides if file[side]["groups"]]
    if file["safe"]["wrong_categories"]:
        tables.append(_categories(file))
    return tables


def _side(side: str, counted: Mapping[str, Any]) -> Row:
    decided_by, checked = counted["decided_by"], counted["block"]["of"]
    return (
        side,
        str(counted["texts"]),
        percent(counted["block"]["share"]),
        interval(counted["block"]),
        percent(counted["review"]["share"]),
        percent(counted["allow"]["share"]),
        str(counted["not_checked"]),
        *(percent(decided_by.get(name, 0) / checked if checked else None) for name in ("teacher", "student_degraded")),
    )


def _groups(file: Mapping[str, Any], side: str) -> str:
    groups = file[side]["groups"]
    rows = [
        (
            group["group"],
            str(group["texts"]),
            str(group["wrong"]["count"]),
            percent(group["wrong"]["share"]),
            interval(group["wrong"]),
            str(group["review"]["count"]),
            str(group["not_checked"]),
        )
        for group in groups[:SHOWN_GROUPS]
    ]
    more = f" (the worst {SHOWN_GROUPS} of {len(groups)})" if len(groups) > SHOWN_GROUPS else ""
    title = f"{file['name']}: {WRONG_NAMES[side]} by {file['by']}, {side} texts{more}"
    return titled(title, (file["by"], "texts", "wrong", "", "95 %", "review", "not checked"), rows)


def _categories(file: Mapping[str, Any]) -> str:
    wrong = file["safe"]["wrong"]["count"]
    rows = [(name, str(count), percent(count / wrong)) for name, count in file["safe"]["wrong_categories"].items()]
    return titled(f"{file['name']}: what the false blocks were for", ("category", "texts", "of them"), rows)


def _notes(record: Mapping[str, Any]) -> list[str]:
    lines = []
    if len(record["served"]) > 1:
        lines.append(
            "The artefact or the policy changed during the run, or several servers with different ones answered: the figures "
            "mix them."
        )
    for file in record["files"]:
        for side in WRONG_NAMES:
            reasons = file[side]["not_checked_reasons"].items()
            lines += [f"{file['name']}, {side} texts not checked: {count} × {reason}" for reason, count in reasons]
            if pending := file[side]["escalations"].get("pending"):
                lines.append(
                    f"{file['name']}, {side} texts: {pending} verdicts are the student's own, given while the teacher's answer "
                    "was pending."
                )
    return lines
