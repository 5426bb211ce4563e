"""Words that the code must not hold."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
UNFINISHED = re.compile(r"\b(?:" + "|".join(("TO" + "DO", "FIX" + "ME", "X" * 3)) + r")\b")


def python_files(*folders: str) -> list[Path]:
    return sorted(path for folder in folders for path in (ROOT / folder).rglob("*.py") if "__pycache__" not in path.parts)


@pytest.mark.parametrize("folder", ["server", "distill", "export", "loadtest", "tests"])
def test_nothing_is_left_unfinished(folder):
    found = [
        f"{path.relative_to(ROOT)}:{number}"
        for path in python_files(folder)
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if UNFINISHED.search(line)
    ]
    assert found == []


def sleeps(source: str) -> list[int]:
    """Lines of calls to a function named sleep, however it was imported; ``sleep(0)``, which only yields, is no exception."""
    calls = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call)]
    return [
        call.lineno
        for call in calls
        if (isinstance(call.func, ast.Attribute) and call.func.attr == "sleep")
        or (isinstance(call.func, ast.Name) and call.func.id == "sleep")
    ]


def test_the_server_never_sleeps():
    found = [
        f"{path.relative_to(ROOT)}:{line}"
        for path in python_files("server")
        for line in sleeps(path.read_text(encoding="utf-8"))
    ]
    assert found == []


@pytest.mark.parametrize("source", ["import time\ntime.sleep(1)", "from asyncio import sleep\nsleep(0)", "await_me.sleep(2)"])
def test_a_sleep_is_found(source):
    assert len(sleeps(source)) == 1
