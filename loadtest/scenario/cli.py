"""``python -m loadtest scenario``."""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from loadtest.command import UNUSABLE, Unusable, count, verb_parser
from loadtest.scenario.compose import compose
from loadtest.scenario.exchange import FEEDBACK_PATH
from loadtest.scenario.look import look_at
from loadtest.texts import generate_texts, read_texts


def main(arguments: Sequence[str]) -> int:
    options = _parser().parse_args(arguments)
    try:
        offered = look_at(options.url.rstrip("/"))
        texts = (
            read_texts(options.data, options.count, seed=options.seed)
            if options.data
            else generate_texts(options.count, seed=options.seed)
        )
    except (Unusable, OSError) as error:
        print(f"scenario: {error}", file=sys.stderr)
        return UNUSABLE
    paths = [path for path in offered.paths if options.feedback or path != FEEDBACK_PATH]
    exchanges = compose(texts, options.count, paths=paths, needs_key=offered.needs_key, seed=options.seed)
    json.dump([exchange.to_record() for exchange in exchanges], sys.stdout)
    print()
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = verb_parser(
        "scenario", "Write what run would ask a server, and the answers that are due, as JSON: k6/scenario.js plays it."
    )
    add = parser.add_argument
    add("--url", required=True, help="the server, which is asked what routes it has")
    add("--count", type=count, default=2_048, metavar="N", help="requests, which go round; by default 2048")
    add("--data", type=Path, metavar="PARQUET", help="texts from the column text of this file, in place of generated ones")
    add("--feedback", action="store_true", help="correct some verdicts, too: only where nobody learns from the feedback log")
    add("--seed", type=int, default=1, help="of texts and mix; by default 1")
    return parser
