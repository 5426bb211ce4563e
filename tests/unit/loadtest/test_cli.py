"""The command line: what it says of itself, and how it refuses."""

import pytest

from loadtest.__main__ import VERBS, main
from loadtest.bench.peers.catalogue import APPS, PEERS


def test_help_names_every_verb(capsys):
    assert main(["--help"]) == 0
    printed = capsys.readouterr().out
    assert all(verb in printed for verb in VERBS)


@pytest.mark.parametrize("arguments", [[], ["fly"]])
def test_an_unknown_verb_is_refused(arguments, capsys):
    assert main(arguments) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "usage: python -m loadtest" in captured.err


def test_the_benchs_help_explains_every_peer(capsys):
    with pytest.raises(SystemExit) as caught:
        main(["bench", "--help"])
    assert caught.value.code == 0
    text = capsys.readouterr().out
    assert all(name in text for name in PEERS)
    assert "exit code" in text


def test_an_unknown_peer_is_refused(capsys):
    with pytest.raises(SystemExit) as caught:
        main(["bench", "--vs", "nobody"])
    assert caught.value.code == 2
    assert "nobody" in capsys.readouterr().err


def test_a_folder_that_is_no_artefact_is_one_line_and_code_2(tmp_path, capsys):
    assert main(["bench", "--quick", "--artifact", str(tmp_path), "--out", str(tmp_path / "out")]) == 2
    assert f"bench: {tmp_path} is no artefact" in capsys.readouterr().err


@pytest.mark.parametrize("url", ["https://localhost:8000", "localhost:8000", "http://"])
def test_a_url_that_cannot_be_driven_is_refused_before_anything_is_measured(url, tmp_path, capsys):
    assert main(["bench", "--quick", "--url", url, "--out", str(tmp_path)]) == 2
    assert f"bench: {url} is no http:// URL" in capsys.readouterr().err


def test_the_peers_apps_are_there():
    for peer in PEERS.values():
        words = peer.command.format(folder="F", port=1).split()
        names = [word for word in words if word.endswith(".py")] + [f"{w.partition(':')[0]}.py" for w in words if ":Guard" in w]
        assert all((APPS / name).is_file() for name in names)
        assert "{" not in " ".join(words)
