"""Clear messages for faulty atomic files (``.inter``, ``.user``, ``.item`` ...).

RecBole splits the first line into ``name:type`` columns itself and has pandas read the rest, whose
errors name neither the file nor, mostly, the line.
"""

from __future__ import annotations

import codecs
import mmap
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import IO

import pandas as pd

from recbole_evcf.utils.text import shown

__all__ = ["check_header", "reading"]

TYPES = ("token", "float", "token_seq", "float_seq")
USUAL_SEPARATORS = ("\t", ",", ";", "|", "::", " ")
LONGEST_LINE = 2**24
UNDECODABLE = re.compile("[\udc80-\udcff]")  # what errors="surrogateescape" leaves of such a byte
READING_ERRORS = (ValueError, TypeError, LookupError, AttributeError)


def check_header(
    path: str, field_separator: str, encoding: str | None, required: Sequence[str] = ()
) -> list[str]:
    """Check the first line of an atomic file, and that a row that fits it follows.

    Args:
        path: the atomic file.
        field_separator: RecBole's setting ``field_separator``.
        encoding: RecBole's setting ``encoding``; None is UTF-8, as it is to pandas.
        required: names of the columns that the file must have, such as ``user_id``.

    Returns:
        the names of its columns.

    Raises:
        ValueError: the file is empty, cannot be decoded, has a header that RecBole cannot read or
            that lacks a required column, or holds no rows; or the first row has more columns than
            the header, which pandas would read with every column shifted.
        OSError: the file cannot be opened.
    """
    try:
        codecs.lookup(encoding or "utf-8")
    except LookupError:
        raise ValueError(f"{path}: encoding is {encoding!r}, unknown to Python.") from None
    try:
        with open(path, encoding=encoding or "utf-8", errors="surrogateescape") as file:
            first = _line(file, path, 1, encoding)
            if not first:
                raise ValueError(f"{path} is empty; line 1 must name the columns.")
            columns = _columns(first.rstrip("\n"), path, field_separator, required)
            lines = enumerate(iter(lambda: _line(file, path, 2, encoding), ""), 2)
            number, row = next(((n, text) for n, text in lines if text.strip()), (0, ""))
    except UnicodeError:
        raise ValueError(f"{path} {_not_decoded(encoding)}") from None
    if not row:
        raise ValueError(f"{path} holds no rows, only the header in line 1.")
    cells = row.rstrip("\n").split(field_separator)
    if len(cells) > len(columns) and '"' not in row:
        last = ", the last one empty" if not cells[-1] else ""
        raise ValueError(
            f"{path}, line {number} has {len(cells)} columns{last}, the header has {len(columns)}."
        )
    return columns


@contextmanager
def reading(
    path: str, field_separator: str, encoding: str | None, seq_separator: str = " "
) -> Iterator[None]:
    """Name what is wrong with an atomic file if reading it within the block fails.

    Args:
        path: the file, whose header has been checked.
        field_separator: RecBole's setting ``field_separator``.
        encoding: RecBole's setting ``encoding``.
        seq_separator: RecBole's setting ``seq_separator``, which splits ``float_seq`` columns.

    Raises:
        ValueError: the file holds a NUL, or the block raises what a faulty file leads to, which is
            then the cause of this error.
    """
    _check_no_nul(path, encoding)
    try:
        yield
    except READING_ERRORS as error:
        said = (str(error).strip().splitlines() or ["no reason given"])[0].rstrip(".")
        fault = (
            _undecodable(path, encoding)
            or _open_quote(path, encoding, said)
            or _no_number(path, field_separator, encoding, seq_separator)
            or f" could not be read ({type(error).__name__}: {said})."
        )
        raise ValueError(path + fault) from error


def _line(file: IO[str], path: str, number: int, encoding: str | None) -> str:
    line = file.readline(LONGEST_LINE)
    bad = UNDECODABLE.search(line)
    if bad:
        raise ValueError(f"{path}{_bad_byte(number, bad, encoding)}")
    if len(line) == LONGEST_LINE:
        raise ValueError(
            f"{path}, line {number} has {LONGEST_LINE} characters or more; is this a text file "
            "with a line for each row?"
        )
    return line


def _bad_byte(number: int, bad: re.Match[str], encoding: str | None) -> str:
    return f", line {number}: byte 0x{ord(bad.group()) - 0xDC00:02x} {_not_decoded(encoding)}"


def _not_decoded(encoding: str | None) -> str:
    encoding = encoding or "utf-8"
    return f"cannot be read as {encoding}; is this a text file, and the setting encoding right?"


def _columns(header: str, path: str, separator: str, required: Sequence[str]) -> list[str]:
    if not header.strip():
        raise ValueError(f"{path}, line 1 is blank; it must name the columns, as in user_id:token.")
    if header.startswith("\ufeff"):
        raise ValueError(
            f"{path}, line 1 begins with a byte order mark (BOM), which RecBole takes for part of "
            "the first column's name; save the file without it or, for UTF-8, set encoding to "
            "utf-8-sig."
        )
    if "\0" in header:
        raise ValueError(
            f"{path}, line 1 holds a NUL character; is this a text file, and the setting encoding "
            "right?"
        )
    _check_separator(header, path, separator)
    texts, names = header.split(separator), []
    other = next((o for o in USUAL_SEPARATORS if o != separator and o in header), None)
    hint = f" (is field_separator {separator!r} right? the line has {other!r} in it)"
    hint = hint if other and len(texts) == 1 else ""
    for number, text in enumerate(texts, 1):
        name, _, kind = text.partition(":")
        fault = None
        if text.startswith('"'):
            fault = "is in quotes, which RecBole does not remove from the header; leave them out"
        elif not name or text.count(":") != 1:
            fault = "is not of the form name:type, as in user_id:token"
        elif kind not in TYPES:
            fault = f"has the unknown type {shown(kind)}; the types are {', '.join(TYPES)}"
        elif name in names:
            fault = f"repeats the name {shown(name)}; every column needs a name of its own"
        if fault:
            raise ValueError(f"{path}, line 1: column {number}, {shown(text)}, {fault}{hint}.")
        names.append(name)
    for name in required:
        if name not in names:
            raise ValueError(
                f"{path}, line 1: there is no column {shown(name)}, which is required; the columns "
                f"are {shown(', '.join(names))}{hint}."
            )
    return names


def _check_separator(header: str, path: str, separator: str) -> None:
    """RecBole splits at the plain text; to pandas, two characters are a regular expression."""
    good = isinstance(separator, str) and separator not in ("", '"', "\r", "\n")
    if good and len(separator) > 1:
        try:
            good = re.split(separator, header) == header.split(separator)
        except re.error:
            good = False
    if not good:
        raise ValueError(
            f"{path} cannot be split at field_separator {separator!r}; it must be one character, "
            'such as "\\t" (in double quotes in YAML), or plain text that means the same as a '
            "regular expression."
        )


def _check_no_nul(path: str, encoding: str | None) -> None:
    """A NUL, as after a power failure: NumPy drops it from a string's end, and two ids would look
    the same."""
    if "\0".encode(encoding or "utf-8") != b"\0":
        return
    with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        position = content.find(b"\0")
        if position >= 0:
            line = content[:position].count(b"\n") + 1
            raise ValueError(
                f"{path}, line {line} holds a NUL character: it is corrupt, or no text file."
            )


def _undecodable(path: str, encoding: str | None) -> str | None:
    try:
        with open(path, encoding=encoding or "utf-8", errors="surrogateescape") as file:
            found = ((n, UNDECODABLE.search(line)) for n, line in enumerate(file, 1))
            return next((_bad_byte(n, bad, encoding) for n, bad in found if bad), None)
    except UnicodeError:
        return f" {_not_decoded(encoding)}"


def _open_quote(path: str, encoding: str | None, said: str) -> str | None:
    if "expected after" not in said and "end of data" not in said:
        return None
    with open(path, encoding=encoding or "utf-8") as file:
        odd = next((n for n, line in enumerate(file, 1) if line.count('"') % 2), None)
    return (
        f'{f", line {odd}" if odd else ""}: a quote (") opens a column and is not closed at its '
        "end; remove it, or put the column in quotes and double those inside."
    )


def _no_number(
    path: str, field_separator: str, encoding: str | None, seq_separator: str
) -> str | None:
    """Find the first value of a column of numbers that is none."""
    options = {"delimiter": field_separator, "encoding": encoding, "engine": "python"}
    try:
        frame = pd.read_csv(path, dtype=str, skip_blank_lines=False, **options)
    except READING_ERRORS:
        return None
    faults = []
    for column in frame:
        name, _, kind = str(column).partition(":")
        values = frame[column].dropna() if kind in ("float", "float_seq") else frame[column][:0]
        for place, value in values.items():
            parts = value.split(seq_separator) if kind == "float_seq" else [value]
            wrong = next((part for part in parts if not _is_number(part, kind)), None)
            if wrong is not None:
                faults.append((place, name, kind, wrong))
                break
    if not faults:
        return None
    place, name, kind, wrong = min(faults)
    # The header is line 1.
    return (
        f", line {place + 2}: column {shown(name)[1:-1]}:{kind} holds {shown(wrong)}, which is not "
        "a number."
    )


def _is_number(text: str, kind: str) -> bool:
    try:
        float(text)
    except ValueError:
        return kind == "float_seq" and not text
    return True
