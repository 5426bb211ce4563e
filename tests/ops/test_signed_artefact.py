"""Signed artefacts in the image, and the chart that asks for them."""

import shutil

import httpx
import pytest

from export.sign import read_private_key, sign_folder
from server.settings import Settings
from tests.ops.chart import Release
from tests.ops.containers import CONFINED, UP, free_ports, podman, running
from tests.signing import make_keys


@pytest.fixture
def release(tmp_path):
    """(a copy of the shipped artefact, the private key, what makes the image ask for signatures by the public one)."""
    private, public = make_keys(tmp_path)
    artifact = tmp_path / "artifact"
    shutil.copytree(Settings().artifact, artifact)
    for path in (tmp_path, artifact):
        path.chmod(0o755)
    http, admin = free_ports(2)
    knobs = {"PORT": http, "ADMIN_PORT": admin, "HOST": "127.0.0.1", "ARTIFACT_PUBLIC_KEY_FILE": "/keys/release.pub"}
    options = [*CONFINED, f"--volume={artifact}:/artifact:ro", f"--volume={public}:/keys/release.pub:ro"]
    return artifact, private, [*options, *(f"--env=STILLGUARD_{name}={value}" for name, value in knobs.items())], http


def test_the_image_serves_a_signed_artefact(image, release):
    artifact, private, options, http = release
    sign_folder(artifact, seed=read_private_key(private))
    with running(image, *options, name="stillguard-signed") as container:
        container.wait_for(UP)
        body = {"texts": [{"text": "you are an idiot"}]}
        reply = httpx.post(f"http://127.0.0.1:{http}/v1/check", json=body, trust_env=False, timeout=60)
        assert reply.json()["results"][0]["verdict"] == "block"


def test_the_image_refuses_an_unsigned_one(image, release):
    _, _, options, _ = release
    with running(image, *options, name="stillguard-unsigned") as container:
        container.wait_for("stillguard: artifact /artifact: not signed: manifest.json.sig is missing")
        podman("wait", container.name)
        assert container.inspect()["State"]["ExitCode"] == 2


def test_the_chart_mounts_the_public_keys_that_it_names():
    release = Release("artifact-signed", values={"artifact.publicKeys.key": "keys.pem"})
    assert release.settings["STILLGUARD_ARTIFACT_PUBLIC_KEY_FILE"] == "/public-keys/keys.pem"
    (mount,) = [mount for mount in release.container["volumeMounts"] if mount["mountPath"] == "/public-keys"]
    assert mount["readOnly"] is True
    (volume,) = [volume for volume in release.server["spec"]["volumes"] if volume["name"] == mount["name"]]
    assert volume["configMap"] == {"name": "stillguard-release-keys", "optional": False}


def test_the_chart_asks_for_no_signature_unless_told():
    release = Release("default")
    assert "STILLGUARD_ARTIFACT_PUBLIC_KEY_FILE" not in release.settings
    assert "public-keys" not in [volume["name"] for volume in release.server["spec"]["volumes"]]
