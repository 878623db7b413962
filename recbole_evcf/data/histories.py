"""Interaction histories as CSR arrays, the only form in which the models see a user's data."""

from __future__ import annotations

import copy
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import scipy.sparse
import torch
from torch import Tensor


@dataclass(frozen=True)
class BatchShard:
    """The rows of a batch that one of several processes computes: `start` to `stop` of `total`."""

    start: int
    stop: int
    total: int

    def __len__(self) -> int:
        return self.stop - self.start

    @property
    def rows(self) -> slice:
        """An index of them."""
        return slice(self.start, self.stop)


def shard_of(total: int, rank: int, n_shards: int) -> BatchShard:
    """Divide ``total`` rows as evenly as possible into ``n_shards``; give the one of a rank."""
    start, stop = (total * edge // n_shards for edge in (rank, rank + 1))
    return BatchShard(start, stop, total)


class Histories:
    """The binary interaction matrix of all users, row by row.

    Column ``c`` is RecBole's item ``c + 1``: RecBole's item 0 is padding, which has no column.

    Args:
        matrix: SciPy's, sparse, (users, items); row 0 is RecBole's padding user. Values are not
            read: what is stored is an interaction, once.
    """

    def __init__(self, matrix: scipy.sparse.spmatrix):
        matrix = scipy.sparse.csr_matrix(matrix, copy=True)
        matrix.sum_duplicates()
        self.shape = matrix.shape
        self.starts = torch.from_numpy(matrix.indptr.astype(np.int64))
        self._starts_on_host = self.starts
        self.columns = torch.from_numpy(matrix.indices.astype(np.int32))

    @classmethod
    def from_dataset(cls, dataset: Any) -> Histories:
        """All interactions of a RecBole ``Dataset``, each user-item pair once."""
        fields = (dataset.uid_field, dataset.iid_field)
        users, items = (np.asarray(dataset.inter_feat[field]) for field in fields)
        pairs = np.ones(len(users), dtype=np.int8), (users, items - 1)
        return cls(scipy.sparse.coo_matrix(pairs, (dataset.user_num, dataset.item_num - 1)))

    @classmethod
    def input_of(cls, dataset: Any) -> Histories:
        """What each user is scored from: the training history, or a held-out user's fold-in set."""
        known = getattr(dataset, "input_histories", None)
        return cls.from_dataset(dataset) if known is None else known

    def __deepcopy__(self, memo: dict[int, Any]) -> Histories:
        # Never written to after construction: RecBole's FLOP counter copies the whole model.
        return self

    @property
    def lengths(self) -> Tensor:
        """Number of interactions per user, (users,)."""
        return self.starts.diff()

    @property
    def item_counts(self) -> np.ndarray:
        """Number of interactions per item, (items,)."""
        return np.bincount(self.columns.cpu(), minlength=self.shape[1])

    def to(self, device: torch.device) -> Histories:
        """The same histories on another device."""
        moved = copy.copy(self)
        moved.starts, moved.columns = self.starts.to(device), self.columns.to(device)
        return moved

    def matrix(self) -> scipy.sparse.csr_matrix:
        """As a SciPy matrix of ones, (users, items)."""
        columns = self.columns.cpu().numpy()
        ones = np.ones(len(columns), dtype=np.float32)
        return scipy.sparse.csr_matrix((ones, columns, self.starts.cpu().numpy()), self.shape)

    def of_items(self, kept: np.ndarray) -> Histories:
        """The interactions with some items alone, (items,) of booleans; all columns stay."""
        # A copy, since it would share the columns.
        matrix = self.matrix().copy()
        matrix.data *= kept[matrix.indices]
        matrix.eliminate_zeros()
        return Histories(matrix)

    def rows(self, users: Tensor, shard: BatchShard | None = None) -> HistoryBatch:
        """The histories of some users.

        Args:
            users: user ids, (batch,), on the device of the histories; or on the host, which is
                better for a GPU: it need not be waited for to know how many entries there are.
            shard: of which rows of the batch to return the histories; all by default.
        """
        if shard is not None:
            host = users.cpu()
            lengths = self._starts_on_host[host + 1] - self._starts_on_host[host]
            start, stop, total = (
                int(lengths[:edge].sum()) for edge in (shard.start, shard.stop, shard.total)
            )
            entries = BatchShard(start, stop, total)
            return replace(self.rows(users[shard.rows]), shard=shard, entry_shard=entries)
        size = None
        if users.device.type == "cpu":
            host = self._starts_on_host
            size = int((host[users + 1] - host[users]).sum())
            users = users.to(self.starts.device, non_blocking=True)
        starts = self.starts[users]
        lengths = self.starts[users + 1] - starts
        offsets = lengths.cumsum(0) - lengths
        row = torch.repeat_interleave(lengths, output_size=size)
        within = torch.arange(len(row), device=row.device) - offsets[row]
        column = self.columns[starts[row] + within].long()
        return HistoryBatch(row, column, offsets, lengths, self.shape[1])


@dataclass(frozen=True)
class HistoryBatch:
    """A batch of histories in coordinates; nothing of size batch x items.

    Attributes:
        row, column: user's place in the batch, ascending, and item column, (entries,).
        offsets, lengths: where each user's entries begin, and how many there are, (batch,).
        n_items: number of item columns.
        values: input value of each entry, (entries,), or None for ones.
        shard, entry_shard: which rows of a larger batch these are, and which of its entries.
    """

    row: Tensor
    column: Tensor
    offsets: Tensor
    lengths: Tensor
    n_items: int
    values: Tensor | None = None
    shard: BatchShard | None = None
    entry_shard: BatchShard | None = None
    _transposed: list = field(default_factory=list, repr=False)

    def __len__(self) -> int:
        return len(self.lengths)

    def normalized(self) -> HistoryBatch:
        """Each binary history divided by its L2 norm, the square root of its length."""
        values = self.lengths.clamp(min=1).to(torch.get_default_dtype()).rsqrt()[self.row]
        return replace(self, values=values)

    def renumbered(self, items: Tensor) -> HistoryBatch:
        """The entries of some items alone, as ones; their columns are places in ``items``."""
        place = items.new_full((self.n_items,), -1)
        place[items] = torch.arange(len(items), device=items.device)
        column = place[self.column]
        row, column = self.row[column >= 0], column[column >= 0]
        lengths = row.bincount(minlength=len(self))
        return HistoryBatch(row, column, lengths.cumsum(0) - lengths, lengths, len(items))

    def transposed(self) -> tuple[Tensor, Tensor]:
        """The entries sorted by item: their order, (entries,), and each item's start, (items,).

        Computed once for the batch and all its dropout copies.
        """
        if not self._transposed:
            order = torch.argsort(self.column, stable=True)
            # bincount would make the host wait for a GPU.
            counts = torch.zeros(self.n_items, dtype=torch.long, device=self.column.device)
            counts.index_add_(0, self.column, torch.ones_like(self.column))
            self._transposed.append((order, counts.cumsum(0) - counts))
        return self._transposed[0]

    def dense(self) -> Tensor:
        """As a matrix, (batch, items); for checks and small data only."""
        values = self.values
        if values is None:
            values = torch.ones(len(self.row), device=self.row.device)
        matrix = values.new_zeros(len(self), self.n_items)
        matrix[self.row, self.column] = values
        return matrix

    def sample(self, size: int) -> Tensor:
        """Item columns of each history, ``size`` at random of a longer one, -1 where there are
        fewer, (batch, size)."""
        order = (
            self.row + torch.rand(len(self.row), dtype=torch.double, device=self.row.device)
        ).argsort()
        place = torch.arange(len(order), device=order.device) - self.offsets[self.row]
        kept = place < size
        columns = self.column.new_full((len(self), size), -1)
        columns[self.row[kept], place[kept]] = self.column[order[kept]]
        return columns

    def sum_rows(self, values: Tensor) -> Tensor:
        """Sum of ``values``, (entries,), over each user's entries, (batch,)."""
        return values.new_zeros(len(self)).index_add_(0, self.row, values)
