"""The artefact vouches for itself, and what doesn't is refused with one line that says what is wrong."""

import dataclasses
import json

import pytest

from server.core.artifact import FILES, MANIFEST, MODEL, TOKENIZER, Manifest, file_sha256, load_manifest, write_manifest
from server.core.calibration import IDENTITY, Platt
from server.core.errors import ArtifactError
from server.core.histograms import BINS, ScoreHistograms
from server.core.taxonomy import CATEGORIES

ABSENT = object()


@pytest.fixture
def artifact(tmp_path):
    for name in FILES:
        (tmp_path / name).write_bytes(name.encode())
    manifest = Manifest(
        version="test",
        precision="int8",
        categories=CATEGORIES,
        max_tokens=256,
        calibration=IDENTITY | {"hate": Platt(2.0, -1.0)},
        prompt_hash=None,
        policy_hash="p",
        files={name: file_sha256(tmp_path / name) for name in FILES},
        metrics={"pooled": 0.5},
        provenance={"base": "tiny"},
    )
    write_manifest(tmp_path, manifest)
    return tmp_path


def edit(folder, **changes):
    """Write the manifest again with some keys changed; ABSENT removes the key."""
    record = json.loads((folder / MANIFEST).read_text()) | changes
    (folder / MANIFEST).write_text(json.dumps({key: value for key, value in record.items() if value is not ABSENT}))


def test_what_was_written_is_read(artifact):
    manifest = load_manifest(artifact)
    assert manifest.version == "test"
    assert manifest.categories == CATEGORIES
    assert manifest.calibration["hate"] == Platt(2.0, -1.0)
    assert manifest.files[MODEL] == file_sha256(artifact / MODEL)
    assert manifest.metrics == {"pooled": 0.5}


def test_the_hash_survives_writing_and_tells_artefacts_apart(artifact):
    manifest = load_manifest(artifact)
    write_manifest(artifact, manifest)
    assert load_manifest(artifact).hash == manifest.hash
    assert dataclasses.replace(manifest, max_tokens=128).hash != manifest.hash
    assert dataclasses.replace(manifest, files=manifest.files | {MODEL: "0" * 64}).hash != manifest.hash


def test_a_reference_is_read_as_it_was_written_and_a_manifest_without_one_keeps_its_hash(artifact):
    before = load_manifest(artifact)
    assert before.reference is None
    assert "reference" not in json.loads((artifact / MANIFEST).read_text())
    counts = tuple(range(BINS))
    histograms = ScoreHistograms(sum(counts), dict.fromkeys(CATEGORIES, counts))
    write_manifest(artifact, dataclasses.replace(before, reference=histograms))
    now = load_manifest(artifact)
    assert now.reference == histograms
    assert now.hash != before.hash
    edit(artifact, reference={"texts": 3})
    with pytest.raises(ArtifactError, match=r"manifest\.json is malformed: histograms are malformed"):
        load_manifest(artifact)


@pytest.mark.parametrize("name", FILES)
def test_a_corrupt_file_is_named(artifact, name):
    with (artifact / name).open("ab") as stream:
        stream.write(b"!")
    with pytest.raises(ArtifactError, match=f"{name} is corrupt .sha256 [0-9a-f]{{12}}…, manifest says"):
        load_manifest(artifact)


@pytest.mark.parametrize("name", FILES)
def test_a_missing_file_is_named(artifact, name):
    (artifact / name).unlink()
    with pytest.raises(ArtifactError, match=f"{name} is missing"):
        load_manifest(artifact)


def test_a_file_nobody_vouches_for_is_named(artifact):
    edit(artifact, files={name: "0" * 64 for name in FILES if name != TOKENIZER} | {MODEL: file_sha256(artifact / MODEL)})
    with pytest.raises(ArtifactError, match=r"doesn't vouch for tokenizer\.json"):
        load_manifest(artifact)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"schema": 99}, "manifest schema 99, this server reads 1"),
        ({"categories": list(reversed(CATEGORIES))}, "categories .* are not"),
        ({"categories": list(CATEGORIES[:-1])}, "categories .* are not"),
        ({"calibration": {}}, "is malformed: calibration lists"),
        ({"calibration": ABSENT}, "is malformed"),
        ({"version": ABSENT}, "is malformed"),
        ({"surprise": 1}, "is malformed"),
        ({"precision": "int4"}, "precision 'int4' is unknown"),
        ({"max_tokens": 4}, "max_tokens 4 is below 8"),
        ({"version": "one\ntwo"}, "is malformed: version is not a line of text"),
        ({"version": "\ud800"}, "is malformed: version is not a line of text"),
        ({"calibration": {c: {"scale": 10**400, "shift": 0} for c in CATEGORIES}}, "is malformed: int too large"),
    ],
)
def test_a_manifest_for_other_code_is_refused(artifact, changes, message):
    edit(artifact, **changes)
    with pytest.raises(ArtifactError, match=message):
        load_manifest(artifact)


@pytest.mark.parametrize(
    ("field", "values", "kind"),
    [
        ("version", [5, ["a"], None, {}], "a string"),
        ("precision", [8, ["int8"]], "a string"),
        ("policy_hash", [None, 7], "a string"),
        ("prompt_hash", [7, []], "a string or null"),
        ("max_tokens", [True, 256.0, "256", None], "a whole number"),
        ("schema", [True, "1", 1.0], "a whole number"),
        ("categories", [7, "hate", {}], "a list"),
        ("calibration", [7, []], "a table"),
        ("files", [3, []], "a table"),
        ("metrics", [0.5, None], "a table"),
        ("provenance", ["me", []], "a table"),
        ("reference", [None, []], "a table"),
    ],
)
def test_a_field_of_another_kind_is_named(artifact, field, values, kind):
    for value in values:
        edit(artifact, **{field: value})
        with pytest.raises(ArtifactError, match=rf"manifest\.json is malformed: {field} is not {kind}$"):
            load_manifest(artifact)


@pytest.mark.parametrize("field", [field.name for field in dataclasses.fields(Manifest)])
def test_no_field_may_be_just_anything(artifact, field):
    edit(artifact, **{field: 0.5})
    with pytest.raises(ArtifactError, match=f"is malformed: {field} is not "):
        load_manifest(artifact)


@pytest.mark.parametrize("depth", [900, 100_000])
def test_a_manifest_nested_too_deep_is_refused(artifact, depth):
    """To be read, or to be written again for its hash."""
    text = (artifact / MANIFEST).read_text().replace('"base": "tiny"', f'"base": {"[" * depth}{"]" * depth}')
    (artifact / MANIFEST).write_text(text)
    with pytest.raises(ArtifactError, match="nested too deep"):
        load_manifest(artifact)


@pytest.mark.parametrize(("text", "message"), [("{", "is not JSON"), ("[]", "is malformed"), ("3", "is malformed")])
def test_a_manifest_that_is_no_record_is_refused(artifact, text, message):
    (artifact / MANIFEST).write_text(text)
    with pytest.raises(ArtifactError, match=message):
        load_manifest(artifact)


def test_a_folder_without_a_manifest_is_refused(tmp_path):
    with pytest.raises(ArtifactError, match=r"manifest\.json: No such file"):
        load_manifest(tmp_path)
    with pytest.raises(ArtifactError, match=r"manifest\.json: No such file"):
        load_manifest(tmp_path / "absent")
