"""Only a whole folder is signed, and anyone with openssl can check it."""

import json
import shutil

import pytest

from export.__main__ import main
from server.core.artifact import MANIFEST
from server.core.teacher_manifest import DEFAULT_TEACHER_FOLDER, TEACHER_MANIFEST, load_teacher_manifest
from server.signature import load_authenticate
from tests.signing import make_artifact, make_keys, openssl


@pytest.fixture(scope="module")
def keys(tmp_path_factory):
    return make_keys(tmp_path_factory.mktemp("keys"))


def test_openssl_takes_what_the_verb_signed(tmp_path, keys, capsys):
    private, public = keys
    folder = make_artifact(tmp_path / "artifact")
    assert main(["sign", "--key", str(private), str(folder)]) == 0
    signature = folder / f"{MANIFEST}.sig"
    assert json.loads(capsys.readouterr().out) == {"signatures": [str(signature)]}
    assert signature.stat().st_size == 64
    check = ["-pubin", "-inkey", public, "-rawin", "-in", folder / MANIFEST, "-sigfile", signature]
    openssl("pkeyutl", "-verify", *check)


def test_a_teacher_s_folder_is_signed_too(tmp_path, keys):
    private, public = keys
    folder = tmp_path / "teacher"
    shutil.copytree(DEFAULT_TEACHER_FOLDER, folder)
    assert main(["sign", "--key", str(private), str(folder)]) == 0
    assert (folder / f"{TEACHER_MANIFEST}.sig").is_file()
    assert load_teacher_manifest(folder, authenticate=load_authenticate(public)).files


def test_a_corrupt_folder_is_not_signed(tmp_path, keys, capsys):
    folder = make_artifact(tmp_path / "artifact")
    (folder / "tokenizer.json").write_text("{}")
    assert main(["sign", "--key", str(keys[0]), str(folder)]) == 2
    assert "tokenizer.json is corrupt" in capsys.readouterr().err
    assert not (folder / f"{MANIFEST}.sig").exists()


@pytest.mark.parametrize("kind", ["public", "with a passphrase", "missing"])
def test_a_key_that_can_t_sign_is_refused_and_not_shown(tmp_path, keys, capsys, kind):
    private, public = keys
    folder, key = make_artifact(tmp_path / "artifact"), tmp_path / "key.pem"
    if kind == "public":
        key = public
    elif kind == "with a passphrase":
        openssl("pkey", "-in", private, "-aes256", "-passout", "pass:secret", "-out", key)
    assert main(["sign", "--key", str(key), str(folder)]) == 2
    said = capsys.readouterr().err
    assert said.startswith(f"export sign: private key {key}: ")
    assert len(said.splitlines()) == 1
