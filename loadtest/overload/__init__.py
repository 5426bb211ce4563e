"""``python -m loadtest overload``: three times what a server can hold, and how it behaves then."""
