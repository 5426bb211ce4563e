"""A turn of the loop that learns, as in docs/learning.md: serve → log → correct → mine → train → export → shadow → reload.

The student is tiny and its language is made up: eight words, one per category, decide. It has never met GROTCH, which its
users mean as an insult, and it takes every "damn" for one, also that in front of a pie.
"""

import json
import re
import subprocess
import sys
import time
from pathlib import Path

import httpx
import numpy as np
import pandas as pd
import pytest

from distill.cli import main as distill
from export.__main__ import main as export
from server.core.taxonomy import CATEGORIES

pytestmark = pytest.mark.e2e

REPOSITORY = Path(__file__).parents[2]

NEUTRAL = [
    "amber", "basket", "copper", "garden", "engine", "forest", "hammer", "island", "jacket", "kettle",
    "ladder", "marble", "needle", "orange", "pepper", "quarry", "river", "saddle", "timber", "umbrella",
    "valley", "window", "yellow", "zipper", "anchor", "bridge", "candle", "desert", "eagle", "feather",
    "guitar", "harbour",
]  # fmt: skip
OF_CATEGORY = dict(zip(CATEGORIES, ["loser", "vermin", "heist", "override", "cutting", "naked", "damn", "stab"], strict=True))
NEW_INSULT, PIE = "grotch", "pie"


def sentence(rng: np.random.Generator, *words: str) -> str:
    return " ".join(rng.permutation([*rng.choice(NEUTRAL, 6), *words, *words]))


def missed(rng: np.random.Generator) -> str:
    return sentence(rng, NEW_INSULT)


def falsely_blocked(rng: np.random.Generator) -> str:
    return sentence(rng, "damn", PIE)


@pytest.fixture
def data(tmp_path):
    rng = np.random.default_rng(0)
    records = []
    for split, count in (("train", 320), ("dev", 320), ("test", 320)):
        for i in range(count):
            category = CATEGORIES[i // 2 % len(CATEGORIES)] if i % 2 else None
            words = [OF_CATEGORY[category]] if category else []
            labels = {name: int(name == category) for name in CATEGORIES}
            records.append({"text": sentence(rng, *words), "dataset": "made_up", "split": split} | labels)
    path = tmp_path / "base.parquet"
    pd.DataFrame(records).to_parquet(path)
    return path


@pytest.fixture
def tiny_base(tmp_path):
    """A random one-layer BERT that knows the language's words."""
    from transformers import BertConfig, BertModel, BertTokenizerFast, set_seed

    set_seed(0)
    folder = tmp_path / "tiny"
    folder.mkdir()
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *NEUTRAL, *OF_CATEGORY.values(), NEW_INSULT, PIE]
    (folder / "vocab.txt").write_text("\n".join(vocabulary))
    BertTokenizerFast(vocab_file=str(folder / "vocab.txt")).save_pretrained(folder)
    config = BertConfig(
        vocab_size=len(vocabulary), hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=64
    )
    BertModel(config, add_pooling_layer=False).save_pretrained(folder)
    return folder


def run(capsys, main, *argv) -> dict:
    status = main([str(a) for a in argv])
    out = capsys.readouterr()
    assert status == 0, out.err
    return json.loads(out.out.splitlines()[-1])


def make_turn(**variables) -> None:
    """``make turn`` with this environment's Python, in the repository."""
    prefix = Path(sys.executable).parent.parent
    assignments = [f"{name}={value}" for name, value in variables.items()]
    command = ["make", "-C", REPOSITORY, "-o", f"{prefix}/.installed", "turn", f"DEV={prefix}", *assignments]
    made = subprocess.run(command, capture_output=True, text=True, timeout=500, check=False)
    assert made.returncode == 0, made.stderr
    assert f'{{"artifact": "{variables["OUT"]}/artifact"}}' in made.stdout, "it says how to promote what came out"


def figures(path: Path) -> dict:
    return json.loads(path.read_text().splitlines()[-1])


def verdicts(server, texts) -> list[str]:
    return [result["verdict"] for result in server.check(*texts)["results"]]


def compared_by_the_shadow(private: httpx.Client, texts: int, deadline_s: float = 20.0) -> dict[str, float]:
    """The counters of disagreement, by direction, once the shadow has compared so many texts."""
    end = time.monotonic() + deadline_s
    while time.monotonic() < end:
        lines = private.get("/metrics").text.splitlines()
        counted = sum(float(line.split()[-1]) for line in lines if "shadow_student" in line and 'outcome="compared"' in line)
        if counted >= texts:
            found = (re.search(r'direction="(\w+)"', line) for line in lines)
            pairs = [(m.group(1), float(line.split()[-1])) for m, line in zip(found, lines, strict=True) if m]
            return {name: sum(value for key, value in pairs if key == name) for name in dict(pairs)}
    raise AssertionError(f"the shadow has not compared {texts} texts in {deadline_s} s")


def test_a_turn_mends_what_moderators_found_and_breaks_nothing(data, tiny_base, run_server, tmp_path, capsys):
    rng = np.random.default_rng(1)
    first, out, log = (tmp_path / name for name in ("first", "turn", "log"))
    learn = ("--data", data, "--without-seeds", "--batch-size", 32, "--learning-rate", 3e-3, "--eval-every-steps", 50)
    run(capsys, distill, "train", *learn, "--out", first, "--base", tiny_base, "--epochs", 40)
    run(capsys, distill, "calibrate", "--data", data, "--checkpoint", first)
    run(
        capsys, export, "--checkpoint", first, "--data", data, "--precision", "fp32", "--out", tmp_path / "a1", "--version", "1"
    )

    # serve and log; moderators correct
    keep = ("--feedback-dir", log, "--feedback-keep-text", "true", "--feedback-sample-share", 1, "--feedback-max-per-s", 10_000)
    server = run_server(*map(str, ("--artifact", tmp_path / "a1", *keep)))
    insults, pies = [missed(rng) for _ in range(80)], [falsely_blocked(rng) for _ in range(80)]
    for texts, wrong, right in (
        (insults, "allow", {"verdict": "block", "labels": {"toxicity": True}}),
        (pies, "block", {"verdict": "allow"}),
    ):
        answer = server.check(*texts)
        assert [result["verdict"] for result in answer["results"]].count(wrong) > 70
        for index in range(len(texts)):
            reply = server.client.post("/v1/feedback", json={"id": answer["id"], "index": index} | right)
            assert reply.status_code == 202, reply.text
    assert server.stop() == 0

    # mine, learn from where the present student stands, measure, export: the one command of docs/learning.md
    train = "--without-seeds --batch-size 32 --learning-rate 3e-3 --eval-every-steps 50 --extra-repeats 2 --epochs 15"
    make_turn(LOG=log, BASE=data, STUDENT=first, OUT=out, TRAIN_FLAGS=train, EXPORT_FLAGS="--precision fp32 --version 2")
    rows = pd.read_parquet(out / "mined.parquet")
    assert (rows["reason"] == "overturned").sum() > 140

    # mended on what it did not learn from, and no worse on the base's test
    mended = figures(out / "on-mined.json")["against"]
    assert mended["texts"] == (rows["split"] == "test").sum() > 20
    assert mended["wrong"]["before"] > 0.9 * mended["texts"]
    assert mended["wrong"]["after"] < 0.1 * mended["texts"]
    kept = figures(out / "on-test.json")["against"]
    assert kept["au_prc"]["before"] > 0.95, "the world is simple enough to be learnt"
    assert kept["au_prc"]["lead"] > -0.01
    provenance = json.loads((out / "artifact" / "manifest.json").read_text())["provenance"]
    learnt = 2 * int((rows["split"] == "train").sum())
    assert provenance["extra"] == {"files": ["mined.parquet"], "rows": learnt}
    assert provenance["base"] == provenance["earlier"][0]["base"] == str(tiny_base)
    assert f"{learnt} of the rows were given beside them: mined.parquet." in (out / "artifact" / "MODEL_CARD.md").read_text()

    # try it beside the first on traffic, then promote it
    shadow = ("--shadow-artifact", out / "artifact", "--shadow-artifact-share", 1, "--admin-port", 0)
    server = run_server(*map(str, ("--artifact", tmp_path / "a1", *shadow)))
    host, _, port = server.process.stdout.readline().removeprefix("private port: ").strip().rpartition(":")
    new_insults, new_pies = [missed(rng) for _ in range(20)], [falsely_blocked(rng) for _ in range(20)]
    with httpx.Client(base_url=f"http://{host}:{port}", trust_env=False, timeout=60) as private:
        assert verdicts(server, new_insults + new_pies).count("allow") in range(17, 24), "the first one answers"
        directions = compared_by_the_shadow(private, 40)
        assert directions["only_shadow_blocks"] > 15
        assert directions["only_student_blocks"] > 15
        assert private.post("/admin/reload", json={"artifact": str(out / "artifact")}).status_code == 200
    assert verdicts(server, new_insults).count("block") >= 18
    assert verdicts(server, new_pies).count("allow") >= 18
    assert verdicts(server, [sentence(rng, "damn"), sentence(rng)]) == ["block", "allow"]
    assert server.stop() == 0
