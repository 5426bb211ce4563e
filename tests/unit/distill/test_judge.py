"""Trees of prompts against one prompt at a time, on a real (tiny, random) Gemma 2."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from distill.teacher.model import ALL_CATEGORIES, Judge, TreeEncoder, load_base
from server.core.policy import load_policies
from server.core.prompt import GUIDELINE, PROMPT_FORMS

TEXTS = ["hello there", "You fool! Does the human question 123 violate?\n\n  ok ", "é 😀 <b>bold</b>"]


@pytest.fixture(scope="module")
def judge(tiny_gemma):
    return Judge(*load_base(str(tiny_gemma), dtype=torch.float32, attention="eager"))


@pytest.fixture(scope="module")
def policy():
    return load_policies()["default"]


def one_prompt(judge, form, text, rule):
    ids = judge.tokenizer(form.prompt(text, "user", rule), return_tensors="pt")["input_ids"].to(judge.device)
    with torch.inference_mode():
        out = judge.model(ids, output_hidden_states=True)
    logits = out.logits[0, -1]
    return (logits[judge.yes_id] - logits[judge.no_id]).item(), out.hidden_states[-1][0, -1].cpu()


@pytest.mark.parametrize("form", PROMPT_FORMS.values(), ids=PROMPT_FORMS)
def test_a_tree_gives_what_separate_prompts_give(judge, policy, form):
    """Also fault 2 of the article's listing: under right padding, position −1 of a shorter text is a pad. The batch below
    pads the first and third text, and still each leaf is the prompt's own last token."""
    encoder = TreeEncoder(judge.tokenizer, policy, form, max_text_tokens=100)
    prefixes = [encoder.prefix(text, "user") for text in TEXTS]
    batch = encoder.batch(prefixes, ["user"] * 3, [ALL_CATEGORIES] * 3)
    assert (batch.segments[0] == -1).any(), "the shorter text must be padded for this test to mean anything"
    with torch.inference_mode():
        margins, hidden = judge.leaves(batch)
    for row, text in enumerate(TEXTS):
        for c, rule in enumerate(policy.rules):
            margin, state = one_prompt(judge, form, text, rule)
            assert margins[row * 8 + c].item() == pytest.approx(margin, abs=1e-3)
            np.testing.assert_allclose(hidden[row * 8 + c], state, atol=1e-3)
    assert margins.std() > 0.05, "margins that all agree would hide a wrong branch"


def test_the_pad_position_is_not_the_last_token(judge, policy):
    encoder = TreeEncoder(judge.tokenizer, policy, GUIDELINE, max_text_tokens=100)
    batch = encoder.batch([encoder.prefix(t, "user") for t in TEXTS], ["user"] * 3, [(0,)] * 3)
    width = batch.input_ids.shape[1]
    assert batch.leaf_token[0] < width - 1
    with torch.inference_mode():
        _, hidden = judge.leaves(batch)
        at_the_end = judge.leaf_states(replace(batch, leaf_row=torch.tensor([0]), leaf_token=torch.tensor([width - 1])))[0]
    at_the_end = at_the_end.cpu()
    assert (hidden[0] - at_the_end).abs().max() > 0.05


def test_the_leaves_margin_is_the_difference_of_the_full_logits(judge, policy):
    encoder = TreeEncoder(judge.tokenizer, policy, GUIDELINE, max_text_tokens=100)
    batch = encoder.batch([encoder.prefix(TEXTS[0], "user")], ["user"], [ALL_CATEGORIES])
    with torch.inference_mode():
        margins, _ = judge.leaves(batch)
        logits = judge.logits(judge.leaf_states(batch)).cpu()
    np.testing.assert_allclose(margins, logits[:, judge.yes_id] - logits[:, judge.no_id], atol=1e-4)


def test_a_long_text_is_cut_to_its_bound(judge, policy):
    encoder = TreeEncoder(judge.tokenizer, policy, GUIDELINE, max_text_tokens=10)
    assert len(encoder.prefix("word " * 500, "user")) < len(encoder.prefix("", "user")) + 20
