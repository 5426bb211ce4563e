"""The shipped student and its real embedded teacher: asked, killed, missed, and back."""

import os
import re
import select
import signal

import pytest

from server.core.policy import DEFAULT_POLICY_FILE

pytestmark = pytest.mark.e2e

TEXT = "you are an idiot and a loser"
ANOTHER = "what a worthless idiot you are, you loser"


@pytest.fixture
def always_unsure(tmp_path):
    """The default policy, unsure of all harassment and of nothing else; blocks are asked about too."""
    text = DEFAULT_POLICY_FILE.read_text(encoding="utf-8")
    text = text.replace("teacher_may_clear = false", "teacher_may_clear = true")
    text = re.sub(r"block_at = .*", "block_at = 1.0", text)
    text = re.sub(r"unsure = .*", "unsure = [1.0, 1.0]", text)
    head, harassment, rest = re.split(r"(?=\[default\.categories\.(?:harassment|hate)\])", text)
    harassment = harassment.replace("block_at = 1.0", "block_at = 0.5").replace("[1.0, 1.0]", "[0.0, 1.0]")
    path = tmp_path / "always_unsure.toml"
    path.write_text(head + harassment + rest, encoding="utf-8")
    return str(path)


def test_unsure_texts_go_to_the_teacher_even_after_it_was_killed(run_server, always_unsure):
    server = run_server(
        "--teacher", "embedded", "--policies", always_unsure, "--teacher-timeout-s", "20", "--request-timeout-s", "30"
    )
    ready = server.wait_for_log("embedded teacher ready")

    result = server.result(TEXT)
    assert result["decided_by"] == "teacher", result
    assert result["escalation"]["outcome"] == "answered"
    abusive = result["escalation"]["scores"]["harassment"]
    harmless = server.result("could you book a table for two, please?")["escalation"]["scores"]["harassment"]
    assert abusive > harmless + 0.2, "the teacher tells them apart"

    os.kill(int(ready["event"].rsplit(" ", 1)[1]), signal.SIGKILL)
    server.wait_for_log("embedded teacher ended")
    assert server.result(TEXT)["decided_by"] == "teacher", "what it said of this text is kept for a while"
    result = server.result(ANOTHER)
    assert result["decided_by"] == "student_degraded"
    assert result["escalation"]["outcome"] == "unreachable"
    assert result["verdict"] == "block", "the policy's choice without a teacher is the student's own verdict"

    server.wait_for_log("embedded teacher ready")
    assert server.result(ANOTHER)["decided_by"] == "teacher"
    assert not any(text in line for line in server.raw_log for text in (TEXT, ANOTHER))


def test_the_child_ends_with_the_server(run_server):
    server = run_server("--teacher", "embedded")
    child = int(server.wait_for_log("embedded teacher ready")["event"].rsplit(" ", 1)[1])
    watched = os.pidfd_open(child)
    server.process.kill()
    assert select.select([watched], [], [], 30)[0], "the teacher's process outlived a killed server"
    os.close(watched)
