"""A server that asks for signatures starts with a signed artefact, and neither starts with nor reloads to another."""

import os
import shutil
import subprocess
import sys

import httpx
import pytest

from export.sign import read_private_key, sign_folder
from server.app import create_app, create_private_app, load_parts
from server.core.errors import ArtifactError
from server.core.policy import load_policies
from server.core.teacher_manifest import DEFAULT_TEACHER_FOLDER
from server.settings import Settings
from server.teaching import load_teachers
from tests.signing import make_artifact, make_keys

SHIPPED = Settings().artifact


@pytest.fixture(scope="module")
def keys(tmp_path_factory):
    return make_keys(tmp_path_factory.mktemp("keys"))


async def test_a_reload_takes_a_signed_artefact_and_no_other(tmp_path, keys):
    private_key, public_key = keys
    signed, unsigned = (tmp_path / name for name in ("signed", "unsigned"))
    for folder in (signed, unsigned):
        shutil.copytree(SHIPPED, folder, ignore=shutil.ignore_patterns("*.sig"))
    sign_folder(signed, seed=read_private_key(private_key))
    settings = Settings(artifact=signed, artifact_public_key_file=public_key, sessions=1, teacher="none")
    app = create_app(settings, load_parts(settings))
    private = create_private_app(app.state.service, app.state.metrics)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=httpx.ASGITransport(private), base_url="http://private", timeout=60) as operator,
        httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://guard", timeout=60) as client,
    ):
        refused = await operator.post("/admin/reload", json={"artifact": str(unsigned)})
        assert refused.status_code == 422
        assert "not signed: manifest.json.sig is missing" in refused.text
        assert (await operator.post("/admin/reload", json={"artifact": str(signed)})).status_code == 200
        verdicts = await client.post("/v1/check", json={"texts": [{"text": "you are an idiot"}]})
        assert verdicts.json()["results"][0]["verdict"] == "block"


def test_a_start_with_an_unsigned_artefact_is_refused_in_one_line(tmp_path, keys):
    artifact = make_artifact(tmp_path / "artifact")
    knobs = {"STILLGUARD_ARTIFACT": str(artifact), "STILLGUARD_ARTIFACT_PUBLIC_KEY_FILE": str(keys[1])}
    done = subprocess.run(
        [sys.executable, "-m", "server"], env=os.environ | knobs, capture_output=True, text=True, check=False, timeout=120
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == f"stillguard: artifact {artifact}: not signed: manifest.json.sig is missing\n"


@pytest.mark.parametrize("knobs", [{"teacher": "embedded"}, {"teacher": "http://127.0.0.1:9", "teacher_model": "guard"}])
def test_the_teacher_s_folder_is_asked_for_its_signature_too(tmp_path, keys, knobs):
    folder = tmp_path / "teacher"
    shutil.copytree(DEFAULT_TEACHER_FOLDER, folder)
    settings = Settings(teacher_path=folder, artifact_public_key_file=keys[1], **knobs)
    with pytest.raises(ArtifactError, match=r"not signed: teacher\.json\.sig is missing"):
        load_teachers(settings, load_policies(settings.policies))
