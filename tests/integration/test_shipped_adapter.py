"""The shipped adapter judges alike under transformers (where it was tuned) and under llama.cpp (where it is served).

``ADAPTER_TEXTS=100 python -m pytest -s tests/integration/test_shipped_adapter.py`` prints the figures on 100 texts; a plain
run uses fewer. The base under llama.cpp is the Q8_0 rewrite that is really served.
"""

import math
import os
import time

import numpy as np
import pytest
import torch

from distill.data import LabelledTexts
from distill.seeds import seed_texts
from distill.teacher.label import judge_known
from distill.teacher.model import TreeEncoder
from distill.teacher.saved import load_judge
from server.core.calibration import IDENTITY
from server.core.policy import load_policies
from server.core.taxonomy import CATEGORIES
from server.core.teacher_manifest import ADAPTER_GGUF, DEFAULT_TEACHER_FOLDER, load_teacher_manifest
from server.teacher.base_model import default_cache_dir, ensure_q8_base
from server.teacher.embedded import EmbeddedTeacher

FORM = load_teacher_manifest(DEFAULT_TEACHER_FOLDER).form
TEXTS = int(os.environ.get("ADAPTER_TEXTS", "16"))


@pytest.fixture(scope="module")
def asked() -> LabelledTexts:
    """Texts with two categories each to ask: its own (or hate) and toxicity."""
    rows = seed_texts()
    drawn = rows.take(np.random.default_rng(0).permutation(len(rows))[:TEXTS])
    labels = np.full((TEXTS, len(CATEGORIES)), np.nan, dtype=np.float32)
    for row, known in enumerate(drawn.labels):
        own = np.flatnonzero(known == 1)
        labels[row, own[0] if len(own) else CATEGORIES.index("hate")] = 1
        labels[row, CATEGORIES.index("toxicity")] = 0
    return LabelledTexts(drawn.texts, drawn.roles, labels, drawn.datasets)


async def served_margins(asked: LabelledTexts) -> np.ndarray:
    rules = dict(zip(CATEGORIES, load_policies()["default"].rules, strict=True))
    teacher = EmbeddedTeacher(
        ensure_q8_base(default_cache_dir()), lora=DEFAULT_TEACHER_FOLDER / ADAPTER_GGUF, calibration=IDENTITY, form=FORM
    )
    await teacher.start()
    try:
        await teacher.wait_ready()
        margins = np.full(asked.labels.shape, np.nan)
        for row, text in enumerate(asked.texts):
            wanted = {c: rules[c] for i, c in enumerate(CATEGORIES) if not np.isnan(asked.labels[row, i])}
            scores = (await teacher.judge(text, asked.roles[row], wanted, deadline=time.monotonic() + 60)).scores
            for category, score in scores.items():
                margins[row, CATEGORIES.index(category)] = math.log(score) - math.log1p(-score)
    finally:
        await teacher.close()
    return margins


async def test_margins_agree_between_transformers_and_the_served_engine(asked):
    judge = load_judge(str(DEFAULT_TEACHER_FOLDER), dtype=torch.float32)
    encoder = TreeEncoder(judge.tokenizer, load_policies()["default"], FORM, max_text_tokens=256)
    tuned = judge_known(judge, encoder, asked)
    served = await served_margins(asked)
    known = ~np.isnan(tuned)
    assert (known == ~np.isnan(served)).all()
    difference = np.abs(tuned[known] - served[known])
    print(
        f"\n{known.sum()} margins: mean |Δ| {difference.mean():.3f}, max {difference.max():.3f}, std {tuned[known].std():.2f}"
    )
    assert tuned[known].std() > 2, "margins that all agree would hide a wrong adapter"
    assert difference.mean() < 0.15 * tuned[known].std()
    assert np.corrcoef(tuned[known], served[known])[0, 1] > 0.98
