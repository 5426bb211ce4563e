"""The image, built and run for real. It runs as a restricted pod runs, with its shells taken away."""

import json
import shutil

import httpx
import pytest

from tests.ops.containers import CONFINED, UP, free_ports, podman, running
from tests.ops.tools import ROOT, need, run, said

LARGEST_BYTES = 350_000_000
NO_SHELL = [f"--volume=/dev/null:/usr/bin/{shell}:ro" for shell in ("dash", "bash")]
DEFAULT_POLICY = ROOT / "server" / "policies" / "default.toml"


def options(http: int, admin: int, **knobs: str) -> list[str]:
    variables = {"HOST": "127.0.0.1", "PORT": str(http), "ADMIN_PORT": str(admin)} | knobs
    return [*CONFINED, *NO_SHELL, *(f"--env=STILLGUARD_{name}={value}" for name, value in variables.items())]


@pytest.fixture(scope="module")
def served(image):
    """(the container, a client to it)."""
    http, admin = free_ports(2)
    with running(image, *options(http, admin)) as container:
        container.wait_for(UP)
        with httpx.Client(base_url=f"http://127.0.0.1:{http}", trust_env=False, timeout=60) as client:
            yield container, client


CHECKOV = ["checkov", "--quiet", "--compact", "--skip-download", "--framework=dockerfile", "-f"]


@pytest.mark.parametrize("words", [["hadolint"], CHECKOV], ids=lambda words: words[0])
def test_the_dockerfile_is_clean(words):
    done = run(need(words[0]), *words[1:], ROOT / "Dockerfile")
    assert done.returncode == 0, said(done)


def test_a_moderation_call_is_answered(served):
    _, client = served
    reply = client.post("/v1/check", json={"texts": [{"text": "you are an idiot"}, {"text": "The weather is lovely."}]})
    assert reply.status_code == 200
    assert [result["verdict"] for result in reply.json()["results"]] == ["block", "allow"]
    shipped = json.loads((ROOT / "server" / "artifacts" / "default" / "manifest.json").read_text(encoding="utf-8"))
    assert reply.json()["artifact"]["version"] == shipped["version"]


def test_it_runs_confined(served):
    container, _ = served
    assert container.status("Uid", "Gid", "CapEff", "CapBnd", "NoNewPrivs") == {
        "Uid": "10001",
        "Gid": "10001",
        "CapEff": "0" * 16,
        "CapBnd": "0" * 16,
        "NoNewPrivs": "1",
    }
    refused = container.python("import os\ntry: open('/artifact/x', 'w')\nexcept OSError as error: print(error.strerror)")
    assert refused == "Read-only file system"
    assert container.inspect()["HostConfig"]["Memory"] == 512 * 1024**2


def test_the_health_check_asks_the_private_port(served):
    container, _ = served
    podman("healthcheck", "run", container.name)


def test_it_holds_what_it_needs_and_no_more(served, image):
    container, _ = served
    absent = "torch", "transformers", "pip", "huggingface_hub", "distill", "export", "xllamacpp"
    found = container.python(f"import importlib.util as u; print([name for name in {absent} if u.find_spec(name)])")
    assert found == "[]"
    (described,) = json.loads(podman("image", "inspect", image))
    assert described["Size"] <= LARGEST_BYTES
    assert described["Labels"]["org.opencontainers.image.licenses"] == "Apache-2.0"
    assert (described["Config"]["User"], described["Config"]["StopSignal"]) == ("10001:10001", "SIGTERM")


def test_a_stop_is_graceful(image):
    http, admin = free_ports(2)
    with running(image, *options(http, admin), name="stillguard-stop") as container:
        container.wait_for(UP)
        assert container.stop() == 0


def test_an_artefact_can_be_mounted_and_a_corrupt_one_is_refused(image, tmp_path):
    folder = tmp_path / "artifact"
    shutil.copytree(ROOT / "server" / "artifacts" / "default", folder)
    (folder / "tokenizer.json").write_text("{}", encoding="utf-8")
    folder.chmod(0o755)
    with running(image, *options(*free_ports(2)), f"--volume={folder}:/artifact:ro", name="stillguard-mount") as container:
        container.wait_for("stillguard: artifact /artifact: tokenizer.json is corrupt")
        podman("wait", container.name)
        assert container.inspect()["State"]["ExitCode"] == 2


def test_the_embedded_teacher_judges_what_the_student_is_unsure_of(teacher_image, tmp_path):
    policy = tmp_path / "policies.toml"
    lines = DEFAULT_POLICY.read_text(encoding="utf-8").splitlines()
    policy.write_text(
        "\n".join("unsure = [0.0, 1.0]" if line.startswith("unsure") else line for line in lines), encoding="utf-8"
    )
    policy.chmod(0o644)
    http, admin = free_ports(2)
    knobs = {"POLICIES": "/policies.toml", "TEACHER_TIMEOUT_S": "60", "REQUEST_TIMEOUT_S": "60"}
    more = ["--memory=2g", f"--volume={policy}:/policies.toml:ro"]
    with running(teacher_image, *options(http, admin, **knobs), *more, name="stillguard-teacher") as container:
        container.wait_for(UP, "embedded teacher ready")
        text = {"texts": [{"text": "The weather is lovely."}]}
        (result,) = httpx.post(f"http://127.0.0.1:{http}/v1/check", json=text, trust_env=False, timeout=120).json()["results"]
        assert (result["decided_by"], result["escalation"]["outcome"]) == ("teacher", "answered")
        assert container.stop() == 0
