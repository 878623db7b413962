"""ImplicitSLIM: item vectors refined by which items occur together in histories."""

import torch
from torch import Tensor

from recbole_evcf.data.histories import HistoryBatch
from recbole_evcf.model.edlae import sums_of_rows, weighted_sums


def refined(vectors: Tensor, histories: HistoryBatch, reg_weight: float) -> Tensor:
    """Item vectors as a linear item-item model, which is never made, would reconstruct them.

    .. math:: M = (\\lambda V + V G) (\\operatorname{diag} G + \\lambda I)^{-2}, \\quad
              R = \\lambda M + M G, \\quad V \\leftarrow V V^T (I + R V^T)^{-1} R, \\quad G = X^T X

    with the vectors as columns of V (Shenbin & Nikolenko, "ImplicitSLIM and how it improves
    embedding-based collaborative filtering", ICLR 2024, for their alpha = 1 and all items). G is
    only multiplied with, through X: time grows with the number of interactions.

    Args:
        vectors: of each item, (items, width).
        histories: X, of all training users, on the same device.
        reg_weight: lambda, above 0.
    """
    order, starts = histories.transposed()
    users, counts = histories.row[order], histories.column.bincount(minlength=len(vectors))

    def times_gram(v: Tensor) -> Tensor:
        return sums_of_rows(weighted_sums(v, histories), users, starts)

    regularized = counts[:, None] + reg_weight
    scaled = (reg_weight * vectors + times_gram(vectors)) / regularized.square()
    reconstructed = reg_weight * scaled + times_gram(scaled)
    # Of width x width alone: exactly.
    products = (vectors.T @ vectors).double()
    others = torch.eye(len(products)).to(products) + (vectors.T @ reconstructed).double()
    return reconstructed @ torch.linalg.solve(others, products).to(vectors.dtype)
