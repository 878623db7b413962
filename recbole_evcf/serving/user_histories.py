"""Users and their histories by original tokens, as the columns that a model knows.

Interactions are gathered as two 32-bit numbers each, so that a user's may be scattered over a file
of any order: 8 bytes an interaction, 160 MB for the 20 million of MovieLens-20M.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
import scipy.sparse
from torch import Tensor

from recbole_evcf.data.item_catalogue import ItemCatalogue
from recbole_evcf.utils.text import shortened, shown

__all__ = ["Gatherer", "UnknownItems", "UserHistories", "counted", "item_token", "user_histories"]

SHOWN = 5


@dataclass
class UnknownItems:
    """What was left out of the histories.

    Attributes:
        interactions: how many interactions.
        tokens: the items that they named.
    """

    interactions: int = 0
    tokens: set = field(default_factory=set)

    def __str__(self) -> str:
        names = ", ".join(map(shown, sorted(self.tokens, key=str)[:SHOWN]))
        more = ", ..." if len(self.tokens) > SHOWN else ""
        return (
            f"left out {counted(self.interactions, 'interaction')} with "
            f"{counted(len(self.tokens), 'item')} that the model does not know: {names}{more}"
        )


@dataclass
class UserHistories:
    """Users to recommend to.

    Attributes:
        users: their original names, (users,).
        histories: what they are scored from, a CSR matrix (users, items).
        seen: what is not recommended to them, in the same form.
        unknown: what was left out.
        model_ids: by which the model itself knows the users, (users,); None for unseen users.
        remark: on rows of their file that were left out; empty if there are none.
    """

    users: np.ndarray
    histories: scipy.sparse.csr_matrix
    seen: scipy.sparse.csr_matrix
    unknown: UnknownItems = field(default_factory=UnknownItems)
    model_ids: Tensor | None = None
    remark: str = ""

    def __len__(self) -> int:
        return len(self.users)


class Gatherer:
    """Gathers interactions of named users and items piece by piece.

    Users come out in the order in which they first appear. The order of a user's items does not
    matter, nor does naming one twice.

    Args:
        catalogue: the items that the model knows.
    """

    def __init__(self, catalogue: ItemCatalogue):
        self._n_items = len(catalogue)
        self._tokens = pd.Index(catalogue.tokens)
        # Of each piece: its users, each once, and for each interaction their place and the item.
        self._users: list[np.ndarray] = []
        self._places: list[np.ndarray] = []
        self._items: list[np.ndarray] = []
        self._unknown = UnknownItems()

    def add_pairs(self, users: Sequence, items: Sequence) -> None:
        """Add interactions.

        Args:
            users: names of the users, (interactions,).
            items: tokens of the items, (interactions,).

        Raises:
            ValueError: an item is no token.
        """
        places, names = pd.factorize(np.asarray(users, dtype=object))
        self._add(names, places, np.asarray(items, dtype=object))

    def add_lists(self, users: Sequence, lists: Sequence[Sequence]) -> None:
        """Add whole histories, which may be empty.

        Args:
            users: names of the users, (users,).
            lists: item tokens of each.

        Raises:
            ValueError: an item is no token.
        """
        lengths = np.fromiter(map(len, lists), dtype=np.int64, count=len(lists))
        items = np.fromiter(itertools.chain.from_iterable(lists), dtype=object, count=lengths.sum())
        users = np.fromiter(users, dtype=object, count=len(users))
        self._add(users, np.repeat(np.arange(len(lists)), lengths), items)

    def _add(self, users: np.ndarray, places: np.ndarray, items: np.ndarray) -> None:
        try:
            codes, distinct = pd.factorize(items, use_na_sentinel=False)
        # A list among them.
        except TypeError:
            codes, distinct = np.arange(len(items)), items
        distinct = np.array([item_token(item) for item in distinct], dtype=object)
        columns = self._tokens.get_indexer(distinct)
        items = columns[codes]
        known = items >= 0
        self._unknown.interactions += int((~known).sum())
        self._unknown.tokens.update(distinct[columns < 0])
        self._users.append(users)
        self._places.append(places[known].astype(np.int32))
        self._items.append(items[known].astype(np.int32))

    def result(self) -> UserHistories:
        """All that was added."""
        names = np.concatenate([np.empty(0, dtype=object), *self._users])
        renumbered, users = pd.factorize(names)
        starts = np.cumsum([0, *map(len, self._users)])
        rows = [renumbered[start + place] for start, place in zip(starts, self._places)]
        rows = np.concatenate([np.empty(0, dtype=np.int32), *rows])
        columns = np.concatenate([np.empty(0, dtype=np.int32), *self._items])
        ones = np.ones(len(rows), dtype=np.int8)
        shape = len(users), self._n_items
        matrix = scipy.sparse.csr_matrix((ones, (rows, columns)), shape)
        # Whole numbers for lists without names, texts otherwise.
        users = pd.Series(users, dtype=object).infer_objects().to_numpy()
        return UserHistories(users, matrix, matrix, self._unknown)


def user_histories(
    given, catalogue: ItemCatalogue, user_fields: Sequence[str], item_fields: Sequence[str]
) -> UserHistories:
    """Histories as Python users have them.

    Args:
        given: lists of item tokens, one per user, who are then numbered from 0; or such lists by
            the user's name in a dict or a Series; or a DataFrame with an interaction in each row,
            or what its ``to_dict`` makes of it by column or by row; or a matrix, (users, items), of
            NumPy, PyTorch or SciPy, whose columns are those of ``catalogue`` and whose entries
            other than 0 are interactions.
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
    # An array of lists is as a list of them.
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


def item_token(value) -> str:
    """The token that a value stands for: a string itself, a whole number its digits.

    Raises:
        ValueError: it is another value, such as 3.5.
    """
    if isinstance(value, str):
        return str(value)
    # Of NumPy's and PyTorch's numbers.
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


def _from_matrix(matrix, catalogue: ItemCatalogue) -> UserHistories:
    order = "a row for each user and a column for each item, in the order of item_tokens"
    if matrix.ndim != 2 or matrix.shape[1] != len(catalogue):
        raise ValueError(
            f"the matrix has the shape {tuple(matrix.shape)}, and the model knows "
            f"{len(catalogue)} items: it must have {order}."
        )
    if matrix.dtype.kind not in "biuf":
        raise ValueError(f"the matrix holds no numbers but {matrix.dtype}: it must have {order}.")
    matrix = scipy.sparse.csr_matrix(matrix, copy=True)
    if np.isnan(matrix.data).any():
        raise ValueError("the matrix has missing values (NaN): no interaction is a 0.")
    matrix.eliminate_zeros()
    return UserHistories(np.arange(matrix.shape[0]), matrix, matrix)


def _as_frame(given, *fields: Sequence[str]) -> pd.DataFrame | None:
    """A table of interactions, however pandas gives it out; None if it is not one."""

    def has_fields(row: Mapping) -> bool:
        return all(any(name in row for name in names) for names in fields)

    by_name = isinstance(given, Mapping)
    if isinstance(given, pd.DataFrame) or (by_name and has_fields(given)):
        return pd.DataFrame(given)
    rows = list(given.values()) if by_name else given
    table = isinstance(rows, list) and all(isinstance(row, Mapping) for row in rows)
    return pd.DataFrame(rows) if table and any(map(has_fields, rows)) else None


def _column(frame: pd.DataFrame, names: Sequence[str]) -> np.ndarray:
    for name in names:
        if name in frame.columns:
            values = frame[name]
            if values.isna().any():
                raise ValueError(f"the DataFrame's column {name} has missing values.")
            return values.to_numpy(dtype=object)
    raise ValueError(
        f"the DataFrame has no column {' or '.join(names)}; its columns are "
        f"{', '.join(map(str, frame.columns))}."
    )


def _lists(given, n_items: int) -> tuple[list, list[list]]:
    """Names of users and their histories."""
    if isinstance(given, (Mapping, pd.Series)):
        names, lists = list(given.keys()), [items for _, items in given.items()]
    else:
        # A table of another package has columns.
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
    if any(map(pd.isna, (name for name in names if pd.api.types.is_scalar(name)))):
        raise ValueError("the name of a user is missing.")
    lists = [each.tolist() if hasattr(each, "tolist") else list(each) for each in lists]
    if any(len(each) == n_items > 2 and all(map(_is_flag, each)) for each in lists):
        raise ValueError(
            f"a history has a 0 or a 1 for each of the {n_items} items: give such rows as one "
            "array, (users, items)."
        )
    return names, lists


def _is_list(given) -> bool:
    """Whether these may be a user's items: no string, no table, no row of one."""
    others = isinstance(given, (str, bytes, Mapping)) or hasattr(given, "_fields")
    return isinstance(given, Iterable) and not others and getattr(given, "ndim", 1) == 1


def _is_flag(value) -> bool:
    return isinstance(value, (int, float)) and value in (0, 1)


def counted(count: int, noun: str) -> str:
    """Such as "1 user" or "1,200 users"."""
    return f"{count:,} {noun}" + ("" if count == 1 else "s")
