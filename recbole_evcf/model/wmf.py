"""WMF: weighted matrix factorization of implicit feedback, with fold-in of unseen users."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from recbole_evcf.data.histories import Histories
from recbole_evcf.model.baseline import Baseline
from recbole_evcf.model.fold_in import padded_columns

if TYPE_CHECKING:
    from recbole.config import Config
    from recbole.data.dataset import Dataset

# Rows solved for at once: at most so many, with so many entries once they are padded.
USERS, ENTRIES = 256, 2**15


class WMF(Baseline):
    """Weighted matrix factorization (Hu, Koren and Volinsky 2008), as iALS tuned by Rendle et al.
    (2022).

    With the binary interactions r, user vectors x and item vectors y minimise

    .. math:: \\sum_{u,i} (1 + \\alpha r_{ui}) (r_{ui} - x_u^T y_i)^2
              + \\sum_u \\lambda_u |x_u|^2 + \\sum_i \\lambda_i |y_i|^2

    where a user of n interactions has :math:`\\lambda_u = \\lambda (n + I / \\alpha)^\\nu`, I being
    the number of items, and an item likewise with the number of users. The exponent nu = 0 gives
    all the same weight, as in Hu et al.; 1 is the frequency-scaled regularization of Rendle et al.,
    whose unobserved weight is 1 / alpha.

    The constructor trains by alternating least squares, on the interactions of
    ``dataset.inter_feat`` alone. What is kept are the item vectors; every user, seen in training
    or not, is scored by one step of ALS from the input history (:func:`fold_in`).

    Config keys: ``embedding_size``, ``reg_weight`` (lambda), ``reg_exponent`` (nu), ``alpha``,
    ``als_iterations``; and RecBole's ``seed``, from which the vectors start.

    Args:
        config: RecBole's ``Config``.
        dataset: the training part of RecBole's ``Dataset``.

    Raises:
        ValueError: a key has a value that cannot be taken or that ends without a solution.

    >>> import recbole_evcf
    >>> small = {"embedding_size": 8, "als_iterations": 2}
    >>> recbole_evcf.run("WMF", "ml-100k", **small)["test_result"]["ndcg@10"] > 0
    True
    """

    KEYS = ("embedding_size", "als_iterations", "alpha", "reg_weight", "reg_exponent")
    embedding_size: int
    als_iterations: int
    alpha: float
    reg_weight: float
    reg_exponent: float

    def __init__(self, config: Config, dataset: Dataset):
        super().__init__(config, dataset)
        items = self._alternate(Histories.from_dataset(dataset), config["seed"])
        # No gradient: for RecBole's optimizer there is nothing to do.
        self.item_factors = nn.Parameter(items.to(self.device), requires_grad=False)

    def _alternate(self, histories: Histories, seed: int) -> Tensor:
        """Item vectors, (items, factors), by alternating least squares over the training users."""
        if not len(histories.columns):
            # A model that is loaded gets its vectors from the file.
            return torch.zeros(histories.shape[1], self.embedding_size)
        matrix = histories.matrix()
        # Held-out users have no row, and so no share in the weights.
        matrix = matrix[np.diff(matrix.indptr) > 0]
        by_user, by_item = Histories(matrix), Histories(matrix.T)
        users, items = (torch.arange(n) for n in by_user.shape)
        # The scale of the start is that of Rendle et al. (2022).
        start, scale = torch.Generator().manual_seed(seed), 0.1 / self.embedding_size**0.5
        vectors = torch.randn(len(items), self.embedding_size, generator=start).double() * scale
        for _ in range(self.als_iterations):
            vectors = self._half_step(self._half_step(vectors, by_user, users), by_item, items)
        return vectors.float()

    def _half_step(self, other: Tensor, histories: Histories, rows: Tensor) -> Tensor:
        # A file from before the exponent has none.
        weights = self.alpha, self.reg_weight, self.reg_exponent or 0.0
        return fold_in(other, histories, rows, *weights)

    def user_vectors(self, users: Tensor) -> Tensor:
        """One ALS step for each user from the input history, (batch, embedding_size)."""
        # In double precision, so that the rest of the batch changes no digit that is kept.
        vectors = self._half_step(self.item_factors.double(), self._histories, users)
        return vectors.to(self.item_factors.dtype)

    def scores(self, users: Tensor) -> Tensor:
        """Scores of the real items for users by id, (batch,) -> (batch, items)."""
        return self.user_vectors(users) @ self.item_factors.T


def fold_in(
    items: Tensor,
    histories: Histories,
    users: Tensor,
    alpha: float,
    reg_weight: float,
    reg_exponent: float = 0.0,
) -> Tensor:
    """User vectors that minimise the objective for given item vectors: half a step of ALS.

    x_u = (Y^T C_u Y + r_u I)^-1 Y^T C_u p_u (Hu et al. 2008, equation 4), where
    Y^T C_u Y = Y^T Y + alpha (sum of y_i y_i^T over the history). A user without history has zeros.

    Args:
        items: item vectors Y, (items, factors).
        histories: of all users, with one column per row of ``items``.
        users: user ids, (batch,).
        alpha: confidence of an interaction above that of all else, 1.
        reg_weight, reg_exponent: see :class:`WMF`.

    Returns:
        (batch, factors), of the type of ``items``.

    Raises:
        ValueError: the regularization leaves the vectors undetermined.
    """
    # In the basis of the Gram matrix's eigenvectors, it and every user's weight are diagonal.
    eigenvalues, basis = torch.linalg.eigh(items.T @ items)
    lengths = histories.lengths[users.to(histories.starts.device)]
    weights = reg_weight * (lengths + len(items) / alpha) ** reg_exponent
    diagonal = eigenvalues + weights[:, None]
    if not (diagonal > eigenvalues[-1] * len(basis) * torch.finfo(items.dtype).eps).all():
        raise ValueError(
            f"reg_weight {reg_weight:g} with alpha {alpha:g} leaves vectors of embedding_size "
            f"{len(basis)} undetermined: raise reg_weight or lower embedding_size."
        )
    # A row of zeros, for histories shorter than the longest beside them.
    rotated = F.pad(items @ basis, (0, 0, 0, 1))
    vectors = items.new_empty(len(users), len(basis))
    # Users of like length together: little is padded.
    order = lengths.argsort(descending=True)
    while len(order):
        size = max(min(ENTRIES // max(int(lengths[order[0]]), 1), USERS), 1)
        chunk, order = order[:size], order[size:]
        own = rotated[padded_columns(histories.rows(users[chunk]))]
        vectors[chunk] = (1 + alpha) * _solution(own, diagonal[chunk], alpha)
    return vectors @ basis.T


def _solution(own: Tensor, diagonal: Tensor, alpha: float) -> Tensor:
    """x = (D + alpha Z^T Z)^-1 Z^T 1 for Z, (batch, longest, factors), and diagonal D."""
    longest, factors = own.shape[1:]
    if longest > factors:
        normal = alpha * own.mT @ own + diagonal.diag_embed()
        return _solved(normal, own.sum(1))
    # Woodbury's identity, for a smaller matrix: x = D^-1 Z^T (1 + alpha Z D^-1 Z^T)^-1 1.
    scaled = own / diagonal[:, None]
    inner = alpha * own @ scaled.mT
    inner.diagonal(dim1=1, dim2=2).add_(1)
    return (_solved(inner, own.new_ones(own.shape[:2]))[:, None] @ scaled)[:, 0]


def _solved(matrices: Tensor, targets: Tensor) -> Tensor:
    return torch.cholesky_solve(targets[..., None], torch.linalg.cholesky(matrices))[..., 0]
