"""``python -m loadtest verdicts`` against the real server with the shipped fakes behind it, through a real socket."""

import hashlib
import json
import stat
import threading
from contextlib import contextmanager

import pytest

from loadtest.__main__ import main
from server.__main__ import uvicorn_config
from server.settings import Settings
from tests.integration.test_process import ThreadedServer

ROWS = [
    *({"text": f"a fine day {i}", "unsafe": 0, "kind": "plain"} for i in range(9)),
    *({"text": f"no hate for {i}", "unsafe": 0, "kind": "mention"} for i in range(3)),
    *({"text": f"violence {i}", "unsafe": 1, "kind": "direct"} for i in range(7)),
    {"text": "between the lines", "unsafe": 1, "kind": "veiled"},
    {"text": "nobody knows", "unsafe": None, "kind": "plain"},
]


@pytest.fixture
def serve(fake_app):
    """``with serve(**knobs) as url``: a server on a thread."""

    @contextmanager
    def start(**knobs):
        gate = threading.Event()
        gate.set()
        app = fake_app(gate=gate, entered=threading.Event(), settings=knobs)
        server = ThreadedServer(uvicorn_config(Settings(port=0, **knobs), app), app.state.service)
        thread = threading.Thread(target=server.run, name="server")
        thread.start()
        assert server.is_up.wait(60)
        try:
            yield server.url
        finally:
            server.should_exit = True
            thread.join(60)
        assert not thread.is_alive()

    return start


@pytest.fixture
def labelled(tmp_path):
    path = tmp_path / "labelled.jsonl"
    path.write_text("".join(f"{json.dumps(row)}\n" for row in ROWS))
    return path


def test_a_run_reports_judges_and_keeps_texts_only_when_asked(serve, labelled, tmp_path, capsys):
    out = tmp_path / "out"
    with serve() as url:
        limits = ["--max-false-blocks", "0.25", "--max-misses", "0.1"]
        assert main(["verdicts", "--url", f"{url}/", str(labelled), "--out", str(out), *limits]) == 1
        report = json.loads(capsys.readouterr().out.splitlines()[-1])
        assert sorted(path.name for path in out.iterdir()) == ["report.json", "report.png"]
        assert main(["verdicts", "--url", url, str(labelled), "--out", str(out), "--keep-texts"]) == 0
    assert [(goal["name"], goal["is_met"]) for goal in report["gate"]] == [
        ("safe texts blocked, labelled.jsonl", True),
        ("unsafe texts allowed, labelled.jsonl", False),
        ("texts not checked", True),
    ]
    safe, unsafe = report["files"][0]["safe"], report["files"][0]["unsafe"]
    assert (safe["wrong"]["count"], safe["wrong"]["of"], safe["wrong_categories"]) == (3, 12, {"hate": 3})
    assert (unsafe["wrong"]["count"], unsafe["wrong"]["of"], report["files"][0]["unlabelled"]) == (1, 8, 1)
    assert [(group["group"], group["wrong"]["count"]) for group in safe["groups"]] == [("mention", 3), ("plain", 0)]
    assert [one["artifact_version"] for one in report["served"]] == ["test-1"]
    kept = [json.loads(line) for line in (out / "failures.jsonl").read_text().splitlines()]
    assert [row["text"] for row in kept] == [*(f"no hate for {i}" for i in range(3)), "between the lines"]
    assert stat.S_IMODE((out / "failures.jsonl").stat().st_mode) == 0o600


def test_a_text_that_the_server_refuses_is_not_checked_and_its_neighbours_are(serve, tmp_path, capsys):
    path = tmp_path / "odd.csv"
    path.write_text(f"text,unsafe\n,0\nhate,1\n{'x' * 2_000},0\nfine \N{ZERO WIDTH SPACE},0\n")
    with serve(max_text_chars=1_000) as url:
        arguments = ["verdicts", "--url", url, str(path), "--out", str(tmp_path / "out")]
        assert main(arguments) == 0
        report = json.loads(capsys.readouterr().out.splitlines()[-1])
        assert main([*arguments, "--max-misses", "1"]) == 1, "what wasn't checked might be wrong"
    safe, unsafe = report["files"][0]["safe"], report["files"][0]["unsafe"]
    assert safe["not_checked_reasons"] == {"invalid_request": 1, "too_large": 1}
    assert (safe["allow"]["count"], unsafe["block"]["count"]) == (1, 1)


def test_an_unknown_policy_is_one_line_in_the_servers_words(serve, labelled, capsys):
    with serve() as url:
        assert main(["verdicts", "--url", url, str(labelled), "--policy", "strict"]) == 2
        assert main(["verdicts", "--url", url, str(labelled), "--policy", "other", "--out", str(labelled.parent / "out")]) == 0
    captured = capsys.readouterr()
    assert captured.err == (
        f"verdicts: POST {url}/v1/check is refused with 400: unknown_policy: unknown policy; known policies: default, other\n"
    )
    assert json.loads(captured.out.splitlines()[-1])["served"][0]["policy_id"] == "other"


def test_a_key_is_asked_for_refused_and_taken(serve, labelled, tmp_path, capsys):
    keys = tmp_path / "keys.toml"
    keys.write_text(f'[ours]\nsha256 = "{hashlib.sha256(b"good-key").hexdigest()}"\n')
    given = {name: tmp_path / name for name in ("good-key", "bad-key", "two words")}
    for name, path in given.items():
        path.write_text(f"{name}\n")
    codes = {}
    with serve(api_keys_file=keys) as url:
        common = ["verdicts", "--url", url, str(labelled), "--out", str(tmp_path / "out")]
        assert main(common) == 2
        for name, path in given.items():
            codes[name] = main([*common, "--api-key-file", str(path)])
    assert codes == {"good-key": 0, "bad-key": 2, "two words": 2}
    without, bad, no_key = capsys.readouterr().err.splitlines()
    assert without == f"verdicts: {url} asks for an API key: --api-key-file"
    assert bad.startswith(f"verdicts: POST {url}/v1/check is refused with 401: unauthorized: a valid API key is needed")
    assert no_key.endswith("two words holds no API key")


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("absent.jsonl", None, "No such file"),
        ("empty.jsonl", "", "holds no rows"),
        ("bare.csv", "text\nfine\n", "has no column named unsafe"),
        ("odd.csv", "text,unsafe\nfine,maybe\n", "line 2: the label unsafe is neither 0 nor 1"),
    ],
)
def test_a_file_that_is_no_use_is_one_line_before_any_server_is_asked(name, content, said, tmp_path, capsys):
    if content is not None:
        (tmp_path / name).write_text(content)
    assert main(["verdicts", "--url", "http://127.0.0.1:1", str(tmp_path / name)]) == 2
    captured = capsys.readouterr()
    assert captured.err.count("\n") == 1
    assert said in captured.err
    assert captured.out == ""


@pytest.mark.parametrize(
    ("url", "said"), [("http://127.0.0.1:1", "doesn't answer: ConnectError"), ("guard:8000", "is no http://")]
)
def test_a_server_that_is_not_there_is_one_line(url, said, labelled, capsys):
    assert main(["verdicts", "--url", url, str(labelled)]) == 2
    assert said in capsys.readouterr().err


@pytest.mark.parametrize("wrong", [["--concurrency", "0"], ["--max-misses", "20"], ["--role", "system"]])
def test_an_option_that_cannot_be_meant_is_refused(wrong, labelled, capsys):
    with pytest.raises(SystemExit) as caught:
        main(["verdicts", "--url", "http://guard", str(labelled), *wrong])
    assert caught.value.code == 2
    assert wrong[0] in capsys.readouterr().err
