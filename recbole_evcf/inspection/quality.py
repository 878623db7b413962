"""Recommendation quality on held-out interactions, as a whole and in buckets."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from recbole_evcf.data.dataloader import RankedPhase, ranked_phases
from recbole_evcf.data.histories import Histories, HistoryBatch
from recbole_evcf.inspection.buckets import equal_frequency, mean_and_error
from recbole_evcf.inspection.latent import batches

__all__ = [
    "Ranking",
    "held_out",
    "per_user",
    "quality_by_history",
    "quality_by_popularity",
    "rank",
]


@dataclass(frozen=True)
class Ranking:
    """The top K of some users.

    Attributes:
        items: columns of the items, the best first, (users, K).
        hits: whether each is a held-out interaction of the user, (users, K).
        targets: number of held-out interactions, (users,).
    """

    items: np.ndarray
    hits: np.ndarray
    targets: np.ndarray


def held_out(train_data, valid_data, test_data) -> RankedPhase:
    """The test phase, ranked in full: what is to be found and what is not ranked.

    Args: the dataloaders; those that rank in full know it, of others it is made of their data.
    """
    if hasattr(test_data, "positives"):
        return RankedPhase("test", test_data.positives, test_data.seen)
    return ranked_phases([data._dataset for data in (train_data, valid_data, test_data)])[2]


def rank(
    score: Callable[[HistoryBatch], Tensor],
    histories: Histories,
    phase: RankedPhase,
    users: Tensor,
    k: int,
) -> Ranking:
    """Rank all items but those seen before, and look for the held-out ones.

    Args:
        score: a batch of input histories -> scores, (batch, items).
        histories: the input histories.
        phase: what to find and what not to rank; on the CPU.
        users: user ids, (users,), on the CPU.
        k: length of the lists.
    """
    items, hits = [], []
    for part in batches(users, histories.shape[1]):
        scores = score(histories.rows(part.to(histories.starts.device))).cpu()
        seen, positives = phase.seen.rows(part), phase.positives.rows(part)
        scores[seen.row, seen.column] = -torch.inf
        wanted = torch.zeros(scores.shape, dtype=torch.bool)
        wanted[positives.row, positives.column] = True
        items.append(scores.topk(min(k, scores.shape[1]), dim=1).indices)
        hits.append(wanted.gather(1, items[-1]))
    targets = phase.positives.lengths[users]
    return Ranking(torch.cat(items).numpy(), torch.cat(hits).numpy(), targets.numpy())


def per_user(hits: np.ndarray, targets: np.ndarray, truncated: bool) -> pd.DataFrame:
    """NDCG and Recall of each list, as RecBole defines them.

    Args:
        hits: (users, K).
        targets: number of items to be found, at least 1, (users,).
        truncated: Recall over min(K, targets), :class:`~recbole_evcf.evaluator.metrics
            .TruncatedRecall`, instead of over the targets.

    Returns:
        columns ``ndcg`` and ``recall``.
    """
    k = hits.shape[1]
    gains = 1 / np.log2(np.arange(2, k + 2))
    possible = np.minimum(targets, k)
    return pd.DataFrame(
        {
            "ndcg": hits @ gains / gains.cumsum()[possible - 1],
            "recall": hits.sum(1) / (possible if truncated else targets),
        }
    )


def quality_by_history(lengths: np.ndarray, metrics: pd.DataFrame, n: int) -> pd.DataFrame:
    """Mean metrics of users grouped by the length of the history they are scored from.

    Args:
        lengths: of the input histories, (users,).
        metrics: of :func:`per_user`.
        n: number of groups.

    Returns:
        a row per group: ``from`` and ``to`` (lengths), ``users``, each metric and its
        standard error over users, ``ndcg_se`` and ``recall_se``.
    """
    group = equal_frequency(lengths, n)
    rows = []
    for bucket in range(group.max() + 1):
        inside = group == bucket
        bounds = {"from": lengths[inside].min(), "to": lengths[inside].max()}
        rows.append({**bounds, "users": inside.sum(), **_means(metrics[inside])})
    return pd.DataFrame(rows)


def quality_by_popularity(
    ranking: Ranking,
    positives: Histories,
    users: Tensor,
    popularity: np.ndarray,
    truncated: bool,
    n: int,
) -> pd.DataFrame:
    """Mean metrics on held-out interactions grouped by the popularity of their items.

    The groups have about the same number of held-out interactions. Of a user's list a group counts
    the held-out items of its own alone: to find, and found at the rank they have in the whole list.

    Args:
        ranking: of ``users``.
        positives: the held-out interactions.
        users: user ids, (users,).
        popularity: number of training interactions, (items,).
        truncated: as of :func:`per_user`.
        n: number of groups.

    Returns:
        a row per group: ``from`` and ``to`` (popularity), ``items``, ``held_out`` and
        ``recommended`` (shares of the held-out interactions, and of the places of all lists),
        ``users`` (who have any to find), metrics and standard errors over these users.
    """
    batch = positives.rows(users)
    columns = batch.column.numpy()
    group = equal_frequency(popularity, n, np.bincount(columns, minlength=len(popularity)))
    group_of_place = group[ranking.items]
    rows = []
    for bucket in range(group.max() + 1):
        items, places = group == bucket, group_of_place == bucket
        targets = np.bincount(batch.row.numpy()[items[columns]], minlength=len(users))
        some = targets > 0
        metrics = per_user((ranking.hits & places)[some], targets[some], truncated)
        rows.append(
            {
                "from": popularity[items].min(),
                "to": popularity[items].max(),
                "items": items.sum(),
                "held_out": targets.sum() / len(columns),
                "recommended": places.mean(),
                "users": some.sum(),
                **_means(metrics),
            }
        )
    return pd.DataFrame(rows)


def _means(metrics: pd.DataFrame) -> dict[str, float]:
    result = {}
    for name in metrics:
        result[name], result[f"{name}_se"] = mean_and_error(metrics[name].to_numpy())
    return result
