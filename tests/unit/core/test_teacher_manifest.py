"""teacher.json: what is written is read back, and nothing else is."""

import json

import pytest

from server.core.calibration import IDENTITY, Platt
from server.core.errors import ArtifactError
from server.core.policy import load_policies
from server.core.prompt import GUIDELINE, TITLE
from server.core.teacher_manifest import TEACHER_MANIFEST, load_teacher_manifest, write_teacher_manifest

POLICY = load_policies()["default"]
CALIBRATION = IDENTITY | {"hate": Platt(scale=0.7, shift=-0.25)}


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "adapter.gguf").write_bytes(b"one")
    (tmp_path / "adapter.safetensors").write_bytes(b"two")
    write_teacher_manifest(
        tmp_path,
        name="stillguard-teacher-135m",
        base="SmolLM2-135M-Instruct",
        base_sha256="ab" * 32,
        form=TITLE,
        policy=POLICY,
        calibration=CALIBRATION,
        metrics={"dev": {"auroc": 0.9}},
    )
    return tmp_path


def edit(folder, **changes):
    path = folder / TEACHER_MANIFEST
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_what_is_written_is_read_back(folder):
    manifest = load_teacher_manifest(folder)
    assert manifest.name == "stillguard-teacher-135m"
    assert manifest.base_sha256 == "ab" * 32
    assert manifest.form is TITLE
    assert manifest.prompt_hash == TITLE.hash(POLICY) != GUIDELINE.hash(POLICY)
    assert manifest.calibration == CALIBRATION
    assert manifest.metrics == {"dev": {"auroc": 0.9}}
    assert manifest.files["adapter.gguf"] == "7692c3ad3540bb803c020b3aee66cd8887123234ea0c6e7143c0add73ff431ed"


def test_another_wording_is_no_error_but_is_seen(folder, tmp_path):
    from server.core.policy import DEFAULT_POLICY_FILE

    other = tmp_path / "policy.toml"
    other.write_text(DEFAULT_POLICY_FILE.read_text().replace("No Hate Speech", "No Hatred"))
    manifest = load_teacher_manifest(folder)
    assert manifest.is_tuned_on(POLICY)
    assert not manifest.is_tuned_on(load_policies(other)["default"])


@pytest.mark.parametrize("name", ["adapter.gguf", "adapter.safetensors"])
def test_a_corrupt_or_missing_file_is_named(folder, name):
    (folder / name).write_bytes(b"three")
    with pytest.raises(ArtifactError, match=f"{name} is corrupt"):
        load_teacher_manifest(folder)
    (folder / name).unlink()
    with pytest.raises(ArtifactError, match=f"{name} is missing"):
        load_teacher_manifest(folder)


def test_a_folder_without_a_manifest(tmp_path):
    with pytest.raises(ArtifactError, match=r"teacher\.json: No such file"):
        load_teacher_manifest(tmp_path)


def test_not_json(folder):
    (folder / TEACHER_MANIFEST).write_text("{")
    with pytest.raises(ArtifactError, match="is not JSON"):
        load_teacher_manifest(folder)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"schema": 1}, "schema 1"),
        ({"calibration": {}}, "malformed"),
        ({"calibration": None}, "malformed"),
        ({"surprise": 1}, "surprise"),
        ({"prompt_hash": None}, "malformed"),
        ({"prompt": "rhyme"}, "unknown prompt form 'rhyme'"),
        ({"prompt": None}, "malformed"),
        ({"base_sha256": 7}, "malformed"),
        ({"files": []}, "malformed"),
        ({"files": {"adapter.gguf": "x"}}, "corrupt"),
        ({"files": {}}, "doesn't vouch for"),
    ],
)
def test_a_manifest_that_is_not_ours_is_refused_in_one_line(folder, changes, message):
    edit(folder, **changes)
    with pytest.raises(ArtifactError, match=message) as caught:
        load_teacher_manifest(folder)
    assert "\n" not in str(caught.value)
