"""What is in the image is in its bill of materials, and may be shipped."""

import json
import re
import shutil
import sys

import pytest

from tests.ops.containers import podman
from tests.ops.tools import INSTALLED, ROOT, need, run, said

SHIPPED = ROOT / "server" / "artifacts"
LISTED = "import importlib.metadata as m, json; print(json.dumps([(d.name, d.version) for d in m.distributions()]))"
ROW = re.compile(r"^\| ([a-z0-9-]+) \| ([0-9][^ ]*) \| ([^|]+) \| [^|]+ \|$", re.MULTILINE)
LICENCES = {(name, version): text for name, version, text in ROW.findall((ROOT / "docs" / "licences.md").read_text("utf-8"))}


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def parts(image: str, folder) -> dict:
    """The document that ``.ci/ops/sbom`` writes."""
    need("podman")
    out = folder / "sbom.cdx.json"
    done = run(ROOT / ".ci" / "ops" / "sbom", image, out)
    assert done.returncode == 0, said(done)
    return json.loads(out.read_text(encoding="utf-8"))


@pytest.fixture(scope="module", params=["image", "teacher_image"])
def billed(request, tmp_path_factory):
    """(an image, its bill of materials)."""
    image = request.getfixturevalue(request.param)
    return image, parts(image, tmp_path_factory.mktemp("sbom"))


def test_every_distribution_is_listed_with_its_licence_and_its_hashes(billed):
    image, document = billed
    installed = json.loads(podman("run", "--rm", "--network=none", "--entrypoint=python", image, "-c", LISTED))
    listed = {part["purl"]: part for part in document["components"] if part.get("purl", "").startswith("pkg:pypi/")}
    assert len(installed) > 40
    for name, version in installed:
        part = listed[f"pkg:pypi/{normal(name)}@{version}"]
        if normal(name) == "stillguard":
            assert part["licenses"] == [{"license": {"id": "Apache-2.0"}}]
            continue
        assert LICENCES[normal(name), version] in json.dumps(part["licenses"])
        assert hashes(part) == locked_hashes(normal(name), version)


def hashes(part: dict) -> set[str]:
    return {found["content"] for reference in part["externalReferences"] for found in reference["hashes"]}


def locked_hashes(name: str, version: str) -> set[str]:
    """Read off the locks by other means than the document's writer has."""
    found: set[str] = set()
    for lock in (ROOT / ".ci" / "locks").glob("image-*.txt"):
        lines = iter(lock.read_text(encoding="utf-8").splitlines())
        inside = False
        for line in lines:
            inside = line.split(" ")[0] == f"{name}=={version}" if not line.startswith(" ") else inside
            if inside and "--hash=sha256:" in line:
                found.add(line.strip(" \\").removeprefix("--hash=sha256:"))
    assert found
    return found


def test_the_base_and_the_interpreter_are_listed(billed):
    _, document = billed
    urls = [part["purl"] for part in document["components"] if "purl" in part]
    assert any(url.startswith("pkg:generic/python@3.11.") for url in urls)
    assert any(re.match(r"pkg:deb/debian/libc6@[^?]+\?arch=amd64&distro=debian-1\d", url) for url in urls)
    assert document["metadata"]["component"]["type"] == "container"
    (of_image,) = [item["dependsOn"] for item in document["dependencies"] if item["ref"] == "image"]
    assert len(of_image) == len(document["components"])


def test_models_are_listed_with_the_hashes_that_their_manifests_vouch_for(billed):
    image, document = billed
    models = {part["name"]: part for part in document["components"] if part["type"] == "machine-learning-model"}
    wanted = {"stillguard-student": SHIPPED / "default" / "manifest.json"}
    if image.endswith("teacher"):
        wanted["stillguard-teacher-adapter"] = SHIPPED / "teacher" / "teacher.json"
    for name, manifest in wanted.items():
        vouched = json.loads(manifest.read_text(encoding="utf-8"))["files"]
        found = {file["name"]: file["hashes"][0]["content"] for file in models[name]["components"]}
        assert vouched.items() <= found.items()
    if image.endswith("teacher"):
        base = json.loads((SHIPPED / "teacher" / "teacher.json").read_text(encoding="utf-8"))
        files = {file["hashes"][0]["content"] for file in models[base["base"]]["components"]}
        assert base["base_sha256"] in files
        assert len(files) == 2


def test_a_model_that_isn_t_the_one_vouched_for_gets_no_bill(image, tmp_path):
    python = INSTALLED / "supply" / "bin" / "python"
    student = {"manifest": {"version": "1", "files": {"model.onnx": "0" * 64}}, "files": {"model.onnx": "1" * 64}}
    inventory = {"python": "3.11.0", "debian_release": "12", "debian": [], "distributions": [], "models": {"student": student}}
    words = [python, ROOT / ".ci" / "supply" / "sbom.py", image, f"sha256:{'2' * 64}", tmp_path / "out.json"]
    done = run(*words, input=json.dumps(inventory))
    assert done.returncode != 0
    assert "its manifest vouches for" in done.stderr
    assert not (tmp_path / "out.json").exists()


def test_licences_may_be_shipped_and_their_page_is_current():
    done = run(sys.executable, ROOT / ".ci" / "supply" / "licences.py", "--check")
    assert done.returncode == 0, said(done)


@pytest.mark.parametrize(
    ("pattern", "planted", "complaint"),
    [
        (r"MIT \| cpu, gpu", "AGPL-3.0-only | cpu, gpu", "AGPL-3.0-only is not on the list"),
        (r"MIT \| cpu, gpu", "? | cpu, gpu", "no licence can be read"),
        (r"^\| numpy .*\n", "", "docs/licences.md is not current"),
        (r"^\| certifi .*\n", "", "certifi: an exception for what no image brings"),
    ],
)
def test_the_licence_gate_can_fail(tmp_path, pattern, planted, complaint):
    for folder in (".ci", "docs"):
        shutil.copytree(ROOT / folder, tmp_path / folder)
    page = tmp_path / "docs" / "licences.md"
    before = page.read_text(encoding="utf-8")
    after, changes = re.subn(pattern, planted, before, count=1, flags=re.MULTILINE)
    assert changes == 1
    page.write_text(after, encoding="utf-8")
    done = run(sys.executable, tmp_path / ".ci" / "supply" / "licences.py", "--check")
    assert done.returncode == 1, said(done)
    assert complaint in done.stderr
