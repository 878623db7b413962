"""Buckets of about equal weight along a quantity, for curves with few points."""

from __future__ import annotations

import numpy as np

from recbole_evcf.evaluator.per_user import standard_error

__all__ = ["equal_frequency", "mean_and_error"]


def equal_frequency(values: np.ndarray, n: int, weights: np.ndarray | None = None) -> np.ndarray:
    """The bucket of each value, counted from 0 along the values.

    Equal values share a bucket, so that heavy ties leave fewer buckets, or uneven ones.

    Args:
        values: what the buckets run along, (values,).
        n: how many buckets are wished for.
        weights: what is to be shared out equally, (values,); by default each value counts once.
    """
    weights = np.ones(len(values)) if weights is None else weights
    unique, place = np.unique(values, return_inverse=True)
    weight = np.bincount(place, weights, minlength=len(unique))
    # A value belongs where the middle of its weight lies.
    middle = weight.cumsum() - weight / 2
    bucket = np.minimum(np.floor(n * middle / weight.sum()), n - 1)
    return np.unique(bucket[place], return_inverse=True)[1]


def mean_and_error(values: np.ndarray) -> tuple[float, float]:
    """Mean, and its standard error (NaN of fewer than two values)."""
    return float(np.mean(values)), standard_error(values)
