"""Memory that was freed goes back to the system."""

import ctypes


def give_back_memory() -> None:
    """Return what the C library keeps of freed memory, where it can do that; glibc does, and keeps it otherwise. Takes
    milliseconds, without the interpreter lock. For any thread."""
    if trim := getattr(ctypes.CDLL(None), "malloc_trim", None):
        trim(0)
