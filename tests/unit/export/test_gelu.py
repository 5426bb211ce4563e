"""GELU by a logistic function: how near it comes, and that its factors may go into the weights around it."""

import numpy as np
import pytest
import torch

from export.gelu import SLOPE, Curve, fit_curves, fold_curves

NARROW = "bert.encoder.layer.1.output.dense"
WIDE = "bert.encoder.layer.1.intermediate.dense"


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def seen(model, token_ids) -> np.ndarray:
    """float64 (tokens, M): what enters GELU in layer 1."""
    values = []
    hook = model.bert.encoder.layer[1].intermediate.dense.register_forward_hook(lambda _m, _i, out: values.append(out[0]))
    with torch.inference_mode():
        for ids in token_ids:
            model(input_ids=torch.tensor([ids]), attention_mask=torch.ones(1, len(ids), dtype=torch.long))
    hook.remove()
    return torch.cat(values).double().numpy()


def gelu(x: np.ndarray) -> np.ndarray:
    return torch.nn.functional.gelu(torch.from_numpy(x)).numpy()


def test_a_curve_is_the_best_line_through_what_a_neuron_was_seen_to_do(student, windows):
    model = student[0].eval()
    x = seen(model, windows.token_ids)
    curve = fit_curves(model, windows.token_ids)[1]
    near = x * sigmoid(SLOPE * x)
    for neuron in range(4):
        gain, shift = np.polyfit(near[:, neuron], gelu(x)[:, neuron], 1)
        assert curve.gain[neuron] == pytest.approx(gain, abs=0.01)
        assert curve.shift[neuron] == pytest.approx(shift, abs=0.001)
    fitted, plain = (np.square(gelu(x) - y).mean() for y in (curve.gain * near + curve.shift, near))
    assert fitted < plain / 2
    assert np.abs(gelu(x) - (curve.gain * near + curve.shift)).max() < 0.03


def test_a_neuron_that_never_moves_keeps_its_gain(student, windows):
    model = student[0].eval()
    curve = fit_curves(model, [windows.token_ids[0][:1]])[0]  # one token: no variance
    np.testing.assert_allclose(curve.gain, 1, atol=1e-6)
    assert not any(module._forward_hooks for module in model.modules())


def test_folded_weights_and_the_logistic_unit_give_what_the_curve_says(student, windows):
    model = student[0].eval()
    state = {name: tensor.detach().numpy() for name, tensor in model.state_dict().items()}
    rng = np.random.default_rng(0)
    neurons = len(state[f"{WIDE}.bias"])
    curve = Curve(rng.uniform(0.8, 1.2, neurons), rng.normal(size=neurons) / 10)
    folded = fold_curves(state, {1: curve})
    hidden = rng.normal(size=(7, state[f"{WIDE}.weight"].shape[1])).astype(np.float32)

    x = hidden @ state[f"{WIDE}.weight"].T + state[f"{WIDE}.bias"]
    wanted = (curve.gain * x * sigmoid(SLOPE * x) + curve.shift) @ state[f"{NARROW}.weight"].T + state[f"{NARROW}.bias"]
    s = hidden @ folded[f"{WIDE}.weight"].T + folded[f"{WIDE}.bias"]
    found = (s * sigmoid(s)) @ folded[f"{NARROW}.weight"].T + folded[f"{NARROW}.bias"]
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-5)

    changed = {name for name in state if not np.array_equal(state[name], folded[name])}
    assert changed == {f"{layer}.{part}" for layer in (WIDE, NARROW) for part in ("weight", "bias")}
    assert folded[f"{NARROW}.weight"].dtype == np.float32
