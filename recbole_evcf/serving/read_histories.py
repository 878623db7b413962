"""Read new users' histories in pieces from RecBole's .inter, CSV, TSV or JSON lines."""

from __future__ import annotations

import itertools
import json
import os
from collections.abc import Iterator, Sequence
from typing import Any, BinaryIO

import numpy as np
import pandas as pd
from tqdm import tqdm

from recbole_evcf.data.identity import ItemCatalogue
from recbole_evcf.serving.user_histories import Gatherer, UserHistories, counted

__all__ = ["read_histories", "read_tokens"]

SEPARATORS = {".inter": "\t", ".csv": ",", ".tsv": "\t"}
# Spreadsheets start files with a byte order mark.
ENCODING = "utf-8-sig"
JSON_LINES = (".jsonl", ".ndjson")
FORM = '{"user": "u1", "items": ["i1", "i2"]}'
ROWS_AT_ONCE = 2**18
USERS_AT_ONCE = 2**12


def read_histories(
    path: str,
    catalogue: ItemCatalogue,
    user_fields: Sequence[str],
    item_fields: Sequence[str],
    *,
    separator: str | None = None,
    show_progress: bool | None = False,
) -> UserHistories:
    """Read the histories of users by original tokens.

    The file's ending gives its format. ``.inter``, ``.csv`` and ``.tsv`` have a header, with
    RecBole's types (``user_id:token``) or without, and an interaction in each row, in any order;
    further columns are ignored. Rows without a user or an item are left out, with a remark.
    ``.jsonl`` and ``.ndjson`` have a user in each line: ``{"user": "u1", "items": ["i1", "i2"]}``.

    Args:
        path: the file, in UTF-8.
        catalogue: the items that the model knows.
        user_fields: names that the column of users may have.
        item_fields: names that the column of items may have.
        separator: what separates columns, if not what the ending says.
        show_progress: whether to show a bar; None for: in a terminal.

    Raises:
        ValueError: names the file and what is wrong with it.
        OSError: the file cannot be read.
    """
    ending = os.path.splitext(path)[1].lower()
    if ending not in (*SEPARATORS, *JSON_LINES):
        raise ValueError(
            f"{path}: histories are read from {', '.join((*SEPARATORS, *JSON_LINES))} "
            "files, by the ending of the name."
        )
    if os.path.isdir(path):
        raise ValueError(f"{path} is a folder, not a file of histories.")
    gatherer, remarks = Gatherer(catalogue), []
    hidden = None if show_progress is None else not show_progress
    size = os.path.getsize(path)
    with (
        open(path, "rb") as file,
        tqdm(total=size, desc="reading", unit="B", unit_scale=True, disable=hidden) as bar,
    ):
        if ending in JSON_LINES:
            _read_json_lines(path, file, gatherer, bar)
        else:
            separator = SEPARATORS[ending] if separator is None else separator
            if len(separator) != 1 or separator in '"\r\n':
                raise ValueError(f"the separator must be one character, not {separator!r}.")
            remarks = _read_table(path, file, separator, (user_fields, item_fields), gatherer, bar)
    return gatherer.result(*remarks)


def read_tokens(path: str) -> list[str]:
    """Read item tokens from a text file, one per line, skipping blank lines.

    A file that names none, or is not text, is a ``ValueError``.
    """
    with open(path, encoding=ENCODING) as file:
        try:
            tokens = [line.strip() for line in file if line.strip()]
        except UnicodeDecodeError:
            raise ValueError(f"{path} is not a text file in UTF-8.") from None
    if not tokens:
        raise ValueError(f"{path} names no item; it must hold an item token in each line.")
    return tokens


def _read_table(
    path: str,
    file: BinaryIO,
    separator: str,
    fields: tuple[Sequence[str], Sequence[str]],
    gatherer: Gatherer,
    bar: tqdm,
) -> list[str]:
    """Collect the rows of a table; return a remark on those left out, if any."""
    number, left_out = 0, []
    try:
        for frame in _pieces(path, file, separator):
            users, items = (_column(path, frame, names, separator) for names in fields)
            blank = (users == "") | (items == "")
            left_out += (number + 1 + np.flatnonzero(blank)).tolist()
            gatherer.add_pairs(users[~blank], items[~blank])
            number += len(frame)
            bar.update(min(file.tell(), bar.total) - bar.n)
    except pd.errors.EmptyDataError:
        raise ValueError(f"{path} is empty; line 1 must name the columns.") from None
    except pd.errors.ParserError as error:
        cause = str(error).rpartition("C error: ")[2].strip()
        raise ValueError(f"{path} cannot be read as a table: {cause}.") from None
    except UnicodeDecodeError:
        raise ValueError(f"{path} is not text in UTF-8.") from None
    if number == 0:
        raise ValueError(f"{path} holds no rows, only the header in line 1.")
    if not left_out:
        return []
    remark = f"{counted(len(left_out), 'row')} without a user or an item"
    if len(left_out) == number:
        raise ValueError(f"{path} holds {remark}, and no other.")
    return [f"{path}: left out {remark}, the first being row {left_out[0]:,} below the header"]


def _pieces(path: str, file: BinaryIO, separator: str) -> Iterator[pd.DataFrame]:
    # All columns: pandas detects overlong rows only if it reads every column.
    with pd.read_csv(
        file,
        sep=separator,
        encoding=ENCODING,
        dtype=str,
        keep_default_na=False,
        chunksize=ROWS_AT_ONCE,
    ) as reader:
        for frame in reader:
            if not isinstance(frame.index, pd.RangeIndex):
                raise ValueError(f"{path}: the rows have more columns than the header in line 1.")
            yield frame.rename(columns=lambda name: str(name).partition(":")[0])


def _column(path: str, frame: pd.DataFrame, names: Sequence[str], separator: str) -> np.ndarray:
    for name in filter(frame.columns.__contains__, names):
        if list(frame.columns).count(name) > 1:
            raise ValueError(f"{path}, line 1 names the column {name} more than once.")
        # A short row has missing values.
        return frame[name].fillna("").to_numpy(dtype=object)
    hint, header = "", "".join(frame.columns)
    for mark in ",;\t|":
        if mark != separator and mark in header:
            hint = f" (the line has {mark!r} in it: is the separator {separator!r} right?)"
    raise ValueError(
        f"{path}, line 1: there is no column {' or '.join(names)}; the columns are "
        f"{', '.join(map(repr, frame.columns))}{hint}."
    )


def _read_json_lines(path: str, file: BinaryIO, gatherer: Gatherer, bar: tqdm) -> None:
    lines = ((number, line) for number, line in enumerate(file, 1) if line.strip())
    users = (_user_of_line(f"{path}, line {number}", line) for number, line in lines)
    empty = True
    while piece := list(itertools.islice(users, USERS_AT_ONCE)):
        empty = False
        gatherer.add_lists(*zip(*piece))
        bar.update(file.tell() - bar.n)
    if empty:
        raise ValueError(f"{path} is empty; a line is {FORM}.")


def _user_of_line(where: str, line: bytes) -> tuple[str, list[str]]:
    try:
        content = json.loads(line)
    # The latter: endless brackets.
    except (ValueError, RecursionError):
        raise ValueError(f"{where} is not valid JSON.") from None
    if not isinstance(content, dict) or not {"user", "items"} <= content.keys():
        raise ValueError(f"{where} must be of the form {FORM}.")
    user, items = content["user"], content["items"]
    if not isinstance(items, list) or not all(map(_is_token, [user, *items])):
        raise ValueError(f"{where}: user must be a string, and items a list of strings.")
    user, items = str(user), list(map(str, items))
    try:
        "".join([user, *items]).encode()
    except UnicodeEncodeError:
        raise ValueError(
            f"{where} names half a character (\\ud800 to \\udfff), which no file can hold."
        ) from None
    return user, items


def _is_token(value: Any) -> bool:
    # Original tokens are strings, but those of digits are often written as numbers.
    return isinstance(value, (str, int)) and not isinstance(value, bool) and value != ""
