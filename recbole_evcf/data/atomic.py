"""Atomic files (``.inter``, ``.user``, ``.item`` ...): what is wrong with one, and fast reading.

RecBole splits the first line into ``name:type`` columns itself and has pandas read the rest, whose
errors name neither the file nor, mostly, the line.
"""

from __future__ import annotations

import mmap
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import pandas as pd

from recbole_evcf.utils.text import shown

__all__ = ["check_header", "reading", "with_c_engine"]

TYPES = ("token", "float", "token_seq", "float_seq")
UNDECODABLE = re.compile("[\udc80-\udcff]")  # what errors="surrogateescape" leaves of such a byte
READING_ERRORS = (ValueError, TypeError, LookupError, AttributeError)
# Encodings in which a byte below 128 is the ASCII character.
ASCII_LIKE = ("utf-8", "utf8", "ascii", "latin-1", "latin1", "iso-8859-1", "cp1252")
CHUNK = 2**22


def check_header(
    path: str, separator: str, encoding: str | None, required: Sequence[str] = ()
) -> list[str]:
    """Check the first line of an atomic file, and that a row that fits it follows.

    Args:
        path: the atomic file.
        separator: RecBole's setting ``field_separator``.
        encoding: RecBole's setting ``encoding``; None is UTF-8, as it is to pandas.
        required: names of the columns that the file must have, such as ``user_id``.

    Returns:
        the names of its columns.

    Raises:
        ValueError: RecBole and pandas would not read the file, or read it wrongly.
        OSError: the file cannot be opened.
    """
    # To pandas, two characters are a regular expression.
    if (
        not isinstance(separator, str)
        or separator in ("", '"', "\r", "\n")
        or (len(separator) > 1 and separator != re.escape(separator))
    ):
        raise ValueError(
            f"{path} cannot be split at field_separator {separator!r}; it must be one character, "
            'such as "\\t" (in double quotes in YAML), or several that are not special in a '
            "regular expression."
        )
    lines = _lines(path, encoding)
    _, header = next(lines, (1, ""))
    names = _names(header.rstrip("\n"), path, separator, required)
    number, row = next(((number, line) for number, line in lines if line.strip()), (0, ""))
    if not row:
        raise ValueError(f"{path} holds no rows, only the header in line 1.")
    cells = row.rstrip("\n").split(separator)
    # pandas would read it with every column shifted.
    if len(cells) > len(names) and '"' not in row:
        raise ValueError(
            f"{path}, line {number} has {len(cells)} columns, the header has {len(names)}."
        )
    return names


@contextmanager
def reading(
    path: str, separator: str, encoding: str | None, seq_separator: str = " "
) -> Iterator[None]:
    """Name what is wrong with an atomic file, as a ValueError, if reading it in the block fails.

    Args: as of :func:`check_header`; ``seq_separator`` splits ``float_seq`` columns.
    """
    # NumPy drops a NUL, as after a power failure, from a string's end: two ids would look the same.
    with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        if content.find(b"\0") >= 0:
            all(_lines(path, encoding))
    try:
        yield
    except READING_ERRORS as error:
        raise ValueError(_fault(path, separator, encoding, seq_separator, error)) from error


def _lines(path: str, encoding: str | None) -> Iterator[tuple[int, str]]:
    """Yield the lines and their numbers from 1; a ValueError names the first that is no text."""
    hint = "is this a text file, and the setting encoding right?"
    encoding = encoding or "utf-8"
    try:
        with open(path, encoding=encoding, errors="surrogateescape") as file:
            for number, line in enumerate(file, 1):
                if bad := UNDECODABLE.search(line):
                    raise ValueError(
                        f"{path}, line {number}: byte 0x{ord(bad.group()) - 0xDC00:02x} cannot be "
                        f"read as {encoding}; {hint}"
                    )
                if "\0" in line:
                    raise ValueError(f"{path}, line {number} holds a NUL character; {hint}")
                yield number, line
    except LookupError:
        raise ValueError(f"{path}: encoding is {encoding!r}, unknown to Python.") from None
    except UnicodeError:
        raise ValueError(f"{path} cannot be read as {encoding}; {hint}") from None


def _names(header: str, path: str, separator: str, required: Sequence[str]) -> list[str]:
    if not header.strip():
        raise ValueError(f"{path}: line 1 is empty; it must name the columns, as in user_id:token.")
    if header.startswith("\ufeff"):
        raise ValueError(
            f"{path}, line 1 begins with a byte order mark (BOM), which RecBole takes for part of "
            "the first column's name; save the file without it or, for UTF-8, set encoding to "
            "utf-8-sig."
        )
    texts, names = header.split(separator), []
    for number, text in enumerate(texts, 1):
        name, _, kind = text.partition(":")
        if not name or '"' in name or name in names or kind not in TYPES:
            hint = f"; is field_separator {separator!r} right?" if len(texts) == 1 else "."
            raise ValueError(
                f"{path}, line 1: column {number} must be name:type, with a name of its own, not "
                f"in quotes, and a type of {', '.join(TYPES)}, not {shown(text)}{hint}"
            )
        names.append(name)
    for name in required:
        if name not in names:
            raise ValueError(
                f"{path}, line 1: there is no column {shown(name)}, which is required; the columns "
                f"are {shown(', '.join(names))}."
            )
    return names


def _fault(
    path: str, separator: str, encoding: str | None, seq_separator: str, error: Exception
) -> str:
    """Find the line for which reading failed."""
    said = (str(error).strip().splitlines() or ["no reason given"])[0].rstrip(".")
    quote = "expected after" in said or "end of data" in said
    try:
        odd = [n for n, line in _lines(path, encoding) if quote and line.count('"') % 2]
    except ValueError as no_text:
        return str(no_text)
    if quote:
        line = f", line {odd[0]}" if odd else ""
        return (
            f'{path}{line}: a quote (") opens a column and is not closed at its end; remove it, or '
            "put the column in quotes and double those inside."
        )
    options: dict[str, Any] = {"delimiter": separator, "encoding": encoding, "dtype": str}
    try:
        frame = pd.read_csv(path, engine="python", skip_blank_lines=False, **options)
    except READING_ERRORS:
        frame = pd.DataFrame()
    faults = []
    for column in filter(re.compile(":float").search, frame):
        parts = frame[column].dropna()
        if column.endswith("_seq"):
            parts = parts.str.split(seq_separator).explode().replace("", "0")
        wrong = parts[pd.to_numeric(parts, errors="coerce").isna()]
        faults += [(row, column, part) for row, part in wrong[:1].items()]
    if not faults:
        return f"{path} could not be read ({type(error).__name__}: {said})."
    row, column, part = min(faults)
    # The header is line 1.
    return f"{path}, line {row + 2}: column {shown(column)} holds {shown(part)}, not a number."


def with_c_engine(read_csv: Callable) -> Callable:
    """``pandas.read_csv`` that reads with the C engine what is asked of the Python engine.

    What the C engine refuses, or might read otherwise, is read as asked, with the same errors.
    """

    def read(path: str, *args: Any, **options: Any) -> pd.DataFrame:
        separator, encoding = options.get("delimiter") or "", options.get("encoding") or "utf-8"
        if options.get("engine") != "python" or not _reads_alike(path, separator, encoding):
            return read_csv(path, *args, **options)
        # The precision with which the Python engine reads numbers.
        fast = {**options, "engine": "c", "float_precision": "high"}
        try:
            return read_csv(path, *args, **fast)
        except Exception:
            return read_csv(path, *args, **options)

    return read


def _reads_alike(path: str, separator: str, encoding: str) -> bool:
    """Whether both engines read a file alike, if they read it.

    They differ in lines with more fields than the header, in lines of white space, in quotes that
    do not close, and at zero bytes.
    """
    if len(separator) != 1 or not separator.isascii() or encoding.lower() not in ASCII_LIKE:
        return False
    with open(path, "rb") as file:
        expected = file.readline().count(separator.encode())
        return expected > 0 and all(
            b"\0" not in lines
            and b'"' not in lines
            and (_count_in_lines(lines, ord(separator)) == expected).all()
            for lines in iter(lambda: file.read(CHUNK) + file.readline(), b"")
        )


def _count_in_lines(lines: bytes, character: int) -> np.ndarray:
    values = np.frombuffer(lines, dtype=np.uint8)
    starts = np.flatnonzero(values[:-1] == ord("\n")) + 1
    return np.add.reduceat(values == character, np.append(0, starts), dtype=np.int32)
