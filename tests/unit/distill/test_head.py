"""The head is fitted anew where labels say so, and stays where they say nothing."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from distill.data import LabelledTexts
from distill.head import refit_head
from server.core.taxonomy import CATEGORIES
from tests.torch_threads import one_torch_thread

HATE, ILLICIT, SEXUAL = (CATEGORIES.index(name) for name in ("hate", "illicit", "sexual"))
HATEFUL, CRIMINAL, HARMLESS = np.eye(3, dtype=np.float32) * 4


@pytest.fixture(autouse=True)
def one_thread():
    with one_torch_thread():
        yield


def confounded() -> SimpleNamespace:
    """A student to which every harm is every other."""
    head = nn.Linear(3, len(CATEGORIES))
    with torch.no_grad():
        head.weight[:] = torch.tensor([1.0, 1.0, -1.0])
        head.bias[:] = 0
    return SimpleNamespace(classifier=head)


def labelled(*rows: tuple[np.ndarray, dict[int, float]], times: int = 20) -> tuple[np.ndarray, LabelledTexts]:
    labels = np.full((len(rows), len(CATEGORIES)), np.nan, dtype=np.float32)
    for row, (_, known) in enumerate(rows):
        for category, value in known.items():
            labels[row, category] = value
    states = np.stack([state for state, _ in rows] * times)
    size = len(states)
    return states, LabelledTexts(["text"] * size, ["user"] * size, np.tile(labels, (times, 1)), np.array(["set"] * size))


ONE_LABEL_EACH = [(HATEFUL, {HATE: 1.0}), (CRIMINAL, {ILLICIT: 1.0}), (HARMLESS, {HATE: 0.0, ILLICIT: 0.0})]


def scores(student: SimpleNamespace, state: np.ndarray) -> np.ndarray:
    with torch.inference_mode():
        return torch.sigmoid(student.classifier(torch.from_numpy(state))).numpy()


def test_a_known_zero_tells_categories_apart_that_one_label_each_left_together():
    student = confounded()
    refit_head(student, *labelled(*ONE_LABEL_EACH), keep=0.02)
    assert scores(student, CRIMINAL)[HATE] > 0.9, "nobody said that it isn't"
    losses = refit_head(student, *labelled(*ONE_LABEL_EACH, (CRIMINAL, {ILLICIT: 1.0, HATE: 0.0})), keep=0.02)
    assert scores(student, CRIMINAL)[HATE] < 0.2
    assert scores(student, CRIMINAL)[ILLICIT] > 0.9
    assert scores(student, HATEFUL)[HATE] > 0.9
    assert losses["loss"] < losses["loss_before"] / 2


def test_what_no_label_speaks_of_stays():
    student = confounded()
    before = student.classifier.weight[SEXUAL].clone()
    refit_head(student, *labelled(*ONE_LABEL_EACH), keep=0.02)
    torch.testing.assert_close(student.classifier.weight[SEXUAL], before)
    assert not torch.equal(student.classifier.weight[HATE], before)


def test_a_head_that_is_held_hard_stays_where_it_was():
    loose, held = confounded(), confounded()
    rows = labelled((CRIMINAL, {HATE: 0.0}))
    for student, keep in ((loose, 0.0), (held, 1e4)):
        refit_head(student, *rows, keep=keep)
    assert scores(loose, CRIMINAL)[HATE] < 0.01
    assert scores(held, CRIMINAL)[HATE] > 0.9


def test_the_same_rows_give_the_same_head():
    one, two = confounded(), confounded()
    for student in (one, two):
        refit_head(student, *labelled(*ONE_LABEL_EACH), keep=0.02)
    assert torch.equal(one.classifier.weight, two.classifier.weight)
