"""``python -m loadtest bench``: the served rate against what the model alone could do here, and against peers."""
