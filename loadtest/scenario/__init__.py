"""What clients ask, and what must come back: data and pure functions, for Locust, k6 and whoever else drives."""
