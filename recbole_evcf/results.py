"""Store results under a key, and reuse them when the same is asked for.

A key is a dict of all that decides a result: settings with an effect, a digest of the data,
versions. Files are JSON with a digest of their content, written atomically; one that is corrupt,
edited or of another key counts as absent. A lock file reserves a folder, or an unfinished run,
for one process.
"""

import contextlib
import errno
import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from filelock import FileLock, Timeout
from recbole import __version__ as recbole_version

from recbole_evcf import __version__
from recbole_evcf.utils.files import plain_json, write_text

VERSIONS = {"recbole_evcf": __version__, "recbole": recbole_version}
SEAL = "sha256"
# Of file systems without locks, where locking is skipped.
NO_LOCKS = (errno.EINVAL, errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP)
# By the lock file's path. A process may take its own lock again, so that a notebook can resume a
# training that was stopped in it.
_held: dict[str, FileLock] = {}


def digest(*parts: object) -> str:
    """Return the SHA-256 of contents, in hexadecimal digits: equal for equal contents.

    Args:
        parts: NumPy arrays and tensors (their bytes), ``Path`` objects (the bytes of the file),
            and whatever JSON takes.
    """
    found = hashlib.sha256()
    for place, part in enumerate(parts):
        if place:
            found.update(b"\0")
        if isinstance(part, Path):
            found.update(part.read_bytes())
        elif isinstance(part, (np.ndarray, torch.Tensor)):
            array = part.detach().cpu().numpy() if isinstance(part, torch.Tensor) else part
            found.update(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
        else:
            found.update(json.dumps(part, sort_keys=True, default=str).encode())
    return found.hexdigest()


def write_sealed(path: str | Path, content: Mapping[str, Any]) -> None:
    """Write a dict as JSON with a digest of itself, atomically."""
    plain = plain_json(dict(content))
    write_text(str(path), json.dumps({**plain, SEAL: digest(plain)}, indent=2) + "\n")


def read_sealed(path: str | Path) -> dict[str, Any]:
    """Read what :func:`write_sealed` wrote, as JSON's types.

    Raises:
        ValueError: it is no such file, or has changed since.
        OSError: it cannot be read.
    """
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
    except RecursionError:
        raise ValueError("too many brackets") from None
    if not isinstance(content, dict) or SEAL not in content:
        raise ValueError(f"there is no {SEAL} in it")
    if content.pop(SEAL) != digest(content):
        raise ValueError(f"its {SEAL} is not that of its content")
    return content


class Store:
    """Results in a folder, which is made if it does not exist; a sealed JSON file each."""

    def __init__(self, folder: str | Path):
        self.folder = Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)

    def path(self, name: str, ending: str = ".json") -> Path:
        """Return the path of a result's file, or of one next to it with another ending."""
        return self.folder / f"{name}{ending}"

    def put(self, name: str, key: Mapping[str, Any], value: Mapping[str, Any]) -> None:
        """Keep a value of JSON's types under the name of a file; ``key`` is all that decides it."""
        write_sealed(self.path(name), {"key": key, "value": value})

    def get(self, name: str, key: Mapping[str, Any]) -> dict[str, Any] | None:
        """Return what is kept under a name; None if that is absent, changed or of another key."""
        try:
            content = read_sealed(self.path(name))
        except (OSError, ValueError):
            return None
        return content["value"] if content.get("key") == plain_json(dict(key)) else None


def take(path: str, wait: bool = False) -> bool:
    """Take a lock; return whether this process now has it: not if another does, unless we wait."""
    # Any thread may release it.
    lock = FileLock(_lock_file(path), thread_local=False)
    if lock.lock_file in _held:
        return True
    try:
        lock.acquire(blocking=wait)
    except Timeout:
        return False
    except (NotImplementedError, OSError) as error:
        if isinstance(error, OSError) and error.errno not in NO_LOCKS:
            raise
    _held[lock.lock_file] = lock
    return True


def holds(path: str) -> bool:
    """Whether this process has the lock."""
    return _lock_file(path) in _held


def release(path: str) -> None:
    """Release this process's lock; a process's locks also end with it."""
    if lock := _held.pop(_lock_file(path), None):
        # While it is held, so that no other process's new file is removed; Windows does it itself.
        with contextlib.suppress(FileNotFoundError, PermissionError):
            os.unlink(lock.lock_file)
        lock.release()


@contextlib.contextmanager
def held(path: str, wait: bool = False) -> Iterator[bool]:
    """Hold a lock within the block, which is given what :func:`take` returns."""
    taken = take(path, wait)
    try:
        yield taken
    finally:
        if taken:
            release(path)


@contextlib.contextmanager
def folder_held(folder: str) -> Iterator[None]:
    """Make a folder, and reserve it for this command within the block.

    Raises:
        ValueError: another command is writing there, or the folder cannot be written to.
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


def _lock_file(path: str) -> str:
    return f"{os.path.realpath(path)}.lock"
