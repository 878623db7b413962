"""The files of a run belong to the one process that trains it, which holds the lock beside them.

The lock is the operating system's: however a process ends, its locks end with it, and the file
``X.pth.lock`` alone means nothing. Where there is no ``fcntl`` (Windows) nothing is locked.
"""

from __future__ import annotations

import contextlib
import os

try:
    import fcntl
except ImportError:
    fcntl = None

__all__ = ["holds", "release", "take"]

ENDING = ".lock"
# By the path of the lock's file, the handle that holds it: a process may take its own again, since
# what stopped one training in a notebook leaves the next to go on with it.
_held: dict[str, int] = {}


def take(model_file: str) -> bool:
    """Whether the run of a model file is now, or was, this process's; False if it is another's."""
    path = os.path.realpath(model_file) + ENDING
    if fcntl is None:
        _held.setdefault(path, -1)
    while path not in _held:
        handle = os.open(path, os.O_CREAT | os.O_RDWR, 0o666)
        if not _lock(handle):
            os.close(handle)
            return False
        if _is_at(path, handle):
            _held[path] = handle
        else:
            # Whoever held it removed the file in between.
            os.close(handle)
    return True


def holds(model_file: str) -> bool:
    """Whether the run is this process's."""
    return os.path.realpath(model_file) + ENDING in _held


def release(model_file: str) -> None:
    """Leave the run to others, if it was this process's."""
    path = os.path.realpath(model_file) + ENDING
    handle = _held.pop(path, -1)
    if handle >= 0:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
        os.close(handle)


def _lock(handle: int) -> bool:
    # What else is raised comes from file systems that know no locks: all is as without them.
    with contextlib.suppress(OSError):
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
    return True


def _is_at(path: str, handle: int) -> bool:
    try:
        return os.path.samestat(os.stat(path), os.fstat(handle))
    except FileNotFoundError:
        return False
