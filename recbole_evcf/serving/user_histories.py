"""Map users and their histories from original tokens to a model's columns.

Interactions are stored as two 32-bit numbers each, so that a user's may be scattered over a file:
8 bytes an interaction, 160 MB for the 20 million of MovieLens-20M.
"""

from __future__ import annotations

import itertools
from collections.abc import Collection, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import scipy.sparse
import torch
from torch import Tensor

from recbole_evcf.data.histories import Histories
from recbole_evcf.data.identity import ItemCatalogue
from recbole_evcf.utils.text import shortened, shown

__all__ = ["Gatherer", "UserHistories", "counted", "data_set_users", "item_token", "listed"]
__all__ += ["user_histories"]

MATRIX = "a row for each user and a column for each item, in the order of item_tokens"


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


class Gatherer:
    """Collect interactions of named users and items piece by piece.

    Users come out in order of first appearance. The order and repetition of a user's items do not
    matter. An item that is not a token is a ``ValueError``.

    Args:
        catalogue: the items that the model knows.
    """

    def __init__(self, catalogue: ItemCatalogue) -> None:
        self._tokens = pd.Index(catalogue.tokens)
        self._numbers: dict[Hashable, int] = {}
        self._rows: list[np.ndarray] = []
        self._columns: list[np.ndarray] = []
        self._unknown: set[str] = set()
        self._left_out = 0

    def add_pairs(self, users: np.ndarray, items: np.ndarray) -> None:
        """Add interactions: names of users and tokens of items, (interactions,) each."""
        places, names = pd.factorize(users)
        self._add(names, places, items)

    def add_lists(self, users: Collection[Hashable], lists: Collection[list]) -> None:
        """Add whole histories: names of users, (users,), and the item tokens of each, or none."""
        lengths = np.fromiter(map(len, lists), dtype=np.int64, count=len(lists))
        items = np.fromiter(itertools.chain.from_iterable(lists), dtype=object, count=lengths.sum())
        self._add(users, np.repeat(np.arange(len(lists)), lengths), items)

    def _add(self, users: Iterable[Hashable], places: np.ndarray, items: np.ndarray) -> None:
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
        self._rows.append(np.array(numbers, dtype=np.int32)[places[known]])
        self._columns.append(columns[codes[known]].astype(np.int32))

    def result(self, *remarks: str) -> UserHistories:
        """Return all that was added, with the caller's remarks."""
        none = np.empty(0, dtype=np.int32)
        rows, columns = (np.concatenate([none, *each]) for each in (self._rows, self._columns))
        shape = len(self._numbers), len(self._tokens)
        # True + True is True: an item named twice counts once.
        matrix = scipy.sparse.csr_matrix((np.ones(len(rows), dtype=bool), (rows, columns)), shape)
        matrix = matrix.astype(np.int8)
        # Whole numbers for lists without names, strings otherwise.
        users = pd.Series(list(self._numbers), dtype=object).infer_objects().to_numpy()
        if self._unknown:
            remarks = (
                *remarks,
                f"left out {counted(self._left_out, 'interaction')} with "
                f"{counted(len(self._unknown), 'item')} that the model does not know: "
                f"{listed(self._unknown)}",
            )
        return UserHistories(users, matrix, matrix, remarks=remarks)


def user_histories(
    given: Any, catalogue: ItemCatalogue, user_fields: Sequence[str], item_fields: Sequence[str]
) -> UserHistories:
    """Read histories in any form that :meth:`recbole_evcf.Recommender.recommend` describes.

    Args:
        given: lists, a dict or Series of lists, a DataFrame, or what its ``to_dict`` makes of it by
            column or by row, or a matrix.
        catalogue: the items that the model knows.
        user_fields: names that the DataFrame's column of users may have.
        item_fields: names that its column of items may have.

    Raises:
        ValueError: ``given`` is none of these, or does not fit.
    """
    if isinstance(given, UserHistories):
        return given
    if isinstance(given, Tensor):
        given = given.detach().cpu().to_dense()
        given = (given.float() if given.is_floating_point() else given).numpy()
    # An array of lists is read as a list of them.
    lists = isinstance(given, np.ndarray) and given.ndim == 1 and given.dtype == object
    if scipy.sparse.issparse(given) or (isinstance(given, np.ndarray) and not lists):
        return _from_matrix(given, catalogue)
    gatherer = Gatherer(catalogue)
    frame = _as_frame(given, user_fields, item_fields)
    if frame is None:
        gatherer.add_lists(*_lists(given, len(catalogue)))
    else:
        gatherer.add_pairs(_column(frame, user_fields), _column(frame, item_fields))
    return gatherer.result()


def data_set_users(train_data: Any, valid_data: Any) -> UserHistories:
    """All users of a data set, as RecBole's ``full_sort_topk`` treats them on the test part.

    They are scored from their training history (under the split by users from the fold-in set),
    and have seen the items of training and validation. The arguments are the dataloaders of
    ``load_data_and_model``.
    """
    dataset = train_data._dataset
    histories = Histories.input_of(dataset).matrix()
    seen = histories.maximum(Histories.from_dataset(valid_data._dataset).matrix())
    users = np.asarray(dataset.field2id_token[dataset.uid_field], dtype=object)
    # Without RecBole's padding user.
    ids = torch.arange(1, dataset.user_num)
    return UserHistories(users[1:], histories[1:], seen[1:].tocsr(), model_ids=ids)


def item_token(value: Any) -> str:
    """Return a value's token: a string itself, a whole number's digits; any other value is a
    ``ValueError``."""
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


def listed(tokens: Collection[str], most: int = 5) -> str:
    """Show the first few tokens in a message, sorted."""
    names = ", ".join(map(shown, sorted(tokens)[:most]))
    return names + (", ..." if len(tokens) > most else "")


def _from_matrix(matrix: Any, catalogue: ItemCatalogue) -> UserHistories:
    if matrix.ndim != 2 or matrix.shape[1] != len(catalogue):
        raise ValueError(
            f"the matrix has the shape {tuple(matrix.shape)}, and the model knows "
            f"{len(catalogue)} items: it must have {MATRIX}."
        )
    if matrix.dtype.kind not in "biuf":
        raise ValueError(f"the matrix holds no numbers but {matrix.dtype}: it must have {MATRIX}.")
    matrix = scipy.sparse.csr_matrix(matrix, copy=True)
    if np.isnan(matrix.data).any():
        raise ValueError("the matrix has missing values (NaN): no interaction is a 0.")
    matrix.eliminate_zeros()
    return UserHistories(np.arange(matrix.shape[0]), matrix, matrix)


def _as_frame(given: Any, *fields: Sequence[str]) -> pd.DataFrame | None:
    """Return a table of interactions in any form that pandas produces; None if it is not one."""

    def has_fields(row: Mapping) -> bool:
        return all(any(name in row for name in names) for names in fields)

    by_name = isinstance(given, Mapping)
    if isinstance(given, pd.DataFrame) or (by_name and has_fields(given)):
        return pd.DataFrame(given)
    rows = list(given.values()) if by_name else given
    table = isinstance(rows, list) and all(isinstance(row, Mapping) for row in rows)
    return pd.DataFrame(rows) if table and any(map(has_fields, rows)) else None


def _column(frame: pd.DataFrame, names: Sequence[str]) -> np.ndarray:
    for name in filter(frame.columns.__contains__, names):
        if frame[name].isna().any():
            raise ValueError(f"the DataFrame's column {name} has missing values.")
        return frame[name].to_numpy(dtype=object)
    raise ValueError(
        f"the DataFrame has no column {' or '.join(names)}; its columns are "
        f"{', '.join(map(str, frame.columns))}."
    )


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
    if any(len(each) == n_items > 2 and all(map(_is_flag, each)) for each in lists):
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
