"""The dual loss, and the four faults of the article's listing that it must not have: here in its parts, in ``test_train`` as
it is summed.

The listing: MSE between ``student[0, 0, :]`` and a *trainable* projection of ``teacher[0, -1, :]``, combined as
``alpha * distillation + (1 - alpha) * classification`` with alpha = 8.
"""

import pytest
import torch

from distill.losses import LossWeights, feature_loss, label_loss, soft_label_loss
from server.core.errors import ConfigurationError

NAN = float("nan")


def test_fault_1_every_row_of_the_batch_is_aligned():
    projected = torch.zeros(4, 3, requires_grad=True)
    feature_loss(projected, torch.ones(4, 3)).backward()
    assert (projected.grad.abs().sum(1) > 0).all()


def test_fault_3_no_weight_is_negative():
    for name in ("label", "soft", "feature"):
        with pytest.raises(ConfigurationError, match=">= 0"):
            LossWeights(**{name: -7.0})


def _fit(loss_of, parameters, steps=400):
    optimiser = torch.optim.Adam(parameters, lr=0.05)
    for _ in range(steps):
        loss = loss_of()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return loss.item()


def test_fault_4_the_loss_can_not_be_won_by_collapsing():
    torch.manual_seed(0)
    student, teacher = torch.randn(64, 4), torch.randn(64, 16)  # unrelated: there is nothing to learn

    on_teacher, on_student = torch.nn.Linear(16, 4), torch.nn.Linear(4, 4)
    collapsed = _fit(
        lambda: feature_loss(on_student(student), on_teacher(teacher)),
        [*on_teacher.parameters(), *on_student.parameters()],
    )
    up = torch.nn.Linear(4, 16)
    honest = _fit(lambda: feature_loss(up(student), teacher), up.parameters())

    assert collapsed < 1e-3, "the listing's trainable teacher side learns nothing and reports success"
    assert honest > 0.7, "a fixed target leaves the loss near the target's variance when there is nothing to learn"


def test_unknown_labels_are_masked_and_change_nothing():
    logits = torch.tensor([[2.0, -1.0]], requires_grad=True)
    loss = label_loss(logits, torch.tensor([[1.0, NAN]]))
    assert loss.item() == pytest.approx(0.126928, abs=1e-5)  # log(1 + e^-2)
    loss.backward()
    assert logits.grad[0, 1] == 0


@pytest.mark.parametrize("loss", [label_loss, lambda a, b: soft_label_loss(a, b, 2.0), feature_loss])
def test_a_batch_with_nothing_known_costs_nothing(loss):
    guess = torch.ones(2, 3, requires_grad=True)
    value = loss(guess, torch.full((2, 3), NAN))
    value.backward()
    assert value.item() == 0
    assert (guess.grad == 0).all()


def test_soft_label_loss_is_zero_only_in_agreement():
    teacher = torch.tensor([[3.0, -2.0, 0.0]])
    assert soft_label_loss(teacher.clone(), teacher, 2.0).item() == pytest.approx(0, abs=1e-6)
    assert soft_label_loss(-teacher, teacher, 2.0).item() > 1


def test_temperature_leaves_the_gradient_of_small_logits_alone():
    teacher = torch.tensor([[0.02]])
    gradients = []
    for temperature in (1.0, 4.0):
        logits = torch.zeros(1, 1, requires_grad=True)
        soft_label_loss(logits, teacher, temperature).backward()
        gradients.append(logits.grad.item())
    assert gradients[0] == pytest.approx(gradients[1], rel=1e-3)
