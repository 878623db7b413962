"""Recall as the VAE literature defines it, the hits that metrics count, and values by user."""

import os
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
import torch
from recbole.evaluator.base_metric import TopkMetric
from torch import Tensor

from recbole_evcf.evaluator.ranking import top_k
from recbole_evcf.utils.files import atomic_write

SE_SUFFIX = "_se"
# Above any item id: a pair of user and item is one number.
IDS = 2**32


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
        scores: (batch, items); or, of whole numbers, the ids of the K best items, (batch, K).
        k: cut-off K; of fewer items, all are ranked.
        positive_u: place in the batch of each item to be found, (positives,).
        positive_i: its item id, (positives,).

    Returns:
        ids of the K best items, (batch, K); and RecBole's ``rec.topk``, (batch, K + 1): 1 where
        such an item is to be found, otherwise 0, and behind them how many are to be found.
    """
    ranked = not scores.is_floating_point()
    items = scores if ranked else top_k(scores, min(k, scores.shape[1]))[1]
    positive_u, positive_i = positive_u.to(items.device), positive_i.to(items.device)
    wanted = (positive_u * IDS + positive_i).unique()
    pairs = torch.arange(len(items), device=items.device)[:, None] * IDS + items
    place = torch.searchsorted(wanted, pairs).clamp_(max=max(len(wanted) - 1, 0))
    found = wanted[place] == pairs if len(wanted) else torch.zeros_like(pairs)
    count = torch.bincount(wanted // IDS, minlength=len(items))
    return items, torch.cat([found.long(), count[:, None]], dim=1)


def per_user_values(metrics: Mapping[str, Any], topk: list[int]) -> dict[str, np.ndarray]:
    """Values of each ranking metric at each K, (users,), by names such as ``ndcg@10``.

    Args:
        metrics: RecBole's metric objects by name, each with ``per_user``, (users, max K), where
            it is a mean over users.
        topk: the cut-offs K.
    """
    return {
        f"{name}@{k}": np.asarray(metric.per_user, dtype=np.float64)[:, k - 1]
        for name, metric in metrics.items()
        if getattr(metric, "per_user", None) is not None
        for k in topk
    }


def ranked_users(eval_data: Any) -> np.ndarray | None:
    """Original ids of the users that a dataloader of RecBole's or ours ranks for, in its order.

    Returns:
        (users,), as the rows of :func:`per_user_values`; or None where a row is no user: with
        value metrics such as AUC, and where a sequential model ranks for a user more than once.
    """
    dataset = eval_data._dataset
    users = getattr(eval_data, "uid_list", None)
    if users is None:
        users = np.asarray(dataset.inter_feat[dataset.uid_field])
        if not eval_data.is_sequential or len(np.unique(users)) < len(users):
            return None
    return dataset.id2token(dataset.uid_field, np.asarray(users))


def standard_error(values: np.ndarray) -> float:
    """Of the mean of some values, NaN of fewer than two."""
    return float(np.std(values, ddof=1) / np.sqrt(len(values))) if len(values) > 1 else np.nan


def write_per_user(path: str, user_tokens: np.ndarray, values: Mapping[str, np.ndarray]) -> None:
    """Write a CSV file with a line per user, atomically; its folder is made.

    Args:
        path: the file.
        user_tokens: original user ids, (users,), in the order of the values.
        values: as of :func:`per_user_values`.
    """
    os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
    table = pd.DataFrame({"user_id": np.asarray(user_tokens), **values})
    with atomic_write(path) as temporary:
        table.to_csv(temporary, index=False)
