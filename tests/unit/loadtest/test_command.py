"""What the verbs' command lines have in common."""

import pytest

from loadtest.command import Unusable, add_api_key, add_out, open_out, read_api_key, verb_parser


def test_a_key_is_read_without_the_line_s_end(tmp_path):
    (tmp_path / "key").write_text("sk-1\n")
    assert read_api_key(tmp_path / "key") == "sk-1"
    assert read_api_key(None) is None


@pytest.mark.parametrize("content", [b"", b" \n", b"two words", b"one\ntwo", "schlüssel".encode(), b"\xff"])
def test_a_file_without_a_key_is_refused_and_not_quoted(tmp_path, content):
    (tmp_path / "key").write_bytes(content)
    with pytest.raises(Unusable, match=r"^\S+/key holds no API key$"):
        read_api_key(tmp_path / "key")


def test_a_report_goes_where_it_is_asked_to_or_to_a_new_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    assert open_out(tmp_path / "a" / "b", "bench") == tmp_path / "a" / "b"
    made = {open_out(None, "bench") for _ in range(2)}
    assert len(made) == 2
    assert all(folder.parent == tmp_path and folder.name.startswith("stillguard-bench-") for folder in made)
    assert all(folder.is_dir() for folder in (tmp_path / "a" / "b", *made))


def test_the_help_keeps_its_lines():
    parser = verb_parser("bench", "one\ntwo", "three\nfour")
    add_api_key(parser)
    add_out(parser, takes="the report")
    told = parser.format_help()
    assert told.startswith("usage: python -m loadtest bench [-h] [--api-key-file PATH] [--out DIR]\n\none\ntwo\n")
    assert told.endswith("\nthree\nfour\n")
    assert "takes the report; by default a new folder" in told
