"""Freed memory kept for the next step, where the C library would give it back."""

from __future__ import annotations

import ctypes
import functools
import platform
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["freed_memory_kept"]

# glibc's malloc.h.
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
DEFAULT_THRESHOLD = 128 * 1024
# The most that glibc takes.
LARGEST_MMAP_THRESHOLD = 32 * 2**20
NEVER_TRIM = -1


@contextmanager
def freed_memory_kept() -> Iterator[None]:
    """Within it, large blocks that are freed stay with the process, to be handed out again.

    glibc takes every large block from the system and returns it at once, and each of its pages
    is cleared at its first touch: of a step that makes several tensors as large as the
    pseudo-inputs, a quarter. What is kept is returned at the end, of several such contexts in one
    another at the end of the outermost. Where the C library is another one, nothing happens.
    """
    libc = _glibc()
    if libc is None or _within.entered:
        yield
        return
    libc.mallopt(M_MMAP_THRESHOLD, LARGEST_MMAP_THRESHOLD)
    libc.mallopt(M_TRIM_THRESHOLD, NEVER_TRIM)
    _within.entered = True
    try:
        yield
    finally:
        _within.entered = False
        libc.mallopt(M_MMAP_THRESHOLD, DEFAULT_THRESHOLD)
        libc.mallopt(M_TRIM_THRESHOLD, DEFAULT_THRESHOLD)
        libc.malloc_trim(0)


class _within:
    entered = False


@functools.cache
def _glibc() -> ctypes.CDLL | None:
    return ctypes.CDLL(None) if platform.libc_ver()[0] == "glibc" else None
