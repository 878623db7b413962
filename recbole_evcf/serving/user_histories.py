"""Read users' histories, from Python objects or files, into a model's columns.

Interactions are kept as two 32-bit numbers each, so that a user's may be scattered over a file:
8 bytes an interaction, 160 MB for the 20 million of MovieLens-20M.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Collection, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pandas as pd
import scipy.sparse
import torch
from torch import Tensor

from recbole_evcf.data.histories import Histories
from recbole_evcf.data.identity import ItemCatalogue
from recbole_evcf.utils.text import one_line, shortened, shown

__all__ = ["Fields", "UserHistories", "counted", "data_set_users", "item_token", "read_histories"]
__all__ += ["read_tokens", "unknown_items", "user_histories"]

# Accepted names of the column of users and of the column of items.
Fields = tuple[Sequence[str], Sequence[str]]

SEPARATORS = {".inter": "\t", ".csv": ",", ".tsv": "\t"}
# Spreadsheets start files with a byte order mark.
ENCODING = "utf-8-sig"
FORM = '{"user": "u1", "items": ["i1", "i2"]}'
ROWS_AT_ONCE = 2**18
USERS_AT_ONCE = 2**12


@dataclass
class UserHistories:
    """Users to recommend to.

    Attributes:
        users: their original names, (users,).
        histories: what they are scored from, a CSR matrix (users, items).
        seen: what is not recommended to them, in the same form.
        model_ids: by which the model itself knows the users, (users,); None for unseen users.
        remarks: what was left out, such as items that the model does not know.
    """

    users: np.ndarray
    histories: scipy.sparse.csr_matrix
    seen: scipy.sparse.csr_matrix
    model_ids: Tensor | None = None
    remarks: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.users)


def user_histories(given: Any, catalogue: ItemCatalogue, fields: Fields) -> UserHistories:
    """Read histories in any form that :meth:`recbole_evcf.Recommender.recommend` describes.

    ``catalogue`` are the items that the model knows, ``fields`` names that a DataFrame's columns
    may have. Anything else is a ``ValueError``.
    """
    if isinstance(given, UserHistories):
        return given
    if isinstance(given, Tensor):
        given = given.detach().cpu().to_dense()
        given = (given.float() if given.is_floating_point() else given).numpy()
    # An array of lists is read as a list of them.
    is_array = isinstance(given, np.ndarray) and (given.ndim != 1 or given.dtype != object)
    if is_array or scipy.sparse.issparse(given):
        return _from_matrix(given, catalogue)
    if isinstance(given, Mapping) and all(any(n in given for n in names) for names in fields):
        given = pd.DataFrame(given)
    collector = _Collector(catalogue)
    if isinstance(given, pd.DataFrame):
        users, items = (_column(given, names) for names in fields)
        for column in (users, items):
            if column.isna().any():
                raise ValueError(f"the DataFrame's column {column.name} has missing values.")
        collector.add_pairs(users.to_numpy(dtype=object), items.to_numpy(dtype=object))
    else:
        collector.add_lists(*_lists(given, len(catalogue)))
    return collector.result()


def read_histories(
    path: str, catalogue: ItemCatalogue, fields: Fields, separator: str | None = None
) -> UserHistories:
    """Read the histories of users from a file in UTF-8; its ending gives the format.

    ``.inter``, ``.csv`` and ``.tsv`` have a header, with RecBole's types (``user_id:token``) or
    without, and an interaction in each row, in any order. Rows without a user or an item are left
    out, with a remark. ``.jsonl`` has ``{"user": "u1", "items": ["i1", "i2"]}`` in each line.
    What is wrong with a file is a ``ValueError`` that names it.

    Args:
        path: the file.
        catalogue: the items that the model knows.
        fields: names that the columns may have; others are ignored.
        separator: between columns; None for that of the ending.
    """
    collector, ending = _Collector(catalogue), Path(path).suffix.lower()
    with open(path, "rb") as file:
        try:
            if ending == ".jsonl":
                _read_json_lines(file, collector)
            elif ending in SEPARATORS:
                _read_table(file, collector, fields, separator or SEPARATORS[ending])
            else:
                raise ValueError(f"histories are in {', '.join(SEPARATORS)} or .jsonl files.")
        # pandas' own errors too.
        except ValueError as error:
            raise ValueError(f"{path}: {one_line(error)}") from None
    return collector.result()


def read_tokens(path: str) -> list[str]:
    """Read item tokens, one in each line; a file without any, or not text, is a ``ValueError``."""
    try:
        lines = Path(path).read_text(encoding=ENCODING).split("\n")
    except UnicodeDecodeError:
        raise ValueError(f"{path} is not a text file in UTF-8.") from None
    tokens = list(filter(None, map(str.strip, lines)))
    if not tokens:
        raise ValueError(f"{path} names no item; it must hold an item token in each line.")
    return tokens


def data_set_users(train_data: Any, valid_data: Any) -> UserHistories:
    """All users of a data set, as RecBole's ``full_sort_topk`` treats them on the test part.

    They are scored from their training history (under the split by users from the fold-in set),
    and have seen the items of both dataloaders.
    """
    dataset = train_data._dataset
    histories = Histories.input_of(dataset).matrix()
    seen = histories.maximum(Histories.from_dataset(valid_data._dataset).matrix())
    users = np.asarray(dataset.field2id_token[dataset.uid_field], dtype=object)
    # Without RecBole's padding user.
    ids = torch.arange(1, dataset.user_num)
    return UserHistories(users[1:], histories[1:], seen[1:].tocsr(), ids)


def item_token(value: Any) -> str:
    """Return a string itself, a whole number's digits; another value is a ``ValueError``."""
    if isinstance(value, str):
        return str(value)
    # NumPy's and PyTorch's numbers.
    if getattr(value, "ndim", None) == 0:
        value = value.item()
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    raise ValueError(
        f"{shortened(repr(value))} is not an item token: tokens are strings, or whole numbers, "
        "which stand for their digits."
    )


def counted(count: int, noun: str) -> str:
    """Format a count such as "1 user" or "1,200 users"."""
    return f"{count:,} {noun}" + ("" if count == 1 else "s")


def unknown_items(tokens: Collection[str]) -> str:
    """Count item tokens in a message, and show the first few, sorted."""
    names = ", ".join(map(shown, sorted(tokens)[:5])) + (", ..." if len(tokens) > 5 else "")
    return f"{counted(len(tokens), 'item')} that the model does not know: {names}"


class _Collector:
    """Collects interactions piece by piece; users come out in order of first appearance."""

    def __init__(self, catalogue: ItemCatalogue) -> None:
        self._tokens = pd.Index(catalogue.tokens)
        self._numbers: dict[Hashable, int] = {}
        self._rows = [np.empty(0, dtype=np.int32)]
        self._columns = [np.empty(0, dtype=np.int32)]
        self._unknown: set[str] = set()
        self._left_out = 0
        self.remarks: list[str] = []

    def add_pairs(self, users: np.ndarray, items: np.ndarray) -> None:
        owners, names = pd.factorize(users)
        self._add(names, owners, items)

    def add_lists(self, users: Collection[Hashable], lists: Collection[list]) -> None:
        lengths = np.fromiter(map(len, lists), dtype=np.int64, count=len(lists))
        items = np.fromiter(itertools.chain.from_iterable(lists), dtype=object, count=lengths.sum())
        self._add(users, np.repeat(np.arange(len(lists)), lengths), items)

    def _add(self, users: Iterable[Hashable], owners: np.ndarray, items: np.ndarray) -> None:
        try:
            codes, distinct = pd.factorize(items, use_na_sentinel=False)
        # A list among them.
        except TypeError:
            codes, distinct = np.arange(len(items)), items
        distinct = np.array([item_token(item) for item in distinct], dtype=object)
        columns = self._tokens.get_indexer(distinct)
        known = columns[codes] >= 0
        self._left_out += int((~known).sum())
        self._unknown.update(distinct[columns < 0])
        numbers = [self._numbers.setdefault(user, len(self._numbers)) for user in users]
        self._rows.append(np.array(numbers, dtype=np.int32)[owners[known]])
        self._columns.append(columns[codes[known]].astype(np.int32))

    def result(self) -> UserHistories:
        rows, columns = np.concatenate(self._rows), np.concatenate(self._columns)
        shape = len(self._numbers), len(self._tokens)
        # True + True is True: an item named twice counts once.
        matrix = scipy.sparse.csr_matrix((np.ones(len(rows), dtype=bool), (rows, columns)), shape)
        matrix = matrix.astype(np.int8)
        # Whole numbers for lists without names, strings otherwise.
        users = pd.Series(list(self._numbers), dtype=object).infer_objects().to_numpy()
        if self._unknown:
            lost, items = counted(self._left_out, "interaction"), unknown_items(self._unknown)
            self.remarks.append(f"left out {lost} with {items}")
        return UserHistories(users, matrix, matrix, remarks=tuple(self.remarks))


def _column(frame: pd.DataFrame, names: Sequence[str]) -> pd.Series:
    """Return the column that has one of some names; a ``ValueError`` names those there are."""
    columns = list(frame.columns)
    for name in names:
        if columns.count(name) == 1:
            return frame[name]
    found = ", ".join(map(shown, columns))
    raise ValueError(f"one column must be named {' or '.join(names)}; the columns are {found}.")


def _from_matrix(matrix: Any, catalogue: ItemCatalogue) -> UserHistories:
    shape, n_items = tuple(matrix.shape), len(catalogue)
    if len(shape) != 2 or shape[1] != n_items or matrix.dtype.kind not in "biuf":
        raise ValueError(
            f"a matrix of histories has numbers in a row for each user and a column for each of "
            f"the model's {n_items} items, in the order of item_tokens; this one has the shape "
            f"{shape} and the type {matrix.dtype}."
        )
    matrix = scipy.sparse.csr_matrix(matrix, copy=True)
    if np.isnan(matrix.data).any():
        raise ValueError("the matrix has missing values (NaN): no interaction is a 0.")
    matrix.eliminate_zeros()
    return UserHistories(np.arange(shape[0]), matrix, matrix)


def _lists(given: Any, n_items: int) -> tuple[list, list[list]]:
    """Return names of users and their histories."""
    if isinstance(given, (Mapping, pd.Series)):
        names, lists = list(given.keys()), [items for _, items in given.items()]
    else:
        # Another package's table has columns.
        whole = isinstance(given, Iterable) and not hasattr(given, "columns")
        lists = list(given) if whole else [None]
        names = list(range(len(lists)))
        if lists and all(isinstance(each, tuple) and len(each) == 2 for each in lists):
            raise ValueError(
                "pairs may be a user and an item, or two items: give a list of items for each "
                "user, or a DataFrame with the columns user and item; of a GroupBy, .apply(list)."
            )
    if not all(map(_is_list, lists)):
        raise ValueError(
            "histories must be lists of item tokens, one for each user, such as "
            '[["50", "172"]]; a dict or Series of such lists, a DataFrame or a matrix.'
        )
    if any(pd.isna(name) for name in names if pd.api.types.is_scalar(name)):
        raise ValueError("the name of a user is missing.")
    lists = [each.tolist() if hasattr(each, "tolist") else list(each) for each in lists]
    for items in lists:
        if len(items) == n_items > 2 and all(map(_is_flag, items)):
            raise ValueError(
                f"a history has a 0 or a 1 for each of the {n_items} items: give such rows as one "
                "array, (users, items)."
            )
    return names, lists


def _is_list(given: Any) -> bool:
    """Whether these may be a user's items: not a string, a table or a row of one."""
    others = isinstance(given, (str, bytes, Mapping)) or hasattr(given, "_fields")
    return isinstance(given, Iterable) and not others and getattr(given, "ndim", 1) == 1


def _is_flag(value: Any) -> bool:
    return isinstance(value, (int, float)) and value in (0, 1)


def _read_table(file: BinaryIO, collector: _Collector, fields: Fields, separator: str) -> None:
    if len(separator) != 1 or separator in '"\r\n':
        raise ValueError(f"the separator must be one character, not {separator!r}.")
    rows, blanks = 0, []
    # All columns are read: otherwise pandas does not detect overlong rows.
    options: dict[str, Any] = {"encoding": ENCODING, "dtype": str, "keep_default_na": False}
    with pd.read_csv(file, sep=separator, chunksize=ROWS_AT_ONCE, **options) as reader:
        for frame in reader:
            if not isinstance(frame.index, pd.RangeIndex):
                raise ValueError("the rows have more columns than the header in line 1.")
            frame.columns = [str(name).partition(":")[0] for name in frame.columns]
            if len(frame.columns) == 1:
                raise ValueError(f"line 1 names one column: is the separator {separator!r} right?")
            # A short row has missing values.
            users, items = (
                _column(frame, names).fillna("").to_numpy(dtype=object) for names in fields
            )
            blank = (users == "") | (items == "")
            blanks += (rows + 1 + np.flatnonzero(blank)).tolist()
            collector.add_pairs(users[~blank], items[~blank])
            rows += len(frame)
    if len(blanks) == rows:
        raise ValueError("no row below the header in line 1 has a user and an item.")
    if blanks:
        left_out = f"left out {counted(len(blanks), 'row')} without a user or an item"
        first = f"the first being row {blanks[0]:,} below the header"
        collector.remarks.append(f"{file.name}: {left_out}, {first}")


def _read_json_lines(file: BinaryIO, collector: _Collector) -> None:
    users = (_user_of_line(*each) for each in enumerate(file, 1) if each[1].strip())
    piece = list(itertools.islice(users, USERS_AT_ONCE))
    if not piece:
        raise ValueError(f"the file is empty; a line is {FORM}.")
    while piece:
        collector.add_lists(*zip(*piece))
        piece = list(itertools.islice(users, USERS_AT_ONCE))


def _user_of_line(number: int, line: bytes) -> tuple[str, list[str]]:
    try:
        content = json.loads(line)
        user, items = content["user"], content["items"]
        # Tokens are strings, but those of digits are often written as numbers.
        types = {type(token) for token in (user, *items)}
        sound = isinstance(items, list) and types <= {str, int} and "" not in (user, *items)
        user, items = str(user), list(map(str, items))
        # Half a character, such as \ud800, can be named, but not written to a file.
        "".join([user, *items]).encode()
    # The last: endless brackets.
    except (ValueError, LookupError, TypeError, RecursionError):
        sound = False
    if not sound:
        raise ValueError(f"line {number} is not JSON in UTF-8 of the form {FORM}, no name empty.")
    return user, items
