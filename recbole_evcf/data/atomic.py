"""Clear messages for faulty atomic files.

RecBole reads an atomic file (``.inter``, ``.user``, ``.item``, ...) in two steps: it splits the
first line into ``name:type`` columns itself, and has pandas' python engine read the rest.  What is
wrong with a file therefore surfaces as an error from deep inside pandas that names neither file nor
line.  Here the file is looked at the way those two steps see it, and the fault is put into one
sentence: what is wrong, where, and what to do.

:func:`reading` is the one to wrap around the reading of a file; a good file costs it no more than a
look at its header and first row.
"""

from __future__ import annotations

import csv
import itertools
import mmap
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager

__all__ = ["check_header", "describe_fault", "reading"]

_TYPES = ("token", "float", "token_seq", "float_seq")
_USUAL_SEPARATORS = ("\t", ",", ";", "|", "::", " ")
_LINE_LIMIT = 2**24
_SHOWN = 40

# What pandas' ``read_csv`` takes for a missing value rather than for text.
_MISSING = frozenset(
    {"", "#N/A", "#N/A N/A", "#NA", "-1.#IND", "-1.#QNAN", "-NaN", "-nan", "1.#IND", "1.#QNAN"}
    | {"<NA>", "N/A", "NA", "NULL", "NaN", "None", "n/a", "nan", "null"}
)
_UNDECODABLE = re.compile("[\udc80-\udcff]")  # what errors="surrogateescape" leaves of such a byte

_READING_ERRORS = (ValueError, TypeError, LookupError, AttributeError)


def check_header(
    path: str | os.PathLike[str],
    field_separator: str,
    encoding: str | None,
    required: Sequence[str] = (),
) -> list[str]:
    """Check the first line of an atomic file, and that a row fitting it follows.

    Args:
        path: The atomic file.
        field_separator: RecBole's setting ``field_separator``.
        encoding: RecBole's setting ``encoding``; None stands for UTF-8, as it does for pandas.
        required: Names of the columns that the file must have, such as ``user_id``.

    Returns:
        The names of its columns.

    Raises:
        ValueError: If the file is empty, cannot be decoded, has a header that RecBole cannot read
            or that lacks a required column, or holds no rows; and if the first row has more columns
            than the header, which pandas would read with every column shifted.
        OSError: If the file cannot be opened.
    """
    try:
        with closing(_lines(path, encoding)) as lines:
            columns = _header(lines, path, field_separator, required)
            where, row = next(_rows(lines, path, field_separator), (None, None))
            if row is None:
                raise _Fault(f"{path} holds no rows, only the header in line 1.")
            if len(row) > len(columns):
                raise _Fault(_count_fault(where, row, columns))
            return [name for name, _ in columns]
    except _Fault as fault:
        raise ValueError(str(fault)) from None


def describe_fault(
    path: str | os.PathLike[str],
    field_separator: str,
    encoding: str | None,
    seq_separator: str = " ",
) -> str | None:
    """Find the first line that is wrong in an atomic file that could not be read.

    The file is streamed, so that its size does not matter.

    Args:
        path: The atomic file.
        field_separator: RecBole's setting ``field_separator``.
        encoding: RecBole's setting ``encoding``; None stands for UTF-8, as it does for pandas.
        seq_separator: RecBole's setting ``seq_separator``, which splits ``float_seq`` columns.

    Returns:
        A sentence that names the file, the line and the fault, or None if nothing was found.

    Raises:
        OSError: If the file cannot be opened.
    """
    try:
        with closing(_lines(path, encoding)) as lines:
            columns = _header(lines, path, field_separator)
            for where, row in _rows(lines, path, field_separator):
                if len(row) != len(columns):
                    return _count_fault(where, row, columns)
                for (name, kind), value in zip(columns, row):
                    wrong = _not_a_number(kind, value, seq_separator)
                    if wrong is not None:
                        column = f"column {_bare(name)}:{kind}"
                        return f"{where}: {column} holds {_show(wrong)}, which is not a number."
    except _Fault as fault:
        return str(fault)
    return None


@contextmanager
def reading(
    path: str | os.PathLike[str],
    field_separator: str,
    encoding: str | None,
    required: Sequence[str] = (),
    seq_separator: str = " ",
) -> Iterator[None]:
    """Check an atomic file's header, then name the fault if reading the file fails.

    Args:
        path: The atomic file that is read inside the ``with`` block.
        field_separator: RecBole's setting ``field_separator``.
        encoding: RecBole's setting ``encoding``; None stands for UTF-8, as it does for pandas.
        required: Names of the columns that the file must have, such as ``user_id``.
        seq_separator: RecBole's setting ``seq_separator``, which splits ``float_seq`` columns.

    Raises:
        ValueError: If :func:`check_header` finds a fault, the file holds a NUL, or the block raises
            an error of the kinds that a faulty file leads to, which is then the cause
            (``__cause__``) of this one.
        OSError: If the file cannot be opened.
    """
    check_header(path, field_separator, encoding, required)
    _check_no_nul(path, encoding)
    try:
        yield
    except _READING_ERRORS as error:
        sentence = describe_fault(path, field_separator, encoding, seq_separator)
        if sentence is None:
            said = (str(error).strip().splitlines() or ["no reason given"])[0].rstrip(".")
            sentence = f"{path} could not be read ({type(error).__name__}: {said})."
        raise ValueError(sentence) from error


def _check_no_nul(path: str | os.PathLike[str], encoding: str | None) -> None:
    """Raise a ``ValueError`` for a NUL, as after a power failure: NumPy drops it from a text's end,
    and two ids would look the same."""
    if "\0".encode(encoding or "utf-8") != b"\0":
        return
    with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        position = content.find(b"\0")
        if position >= 0:
            line = content[:position].count(b"\n") + 1
            raise ValueError(
                f"{path}, line {line} holds a NUL character: it is damaged, or no text file."
            )


class _Fault(Exception):
    """Carries the sentence about a fault out of the generators below."""


def _lines(path: str | os.PathLike[str], encoding: str | None) -> Iterator[str]:
    """Yield the lines with their ends; an undecodable or endless line is a fault."""
    encoding = encoding or "utf-8"
    try:
        "".encode(encoding)
    except LookupError:
        raise _Fault(f"{path}: the setting encoding is {encoding!r}, unknown to Python.") from None
    advice = f"cannot be read as {encoding}; is this a text file, and the setting encoding right?"
    with open(path, encoding=encoding, errors="surrogateescape", newline="") as file:
        for number in itertools.count(1):
            try:
                line = file.readline(_LINE_LIMIT)
            except UnicodeError:
                raise _Fault(f"{path}: what follows line {number - 1} {advice}") from None
            if not line:
                return
            bad = _UNDECODABLE.search(line)
            if bad:
                byte = ord(bad.group()) - 0xDC00
                raise _Fault(f"{path}, line {number}: byte 0x{byte:02x} {advice}")
            if len(line) == _LINE_LIMIT:
                raise _Fault(
                    f"{path}, line {number} has {_LINE_LIMIT} characters or more; "
                    "is this a text file with a line for each row?"
                )
            yield line


def _header(
    lines: Iterator[str],
    path: str | os.PathLike[str],
    separator: str,
    required: Sequence[str] = (),
) -> list[tuple[str, str]]:
    """Take the first line and return its columns as (name, type)."""
    header = next(lines, None)
    if header is None:
        raise _Fault(f"{path} is empty; line 1 must name the columns, as in user_id:token.")
    header = header.rstrip("\r\n")
    _check_text(header, path)
    _check_separator(header, path, separator)
    texts = header.split(separator)
    hint = _separator_hint(header, separator) if len(texts) == 1 else ""
    columns: dict[str, str] = {}
    for number, text in enumerate(texts, 1):
        fault = _column_fault(text, columns)
        if fault:
            raise _Fault(f"{path}, line 1: column {number}, {_show(text)}, {fault}{hint}.")
        name, kind = text.split(":")
        columns[name] = kind
    for name in required:
        if name not in columns:
            found = _show(", ".join(columns), 200)
            raise _Fault(
                f"{path}, line 1: there is no column {_show(name)}, which is required; "
                f"the columns are {found}{hint}."
            )
    return list(columns.items())


def _check_text(header: str, path: str | os.PathLike[str]) -> None:
    """Raise a fault for a first line that is no header at all."""
    if header.startswith("\ufeff"):
        raise _Fault(
            f"{path}, line 1 begins with a byte order mark (BOM), which RecBole takes for part of "
            "the first column's name; save the file without it or, for UTF-8, set encoding to "
            "utf-8-sig."
        )
    if "\0" in header:
        raise _Fault(
            f"{path}, line 1 holds a NUL character; is this a text file, and the setting "
            "encoding right?"
        )
    if not header.strip():
        raise _Fault(f"{path}, line 1 is blank; it must name the columns, as in user_id:token.")


def _check_separator(header: str, path: str | os.PathLike[str], separator: str) -> None:
    """Raise a fault unless RecBole and pandas split at the separator in the same way.

    RecBole splits the header at the plain text; to pandas, two characters and more are a regular
    expression.
    """
    good = isinstance(separator, str) and separator not in ("", '"', "\r", "\n")
    if good and len(separator) > 1:
        try:
            good = re.split(separator, header.strip()) == header.split(separator)
        except re.error:
            good = False
    if not good:
        raise _Fault(
            f"{path} cannot be split at field_separator {separator!r}; it must be one character, "
            'such as "\\t" (in double quotes in YAML), or plain text that means the same as a '
            "regular expression."
        )


def _separator_hint(header: str, separator: str) -> str:
    """Return a remark for a header of one column in which another usual separator occurs."""
    for other in _USUAL_SEPARATORS:
        if other != separator and other in header:
            return f" (is field_separator {separator!r} right? the line has {other!r} in it)"
    return ""


def _column_fault(text: str, earlier: dict[str, str]) -> str | None:
    """Say what is wrong with one column of the header."""
    if text.startswith('"'):
        return "is in quotes, which RecBole does not remove from the header; leave them out"
    name, *kinds = text.split(":")
    if not name or len(kinds) != 1:
        return "is not of the form name:type, as in user_id:token"
    if kinds[0] not in _TYPES:
        return f"has the unknown type {_show(kinds[0])}; the types are {', '.join(_TYPES)}"
    if name in earlier:
        return f"repeats the name {_show(name)}; every column needs a name of its own"
    return None


def _rows(
    lines: Iterator[str], path: str | os.PathLike[str], separator: str
) -> Iterator[tuple[str, list[str]]]:
    """Yield (where it stands, its columns) for each row below the header, as pandas splits it."""
    split = _split_quoted if len(separator) == 1 else _split_plain
    for start, end, row in split(lines, path, separator):
        # pandas passes over blank lines.
        if len(row) > 1 or (row and row[0].strip()):
            yield f"{path}, {_line_name(start, end)}", row


def _split_quoted(
    lines: Iterator[str], path: str | os.PathLike[str], separator: str
) -> Iterator[tuple[int, int, list[str]]]:
    """Yield (first line, last line, columns), with quotes understood."""
    reader = csv.reader(lines, delimiter=separator, strict=True)
    while True:
        start = reader.line_num + 2
        try:
            row = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            raise _Fault(_split_fault(path, start, reader.line_num + 1, error)) from None
        yield start, reader.line_num + 1, row


def _split_plain(
    lines: Iterator[str], path: str | os.PathLike[str], separator: str
) -> Iterator[tuple[int, int, list[str]]]:
    """Yield (line, line, columns) for a separator of several characters: no quotes in pandas."""
    for number, line in enumerate(lines, 2):
        yield number, number, re.split(separator, line.strip())


def _split_fault(path: str | os.PathLike[str], start: int, end: int, error: csv.Error) -> str:
    """Say why a row could not be split into columns."""
    said = str(error)
    if start < end or "expected after" in said or "end of data" in said:
        return (
            f'{path}, line {start}: a quote (") opens a column and is not closed at its end; '
            "remove it, or put the column in quotes and double those inside."
        )
    return f"{path}, line {start} cannot be split into columns ({said})."


def _count_fault(where: str, row: list[str], columns: list[tuple[str, str]]) -> str:
    """Say that a row has more or fewer columns than the header."""
    plural = "" if len(row) == 1 else "s"
    last = ", the last one empty" if len(row) > len(columns) and not row[-1] else ""
    return f"{where} has {len(row)} column{plural}{last}, the header has {len(columns)}."


def _line_name(start: int, end: int) -> str:
    """Name the line or lines that make up a row."""
    return f"line {start}" if start == end else f"line {start} (to line {end}, joined by quotes)"


def _not_a_number(kind: str, value: str, seq_separator: str) -> str | None:
    """Return the text in a column's value that should be a number and is not."""
    if not kind.startswith("float") or value in _MISSING:
        return None
    for part in filter(None, value.split(seq_separator)) if kind == "float_seq" else [value]:
        try:
            float(part)
        except ValueError:
            return part
    return None


def _show(text: str, length: int = _SHOWN) -> str:
    """Quote a piece of the file: shortened, and with control characters escaped."""
    return repr(text if len(text) <= length else text[: length - 3] + "...")


def _bare(text: str) -> str:
    """Like :func:`_show`, without the quotes."""
    return _show(text)[1:-1]
