"""``python -m loadtest verdicts``."""

import argparse
import asyncio
import json
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import httpx

from loadtest.command import (
    UNUSABLE,
    Unusable,
    add_api_key,
    add_out,
    conclude,
    count,
    judged,
    open_out,
    read_api_key,
    verb_parser,
)
from loadtest.goal import render_goals
from loadtest.scenario.look import look_at
from loadtest.verdicts.ask import Asker, NotChecked, Outcome
from loadtest.verdicts.labelled import ROLES, LabelledFile, read_labelled
from loadtest.verdicts.picture import draw
from loadtest.verdicts.report import Answered, Limits, describe, failures, judge_verdicts
from loadtest.verdicts.tables import render

TIMEOUT_S = 30.0

DESCRIPTION = """\
Ask a running server about texts whose label is known: how many safe ones it blocks, how many unsafe ones it allows, and of
which kind they are. Writes report.json and report.png, prints tables, and ends with the report as one line of JSON.

A file is JSON Lines (.jsonl), CSV or Parquet, with the columns text and unsafe (0 or 1; rows without are left out), and
perhaps role (user or assistant). The server counts these texts, and logs them, as it does all others.
"""
EXAMPLES = """\
examples:
  python -m loadtest verdicts --url http://127.0.0.1:8000 labelled.csv
  python -m loadtest verdicts --url http://guard:8000 xstest.jsonl hatecheck.jsonl --max-false-blocks 0.3 --max-misses 0.2
  python -m loadtest verdicts --url http://guard:8000 tickets.parquet --by language --policy strict --keep-texts --out found

exit code: 0; 1 if a given limit was missed, or couldn't be judged because texts weren't checked; 2 if it couldn't be run
"""


def main(arguments: Sequence[str]) -> int:
    options = _parser().parse_args(arguments)
    url = options.url.rstrip("/")
    try:
        files = [read_labelled(path, by=options.by, role=options.role) for path in options.files]
        key = read_api_key(options.api_key_file)
        if look_at(url).needs_key and key is None:
            raise Unusable(f"{url} asks for an API key: --api-key-file")
        out = open_out(options.out, "verdicts")
        began, began_s = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), time.monotonic()
        answered = asyncio.run(_ask(files, url=url, key=key, policy=options.policy, concurrency=options.concurrency))
        _require_answers(answered)
    except (Unusable, OSError) as error:
        print(f"verdicts: {error}", file=sys.stderr)
        return UNUSABLE
    run = {"url": url, "policy_asked": options.policy, "started": began, "seconds": time.monotonic() - began_s}
    limits = Limits(options.max_false_blocks, options.max_misses)
    return _tell(run | describe(answered), answered, limits, out, keeps_texts=options.keep_texts)


async def _ask(
    files: Sequence[LabelledFile], *, url: str, key: str | None, policy: str | None, concurrency: int
) -> list[Answered]:
    headers = {} if key is None else {"authorization": f"Bearer {key}"}
    progress = _Progress(sum(len(file.texts) for file in files))
    async with httpx.AsyncClient(base_url=url, headers=headers, timeout=TIMEOUT_S, trust_env=False) as client:
        asker = Asker(client, policy=policy)
        try:
            return [
                Answered(file, await asker.ask_all(file.texts, concurrency=concurrency, on_done=progress)) for file in files
            ]
        finally:
            progress.end()


def _require_answers(answered: Sequence[Answered]) -> None:
    """Raises Unusable unless something was checked."""
    outcomes = [outcome for one in answered for outcome in one.outcomes]
    failed = [outcome for outcome in outcomes if isinstance(outcome, NotChecked)]
    if len(failed) == len(outcomes):
        raise Unusable(f"none of {len(outcomes)} texts was checked: {failed[0].reason}")


def _tell(record: dict[str, Any], answered: Sequence[Answered], limits: Limits, out: Path, *, keeps_texts: bool) -> int:
    goals = judge_verdicts(record, limits)
    record = judged(record, goals)
    written = [out / "report.png"]
    draw(record, written[0])
    if keeps_texts:
        written.append(_keep(failures(answered), out / "failures.jsonl"))
    shown = "\n\n".join([render(record), *([render_goals(goals)] if goals else [])])
    return conclude(record, out, shown=shown, written=written)


def _keep(rows: Sequence[dict[str, Any]], path: Path) -> Path:
    """For its owner's eyes, as whatever holds texts."""
    path.unlink(missing_ok=True)
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
        file.writelines(f"{json.dumps(row, allow_nan=False)}\n" for row in rows)
    return path


class _Progress:
    """A line on a terminal's stderr that is written over and over; nothing elsewhere."""

    def __init__(self, total: int) -> None:
        self._total = total
        self._done = self._not_checked = 0
        self._is_shown = sys.stderr.isatty()

    def __call__(self, outcomes: Sequence[Outcome]) -> None:
        self._done += len(outcomes)
        self._not_checked += sum(isinstance(outcome, NotChecked) for outcome in outcomes)
        if self._is_shown:
            print(
                f"\rasked: {self._done}/{self._total} texts, {self._not_checked} not checked",
                end="",
                file=sys.stderr,
                flush=True,
            )

    def end(self) -> None:
        if self._is_shown:
            print(file=sys.stderr)


def _parser() -> argparse.ArgumentParser:
    parser = verb_parser("verdicts", DESCRIPTION, EXAMPLES)
    add = parser.add_argument
    add("files", type=Path, nargs="+", metavar="FILE", help="labelled texts: .jsonl, .csv or .parquet")
    add("--url", required=True, help="the server")
    add("--policy", metavar="ID", help="the policy to ask for; by default the server's own choice")
    add_api_key(parser)
    add("--by", metavar="COLUMN", help="the groups of the report; by default the column kind, where a file has it")
    add("--role", choices=ROLES, default="user", help="of texts for which the file names none; by default user")
    add("--concurrency", type=count, default=2, metavar="N", help="requests at a time; by default 2")
    add("--max-false-blocks", type=_share, metavar="X", help="limit: most safe texts blocked, of those checked in each file")
    add("--max-misses", type=_share, metavar="X", help="limit: most unsafe texts allowed, of those checked in each file")
    add("--keep-texts", action="store_true", help="also write the texts with a wrong verdict, to failures.jsonl")
    add_out(parser, takes="the report")
    return parser


def _share(given: str) -> float:
    try:
        share = float(given)
    except ValueError:
        share = -1.0
    if not 0 <= share <= 1:
        raise argparse.ArgumentTypeError("must be a share from 0 to 1")
    return share
