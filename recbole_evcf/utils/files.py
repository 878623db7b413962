"""Files are written atomically: under its name a file is whole or absent."""

from __future__ import annotations

import glob
import json
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

__all__ = ["atomic_write", "check_target", "plain_json", "remove_leftovers", "write_json"]


def check_target(path: str) -> None:
    """Check that a file of this name can be written, before work is spent.

    Raises:
        ValueError: it cannot, and why.
    """
    folder = os.path.dirname(os.path.abspath(path))
    if os.path.isdir(path):
        raise ValueError(f"{path} is a folder: name a file to write.")
    if not os.path.isdir(folder):
        raise ValueError(f"{path} cannot be written: there is no folder {folder}.")
    if not os.access(folder, os.W_OK):
        raise ValueError(f"{path} cannot be written: the folder {folder} is read-only.")


@contextmanager
def atomic_write(path: str) -> Iterator[str]:
    """Give a temporary name beside ``path`` to write to; it is renamed if the block succeeds.

    Both the content and the name are on the disk when the block ends: after a power failure,
    ``path`` is the old file or the new one, whole.
    """
    temporary = f"{path}.{os.getpid()}.tmp"
    try:
        yield temporary
        _flush(temporary, os.O_RDWR)
        os.replace(temporary, path)
        if os.name == "posix":
            _flush(os.path.dirname(os.path.abspath(path)), os.O_RDONLY)
    except OSError as error:
        # Its reader knows only the name that was asked for.
        if error.filename == temporary:
            error.filename = path
        raise
    finally:
        if os.path.exists(temporary):
            os.unlink(temporary)


def remove_leftovers(path: str) -> None:
    """Remove the temporary files of processes that were killed while they wrote ``path``."""
    for temporary in glob.glob(f"{glob.escape(path)}.*.tmp"):
        if re.fullmatch(r"\.\d+\.tmp", temporary[len(path) :]):
            os.unlink(temporary)


def _flush(path: str, mode: int) -> None:
    handle = os.open(path, mode)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def plain_json(content: Any) -> Any:
    """Convert content to JSON's types: NumPy's numbers to plain ones, NaN and infinity to None."""
    return json.loads(json.dumps(content, default=float), parse_constant=lambda name: None)


def write_json(path: str, content: Any) -> None:
    """Write :func:`plain_json` of the content atomically."""
    with atomic_write(path) as temporary, open(temporary, "w", encoding="utf-8") as file:
        json.dump(plain_json(content), file, indent=2)
        file.write("\n")
