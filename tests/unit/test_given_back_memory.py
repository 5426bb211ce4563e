"""Memory that was freed is the system's again."""

import ctypes
from pathlib import Path

import pytest

from server.memory import give_back_memory

BLOCK_BYTES = 64 * 1024
PAGE_BYTES = 4096


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * PAGE_BYTES


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "malloc_trim"), reason="another C library than glibc")
def test_what_was_freed_below_something_that_is_still_used_goes_back():
    blocks = [bytearray(b"x" * BLOCK_BYTES) for _ in range(1_000)]
    last = blocks.pop()
    blocks.clear()
    kept = resident_bytes()
    give_back_memory()
    assert kept - resident_bytes() > 500 * BLOCK_BYTES
    assert len(last) == BLOCK_BYTES
