"""Command-line flags from a settings dataclass: a knob is declared once, with its type, default and meaning."""

import argparse
from collections.abc import Callable, Sequence
from dataclasses import MISSING, field, fields
from typing import Any


def knob(
    default: Any = MISSING,
    *,
    help: str,
    choices: Sequence[Any] | None = None,
    least: float | None = None,
    most: float | None = None,
) -> Any:
    """A field that becomes a flag: what ``--help`` says of it, and what it may be, one of a list or within bounds."""
    return field(default=default, metadata={"help": help, "choices": choices, "least": least, "most": most})


def add_flags(parser: argparse.ArgumentParser, settings: type, **defaults: Any) -> None:
    """One ``--kebab-case`` flag per :func:`knob`; ``defaults`` override or supply a field's default."""
    for each in fields(settings):
        default = defaults.get(each.name, None if each.default is MISSING else each.default)
        if each.type is bool:
            kind = {"action": argparse.BooleanOptionalAction}
        else:
            bounds = each.metadata["least"], each.metadata["most"]
            kind = {"type": between(*bounds, of=each.type), "choices": each.metadata["choices"]}
        text = each.metadata["help"].replace("%", "%%")
        shown = "none" if default == "" else default
        parser.add_argument(f"--{each.name.replace('_', '-')}", default=default, help=f"{text} (default: {shown})", **kind)


def between(least: float | None, most: float | None = None, *, of: type = int) -> Callable[[str], Any]:
    """For ``type=``: a value of that type, not below ``least`` nor above ``most``, where they are given."""

    def parse(value: str) -> Any:
        found = of(value)
        if least is not None and not found >= least:
            raise argparse.ArgumentTypeError(f"{value} is not {least:g} or more")
        if most is not None and not found <= most:
            raise argparse.ArgumentTypeError(f"{value} is not {most:g} or less")
        return found

    parse.__name__ = of.__name__  # argparse names it where a value isn't one at all
    return parse


positive = between(1)
"""For ``type=``: a whole number of 1 or more."""


def from_flags(settings: type, arguments: argparse.Namespace) -> Any:
    """The settings object that the parsed flags describe."""
    return settings(**{each.name: getattr(arguments, each.name) for each in fields(settings)})
