"""Files that are whole or absent."""

from __future__ import annotations

import glob
import json
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["check_target", "plain_json", "remove_leftovers", "replacing", "write_json"]


def check_target(path: str) -> None:
    """Raise a ``ValueError`` if no file of this name could be written, before work is spent."""
    folder = os.path.dirname(os.path.abspath(path))
    if os.path.isdir(path):
        raise ValueError(f"{path} is a folder: name a file to write.")
    if not os.path.isdir(folder):
        raise ValueError(f"{path} cannot be written: there is no folder {folder}.")
    if not os.access(folder, os.W_OK):
        raise ValueError(f"{path} cannot be written: the folder {folder} is read-only.")


@contextmanager
def replacing(path: str) -> Iterator[str]:
    """A temporary name beside ``path`` to write to; it takes that name if all went well.

    Both the content and the name are on the disk before it ends: what is found under ``path``
    after a power failure is the old file or the new one, whole.
    """
    temporary = f"{path}.{os.getpid()}.tmp"
    try:
        yield temporary
        _flush(temporary, os.O_RDWR)
        os.replace(temporary, path)
        if os.name == "posix":
            _flush(os.path.dirname(os.path.abspath(path)), os.O_RDONLY)
    except OSError as error:
        # Who reads it knows no other name than the one that was asked for.
        if error.filename == temporary:
            error.filename = path
        raise
    finally:
        if os.path.exists(temporary):
            os.unlink(temporary)


def remove_leftovers(path: str) -> None:
    """Remove what processes that were killed while they wrote ``path`` have left beside it."""
    for temporary in glob.glob(f"{glob.escape(path)}.*.tmp"):
        if re.fullmatch(r"\.\d+\.tmp", temporary[len(path) :]):
            os.unlink(temporary)


def _flush(path: str, mode: int) -> None:
    handle = os.open(path, mode)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def plain_json(content):
    """Content in JSON's types: NumPy's numbers are plain ones; NaN and infinite ones are null."""
    return json.loads(json.dumps(content, default=float), parse_constant=lambda name: None)


def write_json(path: str, content) -> None:
    """Write :func:`plain_json` of it, whole or not at all."""
    with replacing(path) as temporary, open(temporary, "w", encoding="utf-8") as file:
        json.dump(plain_json(content), file, indent=2)
        file.write("\n")
