"""Write files atomically."""

from __future__ import annotations

import glob
import json
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

__all__ = [
    "atomic_write",
    "check_target",
    "plain_json",
    "remove_leftovers",
    "write_json",
    "write_text",
]


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
    """Yield a temporary name next to ``path``; it is renamed if the block succeeds.

    Content and name are on disk when the block ends: after a power failure, ``path`` is the old or
    the new file, never a part of it.
    """
    temporary = f"{path}.{os.getpid()}.tmp"
    try:
        yield temporary
        _flush(temporary, os.O_RDWR)
        os.replace(temporary, path)
        if os.name == "posix":
            _flush(os.path.dirname(os.path.abspath(path)), os.O_RDONLY)
    except OSError as error:
        # Report the requested name, the only one the reader knows.
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
    write_text(path, json.dumps(plain_json(content), indent=2) + "\n")


def write_text(path: str, text: str) -> None:
    """Write a text file in UTF-8 atomically."""
    with atomic_write(path) as temporary, open(temporary, "w", encoding="utf-8") as file:
        file.write(text)
