"""Times in double precision for as long as a data set is split.

RecBole's tensors are single precision, in which Unix times in seconds stand at steps of 128. Models
see them as RecBole makes them: only the order and the boundaries of a split are exact.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np
import torch

__all__ = ["keeping_times_exact", "round_times"]


def keeping_times_exact(convert: Callable) -> Callable:
    """RecBole's ``Dataset._dataframe_to_interaction`` that leaves the interactions' times exact."""

    def _dataframe_to_interaction(self, data):
        feat = convert(self, data)
        field = self.time_field
        if data is self.inter_feat and field in data and feat[field].is_floating_point():
            times = data[field]
            # A numerical feature is a list in each row.
            times = times.tolist() if times.dtype == object else times
            feat[field] = torch.from_numpy(np.array(times, dtype=np.float64))
        return feat

    return _dataframe_to_interaction


def round_times(datasets: Iterable) -> None:
    """Give the times of split data sets the precision of RecBole's other numbers."""
    for dataset in datasets:
        feat = dataset.inter_feat
        for name in (dataset.time_field, f"{dataset.time_field}{dataset.config['LIST_SUFFIX']}"):
            if name in feat and feat[name].is_floating_point():
                feat[name] = feat[name].to(torch.float32)
