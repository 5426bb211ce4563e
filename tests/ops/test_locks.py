"""What is installed, in images and in CI, is locked by hash. Needs no tools."""

import json
import re
import tomllib

import pytest
from packaging.requirements import Requirement

from tests.ops.tools import ROOT

LOCKS = ROOT / ".ci" / "locks"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
UNHASHED = {
    '"$(grep -oP \'"\\Ktorch==[^"]+\' pyproject.toml)"': "its wheel depends on the machine's index",
    "--no-build-isolation --editable .": "this checkout",
    "--no-index wheel/*.whl": "the wheel that was made just before",
}
"""How an installation without hashes ends: why."""


def requirements(lock: str) -> dict[str, tuple[str, int]]:
    """Name → (version, number of hashes)."""
    blocks = re.split(r"\n(?=[a-z0-9])", (LOCKS / lock).read_text(encoding="utf-8"))
    heads = [re.match(r"([a-z0-9-]+)==([^ ]+)", block) for block in blocks]
    return {
        head[1]: (head[2], len(re.findall(r"--hash=sha256:[0-9a-f]{64}\b", block)))
        for head, block in zip(heads, blocks, strict=True)
        if head
    }


@pytest.mark.parametrize("lock", [path.name for path in LOCKS.glob("*-*.txt") if "overrides" not in path.name])
def test_every_line_of_a_lock_has_a_hash(lock):
    found = requirements(lock)
    assert found
    assert [name for name, (_, hashes) in found.items() if not hashes] == []


def test_every_npm_package_has_a_hash():
    packages = json.loads((LOCKS / "crds" / "package-lock.json").read_text(encoding="utf-8"))["packages"]
    assert len(packages) > 4
    assert [name for name, package in packages.items() if name and not package["integrity"].startswith("sha512-")] == []


def test_ci_tests_with_what_the_package_asks_for():
    pinned = requirements("ci-dev.txt")
    extras = PROJECT["optional-dependencies"]
    asked = [
        line
        for extra in ("cpu", "teacher", "offline", "test", "otel", "bench", "loadtest", "signing")
        for line in extras[extra]
    ]
    wanting = [
        line
        for line in [*PROJECT["dependencies"], *asked]
        if (requirement := Requirement(line)).name not in ("torch", "stillguard")
        and not requirement.specifier.contains(pinned.get(requirement.name.lower(), ("0", 0))[0])
    ]
    assert wanting == [], "ci-dev.txt is not current: .ci/ops/lock"


@pytest.mark.parametrize("lock", ["image-cpu.txt", "image-gpu.txt"])
def test_images_can_check_signatures(lock):
    (signing,) = map(Requirement, PROJECT["optional-dependencies"]["signing"])
    assert signing.specifier.contains(requirements(lock)[signing.name][0])


def test_every_installation_asks_for_hashes():
    scripts = [path for path in (ROOT / ".ci").rglob("*") if path.is_file() and path.parent.name in (".ci", "ops")]
    installations = [
        line.strip(" \\&")
        for path in [ROOT / "Dockerfile", *scripts]
        for line in re.sub(r"\\\n\s*", "", path.read_text(encoding="utf-8")).splitlines()
        for line in re.split(r" && |; ", line)
        if re.search(r"\bpip (?:\S+ )*(?:install|download)\b", line) and not line.startswith("#")
    ]
    assert len(installations) > 5
    unhashed = [line for line in installations if "--require-hashes" not in line]
    assert [line for line in unhashed if not line.endswith(tuple(UNHASHED))] == []


def test_the_base_image_is_pinned_by_digest():
    dockerfile = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    (base,) = re.findall(r"^ARG BASE=(\S+)$", dockerfile, re.MULTILINE)
    assert re.fullmatch(r"docker\.io/library/python:3\.11-slim@sha256:[0-9a-f]{64}", base)
    images = [line.split()[1] for line in dockerfile.splitlines() if line.startswith("FROM ")]
    stages = {line.split()[3] for line in dockerfile.splitlines() if line.startswith("FROM ")}
    assert set(images) - stages == {"${BASE}"}
