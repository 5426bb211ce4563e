"""Command-line flags from a settings dataclass: a knob is declared once, with its type, default and meaning."""

import argparse
from collections.abc import Sequence
from dataclasses import MISSING, field, fields
from typing import Any


def knob(default: Any = MISSING, *, help: str, choices: Sequence[Any] | None = None) -> Any:
    """A field that becomes a flag: what ``--help`` says of it, and what it may be where that is a closed list."""
    return field(default=default, metadata={"help": help, "choices": choices})


def add_flags(parser: argparse.ArgumentParser, settings: type, **defaults: Any) -> None:
    """One ``--kebab-case`` flag per :func:`knob`; ``defaults`` override or supply a field's default."""
    for each in fields(settings):
        default = defaults.get(each.name, None if each.default is MISSING else each.default)
        if each.type is bool:
            kind = {"action": argparse.BooleanOptionalAction}
        else:
            kind = {"type": each.type, "choices": each.metadata["choices"]}
        text = each.metadata["help"].replace("%", "%%")
        shown = "none" if default == "" else default
        parser.add_argument(f"--{each.name.replace('_', '-')}", default=default, help=f"{text} (default: {shown})", **kind)


def positive(value: str) -> int:
    """For ``type=``: a whole number of 1 or more."""
    number = int(value)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{number} is not 1 or more")
    return number


def from_flags(settings: type, arguments: argparse.Namespace) -> Any:
    """The settings object that the parsed flags describe."""
    return settings(**{each.name: getattr(arguments, each.name) for each in fields(settings)})
