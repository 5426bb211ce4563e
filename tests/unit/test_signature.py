"""An artefact that isn't signed by a trusted key is refused, before anything in it is believed."""

import pytest

from export.sign import read_private_key, sign_folder
from server.core.artifact import MANIFEST, load_manifest
from server.core.errors import ArtifactError, ConfigurationError
from server.signature import load_authenticate
from tests.signing import make_artifact, make_keys, openssl

SIGNATURE = f"{MANIFEST}.sig"


@pytest.fixture(scope="module")
def keys(tmp_path_factory):
    return make_keys(tmp_path_factory.mktemp("keys"))


@pytest.fixture
def artifact(tmp_path):
    return make_artifact(tmp_path / "artifact")


def load(folder, public):
    return load_manifest(folder, authenticate=load_authenticate(public))


def test_no_key_file_asks_for_no_signature():
    assert load_authenticate(None) is None


def test_what_openssl_signed_is_believed(artifact, keys):
    private, public = keys
    manifest = artifact / MANIFEST
    openssl("pkeyutl", "-sign", "-inkey", private, "-rawin", "-in", manifest, "-out", artifact / SIGNATURE)
    assert load(artifact, public).version == "test"


def test_any_key_of_the_file_will_do(artifact, keys, tmp_path):
    private, public = keys
    _, next_public = make_keys(tmp_path, "next")
    both = tmp_path / "both.pub"
    both.write_bytes(next_public.read_bytes() + public.read_bytes())
    sign_folder(artifact, seed=read_private_key(private))
    assert load(artifact, both).version == "test"


def test_an_unsigned_artefact_is_refused(artifact, keys):
    with pytest.raises(ArtifactError, match=r"artifact: not signed: manifest\.json\.sig is missing$"):
        load(artifact, keys[1])


def test_another_s_signature_is_refused(artifact, keys, tmp_path):
    private, _ = make_keys(tmp_path, "stranger")
    sign_folder(artifact, seed=read_private_key(private))
    with pytest.raises(ArtifactError, match=r"manifest\.json\.sig is not a signature of manifest\.json by a key in .*\.pub$"):
        load(artifact, keys[1])


@pytest.mark.parametrize("signature", [b"", b"\0" * 64, b"\0" * 63, b"\0" * 65])
def test_no_bytes_pass_for_a_signature(artifact, keys, signature):
    (artifact / SIGNATURE).write_bytes(signature)
    with pytest.raises(ArtifactError, match="is not a signature"):
        load(artifact, keys[1])


def test_a_manifest_that_was_changed_is_refused_before_it_is_read(artifact, keys):
    private, public = keys
    sign_folder(artifact, seed=read_private_key(private))
    (artifact / MANIFEST).write_text("{")
    with pytest.raises(ArtifactError, match="is not a signature"):
        load(artifact, public)


def test_a_file_that_was_changed_is_still_found(artifact, keys):
    private, public = keys
    sign_folder(artifact, seed=read_private_key(private))
    (artifact / "tokenizer.json").write_text("{}")
    with pytest.raises(ArtifactError, match=r"tokenizer\.json is corrupt"):
        load(artifact, public)


def test_a_missing_key_file_is_said(tmp_path):
    with pytest.raises(ConfigurationError, match=r"public key file .*nobody\.pub: No such file"):
        load_authenticate(tmp_path / "nobody.pub")


@pytest.mark.parametrize("kind", ["private", "rsa", "empty", "spoiled"])
def test_a_key_file_with_something_else_is_refused(keys, tmp_path, kind):
    private, public = keys
    other = tmp_path / "other.pub"
    if kind == "rsa":
        openssl("genpkey", "-algorithm", "rsa", "-pkeyopt", "rsa_keygen_bits:1024", "-out", tmp_path / "rsa.pem")
        openssl("pkey", "-in", tmp_path / "rsa.pem", "-pubout", "-out", other)
    else:
        texts = {"private": private.read_bytes(), "empty": b"", "spoiled": public.read_bytes().replace(b"MCow", b"M!ow")}
        other.write_bytes(texts[kind])
    with pytest.raises(ConfigurationError, match=r"other\.pub: not one or more Ed25519 public keys in PEM"):
        load_authenticate(other)
