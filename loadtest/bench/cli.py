"""``python -m loadtest bench``."""

import argparse
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from tqdm import tqdm

from loadtest.bench.artifact import Artifact
from loadtest.bench.goals import goals
from loadtest.bench.peers.catalogue import PEERS
from loadtest.bench.peers.environment import default_cache
from loadtest.bench.plan import FULL, QUICK
from loadtest.bench.plot import draw
from loadtest.bench.report import Report
from loadtest.bench.run import Options, run
from loadtest.bench.table import render
from loadtest.command import MISSED, UNUSABLE, Unusable, add_out, open_out, verb_parser
from loadtest.goal import render_goals
from loadtest.texts import generate_texts, read_texts

DESCRIPTION = """\
Measure, in one run on this machine: the ceiling (ONNX Runtime alone, no HTTP, the best of all settings); what our server
serves through HTTP, closed-loop and open-loop; what it costs when idle; and, with --vs, what others serve with the same
files and texts. Prints tables, draws bench.png, and ends with the whole report as one line of JSON.

Leave the machine alone meanwhile: every number is a share of what the cores had left. About six minutes, and two more for
each peer; the first run with a peer installs it as well.
"""
EXAMPLES = """\
examples:
  python -m loadtest bench --targets                        how far the served rate is from the ceiling
  python -m loadtest bench --vs litserve --vs infinity      beside two others
  python -m loadtest bench --stock-model stock/model.onnx   and how far the graph has come since optimum's stock INT8
  python -m loadtest bench --data moderation.parquet        with texts of one's own
  python -m loadtest bench --quick                          does it work at all?

exit code: 0; 1 with --gate if a measured target was missed or an answer was wrong; 2 if the bench couldn't be run
"""


def main(arguments: Sequence[str]) -> int:
    options = _parser().parse_args(arguments)
    plan = QUICK if options.quick else FULL
    out = open_out(options.out, "bench")
    models = 2 if options.stock_model else 1
    try:
        texts = read_texts(options.data, plan.texts, seed=options.seed) if options.data else None
        with tqdm(total=plan.steps(models=models, peers=len(options.vs)), unit="step", file=sys.stderr) as bar:
            report = run(
                Options(Artifact(options.artifact), options.stock_model, options.url, options.vs, options.cache, out),
                plan,
                texts or generate_texts(plan.texts, seed=options.seed),
                source=str(options.data or f"generated, seed {options.seed}"),
                progress=_Steps(bar),
            )
    except (Unusable, OSError) as error:
        print(f"bench: {error}", file=sys.stderr)
        return UNUSABLE
    return _tell(report, out, shows_targets=options.targets or options.gate, is_gate=options.gate)


def _tell(report: Report, out: Path, *, shows_targets: bool, is_gate: bool) -> int:
    judged = goals(report)
    record = report.to_record() | {"targets": [goal.to_record() for goal in judged]}
    draw(report, out / "bench.png")
    (out / "report.json").write_text(json.dumps(record, indent=2, allow_nan=False) + "\n", encoding="utf-8")
    print(render(report))
    if shows_targets:
        print(f"\n{render_goals(judged)}")
    print(f"\nwritten: {out / 'report.json'}, {out / 'bench.png'}\n")
    print(json.dumps(record, allow_nan=False), flush=True)
    is_wrong = any(one.complaint for one in report.measurements)
    return MISSED if is_gate and (is_wrong or any(goal.is_met is False for goal in judged)) else 0


class _Steps:
    """Shows what is being measured; a step is done when the next one is told."""

    def __init__(self, bar: tqdm) -> None:
        self._bar = bar
        self._is_first = True

    def __call__(self, what: str) -> None:
        if not self._is_first:
            self._bar.update()
        self._is_first = False
        self._bar.set_description(what)


def _parser() -> argparse.ArgumentParser:
    parser = verb_parser("bench", DESCRIPTION, EXAMPLES)
    shipped = Path(os.path.relpath(Path(__file__).resolve().parents[2] / "server" / "artifacts" / "default"))
    add = parser.add_argument
    add("--artifact", type=Path, default=shipped, metavar="DIR", help=f"the student's artefact; by default {shipped}")
    add("--url", help="measure a server that runs already, with this artefact and no teacher; by default one is started")
    add("--stock-model", type=Path, metavar="PATH", help="an ONNX file of the same student to compare the ceiling with")
    add("--vs", action="append", default=[], choices=sorted(PEERS), help="also measure this one; may be given several times")
    add("--data", type=Path, metavar="PARQUET", help="texts from the column text of this file, in place of generated ones")
    add("--seed", type=int, default=1, help="of the texts' choice; by default 1")
    add_out(parser, takes="report.json, bench.png and the servers' logs")
    add("--cache", type=Path, default=default_cache(), metavar="DIR", help="where the peers' environments are kept")
    add("--targets", action="store_true", help="print each target with what was measured")
    add("--gate", action="store_true", help="as --targets, and exit with 1 if one was missed")
    add("--quick", action="store_true", help="everything once within about half a minute: shows that it works, not how fast")
    return parser
