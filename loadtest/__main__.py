"""``python -m loadtest VERB``: each verb has a ``--help`` of its own."""

import sys
from importlib import import_module

VERBS = {
    "bench": ("loadtest.bench.cli:main", "the served rate against the model's ceiling on this machine, and against peers"),
    "run": ("loadtest.run.cli:run", "a realistic load on a server, every answer checked, held against limits"),
    "worker": ("loadtest.run.cli:work", "takes part in a run of another process"),
    "overload": ("loadtest.overload.cli:main", "three times what a server can hold: does it keep its manners?"),
    "teacher": ("loadtest.busy_teacher.cli:main", "what a busy teacher costs the texts that don't need it"),
    "verdicts": ("loadtest.verdicts.cli:main", "what a running server's verdicts are worth on labelled texts"),
    "scenario": ("loadtest.scenario.cli:main", "what run asks, as JSON for k6"),
}
"""Verb → the function that takes its arguments and returns the exit code, and one line for the help."""


def main(arguments: list[str]) -> int:
    """Run a verb. 2 for one that isn't there."""
    if arguments and arguments[0] in VERBS:
        module, _, function = VERBS[arguments[0]][0].partition(":")
        return getattr(import_module(module), function)(arguments[1:])
    is_asked = arguments[:1] in (["-h"], ["--help"])
    lines = ["usage: python -m loadtest VERB [options]", "", *(f"  {verb:<10}{line}" for verb, (_, line) in VERBS.items())]
    print("\n".join(lines), file=sys.stdout if is_asked else sys.stderr)
    return 0 if is_asked else 2


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
