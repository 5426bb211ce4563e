"""How far the inputs of the student's linear layers reach, seen on ordinary texts."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from export.replay import replay

Range = tuple[float, float]
"""Least and greatest value of a layer's input, with 0 between them."""


def input_ranges(model: Any, token_ids: Sequence[Sequence[int]]) -> Mapping[str, Range]:
    """The range of what enters each ``nn.Linear`` of the encoder, by its name below ``bert.encoder``.

    Args:
        model: a ``StudentForModeration`` in eval mode.
        token_ids: windows of ordinary texts, special tokens included; a few hundred do. Each runs alone, so no padding counts.
    """
    ranges: dict[str, Range] = {}

    def watch(name: str) -> Any:
        def note(_module: torch.nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
            low, high = ranges.get(name, (0.0, 0.0))
            ranges[name] = (min(low, inputs[0].min().item()), max(high, inputs[0].max().item()))

        return note

    hooks = [
        layer.register_forward_pre_hook(watch(name))
        for name, layer in model.bert.encoder.named_modules()
        if isinstance(layer, torch.nn.Linear)
    ]
    replay(model, token_ids, hooks)
    return ranges
