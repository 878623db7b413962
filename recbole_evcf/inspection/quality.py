"""Measure recommendation quality on held-out interactions, overall and in groups."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from recbole.evaluator.metrics import NDCG, Recall
from torch import Tensor

from recbole_evcf.data.dataloader import RankedPhase, ranked_phases
from recbole_evcf.data.histories import Histories, HistoryBatch
from recbole_evcf.evaluator.metrics import TruncatedRecall
from recbole_evcf.inspection.latent import batches

__all__ = [
    "Ranking",
    "equal_frequency",
    "held_out",
    "mean_and_error",
    "means_by_group",
    "per_user",
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


def held_out(train_data: Any, valid_data: Any, test_data: Any) -> RankedPhase:
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
    """Return NDCG and Recall of each list, by RecBole's own metrics.

    Args:
        hits: (users, K).
        targets: number of items to be found, at least 1, (users,).
        truncated: Recall over min(K, targets), :class:`~recbole_evcf.evaluator.metrics
            .TruncatedRecall`, instead of over the targets.

    Returns:
        columns ``ndcg`` and ``recall``.
    """
    metrics = {"ndcg": NDCG, "recall": TruncatedRecall if truncated else Recall}
    # They need no config for it.
    values = {name: each.metric_info(None, hits, targets) for name, each in metrics.items()}
    return pd.DataFrame({name: value[:, -1] for name, value in values.items()})


def equal_frequency(values: np.ndarray, n: int, weights: np.ndarray | None = None) -> np.ndarray:
    """Return the group of each value, counted from 0 along the values, all of about equal weight.

    Equal values share a group, so that many ties leave fewer groups, or uneven ones.

    Args:
        values: what the groups run along, (values,).
        n: the desired number of groups.
        weights: what is to be shared out equally, (values,); by default each value counts once.
    """
    weights = np.ones(len(values)) if weights is None else weights
    unique, place = np.unique(values, return_inverse=True)
    weight = np.bincount(place, weights, minlength=len(unique))
    # A value belongs to the group that holds the middle of its weight.
    middle = weight.cumsum() - weight / 2
    group = np.minimum(np.floor(n * middle / weight.sum()), n - 1)
    return np.unique(group[place], return_inverse=True)[1]


def mean_and_error(values: pd.DataFrame) -> dict[str, float]:
    """Return each column's mean and, as ``_se``, standard error (NaN for fewer than two rows)."""
    means, errors = values.mean(), values.sem()
    return {
        key: float(value)
        for name in values
        for key, value in ((name, means[name]), (f"{name}_se", errors[name]))
    }


def means_by_group(values: pd.DataFrame, along: np.ndarray, n: int) -> pd.DataFrame:
    """Means of rows in groups of about equal size.

    Args:
        values: quantities, (rows, quantities).
        along: what the groups run along, (rows,).
        n: number of groups.

    Returns:
        a row per group: ``from`` and ``to`` (the range of ``along``), ``count``, and
        :func:`mean_and_error` of each quantity.
    """
    group = equal_frequency(along, n)
    bounds = pd.Series(along).groupby(group).agg(["min", "max", "size"])
    bounds.columns = pd.Index(["from", "to", "count"])
    means = [mean_and_error(values[group == each]) for each in bounds.index]
    return pd.concat([bounds, pd.DataFrame(means)], axis=1)


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
    for each in range(group.max() + 1):
        items, places = group == each, group_of_place == each
        targets = np.bincount(batch.row.numpy()[items[columns]], minlength=len(users))
        some = targets > 0
        row = {
            "from": popularity[items].min(),
            "to": popularity[items].max(),
            "items": items.sum(),
            "held_out": targets.sum() / len(columns),
            "recommended": places.mean(),
            "users": some.sum(),
        }
        metrics = per_user((ranking.hits & places)[some], targets[some], truncated)
        rows.append({**row, **mean_and_error(metrics)})
    return pd.DataFrame(rows)
