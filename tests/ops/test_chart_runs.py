"""The rendered chart, run for real by ``podman kube play``: its pod answers, confined, with what its values gave it."""

import hashlib
import os
import re
import subprocess
import sys
import tarfile
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import httpx
import pytest

from tests.ops.chart import Release, template
from tests.ops.containers import UP, Container, following, free_ports, played, podman, secret
from tests.ops.tools import CHART, ROOT

KEY = "canary-key"
CLAIM = "stillguard-test-artefact"
KEYS = f"[frontend]\nsha256 = '{hashlib.sha256(KEY.encode()).hexdigest()}'\n"


@pytest.fixture(scope="module")
def artefact_url(tmp_path_factory) -> Iterator[dict[str, str]]:
    """``url`` and ``sha256`` of the shipped artefact as a tar archive, on loopback."""
    folder = tmp_path_factory.mktemp("served")
    archive = folder / "artifact.tar.gz"
    with tarfile.open(archive, "w:gz", compresslevel=1) as tar:
        tar.add(ROOT / "server" / "artifacts" / "default", arcname=".")
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(SimpleHTTPRequestHandler, directory=folder))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    url = f"http://127.0.0.1:{server.server_port}/{archive.name}"
    yield {"url": url, "sha256": hashlib.sha256(archive.read_bytes()).hexdigest()}
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture(scope="module")
def claim(image, artefact_url) -> Iterator[str]:
    """A volume that the chart's fetching container has filled.

    It is run by hand, for podman restarts the init containers of a Deployment's pod for ever, those that succeed included.
    """
    server = Release("default", values={"artifact": {"source": "http", "http": artefact_url}}).server
    (init,) = server["spec"]["initContainers"]
    (mount,) = [item["mountPath"] for item in init["volumeMounts"] if item["name"] == "artifact"]
    podman("volume", "create", CLAIM)
    try:
        podman(
            "run", "--rm", "--network=host", "--read-only", "--read-only-tmpfs=false", "--cap-drop=ALL",
            f"--volume={CHART / 'files'}:/fetch:ro", f"--volume={CLAIM}:{mount}",
            f"--entrypoint={init['command'][0]}", image, *init["command"][1:],
        )  # fmt: skip
        yield CLAIM
    finally:
        podman("volume", "rm", "--force", CLAIM)


@pytest.fixture(scope="module")
def pod(image, claim, tmp_path_factory) -> Iterator[tuple[Container, str, str]]:
    """(the server's container, its public URL, its private one): an artefact on a claim, a policy file, API keys, settings."""
    http, admin = free_ports(2)
    repository, tag = image.rsplit(":", 1)
    policies = (ROOT / "server" / "policies" / "default.toml").read_text(encoding="utf-8")
    values = {
        "replicaCount": 1,
        "image": {"repository": repository, "tag": tag, "pullPolicy": "Never"},
        "ports": {"http": http, "admin": admin},
        "artifact": {"source": "pvc", "pvc": {"claimName": claim}},
        "apiKeys.existingSecret": "keys",
        "policies": re.sub(r'^version = ".+"$', 'version = "from the chart"', policies, count=1, flags=re.MULTILINE),
        "settings": {"max_texts": 2},
        "resources.limits.memory": "512Mi",
    }
    manifests = tmp_path_factory.mktemp("chart") / "manifests.yaml"
    manifests.write_text(template("default", "--skip-tests", values=values), encoding="utf-8")
    with (
        secret("keys", api_keys=KEYS),
        played(manifests, volumes=["keys", "rel-stillguard-policies"]),
        following("rel-stillguard-pod-0-stillguard") as container,
    ):
        container.wait_for(UP)
        yield container, f"http://127.0.0.1:{http}", f"http://127.0.0.1:{admin}"


def ask(url: str, *texts: str, key: str = KEY) -> httpx.Response:
    body = {"texts": [{"text": text} for text in texts]}
    return httpx.post(f"{url}/v1/check", json=body, headers={"authorization": f"Bearer {key}"}, trust_env=False, timeout=60)


def test_it_answers_with_the_chart_s_policy_and_the_fetched_artefact(pod):
    _, public, _ = pod
    reply = ask(public, "you are an idiot", "The weather is lovely.")
    assert [result["verdict"] for result in reply.json()["results"]] == ["block", "allow"]
    assert reply.json()["policy"] == {"id": "default", "version": "from the chart"}


def test_settings_and_keys_reach_the_server(pod):
    _, public, _ = pod
    assert ask(public, "one", "two", "three").status_code in (400, 413)
    assert ask(public, "one", key="another").status_code == 401


def test_the_probes_of_the_chart_are_answered_on_the_private_port_alone(pod):
    _, public, private = pod
    for path in ("/livez", "/readyz", "/metrics"):
        assert httpx.get(private + path, trust_env=False, timeout=60).status_code == 200
    assert httpx.get(f"{public}/metrics", trust_env=False, timeout=60).status_code == 404


def test_the_container_is_confined_as_the_chart_says(pod):
    container, _, _ = pod
    assert container.status("Uid", "CapEff") == {"Uid": "10001", "CapEff": "0" * 16}
    refused = container.python("try: open('/artifact/x', 'w')\nexcept OSError as error: print(error.strerror)")
    assert refused == "Read-only file system"
    assert container.inspect()["HostConfig"]["Memory"] == 512 * 1024**2


@pytest.mark.parametrize(("key", "status", "code"), [(KEY, "200", 0), ("another", "401", 0), ("another", "200", 1)])
def test_helm_test_s_program_says_whether_the_release_answers(pod, tmp_path, key, status, code):
    _, public, _ = pod
    file = tmp_path / "key"
    file.write_text(f"{key}\n", encoding="utf-8")
    environment = os.environ | {"URL": f"{public}/v1/check", "EXPECTED_STATUS": status, "API_KEY_FILE": str(file)}
    done = subprocess.run([sys.executable, CHART / "files" / "helm_test.py"], env=environment, check=False, timeout=60)
    assert done.returncode == code


def test_the_pod_stops_gracefully(pod):
    """The last of this file: it ends the pod that the others ask."""
    container, _, _ = pod
    assert container.stop() == 0
