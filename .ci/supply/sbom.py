"""Writes an image's bill of materials: CycloneDX 1.6, JSON.

``python .ci/supply/sbom.py IMAGE DIGEST OUT <INVENTORY``; the inventory is what ``inventory.py`` printed inside the image.
Components are the image's Python distributions, the interpreter, Debian's packages, and the models with their hashes.
"""

import json
import sys
from pathlib import Path
from typing import Any

from cyclonedx.contrib.license.factories import LicenseFactory
from cyclonedx.model import ExternalReference, ExternalReferenceType, HashAlgorithm, HashType, XsUri
from cyclonedx.model.bom import Bom
from cyclonedx.model.component import Component, ComponentType, Pedigree
from cyclonedx.output.json import JsonV1Dot6
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from locks import IMAGES, locked
from metadata import licence, normalised
from packageurl import PackageURL

INDEX = "https://pypi.org/simple/"
STUDENT_BASE = "all-MiniLM-L6-v2"
OURS = "Apache-2.0"


def bill(image: str, digest: str, inventory: dict[str, Any]) -> Bom:
    """Everything that ``inventory`` counts, as parts of the image.

    Args:
        digest: the image's own, ``sha256:…``.
    """
    bom = Bom()
    name, _, tag = image.rpartition(":")
    root = Component(
        type=ComponentType.CONTAINER, name=name, version=tag, bom_ref="image", hashes=_hashes(digest.removeprefix("sha256:"))
    )
    bom.metadata.component = root
    parts = [
        *_distributions(inventory["distributions"]),
        _interpreter(inventory["python"]),
        *_debian(inventory["debian"], inventory["debian_release"]),
        *_models(inventory["models"]),
    ]
    for part in parts:
        bom.components.add(part)
    bom.register_dependency(root, parts)
    return bom


def _distributions(distributions: list[dict[str, Any]]) -> list[Component]:
    hashes = {package: found for image in IMAGES for package, found in locked(image).items()}
    return [_distribution(one, hashes.get((normalised(one["name"]), one["version"]), [])) for one in distributions]


def _distribution(one: dict[str, Any], hashes: list[str]) -> Component:
    """Its hashes are those of the files that pip may have installed it from, so they hang on its place in the index."""
    name, version, expression = normalised(one["name"]), one["version"], licence(one)
    source = ExternalReference(type=ExternalReferenceType.DISTRIBUTION, url=XsUri(f"{INDEX}{name}/"), hashes=_hashes(*hashes))
    return Component(
        type=ComponentType.LIBRARY,
        name=name,
        version=version,
        purl=PackageURL("pypi", name=name, version=version),
        bom_ref=f"pypi/{name}",
        licenses=[_licence(expression)] if expression else [],
        external_references=[source] if hashes else [],
    )


def _interpreter(version: str) -> Component:
    purl = PackageURL("generic", name="python", version=version)
    return Component(
        type=ComponentType.PLATFORM, name="python", version=version, purl=purl, bom_ref="python", licenses=[_licence("PSF-2.0")]
    )


def _debian(packages: list[tuple[str, str, str]], release: str) -> list[Component]:
    return [
        Component(
            type=ComponentType.LIBRARY,
            name=name,
            version=version,
            bom_ref=f"deb/{name}/{architecture}",
            purl=PackageURL("deb", "debian", name, version, {"arch": architecture, "distro": f"debian-{release}"}),
        )
        for name, version, architecture in packages
    ]


def _models(models: dict[str, Any]) -> list[Component]:
    if not models:
        return []
    student = models["student"]
    found = [
        _model(
            "stillguard-student", student["manifest"]["version"], student, pedigree=Pedigree(ancestors=[_model(STUDENT_BASE)])
        )
    ]
    if "teacher" in models:
        teacher = models["teacher"]
        if teacher["manifest"]["base_sha256"] not in models["base"].values():
            raise ValueError(f"the teacher's base is not among {models['base']}")
        found.append(_model("stillguard-teacher-adapter", teacher["manifest"]["name"], teacher))
        found.append(_model(teacher["manifest"]["base"], None, {"files": models["base"]}))
    return found


def _model(name: str, version: str | None = None, folder: dict[str, Any] | None = None, **fields: Any) -> Component:
    """A model, and its files beneath it, each by its hash.

    Raises:
        ValueError: a file isn't the one that the folder's manifest vouches for.
    """
    files = folder["files"] if folder else {}
    for file, vouched in (folder or {}).get("manifest", {}).get("files", {}).items():
        if files.get(file) != vouched:
            raise ValueError(f"{name}: {file} is {files.get(file)}, and its manifest vouches for {vouched}")
    parts = [
        Component(type=ComponentType.FILE, name=file, bom_ref=f"{name}/{file}", hashes=_hashes(digest))
        for file, digest in files.items()
    ]
    return Component(
        type=ComponentType.MACHINE_LEARNING_MODEL,
        name=name,
        version=version,
        bom_ref=f"model/{name}",
        licenses=[_licence(OURS)],
        components=parts,
        **fields,
    )


def _licence(expression: str):
    return LicenseFactory().make_from_string(expression)


def _hashes(*digests: str) -> list[HashType]:
    return [HashType(alg=HashAlgorithm.SHA_256, content=digest) for digest in digests]


def main(image: str, digest: str, out: str) -> int:
    written = JsonV1Dot6(bill(image, digest, json.load(sys.stdin))).output_as_string(indent=2)
    fault = JsonStrictValidator(SchemaVersion.V1_6).validate_str(written)
    if fault is not None:
        print(f"not a CycloneDX document: {fault}", file=sys.stderr)
        return 1
    path = Path(out)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(written + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main(*sys.argv[1:]))
