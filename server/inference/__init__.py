"""Arrays: text to windows of tokens, windows to logits."""
