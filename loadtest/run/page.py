"""A run's report as one HTML file that needs nothing else."""

import base64
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from loadtest.goal import Goal
from loadtest.run.tables import notes, tables


def write_page(record: dict[str, Any], goals: Sequence[Goal], picture: Path, page: Path) -> None:
    """``picture`` is the PNG, which is put into the page."""
    environment = Environment(
        loader=PackageLoader("loadtest.run", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    written = environment.get_template("report.html").render(
        record=record,
        goals=goals,
        tables=tables(record),
        notes=notes(record),
        picture=base64.b64encode(picture.read_bytes()).decode("ascii"),
    )
    page.write_text(written, encoding="utf-8")
