"""The feedback log of a real process: killed, or on a disk that takes no more."""

import json
import os
import re
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import httpx
import pytest

from server.core.feedback import OPEN, SEALED, VerdictRecord, log_files, read_records

ROOT = Path(__file__).resolve().parents[2]
CANARY = "canary7f3a"


@pytest.fixture
def folder(tmp_path) -> Path:
    return tmp_path / "log"


class Process:
    """``python -m server`` with the shipped student and a feedback log, under a limit on the size of its files."""

    def __init__(self, folder: Path, *, file_limit_kib: int | None = None) -> None:
        limit = f"ulimit -f {file_limit_kib}; " if file_limit_kib else ""
        flags = "--port 0 --feedback-sample-share 1 --feedback-max-per-s 10000 --feedback-dir"
        self.process = subprocess.Popen(
            ["bash", "-c", f'{limit}exec "$0" -m server {flags} "$1"', sys.executable, folder],
            cwd=ROOT,
            env={name: given for name, given in os.environ.items() if not name.startswith("STILLGUARD_")},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        ready = self.process.stdout.readline()
        found = re.search(r"localhost:(\d+)", ready)
        assert found, self.process.stderr.read()
        self.client = httpx.Client(base_url=f"http://127.0.0.1:{found[1]}", trust_env=False, timeout=60)

    def ask(self, number: int) -> httpx.Response:
        body = {"texts": [{"text": f"{CANARY} {number}"}]}
        return self.client.post("/v1/check", json=body, headers={"x-request-id": f"r{number}"})

    def metric(self, name: str) -> float:
        lines = self.client.get("/metrics").text.splitlines()
        return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith(name))

    def end(self, number: int) -> str:
        """What was on standard error."""
        self.process.send_signal(number)
        self.client.close()
        _, said = self.process.communicate(timeout=60)
        return said


def test_a_killed_server_leaves_a_log_that_can_be_read_and_the_next_one_goes_on(folder):
    server = Process(folder)
    sent = 40
    for number in range(sent):
        assert server.ask(number).status_code == 200
    while (written := server.metric("stillguard_feedback_records_total{")) < sent / 2:
        pass
    server.end(signal.SIGKILL)
    (left,) = log_files(folder)
    assert left.name.endswith(OPEN)
    with left.open("ab") as file:
        file.write(b'{"schema":1,"kind":"verd')  # as if the kill had come in the middle of a line
    skipped: Counter = Counter()
    found = list(read_records(left, skipped))
    assert skipped == {"torn": 1}
    assert [record.id for record in found] == [f"r{number}" for number in range(len(found))]
    assert written <= len(found) <= sent
    assert all(isinstance(record, VerdictRecord) and record.text is None for record in found)
    assert found[0].student_scores.keys() >= {"hate", "violence"}

    successor = Process(folder)
    assert successor.ask(sent).status_code == 200
    assert successor.end(signal.SIGTERM).count("ERROR") == 0
    assert successor.process.returncode == 0
    before, after = log_files(folder)
    assert before.name == left.name.removesuffix(OPEN) + SEALED
    assert [record.id for record in read_records(after, skipped)] == [f"r{sent}"]


def test_a_disk_that_takes_no_more_costs_the_log_and_never_a_verdict(folder):
    """The limit on files stands for a full disk: every write beyond it fails, for as long as the server lives."""
    server = Process(folder, file_limit_kib=8)
    replies = [server.ask(number) for number in range(60)]
    assert [reply.status_code for reply in replies] == [200] * 60
    assert server.client.get("/readyz").status_code == 200
    said = server.end(signal.SIGTERM)
    assert server.process.returncode == 0
    assert CANARY not in said
    outages = [json.loads(line) for line in said.splitlines() if "can't be written" in line]
    assert [(line["level"], line["error"], line["reason"]) for line in outages][:1] == [("error", "OSError", "File too large")]
    skipped: Counter = Counter()
    ids = [record.id for path in log_files(folder) for record in read_records(path, skipped)]
    assert ids == sorted(set(ids), key=ids.index)
    assert 5 < len(ids) < 60
    assert skipped["torn"] >= 1
