"""Writes docs/licences.md: what the images bring that others wrote, and under which licence.

``python .ci/supply/licences.py`` asks the package index for the metadata of every locked version (pip 25 or newer; wheels may
be downloaded for it, none is installed). With ``--check`` nothing is asked or written: the exit code is 1, and each complaint a
line on stderr, where the page doesn't show the locks as they are, or a licence on it may not be shipped.
"""

import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from locks import IMAGES, ROOT, locked
from metadata import EXCEPTED, EXCEPTIONS, licence, normalised, objection

PAGE = ROOT / "docs" / "licences.md"
HEAD = """\
# Licences of what the images bring

Written by `.ci/ops/lock`, from the metadata of each locked version. Stillguard itself is [Apache-2.0](../LICENSE). A licence
that isn't on the list of allowed ones (`.ci/supply/metadata.py`) stops the gate, but for the exceptions below.

*teacher* comes on top of *cpu* or *gpu*; *loadtest* holds no server.

| package | version | licence | images |
|---|---|---|---|
"""
TAIL = """
## Exceptions

{exceptions}
## What is no package

| part | licence | images |
|---|---|---|
| Python, from the base image (with pip, MIT) | PSF-2.0 | all |
| Debian's packages, from the base image | each its own: `/usr/share/doc/*/copyright` in the image | all |
| libgomp | GPL-3.0 with the GCC Runtime Library Exception | teacher |
| the student, tuned from all-MiniLM-L6-v2 (Apache-2.0) | Apache-2.0 | cpu, gpu |
| the teacher's adapter, and SmolLM2-135M-Instruct (Apache-2.0) beneath it | Apache-2.0 | teacher |
"""
ROW = re.compile(r"^\| ([a-z0-9-]+) \| ([0-9][^ ]*) \| ([^|]+) \| ([^|]+) \|$", re.MULTILINE)
PLATFORMS = [f"--platform=manylinux_2_{minor}_x86_64" for minor in range(36, 16, -1)] + ["--platform=manylinux2014_x86_64"]

Package = tuple[str, str]
"""Name and version."""


def packages() -> dict[Package, list[str]]:
    """Every locked package, and the images that bring it."""
    found: dict[Package, list[str]] = {}
    for image in IMAGES:
        for package in locked(image):
            found.setdefault(package, []).append(image)
    return dict(sorted(found.items()))


def rendered(licences: dict[Package, str]) -> str:
    rows = [
        f"| {name} | {version} | {licences.get((name, version), '?')} | {', '.join(images)} |\n"
        for (name, version), images in packages().items()
    ]
    exceptions = [f"- {', '.join(names)}: {reason}.\n" for reason, names in EXCEPTIONS.items()]
    return HEAD + "".join(rows) + TAIL.format(exceptions="".join(exceptions))


def asked() -> dict[Package, str]:
    """What the index says of each locked package."""
    with tempfile.TemporaryDirectory() as folder:
        wanted, report = Path(folder, "wanted.txt"), Path(folder, "report.json")
        wanted.write_text("\n".join(f"{name}=={version}" for name, version in packages()), encoding="utf-8")
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--dry-run", "--ignore-installed", "--no-deps"]
        command += ["--only-binary=:all:", "--python-version=3.11", *PLATFORMS, f"--target={folder}/nothing"]
        subprocess.run([*command, f"--report={report}", f"--requirement={wanted}"], check=True)
        found = [item["metadata"] for item in json.loads(report.read_text(encoding="utf-8"))["install"]]
    return {(normalised(one["name"]), one["version"]): licence(one) or "?" for one in found}


def complaints(page: str) -> list[str]:
    shown = {(name, version): text for name, version, text, _ in ROW.findall(page)}
    found = [objection(name, None if text == "?" else text) for (name, _), text in shown.items()]
    found += [f"{name}: an exception for what no image brings" for name in sorted(EXCEPTED - {name for name, _ in shown})]
    if page != rendered(shown):
        found.append(f"{PAGE.relative_to(ROOT)} is not current: .ci/ops/lock")
    return [complaint for complaint in found if complaint]


def main(arguments: list[str]) -> int:
    if arguments != ["--check"]:
        PAGE.write_text(rendered(asked()), encoding="utf-8")
        print(f"{PAGE.relative_to(ROOT)} is written")
    found = complaints(PAGE.read_text(encoding="utf-8"))
    print(*found, sep="\n", end="\n" if found else "", file=sys.stderr)
    return int(bool(found))


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
