"""Freed memory kept for the next step, where the C library would give it back."""

from __future__ import annotations

import ctypes
import functools
import platform
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["freed_memory_kept"]

# glibc's malloc.h.
M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4
DEFAULT_TRIM_THRESHOLD, DEFAULT_MMAP_MAX = 128 * 1024, 65536
NEVER_TRIM, NO_MMAP = -1, 0


@contextmanager
def freed_memory_kept() -> Iterator[None]:
    """Within it, large blocks that are freed stay with the process, to be handed out again.

    glibc takes every large block from the system and returns it at once, and each of its pages
    is cleared at its first touch: of a step that makes several tensors as large as the
    pseudo-inputs, a quarter. What is kept is returned at the end. Where the C library is another
    one, nothing happens.
    """
    libc = _glibc()
    if libc is None:
        yield
        return
    libc.mallopt(M_MMAP_MAX, NO_MMAP)
    libc.mallopt(M_TRIM_THRESHOLD, NEVER_TRIM)
    try:
        yield
    finally:
        libc.mallopt(M_MMAP_MAX, DEFAULT_MMAP_MAX)
        libc.mallopt(M_TRIM_THRESHOLD, DEFAULT_TRIM_THRESHOLD)
        libc.malloc_trim(0)


@functools.cache
def _glibc() -> ctypes.CDLL | None:
    return ctypes.CDLL(None) if platform.libc_ver()[0] == "glibc" else None
