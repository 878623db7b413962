"""Metrics user by user: their standard error, and a file of them for paired comparisons."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from recbole_evcf.utils.files import atomic_write

__all__ = [
    "SE_SUFFIX",
    "per_user_values",
    "ranked_users",
    "standard_error",
    "standard_errors",
    "write_per_user",
]

SE_SUFFIX = "_se"


def per_user_values(metrics: Mapping[str, Any], topk: list[int]) -> dict[str, np.ndarray]:
    """Values of each ranking metric at each K, (users,).

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


def standard_errors(values: Mapping[str, np.ndarray], decimals: int) -> dict[str, float]:
    """Standard error of each mean over users: the sample deviation over the root of their number.

    A single user has none: it is NaN then.
    """
    return {
        f"{name}{SE_SUFFIX}": round(standard_error(value), decimals)
        for name, value in values.items()
    }


def standard_error(values: np.ndarray) -> float:
    """Of the mean of some values, NaN of fewer than two."""
    return float(np.std(values, ddof=1) / np.sqrt(len(values))) if len(values) > 1 else np.nan


def write_per_user(path: str, user_tokens: np.ndarray, values: Mapping[str, np.ndarray]) -> None:
    """Write a CSV file with a line per user, atomically.

    Args:
        path: the file.
        user_tokens: original user ids, (users,), in the order of the values.
        values: as of :func:`per_user_values`.
    """
    folder = os.path.dirname(path)
    if folder:
        os.makedirs(folder, exist_ok=True)
    table = pd.DataFrame({"user_id": np.asarray(user_tokens), **values})
    with atomic_write(path) as temporary:
        table.to_csv(temporary, index=False)
