"""Write a data set all or nothing: under another name first, then moved into its place."""

from __future__ import annotations

import os
import re
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

__all__ = ["durable_file", "new_dataset"]

# No separators, control characters or leading dot: the name becomes that of a folder and of files.
SAFE_NAME = re.compile(r"[^\W_][\w.+-]*")


@contextmanager
def new_dataset(raw: str | Path, output: str | Path, name: str, overwrite: bool) -> Iterator[Path]:
    """Make the folder of a data set that appears complete or not at all.

    The body of the `with` statement fills a hidden folder beside the final one. If it ends well,
    the folder is moved into place; if it raises anything, even KeyboardInterrupt, whatever it
    wrote is removed and an older data set of that name stays as it was.

    Args:
        raw: Where the raw data are, which must not be replaced.
        output: The folder that holds the data sets; made if need be.
        name: The data set's name, which is that of its folder.
        overwrite: Whether to replace an existing data set of that name.

    Yields:
        The folder to fill.

    Raises:
        ValueError: The name is not fit for a folder, the data set exists already, or its folder
            holds the raw data or anything else that is not the data set's.
    """
    if not SAFE_NAME.fullmatch(name):
        raise ValueError(
            f"the name {name!r} is not fit for a folder: a letter or digit, then also . _ + -"
        )
    # Where the place is a link, what it points to is replaced, not the link.
    target = (Path(output) / name).resolve()
    check_target(target, overwrite)
    if target in (Path(raw).resolve(), *Path(raw).resolve().parents):
        raise ValueError(f"{target}: holds the raw data; choose another name or output")
    check_content(target, name)
    made = [folder for folder in (target.parent, *target.parent.parents) if not folder.exists()]
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        hidden = target.with_name(f".{name}.{uuid.uuid4().hex}.part")
        try:
            hidden.mkdir()
            yield hidden
            sync_folder(hidden)
            move_into_place(hidden, target)
        finally:
            shutil.rmtree(hidden, ignore_errors=True)
    except BaseException:
        for folder in made:
            with suppress(OSError):
                folder.rmdir()
        raise


def check_target(target: Path, overwrite: bool) -> None:
    """Refuse a place that is taken."""
    for folder in (target, *target.parents):
        if folder.exists() and not folder.is_dir():
            raise ValueError(f"{folder}: is a file, so no data set can be written there")
    if not overwrite and target.is_dir() and any(target.iterdir()):
        raise ValueError(f"{target}: exists already; pass overwrite to replace it, or another name")


def check_content(target: Path, name: str) -> None:
    """Refuse to replace a folder that happens to have the name, and is no data set's."""
    for path in sorted(target.iterdir()) if target.is_dir() else ():
        if not (path.name.startswith(f"{name}.") and path.is_file()):
            raise ValueError(
                f"{target}: holds {path.name!r}, which is not of the data set {name} and would be "
                "removed; move it away, or choose another name or output"
            )


def move_into_place(hidden: Path, target: Path) -> None:
    """Give the finished folder its name; an older one is set aside until that has worked."""
    aside = hidden.with_suffix(".old")
    if target.exists():
        target.rename(aside)
    try:
        hidden.rename(target)
    except BaseException:
        if aside.exists():
            aside.rename(target)
        raise
    sync_folder(target.parent)
    shutil.rmtree(aside, ignore_errors=True)


def sync_folder(folder: Path) -> None:
    """Make the names in a folder last through a power failure, where the system can."""
    if os.name == "posix":
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


@contextmanager
def durable_file(path: Path) -> Iterator[BinaryIO]:
    """Open a new file for writing bytes that are on the disk when the `with` statement ends."""
    with open(path, "xb") as stream:
        yield stream
        stream.flush()
        os.fsync(stream.fileno())
