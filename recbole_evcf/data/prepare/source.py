"""Raw files in a folder or in a zip archive, opened for streaming and never unpacked to disk."""

from __future__ import annotations

import fnmatch
import lzma
import re
import struct
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

__all__ = ["MAX_EXPANSION", "MAX_MEMBER_BYTES", "RawFile", "find_raw_files"]

# Netflix Prize, the largest of the raw data sets, holds 2 GB of text that shrinks about fourfold.
MAX_MEMBER_BYTES = 20 * 10**9
MAX_EXPANSION = 200
# Below this size even an extreme ratio is harmless, and short repetitive text does reach one.
SMALL_MEMBER_BYTES = 1_000_000

ENCRYPTED_FLAG = 0x1
BROKEN_ZIP = (
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
    EOFError,
    NotImplementedError,
    RuntimeError,
    UnicodeDecodeError,
    struct.error,
)


@dataclass(frozen=True)
class RawFile:
    """One raw file.

    Attributes:
        path: The file itself, or the zip archive that holds it.
        member: Its name within the archive; None for a plain file.
        size: Its size in bytes, uncompressed.
    """

    path: Path
    member: str | None
    size: int

    def __str__(self) -> str:
        return str(self.path) if self.member is None else f"{self.path}, {self.member}"

    @property
    def name(self) -> str:
        """The file's name without any folder."""
        return self.path.name if self.member is None else self.member.rpartition("/")[2]

    @contextmanager
    def open(self) -> Iterator[BinaryIO]:
        """Open the file for reading bytes.

        Raises:
            ValueError: The file cannot be read, or the archive is broken.
        """
        with readable(self):
            if self.member is None:
                with open(self.path, "rb") as stream:
                    yield stream
            else:
                with zipfile.ZipFile(self.path) as archive, archive.open(self.member) as stream:
                    yield stream


@contextmanager
def readable(what: RawFile | Path) -> Iterator[None]:
    """Turn what goes wrong while reading `what` into one sentence (a ValueError)."""
    try:
        yield
    except BROKEN_ZIP as error:
        raise ValueError(
            f"{what}: the zip archive is broken or incomplete ({error}); download it again"
        ) from error
    except OSError as error:
        raise ValueError(f"{what}: cannot be read ({error.strerror or error})") from error


def find_raw_files(
    raw: str | Path, pattern: str, folders: tuple[str, ...] = ("",)
) -> list[RawFile]:
    """Find the files whose name fits a pattern, in the first of some folders that has any.

    Args:
        raw: A folder or a zip archive.
        pattern: A shell pattern for the file's name.
        folders: Where to look, relative to `raw`; the empty string is `raw` itself.

    Returns:
        The files, in the order of the numbers in their names; empty if there is none.

    Raises:
        ValueError: `raw` is neither a folder nor a sound, safe zip archive.
    """
    raw = Path(raw)
    if raw.is_dir():
        candidates = [folder_files(raw / folder, pattern) for folder in folders]
    elif raw.is_file():
        members = archive_members(raw)
        candidates = [member_files(raw, members, folder, pattern) for folder in folders]
    else:
        raise ValueError(f"{raw}: there is no such folder or zip archive")
    found = next((files for files in candidates if files), [])
    return sorted(
        found, key=lambda file: ([int(n) for n in re.findall("[0-9]+", file.name)], file.name)
    )


def folder_files(folder: Path, pattern: str) -> list[RawFile]:
    """The plain files of a folder whose name fits the pattern; none if there is no folder."""
    if not folder.is_dir():
        return []
    return [
        RawFile(path, None, path.stat().st_size)
        for path in folder.iterdir()
        if fnmatch.fnmatchcase(path.name, pattern) and path.is_file()
    ]


def archive_members(path: Path) -> list[zipfile.ZipInfo]:
    """The entries of an archive, once no name among them points outside the archive."""
    with readable(path), zipfile.ZipFile(path) as archive:
        members = archive.infolist()
    for member in members:
        parts = re.split(r"[/\\]", member.filename)
        if parts[0] == "" or parts[0].endswith(":") or ".." in parts:
            raise ValueError(
                f"{path}: refused, as its entry {member.filename!r} points outside the archive"
            )
    return members


def member_files(
    path: Path, members: list[zipfile.ZipInfo], folder: str, pattern: str
) -> list[RawFile]:
    """The entries of one folder of an archive whose name fits the pattern, checked for size."""
    found = {}
    for member in members:
        parent, _, name = member.filename.rpartition("/")
        if parent != folder or not fnmatch.fnmatchcase(name, pattern):
            continue
        if member.filename in found:
            raise ValueError(f"{path}: holds {member.filename} more than once")
        check_member(path, member)
        found[member.filename] = RawFile(path, member.filename, member.file_size)
    return list(found.values())


def check_member(path: Path, member: zipfile.ZipInfo) -> None:
    """Refuse an entry that is encrypted or would unpack to an absurd size."""
    if member.flag_bits & ENCRYPTED_FLAG:
        raise ValueError(f"{path}: {member.filename} is encrypted")
    size = member.file_size
    expands = size > SMALL_MEMBER_BYTES and size > MAX_EXPANSION * member.compress_size
    if size > MAX_MEMBER_BYTES or expands:
        raise ValueError(
            f"{path}: refused, as {member.filename} would unpack from {member.compress_size:,} "
            f"to {size:,} bytes (at most {MAX_MEMBER_BYTES:,} bytes and {MAX_EXPANSION} times)"
        )
