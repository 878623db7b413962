"""Atomic files (``.inter``, ``.user``, ``.item`` ...): what is wrong with one, and fast reading.

RecBole splits the first line into ``name:type`` columns itself and has pandas read the rest, whose
errors name neither the file nor, mostly, the line.
"""

import mmap
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any

import numpy as np
import pandas as pd
from recbole.config import Config

from recbole_evcf.config.keys import INTERVAL
from recbole_evcf.utils.text import shown

TYPES = ("token", "float", "token_seq", "float_seq")
UNDECODABLE = re.compile("[\udc80-\udcff]")  # what errors="surrogateescape" leaves of such a byte
READING_ERRORS = (ValueError, TypeError, LookupError, AttributeError)
# Encodings in which a byte below 128 is the ASCII character.
ASCII_LIKE = ("utf-8", "utf8", "ascii", "latin-1", "latin1", "iso-8859-1", "cp1252")
CHUNK = 2**22


def check_header(
    path: str, separator: str, encoding: str | None, required: Sequence[str] = ()
) -> dict[str, str]:
    """Check the first line of an atomic file, and that a row that fits it follows.

    Args:
        separator, encoding: RecBole's settings ``field_separator`` and ``encoding``; an encoding of
            None is UTF-8.
        required: names of the columns that the file must have, such as ``user_id``.

    Returns:
        the type of each column, such as ``token``, by name.

    Raises:
        ValueError: RecBole and pandas would not read the file, or read it wrongly.
        OSError: the file cannot be opened.
    """
    # To pandas, two characters are a regular expression.
    plain = isinstance(separator, str) and (len(separator) < 2 or separator == re.escape(separator))
    if not plain or separator in ("", '"', "\r", "\n"):
        raise ValueError(
            f"{path} cannot be split at field_separator {separator!r}; it must be one character, "
            'such as "\\t" (in double quotes in YAML), or several that are not special in a '
            "regular expression."
        )
    lines = _lines(path, encoding)
    header = next(lines, (1, ""))[1].rstrip("\n")
    if not header.strip():
        raise ValueError(f"{path}: line 1 is empty; it must name the columns, as in user_id:token.")
    if header.startswith("\ufeff"):
        raise ValueError(
            f"{path}, line 1 begins with a byte order mark (BOM): save the file without it or, for "
            "UTF-8, set encoding to utf-8-sig."
        )
    texts, types = header.split(separator), {}
    for place, text in enumerate(texts, 1):
        name, _, kind = text.partition(":")
        if not name or '"' in name or name in types or kind not in TYPES:
            hint = f"; is field_separator {separator!r} right?" if len(texts) == 1 else "."
            raise ValueError(
                f"{path}, line 1: column {place} must be name:type, with a name of its own, not "
                f"in quotes, and a type of {', '.join(TYPES)}, not {shown(text)}{hint}"
            )
        types[name] = kind
    for name in required:
        if name not in types:
            raise ValueError(
                f"{path}, line 1: there is no column {shown(name)}, which is required; the columns "
                f"are {shown(', '.join(types))}."
            )
    number, row = next(((number, line) for number, line in lines if line.strip()), (0, ""))
    if not row:
        raise ValueError(f"{path} holds no rows, only the header in line 1.")
    cells = row.rstrip("\n").split(separator)
    # pandas would read it with every column shifted.
    if len(cells) > len(types) and '"' not in row:
        raise ValueError(
            f"{path}, line {number} has {len(cells)} columns, the header has {len(types)}."
        )
    return types


def check_columns(
    config: Config,
    kind: str,
    path: str,
    types: Mapping[str, str],
    required: Sequence[str] = (),
) -> None:
    """Check that an atomic file fits the settings that name columns.

    Args:
        kind, path: of the file, such as ``inter``.
        types: as :func:`check_header` returns them; empty if there is no such file.
        required: names of the columns that must be loaded.

    Raises:
        ValueError: ``load_col``, ``unload_col`` or ``val_interval`` ask for what it does not have.
    """
    loaded = (config["load_col"] or {}).get(kind, "*")
    for column in required:
        if loaded != "*" and column not in loaded:
            raise ValueError(f"load_col leaves out {column}, which is needed from {path}.")
    there = f"has only {', '.join(types)}" if types else "does not exist"
    for key in ("load_col", "unload_col"):
        columns = (config[key] or {}).get(kind, "*")
        # Those of a default need not be there.
        if columns == "*" or config[key] == config.internal_config_dict.get(key):
            continue
        for column in columns:
            if column not in types:
                raise ValueError(f"{key}: {kind} names {shown(column)}, and {path} {there}.")
    for column, kept in (config["val_interval"] or {}).items():
        if "float" in types.get(column, ""):
            INTERVAL.checked(f"val_interval: {column}", kept)
        elif column in types and not isinstance(kept, (list, tuple, set)):
            raise ValueError(
                f"val_interval: {column} must be a list of the tokens to keep, not {shown(kept)}: "
                f"{column} is a column of tokens."
            )


@contextmanager
def reading(path: str, separator: str, encoding: str | None) -> Iterator[None]:
    """Name what is wrong with an atomic file, as a ValueError, if reading it in the block fails."""
    # NumPy drops a NUL, as after a power failure, from a string's end: two ids would look the same.
    with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        if content.find(b"\0") >= 0:
            all(_lines(path, encoding))
    try:
        yield
    except READING_ERRORS as error:
        raise ValueError(_fault(path, separator, encoding, error)) from error


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


def _fault(path: str, separator: str, encoding: str | None, error: Exception) -> str:
    """Find the line for which reading failed."""
    all(_lines(path, encoding))
    said = (str(error).strip().splitlines() or ["no reason given"])[0].rstrip(".")
    if "expected after" in said or "end of data" in said:
        odd = (f", line {n}" for n, line in _lines(path, encoding) if line.count('"') % 2)
        return (
            f'{path}{next(odd, "")}: a quote (") opens a column and is not closed at its end; '
            "remove it, or put the column in quotes and double those inside."
        )
    options: dict[str, Any] = {"delimiter": separator, "encoding": encoding, "dtype": str}
    faults = []
    with suppress(*READING_ERRORS):
        frame = pd.read_csv(path, engine="python", skip_blank_lines=False, **options)
        for column in (name for name in frame if name.endswith(":float")):
            cells = frame[column].dropna()
            wrong = cells[pd.to_numeric(cells, errors="coerce").isna()]
            faults += [(row, column, cell) for row, cell in wrong[:1].items()]
    if not faults:
        return f"{path} could not be read ({type(error).__name__}: {said})."
    row, column, cell = min(faults)
    # The header is line 1.
    return f"{path}, line {row + 2}: column {shown(column)} holds {shown(cell)}, not a number."


def with_c_engine(read_csv: Callable) -> Callable:
    """``pandas.read_csv`` that reads with the C engine what is asked of the Python engine.

    What the C engine refuses, or might read otherwise, is read as asked, with the same errors.
    """

    def read(path: str, *args: Any, **options: Any) -> pd.DataFrame:
        separator, encoding = options.get("delimiter") or "", options.get("encoding") or "utf-8"
        alike = len(separator) == 1 and separator.isascii() and encoding.lower() in ASCII_LIKE
        if options.get("engine") == "python" and alike and _is_regular(path, separator.encode()):
            # The precision with which the Python engine reads numbers.
            fast = {**options, "engine": "c", "float_precision": "high"}
            with suppress(Exception):
                return read_csv(path, *args, **fast)
        return read_csv(path, *args, **options)

    return read


def _is_regular(path: str, separator: bytes) -> bool:
    """Whether a file has nothing that the engines may read differently: lines of more fields than
    the header, lines of white space, quotes that do not close, zero bytes."""
    with open(path, "rb") as file:
        expected = file.readline().count(separator)
        for lines in iter(lambda: file.read(CHUNK) + file.readline(), b""):
            values = np.frombuffer(lines, dtype=np.uint8)
            starts = np.append(0, np.flatnonzero(values[:-1] == ord("\n")) + 1)
            counts = np.add.reduceat(values == ord(separator), starts, dtype=np.int32)
            if b"\0" in lines or b'"' in lines or (counts != expected).any():
                return False
    return expected > 0
