"""Raw logits of a trained student over many texts, as the server will compute them: by windows, maximum over windows."""

import numpy as np
import torch
from tqdm import tqdm


def student_logits(model, tokenizer, texts: list[str], *, max_tokens: int, batch_size: int = 64) -> np.ndarray:
    """float32 (N, C). A text over ``max_tokens`` is cut into windows that overlap by 32 tokens."""
    encoded = tokenizer(texts, truncation=True, max_length=max_tokens, stride=32, return_overflowing_tokens=True)
    owners = encoded["overflow_to_sample_mapping"]
    windows = encoded["input_ids"]
    logits = np.full((len(texts), model.config.num_labels), -np.inf, dtype=np.float32)
    order = sorted(range(len(windows)), key=lambda i: len(windows[i]))
    model.eval()
    for start in tqdm(range(0, len(order), batch_size), desc="student", unit="batch", disable=len(order) < 1000):
        part = order[start : start + batch_size]
        padded = tokenizer.pad({"input_ids": [windows[i] for i in part]}, return_tensors="pt")
        with torch.inference_mode():
            out = model(input_ids=padded["input_ids"], attention_mask=padded["attention_mask"]).logits.numpy()
        np.maximum.at(logits, [owners[i] for i in part], out)
    return logits
