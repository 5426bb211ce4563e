"""Command-line flags from a settings dataclass: a knob is declared once, with its type and default."""

import argparse
from dataclasses import MISSING, fields
from typing import Any


def add_flags(parser: argparse.ArgumentParser, settings: type, **defaults: Any) -> None:
    """One ``--kebab-case`` flag per field; ``defaults`` override or supply a field's default."""
    for field in fields(settings):
        default = defaults.get(field.name, None if field.default is MISSING else field.default)
        kind = {"action": argparse.BooleanOptionalAction} if field.type is bool else {"type": field.type}
        parser.add_argument(f"--{field.name.replace('_', '-')}", default=default, help=f"default: {default}", **kind)


def from_flags(settings: type, arguments: argparse.Namespace) -> Any:
    """The settings object that the parsed flags describe."""
    return settings(**{field.name: getattr(arguments, field.name) for field in fields(settings)})
