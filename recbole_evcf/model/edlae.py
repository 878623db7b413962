"""EDLAE: a linear item-item model of full rank, trained with dropout, in closed form."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import numpy as np
import psutil
import torch
import torch.nn.functional as F
from scipy.linalg.lapack import spotrf, spotri
from torch import Tensor, nn

from recbole_evcf.data.histories import Histories, HistoryBatch
from recbole_evcf.model.baseline import Baseline

if TYPE_CHECKING:
    from recbole.config import Config
    from recbole.data.dataset import Dataset

# Items whose rows of a matrix are made at once, and by how many threads at most: each holds a copy.
BLOCK, THREADS = 256, 4
# As many matrices must fit on a GPU that inverts one: it takes three, and some room besides.
COPIES = 4
CPU = torch.device("cpu")
# Columns of a table that a sum of its rows reads at once, if a row is read so often in a batch.
COLUMNS, READ_AGAIN = 128, 8


class EDLAE(Baseline):
    """EDLAE, "emphasized denoising linear autoencoder" (Steck, NeurIPS 2020).

    A user's scores are the history times item-item weights B, x B, whose diagonal is 0 and which
    minimise the squared error of reconstructing an entry from what dropout leaves of the others:

    .. math:: B_{ij} = -C_{ij} / C_{jj}, \\quad
              C = \\Big(G + \\lambda I + \\frac{p}{1 - p} \\operatorname{diag} G\\Big)^{-1}, \\quad
              G = X^T V X

    with the training histories X, lambda the key ``reg_weight`` and p ``dropout_prob``. The errors
    of a user with n interactions have the weight V_uu, proportional to n^-``user_exponent`` and
    scaled so that G has the trace of X^T X: 0, equal weights, is as published; above, the few users
    with long histories no longer outweigh the many others (the user side of the normalization of
    Park et al., SIGIR 2025). With ``user_exponent`` and p both 0 it is EASE (Steck 2019).

    Where ``max_diagonal``, xi, is above 0, an item may reconstruct itself, by a B_jj of at most
    xi (RDLAE, Moon et al., SIGIR 2023), which the scores then leave out:

    .. math:: B_{ij} = -C_{ij} \\max\\Big(\\frac{1 - \\xi}{C_{jj}}, g_j\\Big), \\quad
              g_j = \\lambda + \\frac{p}{1 - p} G_{jj}

    Beside EDLAE's, the scores of popular items shrink.

    The constructor trains, on the interactions of ``dataset.inter_feat`` alone. Time grows with the
    third power of the number M of items; memory is one M x M matrix in single precision, 4 M^2
    bytes (1.6 GB for ML-20M's 20,108 items, 6.7 GB for 41,000), which the model keeps; and that of
    the other items beside it, where a third of all or more have no interactions.

    Args:
        config: RecBole's ``Config``.
        dataset: the training part of RecBole's ``Dataset``.

    Raises:
        ValueError: a key has a value that cannot be taken, or the matrix does not fit into memory.

    >>> import recbole_evcf
    >>> result = recbole_evcf.run("EDLAE", "ml-100k", reg_weight=200, dropout_prob=0.2)
    >>> result["test_result"]["ndcg@10"] > 0.3
    True
    """

    KEYS = ("reg_weight", "dropout_prob", "user_exponent", "max_diagonal")

    def __init__(self, config: Config, dataset: Dataset):
        super().__init__(config, dataset)
        histories = Histories.from_dataset(dataset)
        settings = (getattr(self, key) for key in self.KEYS)
        weights = item_weights(histories, *settings, device=self.device)
        # No gradient: for RecBole's optimizer there is nothing to do.
        self.item_weights = nn.Parameter(weights.to(self.device), requires_grad=False)

    def scores(self, users: Tensor) -> Tensor:
        """Scores of the real items for users by id, (batch,) -> (batch, items)."""
        return weighted_sums(self.item_weights, self._histories.rows(users))


def weighted_sums(item_weights: Tensor, histories: HistoryBatch) -> Tensor:
    """x B, the sum of the weight rows of each history's items, (batch, items)."""
    return sums_of_rows(item_weights, histories.column, histories.offsets)


def sums_of_rows(table: Tensor, row: Tensor, offsets: Tensor) -> Tensor:
    """Sums of rows of a table, each in turn, as ``F.embedding_bag`` makes them, (bags, width)."""
    if table.device.type != "cpu" or len(row) < READ_AGAIN * len(table):
        return F.embedding_bag(row, table, offsets, mode="sum")
    # Columns that fit into a core's cache, as the rows are read again and again.
    result = table.new_empty(len(offsets), table.shape[1])
    for columns, sums in zip(table.split(COLUMNS, 1), result.split(COLUMNS, 1)):
        sums.copy_(F.embedding_bag(row, columns, offsets, mode="sum"))
    return result


def item_weights(
    histories: Histories,
    reg_weight: float,
    dropout_prob: float,
    user_exponent: float = 0.0,
    max_diagonal: float = 0.0,
    *,
    device: torch.device = CPU,
) -> Tensor:
    """B of :class:`EDLAE`, (items, items), in single precision on the CPU.

    Args:
        histories: of the training users.
        reg_weight: lambda.
        dropout_prob: p, at least 0 and below 1.
        user_exponent: a user of n interactions counts n^-``user_exponent``.
        max_diagonal: xi, from 0 to 1.
        device: inverts the matrix, if it is a GPU with room for it.

    Raises:
        ValueError: the matrix does not fit into memory, or is singular for want of ``reg_weight``.
    """
    n_items, used = histories.shape[1], np.flatnonzero(histories.item_counts)
    if 3 * len(used) <= 2 * n_items:
        # Items without interactions have no weights. (A model that is loaded has none yet.)
        _check_memory(n_items, len(used))
        weights = torch.zeros(n_items, n_items)
        if len(used):
            alone = Histories(histories.matrix()[:, used])
            settings = reg_weight, dropout_prob, user_exponent, max_diagonal
            block = item_weights(alone, *settings, device=device)
            weights.numpy()[np.ix_(used, used)] = block.numpy()
        return weights
    matrix = _gram(histories, user_exponent)
    diagonal = np.einsum("ii->i", matrix)
    penalty = reg_weight + diagonal * (dropout_prob / (1 - dropout_prob))
    diagonal += penalty
    _invert(matrix, device)
    factors = -np.maximum((1 - max_diagonal) / diagonal, penalty)
    diagonal[:] = 0

    def scale(rows: slice) -> None:
        matrix[rows] *= factors

    _by_blocks(scale, len(matrix))
    return torch.from_numpy(matrix)


def _check_memory(n_items: int, n_beside: int = 0) -> None:
    """Raise if the weights of all items, plus those of ``n_beside``, exceed the free memory."""
    needed, free = 4 * (n_items**2 + n_beside**2), psutil.virtual_memory().available
    if needed > free:
        raise ValueError(
            f"the item weights of {n_items:,} items take {needed / 1e9:.1f} GB, and "
            f"{free / 1e9:.1f} GB of memory are free: leave out rare items "
            "(item_inter_num_interval), or lower linear_n_items of GatedHVampLinear."
        )


def _gram(histories: Histories, user_exponent: float) -> np.ndarray:
    """The upper triangle of X^T V X, (items, items), in blocks of its rows; below is anything."""
    n_items = histories.shape[1]
    _check_memory(n_items)
    gram = np.empty((n_items, n_items), dtype=np.float32)
    by_user = histories.matrix()
    by_item = by_user.T.tocsr()
    if user_exponent:
        # Of each interaction the weight of its user, on average 1.
        lengths = histories.lengths.cpu().numpy()
        weights = np.repeat(lengths, lengths) ** -user_exponent
        by_user.data = (weights / weights.mean()).astype(np.float32)

    def multiply(rows: slice) -> None:
        others = slice(rows.start, None)
        gram[rows, others] = (by_item[rows] @ by_user[:, others]).toarray()

    _by_blocks(multiply, n_items)
    return gram


def _invert(matrix: np.ndarray, device: torch.device) -> None:
    """Replace a symmetric positive definite matrix, of which the upper triangle is given, by its
    inverse, by Cholesky's factors."""
    there = device.type == "cuda" and COPIES * matrix.nbytes <= torch.cuda.mem_get_info(device)[0]
    failed = _invert_by_torch(matrix, device) if there else _invert_by_lapack(matrix)
    if failed:
        raise ValueError(
            "the items' Gram matrix cannot be inverted: raise reg_weight (linear_reg_weight in "
            "GatedHVampLinear)."
        )


def _invert_by_torch(matrix: np.ndarray, device: torch.device) -> bool:
    """Invert on a device; whether it failed."""
    factor, failed = torch.linalg.cholesky_ex(torch.from_numpy(matrix).to(device), upper=True)
    if not failed:
        torch.from_numpy(matrix).copy_(torch.cholesky_inverse(factor, upper=True))
    return bool(failed)


def _invert_by_lapack(matrix: np.ndarray) -> bool:
    """Invert in place; whether it failed."""
    # LAPACK counts by columns: its lower triangle is the upper one here.
    _, failed = spotrf(matrix.T, lower=1, clean=0, overwrite_a=1)
    if not failed:
        _, failed = spotri(matrix.T, lower=1, overwrite_c=1)
    if failed:
        return True

    def mirror(rows: slice) -> None:
        matrix[rows.stop :, rows] = matrix[rows, rows.stop :].T
        block = np.triu(matrix[rows, rows])
        matrix[rows, rows] = block + np.triu(block, 1).T

    _by_blocks(mirror, len(matrix))
    return False


def _by_blocks(work: Callable[[slice], None], n: int) -> None:
    """Do the work of each block of n rows in threads: NumPy and SciPy let others run meanwhile."""
    blocks = [slice(start, min(start + BLOCK, n)) for start in range(0, n, BLOCK)]
    with ThreadPoolExecutor(min(torch.get_num_threads(), THREADS)) as pool:
        list(pool.map(work, blocks))
