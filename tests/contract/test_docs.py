"""What the pages say that can be held against the tree: links, knobs, and the list of pages."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from server.settings import Settings

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").rglob("*.md"))]
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)
KNOB = re.compile(r"\bSTILLGUARD_([A-Z_]+[A-Z])\b")
UNPUBLISHED = re.compile(r"pip install '?stillguard\b")


def anchors(page: Path) -> set[str]:
    """As GitHub makes them of headings."""
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in HEADING.findall(page.read_text("utf-8"))}


def links(page: Path) -> Iterator[tuple[str, Path, str]]:
    """(link, file, anchor) of each link into the tree."""
    for link in LINK.findall(page.read_text("utf-8")):
        if not link.startswith(("https://", "http://")):
            path, _, anchor = link.partition("#")
            yield link, (page.parent / path).resolve() if path else page, anchor


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page):
    dead = [link for link, target, anchor in links(page) if not target.exists() or (anchor and anchor not in anchors(target))]
    assert dead == []


def test_a_knob_that_a_page_names_is_there():
    named = {(page.name, name.lower()) for page in PAGES for name in KNOB.findall(page.read_text("utf-8"))}
    assert len(named) > 10
    assert {(page, name) for page, name in named if name not in Settings.model_fields} == set()


def test_the_readme_leads_to_every_page():
    led_to = {target for _, target, _ in links(ROOT / "README.md")}
    assert [page.name for page in sorted((ROOT / "docs").glob("*.md")) if page not in led_to] == []


def test_no_page_installs_from_an_index_where_we_are_not():
    assert [page.name for page in PAGES if UNPUBLISHED.search(page.read_text("utf-8"))] == []
