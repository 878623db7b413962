"""Paired tests on the metrics of the same users."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import stats

from recbole_evcf.evaluator.metrics import standard_error

__all__ = ["PairedTest", "compare_paired", "compare_with_baseline", "holm"]

CONFIDENCE = 0.95


@dataclass(frozen=True)
class PairedTest:
    """A model against a baseline on one metric.

    Attributes:
        label, baseline, metric: what is compared.
        n_users: number of pairs.
        difference: mean of the model's values less the baseline's.
        standard_error: of that mean.
        low, high: its 95% confidence interval, by Student's t, not corrected for their number.
        p_value: of the two-sided paired t-test.
        p_corrected: by Holm's method, for the number of comparisons made together.
    """

    label: str
    baseline: str
    metric: str
    n_users: int
    difference: float
    standard_error: float
    low: float
    high: float
    p_value: float
    p_corrected: float


def compare_with_baseline(
    per_user: Mapping[str, pd.DataFrame], baseline: str, metrics: Sequence[str]
) -> list[PairedTest]:
    """Every other model against the baseline, on every metric.

    Args:
        per_user: by label, the metrics (columns) of the test users (index).
        baseline: label of the model that the others are compared with.
        metrics: names of columns.

    Returns:
        metric by metric, model by model; a model that has no values of the very same users is
        left out.
    """
    base = per_user.get(baseline, pd.DataFrame())
    tests = [
        (label, metric, compare_paired(frame[metric], base[metric]))
        for metric in metrics
        for label, frame in per_user.items()
        if label != baseline and metric in frame and metric in base and _same_users(frame, base)
    ]
    corrected = holm(np.array([values[-1] for _, _, values in tests]))
    return [
        PairedTest(label, baseline, metric, len(base), *values, p_corrected=float(p))
        for (label, metric, values), p in zip(tests, corrected)
    ]


def compare_paired(values: pd.Series, base: pd.Series) -> tuple[float, float, float, float, float]:
    """The difference of two models on the same users; see :class:`PairedTest`.

    Args:
        values, base: a metric by user, of the same users in any order.

    Returns:
        difference, its standard error, low, high, p-value; all but the difference are NaN of one
        user, who has no spread.
    """
    differences = (values - base.reindex(values.index)).to_numpy()
    mean, error = float(differences.mean()), standard_error(differences)
    if math.isnan(error):
        return mean, math.nan, math.nan, math.nan, math.nan
    if error == 0:
        # Student's t is undefined: all users agree.
        return mean, 0.0, mean, mean, 1.0 if mean == 0 else 0.0
    test = stats.ttest_1samp(differences, 0.0)
    interval = test.confidence_interval(CONFIDENCE)
    return mean, error, float(interval.low), float(interval.high), float(test.pvalue)


def _same_users(frame: pd.DataFrame, base: pd.DataFrame) -> bool:
    return len(frame) == len(base) > 1 and frame.index.isin(base.index).all()


def holm(p_values: np.ndarray) -> np.ndarray:
    """Holm's step-down correction (1979): the chance of one false alarm among all stays bounded.

    Args:
        p_values: (tests,).

    Returns:
        corrected p-values, (tests,): with p sorted upwards, the greatest of min(1, (m - j) p_j)
        up to each place.
    """
    order = np.argsort(p_values, kind="stable")
    factors = np.arange(len(p_values), 0, -1)
    corrected = np.empty(len(p_values))
    corrected[order] = np.minimum(np.maximum.accumulate(p_values[order] * factors), 1)
    return corrected
