"""``python -m loadtest VERB``: each verb has a ``--help`` of its own."""

import sys
from importlib import import_module

VERBS = {"bench": ("loadtest.bench.cli", "the served rate against the model's ceiling on this machine, and against peers")}
"""Verb → the module whose ``main(arguments)`` runs it and returns the exit code, and one line for the help."""


def main(arguments: list[str]) -> int:
    """Run a verb. 2 for one that isn't there."""
    if arguments and arguments[0] in VERBS:
        return import_module(VERBS[arguments[0]][0]).main(arguments[1:])
    is_asked = arguments[:1] in (["-h"], ["--help"])
    lines = ["usage: python -m loadtest VERB [options]", "", *(f"  {verb:<8}{line}" for verb, (_, line) in VERBS.items())]
    print("\n".join(lines), file=sys.stdout if is_asked else sys.stderr)
    return 0 if is_asked else 2


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
