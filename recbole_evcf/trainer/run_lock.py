"""What belongs to the one process that writes it, which holds the lock beside it.

The lock is the operating system's: however a process ends, its locks end with it, and the file
``X.lock`` alone means nothing.
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator

from filelock import FileLock, Timeout

__all__ = ["folder_held", "holds", "release", "take"]

ENDING = ".lock"
# What file systems that know no locks answer: there, all is as without them.
NO_LOCKS = (errno.EINVAL, errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP)
# By the path of the lock's file: a process may take its own again, since what stopped one training
# in a notebook leaves the next to go on with it.
_held: dict[str, FileLock] = {}


def take(path: str) -> bool:
    """Whether a run's model file is now, or was, this process's; False if it is another's."""
    file = _file(path)
    if file in _held:
        return True
    # Whichever thread lets go of it.
    lock = FileLock(file, thread_local=False)
    try:
        lock.acquire(blocking=False)
    except Timeout:
        return False
    except NotImplementedError:
        pass
    except OSError as error:
        if error.errno not in NO_LOCKS:
            raise
    _held[file] = lock
    return True


def holds(path: str) -> bool:
    """Whether the run is this process's."""
    return _file(path) in _held


def release(path: str) -> None:
    """Leave the run to others, if it was this process's."""
    lock = _held.pop(_file(path), None)
    if lock is not None:
        # While it is held, so that nobody's new file is removed; Windows does so by itself.
        with contextlib.suppress(FileNotFoundError, PermissionError):
            os.unlink(lock.lock_file)
        lock.release()


@contextlib.contextmanager
def folder_held(folder: str) -> Iterator[None]:
    """Make a folder; within the block its results are for this command alone to write.

    Raises:
        ValueError: another command writes there at present, or the folder cannot be written to.
    """
    path = os.path.join(folder, "results")
    try:
        os.makedirs(folder, exist_ok=True)
        taken = not holds(path) and take(path)
    except OSError as error:
        raise ValueError(
            f"The output folder {folder} cannot be written ({error.strerror})."
        ) from None
    if not taken:
        raise ValueError(
            f"The output folder {folder} is in use by another command that is still running: wait "
            "for it, or give another output folder."
        )
    try:
        yield
    finally:
        release(path)


def _file(path: str) -> str:
    return os.path.realpath(path) + ENDING
