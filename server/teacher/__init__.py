"""The fallback route: asking an LLM about what the student is unsure of."""
