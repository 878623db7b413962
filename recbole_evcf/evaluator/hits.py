"""What is in each user's top K, without a batch x items matrix of what is to be found."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["top_hits"]


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
        such an item is to be found, else 0, and behind them how many are to be found.
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
