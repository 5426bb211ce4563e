"""``python -m loadtest run``: Locust users, load shapes, the gate, the report."""
