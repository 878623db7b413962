"""Read users' histories, from Python objects or files, into a model's columns.

Every form becomes pieces, whose interactions are kept as two 32-bit numbers each: a user's may be
scattered over a file, and the 20 million of MovieLens-20M take 160 MB.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Collection, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import scipy.sparse
import torch
from pandas.io.common import get_handle
from torch import Tensor

from recbole_evcf.data.histories import Histories
from recbole_evcf.data.identity import ItemCatalogue
from recbole_evcf.data.prepare.table import as_strings, form_of
from recbole_evcf.utils.text import one_line, shortened, shown

# Accepted names of the column of users and of the column of items.
Fields = tuple[Sequence[str], Sequence[str]]
# Users, and tokens of items; and for each interaction the places of its user and of its token. None
# in place of tokens: the places are the model's columns.
Piece = tuple[Iterable[Hashable], Sequence[Any] | None, np.ndarray, np.ndarray]

SEPARATORS = {".inter": "\t", ".csv": ",", ".tsv": "\t"}
FORMS = (*SEPARATORS, ".parquet", ".jsonl")
# Spreadsheets start files with a byte order mark.
ENCODING = "utf-8-sig"
FORM = '{"user": "u1", "items": ["i1", "i2"]}'
NAMELESS = "the name of a user is missing."
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
    remarks: Sequence[str] = ()

    def __len__(self) -> int:
        return len(self.users)

    def part(self, users: Any) -> UserHistories:
        """Some of the users, by a slice or a mask; without remarks."""
        ids = None if self.model_ids is None else self.model_ids[users]
        return UserHistories(self.users[users], self.histories[users], self.seen[users], ids)


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
    if isinstance(given, pd.DataFrame):
        columns = list(given.columns)
        piece = _of_pairs(*(given[_one_of(names, columns)] for names in fields))
    else:
        piece = _of_lists(*_lists(given, len(catalogue)), catalogue.columns)
    return _collected([piece], catalogue, [])


def read_histories(
    path: str, catalogue: ItemCatalogue, fields: Fields, separator: str | None = None
) -> UserHistories:
    """Read the histories of users from a file; its ending gives the format.

    ``.inter``, ``.csv`` and ``.tsv``, in UTF-8, have a header, with RecBole's types
    (``user_id:token``) or without, and an interaction in each row, in any order; so has
    ``.parquet``. Rows without a user or an item are left out, with a remark. ``.jsonl`` has
    ``{"user": "u1", "items": ["i1", "i2"]}`` in each line. All may be compressed (``.csv.gz``).
    What is wrong with a file is a ``ValueError`` that names it.

    Args:
        path: the file.
        catalogue, fields: as of :func:`user_histories`; other columns are ignored.
        separator: between columns; None for that of the ending.
    """
    ending, remarks = form_of(path, FORMS), list[str]()
    try:
        if ending == ".parquet":
            pieces = _rows(_parquet(path, fields), path, remarks)
        elif ending == ".jsonl":
            pieces = _json_lines(path, catalogue.columns)
        elif ending:
            pieces = _rows(_table(path, fields, separator or SEPARATORS[ending]), path, remarks)
        else:
            raise ValueError(f"histories are in {', '.join(FORMS[:-1])} or {FORMS[-1]} files.")
        found = _collected(pieces, catalogue, remarks)
        if not len(found):
            raise ValueError("no line has a user and an item.")
    # Readers and decompressors raise errors of every kind.
    except Exception as error:
        raise ValueError(f"{path}: {one_line(error)}") from None
    return found


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
    # NumPy's and PyTorch's numbers.
    if getattr(value, "ndim", None) == 0:
        value = value.item()
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, (str, int)) and not isinstance(value, bool):
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


def _of_pairs(users: pd.Series, items: pd.Series) -> Piece:
    # Columns as they are: of strings, pandas would make a Python object for each row first.
    owners, names = pd.factorize(users)
    if (owners < 0).any():
        raise ValueError(NAMELESS)
    places, tokens = _distinct(items)
    return names.tolist(), tokens, owners, places


def _of_lists(
    users: Collection[Hashable], lists: Collection[list], columns: Mapping[str, int]
) -> Piece:
    lengths = list(map(len, lists))
    owners, count = np.repeat(np.arange(len(lists)), lengths), sum(lengths)
    items = itertools.chain.from_iterable(lists)
    try:
        places = np.fromiter(map(columns.__getitem__, items), dtype=np.int32, count=count)
        return users, None, owners, places
    # An item that the model does not know, or no string.
    except (KeyError, TypeError):
        items = itertools.chain.from_iterable(lists)
        places, tokens = _distinct(np.fromiter(items, dtype=object, count=count))
        return users, tokens, owners, places


def _distinct(items: np.ndarray | pd.Series) -> tuple[np.ndarray, list]:
    """The place of each item among the different ones, and these."""
    try:
        places, distinct = pd.factorize(items, use_na_sentinel=False)
    # A list among them.
    except TypeError:
        places, distinct = np.arange(len(items)), items
    return places, distinct.tolist()


def _collected(
    pieces: Iterable[Piece], catalogue: ItemCatalogue, remarks: list[str]
) -> UserHistories:
    """Put pieces together, users in order of first appearance; ``remarks`` gets what is unknown."""
    columns, rows = catalogue.columns, dict[Hashable, int]()
    pairs, unknown, left_out = [np.empty((2, 0), dtype=np.int32)], set[str](), 0
    for users, given, owners, places in pieces:
        found = places
        if given is not None:
            tokens = list(map(item_token, given))
            of_tokens = np.array([columns.get(token, -1) for token in tokens], dtype=np.int32)
            found = of_tokens[places]
            known = found >= 0
            unknown.update(token for token, column in zip(tokens, of_tokens) if column < 0)
            left_out += int((~known).sum())
            found, owners = found[known], owners[known]
        numbers = np.array([rows.setdefault(user, len(rows)) for user in users], dtype=np.int32)
        pairs.append(np.stack([numbers[owners], found]))
    names = pd.Series(list(rows), dtype=object)
    if names.isna().any():
        raise ValueError(NAMELESS)
    if unknown:
        lost = counted(left_out, "interaction")
        remarks.append(f"left out {lost} with {unknown_items(unknown)}")
    found = np.concatenate(pairs, axis=1)
    shape, ones = (len(rows), len(columns)), np.ones(found.shape[1], dtype=bool)
    # True + True is True: an item named twice counts once.
    matrix = scipy.sparse.csr_matrix((ones, (found[0], found[1])), shape).astype(np.int8)
    # Whole numbers for lists without names, strings otherwise.
    return UserHistories(names.infer_objects().to_numpy(), matrix, matrix, remarks=remarks)


def _one_of(names: Sequence[str], columns: list[str]) -> str:
    """Return the name that one column alone has; a ``ValueError`` names those there are."""
    for name in names:
        if columns.count(name) == 1:
            return name
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


def _lists(given: Any, n_items: int) -> tuple[list[Hashable], list[list]]:
    """Return names of users and their items, unless these could be meant otherwise."""
    named = isinstance(given, (Mapping, pd.Series))
    # Another package's table has columns.
    whole = isinstance(given, Iterable) and not hasattr(given, "columns")
    pairs = list(given.items() if named else enumerate(given)) if whole else [(0, "")]
    users, lists = [user for user, _ in pairs], [each for _, each in pairs]
    if lists and not named and all(isinstance(each, tuple) and len(each) == 2 for each in lists):
        raise ValueError(
            "pairs may be a user and an item, or two items: give a list of items for each "
            "user, or a DataFrame with the columns user and item; of a GroupBy, .apply(list)."
        )
    if not all(map(_is_list, lists)):
        raise ValueError(
            "histories must be lists of item tokens, one for each user, such as "
            '[["50", "172"]]; a dict or Series of such lists, a DataFrame or a matrix.'
        )
    items = [each if isinstance(each, list) else _as_list(each) for each in lists]
    whole_rows = (each for each in items if len(each) == n_items > 2)
    if any(all(isinstance(n, (int, float)) and n in (0, 1) for n in row) for row in whole_rows):
        raise ValueError(
            f"a history has a 0 or a 1 for each of the {n_items} items: give such rows as one "
            "array, (users, items)."
        )
    return users, items


def _as_list(given: Any) -> list:
    return given.tolist() if hasattr(given, "tolist") else list(given)


def _is_list(given: Any) -> bool:
    """Whether these may be a user's items: not a string, a table or a row of one."""
    others = isinstance(given, (str, bytes, Mapping)) or hasattr(given, "_fields")
    return isinstance(given, Iterable) and not others and getattr(given, "ndim", 1) == 1


def _table(path: str, fields: Fields, separator: str) -> Iterator[tuple[pd.Series, pd.Series]]:
    if len(separator) != 1 or separator in '"\r\n':
        raise ValueError(f"the separator must be one character, not {separator!r}.")
    options: dict[str, Any] = {"sep": separator, "encoding": ENCODING, "keep_default_na": False}
    # Not as categories, of which pandas makes numbers where it can.
    options |= {"dtype": object, "low_memory": False}
    # As a row: of a header, pandas would rename the second of two equal names.
    names = _names(pd.read_csv(path, header=None, nrows=1, **options).iloc[0], fields)
    # All columns are read: otherwise pandas does not detect overlong rows.
    with pd.read_csv(path, chunksize=ROWS_AT_ONCE, **options) as reader:
        for frame in reader:
            if not isinstance(frame.index, pd.RangeIndex):
                raise ValueError("the rows have more columns than the header in line 1.")
            yield frame[names[0]], frame[names[1]]


def _parquet(path: str, fields: Fields) -> Iterator[tuple[pd.Series, pd.Series]]:
    from pyarrow import parquet

    with parquet.ParquetFile(path) as file:
        names = _names(file.schema_arrow.names, fields)
        for batch in file.iter_batches(ROWS_AT_ONCE, columns=names):
            users, items = (_text(batch[name].dictionary_encode()) for name in names)
            yield users, items


def _text(column: Any) -> pd.Series:
    """A Parquet file's column as strings: of numbers and dates those of ``prepare table``."""
    import pyarrow

    values = column.dictionary
    if pyarrow.types.is_primitive(values.type):
        values = pyarrow.array(as_strings(values.to_pandas()), pyarrow.string())
    text = values.cast(pyarrow.string()).take(column.indices)
    return pd.Series(text.dictionary_encode().to_pandas())


def _names(header: Iterable[str], fields: Fields) -> list[str]:
    """What the columns of users and items are called in a file, whose header may have types."""
    found = list(header)
    columns = [name.partition(":")[0] for name in found]
    return [found[columns.index(_one_of(names, columns))] for names in fields]


def _rows(
    chunks: Iterable[tuple[pd.Series, pd.Series]], path: str, remarks: list[str]
) -> Iterator[Piece]:
    """The interactions in rows that have a user and an item; a remark counts the others."""
    rows = left_out = first = 0
    for user_of_row, item_of_row in chunks:
        owners, users = pd.factorize(user_of_row)
        places, tokens = pd.factorize(item_of_row)
        # What is missing has the place -1, the last.
        blank = np.append(users == "", True)[owners] | np.append(tokens == "", True)[places]
        if blank.any():
            first = first or rows + 1 + int(blank.argmax())
            left_out += int(blank.sum())
            yield _of_pairs(user_of_row[~blank], item_of_row[~blank])
        else:
            yield users.tolist(), tokens.tolist(), owners, places
        rows += len(blank)
    if left_out:
        what = f"{counted(left_out, 'row')} without a user or an item"
        remarks.append(f"{path}: left out {what}, the first being row {first:,} below the header")


def _json_lines(path: str, columns: Mapping[str, int]) -> Iterator[Piece]:
    with get_handle(path, "rb", compression="infer", is_text=False) as opened:
        lines = enumerate(opened.handle, 1)
        users = (_user_of_line(*each) for each in lines if each[1].strip())
        while piece := list(itertools.islice(users, USERS_AT_ONCE)):
            names, lists = zip(*piece)
            yield _of_lists(names, lists, columns)


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
