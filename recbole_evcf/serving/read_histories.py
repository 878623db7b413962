"""Histories of new users from a file: RecBole's .inter, CSV, TSV or JSON lines.

A file is read in pieces; what is kept of it is described in :mod:`.user_histories`.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
import pandas as pd
from tqdm import tqdm

from recbole_evcf.data.atomic import check_header
from recbole_evcf.data.item_catalogue import ItemCatalogue
from recbole_evcf.serving.user_histories import Gatherer, UserHistories, counted

__all__ = ["read_histories", "read_tokens"]

SEPARATORS = {".inter": "\t", ".csv": ",", ".tsv": "\t"}
# Spreadsheets put a byte order mark in front.
ENCODING = "utf-8-sig"
JSON_LINES = (".jsonl", ".ndjson")
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

    The file's ending says what it is. ``.inter`` is RecBole's: the header names ``user_id:token``
    and ``item_id:token``. ``.csv`` and ``.tsv`` have a header and an interaction in each row;
    further columns are passed over. The rows of a user may stand anywhere; those without a user or
    an item are left out, as in training, with a remark. ``.jsonl`` and ``.ndjson`` have a user in
    each line: ``{"user": "u1", "items": ["i1", "i2"]}``.

    Args:
        path: the file, in UTF-8.
        catalogue: the items that the model knows.
        user_fields: names that the column of users may have.
        item_fields: names that the column of items may have.
        separator: what stands between columns, if not what the ending says.
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
    gatherer, remark = Gatherer(catalogue), ""
    with tqdm(
        total=os.path.getsize(path),
        desc="reading",
        unit="B",
        unit_scale=True,
        disable=None if show_progress is None else not show_progress,
    ) as bar:
        if ending in JSON_LINES:
            _read_json_lines(path, gatherer, bar)
        else:
            separator = SEPARATORS[ending] if separator is None else separator
            _check_separator(separator)
            if ending == ".inter":
                check_header(path, separator, None, required=(user_fields[0], item_fields[0]))
            remark = _read_table(path, separator, (user_fields, item_fields), gatherer, bar)
    return replace(gatherer.result(), remark=remark)


def read_tokens(path: str) -> list[str]:
    """Item tokens of a text file with one in each line; blank lines are passed over.

    Raises:
        ValueError: the file names no item or is no text.
        OSError: the file cannot be read.
    """
    with open(path, encoding=ENCODING) as file:
        try:
            tokens = [line.strip() for line in file if line.strip()]
        except UnicodeDecodeError:
            raise ValueError(f"{path} is no text file in UTF-8.") from None
    if not tokens:
        raise ValueError(f"{path} names no item; it must hold an item token in each line.")
    return tokens


def _check_separator(separator: str) -> None:
    if len(separator) != 1 or separator in '"\r\n':
        raise ValueError(f"the separator must be one character, not {separator!r}.")


def _read_table(path: str, separator: str, names: tuple, gatherer: Gatherer, bar: tqdm) -> str:
    """Returns a remark on the rows that were left out."""
    number, left_out = 0, []
    try:
        for frame in _pieces(path, separator, bar):
            users, items = (_column(path, frame, each, separator) for each in names)
            blank = (users == "") | (items == "")
            left_out += (number + 1 + np.flatnonzero(blank)).tolist()
            gatherer.add_pairs(users[~blank], items[~blank])
            number += len(frame)
    except pd.errors.EmptyDataError:
        raise ValueError(f"{path} is empty; line 1 must name the columns.") from None
    except pd.errors.ParserError as error:
        raise ValueError(_parser_fault(path, str(error))) from None
    except UnicodeDecodeError:
        raise ValueError(f"{path} is no text in UTF-8.") from None
    if number == 0:
        raise ValueError(f"{path} holds no rows, only the header in line 1.")
    if not left_out:
        return ""
    remark = f"{counted(len(left_out), 'row')} without a user or an item"
    if len(left_out) == number:
        raise ValueError(f"{path} holds {remark}, and no other.")
    return f"{path}: left out {remark}, the first being row {left_out[0]:,} below the header."


def _pieces(path: str, separator: str, bar: tqdm) -> Iterator[pd.DataFrame]:
    with open(path, "rb") as file:
        # All columns: told to read some, pandas does not see that a row has too many.
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
                    raise ValueError(
                        f"{path}: the rows have more columns than the header in line 1."
                    )
                yield frame.rename(columns=lambda name: str(name).partition(":")[0])
                bar.update(min(file.tell(), bar.total) - bar.n)
        bar.update(bar.total - bar.n)


def _column(path: str, frame: pd.DataFrame, names: Sequence[str], separator: str) -> np.ndarray:
    for name in names:
        if name in frame.columns:
            # A row that ends early has missing values.
            return frame[name].fillna("").to_numpy(dtype=object)
    raise ValueError(
        f"{path}, line 1: there is no column {' or '.join(names)}; the columns are "
        f"{', '.join(map(repr, frame.columns))}{_separator_hint(frame, separator)}."
    )


def _separator_hint(frame: pd.DataFrame, separator: str) -> str:
    for mark in (",", ";", "\t", "|"):
        if mark != separator and any(mark in name for name in frame.columns):
            return f" (the line has {mark!r} in it: is the separator {separator!r} right?)"
    return ""


def _parser_fault(path: str, said: str) -> str:
    found = re.search(r"Expected (\d+) fields in line (\d+), saw (\d+)", said)
    if found:
        expected, line, saw = found.groups()
        return f"{path}, line {line} has {saw} columns, the header has {expected}."
    if "EOF inside string" in said:
        return f'{path}: a quote (") is opened and not closed.'
    return f"{path} cannot be read as a table ({said.strip()})."


def _read_json_lines(path: str, gatherer: Gatherer, bar: tqdm) -> None:
    users, lists, any_line = [], [], False
    with open(path, "rb") as file:
        for number, line in enumerate(file, 1):
            bar.update(len(line))
            if not line.strip():
                continue
            user, items = _user_of_line(path, number, line)
            any_line = True
            users.append(user)
            lists.append(items)
            if len(users) == USERS_AT_ONCE:
                gatherer.add_lists(users, lists)
                users, lists = [], []
    if not any_line:
        raise ValueError(f'{path} is empty; a line is {{"user": "u1", "items": ["i1", "i2"]}}.')
    gatherer.add_lists(users, lists)


def _user_of_line(path: str, number: int, line: bytes) -> tuple[str, list[str]]:
    where = f"{path}, line {number}"
    try:
        content = json.loads(line)
    # The latter: a number of thousands of digits, or brackets without end.
    except (ValueError, RecursionError):
        raise ValueError(f"{where} is not valid JSON.") from None
    if not isinstance(content, dict) or not {"user", "items"} <= content.keys():
        raise ValueError(f'{where} must be of the form {{"user": "u1", "items": ["i1", "i2"]}}.')
    user, items = content["user"], content["items"]
    if not isinstance(items, list) or not all(map(_is_token, [user, *items])):
        raise ValueError(f"{where}: user must be a text, and items a list of texts.")
    user, items = str(user), list(map(str, items))
    if not _is_writable("".join([user, *items])):
        raise ValueError(f"{where} names half a character (\\ud800 to \\udfff), which is no text.")
    return user, items


def _is_writable(text: str) -> bool:
    """JSON can escape half a surrogate pair, which no file in UTF-8 can hold."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _is_token(value) -> bool:
    # Original tokens are texts; those of digits are often written as numbers.
    return isinstance(value, (str, int)) and not isinstance(value, bool) and value != ""
