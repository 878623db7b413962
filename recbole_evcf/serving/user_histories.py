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
from recbole_evcf.printable import shown

__all__ = ["Gatherer", "UnknownItems", "UserHistories", "counted", "user_histories"]

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
    """

    users: np.ndarray
    histories: scipy.sparse.csr_matrix
    seen: scipy.sparse.csr_matrix
    unknown: UnknownItems = field(default_factory=UnknownItems)
    model_ids: Tensor | None = None

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
        """
        places, names = pd.factorize(np.asarray(users, dtype=object))
        self._add(names, places, np.asarray(items, dtype=object))

    def add_lists(self, users: Sequence, lists: Sequence[Sequence]) -> None:
        """Add whole histories, which may be empty.

        Args:
            users: names of the users, (users,).
            lists: item tokens of each.
        """
        lengths = np.fromiter(map(len, lists), dtype=np.int64, count=len(lists))
        items = np.empty(lengths.sum(), dtype=object)
        items[:] = list(itertools.chain.from_iterable(lists))
        self._add(_objects(users), np.repeat(np.arange(len(lists)), lengths), items)

    def _add(self, users: np.ndarray, places: np.ndarray, tokens: np.ndarray) -> None:
        codes, distinct = pd.factorize(tokens)
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
            the user's name in a dict; or a DataFrame with an interaction in each row; or a SciPy
            matrix, (users, items), whose columns are those of ``catalogue`` and whose entries
            other than 0 are interactions.
        catalogue: the items that the model knows.
        user_fields: names that the DataFrame's column of users may have.
        item_fields: names that its column of items may have.

    Raises:
        ValueError: ``given`` is none of these, or does not fit.
    """
    if isinstance(given, UserHistories):
        return given
    if scipy.sparse.issparse(given):
        return _from_matrix(given, catalogue)
    gatherer = Gatherer(catalogue)
    if isinstance(given, pd.DataFrame):
        users, items = (_column(given, names) for names in (user_fields, item_fields))
        gatherer.add_pairs(users, items)
    else:
        names, lists = _lists(given)
        gatherer.add_lists(names, lists)
    return gatherer.result()


def _from_matrix(matrix, catalogue: ItemCatalogue) -> UserHistories:
    if matrix.shape[1] != len(catalogue):
        raise ValueError(
            f"the matrix has {matrix.shape[1]} columns, and the model knows {len(catalogue)} "
            "items: a column for each, in the order of item_tokens."
        )
    matrix = scipy.sparse.csr_matrix(matrix, copy=True)
    matrix.eliminate_zeros()
    return UserHistories(np.arange(matrix.shape[0]), matrix, matrix)


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


def _lists(given) -> tuple[list, list[list[str]]]:
    if isinstance(given, Mapping):
        names, lists = list(given), list(given.values())
    elif isinstance(given, Iterable) and not isinstance(given, (str, bytes)):
        lists = list(given)
        names = list(range(len(lists)))
    else:
        lists = [None]
    if any(isinstance(each, (str, bytes)) or not isinstance(each, Iterable) for each in lists):
        raise ValueError(
            "histories must be lists of item tokens, one for each user, such as "
            '[["50", "172"]]; a dict of such lists, a DataFrame or a SciPy matrix.'
        )
    # Tokens are texts; a data set's whole numbers are meant by numbers too.
    return names, [[str(token) for token in each] for each in lists]


def _objects(values: Iterable) -> np.ndarray:
    values = list(values)
    array = np.empty(len(values), dtype=object)
    array[:] = values
    return array


def counted(count: int, noun: str) -> str:
    """Such as "1 user" or "1,200 users"."""
    return f"{count:,} {noun}" + ("" if count == 1 else "s")
