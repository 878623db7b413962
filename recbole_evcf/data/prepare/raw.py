"""Read raw files of a folder or of a zip archive, which is never unpacked to disk."""

import csv
import fnmatch
import lzma
import re
import struct
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import pandas as pd
from tqdm import tqdm

RawPath: TypeAlias = "Path | zipfile.Path"
CHUNK_ROWS, MAX_LINE_BYTES = 500_000, 2**17
# Netflix Prize holds 2 GB of text that shrinks about fourfold; a small file may shrink more.
MAX_MEMBER_BYTES, MAX_EXPANSION, SMALL_MEMBER_BYTES = 20 * 10**9, 200, 10**6
ZIP_ERRORS = (zipfile.BadZipFile, zlib.error, lzma.LZMAError, struct.error, EOFError)


@contextmanager
def readable(path: RawPath) -> Iterator[None]:
    """Turn what goes wrong while reading a file into one sentence (a ValueError)."""
    try:
        yield
    except (OSError, RuntimeError, UnicodeDecodeError, *ZIP_ERRORS) as error:
        raise ValueError(f"{path}: cannot be read, or is a corrupt archive ({error})") from error


def open_raw(raw: str | Path) -> RawPath:
    """Open a folder, or a zip archive once it is safe to read; both offer the same methods."""
    path = Path(raw)
    if path.is_dir():
        return path
    if not path.is_file():
        raise ValueError(f"{path}: there is no such folder or zip archive")
    with readable(path):
        archive = zipfile.ZipFile(path)
    for member in archive.infolist():
        name, size, limit = member.filename, member.file_size, MAX_EXPANSION * member.compress_size
        if re.search(r"^[/\\]|^[^/\\]*:[/\\]|(^|[/\\])\.\.([/\\]|$)", name):
            raise ValueError(f"{path}: refused, as {name!r} points outside the archive")
        if size > min(MAX_MEMBER_BYTES, max(SMALL_MEMBER_BYTES, limit)):
            raise ValueError(f"{path}: refused, as {name!r} would unpack to {size:,} bytes")
    return zipfile.Path(archive)


def find_files(raw: RawPath, pattern: str, folder: str = "", needed: bool = True) -> list[RawPath]:
    """Find files in `raw`, otherwise in a folder of it, in the order of numbers in their names."""
    for place in (raw, raw / folder):
        found = [file for file in place.iterdir() if file.is_file()] if place.is_dir() else []
        if files := [file for file in found if fnmatch.fnmatchcase(file.name, pattern)]:
            return sorted(files, key=lambda file: [int(n) for n in re.findall("[0-9]+", file.name)])
    if needed:
        raise ValueError(f"{raw}: holds no {pattern}")
    return []


def read_table(
    file: RawPath, columns: Sequence[str], header: bool = True, **options: Any
) -> Iterator[pd.DataFrame]:
    """Read columns of a CSV file as strings, in chunks of rows, by the number of the line.

    Without a header, the columns are all there are. Fields missing at the end of a row are empty,
    and a quote is a character like others unless `options` of `pandas.read_csv` say otherwise.
    """
    with readable(file), file.open("rb") as stream:
        while block := stream.read(MAX_LINE_BYTES):
            # pandas would take a zero byte for the end of a field.
            if b"\0" in block or (len(block) == MAX_LINE_BYTES and b"\n" not in block):
                raise ValueError(f"{file}: is not text, as it has zero bytes or an endless line")
    names, encoding = list(columns), options.pop("encoding", "utf-8")
    options = {"quoting": csv.QUOTE_NONE, "names": None if header else names, **options}
    options |= {"header": None, "dtype": object, "na_filter": False, "skip_blank_lines": False}
    with readable(file), file.open("r", encoding=encoding, errors="replace", newline="") as stream:
        try:
            chunks = pd.read_csv(stream, chunksize=CHUNK_ROWS, **options)
            for chunk in tqdm(chunks, file.name, unit_scale=CHUNK_ROWS, unit=" rows", disable=None):
                if not isinstance(chunk.index, pd.RangeIndex):
                    # pandas takes the first fields of a first row that is too long for an index.
                    raise pd.errors.ParserError(f"Expected {len(names)} fields in line 1, saw more")
                if header and chunk.index.start == 0:
                    names, chunk = list(chunk.iloc[0]), chunk.iloc[1:]
                    if bad := [column for column in columns if names.count(column) != 1]:
                        found = f"the column {bad[0]} is not in the header, or more than once"
                        raise ValueError(f"{file}, line 1: {found}")
                chunk = chunk.iloc[:, [names.index(column) for column in columns]]
                yield chunk.set_axis(list(columns), axis=1).set_axis(chunk.index + 1)
        except (pd.errors.EmptyDataError, pd.errors.ParserError) as error:
            raise ValueError(f"{file}: {str(error).rpartition('C error: ')[2].strip()}") from error


def distinct_values(
    file: RawPath, column: pd.Series, pattern: str, wanted: str
) -> tuple[np.ndarray, pd.Index]:
    """Find which distinct value each row of a column has, and these, which must match a pattern."""
    codes, values = pd.factorize(column)
    valid = values.str.fullmatch(f"(?:{pattern})")
    refuse(file, column, ~np.asarray(valid, dtype=bool)[codes], wanted)
    return codes, values


def whole_numbers(file: RawPath, column: pd.Series) -> np.ndarray:
    """Read whole numbers, spelled in one way only, so that equal numbers are equal tokens."""
    wanted = "a whole number without leading zeros, of at most 18 digits"
    codes, values = distinct_values(file, column, "0|[1-9][0-9]{0,17}", wanted)
    return values.astype("int64").to_numpy()[codes]


def refuse(file: RawPath, column: pd.Series, bad: Any, wanted: str) -> None:
    """Raise a ValueError for the first row that `bad` marks, if there is one."""
    if np.any(bad):
        row = int(np.argmax(bad))
        found = f"{str(column.iloc[row])[:80]!r} is not {wanted} (column {column.name})"
        raise ValueError(f"{file}, line {column.index[row]}: {found}")
