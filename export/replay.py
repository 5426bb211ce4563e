"""A student run over windows of ordinary texts for those who watch its layers."""

from collections.abc import Sequence
from typing import Any

import torch
from torch.utils.hooks import RemovableHandle


def replay(model: Any, token_ids: Sequence[Sequence[int]], hooks: Sequence[RemovableHandle]) -> None:
    """Run ``model``, a ``StudentForModeration`` in eval mode, over each window alone, so that no padding is seen; then remove
    the hooks."""
    try:
        with torch.inference_mode():
            for ids in token_ids:
                window = torch.tensor([list(ids)])
                model(input_ids=window, attention_mask=torch.ones_like(window))
    finally:
        for hook in hooks:
            hook.remove()
