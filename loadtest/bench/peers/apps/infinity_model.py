"""A checkpoint of the student's size for infinity's torch engine, which can't read our ONNX file from a folder.

MiniLM-L6 (six layers of 384) with random weights under the artefact's own tokenizer: what a pass costs doesn't depend on the
weights, and nobody compares the scores.
"""

import json
import os
import sys
from pathlib import Path

from transformers import BertConfig, BertForSequenceClassification, PreTrainedTokenizerFast

if __name__ == "__main__":
    folder = Path(os.environ["BENCH_ARTIFACT"])
    manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_file=str(folder / "tokenizer.json"),
        model_max_length=manifest["max_tokens"],
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
    )
    config = BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=384,
        num_hidden_layers=6,
        num_attention_heads=12,
        intermediate_size=1536,
        num_labels=len(manifest["categories"]),
        problem_type="multi_label_classification",
    )
    out = Path(sys.argv[1])
    BertForSequenceClassification(config).save_pretrained(out)
    tokenizer.save_pretrained(out)
