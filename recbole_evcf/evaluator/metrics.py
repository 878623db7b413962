"""Recall as the VAE literature defines it, and the hits that ranking metrics count."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from recbole.evaluator.base_metric import TopkMetric
from torch import Tensor

__all__ = ["TruncatedRecall", "top_hits"]


class TruncatedRecall(TopkMetric):
    """Hits in the top K over min(K, n), n the number of the user's targets.

    Liang et al. (2018), equation 8; Kim & Suh (2019) report it as Recall@K. RecBole's ``Recall``
    divides by n, so that a user with more than K targets cannot reach 1.
    """

    def calculate_metric(self, dataobject: Any) -> dict[str, float]:
        """Means over users by K, ``truncatedrecall@K``."""
        pos_index, pos_len = self.used_info(dataobject)
        return self.topk_result("truncatedrecall", self.metric_info(pos_index, pos_len))

    def metric_info(self, pos_index: np.ndarray, pos_len: np.ndarray) -> np.ndarray:
        """Hits (users, K) and numbers of targets (users,) -> per-user values (users, K)."""
        cutoffs = np.arange(1, pos_index.shape[1] + 1)
        return np.cumsum(pos_index, axis=1) / np.minimum(cutoffs, pos_len[:, None])


def top_hits(
    scores: Tensor, k: int, positive_u: Tensor, positive_i: Tensor
) -> tuple[Tensor, Tensor]:
    """Rank items and say which of the first K are to be found.

    Args:
        scores: (batch, items).
        k: cut-off K; of fewer items, all are ranked.
        positive_u: place in the batch of each item to be found, (positives,).
        positive_i: its item id, (positives,).

    Returns:
        ids of the K best items, (batch, K); and RecBole's ``rec.topk``, (batch, K + 1): 1 where
        such an item is to be found, otherwise 0, and behind them how many are to be found.
    """
    batch, n_items = scores.shape
    items = torch.topk(scores, min(k, n_items), dim=-1).indices
    positive_u, positive_i = positive_u.to(items.device), positive_i.to(items.device)
    wanted = (positive_u * n_items + positive_i).unique()
    ranked = torch.arange(batch, device=items.device)[:, None] * n_items + items
    place = torch.searchsorted(wanted, ranked).clamp_(max=max(len(wanted) - 1, 0))
    found = wanted[place] == ranked if len(wanted) else torch.zeros_like(ranked)
    count = torch.bincount(wanted // n_items, minlength=batch)
    return items, torch.cat([found.long(), count[:, None]], dim=1)
