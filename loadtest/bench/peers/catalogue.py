"""The peers: what each needs installed, how it is started, what it speaks."""

import contextlib
import os
import socket
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from loadtest.bench.artifact import Artifact
from loadtest.bench.dialects import CLASSIFY, ROWS, SCORES, Dialect
from loadtest.bench.load import Target
from loadtest.bench.peers.environment import ensure_environment
from loadtest.bench.processes import Child, peer_process
from loadtest.machine import usable_cores

APPS = Path(__file__).resolve().parent / "apps"
_ONNX = ("onnxruntime==1.31.1", "tokenizers>=0.21,<0.23", "numpy>=1.26")


@dataclass(frozen=True, slots=True)
class Peer:
    """``command`` is of the environment's ``bin``, with ``{folder}`` and ``{port}`` to fill in, and is run among the apps.
    ``runs`` says what it runs, for the report.

    Peers answer in one text per request, and cut a text at the model's longest window, which spares them what a long text
    costs us.
    """

    name: str
    requirements: tuple[str, ...]
    command: str
    dialect: Dialect
    runs: str
    needs_checkpoint: bool = False


PEERS = {
    peer.name: peer
    for peer in (
        Peer(
            "litserve",
            ("litserve==0.2.19", *_ONNX),
            "python litserve_app.py",
            SCORES,
            "the same model.onnx, one worker per core, batches of up to 8",
        ),
        Peer(
            "infinity",
            ("infinity-emb[server,torch]==0.0.78", "torch==2.13.0", "transformers==4.57.6"),
            "infinity_emb v2 --model-id {folder}/checkpoint --served-model-name student --engine torch --device cpu "
            "--host 127.0.0.1 --port {port}",
            CLASSIFY,
            "its torch engine on a model of the same size in FP32, default batching",
            needs_checkpoint=True,
        ),
        Peer(
            "bentoml",
            ("bentoml==1.4.39", *_ONNX),
            "bentoml serve bentoml_app:Guard --host 127.0.0.1 --port {port}",
            ROWS,
            "the same model.onnx, one worker per core, adaptive batches of up to 8",
        ),
        Peer(
            "rayserve",
            ("ray[serve]==2.60.0", *_ONNX),
            "python rayserve_app.py",
            SCORES,
            "the same model.onnx, one replica per core, batches of up to 8",
        ),
    )
}


@contextlib.contextmanager
def running_peer(peer: Peer, artifact: Artifact, *, cache: Path, log: Path) -> Iterator[tuple[Child, Target]]:
    """The peer's server, installed if need be.

    Raises:
        subprocess.CalledProcessError: it can't be installed.
        NotStarted: it doesn't answer.
    """
    folder = ensure_environment(cache, peer.name, peer.requirements)
    port = _free_port()
    environment = {
        "BENCH_ARTIFACT": str(artifact.folder.resolve()),
        "BENCH_PORT": str(port),
        "BENCH_WORKERS": str(usable_cores()),
        "PATH": f"{folder / 'bin'}{os.pathsep}{os.environ['PATH']}",
        "PYTHONDONTWRITEBYTECODE": "1",
        # Nobody needs to hear of it: each of them reports its use unless told not to.
        "DO_NOT_TRACK": "1",
        "INFINITY_ANONYMOUS_USAGE_STATS": "0",
        "BENTOML_DO_NOT_TRACK": "True",
        "RAY_USAGE_STATS_ENABLED": "0",
        "HF_HUB_OFFLINE": "1",
        # Ray gives its proxy five seconds to start, too few for a small machine, and then starts another one.
        "RAY_SERVE_PROXY_READY_CHECK_TIMEOUT_S": "60",
    }
    if peer.needs_checkpoint:
        make = [str(folder / "bin" / "python"), "infinity_model.py", str(folder / "checkpoint")]
        subprocess.run(make, cwd=APPS, env=os.environ | environment, check=True, capture_output=True)
    program, *arguments = (part.format(folder=folder, port=port) for part in peer.command.split())
    with peer_process(
        [str(folder / "bin" / program), *arguments],
        cwd=APPS,
        environment=environment,
        port=port,
        dialect=peer.dialect,
        log=log,
    ) as running:
        yield running


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
