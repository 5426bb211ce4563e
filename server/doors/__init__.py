"""What clients speak: each door turns one wire format into core types and back."""
