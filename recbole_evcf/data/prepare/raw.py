"""Read raw files of a folder or of a zip archive, which is never unpacked to disk."""

from __future__ import annotations

import csv
import fnmatch
import lzma
import re
import struct
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import pandas as pd
from tqdm import tqdm

__all__ = [
    "RawPath",
    "distinct_values",
    "find_files",
    "open_raw",
    "read_table",
    "refuse",
    "whole_numbers",
]

RawPath: TypeAlias = "Path | zipfile.Path"

CHUNK_ROWS = 500_000
MAX_LINE_BYTES = 2**17
# Netflix Prize, the largest of the raw data sets, holds 2 GB of text that shrinks about fourfold.
MAX_MEMBER_BYTES, MAX_EXPANSION = 20 * 10**9, 200
# Below this size even an extreme ratio is harmless, and short repetitive text does reach one.
SMALL_MEMBER_BYTES = 1_000_000
ENCRYPTED_FLAG = 0x1
CORRUPT_ZIP = (zipfile.BadZipFile, zlib.error, lzma.LZMAError, struct.error, EOFError)


@contextmanager
def readable(path: RawPath) -> Iterator[None]:
    """Turn what goes wrong while reading a file into one sentence (a ValueError)."""
    try:
        yield
    except (*CORRUPT_ZIP, NotImplementedError, RuntimeError, UnicodeDecodeError) as error:
        problem = f"the zip archive is corrupt or incomplete ({error}); download it again"
        raise ValueError(f"{path}: {problem}") from error
    except OSError as error:
        raise ValueError(f"{path}: cannot be read ({error.strerror or error})") from error


def open_raw(raw: str | Path) -> RawPath:
    """Open a folder, or a zip archive once it is safe to read; both offer the same methods."""
    path = Path(raw)
    if path.is_dir():
        return path
    if not path.is_file():
        raise ValueError(f"{path}: there is no such folder or zip archive")
    with readable(path):
        archive = zipfile.ZipFile(path)
    seen = set()
    for member in archive.infolist():
        name, size, packed = member.filename, member.file_size, member.compress_size
        parts = re.split(r"[/\\]", name)
        if parts[0] == "" or parts[0].endswith(":") or ".." in parts:
            raise ValueError(f"{path}: refused, as its entry {name!r} points outside the archive")
        if name in seen or member.flag_bits & ENCRYPTED_FLAG:
            raise ValueError(f"{path}: {name} is {'repeated' if name in seen else 'encrypted'}")
        if size > min(MAX_MEMBER_BYTES, max(SMALL_MEMBER_BYTES, MAX_EXPANSION * packed)):
            raise ValueError(
                f"{path}: refused, as {name} would unpack from {packed:,} to {size:,} bytes "
                f"(at most {MAX_MEMBER_BYTES:,} bytes and {MAX_EXPANSION} times)"
            )
        seen.add(name)
    return zipfile.Path(archive)


def find_files(
    raw: RawPath, pattern: str, folder: str = "", required: bool = True
) -> list[RawPath]:
    """Find files in `raw`, or else in a folder of it, in the order of the numbers in their names.

    Raises:
        ValueError: Files are required and none has a name that matches the pattern.
    """
    for place in (raw, raw / folder):
        found = [file for file in place.iterdir() if file.is_file()] if place.is_dir() else []
        if files := [file for file in found if fnmatch.fnmatchcase(file.name, pattern)]:
            return sorted(files, key=lambda file: [int(n) for n in re.findall("[0-9]+", file.name)])
    if required:
        raise ValueError(f"{raw}: holds no {pattern}")
    return []


def read_table(
    file: RawPath, columns: Sequence[str], bar: tqdm, header: bool = True, **options: Any
) -> Iterator[pd.DataFrame]:
    """Read columns of a CSV file as strings, in chunks of rows, by the number of the line.

    Without a header, the columns are all there are. Fields missing at the end of a row are empty.
    `options` of `pandas.read_csv` may be given; without them, a quote is a character like others.

    Raises:
        ValueError: A column is not once in the header, or a row has too many fields.
    """
    with readable(file), file.open("rb") as stream:
        for block in iter(partial(stream.read, MAX_LINE_BYTES), b""):
            # pandas would take a zero byte for the end of a field.
            if b"\0" in block or (len(block) == MAX_LINE_BYTES and b"\n" not in block):
                raise ValueError(f"{file}: is no text file: it has zero bytes or an endless line")
    names, encoding = list(columns), options.pop("encoding", "utf-8")
    options = {"quoting": csv.QUOTE_NONE, "names": None if header else names, **options}
    options |= {"header": None, "dtype": str, "na_filter": False, "skip_blank_lines": False}
    with readable(file), file.open("r", encoding=encoding, errors="replace", newline="") as stream:
        try:
            for chunk in pd.read_csv(stream, chunksize=CHUNK_ROWS, **options):
                bar.update(len(chunk))
                if not isinstance(chunk.index, pd.RangeIndex):
                    # pandas takes the first fields of a first row that is too long for an index.
                    raise pd.errors.ParserError(f"Expected {len(names)} fields in line 1, saw more")
                if header and chunk.index.start == 0:
                    names, chunk = list(chunk.iloc[0]), chunk.iloc[1:]
                    if bad := [column for column in columns if names.count(column) != 1]:
                        found = f"the column {bad[0]} is {names.count(bad[0])} times in the header"
                        raise ValueError(f"{file}, line 1: {found} {','.join(names)[:80]!r}")
                chunk = chunk.iloc[:, [names.index(column) for column in columns]]
                yield chunk.set_axis(list(columns), axis=1).set_axis(chunk.index + 1)
        except (pd.errors.EmptyDataError, pd.errors.ParserError) as error:
            raise ValueError(f"{file}: {str(error).rpartition('C error: ')[2].strip()}") from error


def distinct_values(
    file: RawPath, column: pd.Series, pattern: str, wanted: str
) -> tuple[np.ndarray, pd.Index]:
    """Find which distinct value each row of a column has, and these, which must match a pattern."""
    codes, values = pd.factorize(column)
    refuse(file, column, ~np.asarray(values.str.fullmatch(f"(?:{pattern})"), bool)[codes], wanted)
    return codes, values


def whole_numbers(file: RawPath, column: pd.Series) -> np.ndarray:
    """Read whole numbers, spelled in one way only, so that equal numbers are equal tokens."""
    wanted = "a whole number without leading zeros, of at most 18 digits"
    codes, values = distinct_values(file, column, "0|[1-9][0-9]{0,17}", wanted)
    return values.astype("int64").to_numpy()[codes]


def refuse(file: RawPath, column: pd.Series, bad: np.ndarray, wanted: str) -> None:
    """Raise a ValueError for the first row that `bad` marks, if there is one."""
    if bad.any():
        row = int(np.argmax(bad))
        found = f"{column.iloc[row][:80]!r} is not {wanted} (column {column.name})"
        raise ValueError(f"{file}, line {column.index[row]}: {found}")
