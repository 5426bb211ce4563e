"""Which room may import which, read off the syntax tree: the table is the architecture."""

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
OURS = ("server", "distill", "export", "loadtest")
OFFLINE = {"torch", "transformers", "optimum", "peft", "accelerate", "onnx", "sklearn", "pandas"}

MAY_IMPORT = {
    "server/core": ("server.core",),
    "server": ("server",),
    "server/inference": ("server.core", "server.inference"),
    "server/batching": ("server.core", "server.batching"),
    "server/teacher": ("server.core", "server.teacher"),
    "server/doors": (
        "server.core",
        "server.check",
        "server.deferred",
        "server.doors",
        "server.observability",
        "server.settings",
    ),
    "server/observability": (
        "server.core",
        "server.observability",
        "server.batching.observer",
        "server.feedback.observer",
        "server.teacher.observer",
    ),
    "server/feedback": (
        "server.core",
        "server.cascade",
        "server.check",
        "server.feedback",
        "server.observability.logging",
        "server.settings",
    ),
    "server/check.py": (
        "server.core",
        "server.inference",
        "server.batching",
        "server.student",
        "server.cascade",
        "server.turns",
    ),
    "server/turns.py": (),
    "server/student.py": ("server.core", "server.inference", "server.batching"),
    "server/cascade.py": ("server.core", "server.deferred", "server.teacher", "server.verdict"),
    "server/shadow.py": (
        "server.core",
        "server.inference",
        "server.check",
        "server.student",
        "server.verdict",
        "server.observability.logging",
    ),
    "server/drift.py": ("server.core", "server.check", "server.cascade"),
    "server/verdict.py": ("server.core",),
    "server/deferred.py": ("server.core",),
    "server/settings.py": ("server.core", "server.settings"),
    "server/signature.py": ("server.core",),
    "server/memory.py": (),
    "server/accepting.py": (),
    "distill": ("distill", "server.core"),
    "export": ("export", "distill", "server.core", "server.inference.encoder"),
    "loadtest": ("loadtest",),
}
"""Room → the packages of ours that its files may import; for a file, the most specific line holds.

``export`` reads texts by the server's encoder: what it proves and calibrates is what is served."""


def python_files(*folders: str) -> list[Path]:
    return sorted(path for folder in folders for path in (ROOT / folder).rglob("*.py") if "__pycache__" not in path.parts)


def imported(path: Path) -> Iterator[tuple[int, str]]:
    """(line, dotted name) of each import anywhere in the file, relative ones resolved."""
    package = path.relative_to(ROOT).parent.parts
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"), str(path))):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = ".".join(package[: len(package) - node.level + 1]) if node.level else ""
            yield node.lineno, f"{base}.{node.module}".strip(".") if node.module else base


def is_within(name: str, package: str) -> bool:
    return name == package or name.startswith(package + ".")


def room_of(path: Path) -> str:
    inside = path.relative_to(ROOT).as_posix()
    return max((room for room in MAY_IMPORT if inside == room or inside.startswith(room + "/")), key=len)


def violations(path: Path, source_names: list[tuple[int, str]] | None = None) -> list[str]:
    allowed = MAY_IMPORT[room_of(path)]
    return [
        f"{path.relative_to(ROOT)}:{line} imports {name}"
        for line, name in (source_names if source_names is not None else imported(path))
        if name.partition(".")[0] in OURS and not any(is_within(name, package) for package in allowed)
    ]


@pytest.mark.parametrize("folder", OURS)
def test_rooms_import_only_what_the_table_allows(folder):
    assert [line for path in python_files(folder) for line in violations(path)] == []


def test_core_imports_nothing_but_the_standard_library():
    found = {
        name.partition(".")[0] for path in python_files("server/core") for _, name in imported(path)
    } - sys.stdlib_module_names
    assert found == {"server"}


def test_the_server_never_imports_what_belongs_to_the_offline_river():
    found = [
        f"{path.relative_to(ROOT)}:{line} imports {name}"
        for path in python_files("server")
        for line, name in imported(path)
        if name.partition(".")[0] in OFFLINE
    ]
    assert found == []


def test_optimum_is_imported_by_export_only():
    found = {
        path.relative_to(ROOT).parts[0]
        for path in python_files(*OURS)
        for _, name in imported(path)
        if name.partition(".")[0] == "optimum"
    }
    assert found == {"export"}


@pytest.mark.parametrize(
    ("file", "name"),
    [
        ("server/core/policy.py", "server.check"),
        ("server/batching/queue.py", "server.inference.classifier"),
        ("server/doors/native.py", "server.teacher.client"),
        ("server/check.py", "export"),
        ("distill/data.py", "server.inference.classifier"),
        ("loadtest/users.py", "server.core.taxonomy"),
    ],
)
def test_the_table_forbids(file, name):
    assert violations(ROOT / file, [(1, name)]) == [f"{file}:1 imports {name}"]
